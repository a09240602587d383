"""The parser of photographs, `FaceParser`: model file and photographs in, label maps out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Final, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from stn_icnn.checks import require
from stn_icnn.data.batch import stack_photos
from stn_icnn.decoding import allow_megapixels
from stn_icnn.inference.faces.boxes import BoxesByName, BoxesLike, FaceBox, boxes_of_photos
from stn_icnn.inference.faces.confidence import ConfidenceEstimator
from stn_icnn.inference.faces.cutting import FaceCut, fitted_size
from stn_icnn.inference.faces.finding import FaceFinder, FoundFace
from stn_icnn.inference.model_sources import find_model, load_usable
from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto
from stn_icnn.inference.parse_options import Framing
from stn_icnn.inference.photo_jobs import PhotoJob, PlacedFace, cut_out, gather_photo, locate_faces
from stn_icnn.inference.photos.decoding import DEFAULT_MEGAPIXELS, load_photo
from stn_icnn.inference.photos.forms import (
    NamedPhoto,
    PhotoLike,
    PhotosLike,
    named_photos,
    one_photo,
)
from stn_icnn.labels import LabelSet
from stn_icnn.networks.checkpoint import Checkpoint
from stn_icnn.networks.execution import explaining_lack_of_memory, prepare_model, usable_device
from stn_icnn.networks.folding import fold_batch_norm
from stn_icnn.networks.pasting import label_maps, place_patches
from stn_icnn.networks.threads import InferenceThreads, has_one_core

BATCH_SIZE: Final = 16
"""The most photographs, and the most faces, that are parsed at a time."""


@dataclass(frozen=True)
class ParsedBatch:
    """The labels of a tensor of faces, at its own size and on the parser's device."""

    labels: Tensor
    """`[N, H, W]` uint8, ids of the label set's classes."""
    windows: Tensor
    """`[N, P, 4]` float32: the window of each of the label set's parts: centre x, y, width, height,
    px."""
    label_set: LabelSet
    """The classes and parts that the model labels."""


