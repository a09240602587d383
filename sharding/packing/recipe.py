"""The settings by which a raw data set becomes shards."""

from dataclasses import dataclass
from typing import Final

from sharding.packing.writer import LAYOUTS
from stn_icnn.label_set_file import label_set_of
from stn_icnn.label_sets import PAPER9
from stn_icnn.labels import LabelSet

SHARD_SIZE: Final = 256
MAX_REJECTED: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings that decide which item goes into which shard.

    Attributes:
        layout: a key of `LAYOUTS`.
        labels: the label set of the shards, as `label_set_of` takes it.
        split: a rule of the layout's, its first where this is empty; or a JSON file
            `{"train": [KEY, ...], "val": ..., "test": ...}`.
        limit: about how many items to take in all, in proportion from every split.
        shard_size: number of items of a shard.
        seed: the seed of the shuffle that makes splits where the data set has none.
        known_defects: whether CelebAMask-HQ's known defects are rejected (`drop`) or not (`keep`).
        max_rejected: the share of items that may be rejected, 0 to 1.
    """

    layout: str
    labels: str = PAPER9.name
    split: str = ""
    limit: int | None = None
    shard_size: int = SHARD_SIZE
    seed: int = 0
    known_defects: str = "drop"
    max_rejected: float = MAX_REJECTED

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("layout", self.layout in LAYOUTS, f"one of {', '.join(LAYOUTS)}"),
            ("limit", self.limit is None or self.limit >= 1, "at least 1"),
            ("shard_size", self.shard_size >= 1, "at least 1"),
            ("known_defects", self.known_defects in ("drop", "keep"), "drop or keep"),
            ("max_rejected", 0 <= self.max_rejected <= 1, "a share from 0 to 1"),
        ):
            if not holds:
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")
        names = self.label_set.class_names[1:]
        raw = LAYOUTS[self.layout].classes or names
        if lacking := [name for name in names if name not in raw]:
            raise ValueError(
                f"--labels must name classes that {self.layout} has ({', '.join(raw)}), got "
                f"{', '.join(lacking)}"
            )

    @property
    def label_set(self) -> LabelSet:
        """The label set of the shards: the paper's, for all that have its classes and parts."""
        given = label_set_of(self.labels)
        theirs, ours = ((one.class_names, one.colours, one.parts) for one in (given, PAPER9))
        return PAPER9 if theirs == ours else given

    @property
    def split_rule(self) -> str:
        """The rule or file that decides which item goes into which split."""
        return self.split or LAYOUTS[self.layout].split_rules[0]
