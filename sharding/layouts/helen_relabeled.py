"""Reads Relabeled HELEN (Lin et al., CVPR 2019): photographs with one label map each.

Its "left" is the viewer's, the label set's is the subject's: brows and eyes change sides here. Of
the test faces the folder `test` is read, which has them at their original sizes; `test_resize` has
the same faces reduced, as all are that are too large.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from sharding.layouts.helen import MAPS
from sharding.layouts.pairs import Naming, list_folders, read_in_folder
from sharding.layouts.raw import MAX_SIDE_PX, Layout, Listing
from sharding.layouts.splits import shuffled_split
from sharding.manifest import Scale
from stn_icnn.storage import ReadableLocation

FOLDERS: Final = {
    folder: Naming(folder, folder, "_image", "_label", passed_over=("_label", "_viz"))
    for folder in ("train", "test")
}
RULES: Final = ("official",)
VAL_SHARES: Final = (9, 1, 0)
"""The shares of `train` that are trained on and validated on: about HELEN's own 2,000 and 230."""


def list_items(source: ReadableLocation, rule: str, seed: int, keep_defects: bool) -> Listing:
    """Lists the faces of each split: `train`, a tenth of which is val, and `test`; or a file's."""
    return list_folders(source, rule, RULES, FOLDERS, partial(_split, seed=seed))


def _split(names: Mapping[str, Sequence[str]], seed: int) -> dict[str, Sequence[str]]:
    """Takes a tenth of the training faces for validation, by a seeded shuffle."""
    return {**shuffled_split(names["train"], seed, VAL_SHARES), "test": names["test"]}


LAYOUT: Final = Layout(
    "helen-relabeled",
    Scale(MAX_SIDE_PX, "at_most"),
    list_items,
    partial(read_in_folder, FOLDERS, MAPS),
    MAPS[1:],
    split_rules=RULES,
)
