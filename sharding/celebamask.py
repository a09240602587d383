"""Reads CelebAMask-HQ as it ships: 1024 px photographs, one 512 px mask a visible part.

Its `l_` is the subject's left, as is ours.
"""

import re
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sharding.manifest import Scale
from sharding.raw import IMAGE_FILTER, Item, Layout, RawSample, RejectedError, read_grey, read_photo
from sharding.splits import keyed_items, read_split_file, shuffled_split
from sharding.storage import Place
from stn_icnn.labels import CLASS_ID

SIZE_PX: Final = 512
IMAGES: Final = "CelebA-HQ-img"
MASKS: Final = "CelebAMask-HQ-mask-anno"
MAPPING: Final = "CelebA-HQ-to-CelebA-mapping.txt"

_BACKGROUND = CLASS_ID["background"]
PAINTED: Final = {
    "skin": CLASS_ID["skin"],
    "nose": CLASS_ID["nose"],
    "eye_g": _BACKGROUND,
    "l_eye": CLASS_ID["left_eye"],
    "r_eye": CLASS_ID["right_eye"],
    "l_brow": CLASS_ID["left_brow"],
    "r_brow": CLASS_ID["right_brow"],
    "l_ear": _BACKGROUND,
    "r_ear": _BACKGROUND,
    "mouth": CLASS_ID["inner_mouth"],
    "u_lip": CLASS_ID["upper_lip"],
    "l_lip": CLASS_ID["lower_lip"],
    "hair": CLASS_ID["hair"],
    "hat": _BACKGROUND,
    "ear_r": _BACKGROUND,
    "neck_l": _BACKGROUND,
    "neck": _BACKGROUND,
    "cloth": _BACKGROUND,
}
"""Canonical class of each part, in the official painting order: a later part covers an earlier one.

What HELEN lacks is painted as background, so that a hat takes the hair under it away.
"""

_FIRST_VAL, _FIRST_TEST = 162771, 182638  # CelebA's partition, by number of the original file


def split_items(source: Place, rule: str, seed: int) -> dict[str, list[Item]]:
    """The items of each split, by id; `rule` is `paper`, `official` or a split file."""
    sources = _list_images(source)
    if rule == "paper":
        keys = shuffled_split(sources, seed)
    elif rule == "official":
        keys = _official_split(source, sources)
    else:
        keys = read_split_file(rule)
    return keyed_items(keys, sources, rule=rule)


def read(source: Place, item: Item) -> RawSample:
    """Reads one face at 512 x 512; raises RejectedError."""
    image, jpeg = read_photo(source, item.source)
    original_size = image.size
    if image.width != image.height or image.width < SIZE_PX:
        raise RejectedError(
            f"image must be square and at least {SIZE_PX} x {SIZE_PX}, "
            f"got {image.width} x {image.height}"
        )
    if image.width > SIZE_PX:
        image, jpeg = image.resize((SIZE_PX, SIZE_PX), IMAGE_FILTER), None
    return RawSample(image, jpeg, _paint_labels(source, int(item.key)), original_size)


def _paint_labels(source: Place, number: int) -> NDArray[np.uint8]:
    """The parts painted over one another, uint8 [512, 512]."""
    labels = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    num_masks = 0
    for part, class_id in PAINTED.items():
        try:
            mask = read_grey(source, f"{MASKS}/{number // 2000}/{number:05d}_{part}.png")
        except FileNotFoundError:  # a part that is not seen has no file
            continue
        if mask.shape != labels.shape:
            raise RejectedError(
                f"mask {part} must be {SIZE_PX} x {SIZE_PX}, got {mask.shape[1]} x {mask.shape[0]}"
            )
        labels[mask > 0] = class_id
        num_masks += 1
    if not num_masks:
        raise RejectedError(f"no masks {number:05d}_*.png under {MASKS}/{number // 2000}")
    return labels


def _list_images(source: Place) -> dict[str, str]:
    """Key (the id in five digits) -> image path, by id."""
    found: dict[str, str] = {}
    for path in source.list(IMAGES):
        stem, suffix = PurePosixPath(path).stem, PurePosixPath(path).suffix.lower()
        if not re.fullmatch(r"\d+", stem) or suffix not in (".jpg", ".jpeg", ".png"):
            continue
        key = f"{int(stem):05d}"
        if key in found:
            raise ValueError(f"{found[key]} and {path} have the same id: remove one")
        found[key] = path
    if not found:
        raise ValueError(
            f"no images at {source.url_of(IMAGES)}: --source must hold {IMAGES}/0.jpg ... "
            f"and {MASKS}/0/00000_skin.png ..."
        )
    return dict(sorted(found.items()))


def _official_split(source: Place, keys: dict[str, str]) -> dict[str, list[str]]:
    """CelebA's own partition, through the mapping file.

    It goes by `orig_file`; `orig_idx`, its neighbour, counts from 0 and is off by one.
    """
    try:
        lines = source.read(MAPPING).decode().splitlines()
    except FileNotFoundError as error:
        raise ValueError(f"--split official needs {source.url_of(MAPPING)}") from error
    original: dict[str, int] = {}
    for line in filter(str.strip, lines[1:]):
        row = re.fullmatch(r"\s*(\d+)\s+\d+\s+(\d+)\.\w+\s*", line)
        if not row:
            raise ValueError(f"{MAPPING}: expected '<idx> <orig_idx> <orig_file>', got {line!r}")
        original[f"{int(row[1]):05d}"] = int(row[2])
    unmapped = [key for key in keys if key not in original]
    if unmapped:
        raise ValueError(f"{len(unmapped)} images are not in {MAPPING}, the first is {unmapped[0]}")
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for key in keys:
        number = original[key]
        name = "train" if number < _FIRST_VAL else "val" if number < _FIRST_TEST else "test"
        split[name].append(key)
    return split


LAYOUT: Final = Layout("celebamask", Scale(SIZE_PX, "exact"), split_items, read)
