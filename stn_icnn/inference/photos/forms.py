"""The forms in which Python users have photographs: files, folders, images, arrays, tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stn_icnn.inference.photos.decoding import DecodedPhoto, PhotoFile
from stn_icnn.inference.photos.listing import is_stored_output, list_photos
from stn_icnn.storage import Folder

PhotoLike = PhotoFile | DecodedPhoto | Tensor
"""A photograph: a file, an opened image, `[H, W, 3]` RGB of 8 or 16 bits, a tensor `[3, H, W]`, or
one decoded before."""

PhotosLike = PhotoLike | Sequence[PhotoLike]
"""A photograph, a folder of them, a tensor or an array of several, or a list."""


@dataclass(frozen=True, eq=False)
class NamedPhoto:
    """A photograph, and its name."""

    photo: PhotoFile | DecodedPhoto
    name: str = ""
    """The path that it is read from, if it is."""


def named_photos(given: PhotosLike, bgr: bool = False) -> list[NamedPhoto]:
    """Lists the photographs that something holds.

    Args:
        given: a path of a file, or of a folder, which is searched with all that is in it; a PIL
            image; an array `[H, W, 3]` or `[N, H, W, 3]`; a tensor `[3, H, W]` or `[N, 3, H, W]`,
            uint8 or floats from 0 to 1; or a list of such photographs.
        bgr: whether the channels of arrays and tensors are blue, green, red, as OpenCV has them.

    Raises:
        ValueError: it is none of these, or a folder without photographs.
    """
    if isinstance(given, str | Path):
        return (
            [NamedPhoto(path, str(path)) for path in _files(Path(given))]
            if (Path(given).is_dir())
            else [NamedPhoto(given, str(given))]
        )
    if isinstance(given, bytes):
        raise ValueError("a file's content is opened first: Image.open(io.BytesIO(content))")
    if isinstance(given, Sequence):
        return _numbered([one_photo(photo, bgr) for photo in given])
    if isinstance(given, np.ndarray | Tensor) and given.ndim == 4:
        return _numbered([one_photo(photo, bgr) for photo in given])
    return [one_photo(given, bgr)]


def _numbered(photos: Sequence[NamedPhoto]) -> list[NamedPhoto]:
    """Names the photographs that have no name by their places."""
    return [one if one.name else replace(one, name=str(i)) for i, one in enumerate(photos)]


def one_photo(given: PhotoLike, bgr: bool = False) -> NamedPhoto:
    """Takes one photograph.

    Raises:
        ValueError: a tensor has another shape or type.
    """
    if isinstance(given, str | Path):
        return NamedPhoto(given, str(given))
    if isinstance(given, Tensor):
        pixels = tensor_pixels(given)
        return NamedPhoto(_from_bgr(pixels) if bgr else pixels)
    if isinstance(given, np.ndarray) and bgr:
        return NamedPhoto(_from_bgr(given))
    name = getattr(given, "filename", "") if isinstance(given, Image.Image) else ""
    return NamedPhoto(given, str(name or ""))


def tensor_pixels(tensor: Tensor) -> NDArray[np.uint8]:
    """Returns the pixels of a tensor, `[H, W, 3]` uint8.

    Args:
        tensor: `[3, H, W]` uint8, or floats from 0 to 1, which are scaled and rounded.

    Raises:
        ValueError: it has another shape or type, or floats beyond.
    """
    shape, hint = list(tensor.shape), ""
    if tensor.dim() == 3 and shape[2] == 3 and shape[0] != 3:
        hint = ": bring the channels first by .permute(2, 0, 1)"
    if tensor.dim() != 3 or shape[0] != 3 or not tensor.numel():
        raise ValueError(f"a photograph's tensor must be [3, H, W] RGB, got {shape}{hint}")
    values = tensor.detach().permute(1, 2, 0).cpu()
    if values.is_floating_point():
        low, high = values.min().item(), values.max().item()
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"a photograph's floats must be from 0 to 1, got {low:g} to {high:g}: divide by "
                "what is white, or give uint8; a normalised one must be brought back"
            )
        values = (values.float() * 255).round().byte()
    if str(values.dtype) != "torch.uint8":
        raise ValueError(f"a photograph's tensor must be uint8 or floats, got {values.dtype}")
    return np.ascontiguousarray(values.numpy())


def _files(folder: Path) -> list[Path]:
    """Returns the photographs in a folder; earlier label maps and overlays are none.

    Raises:
        ValueError: there is none.
    """
    location = Folder(folder)
    found = list_photos(location, location).photos
    return [folder / photo.path for photo in found if not is_stored_output(photo)]


def _from_bgr(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(pixels[..., ::-1])
