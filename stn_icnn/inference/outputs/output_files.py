"""The files that are written for a parsed photograph, one of each kind, named after it."""

import io
import json
from typing import IO, TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from stn_icnn.decoding import open_any_size
from stn_icnn.labels import PAPER9
from stn_icnn.reporting.overlay import overlay, palette_image

if TYPE_CHECKING:
    from stn_icnn.inference.face_parser import ParsedFace

ENDINGS: Final = {"labels": ".png", "overlay": "_overlay.jpg", "windows": "_windows.json"}
"""The end of a file's name, by its kind: class ids as an indexed picture, colours over the
photograph, and where the parts were cut."""

ALL_KINDS: Final = ",".join(ENDINGS)
OVERLAY_QUALITY: Final = 92
OVERLAY_MARK: Final = b"overlay of stn-icnn"
"""The comment in an overlay's file, by which it is known not to be a photograph."""

_COLOURS: Final = bytes(value for colour in PAPER9.colours for value in colour)


def parse_kinds(text: str) -> tuple[str, ...]:
    """Returns the kinds of files that a list with commas names, each once.

    Raises:
        ValueError: it names none, or one that does not exist.
    """
    kinds = tuple(dict.fromkeys(kind.strip() for kind in text.split(",")))
    if not set(kinds) <= set(ENDINGS):
        raise ValueError(f"--write must be of {ALL_KINDS}, separated by commas, got {text!r}")
    return kinds


def encode_output(face: "ParsedFace", kind: str, photo: str = "") -> bytes:
    """Returns the content of a parsed photograph's file of one kind.

    Args:
        face: the parsed photograph.
        kind: one of ENDINGS.
        photo: the photograph's name, which the file of windows tells.
    """
    if kind == "windows":
        return (json.dumps({"photo": photo, "windows": named_windows(face)}) + "\n").encode()
    file = io.BytesIO()
    if kind == "labels":
        palette_image(face.labels, face.label_set).save(file, "PNG")
    else:
        _draw_overlay(face).save(file, "JPEG", quality=OVERLAY_QUALITY, comment=OVERLAY_MARK)
    return file.getvalue()


def _draw_overlay(face: "ParsedFace") -> Image.Image:
    """Draws labels and windows over the photograph, or over its reduced copy at that one's size."""
    height, width = face.image.shape[:2]
    labels, windows = face.labels, face.windows
    if labels.shape != (height, width):
        reduced = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
        labels, windows = np.asarray(reduced), windows * (max(width, height) / max(labels.shape))
    boxes = [tuple(window) for window in windows.tolist()]
    return Image.fromarray(overlay(face.image, labels, face.label_set, windows=boxes))


def is_output(file: IO[bytes]) -> bool:
    """Tells whether a file is a label map or an overlay, whatever its name and size.

    A label map is known by its palette, an overlay by the comment in its file, which those of
    version 0.1.0 lack: they are taken for photographs. No pixels are decoded.
    """
    try:
        image = open_any_size(file, ("PNG", "JPEG"))
    except Exception:  # it is no photograph either, and refused as one
        return False
    if image.format == "PNG" and image.mode == "P":
        return image.palette is not None and image.palette.getdata()[1].startswith(_COLOURS)
    comment = image.info.get("comment")
    return isinstance(comment, bytes) and comment.startswith(OVERLAY_MARK)


def named_windows(face: "ParsedFace") -> dict[str, list[float]]:
    """Returns the window of each part by the part's name: centre x, y, width and height, px."""
    parts = face.label_set.parts
    return {part.name: box for part, box in zip(parts, face.windows.tolist(), strict=True)}
