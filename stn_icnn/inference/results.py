"""What is kept of a parsed photograph: a file of each kind, named after the photograph."""

import io
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from PIL import Image

from stn_icnn.inference.face_parser import ParsedFace
from stn_icnn.labels import PARTS
from stn_icnn.reporting.overlay import overlay, palette_image

PHOTO_SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

ENDINGS: Final = {"labels": ".png", "overlay": "_overlay.jpg", "windows": "_windows.json"}
"""Of a result's name, by kind: class ids, colours over the photograph, where its parts were cut."""

ALL_KINDS: Final = ",".join(ENDINGS)
OVERLAY_QUALITY: Final = 92


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds of results that a list with commas names.

    Raises:
        ValueError: for none, and for what is no kind.
    """
    kinds = tuple(dict.fromkeys(kind.strip() for kind in text.split(",")))
    if not set(kinds) <= set(ENDINGS):
        raise ValueError(f"--write must be of {ALL_KINDS}, separated by commas, got {text!r}")
    return kinds


def is_photo(path: str) -> bool:
    """Whether a file is a photograph by its name; hidden files and folders hold none."""
    hidden = any(name.startswith(".") for name in path.split("/"))
    return path.lower().endswith(PHOTO_SUFFIXES) and not hidden


def result_paths(photo: str, kinds: Sequence[str]) -> list[str]:
    """Where the results of a photograph go: their paths in the output mirror its own."""
    stem = str(PurePosixPath(photo).with_suffix(""))
    return [stem + ENDINGS[kind] for kind in kinds]


def encode_result(face: ParsedFace, kind: str) -> bytes:
    """A result as the content of its file."""
    windows = [tuple(window) for window in face.windows.tolist()]
    if kind == "windows":
        named = {part.name: window for part, window in zip(PARTS, windows, strict=True)}
        return (json.dumps({"windows": named}) + "\n").encode()
    file = io.BytesIO()
    if kind == "labels":
        palette_image(face.labels).save(file, "PNG")
    else:
        marked = overlay(face.image, face.labels, windows=windows)
        Image.fromarray(marked).save(file, "JPEG", quality=OVERLAY_QUALITY)
    return file.getvalue()
