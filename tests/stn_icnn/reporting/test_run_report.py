"""What a run keeps, and its page, from faces drawn for it."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.label_sets import PAPER9
from stn_icnn.reporting.documents import PAGE
from stn_icnn.reporting.f1_report import f1_numbers
from stn_icnn.reporting.gallery import WRONG, Gallery, error_map
from stn_icnn.reporting.run_charts import F1_SCORES, binned_means, draw_curves
from stn_icnn.reporting.run_report import write_run_report
from stn_icnn.reporting.run_results import (
    DataSummary,
    RunResults,
    ScoringSummary,
    TrainingSummary,
)
from stn_icnn.reporting.small_faces import SmallFaces
from stn_icnn.scoring.examples import ScoredFace, pick_examples
from stn_icnn.scoring.f1 import confusion
from tests.pages import Page, assert_self_contained

KEYS = [f"face_{i}" for i in range(4)]
"""Face i has i tenths of its nose missed; of the last one, most of an eye as well."""
HISTORY = {
    "coarse": [{"epoch": 1, "train/loss": 0.5, "val/loss": 0.4, "val/f1_overall": 0.25}],
    "localizer": [{"epoch": 1, "train/loss": 0.02}, {"epoch": 2, "train/loss": 0.01}],
}


def faces() -> list[ScoredFace]:
    truth = np.zeros((60, 50), dtype=np.uint8)
    for i, class_id in enumerate(PAPER9.inner_classes):
        truth[5 + 6 * i : 9 + 6 * i, 5:45] = class_id
    made = []
    for i, key in enumerate(KEYS):
        predicted = truth.copy()
        predicted[:, 45 - 4 * i :][truth[:, 45 - 4 * i :] == PAPER9.class_id["nose"]] = 0
        if i == 3:
            predicted[:, 8:][truth[:, 8:] == PAPER9.class_id["left_eye"]] = 0
        photo = np.full((60, 50, 3), 50 * i, dtype=np.uint8)
        windows = np.tile(np.float32([25, 30, 20, 20]), (PAPER9.num_parts, 1))
        made.append(ScoredFace(key, photo, truth, predicted, windows))
    return made


def counts_of(scored: list[ScoredFace]) -> Tensor:
    maps = [[torch.from_numpy(labels) for labels in (f.truth, f.predicted)] for f in scored]
    return torch.stack([confusion(*pair, PAPER9.num_classes) for pair in maps])


@pytest.fixture
def results() -> RunResults:
    scored = faces()
    counts = {"STN-iCNN": counts_of(scored)}
    counts["coarse network"] = counts["STN-iCNN"].flip(0)
    small = SmallFaces(PAPER9, "STN-iCNN")
    for i, face in enumerate(scored):
        photo = torch.from_numpy(face.image).permute(2, 0, 1)
        small.add(i, photo, *map(torch.from_numpy, (face.truth, face.predicted)))
    training = TrainingSummary(
        kind="training",
        base="the preset helen",
        settings=asdict(TrainConfig()),
        changed={"optim.lr_fine": (0.5, 0.01)},
        history=HISTORY,
        minutes={"coarse": 1.25, "localizer": 0.5},
        machines={"coarse": ["a CPU, fp32"], "localizer": ["a CPU, fp32", "a GPU, bf16"]},
        num_images=8,
    )
    return RunResults(
        title="a run on the test split of helen",
        run_name="a-run",
        run_id="abc123",
        command="python jobs/e2e.py helen --optim.lr-fine 0.5 --run-name 'a <run>'",
        commit="0f614b2",
        data=DataSummary(
            name="helen",
            location="s3://faces/helen",
            fingerprint="f00",
            num_images={"train": 8, "val": 2, "test": 4},
            split="test",
        ),
        training=training,
        f1=f1_numbers(counts, "helen", PAPER9),
        keys=KEYS,
        counts=counts,
        faces=small.gather(len(KEYS), LocalContext()),
        label_set=PAPER9,
    )


def page_of(results: RunResults, folder: Path) -> str:
    scored = faces()
    picked = pick_examples(results.counts["STN-iCNN"], KEYS, PAPER9, num=1)
    examples = {kind: [scored[i] for i in of_kind] for kind, of_kind in picked.items()}
    write_run_report(folder, results, examples)
    return (folder / PAGE).read_text()


def test_a_new_user_finds_the_worst_class_and_face_at_once(
    results: RunResults, tmp_path: Path
) -> None:
    """The top of the page says it: eyes lose 37 of 320 columns, the nose as many tenths as faces
    have numbers: 24 of 160 in all."""
    text = Page(page_of(results, tmp_path)).text
    top = text[: text.index("F1 by class")]
    overall = results.f1["systems"]["STN-iCNN"]["overall"]
    low, high = results.f1["overall_interval"]["STN-iCNN"]
    assert f"Overall F1 {overall:.3f} {low:.3f} to {high:.3f}" in top
    assert "Weakest class nose F1 0.919" in top
    assert "Worst face face_3 F1 0.9" in top
    assert "its weakest class: eyes, 0.699" in top
    assert "STN-iCNN on 4 test images of helen" in top
    assert f"Compared with the paper {overall - 0.910:+.3f}" in top


def test_no_request_leaves_the_page_and_it_runs_no_script(
    results: RunResults, tmp_path: Path
) -> None:
    assert_self_contained(page_of(results, tmp_path))


def test_page_holds_what_was_run_and_on_what(results: RunResults, tmp_path: Path) -> None:
    text = Page(page_of(results, tmp_path)).text
    assert "python jobs/e2e.py helen --optim.lr-fine 0.5 --run-name 'a <run>'" in text
    assert "These differ from the preset helen: setting this run the preset helen" in text
    assert "optim.lr_fine 0.5 0.01" in text
    assert "model.window_px.brow 81" in text
    assert "location s3://faces/helen fingerprint f00 images 8 train, 2 val, 4 test" in text
    assert "coarse 1 1.2 a CPU, fp32 localizer 2 0.5 a CPU, fp32; a GPU, bf16 all 3 1.8 -" in text
    assert "STN-iCNN* (paper)" in text
    assert "Commit 0f614b2." in text


def test_minutes_of_some_phases_are_not_shown_as_those_of_all(
    results: RunResults, tmp_path: Path
) -> None:
    assert results.training is not None
    old = replace(results.training, minutes={"coarse": 1.25})
    text = Page(page_of(replace(results, training=old), tmp_path)).text
    assert "localizer 2 - a CPU, fp32; a GPU, bf16 all 3 - -" in text
    gone = replace(old, machines={**old.machines, "end_to_end": ["a GPU, bf16"]})
    text = Page(page_of(replace(results, training=gone), tmp_path)).text
    assert "all - - -" in text
    assert gone.all_machines == ["a CPU, fp32", "a GPU, bf16"]


def test_gallery_shows_each_example_four_times(results: RunResults, tmp_path: Path) -> None:
    page = Page(page_of(results, tmp_path))
    assert "The worst faces face_3 : F1" in page.text
    assert "The best faces face_0 : F1 1.000" in page.text
    pictures = [v for tag, name, v in page.attributes if (tag, name) == ("img", "alt")]
    kinds = ("photograph and windows", "truth", "labels of the model", "wrong pixels")
    assert pictures[1:5] == [f"face_3: {kind}" for kind in kinds]  # after the one at the top
    assert len(pictures) == 1 + 4 * 4


def test_a_class_that_a_face_lacks_is_not_its_weakest(results: RunResults) -> None:
    counts = results.counts["STN-iCNN"].clone()
    nose = PAPER9.class_id["nose"]
    counts[2, nose], counts[2, 0, nose] = 0, 4  # found, where there is none
    changed = replace(results, counts={**results.counts, "STN-iCNN": counts})
    (shown,) = Gallery.of(changed, {"worst": [faces()[2]]}).faces["worst"]
    assert "nose" not in shown.weakest


def test_a_run_that_trained_nothing_has_no_curves_and_settings(
    results: RunResults, tmp_path: Path
) -> None:
    alone = replace(results, training=None, data=replace(results.data, name="procedural"))
    alone = replace(alone, f1=f1_numbers(results.counts, "procedural", PAPER9))
    text = Page(page_of(alone, tmp_path)).text
    assert "procedural is not in the paper" in text
    assert "Settings" not in text
    assert "Curves" not in text
    assert "minutes" not in text


def test_a_page_says_how_long_its_faces_were_scored_and_on_what(
    results: RunResults, tmp_path: Path
) -> None:
    scoring = ScoringSummary(machine="a CPU, 2 threads, fp32", minutes=0.72)
    alone = replace(results, training=None, scoring=scoring)
    text = Page(page_of(alone, tmp_path)).text
    assert "scored in 0.7 minutes on a CPU, 2 threads, fp32" in text
    alone.write(tmp_path)
    assert RunResults.read(tmp_path).scoring == scoring


def test_results_of_a_version_that_measured_no_scoring_are_read(
    results: RunResults, tmp_path: Path
) -> None:
    results.write(tmp_path)
    content = json.loads((tmp_path / "results.json").read_text())
    del content["scoring"]
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert RunResults.read(tmp_path).scoring is None


def test_pixels_of_classes_that_the_model_lacks_are_background_in_the_confusion(
    results: RunResults, tmp_path: Path
) -> None:
    counts = results.counts["STN-iCNN"].clone()
    counts[:, PAPER9.class_id["hair"], 0] = 10**6
    changed = replace(results, counts={"STN-iCNN": counts})
    text = Page(page_of(changed, tmp_path)).text
    table = text[text.index("What is taken for what") : text.index("F1 by the size")]
    assert "hair" not in table
    assert re.search(r"nose 15\.0 (· )+85\.0", table)


def test_results_are_read_as_they_were_written(results: RunResults, tmp_path: Path) -> None:
    results.write(tmp_path)
    read = RunResults.read(tmp_path)
    assert list(read.counts) == list(results.counts)
    for system, counts in results.counts.items():
        assert torch.equal(read.counts[system], counts)
    assert read.faces == results.faces
    assert read.keys == results.keys
    assert read.data == results.data
    assert read.f1 == results.f1
    assert read.training is not None
    assert read.training.history == HISTORY
    assert (read.command, read.run_id, read.model) == (results.command, "abc123", "STN-iCNN")


def test_numbers_that_json_lacks_are_null(results: RunResults, tmp_path: Path) -> None:
    assert results.training is not None
    history = {"coarse": [{"epoch": 1, "train/loss": 0.5, "val/loss": float("nan")}]}
    changed = replace(results, training=replace(results.training, history=history))
    changed.write(tmp_path)
    content = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert content["training"]["history"]["coarse"][0]["val/loss"] is None


def test_results_of_other_classes_or_versions_are_refused(
    results: RunResults, tmp_path: Path
) -> None:
    results.write(tmp_path)
    text = (tmp_path / "results.json").read_text()
    (tmp_path / "results.json").write_text(text.replace('"hair"', '"beard"'))
    with pytest.raises(ValueError, match=r"classes must be background, .*, got .*bea"):
        RunResults.read(tmp_path)
    (tmp_path / "results.json").write_text(
        text.replace('"format_version": 1', '"format_version": 2')
    )
    with pytest.raises(ValueError, match="format_version must be 1, got 2"):
        RunResults.read(tmp_path)


def test_phases_follow_one_another_on_the_epochs_axis() -> None:
    (axes,) = draw_curves("loss", {"train/loss": "training"}, HISTORY).axes
    lines = [list(line.get_xdata()) for line in axes.get_lines() if line.get_marker() == "o"]
    assert lines == [[1], [2, 3]]
    assert [text.get_text() for text in axes.texts] == ["coarse", "localizer"]


def test_the_faces_that_a_finder_finds_have_a_curve_where_there_is_one() -> None:
    def legend(history) -> list[str]:
        (axes,) = draw_curves("F1", F1_SCORES, history).axes
        return axes.get_legend_handles_labels()[1]

    assert legend(HISTORY) == ["overall"]
    finder = [{"epoch": 1, "train/loss": 2.0, "val/faces_f1": 0.75}]
    assert legend({**HISTORY, "finder": finder}) == ["overall", "faces found in scenes"]


def test_bins_hold_equally_many_parts() -> None:
    x = torch.arange(10, dtype=torch.float64).flip(0)
    assert np.allclose(binned_means(x, x / 10), [(2, 0.2), (7, 0.7)])
    assert np.allclose(binned_means(x[:3], x[:3]), [(8, 8)])
    assert binned_means(x[:0], x[:0]) == []


def test_wrong_pixels_are_red_and_others_grey() -> None:
    image = np.full((2, 2, 3), (200, 100, 0), dtype=np.uint8)
    truth = np.zeros((2, 2), dtype=np.uint8)
    predicted = np.array([[0, 4], [0, 0]], dtype=np.uint8)
    out = error_map(image, truth, predicted)
    assert tuple(out[0, 1]) == WRONG
    assert len({tuple(pixel) for pixel in out[[0, 1, 1], [0, 0, 1]]}) == 1
    assert len(set(out[0, 0].tolist())) == 1


def test_a_chart_or_face_that_cannot_be_drawn_is_named_on_the_page(
    results: RunResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And all else is there."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    whole = page_of(results, tmp_path)
    worst = next(key for key in KEYS if f"{key}" in whole)
    monkeypatch.setattr("stn_icnn.reporting.run_report.draw_f1_by_size", broken)
    monkeypatch.setattr("stn_icnn.reporting.gallery.error_map", broken)
    page = page_of(results, tmp_path)
    reason = "could not be drawn: ZeroDivisionError: division by zero"
    assert f"The chart <i>F1 against the size of a part</i> {reason}" in page
    assert f"Face {worst} {reason}" in page
    assert 'aria-label="F1 by class"' in page
