"""Reads CelebAMask-HQ as it ships: 1024 px photographs, a 512 px mask for each visible part.

Its `l_` is the subject's left, as in the label set.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sharding.layouts.raw import (
    IMAGE_SUFFIXES,
    Item,
    Layout,
    Listing,
    RawSample,
    fetched,
    listed,
    read_mask,
    read_photo,
    read_text,
    where_else,
    without,
)
from sharding.layouts.splits import RULES, listed_items, read_split_file, shuffled_split
from sharding.manifest import Rejection, Scale
from sharding.storage.s3 import Bucket
from stn_icnn.decoding import FileReader, MissingFileError, RejectedError
from stn_icnn.labels import LabelSet
from stn_icnn.storage import ReadableLocation

SIZE_PX: Final = 512
IMAGES: Final = "CelebA-HQ-img"
MASKS: Final = "CelebAMask-HQ-mask-anno"
CUT: Final = 128
"""The least value of a mask that is of the part, where the mask has others than 0 and 1."""
MOST_BETWEEN: Final = 0.01
"""The share of a mask's pixels above 0 that may lie below 255; with more, the mask is soft."""

MAPPING: Final = "CelebA-HQ-to-CelebA-mapping.txt"

_NUMBER: Final = re.compile("[0-9]{1,9}")
_ID: Final = re.compile("[0-9]{5}|[1-9][0-9]{5,8}")
"""A face's number as it stands in keys and in names of masks."""

PAINTED: Final = {
    "skin": "skin",
    "nose": "nose",
    "eye_g": "glasses",
    "l_eye": "left_eye",
    "r_eye": "right_eye",
    "l_brow": "left_brow",
    "r_brow": "right_brow",
    "l_ear": "left_ear",
    "r_ear": "right_ear",
    "mouth": "inner_mouth",
    "u_lip": "upper_lip",
    "l_lip": "lower_lip",
    "hair": "hair",
    "hat": "hat",
    "ear_r": "earring",
    "neck_l": "necklace",
    "neck": "neck",
    "cloth": "cloth",
}
"""The class of each part, in the official painting order: a later part covers an earlier one.

What a label set lacks is painted as background, so that a hat takes the hair under it away.
"""

_FIRST_VAL, _FIRST_TEST = 162771, 182638  # CelebA's partition, by number of the original file

KNOWN_DEFECTS: Final = {
    "04790": "all masks empty",
    "04995": "wrong skin",
    "00404": "lacks mouth and lips",
    "00481": "lacks hair or hat",
    "13008": "lacks hair or hat",
    "17586": "lacks hair or hat",
    "02110": "not aligned",
    **dict.fromkeys(("09150", "09895", "15587", "02905", "03137"), "not usable"),
}
"""Faces that others found defective, by key, with the reason."""

_FIRST_TWINS = (234, 3329, 5162, 6770, 7384, 7561, 12444, 12885, 13825, 15506, 19199, 20134, 24646)
TWINS: Final = {f"{number + 1:05d}": f"{number:05d}" for number in _FIRST_TWINS}
"""Photographs that the data set has twice: the key of the second of each pair -> the first's."""


def list_items(source: ReadableLocation, rule: str, seed: int, keep_defects: bool) -> Listing:
    """Lists the faces of each split, sorted by id, as `Layout.list_items`.

    A face is rejected if one of its masks lies where `read` does not look for it. Known defects and
    the second of known twins are rejected or, with `keep_defects`, kept with twins in one split.
    Files that a split file does not name are neither listed nor rejected.
    """
    sources, unusable = _list_images(source)
    masks = _list_masks(source)
    without_image, strays = _stray_masks(masks, sources)
    listing = _split(source, sources, rule, seed)
    rejected = [*unusable, *without_image] if rule in RULES else []
    rejected += listing.rejected
    items, found = without(listing.items, strays)
    rejected += found
    if isinstance(source, Bucket):  # a folder answers at once, also what its listing does not show
        items = [_with_parts(item, masks) for item in items]
    if keep_defects:
        return Listing(_twins_together(items), tuple(rejected))
    items, found = without(items, _known_defects(items, sources))
    return Listing(items, (*rejected, *found))


