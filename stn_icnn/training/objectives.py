"""The objective of each phase: its loss on a batch, and the results that are validated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stn_icnn.config import TrainConfig
from stn_icnn.data.batch import Batch
from stn_icnn.data.scenes import compose_scenes
from stn_icnn.networks.finder import CELL_PX
from stn_icnn.networks.model import STNiCNN
from stn_icnn.networks.pasting import coarse_label_maps, label_maps
from stn_icnn.training.finding import (
    SceneTruth,
    average_faces,
    count_found,
    finder_loss,
    found_frames,
)
from stn_icnn.training.losses import coarse_loss, end_to_end_loss, localizer_loss
from stn_icnn.training.phases import ObjectiveName
from stn_icnn.training.true_windows import parse_true_windows, true_windows_loss


@dataclass(frozen=True)
class SceneFindings:
    """What the finder makes of N scenes of S px, and the truth, for h x w cells each."""

    images: Tensor
    """`[N, 3, S, S]` float32 in [0, 1]."""
    labels: Tensor
    """`[N, h, w]` uint8, the class ids that it gives."""
    truth: Tensor
    """`[N, h, w]` uint8, those that it should give."""
    frames: Sequence[NDArray[np.float32]]
    """`[K, 5]` each: x, y, side, cos, sin of the faces that are found, px of the scene."""


@dataclass(frozen=True)
class BatchResult:
    """The loss and the results of a phase on a batch of N faces."""

    loss: Tensor
    """Scalar float32, summed over the faces."""
    label_maps: Callable[[], Sequence[Tensor]] | None = None
    """Returns N label maps, `[H, W]` uint8 class ids, each at its image's size. None where the
    phase labels no pixels. Training does not call it."""
    windows: Tensor | None = None
    """`[N, P, 4]` float32: centre, width, height, px of the image; None where the phase finds no
    windows."""
    faces_found: Callable[[], Tensor] | None = None
    """Counts the faces that are found, as `finding.count_found` does; None where the phase looks
    for none."""
    scene_findings: Callable[[], SceneFindings] | None = None
    """Returns what is found in the scenes that are made of the faces; None where none are made."""


Objective = Callable[[STNiCNN, Batch, TrainConfig], BatchResult]


def coarse_objective(model: STNiCNN, batch: Batch, config: TrainConfig) -> BatchResult:
    """Labels the whole face with the coarse network."""
    logits, label_set = model.label_coarsely(batch), model.label_set
    return BatchResult(
        coarse_loss(logits, batch, label_set),
        lambda: coarse_label_maps(logits, batch.host_sizes, label_set),
    )


def localizer_objective(model: STNiCNN, batch: Batch, config: TrainConfig) -> BatchResult:
    """Finds the parts with the localizer; no gradient reaches the coarse network."""
    with torch.no_grad():
        coarse_logits = model.label_coarsely(batch)
    locations = model.locate(coarse_logits)
    return BatchResult(
        localizer_loss(locations, batch), windows=model.windows(locations, batch).detach()
    )


def fine_objective(model: STNiCNN, batch: Batch, config: TrainConfig) -> BatchResult:
    """Labels parts with the fine networks that the settings choose, in windows at their places."""
    fine = config.fine
    parsing = parse_true_windows(model, batch, fine.networks, fine.window_error)
    return BatchResult(
        true_windows_loss(parsing, batch), lambda: label_maps(parsing, batch.host_sizes)
    )


def end_to_end_objective(model: STNiCNN, batch: Batch, config: TrainConfig) -> BatchResult:
    """Parses the face with the whole model."""
    parsing = model(batch)
    return BatchResult(
        end_to_end_loss(parsing, batch, config.loss),
        lambda: label_maps(parsing, batch.host_sizes),
        parsing.windows,
    )


def finder_objective(model: STNiCNN, batch: Batch, config: TrainConfig) -> BatchResult:
    """Looks for the faces in scenes that are made of the batch.

    In training, the scenes are drawn by the augmentation's seeds, and the mean face follows the
    faces; in validation, a face's scene is always the same.
    """
    finder, label_set = model.finder, model.label_set
    assert finder is not None
    if batch.augmentation is not None:
        average_faces(finder, batch)
    scenes = compose_scenes(batch, label_set, config.model.finder_px, batch.seeds(), CELL_PX)
    output = model.look_for_faces(scenes.images)
    truth = SceneTruth.of(scenes, finder.mean_face)

    def findings() -> SceneFindings:
        class_ids = torch.tensor(
            label_set.located_classes, dtype=torch.uint8, device=truth.owner.device
        )
        labels = class_ids[output.logits.argmax(dim=1)]
        return SceneFindings(scenes.images, labels, truth.labels, found_frames(output))

    return BatchResult(
        finder_loss(output, scenes, truth, label_set),
        faces_found=lambda: count_found(output, scenes, truth),
        scene_findings=findings,
    )


OBJECTIVES: Final[Mapping[ObjectiveName, Objective]] = {
    "coarse": coarse_objective,
    "localizer": localizer_objective,
    "fine": fine_objective,
    "end_to_end": end_to_end_objective,
    "finder": finder_objective,
}
"""The objectives by the names that the table of phases has for them."""


class PhaseLoss(nn.Module):
    """A model and the loss that a phase trains it on.

    It is a module so that DDP can wrap it and average its gradients over ranks.
    """

    def __init__(self, model: STNiCNN, objective: Objective, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.config = config

    def forward(self, batch: Batch) -> Tensor:
        """Returns the loss, summed over the samples of a batch; scalar float32."""
        return self.objective(self.model, batch, self.config).loss
