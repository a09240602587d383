"""The sample contract, written once: KEY.jpg, KEY.png and KEY.json in a tar.

KEY.jpg: RGB. KEY.png: mode L, the canonical label map, of the image's size. KEY.json: `source`
(relative to the raw root), `dataset`, `width`, `height`, `original_width`, `original_height`, and
`parts`: for each part present its `[cx, cy, x0, y0, x1, y1, pixels]` in pixels of KEY.jpg.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sharding.raw import Item, RawSample
from stn_icnn.labels import PARTS

MEMBERS: Final = ("jpg", "json", "png")
JPEG_QUALITY: Final = 95


def encode_sample(item: Item, raw: RawSample, dataset: str) -> dict[str, bytes]:
    """The three members of a sample by extension; the same sample gives the same bytes."""
    info = {
        "source": item.source,
        "dataset": dataset,
        "width": raw.image.width,
        "height": raw.image.height,
        "original_width": raw.original_size[0],
        "original_height": raw.original_size[1],
        "parts": measure_parts(raw.labels),
    }
    return {
        "jpg": raw.jpeg if raw.jpeg is not None else _encode_jpeg(raw.image),
        "json": json.dumps(info).encode(),
        "png": _encode_png(raw.labels),
    }


def measure_parts(labels: NDArray[np.uint8]) -> dict[str, list[float]]:
    """Where each part that is present lies.

    Convention: (x, y) in pixels, a pixel's centre at +0.5; of the box, (x0, y0) is inclusive and
    (x1, y1) exclusive, so that x1 - x0 is its width.

    Args:
        labels: uint8 [H, W], canonical class ids.

    Returns:
        Part name -> `[cx, cy, x0, y0, x1, y1, pixels]`; the centroid (cx, cy) of all its classes'
        pixels to three decimals, the rest whole numbers.
    """
    parts: dict[str, list[float]] = {}
    for part in PARTS:
        ys, xs = np.nonzero(np.isin(labels, part.classes))
        if not xs.size:
            continue
        centroid = [round(float(along.mean()) + 0.5, 3) for along in (xs, ys)]
        box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        parts[part.name] = [*centroid, *box, int(xs.size)]
    return parts


def read_members(file: BinaryIO) -> Iterator[tuple[str, str, bytes]]:
    """(key, extension, bytes) of every member of a shard, in order.

    Uses tarfile, not webdataset, whose import brings torch along.
    """
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            content = tar.extractfile(member)
            yield key, extension, content.read() if content else b""


def read_samples(file: BinaryIO) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, members by extension) of every sample of a sound shard, in order."""
    sample: dict[str, bytes] = {}
    for key, extension, data in read_members(file):
        sample[extension] = data
        if len(sample) == len(MEMBERS):
            yield key, sample
            sample = {}


def _encode_jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return buffer.getvalue()


def _encode_png(labels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()
