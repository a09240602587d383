"""Defines `manifest.json`, which describes a sharded data set; without it there is none."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from sharding.storage.location import Address, open_location
from stn_icnn.label_set_file import label_set_of, labels_text
from stn_icnn.label_sets import PAPER9
from stn_icnn.labels import LabelSet
from stn_icnn.storage import StorageLocation

FORMAT_VERSION: Final = 2
MANIFEST: Final = "manifest.json"
PARTS_FOLDER: Final = ".parts"
"""The folder that holds the records of finished shards until the manifest is written."""

_KEYS: Final = (
    "format_version", "dataset", "scale", "classes", "split_rule", "plan", "num_samples",
    "class_pixels", "sides", "splits", "rejected",
)  # fmt: skip
"""The file's keys in their order, but for the fingerprint behind them."""

_DOUBTS: Final = ("num_soft_masks", "rare_classes")
_OPTIONAL: Final = ("labels", *_DOUBTS)
"""Keys before them that a data set of the paper's classes, without these doubts, does not have: it
keeps the fingerprint that it had before there were any."""

HOW_TO_SHARD: Final = "python -m sharding LAYOUT --source RAW --out OUT (--help has the layouts)"
"""The command that makes a sharded data set, for messages where one is missing."""

_RESTORE: Final = "restore it, or shard the data again"
_RESHARD: Final = "shard the data again, or use the version of this software that wrote it"
"""The ways out of a manifest that cannot be used."""


@dataclass(frozen=True)
class Scale:
    """The working scale of a data set, to which a photograph is fitted before parsing.

    Attributes:
        px: length of a side in pixels.
        fit: `exact`: both sides are `px`; `at_most`: the longer side is `px` at most.
    """

    px: int
    fit: str


@dataclass(frozen=True)
class Shard:
    """One shard: its path in the data set, the file's sha256 and bytes, the number of samples."""

    path: str
    sha256: str
    bytes: int
    samples: int

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts:
            raise TypeError(f"a shard's path must lie in the data set, got {self.path!r}")
        # Copies of shards are named by it.
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise TypeError(f"sha256 must be 64 hexadecimal digits, got {self.sha256!r}")


@dataclass(frozen=True)
class Rejection:
    """A raw image that was left out: its path in the raw data set, and why (`KIND: DETAILS`)."""

    source: str
    reason: str

    @property
    def kind(self) -> str:
        """The kind of reason, by which rejections are counted."""
        return self.reason.partition(":")[0]


@dataclass(frozen=True)
class Sides:
    """Counts of faces by the side on which a pair's left part lies.

    Attributes:
        right: faces whose left part lies right of the other in the image, as the subject's does.
        both: faces that show both parts.
    """

    right: int
    both: int

    @property
    def swapped(self) -> bool:
        """Whether the left part lies on the wrong side in most faces."""
        return 2 * self.right < self.both


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The description of a sharded data set.

    Attributes:
        dataset: the name of its raw layout, as `celebamask`.
        scale: the working scale of its images.
        split_rule: `paper`, `official`, `file`, or shares as `8:1:1`.
        plan: digest of which raw items go into which shard.
        splits: shards of each split, in order.
        class_pixels: by split, the number of pixels of each class.
        sides: by a pair's fine network, where its left part lies in the faces of all splits.
        rejected: the raw images that were left out.
        label_set: the classes of the label maps, and the parts that were measured in them. One
            whose classes and parts are the paper's is stored as the paper's.
        num_soft_masks: number of faces with masks that had more than two values, and were cut.
        rare_classes: by the name of each class of the inner face that hardly a face shows, the
            number of those that do.
    """

    dataset: str
    scale: Scale
    split_rule: str
    plan: str
    splits: Mapping[str, tuple[Shard, ...]]
    class_pixels: Mapping[str, tuple[int, ...]]
    sides: Mapping[str, Sides]
    rejected: tuple[Rejection, ...]
    label_set: LabelSet
    num_soft_masks: int = 0
    rare_classes: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_samples(self) -> dict[str, int]:
        """The number of samples of each split."""
        return {
            split: sum(shard.samples for shard in shards) for split, shards in self.splits.items()
        }

    @property
    def fingerprint(self) -> str:
        """A digest of the whole manifest, by which runs record the data that they saw."""
        return digest_of(self._content())

    def to_json(self) -> bytes:
        """Returns the file's bytes, which are the same for the same manifest."""
        content = self._content() | {"fingerprint": self.fingerprint}
        return (json.dumps(content, indent=1) + "\n").encode()

    def _content(self) -> dict[str, Any]:
        labels = labels_text(self.label_set)
        content = dataclasses.asdict(self) | {
            "format_version": FORMAT_VERSION,
            "labels": "" if labels == PAPER9.name else labels,
            "classes": self.label_set.class_names,
            "num_samples": self.num_samples,
        }
        others = {name: content[name] for name in _OPTIONAL if content[name]}
        return others | {name: content[name] for name in _KEYS}


def load_manifest(address: Address) -> Manifest:
    """Reads the manifest of the data set in a folder or at `s3://bucket/prefix`.

    Raises:
        ValueError: there is no finished data set there, or not one that this version can read.
    """
    location = open_location(address)
    where = location.url_of(MANIFEST)
    try:
        content = json.loads(location.read(MANIFEST))
        version = content["format_version"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(_why_missing(location)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where} is not a manifest ({error}): {_RESTORE}") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{where} must have format_version {FORMAT_VERSION}, got {version}: {_RESHARD}"
        )
    try:
        manifest = _from_content(content, where)
        fingerprint = manifest.fingerprint
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where} is incomplete or malformed ({error}): {_RESTORE}") from error
    if fingerprint != content.get("fingerprint"):
        raise ValueError(
            f"{where} has been changed: its fingerprint must be {fingerprint}, "
            f"got {content.get('fingerprint')}; {_RESTORE}"
        )
    return manifest


def digest_of(content: Any) -> str:
    """Returns the sha256 of plain data, the same whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _from_content(content: dict[str, Any], where: str) -> Manifest:
    classes = tuple(content["classes"])
    label_set = label_set_of(content.get("labels", PAPER9.name))
    if classes != label_set.class_names:
        raise ValueError(
            f"{where}: classes must be {', '.join(label_set.class_names)}, got "
            f"{', '.join(map(str, classes))}: {_RESHARD}"
        )
    return Manifest(
        dataset=content["dataset"],
        scale=Scale(**content["scale"]),
        label_set=label_set,
        split_rule=content["split_rule"],
        plan=content["plan"],
        splits={
            split: tuple(Shard(**shard) for shard in shards)
            for split, shards in content["splits"].items()
        },
        class_pixels={split: tuple(counts) for split, counts in content["class_pixels"].items()},
        sides={pair: Sides(**sides) for pair, sides in content["sides"].items()},
        rejected=tuple(Rejection(**rejection) for rejection in content["rejected"]),
        **{name: content[name] for name in _DOUBTS if name in content},
    )


def _why_missing(location: StorageLocation) -> str:
    found = location.list()
    if any(path.startswith(f"{PARTS_FOLDER}/") for path in found):
        return (
            f"{location.url} is unfinished: it has {PARTS_FOLDER} and no {MANIFEST}; "
            "run the command that began it again, and it goes on where it stopped"
        )
    if found:
        return (
            f"{location.url} must be a sharded data set, but has no {MANIFEST}; "
            f"make one with: {HOW_TO_SHARD}"
        )
    return (
        f"there is nothing at {location.url}; check the path, or make a data set there with: "
        f"{HOW_TO_SHARD}"
    )