class FaceParser:
    """A trained model, ready to parse photographs.

    Args:
        checkpoint: a model with its settings and the working scale of its data; or the name of one,
            as `load` takes it; None: the model that comes along.
        device: where to compute; None: a GPU where there is one, else the CPU.
        max_megapixels: the most megapixels of a photograph that is decoded whole. A larger JPEG
            file is reduced while it is decoded, and labelled at its own size; others are refused.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | str | Path | None = None,
        device: str | torch.device | None = None,
        max_megapixels: float = DEFAULT_MEGAPIXELS,
    ) -> None:
        self.device = usable_device(device)
        require(max_megapixels > 0, "max_megapixels", "above 0", max_megapixels)
        allow_megapixels(max_megapixels)
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = load_usable(find_model(checkpoint), "parsing")
        self.max_megapixels = max_megapixels
        self.data = checkpoint.data
        folded = fold_batch_norm(checkpoint.model)
        self.confidence: ConfidenceEstimator | None = None
        if checkpoint.calibration is not None and checkpoint.model.finder is not None:
            mean_face = checkpoint.model.finder.mean_face
            self.confidence = ConfidenceEstimator(checkpoint.calibration, mean_face)
        self.model = prepare_model(folded, checkpoint.config, self.device)
        if self.device.type == "cpu" and not has_one_core():
            threads = InferenceThreads(torch.get_num_threads())
            self.model.execution = replace(self.model.execution, threads=threads)
        network = self.model.finder
        self.finder = (
            FaceFinder(self.model, self.device) if network and network.is_trained else None
        )

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        device: str | torch.device | None = None,
        max_megapixels: float = DEFAULT_MEGAPIXELS,
    ) -> Self:
        """Loads a model.

        Args:
            path: a model file, or a folder with one; `models:/NAME@ALIAS` or `runs:/RUN_ID/PATH`
                where MLflow is installed; None: the model that comes along.
            device: where to compute; None: a GPU where there is one, else the CPU.
            max_megapixels: the most megapixels of a photograph that is decoded whole.

        Raises:
            ValueError: there is none, it is no model of STN-iCNN, or not all of its networks are
                trained.
        """
        return cls(path, device, max_megapixels)

    def __call__(
        self,
        photos: PhotosLike,
        boxes: BoxesLike | Sequence[BoxesLike] | BoxesByName | None = None,
        framing: Framing | None = None,
        bgr: bool = False,
        min_confidence: float = 0.0,
    ) -> list[ParsedPhoto]:
        """Parses photographs in any form, always to a list.

        Args:
            photos: a path of a file or of a folder, a PIL image, an array `[H, W, 3]` or
                `[N, H, W, 3]` of 8 or 16 bits, a tensor `[3, H, W]` or `[N, 3, H, W]`, uint8 or
                floats from 0 to 1, or a list of photographs.
            boxes: the faces of the photograph, as `parse` takes them; of several photographs a
                list with those of each, or by their names.
            framing: as `parse` takes it.
            bgr: as `parse` takes it.
            min_confidence: faces that are less sure are left out.

        Raises:
            ValueError: there are no photographs, or one can't be read.
            MemoryError: the device has no memory left.
        """
        named = named_photos(photos, bgr)
        if not named:
            raise ValueError("there are no photographs: the list is empty")
        is_one = len(named) == 1 and not isinstance(photos, list | tuple)
        of_each = boxes_of_photos(boxes, [one.name for one in named], is_one)
        return self._parse_all(named, of_each, framing, min_confidence)

    def parse(
        self,
        photo: PhotoLike,
        boxes: BoxesLike | BoxesByName | None = None,
        framing: Framing | None = None,
        min_confidence: float = 0.0,
        bgr: bool = False,
    ) -> ParsedPhoto:
        """Parses one photograph.

        Args:
            photo: a path, a PIL image, an array `[H, W, 3]` of 8 or 16 bits, or a tensor
                `[3, H, W]`.
            boxes: where its faces are, px of the upright photograph: rows of x0, y0, x1, y1, or of
                fourteen numbers with five landmarks; one face may be a row alone. Or the path of a
                file, as `--boxes` takes it, or a dict of rows, that name the photograph.
            framing: `whole` takes the photograph for a face, `found` finds faces in it. None:
                `found` where the model has a finder, else `whole`.
            min_confidence: faces that are less sure are left out.
            bgr: whether arrays and tensors are blue, green, red, as OpenCV has them, not RGB.

        Raises:
            ValueError: it cannot be read as a photograph, or a box has another form.
            MemoryError: the device has no memory left.
        """
        named = one_photo(photo, bgr)
        of_each = boxes_of_photos(boxes, [named.name], is_one=True)
        return self._parse_all([named], of_each, framing, min_confidence)[0]

    def parse_all(
        self,
        photos: Sequence[PhotoLike],
        boxes: Sequence[BoxesLike] | BoxesByName | None = None,
        framing: Framing | None = None,
        min_confidence: float = 0.0,
        bgr: bool = False,
    ) -> list[ParsedPhoto]:
        """Parses photographs of any sizes, `BATCH_SIZE` at a time.

        Args:
            photos: the photographs, each as `parse` takes it.
            boxes: those of each photograph, in turn or by name.
            framing: as `parse` takes it.
            min_confidence: faces that are less sure are left out.
            bgr: as `parse` takes it.

        Raises:
            ValueError: one cannot be read; the first such is named.
            MemoryError: the device has no memory left.
        """
        if isinstance(photos, str | Path):
            raise ValueError(f"parse_all takes a list of photographs, got {photos!r}: use parse")
        named = [one_photo(photo, bgr) for photo in photos]
        of_each = boxes_of_photos(boxes, [one.name for one in named], is_one=False)
        return self._parse_all(named, of_each, framing, min_confidence)

    @torch.inference_mode()
    def _parse_all(
        self,
        photos: Sequence[NamedPhoto],
        boxes: Sequence[Sequence[FaceBox]] | None,
        framing: Framing | None,
        min_confidence: float,
    ) -> list[ParsedPhoto]:
        """Parses photographs; where boxes are given, there are some of each, perhaps none."""
        finds_faces = self.finds_faces(framing, boxes is not None, min_confidence)
        of_each = [None] * len(photos) if boxes is None else boxes
        jobs = [
            PhotoJob(photo, own, finds_faces, min_confidence)
            for photo, own in zip(photos, of_each, strict=True)
        ]
        parsed = []
        with explaining_lack_of_memory(self.device):
            for start in range(0, len(jobs), BATCH_SIZE):
                parsed += self._parse_on_threads(jobs[start : start + BATCH_SIZE])
        return parsed

    def finds_faces(
        self, framing: Framing | None, has_boxes: bool = False, min_confidence: float = 0.0
    ) -> bool:
        """Tells whether faces are cut out, as found or as boxes say; else a photograph is a face.

        Args:
            framing: as `parse` takes it.
            has_boxes: whether boxes are given.
            min_confidence: as `parse` takes it.

        Raises:
            ValueError: there is no such framing, or what is asked cannot be had of this model.
        """
        require(0 <= min_confidence <= 1, "min_confidence", "from 0 to 1", min_confidence)
        if min_confidence > 0 and self.confidence is None:
            raise ValueError("this model tells no confidence: faces can't be left out by it")
        known = get_args(Framing)
        require(framing is None or framing in known, "framing", " or ".join(known), framing)
        if min_confidence > 0 and framing == "whole":
            raise ValueError("framing 'whole' tells no confidence: faces can't be left out by it")
        if has_boxes and framing == "whole":
            raise ValueError("boxes say where faces are, which framing 'whole' does not ask")
        if framing == "found" and self.finder is None and not has_boxes:
            raise ValueError("framing 'found' needs boxes: this model has no finder of faces")
        return framing != "whole" and (has_boxes or self.finder is not None)

    def _parse_on_threads(self, jobs: Sequence[PhotoJob]) -> list[ParsedPhoto]:
        """Splits photographs among the threads of a CPU where each gets two or more."""
        threads = self.model.execution.threads
        if threads is None or len(jobs) < 2 * threads.size:
            return self._parse_batch(jobs)
        bounds = [len(jobs) * i // threads.size for i in range(threads.size + 1)]
        shares = [jobs[start:stop] for start, stop in pairwise(bounds)]
        return list(chain.from_iterable(threads.map(self._parse_batch, shares)))

    @torch.inference_mode()
    def parse_tensor(self, images: Tensor) -> ParsedBatch:
        """Parses a tensor of faces of one size; the results stay on the device.

        Args:
            images: `[N, 3, H, W]` uint8 RGB.

        Raises:
            ValueError: the tensor has another shape or type.
        """
        fits = images.dim() == 4 and images.shape[1] == 3 and images.dtype == torch.uint8
        got = f"{list(images.shape)} {images.dtype}"
        require(fits, "images", "[N, 3, H, W] uint8 RGB", got)
        num, _, height, width = images.shape
        images = images.to(self.device)
        fitted_width, fitted_height = fitted_size((width, height), self.data)
        if (fitted_width, fitted_height) != (width, height):
            # Photographs are resized with LANCZOS, which PyTorch lacks.
            resized = F.interpolate(
                images.float(), (fitted_height, fitted_width), mode="bicubic", antialias=True
            )
            images = resized.round().clamp(0, 255).to(torch.uint8)
        batch = stack_photos(list(images))
        parsing = self.model(batch.to(self.device))
        scale = max(width, height) / max(fitted_width, fitted_height)
        labels = label_maps(parsing, [(width, height)] * num, [scale] * num)
        return ParsedBatch(torch.stack(labels), parsing.windows * scale, self.model.label_set)

    def _parse_batch(self, jobs: Sequence[PhotoJob]) -> list[ParsedPhoto]:
        """Parses photographs, their faces `BATCH_SIZE` at a time."""
        label_set = self.model.label_set
        decoded = [load_photo(job.photo.photo, self.max_megapixels) for job in jobs]
        found = locate_faces(decoded, jobs, self.finder, label_set)
        cuts = [
            [cut_out(job, photo, face, self.data) for face in faces]
            for photo, faces, job in zip(decoded, found, jobs, strict=True)
        ]
        # Confidence is calibrated on faces in frames of their own; all jobs are alike in this.
        estimator = self.confidence if jobs[0].finds_faces else None
        placed = self._place(list(chain(*cuts)), list(chain(*found)), estimator)
        return [
            gather_photo(job, photo, own_cuts, [next(placed) for _ in own_cuts], label_set)
            for job, photo, own_cuts in zip(jobs, decoded, cuts, strict=True)
        ]

    def _place(
        self,
        cuts: Sequence[FaceCut],
        found: Sequence[FoundFace],
        estimator: ConfidenceEstimator | None,
    ) -> Iterator[PlacedFace]:
        """Labels the parts of faces, and places them in their photographs."""
        for start in range(0, len(cuts), BATCH_SIZE):
            some = slice(start, start + BATCH_SIZE)
            pixels = [torch.from_numpy(cut.pixels).permute(2, 0, 1) for cut in cuts[some]]
            parsing = self.model(stack_photos(pixels).to(self.device))
            placed = place_patches(parsing, [cut.to_photo for cut in cuts[some]])
            for face, cut, patches in zip(found[some], cuts[some], placed, strict=True):
                sure = None
                if estimator is not None:
                    sure = estimator.estimate(patches, cut.frame, face.score)
                yield PlacedFace(patches, face.score, sure)