def _split(source: ReadableLocation, sources: Mapping[str, str], rule: str, seed: int) -> Listing:
    unmapped: list[Rejection] = []
    if rule == "paper":
        keys = shuffled_split(sources, seed)
    elif rule == "official":
        keys, unmapped = _official_split(source, sources)
    else:
        keys = read_split_file(rule)
    listing = listed_items(
        keys,
        lambda key: sources.get(key, f"{IMAGES}/{key}.jpg"),
        usable=_ID,
        expected="an id of five digits as 00007",
    )
    return replace(listing, rejected=(*unmapped, *listing.rejected))


def _known_defects(items: Sequence[Item], sources: Mapping[str, str]) -> dict[str, str]:
    """Returns reasons by key: for known defects, and for the second of twins both there."""
    present = {item.key for item in items} & sources.keys()
    twins = {
        key: f"known duplicate: of {first}" for key, first in TWINS.items() if first in present
    }
    return twins | {key: f"known defect: {why}" for key, why in KNOWN_DEFECTS.items()}


def _twins_together(items: Sequence[Item]) -> list[Item]:
    """Puts the second of each pair of twins into the split of the first."""
    split_of = {item.key: item.split for item in items}
    return [
        replace(item, split=split_of.get(TWINS.get(item.key, ""), item.split)) for item in items
    ]


def _with_parts(item: Item, masks: Container[str]) -> Item:
    """Adds the parts of which there are masks, so that no other is asked for."""
    parts = (part for part in PAINTED if mask_path(int(item.key), part) in masks)
    return replace(item, parts=tuple(parts))


def read(source: ReadableLocation, item: Item, label_set: LabelSet) -> RawSample:
    """Reads one face at 512 x 512; raises RejectedError."""
    parts = PAINTED if item.parts is None else item.parts
    masks = {part: mask_path(int(item.key), part) for part in parts}
    with fetched(source, [item.source, *masks.values()]) as files:
        photo = read_photo(files, item.source)
        require_square(*photo.image.size)
        return photo.with_labels(*_paint_labels(files, item, masks, label_set))


def require_square(width: int, height: int) -> None:
    """Refuses a photograph that is none of CelebAMask-HQ's by its size; raises RejectedError."""
    if width != height or width < SIZE_PX:
        raise RejectedError(
            f"image of another shape: must be square and at least {SIZE_PX} x {SIZE_PX}, "
            f"got {width} x {height}"
        )


def mask_path(number: int, part: str) -> str:
    """Returns the path of a part's mask, for the face of a number; `part` may be a pattern."""
    return f"{MASKS}/{number // 2000}/{number:05d}_{part}.png"


def _paint_labels(
    files: FileReader, item: Item, masks: Mapping[str, str], label_set: LabelSet
) -> tuple[NDArray[np.uint8], bool]:
    """Paints the parts (part -> path) over one another.

    Returns:
        The labels, uint8 [512, 512], class ids; and whether a mask of them is soft.
    """
    labels = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    num_masks, has_soft_masks = 0, False
    for part, path in masks.items():
        try:
            mask = read_mask(files, path, part, (SIZE_PX, SIZE_PX))
        except MissingFileError:  # a part that is not seen has no file
            continue
        inside, is_soft = _cut_mask(mask, part)
        labels[inside] = label_set.class_id.get(PAINTED[part], 0)
        num_masks += 1
        has_soft_masks |= is_soft
    if not num_masks:
        raise RejectedError(f"no masks: no {mask_path(int(item.key), '*')}")
    return labels, has_soft_masks


def _cut_mask(mask: NDArray[np.uint8], part: str) -> tuple[NDArray[np.bool_], bool]:
    """Makes two values of a mask's: 0 and 1 as they are, any others cut at 128.

    A mask that went through JPEG or a smooth filter has values between 0 and 255 around its part,
    and low ones are not of the part.

    Args:
        mask: uint8 [H, W].
        part: its name in the reason of a rejection.

    Returns:
        Where the part is, bool [H, W]; and whether the mask is soft.

    Raises:
        RejectedError: its greatest value is neither 1 nor at least 128.
    """
    greatest = int(mask.max())
    if greatest <= 1:
        return mask > 0, False
    if greatest < CUT:
        raise RejectedError(
            f"mask values not usable: {part} must have 0 and 255, or 0 and 1, got 0 to {greatest}"
        )
    num_above_0 = np.count_nonzero(mask)
    num_between = num_above_0 - np.count_nonzero(mask == 255)
    return mask >= CUT, bool(num_between > MOST_BETWEEN * num_above_0)


