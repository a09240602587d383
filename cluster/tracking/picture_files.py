"""Pictures over the epochs of a run, as the files that MLflow's image chart with its slider reads.

It looks in the folder `images` of a run's artifacts for pairs of files that are named after the
picture, the step, the time and an id: a PNG, and a smaller WebP that the chart shows (read in
MLflow 3.17, which writes the same in `MlflowClient.log_image`).
"""

import io
import re
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from PIL import Image

from stn_icnn.context import Picture

FOLDER: Final = "images"
_CHART_PX: Final = 212
"""The longer side of a picture in the chart, px. MLflow's own 256 are more than a chart has room
for: it would cut off the lower part."""
_COLOURS: Final = 256
_FULL, _REDUCED = ".png", "+compressed.webp"


def write_picture(folder: Path, picture: Picture, time_ms: int) -> str:
    """Writes both files of a picture.

    Args:
        folder: the folder that they are written to.
        picture: the picture; its step in MLflow is its epoch.
        time_ms: the time of the report, by which, with the other two, the files are named: a
            picture that is delivered twice is one in MLflow.

    Returns:
        What the files' names begin with.
    """
    name = picture.name.replace("/", "~")  # which MLflow reads as the slash
    marks = f"{name}+step+{picture.epoch}+timestamp+{time_ms}"
    stem = f"{marks}+{uuid.uuid5(uuid.NAMESPACE_OID, marks)}"
    image = Image.open(io.BytesIO(picture.webp))
    image.quantize(_COLOURS, Image.Quantize.FASTOCTREE).save(folder / f"{stem}{_FULL}")
    image.thumbnail((_CHART_PX, _CHART_PX))
    image.save(folder / f"{stem}{_REDUCED}")
    return stem


def files_of(folder: Path, stem: str) -> list[Path]:
    """Returns a picture's files, the PNG last: where it has arrived, both have."""
    return [folder / f"{stem}{ending}" for ending in (_REDUCED, _FULL)]


def step_of(stem: str) -> tuple[str, int]:
    """Returns a picture's name, as files have it, and step, by what its files' names begin with."""
    name, step = stem.split("+step+")
    return name, int(step.partition("+")[0])


def steps_of_files(names: Iterable[str]) -> set[tuple[str, int]]:
    """Returns the names and steps of the pictures of which both files are in a list of files."""
    return {step_of(name) for name in names if re.search(r"\+step\+\d+\+.*\.png$", name)}
