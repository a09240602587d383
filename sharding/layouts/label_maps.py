"""Reads label maps: images that hold the class of every pixel, as its id or as its colour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from sharding.layouts.raw import MAP_FILTER, decode_mask, require_opaque
from stn_icnn.decoding import FileReader, MissingFileError, RejectedError
from stn_icnn.labels import LabelSet

Value = TypeVar("Value", int, NDArray[np.int32])

MOST_NAMED: Final = 5
"""The most values or colours that a reason names."""

_GREY_STEP: Final = {"1": 255, "L;2": 85, "L;4": 17}
"""By the raw mode of grey PNGs of 1, 2 and 4 bits, what Pillow multiplies their values by."""

_NONE: Final = -1
"""In place of a colour that a palette lacks."""

_ONLY_PNG: Final = "a JPEG changes ids and colours, PNG keeps them"


@dataclass(frozen=True, eq=False)
class StoredMap:
    """A label map as its file has it, before its values are taken for ids or for colours.

    Attributes:
        path: of its file, for reasons of rejections.
        size: (width, height), px.
        values: uint8 [H, W], which may be ids; None where the file holds colours alone.
        colours: int32 [256], the colour of each value as 0xRRGGBB, -1 where it has none; without
            values int32 [H, W], the colour of each pixel.
    """

    path: str
    size: tuple[int, int]
    values: NDArray[np.uint8] | None
    colours: NDArray[np.int32]


def read_label_map(files: FileReader, path: str) -> StoredMap:
    """Decodes a label map.

    Args:
        files: where its file lies.
        path: the file's path there.

    Raises:
        RejectedError: the file is missing, no PNG, or cannot be used.
    """
    try:
        return decode_mask(files, path, path, partial(_stored_map, path=path))
    except MissingFileError as error:
        raise RejectedError(f"mask missing: no {path}") from error


def labels_by_ids(
    stored: StoredMap, classes: Sequence[str], label_set: LabelSet
) -> NDArray[np.uint8]:
    """Takes the values of a label map for ids.

    Args:
        stored: the label map.
        classes: names of the classes of the ids 0, 1, ...
        label_set: the classes of the labels; what it lacks is background.

    Returns:
        uint8 [H, W], ids of the label set.

    Raises:
        RejectedError: the map has other values, or colours.
    """
    if stored.values is None:
        raise RejectedError(
            f"mask values not usable: {stored.path} must hold ids from 0 to {len(classes) - 1}, in "
            "grey or with a palette, got colours"
        )
    class_of = dict(enumerate(label_set.class_id.get(name, 0) for name in classes))
    return _looked_up(stored, class_of, f"ids from 0 to {len(classes) - 1}")


def labels_by_ids_or_colours(stored: StoredMap, label_set: LabelSet) -> NDArray[np.uint8]:
    """Takes a label map for ids or for colours of a label set, whichever it can be.

    Colours must be met exactly. Where the map can be both, both must mean the same: the indices of
    a palette image may be ids, or say nothing beside its colours.

    Returns:
        uint8 [H, W], ids of the label set.

    Raises:
        RejectedError: it can be neither, or both and they differ.
    """
    class_of_colour = {_packed(*colour): i for i, colour in enumerate(label_set.colours)}
    if stored.values is None:
        return _labels_by_colours(stored, class_of_colour)
    used = np.flatnonzero(_counts(stored.values)).tolist()
    by_id = {value: value for value in used if value < label_set.num_classes}
    by_colour = {
        value: class_of_colour[colour]
        for value in used
        if (colour := int(stored.colours[value])) in class_of_colour
    }
    contrary = [value for value, found in by_colour.items() if found not in (value, 0)]
    are_colours = len(by_colour) == len(used)
    if len(by_id) < len(used):
        expected = f"ids from 0 to {label_set.num_classes - 1}, or colours, of {label_set.name}"
        return _looked_up(stored, by_colour if are_colours else by_id, expected)
    # A palette that happens to have some of the set's colours says nothing.
    if (are_colours and by_colour != by_id) or 2 * len(contrary) > len(used) - (0 in used):
        value = next(value for value in used if by_colour.get(value, value) != value)
        names = label_set.class_names
        raise RejectedError(
            f"mask ambiguous: {stored.path} may be meant by its ids or by its colours: {value} is "
            f"{names[value]} as an id, {names[by_colour[value]]} by its colour; save the colours "
            "as RGB, or the ids in grey"
        )
    return _looked_up(stored, by_id, "ids")


def reduced(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Reduces labels: each pixel gets the class that has most of it, averaged as photographs are.

    Args:
        labels: uint8 [H, W], class ids.
        size: (width, height) of the result.

    Returns:
        uint8 [height, width].
    """
    if labels.shape == size[::-1]:
        return labels
    whole = Image.fromarray(labels)
    best, result = np.zeros(size[::-1], np.uint8), np.zeros(size[::-1], np.uint8)
    for class_id in np.flatnonzero(_counts(labels)):
        inside = whole.point([255 * (value == class_id) for value in range(256)])
        share = np.asarray(inside.resize(size, MAP_FILTER))
        result[share > best] = class_id
        best = np.maximum(best, share)
    return result


