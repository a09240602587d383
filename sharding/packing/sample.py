"""The sample contract, written once: KEY.jpg, KEY.png and KEY.json in a tar.

KEY.jpg: RGB. KEY.png: mode L, the canonical label map, of the image's size. KEY.json: `source`
(relative to the raw root), `dataset`, `width`, `height`, `original_width`, `original_height`, and
`parts`: for each part present its `[cx, cy, x0, y0, x1, y1, pixels]` in pixels of KEY.jpg.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sharding.layouts.raw import Item, RawSample
from sharding.manifest import Sides
from stn_icnn.labels import NUM_CLASSES, PARTS

MEMBERS: Final = ("jpg", "json", "png")
JPEG_QUALITY: Final = 95

_IS_IN_PART: Final = {part.name: np.isin(np.arange(NUM_CLASSES), part.classes) for part in PARTS}


def encode_sample(
    item: Item, raw: RawSample, parts: Mapping[str, Sequence[float]], dataset: str
) -> dict[str, bytes]:
    """The three members of a sample by extension; the same sample gives the same bytes.

    Args:
        item: where it comes from.
        raw: what was read there.
        parts: as `measure_parts` found them.
        dataset: the layout's name.
    """
    info = {
        "source": item.source,
        "dataset": dataset,
        "width": raw.image.width,
        "height": raw.image.height,
        "original_width": raw.original_size[0],
        "original_height": raw.original_size[1],
        "parts": parts,
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
        inside = _IS_IN_PART[part.name][labels]
        # Counts along each axis hold all that is asked for, and are sooner had than coordinates.
        counts = [np.count_nonzero(inside, axis=axis) for axis in (0, 1)]
        pixels = int(counts[0].sum())
        if not pixels:
            continue
        spans = [np.flatnonzero(along) for along in counts]
        centroid = [round(float(c @ np.arange(len(c))) / pixels + 0.5, 3) for c in counts]
        box = [int(s[0]) for s in spans] + [int(s[-1]) + 1 for s in spans]
        parts[part.name] = [*centroid, *box, pixels]
    return parts


def count_sides(faces: Iterable[Mapping[str, Sequence[float]]]) -> dict[str, Sides]:
    """Where the left brow and eye lie from the right ones, of the `parts` of some faces."""
    seen: dict[str, list[bool]] = {"brow": [], "eye": []}
    for parts in faces:
        for pair, are_right in seen.items():
            left, right = parts.get(f"left_{pair}"), parts.get(f"right_{pair}")
            if left and right:
                are_right.append(left[0] > right[0])
    return {pair: Sides(sum(are_right), len(are_right)) for pair, are_right in seen.items()}


def added_sides(counts: Iterable[Mapping[str, Sides]]) -> dict[str, Sides]:
    """The sum of several `count_sides`."""
    total = count_sides(())
    for sides in counts:
        total = {
            pair: Sides(total[pair].right + more.right, total[pair].both + more.both)
            for pair, more in sides.items()
        }
    return total


def read_members(file: BinaryIO) -> Iterator[tuple[str, str, bytes]]:
    """(key, extension, bytes) of every member of a shard, in order.

    Uses tarfile, not webdataset, whose import brings torch along.
    """
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            # A link may lead nowhere, and a shard holds none.
            content = tar.extractfile(member) if member.isfile() else None
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
