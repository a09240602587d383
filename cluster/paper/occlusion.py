"""Figure 5: both croppers on faces of which parts are covered. Trains nothing."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cluster.paper.experiment import OpenedModel
from cluster.paper.model_on_split import ModelOnSplit, SplitConfig, batches_of, run_on_split
from stn_icnn.config import require
from stn_icnn.data.batch import Batch, collate
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import PAPER9
from stn_icnn.networks.execution import default_device, prepare_model
from stn_icnn.networks.model import STNiCNN
from stn_icnn.networks.pasting import coarse_label_maps
from stn_icnn.scoring.window_scores import score_windows
from stn_icnn.studies.croppers import AVERAGE_FACE, ICNN, locate
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.occlusion import cover_batch
from stn_icnn.studies.occlusion_examples import CoveredFace, examples_picture
from stn_icnn.studies.occlusion_report import Croppings, write_report

NAME: Final = "occlusion"


@dataclass(frozen=True, kw_only=True)
class OcclusionConfig(SplitConfig):
    """The paper's Figure 5: covers parts of faces and compares how both croppers then cut, the
    model's localizer and the centroid cropper, on the rough labels of its coarse network.

    python jobs/paper.py occlusion --model MODEL --data OUT
    """

    num_covered: int = 2
    """Parts covered a face, 1 to 5, of those that it has."""
    num_examples: int = 6
    """Faces in the picture, drawn at random from those."""
    seed: int = 0
    """Of which parts are covered, which faces are shown, and the intervals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        num_parts = PAPER9.num_parts
        allowed = f"1 to {num_parts - 1}"
        require(1 <= self.num_covered < num_parts, "num_covered", allowed, self.num_covered)
        require(self.num_examples >= 1, "num_examples", "at least 1", self.num_examples)
        require(self.seed >= 0, "seed", "0 or more", self.seed)


def run_occlusion(config: OcclusionConfig) -> dict[str, Any]:
    """The job.

    Returns:
        Its last line: `covered`, `covered_missing` (from the rough labels) and `not_covered`, each
        with the measures of each cropper; `covered_whole_by`, how many parts which of them cut
        whole.

    Raises:
        ValueError: for a model or data that can't be used; a model needs a trained localizer.
        TrackingUnavailableError: where the tracking server is away.
    """
    return run_on_split(NAME, config, ("coarse", "localizer"), partial(_measure, config))


def _measure(config: OcclusionConfig, tried: ModelOnSplit, folder: Path) -> ExperimentResult:
    model, faces = tried.model, tried.faces
    cropper = CropperComparison(model, config.num_covered, config.seed)
    croppings = Croppings.joined([cropper.cut(batch) for batch in batches_of(faces)])
    shown = np.random.default_rng(config.seed).permutation(len(faces))[: config.num_examples]
    examples = [cropper.example(faces, index) for index in sorted(shown.tolist())]
    picture = examples_picture(examples, (ICNN, model.system))
    Image.fromarray(picture).save(folder / "occlusion_examples.png")
    settings = model.checkpoint.config.model
    sizes = settings.label_set.per_part(settings.window_px)
    about = (
        f"{tried.about}; of each, up to {config.num_covered} parts covered (seed {config.seed}). "
        f"Both croppers get the rough labels of the coarse network of {model.given}; windows are "
        f"set to {min(sizes)} to {max(sizes)} px, and {model.system} applies its own factor to "
        f"that (beside it: without). {AVERAGE_FACE}: a control that looks at nothing."
    )
    return write_report(folder, croppings, (ICNN, model.system), about, config.seed)


class CropperComparison:
    """A model's localizer and the centroid cropper, on the same rough labels.

    Args:
        model: whose networks they are.
        num_covered: parts covered a face.
        seed: of which ones.
    """

    def __init__(self, model: OpenedModel, num_covered: int, seed: int) -> None:
        self.system = model.system
        self.num_covered = num_covered
        self.seed = seed
        self.device = default_device()
        checkpoint = model.checkpoint
        self.label_set = checkpoint.model.label_set
        self.model: STNiCNN = prepare_model(checkpoint.model, checkpoint.config, self.device)

    def cut(self, batch: Batch) -> Croppings:
        """Covers, cuts and scores a batch, with truth, on the CPU."""
        assert batch.present is not None
        present = batch.present
        batch, covered = cover_batch(batch, self.num_covered, self.seed, self.label_set)
        windows, found, _ = self._windows(batch)
        return Croppings(
            keys=batch.keys,
            present=present,
            covered=covered,
            missing=~found,
            scores={
                name: score_windows(of_name, batch, self.label_set)
                for name, of_name in windows.items()
            },
            sides_px={name: of_name[..., 2] for name, of_name in windows.items()},
            label_set=self.label_set,
        )

    def example(self, faces: ShardedFaces, index: int) -> CoveredFace:
        """A face as it is shown."""
        photo = collate([faces[Request(index)]])
        batch, covered = cover_batch(photo, self.num_covered, self.seed, self.label_set)
        windows, _, coarse_logits = self._windows(batch)
        (rough,) = coarse_label_maps(coarse_logits, batch.host_sizes, self.label_set)
        shown = (ICNN, self.system)
        return CoveredFace(
            photo=photo.images[0],
            covered_photo=batch.images[0],
            rough=rough.cpu(),
            covered=covered[0].tolist(),
            windows={name: windows[name][0] for name in shown},
            label_set=self.label_set,
        )

    @torch.inference_mode()
    def _windows(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Windows by cropper, `[N, P, 4]`, and the parts that the rough labels have, `[N, P]` bool,
        on the CPU; the coarse logits."""
        batch = batch.to(self.device)
        at = locate(self.model, batch, self.system)
        windows = {
            name: self.model.windows(locations, batch).cpu()
            for name, locations in at.by_cropper.items()
        }
        return windows, at.found.cpu(), at.coarse_logits
