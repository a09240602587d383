"""Trains the paper's systems, from one coarse network and one localizer, and scores them."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cluster.run_notes import log_f1, log_machines
from cluster.scoring.job import score_on_workers
from cluster.scoring.worker import COARSE, MEAN_MAP, ScoringTask
from cluster.training.phase_training import train_phase
from cluster.training.setup import Training
from cluster.training.summary import summarise_training
from stn_icnn.scoring.f1 import f1_rows
from stn_icnn.training.phases import SYSTEMS, PhaseName, System, phases_up_to

COUNTS_FILE = "counts-2.npz"
"""Earlier versions wrote `counts.npz`, whose coarse network was of the system scored first."""


def expect(training: Training, systems: Sequence[System]) -> None:
    """Adds what `train_and_score` is to do to what the job's progress counts."""
    training.expect(phases_of(systems))
    scored = _stored_counts(training)
    if missing := [system for system in systems if system not in scored]:
        training.expect_scoring(len(missing))


def train_and_score(training: Training, systems: Sequence[System]) -> dict[str, Tensor]:
    """Trains the systems that are not trained yet, and scores those that are not scored yet.

    Args:
        training: the training whose phases make the systems. These share its coarse network and its
            localizer.
        systems: the systems to train and to score on the test split.

    Returns:
        Confusion counts of each image by system, int64 `[M, C, C]`; then those of the coarse
        network as it was before the other phases, and of the mean label map.

    Raises:
        PhaseFailedError: where a loss is not finite any more, or workers failed too often.
    """
    storage = training.record.storage
    with training.run.finishing():
        for phase in phases_of(systems):
            train_phase(training, phase)
        counts = _stored_counts(training)
        if missing := [system for system in systems if system not in counts]:
            counts = {**_score(training, missing), **counts}
            storage.write(COUNTS_FILE, _to_npz(counts))
        training.progress.count_scoring(training.run.name)
        _log_result(training, {system: counts[system] for system in systems})
    return {name: counts[name] for name in (*systems, COARSE, MEAN_MAP)}


def _log_result(training: Training, counts: Mapping[str, Tensor]) -> None:
    """Logs F1 of each system, and what the list of runs shows, of the last one.

    Args:
        training: the finished training.
        counts: confusion counts of each image by system, int64 `[M, C, C]`.
    """
    run, label_set = training.run, training.config.model.label_set
    rows = {system: f1_rows(one.sum(dim=0), label_set) for system, one in counts.items()}
    for system, of_system in rows.items():
        values = {f"{SYSTEMS[system]}/test/f1_{row}": f1 for row, f1 in of_system.items()}
        run.log_metrics(values, step=0)
    summary, last = summarise_training(training), list(rows)[-1]
    step = len(summary.machines)  # a metric of a step counts once, and more phases may be trained
    log_f1(run, "test", rows[last], label_set, step=step)
    run.log_metrics({"test/images": len(counts[last])}, step=0)
    log_machines(run, summary.all_machines, summary.total_minutes, step=step)


def phases_of(systems: Sequence[System]) -> list[PhaseName]:
    """Returns the phases that make some systems, each after those that it needs, none twice."""
    phases = (phase for system in systems for phase in phases_up_to(SYSTEMS[system]))
    return list(dict.fromkeys(phases))


def _score(training: Training, systems: Sequence[System]) -> Mapping[str, Tensor]:
    task = ScoringTask(
        {system: training.record.model(SYSTEMS[system]) for system in systems},
        training.data,
        "test",
        coarse=training.record.model("coarse"),
    )
    return score_on_workers(task, training.record.storage, training.allocation).counts


def _stored_counts(training: Training) -> dict[str, Tensor]:
    """Returns the confusion counts of the systems that are scored already."""
    storage = training.record.storage
    return _from_npz(storage.read(COUNTS_FILE)) if storage.exists(COUNTS_FILE) else {}


def _to_npz(counts: Mapping[str, Tensor]) -> bytes:
    content = io.BytesIO()
    arrays: dict[str, Any] = {name: value.numpy() for name, value in counts.items()}
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def _from_npz(content: bytes) -> dict[str, Tensor]:
    with np.load(io.BytesIO(content)) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
