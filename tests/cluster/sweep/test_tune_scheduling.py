"""Which trial is next, and which goes on: across drivers, without Ray's cluster."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from ray.tune.search import Searcher

from cluster.sweep.config import SweepConfig, SweepJobConfig
from cluster.sweep.spaces import Values
from cluster.sweep.sweep_record import SweepRecord, Trial
from cluster.sweep.trial_progress import TrialProgress
from cluster.sweep.trial_training import TrialPlan, TrialReport
from cluster.sweep.tune_callback import SweepCallback
from cluster.sweep.tune_run import Sweep, _describe
from cluster.sweep.tune_scheduling import Pruner, SweepSearch
from cluster.training.base_settings import BaseSettings
from stn_icnn.config import TrainConfig
from stn_icnn.storage import Folder

BASE = BaseSettings.of_preset("demo")
CONTENT: dict[str, Any] = {"config": {"optim": {"lr_fine": 0.01}}, "seeds": 1}
SPACE = {"optim.lr_fine": FloatDistribution(1e-4, 0.1, log=True)}


def propose(number: int, trials: Sequence[Trial]) -> Values:
    return {"optim.lr_fine": float(number)}


def search_of(
    record: SweepRecord,
    num_combinations: int,
    seeds: int = 1,
    on_start: Callable[[Trial], None] = lambda trial: None,
) -> SweepSearch:
    return SweepSearch(
        record,
        propose,
        num_combinations=num_combinations,
        seeds=seeds,
        first_seed=7,
        on_start=on_start,
    )


def names(record: SweepRecord) -> list[str]:
    return [trial.name for trial in record.trials]


def test_a_trial_is_on_disk_before_tune_hears_of_it(tmp_path: Path) -> None:
    record = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE)
    found = search_of(record, 2).suggest("x")
    assert found == {"trial": "trial-0000", "values": {"optim.lr_fine": 0.0}, "seed": 7}
    assert names(SweepRecord.open(Folder(tmp_path), CONTENT, SPACE)) == ["trial-0000"]


def test_another_driver_goes_on_with_what_was_left_and_adds_only_what_is_missing(
    tmp_path: Path,
) -> None:
    record = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE)
    search = search_of(record, 5)
    for _ in range(4):
        search.suggest("x")
    for trial, state in zip(
        record.trials, ("finished", "pruned", "failed", "running"), strict=True
    ):
        trial.state, trial.curve = state, {1: 0.5}
        record.save(trial)
    again = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE)
    second = search_of(again, 5)
    handed = [second.suggest("x") for _ in range(4)]
    assert [h["trial"] for h in handed[:3]] == ["trial-0002", "trial-0003", "trial-0004"]
    assert handed[3] == Searcher.FINISHED
    assert again.named("trial-0002").state == "running"
    assert again.named("trial-0003").curve == {1: 0.5}
    assert sorted(names(SweepRecord.open(Folder(tmp_path), CONTENT, SPACE))) == [
        f"trial-{i:04d}" for i in range(5)
    ]


def test_a_trial_that_may_not_start_makes_way_for_the_next_one(tmp_path: Path) -> None:
    def forbid_the_second(trial: Trial) -> None:
        if trial.combination == 1:
            trial.state = "failed"

    record = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE)
    search = search_of(record, 3, on_start=forbid_the_second)
    assert [search.suggest("x")["trial"] for _ in range(2)] == ["trial-0000", "trial-0002"]
    assert search.suggest("x") == Searcher.FINISHED


def callback_of(record: SweepRecord, run: "NotTracked", folder: Path) -> SweepCallback:
    """The callback of a sweep of three trials of the fine networks, on 8 images of helen."""
    data = SimpleNamespace(name="helen", manifest=SimpleNamespace(num_samples={"train": 8}))
    plan = TrialPlan(TrainConfig(), ("fine",), data, None, Folder(folder), None)
    progress = TrialProgress(record.trials, plan.epochs, 3, seeds=1, concurrent=1)
    return SweepCallback(record, plan, run, progress)


class NotTracked:
    """A run in MLflow, its children too."""

    run_id, name = "r", "mine"

    def __init__(self) -> None:
        self.tracker, self.params, self.tags, self.metrics = self, {}, {}, {}
        self.former_names: list[str] = []

    def start_or_resume_run(
        self, name: str, parent: str, tags: Any, params: Any, former_name: str
    ) -> "NotTracked":
        self.params[name] = params
        self.former_names.append(former_name)
        return self

    def set_tags(self, tags: Any) -> None:
        self.tags |= tags

    def log_metrics(self, metrics: Any, step: int) -> None:
        self.metrics[step] = self.metrics.get(step, {}) | metrics

    def finish(self, status: str) -> None:
        self.tags["status"] = status


def test_settings_that_can_not_be_are_a_failed_trial_also_for_the_next_driver(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = Trial("trial-0000", 0, 0, 0, {"model.patch_px.eye": 34})
    record, run = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE), NotTracked()
    record.add(trial)
    callback_of(record, run, tmp_path).start(trial)
    (kept,) = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE).trials
    assert (kept.state, kept.tracked) == ("failed", True)
    assert "model.patch_px.eye must be odd" in str(kept.error)
    of_data = {"data": "helen", "train_images": 8}
    assert run.params == {"mine/trial-0000": trial.values | of_data}
    assert run.former_names == ["trial-0000"]
    assert (run.tags["status"], run.tags["trial_state"]) == ("FAILED", "failed")
    assert "trial-0000: failed after 0 epochs: model.patch_px.eye" in capsys.readouterr().out


def test_combinations_that_came_to_their_end_are_repeated_with_other_seeds(tmp_path: Path) -> None:
    record = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE)
    search = search_of(record, 2, seeds=3)
    search.suggest("x"), search.suggest("x")
    assert search.suggest("x") is None  # that depends on the two
    first, second = record.trials
    first.state = "pruned"
    assert search.suggest("x") is None
    second.state = "finished"
    repeats = [search.suggest("x"), search.suggest("x")]
    assert [r["trial"] for r in repeats] == ["trial-0001-seed-1", "trial-0001-seed-2"]
    assert [r["seed"] for r in repeats] == [8, 9]
    assert {r["values"]["optim.lr_fine"] for r in repeats} == {1.0}
    for trial in record.trials[2:]:
        trial.state = "finished"
    assert search.suggest("x") == Searcher.FINISHED


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    SweepRecord.open(Folder(tmp_path), CONTENT, SPACE)
    other = {"config": {"optim": {"lr_fine": 0.5}}, "seeds": 1}
    with pytest.raises(ValueError, match=r"config\.optim\.lr_fine: 0\.5, was 0\.01"):
        SweepRecord.open(Folder(tmp_path), other, SPACE)


def test_what_failed_is_not_counted_as_done_before_it_is_tried_again(tmp_path: Path) -> None:
    record = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE)
    for number, state in enumerate(("finished", "failed", "running")):
        record.add(replace(done(number, 0.5), state=state))
    plan = TrialPlan(TrainConfig(), ("fine",), None, None, Folder(tmp_path), None)
    assert "1 trials are done" in _describe(Sweep(SweepJobConfig(), 3, plan, record, None, BASE), 1)


def told(name: str, epoch: int, score: float) -> tuple[Any, dict[str, float]]:
    return SimpleNamespace(trial_id=name, config={"trial": name}), {"epoch": epoch, "score": score}


def pruner(trials: Sequence[Trial]) -> Pruner:
    return Pruner(SweepConfig(reduction_factor=2), num_epochs=4, trials=trials)


def decision(asha: Pruner, name: str, epoch: int, score: float) -> str:
    trial, result = told(name, epoch, score)
    asha.on_trial_add(None, trial)
    return asha.on_trial_result(None, trial, result)


def done(number: int, score: float, epochs: int = 4) -> Trial:
    curve = dict.fromkeys(range(1, epochs + 1), score)
    state = "finished" if epochs == 4 else "pruned"
    return Trial(f"trial-{number:04d}", number, 0, 0, {}, state, curve)


def test_the_worse_half_is_stopped_also_after_another_driver() -> None:
    earlier = [done(0, 0.5), done(1, 0.9), done(2, 0.2, epochs=1)]
    fresh = pruner([])
    for trial in earlier:
        decision(fresh, trial.name, 1, trial.curve[1])
    for asha in (fresh, pruner(earlier)):
        assert decision(asha, "trial-0003", 1, 0.3) == "STOP"
        assert decision(asha, "trial-0004", 1, 0.8) == "CONTINUE"
    assert decision(pruner(earlier), "trial-0005", 2, 0.6) == "STOP"  # of 0.5 and 0.9 at epoch 2
    assert decision(pruner([]), "trial-0003", 1, 0.3) == "CONTINUE"  # nothing to compare with


def test_what_has_been_judged_is_not_judged_again_by_what_came_since() -> None:
    """A trial that was the first at its epoch, as one that failed after it or is at its end."""
    left = [replace(done(0, 0.3, epochs=2), state="running"), done(1, 0.9), done(2, 0.8)]
    for state in ("running", "failed"):
        asha = pruner([replace(left[0], state=state), *left[1:]])
        assert decision(asha, "trial-0000", 1, 0.3) == "CONTINUE"
        assert decision(asha, "trial-0000", 2, 0.3) == "CONTINUE"
        assert decision(asha, "trial-0000", 4, 0.3) == "STOP"  # not judged before
    assert decision(pruner(left), "trial-0003", 1, 0.82) == "CONTINUE"  # it is one of three to beat


def test_a_trial_that_diverged_is_no_measure_for_the_others() -> None:
    """Three that did would let any other go on."""
    asha = pruner([])
    for number in range(3):
        assert decision(asha, f"trial-{number:04d}", 1, -math.inf) == "CONTINUE"
    assert decision(asha, "trial-0003", 1, 0.9) == "CONTINUE"
    assert decision(asha, "trial-0004", 1, 0.1) == "STOP"


def test_tune_s_own_names_of_trials_say_nothing() -> None:
    asha = pruner([done(0, 0.9)])
    trial = SimpleNamespace(trial_id="5f3a_00001", config={"trial": "trial-0001"})
    asha.on_trial_add(None, trial)
    result = {"epoch": 1, "score": 0.95}
    assert asha.on_trial_result(None, trial, result) == "CONTINUE"
    asha.on_trial_complete(None, trial, result)
    asha.on_trial_add(None, trial)
    asha.on_trial_remove(None, trial)
    asha.on_trial_complete(None, trial, {})  # it had not reported


def test_repeats_and_the_phases_before_the_last_are_not_judged() -> None:
    earlier = [done(0, 0.5), done(1, 0.9)]
    assert decision(pruner(earlier), "trial-0001-seed-1", 1, 0.0) == "CONTINUE"
    assert decision(pruner(earlier), "trial-0002", 0, float("-inf")) == "CONTINUE"
    assert decision(pruner(earlier), "trial-0002", 1, 0.0) == "STOP"


def test_a_trials_reports_are_recorded_tracked_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = Trial("trial-0000", 0, 0, 0, {})
    record, run = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE), NotTracked()
    record.add(trial)
    callback = callback_of(record, run, tmp_path)
    tune_trial = SimpleNamespace(config={"trial": trial.name})
    metrics = {"train/loss": 1.0, "val/f1_parts": 0.25, "train/seconds": 30.0}
    for report in (
        TrialReport("fine", 1, 1, metrics, 0.25, computed_on="a CPU, fp32"),
        TrialReport("fine", 2, 2, {}, diverged="the loss is nan"),
    ):
        callback.on_trial_result(0, [], tune_trial, {**asdict(report), "done": False})
    (kept,) = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE).trials
    assert (kept.curve, kept.state, kept.error) == ({1: 0.25}, "diverged", "the loss is nan")
    assert (kept.seconds, kept.computed_on) == ({"fine": 30.0}, "a CPU, fp32")
    assert run.tags["device"] == "a CPU, fp32"
    best = {"best_val/f1_parts": 0.25, "best_score": 0.25, "train/minutes": 0.5}
    assert run.metrics == {1: metrics | best, 2: {}}
    printed = capsys.readouterr().out
    assert "trial-0000: fine: epoch 1 of" in printed
    assert "; 0 of 3 trials, 1 of " in printed
    assert "; 1 of 3 trials, 1 of " in printed


def test_a_trial_is_listed_with_its_data_and_the_weakest_class_of_its_best_epoch(
    tmp_path: Path,
) -> None:
    trial = Trial("trial-0000", 0, 0, 0, {})
    record, run = SweepRecord.open(Folder(tmp_path), CONTENT, SPACE), NotTracked()
    record.add(trial)
    callback = callback_of(record, run, tmp_path)
    for epoch, nose, score in ((1, 0.4, 0.5), (2, 0.6, 0.7), (3, 0.1, 0.2)):
        metrics = {"val/f1_nose": nose, "val/f1_eyes": 0.9, "train/seconds": 30.0 * epoch}
        report = TrialReport("fine", epoch, epoch, metrics, score)
        pruned = {**asdict(report), "done": epoch == 3}
        callback.on_trial_result(0, [], SimpleNamespace(config={"trial": trial.name}), pruned)
    assert run.tags["weakest_class"] == "nose 0.600"
    assert run.metrics[3]["best_score"] == 0.7
    assert run.metrics[3]["train/minutes"] == 1.5
    params = run.params["mine/trial-0000"]
    assert (params["data"], params["train_images"]) == ("helen", 8)
