"""The measurement of Figure 5: both croppers on faces of which parts are covered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import torch
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import LabelSet
from stn_icnn.networks.checkpoint import Checkpoint
from stn_icnn.networks.execution import default_device, prepare_model
from stn_icnn.networks.model import STNiCNN
from stn_icnn.networks.pasting import coarse_label_maps
from stn_icnn.scoring.window_scores import WindowScores, score_windows
from stn_icnn.studies.croppers import ICNN, locate_by_cropper
from stn_icnn.studies.occlusion import cover_batch
from stn_icnn.studies.occlusion_examples import CoveredFace


@dataclass(frozen=True)
class CroppingScores:
    """The scores of several croppers on M faces of which parts were covered."""

    keys: tuple[str, ...]
    """The faces' keys."""
    present: Tensor
    """`[M, P]` bool: whether a face has the part."""
    covered: Tensor
    """`[M, P]` bool: whether the part was covered."""
    missing: Tensor
    """`[M, P]` bool: whether the part has no pixel in the coarse labels."""
    scores: Mapping[str, WindowScores]
    """The scores of the windows, by cropper."""
    sides_px: Mapping[str, Tensor]
    """The sides of the windows, by cropper, `[M, P]` float32."""
    label_set: LabelSet
    """The label set, which has P parts."""

    @classmethod
    def joined(cls, batches: Sequence[Self]) -> Self:
        """Joins the scores of several batches with the same croppers, in order."""
        names = batches[0].scores
        return cls(
            keys=tuple(chain.from_iterable(batch.keys for batch in batches)),
            present=torch.cat([batch.present for batch in batches]),
            covered=torch.cat([batch.covered for batch in batches]),
            missing=torch.cat([batch.missing for batch in batches]),
            scores={n: WindowScores.joined([batch.scores[n] for batch in batches]) for n in names},
            sides_px={n: torch.cat([batch.sides_px[n] for batch in batches]) for n in names},
            label_set=batches[0].label_set,
        )

    @property
    def groups(self) -> dict[str, Tensor]:
        """The groups of parts that are reported, `[M, P]` bool, by name."""
        return {
            "covered": self.covered & self.present,
            "covered_missing": self.covered & self.missing & self.present,
            "not_covered": ~self.covered & self.present,
        }


class CropperComparison:
    """A model's localizer and the centroid cropper, on the same coarse labels of covered faces.

    Args:
        checkpoint: a model with trained coarse and localization networks.
        system: the model's name.
        num_covered: number of parts that are covered in each face.
        seed: seed of the choice of parts.
    """

    def __init__(self, checkpoint: Checkpoint, system: str, num_covered: int, seed: int) -> None:
        self.croppers = (ICNN, system)
        self.num_covered = num_covered
        self.seed = seed
        self.device = default_device()
        self.label_set = checkpoint.model.label_set
        self.model: STNiCNN = prepare_model(checkpoint.model, checkpoint.config, self.device)

    def score(self, batch: Batch) -> CroppingScores:
        """Covers parts of a batch of faces with truth, on the CPU, and scores all croppers."""
        batch, covered = cover_batch(batch, self.num_covered, self.seed, self.label_set)
        assert batch.present is not None
        windows, found, _ = self._windows(batch)
        return CroppingScores(
            keys=batch.keys,
            present=batch.present,
            covered=covered,
            missing=~found,
            scores={n: score_windows(each, batch, self.label_set) for n, each in windows.items()},
            sides_px={n: each[..., 2] for n, each in windows.items()},
            label_set=self.label_set,
        )

    def example(self, faces: ShardedFaces, index: int) -> CoveredFace:
        """Covers parts of one face and cuts it with both croppers, for the picture."""
        original = faces[Request(index)]
        batch, covered = cover_batch(original, self.num_covered, self.seed, self.label_set)
        windows, _, coarse_logits = self._windows(batch)
        (coarse_labels,) = coarse_label_maps(coarse_logits, batch.host_sizes, self.label_set)
        return CoveredFace(
            image=original.images[0],
            covered_image=batch.images[0],
            coarse_labels=coarse_labels.cpu(),
            covered=covered[0].tolist(),
            windows={name: windows[name][0] for name in self.croppers},
            label_set=self.label_set,
        )

    @torch.inference_mode()
    def _windows(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Returns windows by cropper, `[N, P, 4]`, and whether the coarse labels have each part,
        `[N, P]` bool, on the CPU; then the coarse logits."""
        batch = batch.to(self.device)
        located = locate_by_cropper(self.model, batch, self.croppers[1])
        windows = {
            name: self.model.windows(locations, batch).cpu()
            for name, locations in located.by_cropper.items()
        }
        return windows, located.found.cpu(), located.coarse_logits
