"""Which trial is next, and which goes on: across drivers, without Ray's cluster."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from cluster.spaces import Values
from cluster.sweep_config import SweepConfig
from cluster.sweep_record import SweepRecord, Trial
from cluster.sweep_search import Pruner, SweepSearch

CONTENT: dict[str, Any] = {"config": {"optim": {"lr_fine": 0.01}}, "seeds": 1}


def propose(number: int, trials: Sequence[Trial]) -> Values:
    return {"optim.lr_fine": float(number)}


def search_of(record: SweepRecord, num_settings: int, seeds: int = 1) -> SweepSearch:
    return SweepSearch(
        record,
        propose,
        num_settings=num_settings,
        seeds=seeds,
        first_seed=7,
        on_start=lambda trial: None,
    )


def names(record: SweepRecord) -> list[str]:
    return [trial.name for trial in record.trials]


def test_a_trial_is_on_disk_before_tune_hears_of_it(tmp_path: Path) -> None:
    record = SweepRecord.open(str(tmp_path), CONTENT)
    found = search_of(record, 2).suggest("x")
    assert found == {"trial": "trial-0000", "values": {"optim.lr_fine": 0.0}, "seed": 7}
    assert names(SweepRecord.open(str(tmp_path), CONTENT)) == ["trial-0000"]


def test_another_driver_goes_on_with_what_was_left_and_adds_only_what_is_missing(
    tmp_path: Path,
) -> None:
    record = SweepRecord.open(str(tmp_path), CONTENT)
    search = search_of(record, 5)
    for _ in range(4):
        search.suggest("x")
    for trial, state in zip(
        record.trials, ("finished", "pruned", "failed", "running"), strict=True
    ):
        trial.state, trial.curve = state, {1: 0.5}
        record.save(trial)
    again = SweepRecord.open(str(tmp_path), CONTENT)
    second = search_of(again, 5)
    handed = [second.suggest("x") for _ in range(4)]
    assert [h["trial"] for h in handed[:3]] == ["trial-0002", "trial-0003", "trial-0004"]
    assert handed[3] == Searcher.FINISHED
    assert again.named("trial-0002").state == "running"
    assert again.named("trial-0003").curve == {1: 0.5}
    assert sorted(names(SweepRecord.open(str(tmp_path), CONTENT))) == [
        f"trial-{i:04d}" for i in range(5)
    ]


def test_settings_that_came_to_their_end_are_repeated_with_other_seeds(tmp_path: Path) -> None:
    record = SweepRecord.open(str(tmp_path), CONTENT)
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
    SweepRecord.open(str(tmp_path), CONTENT)
    other = {"config": {"optim": {"lr_fine": 0.5}}, "seeds": 1}
    with pytest.raises(ValueError, match=r"config\.optim\.lr_fine: 0\.5, was 0\.01"):
        SweepRecord.open(str(tmp_path), other)


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


def test_repeats_and_the_phases_before_the_last_are_not_judged() -> None:
    earlier = [done(0, 0.5), done(1, 0.9)]
    assert decision(pruner(earlier), "trial-0001-seed-1", 1, 0.0) == "CONTINUE"
    assert decision(pruner(earlier), "trial-0002", 0, float("-inf")) == "CONTINUE"
    assert decision(pruner(earlier), "trial-0002", 1, 0.0) == "STOP"
