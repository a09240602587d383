"""Reads HELEN as Smith et al. (CVPR 2013) ship it: photographs with eleven soft label maps each.

Its "left" is the viewer's, the label set's is the subject's: brows and eyes change sides here.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sharding.layouts.raw import (
    IMAGE_SUFFIXES,
    MAP_FILTER,
    MAX_SIDE_PX,
    Item,
    Layout,
    Listing,
    RawSample,
    fetched,
    fitted,
    listed,
    read_mask,
    read_photo,
    read_text,
    where_else,
)
from sharding.layouts.splits import RULES, listed_items, read_split_file
from sharding.manifest import Rejection, Scale
from stn_icnn.decoding import FileReader, MissingFileError, RejectedError
from stn_icnn.labels import LabelSet
from stn_icnn.storage import ReadableLocation

LISTS: Final = {"train": "exemplars.txt", "val": "tuning.txt", "test": "testing.txt"}

MAPS: Final = (
    "background", "skin", "right_brow", "left_brow", "right_eye", "left_eye", "nose", "upper_lip",
    "inner_mouth", "lower_lip", "hair",
)  # fmt: skip
"""The classes of lbl00 ... lbl10."""

MOST_CERTAINTY: Final = len(MAPS) / 2
"""The most that the maps of a face may add up to on average, where 1 is right. Inverted maps add up
to one less than their number, and would give labels along borders alone."""


def list_items(source: ReadableLocation, rule: str, seed: int, keep_defects: bool) -> Listing:
    """Lists the faces of each split: the data set's lists (`paper`, `official`) or a split file's.

    Photographs that no list names, or could name, are rejected; so are labels without an image.
    Files that a split file does not name are neither listed nor rejected.
    """
    images, folders = _list_images(source), _list_label_folders(source)
    if rule not in RULES:
        return listed_items(read_split_file(rule), image_path)
    names = {split: _read_list(source, name) for split, name in LISTS.items()}
    listing = listed_items(names, image_path, where=LISTS)
    named = {name for some in names.values() for name in some}
    unnamed = _unnamed_images(images, named)
    _require_lists(source, names, unnamed)
    stray = _stray_labels(folders, named.union(PurePosixPath(path).stem for path in images))
    return Listing(listing.items, (*unnamed, *stray, *listing.rejected))


def _list_images(source: ReadableLocation) -> list[str]:
    images = listed(source, "images", IMAGE_SUFFIXES)
    if not images:
        raise ValueError(
            f"no images at {source.url_of('images')}: --source must hold HELEN"
            f"{where_else(source, 'images')}"
        )
    return images


def _list_label_folders(source: ReadableLocation) -> set[str]:
    """Lists the names of the folders that hold label maps.

    Raises:
        ValueError: there are none.
    """
    paths = (PurePosixPath(path).parts for path in listed(source, "labels", (".png",)))
    folders = {parts[1] for parts in paths if len(parts) > 2}
    if not folders:
        raise ValueError(
            f"no label maps at {source.url_of('labels')}: --source must hold "
            f"{map_path('NAME', 'lbl00')} ...{where_else(source, 'labels')}"
        )
    return folders


def _require_lists(
    source: ReadableLocation, names: Mapping[str, Sequence[str]], unnamed: Sequence[Rejection]
) -> None:
    """Refuses a list without a name where there are photographs that no list names.

    Raises:
        ValueError: naming it.
    """
    for split, some in names.items():
        if not some and unnamed:
            raise ValueError(
                f"{source.url_of(LISTS[split])} is empty, and {len(unnamed)} photographs are in no "
                "list: restore it, or name the photographs in a split file (--split FILE)"
            )


def _unnamed_images(images: Iterable[str], named: Container[str]) -> list[Rejection]:
    """Rejects the photographs that no item is read from."""
    rejected = []
    for path in images:
        name = PurePosixPath(path).stem
        if name not in named:
            reason = f"image in no list: not in {', '.join(LISTS.values())}"
            rejected.append(Rejection(path, reason))
        elif path != image_path(name):
            rejected.append(Rejection(path, f"name not usable: expected {image_path(name)}"))
    return rejected


def _stray_labels(folders: set[str], names: set[str]) -> list[Rejection]:
    """Rejects the folders of label maps whose names are not among these."""
    return [
        Rejection(f"labels/{name}", f"labels without an image: no {image_path(name)}")
        for name in sorted(folders - names)
    ]


def image_path(name: str) -> str:
    """Returns the path of the photograph of a name."""
    return f"images/{name}.jpg"


def map_path(name: str, part: str) -> str:
    """Returns the path of a label map, `lbl00` to `lbl10`, for the face of a name."""
    return f"labels/{name}/{name}_{part}.png"


def read(source: ReadableLocation, item: Item, label_set: LabelSet) -> RawSample:
    """Reads one face at its own size, reduced where a side exceeds 1024; raises RejectedError."""
    parts = [f"lbl{index:02d}" for index in range(len(MAPS))]
    maps = {part: map_path(item.key, part) for part in parts}
    with fetched(source, [item.source, *maps.values()]) as files:
        photo = read_photo(files, item.source)
        original_size = photo.image.size
        width, height = fitted(*original_size)
        # One map at a time: eleven float copies of a large original would fill the memory.
        best = np.full((height, width), -1, np.int16)
        labels, total = np.zeros((height, width), np.uint8), 0.0
        for name, (part, path) in zip(MAPS, maps.items(), strict=True):
            soft = _read_soft_map(files, path, part, original_size, (width, height))
            labels[soft > best] = label_set.class_id.get(name, 0)
            best = np.maximum(best, soft)
            total += float(soft.mean()) / 255
    if total > MOST_CERTAINTY:
        raise RejectedError(
            f"maps not usable: they add up to {total:.1f} a pixel, must to 1: are they inverted?"
        )
    return photo.with_labels(labels)


def _read_soft_map(
    files: FileReader, path: str, part: str, image_size: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Reads a soft map (255 = certain) and reduces it to (width, height) `size`: uint8 [H, W]."""
    try:
        soft = read_mask(files, path, part, image_size, " as its image")
    except MissingFileError as error:
        raise RejectedError(f"mask missing: {part}") from error
    if size == image_size:
        return soft
    return np.asarray(Image.fromarray(soft).resize(size, MAP_FILTER))


def _read_list(source: ReadableLocation, name: str) -> list[str]:
    """Reads the names in a list's lines `<index> , <name>`, some of which are blank."""
    where, must_hold = source.url_of(name), f"{', '.join(LISTS.values())}, images/ and labels/"
    text = read_text(source, name, f"no list at {where}: --source must hold {must_hold}")
    names = []
    for line in filter(str.strip, text.splitlines()):
        key = line.partition(",")[2].strip()
        if not key:
            raise ValueError(f"{where}: expected '<index> , <name>', got {line!r}")
        names.append(key)
    return names


LAYOUT: Final = Layout(
    "helen", Scale(MAX_SIDE_PX, "at_most"), list_items, read, MAPS[1:], split_rules=RULES
)
