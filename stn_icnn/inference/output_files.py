"""The files that are written for a parsed photograph, one of each kind, named after it."""

import io
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from PIL import Image

from stn_icnn.reporting.overlay import overlay, palette_image

if TYPE_CHECKING:
    from stn_icnn.inference.face_parser import ParsedFace

ENDINGS: Final = {"labels": ".png", "overlay": "_overlay.jpg", "windows": "_windows.json"}
"""The end of a file's name, by its kind: class ids as an indexed picture, colours over the
photograph, and where the parts were cut."""

ALL_KINDS: Final = ",".join(ENDINGS)
OVERLAY_QUALITY: Final = 92


def parse_kinds(text: str) -> tuple[str, ...]:
    """Returns the kinds of files that a list with commas names, each once.

    Raises:
        ValueError: it names none, or one that does not exist.
    """
    kinds = tuple(dict.fromkeys(kind.strip() for kind in text.split(",")))
    if not set(kinds) <= set(ENDINGS):
        raise ValueError(f"--write must be of {ALL_KINDS}, separated by commas, got {text!r}")
    return kinds


def output_paths(photo: str, kinds: Sequence[str]) -> list[str]:
    """Returns the paths in the output, kind by kind, which mirror the photograph's own path."""
    stem = str(PurePosixPath(photo).with_suffix(""))
    return [stem + ENDINGS[kind] for kind in kinds]


def encode_output(face: "ParsedFace", kind: str) -> bytes:
    """Returns the content of a parsed photograph's file of one kind."""
    if kind == "windows":
        return (json.dumps({"windows": named_windows(face)}) + "\n").encode()
    file = io.BytesIO()
    if kind == "labels":
        palette_image(face.labels, face.label_set).save(file, "PNG")
    else:
        windows = [tuple(window) for window in face.windows.tolist()]
        marked = overlay(face.image, face.labels, face.label_set, windows=windows)
        Image.fromarray(marked).save(file, "JPEG", quality=OVERLAY_QUALITY)
    return file.getvalue()


def named_windows(face: "ParsedFace") -> dict[str, list[float]]:
    """Returns the window of each part by the part's name: centre x, y, width and height, px."""
    parts = face.label_set.parts
    return {part.name: box for part, box in zip(parts, face.windows.tolist(), strict=True)}
