"""Trains the paper's systems, from one coarse network and one localizer, and scores them."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cluster.scoring.job import score_on_workers
from cluster.scoring.worker import COARSE, MEAN_MAP, ScoringTask
from cluster.training.phase_training import train_phase
from cluster.training.setup import Training
from stn_icnn.scoring.f1 import f1_rows
from stn_icnn.training.phases import SYSTEMS, PhaseName, System, phases_up_to

COUNTS_FILE = "counts-2.npz"
"""Earlier versions wrote `counts.npz`, whose coarse network was of the system scored first."""


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
        counts = _from_npz(storage.read(COUNTS_FILE)) if storage.exists(COUNTS_FILE) else {}
        if missing := [system for system in systems if system not in counts]:
            counts = {**_score(training, missing), **counts}
            storage.write(COUNTS_FILE, _to_npz(counts))
        for system in systems:
            rows = f1_rows(counts[system].sum(dim=0), training.config.model.label_set)
            values = {f"{SYSTEMS[system]}/test/f1_{row}": f1 for row, f1 in rows.items()}
            training.run.log_metrics(values, step=0)
    return {name: counts[name] for name in (*systems, COARSE, MEAN_MAP)}


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


def _to_npz(counts: Mapping[str, Tensor]) -> bytes:
    content = io.BytesIO()
    arrays: dict[str, Any] = {name: value.numpy() for name, value in counts.items()}
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def _from_npz(content: bytes) -> dict[str, Tensor]:
    with np.load(io.BytesIO(content)) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
