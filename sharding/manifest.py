"""`manifest.json`: what a sharded data set holds. A location without one is not a data set."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sharding.storage.location import Address, open_location
from stn_icnn.labels import PAPER9, LabelSet
from stn_icnn.storage import StorageLocation

FORMAT_VERSION: Final = 2
MANIFEST: Final = "manifest.json"
PARTS_FOLDER: Final = ".parts"
"""Holds the records of finished shards until the manifest is written."""


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
    """One shard: its path in the data set, sha256 of the file, its length in bytes, its samples."""

    path: str
    sha256: str
    bytes: int
    samples: int


@dataclass(frozen=True)
class Rejection:
    """A raw image that was left out: its path in the raw data set, and why (`KIND: DETAILS`)."""

    source: str
    reason: str

    @property
    def kind(self) -> str:
        """What reasons are counted by."""
        return self.reason.partition(":")[0]


@dataclass(frozen=True)
class Sides:
    """On which side the left one of a pair lies: of `both` faces with both, `right` have it right
    of the other in the image, where the subject's left is."""

    right: int
    both: int

    @property
    def swapped(self) -> bool:
        """Whether most faces have them the wrong way round."""
        return 2 * self.right < self.both


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a data set holds.

    Attributes:
        dataset: `celebamask` or `helen`.
        scale: the working scale of its images.
        split_rule: `paper`, `official` or `file`.
        plan: digest of which raw items go into which shard.
        splits: shards of each split, in order.
        class_pixels: per split, the number of pixels of each class.
        sides: of each pair of parts, by their fine network, over all splits.
        rejected: the raw images that were left out.
        label_set: the classes of the label maps, and the parts that were measured in them.
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

    @property
    def num_samples(self) -> dict[str, int]:
        """Samples per split."""
        return {
            split: sum(shard.samples for shard in shards) for split, shards in self.splits.items()
        }

    @property
    def fingerprint(self) -> str:
        """The id under which runs record which data they saw: a digest of all of the manifest."""
        return digest_of(self._content())

    def to_json(self) -> bytes:
        """The file's bytes; the same manifest gives the same ones."""
        content = self._content() | {"fingerprint": self.fingerprint}
        return (json.dumps(content, indent=1) + "\n").encode()

    def _content(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "dataset": self.dataset,
            "scale": dataclasses.asdict(self.scale),
            "classes": list(self.label_set.class_names),
            "split_rule": self.split_rule,
            "plan": self.plan,
            "num_samples": self.num_samples,
            "class_pixels": {split: list(counts) for split, counts in self.class_pixels.items()},
            "sides": {pair: dataclasses.asdict(sides) for pair, sides in self.sides.items()},
            "splits": {
                split: [dataclasses.asdict(shard) for shard in shards]
                for split, shards in self.splits.items()
            },
            "rejected": [dataclasses.asdict(rejection) for rejection in self.rejected],
        }


def load_manifest(address: Address) -> Manifest:
    """Reads the manifest of the data set in a folder or at `s3://bucket/prefix`.

    Raises:
        ValueError: there is no finished data set there, or not one that this version can read.
    """
    location = open_location(address)
    return parse_manifest(read_manifest(location), location.url_of(MANIFEST))


def read_manifest(location: StorageLocation) -> bytes:
    """The bytes of the manifest at `location`; ValueError where there is none, saying why."""
    try:
        return location.read(MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(_why_missing(location)) from error


def parse_manifest(data: bytes, where: str) -> Manifest:
    """The manifest of these bytes, whose address is `where`; raises as `load_manifest`."""
    try:
        content = json.loads(data)
        version = content["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{where} is not a manifest ({error}): restore it, or shard the data again"
        ) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{where} must have format_version {FORMAT_VERSION}, got {version}: "
            "shard the data again, or use the version of this software that wrote it"
        )
    try:
        manifest = _from_content(content, where)
        fingerprint = manifest.fingerprint
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where} is incomplete or malformed ({error}): restore it, or shard the data again"
        ) from error
    if fingerprint != content.get("fingerprint"):
        raise ValueError(
            f"{where} has been changed: its fingerprint must be {fingerprint}, "
            f"got {content.get('fingerprint')}; restore it, or shard the data again"
        )
    return manifest


def digest_of(content: Any) -> str:
    """sha256 of plain data, the same whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find_label_set(classes: tuple[str, ...], where: str) -> LabelSet:
    """Returns the label set of some classes, in the order of their ids.

    Raises:
        ValueError: naming `where` they are stored, if no label set has them.
    """
    if classes != PAPER9.class_names:
        raise ValueError(
            f"{where}: classes must be {', '.join(PAPER9.class_names)}, got "
            f"{', '.join(map(str, classes))}: shard the data again, or use the version of this "
            "software that wrote it"
        )
    return PAPER9


def _from_content(content: dict[str, Any], where: str) -> Manifest:
    return Manifest(
        dataset=content["dataset"],
        scale=Scale(**content["scale"]),
        label_set=find_label_set(tuple(content["classes"]), where),
        split_rule=content["split_rule"],
        plan=content["plan"],
        splits={
            split: tuple(Shard(**shard) for shard in shards)
            for split, shards in content["splits"].items()
        },
        class_pixels={split: tuple(counts) for split, counts in content["class_pixels"].items()},
        sides={pair: Sides(**sides) for pair, sides in content["sides"].items()},
        rejected=tuple(Rejection(**rejection) for rejection in content["rejected"]),
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
            "make one with: python -m sharding celebamask|helen --source RAW --out OUT"
        )
    return (
        f"there is nothing at {location.url}; check the path, or make a data set there with: "
        "python -m sharding celebamask|helen --source RAW --out OUT"
    )