def _stored_map(opened: Image.Image, path: str) -> StoredMap:
    """Decodes an opened label map; raises RejectedError, or one of DECODE_ERRORS."""
    if not isinstance(opened, PngImageFile):
        raise RejectedError(f"mask is no PNG: {path} is {opened.format}; {_ONLY_PNG}")
    raw_mode = str(opened.tile[0].args) if opened.tile else ""
    if opened.mode == "P":  # whose transparent colours have indices like any others
        packed = _packed(*np.reshape(opened.getpalette("RGB") or [], (-1, 3)).T.astype(np.int32))
        colours = np.full(256, _NONE, np.int32)
        colours[: len(packed)] = packed
        return StoredMap(path, opened.size, np.asarray(opened), colours)
    require_opaque(opened, path)
    if opened.mode not in ("1", "L", "LA"):
        pixels = np.asarray(opened.convert("RGB"))
        if (pixels != pixels[..., :1]).any():
            colours = _packed(*np.moveaxis(pixels.astype(np.int32), -1, 0))
            return StoredMap(path, opened.size, None, colours)
    step = _GREY_STEP.get(raw_mode, 1)
    colours = _packed(*[np.minimum(np.arange(256, dtype=np.int32) * step, 255)] * 3)
    return StoredMap(path, opened.size, np.asarray(opened.convert("L")) // step, colours)


def _looked_up(stored: StoredMap, class_of: Mapping[int, int], expected: str) -> NDArray[np.uint8]:
    """Returns the class of each value of a label map that has values: uint8 [H, W].

    Args:
        stored: the label map.
        class_of: class ids by value.
        expected: what it must hold, for the reason of a rejection.

    Raises:
        RejectedError: a value has no class.
    """
    assert stored.values is not None
    counts = _counts(stored.values)
    if unknown := {str(v): counts[v] for v in np.flatnonzero(counts) if v not in class_of}:
        raise RejectedError(
            f"mask values not usable: {stored.path} must hold {expected}, got {_named(unknown)}"
        )
    table = np.zeros(256, np.uint8)
    table[list(class_of)] = list(class_of.values())
    return table[stored.values]


def _labels_by_colours(stored: StoredMap, class_of_colour: Mapping[int, int]) -> NDArray[np.uint8]:
    """Returns the class of each pixel of a label map that has colours: uint8 [H, W].

    Raises:
        RejectedError: a pixel has another colour.
    """
    labels = np.zeros(stored.colours.shape, np.uint8)
    is_known = np.zeros_like(labels, np.bool_)
    for colour, class_id in class_of_colour.items():
        inside = stored.colours == colour
        labels[inside] = class_id
        is_known |= inside
    if not is_known.all():
        found = np.unique(stored.colours[~is_known], return_counts=True)
        unknown = {
            f"({c >> 16}, {c >> 8 & 255}, {c & 255})": n for c, n in zip(*found, strict=True)
        }
        raise RejectedError(
            f"mask colours not usable: {stored.path} must hold colours of the label set, exactly, "
            f"got {_named(unknown)}"
        )
    return labels


def _named(counts: Mapping[str, int]) -> str:
    """Returns `11 (3 px), 12 (5 px)`, the most frequent first, and how many more there are."""
    order = sorted(counts, key=lambda name: -counts[name])
    named = [f"{name} ({counts[name]} px)" for name in order[:MOST_NAMED]]
    more = [f"and {len(order) - MOST_NAMED} more"] if len(order) > MOST_NAMED else []
    return ", ".join(named + more)


def _counts(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns the number of pixels of each value, int64 [256]."""
    return np.bincount(values.ravel(), minlength=256)


def _packed(red: Value, green: Value, blue: Value) -> Value:
    """Returns colours, whose channels are 0 to 255, as 0xRRGGBB: whole numbers or arrays."""
    return red << 16 | green << 8 | blue
