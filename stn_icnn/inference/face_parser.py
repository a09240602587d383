"""The parser of photographs, `FaceParser`: model file and photographs in, label maps out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stn_icnn.config import require
from stn_icnn.data.batch import Batch, stack_photos
from stn_icnn.decoding import allow_megapixels
from stn_icnn.inference.model_sources import find_model, load_usable
from stn_icnn.inference.photos.decoding import (
    DEFAULT_MEGAPIXELS,
    DecodedPhoto,
    PhotoFile,
    load_photo,
)
from stn_icnn.labels import LabelSet
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts
from stn_icnn.networks.execution import default_device, prepare_model
from stn_icnn.networks.folding import fold_batch_norm
from stn_icnn.networks.pasting import label_maps
from stn_icnn.networks.threads import InferenceThreads, has_one_core

PhotoLike = PhotoFile | DecodedPhoto
"""A photograph: an opened image, `[H, W, 3]` RGB of 8 or 16 bits, a file, or one decoded before."""

BATCH_SIZE = 16
"""The most photographs that are parsed at a time."""


@dataclass(frozen=True)
class ParsedFace:
    """A photograph's labels, at its own size."""

    image: NDArray[np.uint8]
    """`[H, W, 3]` RGB, upright: what the labels lie on. That of a JPEG file with more megapixels
    than the parser decodes whole is a reduced copy."""
    labels: NDArray[np.uint8]
    """`[H, W]`, ids of the label set's classes."""
    windows: NDArray[np.float32]
    """`[P, 4]`: the window of each of the label set's parts: centre x, y, width, height, px."""
    label_set: LabelSet
    """The classes and parts that the model labels."""


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
        require(max_megapixels > 0, "max_megapixels", "above 0", max_megapixels)
        allow_megapixels(max_megapixels)
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = load_usable(find_model(checkpoint), "parsing")
        self.max_megapixels = max_megapixels
        self.device = torch.device(device) if device else default_device()
        self.data = checkpoint.data
        folded = fold_batch_norm(checkpoint.model)
        self.model = prepare_model(folded, checkpoint.config, self.device)
        if self.device.type == "cpu" and not has_one_core():
            threads = InferenceThreads(torch.get_num_threads())
            self.model.execution = replace(self.model.execution, threads=threads)

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

    def parse(self, photo: PhotoLike) -> ParsedFace:
        """Parses one photograph of a face.

        Raises:
            ValueError: it cannot be read as a photograph.
        """
        return self.parse_all([photo])[0]

    @torch.inference_mode()
    def parse_all(self, photos: Sequence[PhotoLike]) -> list[ParsedFace]:
        """Parses photographs of any sizes, `BATCH_SIZE` at a time.

        Raises:
            ValueError: one cannot be read; the first such is named.
        """
        if isinstance(photos, str | Path):
            raise ValueError(f"parse_all takes a list of photographs, got {photos!r}: use parse")
        parsed = []
        for start in range(0, len(photos), BATCH_SIZE):
            parsed += self._parse_on_threads(photos[start : start + BATCH_SIZE])
        return parsed

    def _parse_on_threads(self, photos: Sequence[PhotoLike]) -> list[ParsedFace]:
        """Splits photographs among the threads of a CPU where each gets two or more."""
        threads = self.model.execution.threads
        if threads is None or len(photos) < 2 * threads.size:
            return self._parse_batch(photos)
        bounds = [len(photos) * i // threads.size for i in range(threads.size + 1)]
        shares = [photos[start:stop] for start, stop in pairwise(bounds)]
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
        labels, windows = self._parse(batch, [(width, height)] * num)
        return ParsedBatch(torch.stack(labels), windows, self.model.label_set)

    def _parse_batch(self, photos: Sequence[PhotoLike]) -> list[ParsedFace]:
        """Parses photographs as one batch."""
        decoded = [load_photo(photo, self.max_megapixels) for photo in photos]
        fitted = [fit_to_scale(photo.pixels, self.data, photo.size) for photo in decoded]
        batch = stack_photos([torch.from_numpy(image).permute(2, 0, 1) for image in fitted])
        labels, windows = self._parse(batch, [photo.size for photo in decoded])
        return [
            ParsedFace(photo.pixels, face.cpu().numpy(), own_windows, self.model.label_set)
            for photo, face, own_windows in zip(decoded, labels, windows.cpu().numpy(), strict=True)
        ]

    def _parse(self, batch: Batch, sizes: Sequence[tuple[int, int]]) -> tuple[list[Tensor], Tensor]:
        """Returns label maps and windows at the photographs' own sizes, which are (W, H) px."""
        parsing = self.model(batch.to(self.device))
        # One factor for both sides, up to the rounding of the fitted size to whole pixels.
        scales = [max(size) / max(own) for size, own in zip(sizes, batch.host_sizes, strict=True)]
        windows = parsing.windows * parsing.windows.new_tensor(scales)[:, None, None]
        return label_maps(parsing, sizes, scales), windows


def fitted_size(size: tuple[int, int], data: DataFacts) -> tuple[int, int]:
    """Returns (W, H) px of a photograph at the working scale of the data, its aspect kept."""
    longest = max(size)
    if data.scale_fit == "at_most" and longest <= data.scale_px:
        return size
    width, height = (max(1, round(side * data.scale_px / longest)) for side in size)
    return width, height


def fit_to_scale(
    image: NDArray[np.uint8], data: DataFacts, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Resizes a photograph, `[H, W, 3]` uint8, to the working scale of the model's data.

    The filter, LANCZOS, is that with which sharding reduces images.

    Args:
        image: the photograph, or a reduced copy.
        data: the model's data.
        size: (W, H) px of the photograph where the image is a copy.
    """
    own = image.shape[1], image.shape[0]
    fitted = fitted_size(size or own, data)
    if fitted == own:
        return image
    return np.array(Image.fromarray(image).resize(fitted, Image.Resampling.LANCZOS))
