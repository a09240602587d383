"""Reads LaPa as it ships: a folder a split, of photographs with one label map each.

Its "left" is the viewer's, the label set's is the subject's: brows and eyes change sides here. Its
landmarks, some of which are wrong, are not read.
"""

from functools import partial
from typing import Final

from sharding.layouts.helen import MAPS
from sharding.layouts.pairs import Naming, list_folders, read_in_folder
from sharding.layouts.raw import MAX_SIDE_PX, Layout, Listing
from sharding.layouts.splits import SPLITS
from sharding.manifest import Scale
from stn_icnn.storage import ReadableLocation

IDS: Final = MAPS
"""The classes of the ids 0 to 10, which are those of HELEN's maps."""

FOLDERS: Final = {split: Naming(f"{split}/images", f"{split}/labels") for split in SPLITS}
RULES: Final = ("official",)


def list_items(source: ReadableLocation, rule: str, seed: int, keep_defects: bool) -> Listing:
    """Lists the faces of each split: the data set's own folders, or a split file's names."""
    return list_folders(source, rule, RULES, FOLDERS, dict)


LAYOUT: Final = Layout(
    "lapa",
    Scale(MAX_SIDE_PX, "at_most"),
    list_items,
    partial(read_in_folder, FOLDERS, IDS),
    IDS[1:],
    split_rules=RULES,
)
