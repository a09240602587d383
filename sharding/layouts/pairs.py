"""Lists raw data sets of photographs that have one label map each, matched by name."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sharding.layouts.label_maps import StoredMap, labels_by_ids, read_label_map, reduced
from sharding.layouts.raw import (
    IMAGE_SUFFIXES,
    Item,
    Listing,
    RawSample,
    fetched,
    fitted,
    listed,
    read_photo,
    require_size,
    where_else,
    without,
)
from sharding.layouts.splits import IN_SPLIT_FILE, SPLITS, listed_items, read_split_file
from sharding.manifest import Rejection
from stn_icnn.labels import LabelSet
from stn_icnn.storage import ReadableLocation

UNUSABLE: Final = "name not usable"
"""The kind of reason for which an image of another name is rejected."""


@dataclass(frozen=True)
class Naming:
    """The folders of photographs and of their label maps, and how files are named there.

    Attributes:
        images: the folder of the photographs.
        masks: the folder of the label maps.
        image_ending: what stands between a photograph's name and its extension.
        mask_ending: likewise, of a label map.
        passed_over: endings of other images in the folder of the photographs.
    """

    images: str
    masks: str
    image_ending: str = ""
    mask_ending: str = ""
    passed_over: tuple[str, ...] = ()

    def image_path(self, name: str) -> str:
        """Returns the path that the photograph of a name has as a JPEG."""
        return f"{self.images}/{name}{self.image_ending}.jpg"

    def mask_path(self, name: str) -> str:
        """Returns the path of the label map of a name."""
        return f"{self.masks}/{name}{self.mask_ending}.png"


@dataclass(frozen=True)
class Pairs:
    """The photographs of one folder or several.

    Attributes:
        images: the path of each photograph, by its name.
        masks: the paths of all label maps.
        reasons: by name, why a photograph is rejected before it is read.
        rejected: files of no such photograph.
    """

    images: Mapping[str, str]
    masks: tuple[str, ...]
    reasons: Mapping[str, str]
    rejected: tuple[Rejection, ...]


def find_pairs(source: ReadableLocation, naming: Naming) -> Pairs:
    """Lists photographs and label maps that are named alike.

    Photographs without a label map are left to be rejected when they are read.
    """
    paths, rejected = _images_by_name(source, naming)
    reasons = {
        name: f"same name twice: {' and '.join(some)}, either may be the mask's"
        for name, some in paths.items()
        if len(some) > 1
    }
    masks = [
        path
        for path in listed(source, naming.masks, IMAGE_SUFFIXES)
        if PurePosixPath(path).stem.endswith(naming.mask_ending)
    ]
    there = {*masks}
    for path in masks:
        file = PurePosixPath(path)
        name = file.stem.removesuffix(naming.mask_ending)
        expected = naming.mask_path(name)
        if name not in paths and file.suffix.lower() == ".png":
            reason = f"masks without an image: no {naming.image_path(name)}"
            rejected.append(Rejection(path, reason))
        elif name in paths and expected not in there:
            reasons.setdefault(name, f"mask name not usable: {path}, expected {expected}")
    images = {name: some[0] for name, some in paths.items()}
    return Pairs(images, tuple(masks), reasons, tuple(rejected))


def require_pairs(source: ReadableLocation, naming: Naming, pairs: Pairs) -> None:
    """Refuses a folder without photographs, or in which none has its label map.

    Raises:
        ValueError: saying what is expected where, and what there is.
    """
    if not pairs.images:
        expected, of_mask = (
            source.url_of(path) for path in (naming.image_path("NAME"), naming.mask_path("NAME"))
        )
        others = [one.source for one in pairs.rejected if one.kind == UNUSABLE]
        got = f"; there is {source.url_of(others[0])}" if others else ""
        raise ValueError(
            f"no photographs at {source.url_of(naming.images)}: expected {expected} (or .jpeg, "
            f".png) and {of_mask}{got or where_else(source, naming.images)}"
        )
    if {*pairs.masks}.isdisjoint(map(naming.mask_path, pairs.images)):
        name, image = next(iter(pairs.images.items()))
        got = f"there is {source.url_of(pairs.masks[0])}" if pairs.masks else "there is none"
        raise ValueError(
            f"no photograph has its mask in {source.url_of(naming.masks)}: {image} needs "
            f"{source.url_of(naming.mask_path(name))}, but {got}"
        )


def list_folders(
    source: ReadableLocation,
    rule: str,
    rules: Sequence[str],
    folders: Mapping[str, Naming],
    split: Callable[[Mapping[str, Sequence[str]]], Mapping[str, Sequence[str]]],
) -> Listing:
    """Lists a data set that comes in several folders, whose names are those of splits.

    Args:
        source: where it lies.
        rule: one of `rules`, or a split file.
        rules: the rules that go by the folders, of which each must then be there.
        folders: the naming of files by folder.
        split: makes names of photographs by split of those by folder.

    Raises:
        ValueError: photographs or masks are missing altogether, or the split file is none.
    """
    found = {folder: find_pairs(source, naming) for folder, naming in folders.items()}
    by_folder = rule in rules
    some_there = any(pairs.images for pairs in found.values())
    for folder, pairs in found.items():
        if by_folder or pairs.images or not some_there:
            require_pairs(source, folders[folder], pairs)
    pairs = _joined(found.values())
    image_path = next(iter(folders.values())).image_path
    if not by_folder:
        return listing_of(pairs, read_split_file(rule, rules), IN_SPLIT_FILE, image_path)
    names = {
        folder: [name for name, path in sorted(one.images.items()) if pairs.images[name] == path]
        for folder, one in found.items()
    }
    where = {name: folders.get(name, folders["train"]).images for name in SPLITS}
    return listing_of(pairs, split(names), where, image_path)


def _joined(pairs: Iterable[Pairs]) -> Pairs:
    """Joins the photographs of several folders; of two of one name the later folder's stays."""
    images: dict[str, str] = {}
    masks: list[str] = []
    reasons: dict[str, str] = {}
    rejected: list[Rejection] = []
    for some in pairs:
        for name in sorted(images.keys() & some.images.keys()):
            reason = f"same name twice: as {some.images[name]}"
            rejected.append(Rejection(images[name], reason))
            reasons.pop(name, None)
        images |= some.images
        masks += some.masks
        reasons |= some.reasons
        rejected += some.rejected
    return Pairs(images, tuple(masks), reasons, tuple(rejected))


