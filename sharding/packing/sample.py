"""Writes, measures and reads samples: KEY.jpg, KEY.png and KEY.json in a tar.

KEY.jpg: RGB. KEY.png: mode L, the label map, of the image's size. KEY.json: `source`
(relative to the raw root), `dataset`, `width`, `height`, `original_width`, `original_height`, and
`parts`: for each part present its `[cx, cy, x0, y0, x1, y1, pixels]` in pixels of KEY.jpg.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sharding.layouts.raw import Item, RawSample
from sharding.manifest import Sides
from stn_icnn.archives import open_tar, read_member
from stn_icnn.labels import LabelSet

MEMBERS: Final = ("jpg", "json", "png")
JPEG_QUALITY: Final = 95


def encode_sample(
    item: Item, raw: RawSample, parts: Mapping[str, Sequence[float]], dataset: str
) -> dict[str, bytes]:
    """Encodes the three members of a sample, by extension; equal samples give equal bytes.

    Args:
        item: names the sample's source.
        raw: the image and labels that were read there.
        parts: the result of `measure_parts`.
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
    jpeg = raw.jpeg or encode_image(raw.image, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return {
        "jpg": jpeg,
        "json": json.dumps(info).encode(),
        "png": encode_image(Image.fromarray(raw.labels), "PNG"),
    }


def measure_parts(labels: NDArray[np.uint8], label_set: LabelSet) -> dict[str, list[float]]:
    """Measures the location and size of each part that is present.

    Convention: (x, y) in pixels, a pixel's centre at +0.5; of the box, (x0, y0) is inclusive and
    (x1, y1) exclusive, so that x1 - x0 is its width.

    Args:
        labels: uint8 [H, W], class ids.
        label_set: the classes and the parts.

    Returns:
        Part name -> `[cx, cy, x0, y0, x1, y1, pixels]`; the centroid (cx, cy) of all its classes'
        pixels to three decimals, the rest whole numbers.
    """
    parts: dict[str, list[float]] = {}
    for part, classes in zip(label_set.parts, label_set.part_classes, strict=True):
        is_in_part = np.zeros(label_set.num_classes, np.bool_)
        is_in_part[list(classes)] = True
        inside = is_in_part[labels]
        # Counts along each axis are enough, and quicker than coordinates.
        counts = [np.count_nonzero(inside, axis=axis) for axis in (0, 1)]
        pixels = int(counts[0].sum())
        if not pixels:
            continue
        spans = [np.flatnonzero(along) for along in counts]
        centroid = [round(float(c @ np.arange(len(c))) / pixels + 0.5, 3) for c in counts]
        box = [int(s[0]) for s in spans] + [int(s[-1]) + 1 for s in spans]
        parts[part.name] = [*centroid, *box, pixels]
    return parts


def count_classes(labels: NDArray[np.uint8], label_set: LabelSet) -> NDArray[np.int64]:
    """Returns the number of pixels of each class, int64 [C], of labels, uint8 [H, W]."""
    return np.bincount(labels.ravel(), minlength=label_set.num_classes)[: label_set.num_classes]


def count_sides(
    faces: Iterable[Mapping[str, Sequence[float]]], label_set: LabelSet
) -> dict[str, Sides]:
    """Counts on which side the left part of each pair lies, of the `parts` of some faces."""
    seen: dict[str, list[bool]] = {pair: [] for pair in label_set.part_pairs}
    for parts in faces:
        for pair, are_right in seen.items():
            left, right = map(parts.get, label_set.part_pairs[pair])
            if left and right:
                are_right.append(left[0] > right[0])
    return {pair: Sides(sum(are_right), len(are_right)) for pair, are_right in seen.items()}


def added_sides(counts: Sequence[Mapping[str, Sides]], label_set: LabelSet) -> dict[str, Sides]:
    """Adds up several results of `count_sides`."""
    return {
        pair: Sides(sum(one[pair].right for one in counts), sum(one[pair].both for one in counts))
        for pair in label_set.part_pairs
    }


def read_members(file: BinaryIO) -> Iterator[tuple[str, str, bytes]]:
    """Yields (key, extension, bytes) of every member of a shard, in order.

    It uses tarfile, not webdataset, whose import brings torch along.
    """
    with open_tar(file) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            yield key, extension, read_member(tar, member)


def read_samples(file: BinaryIO) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields (key, members by extension) of every sample of a sound shard, in order."""
    for key, members in groupby(read_members(file), itemgetter(0)):
        yield key, {extension: data for _, extension, data in members}


def encode_image(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """Returns the bytes of an image's file; format and options as Pillow takes them."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()
