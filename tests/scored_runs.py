"""Runs that have scored a model on drawn faces, as far as their results are kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from stn_icnn.context import LocalContext
from stn_icnn.label_sets import PAPER9
from stn_icnn.reporting.f1_report import f1_numbers
from stn_icnn.reporting.run_results import DataSummary, RunResults, TrainingSummary
from stn_icnn.reporting.small_faces import SmallFaces
from stn_icnn.scoring.f1 import confusion

SETTINGS: dict[str, Any] = {"optim": {"lr_fine": 0.01, "betas": [0.9, 0.99]}, "seed": 0}
HISTORY = {
    "coarse": [
        {"epoch": epoch, "train/loss": 1 / epoch, "val/loss": 1.5 / epoch, "val/f1_overall": 0.7}
        for epoch in (1, 2, 3)
    ],
    "end_to_end": [{"epoch": 1, "train/loss": 0.1}],
}


def scored_run(
    name: str,
    missed: Sequence[int],
    *,
    lip_missed: int = 0,
    keys: Sequence[str] | None = None,
    nose_width: int = 20,
    settings: Mapping[str, Any] | None = SETTINGS,
) -> RunResults:
    """A run on faces with a nose of 10 rows and an upper lip of 4, each 20 columns wide.

    Args:
        name: the run's name.
        missed: by face, how many columns of the nose are labelled background.
        lip_missed: the columns of the lip that are, in all faces.
        keys: the faces' keys; None: `face_0` and so on.
        nose_width: the columns of the first face's nose.
        settings: the settings of its training; None: it has trained nothing.
    """
    keys = keys or [f"face_{i}" for i in range(len(missed))]
    small, counts = SmallFaces(PAPER9, "STN-iCNN"), []
    for i, columns in enumerate(missed):
        truth = torch.zeros(48, 40, dtype=torch.uint8)
        truth[20:30, 10 : 10 + (nose_width if i == 0 else 20)] = PAPER9.class_id["nose"]
        truth[34:38, 10:30] = PAPER9.class_id["upper_lip"]
        predicted = truth.clone()
        predicted[20:30, 10 : 10 + columns] = 0
        predicted[34:38, 10 : 10 + lip_missed] = 0
        small.add(i, torch.full((3, 48, 40), 5 * i + 60, dtype=torch.uint8), truth, predicted)
        counts.append(confusion(truth, predicted, PAPER9.num_classes))
    by_system = {"STN-iCNN": torch.stack(counts)}
    training = settings and TrainingSummary(
        kind="training",
        base="the preset helen",
        settings=settings,
        changed={},
        history=HISTORY,
        minutes={"coarse": 1.25},
        machines={"coarse": ["a CPU, fp32"]},
        num_images=8,
    )
    return RunResults(
        title=name,
        run_name=name,
        run_id=None,
        command=f"python jobs/e2e.py helen --run-name {name}",
        commit="0f614b2",
        data=DataSummary(
            name="helen",
            location="s3://faces/helen",
            fingerprint="f00",
            num_images={"train": 8, "test": len(missed)},
            split="test",
        ),
        training=training or None,
        f1=f1_numbers(by_system, "helen", PAPER9),
        keys=keys,
        counts=by_system,
        faces=small.gather(len(missed), LocalContext()),
        label_set=PAPER9,
    )


def varied(num: int, low: int, high: int) -> list[int]:
    """So many numbers from `low` up to but without `high`, always the same."""
    return np.random.default_rng(0).integers(low, high, num).tolist()