def _list_masks(source: ReadableLocation) -> frozenset[str]:
    """Lists the paths of all masks.

    Raises:
        ValueError: there are none.
    """
    masks = frozenset(listed(source, MASKS))
    if not masks:
        raise ValueError(
            f"no masks at {source.url_of(MASKS)}: --source must hold {MASKS}/0/00000_skin.png ..."
            f"{where_else(source, MASKS)}"
        )
    return masks


def _list_images(source: ReadableLocation) -> tuple[dict[str, str], list[Rejection]]:
    """Finds the image of each key (the id in five digits), by id, and images without such an id."""
    found: dict[str, str] = {}
    rejected = []
    paths = listed(source, IMAGES, IMAGE_SUFFIXES)
    for path in sorted(paths, key=lambda path: (len(path), path)):  # 7.jpg before 00007.jpg
        name = PurePosixPath(path)
        if str(name.parent) != IMAGES or not _NUMBER.fullmatch(name.stem):
            rejected.append(Rejection(path, f"name not usable: expected {IMAGES}/NUMBER.jpg"))
            continue
        key = f"{int(name.stem):05d}"
        if key in found:
            rejected.append(Rejection(path, f"same id twice: as {found[key]}"))
        else:
            found[key] = path
    if not found:
        raise ValueError(
            f"no images at {source.url_of(IMAGES)}: --source must hold {IMAGES}/0.jpg ... "
            f"and {MASKS}/0/00000_skin.png ...{where_else(source, IMAGES)}"
        )
    return dict(sorted(found.items())), rejected


def _stray_masks(
    masks: frozenset[str], keys: Container[str]
) -> tuple[list[Rejection], dict[str, str]]:
    """Finds masks that no face would be read with.

    Returns:
        Rejections of masks without an image, one a face. And by key a reason to reject each face
        that has a mask where `read` does not look for it: it would be taken to lack that part.
    """
    alone = set()
    strays: dict[str, str] = {}
    for path in sorted(masks):
        name = PurePosixPath(path)
        number, _, part = name.stem.partition("_")
        key = f"{int(number):05d}" if _NUMBER.fullmatch(number) else number
        expected = f"{MASKS}/{int(key) // 2000}/{key}_{part.lower()}.png" if key in keys else ""
        if not expected and name.suffix.lower() == ".png":
            alone.add(f"{name.parent}/{number}_*.png")
        elif expected and part.lower() in PAINTED and expected not in masks:
            in_order = name.name == PurePosixPath(expected).name
            kind = "mask in the wrong folder" if in_order else "mask name not usable"
            strays.setdefault(key, f"{kind}: {path}, expected {expected}")
    no_image = [Rejection(where, "masks without an image: no such id") for where in sorted(alone)]
    return no_image, strays


def _official_split(
    source: ReadableLocation, sources: Mapping[str, str]
) -> tuple[dict[str, list[str]], list[Rejection]]:
    """Splits by CelebA's own partition, through the mapping file; rejects images not in it.

    The partition goes by `orig_file`; `orig_idx` beside it counts from 0 and is off by one.
    """
    where = source.url_of(MAPPING)
    lines = read_text(source, MAPPING, f"--split official needs {where}").splitlines()
    original: dict[str, int] = {}
    for number, line in enumerate(filter(str.strip, lines)):
        row = re.fullmatch(r"\s*(\d+)\s+\d+\s+(\d+)\.\w+\s*", line)
        if not row:
            if number == 0 and not line.lstrip()[0].isdigit():  # a header, which copies may lack
                continue
            raise ValueError(f"{where}: expected '<idx> <orig_idx> <orig_file>', got {line!r}")
        original[f"{int(row[1]):05d}"] = int(row[2])
    if original.keys().isdisjoint(sources):
        raise ValueError(
            f"{where} has a line for none of the {len(sources)} images, expected "
            f"'<idx> <orig_idx> <orig_file>' with the number of {next(iter(sources.values()))} "
            "as idx: take the mapping file of this archive"
        )
    unmapped: list[Rejection] = []
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for key, path in sources.items():
        if key not in original:
            reason = f"not in the mapping file: no line of {MAPPING} has idx {int(key)}"
            unmapped.append(Rejection(path, reason))
            continue
        number = original[key]
        name = "train" if number < _FIRST_VAL else "val" if number < _FIRST_TEST else "test"
        split[name].append(key)
    return split, unmapped


LAYOUT: Final = Layout(
    "celebamask",
    Scale(SIZE_PX, "exact"),
    list_items,
    read,
    tuple(PAINTED.values()),
    split_rules=RULES,
)
