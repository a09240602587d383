"""Decides which item goes into which split."""

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from sharding.layouts.raw import IMAGE_SUFFIXES, Item, Listing, read_text
from sharding.manifest import Rejection
from sharding.storage.location import split_url

SPLITS: Final = ("train", "val", "test")
RULES: Final = ("paper", "official")
"""The rules that have names."""

_SHARES: Final = re.compile(r"[0-9]+(\.[0-9]+)?(:[0-9]+(\.[0-9]+)?){2}")

KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,90}")
"""A sample's name. It has no dot, behind which webdataset would see an extension."""

IN_SPLIT_FILE: Final = {split: f"{split} of the split file" for split in SPLITS}


def shares_of(rule: str) -> tuple[float, float, float] | None:
    """Returns the shares of train, val and test where a rule is such, as `8:1:1`, else None.

    Raises:
        ValueError: all shares are 0.
    """
    if not _SHARES.fullmatch(rule):
        return None
    train, val, test = map(float, rule.split(":"))
    if not train + val + test:
        raise ValueError(f"--split must have a share above 0, got {rule}")
    return train, val, test


def name_of(rule: str) -> str:
    """Returns the name of a rule in a manifest: itself, or `file`."""
    return rule if rule in RULES or shares_of(rule) else "file"


def shuffled_split(
    keys: Iterable[str], seed: int, shares: tuple[float, float, float] = (6, 2, 2)
) -> dict[str, list[str]]:
    """Splits keys by a seeded shuffle of the sorted keys; each split is sorted again.

    Args:
        keys: to be divided.
        seed: of the shuffle.
        shares: the ratio of train, val and test.
    """
    order = sorted(keys)
    random.Random(seed).shuffle(order)
    train, val, test = shares
    total = train + val + test
    first, second = (round(part / total * len(order)) for part in (train, train + val))
    groups = (order[:first], order[first:second], order[second:])
    return {split: sorted(group) for split, group in zip(SPLITS, groups, strict=True)}


def read_split_file(url: str, rules: Sequence[str] = RULES) -> dict[str, list[str]]:
    """Reads `{"train": [KEY, ...], "val": [...], "test": [...]}`; a split may be left out.

    Args:
        url: the file's path or `s3://bucket/key`.
        rules: what `--split` takes beside a file, for the message where there is none.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    location, name = split_url(url)
    if_missing = f"no split file at {url}: --split takes {', '.join(rules)} or a JSON file"
    text = read_text(location, name, if_missing)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"split file {url} is not JSON: {error}") from error
    well_formed = isinstance(found, dict) and all(
        isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        for keys in found.values()
    )
    if not well_formed or not set(found) <= set(SPLITS):
        raise ValueError(
            f'split file {url} must be {{"train": [KEY, ...], "val": [...], "test": [...]}} '
            "with every KEY a string"
        )
    if not any(found.values()):
        raise ValueError(f"split file {url} names no image: list some as its train, val or test")
    return {split: found.get(split, []) for split in SPLITS}


def listed_items(
    keys: Mapping[str, Sequence[str]],
    path_of: Callable[[str], str],
    usable: re.Pattern[str] = KEY,
    expected: str = "letters, digits, - and _, at most 90",
    where: Mapping[str, str] = IN_SPLIT_FILE,
) -> Listing:
    """Returns the items of the keys that are listed for each split, in their order.

    A key without an image becomes an item too, which is rejected when it is read. A key that is
    listed twice goes to the later split: the test split keeps its own, then val.

    Args:
        keys: by split.
        path_of: returns the path of a key's image.
        usable: the pattern of a key that can be used.
        expected: the pattern in words, for the reason of a rejection.
        where: by split, the list that holds its keys, for the reason of a rejection.

    Raises:
        ValueError: a list names all its images with the endings of their files.
    """
    for split, some in keys.items():
        _require_no_endings(some, where[split])
    items: list[Item] = []
    rejected: list[Rejection] = []
    taken: dict[str, str] = {}
    for split in reversed(SPLITS):
        for key in keys[split]:
            if not usable.fullmatch(key):
                reason = f"name not usable: {key!r} in {where[split]}, expected {expected}"
                rejected.append(Rejection(path_of(key), reason))
            elif key in taken:
                reason = f"listed twice: in {where[split]} and {taken[key]}"
                rejected.append(Rejection(path_of(key), reason))
            else:
                taken[key] = where[split]
                items.append(Item(key, path_of(key), split))
    items.sort(key=lambda item: SPLITS.index(item.split))
    return Listing(items, tuple(rejected))


def _require_no_endings(keys: Sequence[str], where: str) -> None:
    """Refuses a list in which every key is the name of an image's file."""
    if keys and all(key.lower().endswith(IMAGE_SUFFIXES) for key in keys):
        key = PurePosixPath(keys[0])
        raise ValueError(
            f"{where} has all names with {key.suffix}: take it away, so that {key.name!r} becomes "
            f"{key.stem!r}"
        )


def by_split(items: Sequence[Item], limit: int | None = None) -> dict[str, list[Item]]:
    """Groups items by their split, in their order.

    Args:
        items: of all splits.
        limit: about how many to take in all: the first of every split in proportion, but at least
            one. None takes all.
    """
    splits = {split: [item for item in items if item.split == split] for split in SPLITS}
    if limit is None:
        return splits
    return {
        split: some[: max(1, round(limit * len(some) / len(items)))] if some else some
        for split, some in splits.items()
    }
