"""What a user calls: a model file and photographs in, label maps out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stn_icnn.batch import Sample, collate
from stn_icnn.checkpoint import Checkpoint, DataFacts, load_checkpoint
from stn_icnn.model import label_map, prepare_model

Photo = Image.Image | NDArray[np.uint8] | str | Path
"""A photograph: opened, `[H, W, 3]` uint8 RGB, or a file."""

BATCH = 8


@dataclass(frozen=True)
class ParsedFace:
    """A photograph's labels, at its own size."""

    image: NDArray[np.uint8]
    """`[H, W, 3]` RGB, upright: what the labels lie on."""
    labels: NDArray[np.uint8]
    """`[H, W]`, ids of `labels.CLASSES`."""
    windows: NDArray[np.float32]
    """`[6, 4]`: where each of `labels.PARTS` was cut; centre, width, height in px."""


class FaceParser:
    """A trained model, ready to parse photographs.

    Args:
        checkpoint: the model and what it remembers of its data.
        device: where to compute; by default a GPU where there is one.
    """

    def __init__(self, checkpoint: Checkpoint, device: str | torch.device | None = None) -> None:
        default = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or default)
        self.data = checkpoint.data
        self.model = prepare_model(checkpoint.model, checkpoint.config, self.device).eval()

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device | None = None) -> Self:
        """Reads a model file, or the one in a folder.

        Raises:
            ValueError: where there is none, or it is not one of ours.
        """
        return cls(load_checkpoint(path), device)

    def parse(self, photo: Photo) -> ParsedFace:
        """Parses one photograph of a face.

        Raises:
            ValueError: where it can't be read as a photograph.
        """
        return self.parse_all([photo])[0]

    @torch.inference_mode()
    def parse_all(self, photos: Sequence[Photo]) -> list[ParsedFace]:
        """Parses photographs of any sizes, some at a time.

        Raises:
            ValueError: naming the first that can't be read.
        """
        parsed = []
        for start in range(0, len(photos), BATCH):
            images = [open_photo(photo) for photo in photos[start : start + BATCH]]
            parsed += self._parse_batch(images)
        return parsed

    def _parse_batch(self, images: Sequence[Image.Image]) -> list[ParsedFace]:
        batch = collate([self._sample(image) for image in images]).to(self.device)
        parsing = self.model(batch)
        faces = []
        for i, image in enumerate(images):
            # One factor for both sides, up to the rounding of the fitted size to whole pixels.
            scale = max(image.size) / max(batch.host_sizes[i])
            labels = label_map(parsing, i, image.size, scale)
            windows = parsing.windows[i] * scale
            faces.append(
                ParsedFace(np.asarray(image), labels.cpu().numpy(), windows.float().cpu().numpy())
            )
        return faces

    def _sample(self, image: Image.Image) -> Sample:
        fitted = np.array(fit_to_scale(image, self.data))
        pixels = torch.from_numpy(fitted).permute(2, 0, 1)
        return Sample("", pixels)


def open_photo(photo: Photo) -> Image.Image:
    """A photograph as upright RGB.

    Raises:
        ValueError: where it is no image that Pillow reads, or an array of another form.
    """
    if isinstance(photo, np.ndarray):
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
            raise ValueError(
                f"a photograph must be [H, W, 3] uint8 RGB, got {list(photo.shape)} {photo.dtype}"
            )
        return Image.fromarray(photo)
    try:
        image = photo if isinstance(photo, Image.Image) else Image.open(photo)
        return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{photo} can't be read as a photograph: {error}") from error


def fit_to_scale(image: Image.Image, data: DataFacts) -> Image.Image:
    """Brings a photograph to the scale of the model's data, its aspect kept.

    With the filter that sharding reduces images with.
    """
    longest = max(image.size)
    if data.scale_fit == "at_most" and longest <= data.scale_px:
        return image
    factor = data.scale_px / longest
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
