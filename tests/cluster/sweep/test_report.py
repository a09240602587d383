"""The report of a sweep from trials made up for it."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from PIL import Image

from cluster.sweep.charts import setting_chart
from cluster.sweep.report import SweepReport, write_sweep_report
from cluster.sweep.sweep_record import State, Trial
from stn_icnn.reporting.documents import PAGE, Origin
from stn_icnn.reporting.run_results import ComparedSettings
from stn_icnn.training.phases import F1_OF_PARTS, LOSS, SelectionMetric
from tests.pages import Page, assert_self_contained

SIZE = IntDistribution(33, 49, step=16)
RATE = FloatDistribution(1e-4, 1e-1, log=True)
SCHEDULE = CategoricalDistribution(("halving", "one_cycle"))
SPACE = {"model.patch_px.eye": SIZE, "optim.lr_fine": RATE, "optim.schedule": SCHEDULE}


def trial(
    combination: int,
    state: State,
    *curve: float,
    repeat: int = 0,
    size: int = 33,
    error: str | None = None,
) -> Trial:
    values = {"model.patch_px.eye": size, "optim.lr_fine": 0.01, "optim.schedule": "halving"}
    scores = dict(enumerate(curve, start=1))
    suffix = f"-seed-{repeat}" if repeat else ""
    name = f"trial-{combination:04d}{suffix}"
    return Trial(name, combination, repeat, repeat, values, state, scores, error)


TRIALS = [
    trial(0, "finished", 0.5, 0.8, 0.7),
    trial(0, "finished", 0.5, 0.6, 0.6, repeat=1),
    trial(1, "finished", 0.4, 0.6, 0.75, size=49),
    trial(1, "finished", 0.4, 0.6, 0.72, repeat=1, size=49),
    trial(2, "pruned", 0.3),
    trial(3, "finished", 0.5, 0.8, 0.9),
    trial(3, "failed", repeat=1, error="it | died"),
    trial(4, "diverged", 0.2, error="the loss is nan"),
]


def report_of(trials: list[Trial] = TRIALS, metric: SelectionMetric = F1_OF_PARTS) -> SweepReport:
    return SweepReport("mine", metric, SPACE, trials, num_epochs=3, seeds=2)


def test_combinations_are_ranked_by_the_mean_of_their_repeats() -> None:
    ranked = report_of().ranked
    assert [s.values["model.patch_px.eye"] for s in ranked] == [49, 33, 33]
    assert ranked[0].metric.mean == pytest.approx((0.75 + 0.72) / 2)
    assert ranked[1].metric.mean == pytest.approx((0.8 + 0.6) / 2)  # each one's best epoch
    assert ranked[2].metric.num == 1  # better, but a repeat of it failed


def test_less_loss_is_better() -> None:
    scores = [trial(0, "finished", -0.5), trial(1, "finished", -0.2, size=49)]
    best = report_of(scores, LOSS).best
    assert best is not None
    assert (best.values["model.patch_px.eye"], best.metric.mean) == (49, 0.2)


def test_what_stopping_has_saved_is_counted_in_epochs_of_those_that_could_end() -> None:
    assert report_of().epochs == {"trained": 10, "to_the_end": 12, "saved": pytest.approx(2 / 12)}
    assert report_of().states == {"finished": 5, "pruned": 1, "failed": 1, "diverged": 1}
    assert report_of([trial(0, "failed")]).epochs["saved"] == 0
    assert report_of([trial(0, "failed")]).best is None


def test_minutes_and_machines_are_those_of_all_trials() -> None:
    fine = {"seconds": {"fine": 90.0}, "computed_on": "a CPU"}
    both = {"seconds": {"localizer": 30.0, "end_to_end": 60.0}, "computed_on": "a GPU"}
    trials = [replace(trial(0, "finished", 0.5), **fine), replace(trial(1, "pruned", 0.1), **both)]
    report = report_of([*trials, replace(trials[0], name="again"), trial(2, "failed")])
    assert (report.minutes, report.machines) == (4.5, ["a CPU", "a GPU"])
    assert report_of([*trials, trial(3, "finished", 0.5)]).minutes is None, "of an earlier version"


def test_files_hold_every_trial_and_a_chart_a_setting(tmp_path: Path) -> None:
    write_sweep_report(tmp_path, report_of())
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(TRIALS)
    assert [row["state"] for row in rows] == ["finished"] * 5 + ["pruned", "diverged", "failed"]
    assert (rows[0]["trial"], float(rows[0]["val/f1_parts"])) == ("trial-0003", 0.9)
    assert rows[-1]["error"] == "it | died"
    text = (tmp_path / "sweep.md").read_text()
    assert "10 of the 12 epochs" in text
    assert "17% saved. Repeats with other seeds, and trials that failed" in text
    assert "Best combination (trial-0001): 0.735 ± 0.021" in text
    assert "it / died" in text
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == ["curves.png", *(f"field_{name}.png" for name in SPACE)]
    for picture in pictures:
        assert f"({picture})" in text
        with Image.open(tmp_path / picture) as image:
            assert min(image.size) > 400


def test_the_page_ends_with_the_settings_that_differ_and_the_command(tmp_path: Path) -> None:
    compared = ComparedSettings("the preset demo", {"seed": (3, 0)}, {"seed": 3, "precision": "x"})
    origin = Origin("python jobs/tune.py demo --seed 3", "0f614b2", "abc123")
    write_sweep_report(tmp_path, report_of(), [compared, origin])
    page = (tmp_path / PAGE).read_text()
    assert_self_contained(page)
    text = Page(page).text
    assert "setting this run the preset demo seed 3 0" in text
    assert "All settings precision x seed 3" in text
    assert text.endswith("python jobs/tune.py demo --seed 3 Commit 0f614b2. Run abc123 in MLflow.")
    markdown = (tmp_path / "sweep.md").read_text()
    assert "| seed | 3 | 0 |" in markdown
    assert markdown.endswith("\n    python jobs/tune.py demo --seed 3\n")


def test_a_value_s_bar_is_mean_and_deviation_of_all_its_trials() -> None:
    """After one epoch, as the one that was stopped had no more; without repeats, of which it had
    none: over those that came to their end, its size would look the better one."""
    (axes,) = setting_chart("model.patch_px.eye", SIZE, F1_OF_PARTS, TRIALS).axes
    (bars,) = axes.containers
    line = bars.lines[0]
    assert list(line.get_xdata()) == [33, 49]
    assert list(line.get_ydata()) == pytest.approx([(0.5 + 0.3 + 0.5) / 3, 0.4])
    low, high = bars.lines[2][0].get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * 0.1155, abs=1e-4)
    assert bars.get_label() == "mean, sd of all up to epoch 1"
    stopped, finished = axes.get_lines()[:2]
    assert (list(stopped.get_ydata()), max(finished.get_ydata())) == ([0.3], 0.9)


def test_where_none_was_stopped_bars_are_of_all_trials_at_their_best() -> None:
    finished = [trial for trial in TRIALS if trial.state == "finished"]
    (axes,) = setting_chart("model.patch_px.eye", SIZE, F1_OF_PARTS, finished).axes
    (bars,) = axes.containers
    assert list(bars.lines[0].get_ydata()) == pytest.approx([(0.8 + 0.6 + 0.9) / 3, 0.735])


def test_many_sizes_are_shown_in_groups() -> None:
    sizes = IntDistribution(33, 129, step=2)
    trials = [trial(i, "finished", i / 10, size=33 + 8 * i) for i in range(7)]
    chart = setting_chart("model.patch_px.eye", sizes, F1_OF_PARTS, trials)
    (bars,) = chart.axes[0].containers
    assert list(bars.lines[0].get_ydata()) == pytest.approx([0.15, 0.5])


def test_a_chart_of_nothing_is_a_chart() -> None:
    for name, space in SPACE.items():
        setting_chart(name, space, F1_OF_PARTS, [trial(0, "failed")])


def test_over_a_range_bars_are_of_groups_of_equally_many() -> None:
    trials = [
        replace(trial(i, "finished", i / 10), values={"optim.lr_fine": 10.0**-i}) for i in range(7)
    ]
    (bars,) = setting_chart("optim.lr_fine", RATE, F1_OF_PARTS, trials).axes[0].containers
    assert list(bars.lines[0].get_ydata()) == pytest.approx([0.45, 0.1])
    few = setting_chart("optim.lr_fine", RATE, F1_OF_PARTS, trials[:5])
    assert not few.axes[0].containers