def listing_of(
    pairs: Pairs,
    keys: Mapping[str, Sequence[str]],
    where: Mapping[str, str],
    image_path: Callable[[str], str],
) -> Listing:
    """Returns the items of the photographs that each split holds.

    Args:
        pairs: all photographs.
        keys: names of photographs, by split.
        where: by split, the list or folder that holds its keys. What a split file, which is
            `IN_SPLIT_FILE`, does not name is neither listed nor rejected.
        image_path: returns the path that a photograph which is not there would have.
    """
    listing = listed_items(keys, lambda key: pairs.images.get(key, image_path(key)), where=where)
    items, found = without(listing.items, pairs.reasons)
    unnamed = () if where is IN_SPLIT_FILE else pairs.rejected
    return Listing(items, (*unnamed, *listing.rejected, *found))


def read_pair(
    source: ReadableLocation,
    item: Item,
    mask: str,
    labels_of: Callable[[StoredMap], NDArray[np.uint8]],
) -> RawSample:
    """Reads a photograph with its label map, both reduced where a side exceeds 1024.

    Args:
        source: where they lie.
        item: the photograph.
        mask: path of the label map.
        labels_of: makes class ids, uint8 [H, W], of the label map.

    Raises:
        RejectedError: one of them cannot be used.
    """
    with fetched(source, [item.source, mask]) as files:
        photo = read_photo(files, item.source)
        stored = read_label_map(files, mask)
    require_size(stored.size, mask, photo.image.size, " as its image")
    return photo.with_labels(reduced(labels_of(stored), fitted(*photo.image.size)))


def read_in_folder(
    folders: Mapping[str, Naming],
    classes: Sequence[str],
    source: ReadableLocation,
    item: Item,
    label_set: LabelSet,
) -> RawSample:
    """Reads a photograph with its label map of ids, both reduced where a side exceeds 1024.

    Args:
        folders: the naming of files by the folder that a photograph's path begins with.
        classes: names of the classes of the ids 0, 1, ...
        source: where they lie.
        item: the photograph.
        label_set: the classes of the labels; what it lacks is background.

    Raises:
        RejectedError: one of them cannot be used.
    """
    mask = folders[PurePosixPath(item.source).parts[0]].mask_path(item.key)
    return read_pair(source, item, mask, lambda stored: labels_by_ids(stored, classes, label_set))


def _images_by_name(
    source: ReadableLocation, naming: Naming
) -> tuple[dict[str, list[str]], list[Rejection]]:
    """Finds the photographs of each name, and images that are named otherwise."""
    paths: dict[str, list[str]] = defaultdict(list)
    rejected = []
    below = f"{source.url_of(naming.masks)}/" if naming.masks != naming.images else None
    for path in listed(source, naming.images, IMAGE_SUFFIXES):
        file = PurePosixPath(path)
        if below is not None and source.url_of(path).startswith(below):
            continue  # masks that lie in a folder inside that of the photographs
        if str(file.parent) == naming.images and file.stem.endswith(naming.image_ending):
            paths[file.stem.removesuffix(naming.image_ending)].append(path)
        elif not file.stem.endswith(naming.passed_over):
            reason = f"{UNUSABLE}: expected {naming.image_path('NAME')}"
            rejected.append(Rejection(path, reason))
    return dict(paths), rejected
