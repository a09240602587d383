"""The files that are written for a parsed photograph, one of each kind, named after it."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stn_icnn.decoding import open_any_size
from stn_icnn.inference.outputs.face_drawing import draw_overlay
from stn_icnn.label_sets import PAPER9
from stn_icnn.labels import LabelSet
from stn_icnn.reporting.overlay import palette_image

if TYPE_CHECKING:
    from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto

ENDINGS: Final = {
    "labels": ".png",
    "overlay": "_overlay.jpg",
    "windows": "_windows.json",
    "masks": "_masks.zip",
    "probabilities": "_probabilities.npz",
    "crops": "_crops.zip",
}
"""The end of a file's name, by its kind: class ids as an indexed picture; colours over the
photograph; where the faces and their parts are; a picture of black and white for each class and
each group; each class' probability; each face, upright."""

ALL_KINDS: Final = ",".join(ENDINGS)
DEFAULT_KINDS: Final = "labels,overlay,windows"
CLASSES_FILE: Final = "classes.json"
"""The file beside label maps and probabilities that tells the classes' ids, names and colours."""

OVERLAY_QUALITY: Final = 92
OVERLAY_MARK: Final = b"overlay of stn-icnn"
"""The comment in an overlay's file, by which it is known not to be a photograph."""

LABELS_MARK: Final = "label map of stn-icnn"
"""The comment in the file of a label map that has not the palette of the paper's classes."""

_COLOURS: Final = bytes(value for colour in PAPER9.colours for value in colour)


def parse_kinds(text: str) -> tuple[str, ...]:
    """Returns the kinds of files that a list with commas or spaces names, each once.

    Raises:
        ValueError: it names none, or one that does not exist.
    """
    kinds = tuple(dict.fromkeys(text.replace(",", " ").split()))
    if not kinds or not set(kinds) <= set(ENDINGS):
        raise ValueError(f"--write must be of {ALL_KINDS}, separated by commas, got {text!r}")
    return kinds


def encode_output(parsed: "ParsedPhoto", kind: str, photo: str = "") -> bytes:
    """Returns the content of a parsed photograph's file of one kind.

    Args:
        parsed: the parsed photograph.
        kind: one of ENDINGS.
        photo: the photograph's name, which the file of windows tells.
    """
    if kind == "windows":
        return (json.dumps(parsed.describe() | {"photo": photo}) + "\n").encode()
    if kind == "masks":
        names = [name for name in parsed.names if name != parsed.label_set.class_names[0]]
        return _zipped({name: Image.fromarray(parsed.mask(name)) for name in names})
    if kind == "crops":
        return _zipped({str(i): face.crop() for i, face in enumerate(parsed.faces)})
    file = io.BytesIO()
    if kind == "probabilities":
        probs = parsed.probabilities
        classes = parsed.label_set.model_classes
        named = {parsed.label_set.class_names[i]: probs[i].astype(np.float16) for i in classes}
        np.savez_compressed(file, allow_pickle=False, **named)
    elif kind == "labels":
        mark = PngInfo()
        if parsed.label_set.colours[: PAPER9.num_classes] != PAPER9.colours:
            mark.add_text("Comment", LABELS_MARK)
        palette_image(parsed.labels, parsed.label_set).save(file, "PNG", pnginfo=mark)
    else:
        draw_overlay(parsed).save(file, "JPEG", quality=OVERLAY_QUALITY, comment=OVERLAY_MARK)
    return file.getvalue()


def _zipped(pictures: Mapping[str, Image.Image]) -> bytes:
    """Returns a ZIP archive of pictures as PNG, by their names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, picture in pictures.items():
            content = io.BytesIO()
            picture.save(content, "PNG")
            archive.writestr(zipfile.ZipInfo(f"{name}.png"), content.getvalue())
    return file.getvalue()


def encode_classes(label_set: LabelSet) -> bytes:
    """Returns the content of CLASSES_FILE: id, name and colour of each class that is labelled."""
    classes = [
        {"id": i, "name": label_set.class_names[i], "colour": list(label_set.colours[i])}
        for i in label_set.model_classes
    ]
    return (json.dumps(classes, indent=1) + "\n").encode()


def save_outputs(
    parsed: "ParsedPhoto",
    folder: str | Path,
    kinds: str | Sequence[str] | None = None,
    name: str | None = None,
) -> list[Path]:
    """Writes a parsed photograph's files of some kinds to a folder, named after it.

    Earlier results are replaced; any other picture, such as the photograph itself, is not.

    Args:
        parsed: the parsed photograph.
        folder: where; it is made where there is none.
        kinds: which, separated by commas where it is a text; None: DEFAULT_KINDS.
        name: what the files' names begin with; None: as the photograph's, or `photo`.

    Returns:
        The files' paths; the classes' file lies beside them.

    Raises:
        ValueError: there is no such kind, or a picture that is no result lies in the way.
    """
    named = DEFAULT_KINDS if kinds is None else kinds if isinstance(kinds, str) else ",".join(kinds)
    folder, photo = Path(folder), Path(parsed.name).name or "photo"
    folder.mkdir(parents=True, exist_ok=True)
    stem, chosen = name or Path(photo).stem, parse_kinds(named)
    paths = [folder / (stem + ENDINGS[kind]) for kind in chosen]
    for path in paths:
        if path.suffix in (".png", ".jpg") and path.exists() and not _is_output_file(path):
            raise ValueError(f"{path} is a picture, not to be overwritten: give another name=")
    for kind, path in zip(chosen, paths, strict=True):
        path.write_bytes(encode_output(parsed, kind, photo))
    if not (folder / CLASSES_FILE).exists():
        (folder / CLASSES_FILE).write_bytes(encode_classes(parsed.label_set))
    return paths


def _is_output_file(path: Path) -> bool:
    with path.open("rb") as file:
        return is_output(file)


def is_output(file: IO[bytes]) -> bool:
    """Tells whether a file is a label map or an overlay, whatever its name and size.

    A label map is known by its palette, or as an overlay by the comment in its file, which
    overlays of version 0.1.0 lack: they are taken for photographs. No pixels are decoded.
    """
    try:
        image = open_any_size(file, ("PNG", "JPEG"))
    except Exception:  # it is no photograph either, and refused as one
        return False
    if image.format == "PNG":
        is_marked = image.info.get("Comment") == LABELS_MARK
        palette = image.palette.getdata()[1] if image.palette else b""
        return image.mode == "P" and (is_marked or palette.startswith(_COLOURS))
    comment = image.info.get("comment")
    return isinstance(comment, bytes) and comment.startswith(OVERLAY_MARK)
