"""Runs compared on drawn faces: the answer, the classes, the faces, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from stn_icnn.label_sets import PAPER9
from stn_icnn.reporting.comparison import (
    ComparedRun,
    Comparison,
    compare_runs,
    differing_settings_table,
)
from stn_icnn.reporting.comparison_report import (
    RUN_COLOURS,
    draw_compared_curves,
    draw_differences,
    write_comparison_report,
)
from stn_icnn.reporting.run_results import RunResults
from stn_icnn.scoring.f1 import bootstrap_f1, percentile_interval
from tests.pages import Page, assert_self_contained
from tests.scored_runs import HISTORY, SETTINGS, scored_run, varied

MISSED = varied(30, 2, 12)
"""Columns of the nose that the first run misses, by face."""


def compared(results: RunResults) -> ComparedRun:
    return ComparedRun.of_results(results, f"{results.run_name}-of-32-digits")


def compare(*results: RunResults) -> list[Comparison]:
    return compare_runs([compared(one) for one in results])


def without_results(results: RunResults) -> ComparedRun:
    """A run of before results were kept."""
    return replace(compared(results), results=None)


@pytest.fixture(scope="module")
def first() -> RunResults:
    return scored_run("A", MISSED)


@pytest.fixture(scope="module")
def better(first: RunResults) -> RunResults:
    """Finds two more columns of each nose, and one more of the lip is lost."""
    settings = SETTINGS | {"optim": {"lr_fine": 0.02, "betas": [0.9, 0.99]}}
    return scored_run("B", [n - 2 for n in MISSED], lip_missed=1, settings=settings)


def page_of(folder: Path, comparisons: list[Comparison]) -> str:
    write_comparison_report(folder / "page.html", comparisons)
    return (folder / "page.html").read_text()


def test_the_answer_has_the_paired_difference_and_its_interval(
    first: RunResults, better: RunResults
) -> None:
    (comparison,) = compare(first, better)
    f1 = [bootstrap_f1(one.counts["STN-iCNN"], PAPER9) for one in (first, better)]
    low, high = percentile_interval(f1[1] - f1[0]).tolist()
    overall = [one.f1["systems"]["STN-iCNN"]["overall"] for one in (first, better)]
    assert low > 0
    assert comparison.answer == (
        f"B is better than A: overall F1 {overall[1] - overall[0]:+.4f} "
        f"(95 % {low:+.4f} to {high:+.4f}) on the same 30 faces."
    )
    (back,) = compare(better, first)
    assert back.answer.startswith(f"A is worse than B: overall F1 {overall[0] - overall[1]:+.4f} ")


def test_a_difference_that_other_faces_would_turn_may_be_chance(first: RunResults) -> None:
    mixed = [n + (2 if i % 2 else -2) for i, n in enumerate(MISSED)]
    (comparison,) = compare(first, scored_run("mixed", mixed))
    assert comparison.answer.startswith("mixed and A can't be told apart: overall F1 ")
    assert comparison.answer.endswith("on the same 30 faces may be chance.")
    (same,) = compare(first, scored_run("same", MISSED))
    assert same.answer == (
        "same labels all 30 faces as A does, as the same settings, data and code would."
    )


def test_classes_that_gain_and_lose_are_told_apart(first: RunResults, better: RunResults) -> None:
    (comparison,) = compare(first, better)
    rows = {row[0]: row for row in comparison.table.cells}
    assert rows["nose"][-1] == "better"
    assert rows["upper lip"][1:4] == ["1.000", "0.974", "-0.0256"]
    assert rows["upper lip"][-2:] == ["-0.0256 to -0.0256", "worse"]
    assert rows["mean"][-2:] == ["-", "-"]
    assert "eyes" not in rows, "no face has eyes"
    assert comparison.by_class == "B is better in nose and worse in upper lip, mouth."
    (same,) = compare(first, scored_run("same", MISSED))
    assert same.by_class == "same differs in no class by more than chance may explain."
    assert comparison.table.text.splitlines()[0].split() == [
        "A",
        "B",
        "difference",
        "95",
        "%",
    ]


def test_faces_are_matched_by_key(first: RunResults, better: RunResults) -> None:
    """Another order of the shards changes nothing."""
    keys = [f"face_{i}" for i in reversed(range(30))]
    turned = scored_run("B", [n - 2 for n in MISSED[::-1]], lip_missed=1, keys=keys)
    assert compare(first, turned)[0].answer == compare(first, better)[0].answer


def test_other_images_are_refused(first: RunResults) -> None:
    keys = ["another", *(f"face_{i}" for i in range(2, 30))]
    message = (
        r"B can't be compared with A: the test sets differ: it must be scored on the same 30 "
        r"images of helen, got 29 of helen: 2 are missing \(face_0, face_1\), 1 are others "
        r"\(another\); score both models on the same shards: python jobs/evaluate.py"
    )
    with pytest.raises(ValueError, match=message):
        compare(first, scored_run("B", MISSED[1:], keys=keys))


def test_another_truth_of_the_same_images_is_refused(first: RunResults) -> None:
    message = (
        r"B can't be compared with A: the truth of 1 of 30 images differs: face_0 must have 200 px "
        r"of nose, got 190; score both"
    )
    with pytest.raises(ValueError, match=message):
        compare(first, scored_run("B", MISSED, nose_width=19))


def test_another_split_is_refused(first: RunResults) -> None:
    other = scored_run("B", MISSED)
    other = replace(other, data=replace(other.data, split="val"))
    with pytest.raises(ValueError, match="must be scored on test of the shards f00, got val of"):
        compare(first, other)


@pytest.mark.parametrize("names", [["A"], ["A", "A"]])
def test_two_different_runs_are_needed(names: list[str]) -> None:
    with pytest.raises(ValueError, match="runs must be two or more different ones, got A"):
        compare(*(scored_run(name, [1, 2]) for name in names))


def test_runs_of_one_name_are_told_apart_by_their_ids(first: RunResults) -> None:
    runs = [replace(compared(first), run_id=run_id) for run_id in ("0123456789", "abcdefghij")]
    (comparison,) = compare_runs(runs)
    assert comparison.answer.startswith("A (abcdefgh) labels all 30 faces as A (01234567) does")


def test_a_run_without_counts_is_compared_without_pairs(
    first: RunResults, better: RunResults, tmp_path: Path
) -> None:
    comparisons = compare_runs([without_results(first), compared(better)])
    answer = comparisons[0].answer
    overall = [one.f1["systems"]["STN-iCNN"]["overall"] for one in (first, better)]
    assert answer.startswith(f"B has overall F1 {overall[1]:.4f}, A {overall[0]:.4f}: +0.0")
    assert answer.endswith(
        "Whether this is chance can't be told: A has kept no counts of the faces."
    )
    assert comparisons[0].table.heading == ["", "A", "B", "difference"]
    html = page_of(tmp_path, comparisons)
    assert_self_contained(html)
    text = Page(html).text
    assert answer in text
    assert (
        "There are no pairs, and so no intervals: runs of earlier versions, sweeps, and the "
        "paper's experiments keep no counts of each image." in text
    )
    assert "faces can't be compared" in text
    assert "optim.lr_fine 0.01 0.02" in text


def test_without_counts_other_shards_are_refused(first: RunResults) -> None:
    old = replace(without_results(first), name="old", run_id="old", fingerprint="f99")
    with pytest.raises(ValueError, match="old can't be compared with A: it must be scored on test"):
        compare_runs([compared(first), old])


def test_without_counts_unknown_shards_are_refused(first: RunResults) -> None:
    old = replace(without_results(first), name="old", run_id="old", fingerprint=None)
    older = replace(old, name="older", run_id="older")
    with pytest.raises(ValueError, match="on test of unknown shards, got test of unknown shards"):
        compare_runs([old, older])


def test_the_page_says_first_which_is_better_and_needs_nothing_but_itself(
    first: RunResults, better: RunResults, tmp_path: Path
) -> None:
    comparisons = compare(first, better)
    html = page_of(tmp_path, comparisons)
    assert_self_contained(html)
    text = Page(html).text
    top = text[: text.index("F1 by class")]
    assert comparisons[0].answer in top
    assert str(comparisons[0].by_class) in top
    assert "Settings that differ: optim.lr_fine 0.01, 0.02." in top
    assert "B is better on 100 % of the faces on which it differs from A." in text
    assert "python jobs/e2e.py helen --run-name B" in text
    assert "No face lost." in text


def test_faces_that_changed_most_are_shown_side_by_side(first: RunResults, tmp_path: Path) -> None:
    missed = list(MISSED)
    missed[7], missed[3] = MISSED[7] + 6, 0
    html = page_of(tmp_path, compare(first, scored_run("B", missed)))
    page = Page(html)
    gained = page.text.index("B gained most face_3 : F1 +0.")
    assert gained < page.text.index("B lost most face_7 : F1 -0.")
    assert page.text.count(", changed most in nose ") == 2
    shown = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert shown[:2] == ["face_3: photograph", "face_3: truth"]
    assert shown[3:5] == ["face_3: B: 1.000", "face_3: what changed"]
    assert [alt.split(":")[0] for alt in shown] == ["face_3"] * 5 + ["face_7"] * 5


def test_settings_that_differ_have_a_column_for_each_run(
    first: RunResults, better: RunResults
) -> None:
    untrained = scored_run("C", MISSED, settings=None)
    runs = [compared(one) for one in (first, better, untrained)]
    table = differing_settings_table(runs)
    assert table.heading == ["setting", "A", "B", "C"]
    assert table.cells == [["optim.lr_fine", "0.01", "0.02", "-"]]


def test_each_run_is_compared_with_the_first(
    first: RunResults, better: RunResults, tmp_path: Path
) -> None:
    comparisons = compare(first, better, scored_run("C", [n + 3 for n in MISSED]))
    assert [one.answer[:18] for one in comparisons] == ["B is better than A", "C is worse than A:"]
    (axes,) = draw_differences("differences", comparisons).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "overall",
        "nose",
        "upper lip",
        "mouth",
    ]
    text = Page(page_of(tmp_path, comparisons)).text
    for words in ("B and C compared with A", "C lost most", "B gained most"):
        assert words in text


def test_curves_of_runs_lie_over_one_another(first: RunResults, better: RunResults) -> None:
    longer = replace(compared(better), history={"coarse": [*HISTORY["coarse"], {"epoch": 4}]})
    figure = draw_compared_curves("loss", "val/loss", "coarse", [compared(first), longer])
    assert figure is not None
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["A", "B"]
    assert [list(line.get_xdata()) for line in lines] == [[1, 2, 3]] * 2
    assert [line.get_color() for line in lines] == list(RUN_COLOURS[:2])
    assert draw_compared_curves("F1", "val/f1_overall", "end_to_end", [longer]) is None


def test_minutes_of_some_phases_are_not_shown_as_those_of_all(
    first: RunResults, better: RunResults, tmp_path: Path
) -> None:
    assert first.training is not None
    machines = {**first.training.machines, "end_to_end": ["a CPU, fp32", "a GPU"]}
    old = replace(first, training=replace(first.training, machines=machines))
    text = Page(page_of(tmp_path, compare(old, better))).text
    assert "minutes of training - 1.2 on a CPU, fp32; a GPU a CPU, fp32" in text
