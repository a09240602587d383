"""Reads a folder of photographs, and another of their label maps, of any label set.

A photograph and its label map have one name. The label map is a PNG of ids, in grey or with a
palette, or of the label set's colours. CelebAMask-HQ's label maps, whose ids circulate in three
orders, are read by these.
"""

from dataclasses import replace
from functools import partial
from typing import Final

from sharding.layouts.celebamask import PAINTED, SIZE_PX, require_square
from sharding.layouts.label_maps import labels_by_ids, labels_by_ids_or_colours, read_label_map
from sharding.layouts.pairs import Naming, find_pairs, listing_of, read_pair, require_pairs
from sharding.layouts.raw import (
    MAX_SIDE_PX,
    Item,
    Layout,
    Listing,
    RawSample,
    fetched,
    read_photo,
    require_size,
)
from sharding.layouts.splits import (
    IN_SPLIT_FILE,
    SPLITS,
    read_split_file,
    shares_of,
    shuffled_split,
)
from sharding.manifest import Scale
from stn_icnn.labels import LabelSet
from stn_icnn.storage import ReadableLocation

NAMING: Final = Naming("images", "masks")
"""The names of the two folders in their source, wherever each lies."""

DEFAULT_SHARES: Final = "8:1:1"

_PARTS: Final = {
    "zllrunning": "skin l_brow r_brow l_eye r_eye eye_g l_ear r_ear ear_r nose mouth u_lip l_lip "
    "neck neck_l cloth hair hat",
    "farl": "neck skin cloth l_ear r_ear l_brow r_brow l_eye r_eye nose mouth l_lip u_lip hair "
    "eye_g hat ear_r neck_l",
}
"""CelebAMask-HQ's parts in the orders of their ids, 1 to 18, where it is not the official one."""

ORDERS: Final = {
    order: ("background", *(PAINTED[part] for part in parts))
    for order, parts in {
        "official": tuple(PAINTED),
        **{order: parts.split() for order, parts in _PARTS.items()},
    }.items()
}
"""The classes of the ids 0 to 18 in label maps of CelebAMask-HQ: as its authors number the parts,
as zllrunning's and yakhyo's face parsing has them, and as FaRL and SegFace do."""


def list_items(source: ReadableLocation, rule: str, seed: int, keep_defects: bool) -> Listing:
    """Lists the photographs of each split, by shares of a seeded shuffle or a split file.

    Raises:
        ValueError: the two folders are one, or one lacks what it must hold.
    """
    if source.url_of(NAMING.images) == source.url_of(NAMING.masks):
        raise ValueError(
            f"--images and --masks must be two folders, got {source.url_of(NAMING.images)} as both"
        )
    pairs = find_pairs(source, NAMING)
    require_pairs(source, NAMING, pairs)
    shares = shares_of(rule)
    if shares is None:
        keys = read_split_file(rule, (f"shares as {DEFAULT_SHARES}",))
        return listing_of(pairs, keys, IN_SPLIT_FILE, NAMING.image_path)
    keys = shuffled_split(pairs.images, seed, shares)
    return listing_of(pairs, keys, dict.fromkeys(SPLITS, NAMING.images), NAMING.image_path)


def read(source: ReadableLocation, item: Item, label_set: LabelSet) -> RawSample:
    """Reads one photograph at its own size, reduced where a side exceeds 1024.

    Raises:
        RejectedError: it or its label map cannot be used.
    """
    mask = NAMING.mask_path(item.key)
    return read_pair(source, item, mask, lambda map_: labels_by_ids_or_colours(map_, label_set))


def read_celebamask(
    order: str, source: ReadableLocation, item: Item, label_set: LabelSet
) -> RawSample:
    """Reads one face of CelebAMask-HQ, whose label map has ids in an order, at 512 x 512.

    Raises:
        RejectedError: it or its label map cannot be used.
    """
    mask = NAMING.mask_path(item.key)
    with fetched(source, [item.source, mask]) as files:
        photo = read_photo(files, item.source)
        require_square(*photo.image.size)
        stored = read_label_map(files, mask)
    require_size(stored.size, mask, (SIZE_PX, SIZE_PX))
    return photo.with_labels(labels_by_ids(stored, ORDERS[order], label_set))


LAYOUT: Final = Layout(
    "folder",
    Scale(MAX_SIDE_PX, "at_most"),
    list_items,
    read,
    classes=None,
    split_rules=(DEFAULT_SHARES,),
    places=(NAMING.images, NAMING.masks),
)

IN_ORDER: Final = {
    f"{LAYOUT.name}:{order}": replace(
        LAYOUT,
        scale=Scale(SIZE_PX, "exact"),
        read=partial(read_celebamask, order),
        classes=classes[1:],
    )
    for order, classes in ORDERS.items()
}
"""The layout's forms for CelebAMask-HQ, by order."""
