"""Which item goes into which split."""

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sharding.layouts.raw import Item, Listing, read_text
from sharding.manifest import Rejection
from sharding.storage.location import split_url

SPLITS: Final = ("train", "val", "test")
RULES: Final = ("paper", "official")
"""The named rules; any other `--split` is a file."""

KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,90}")
"""What a sample may be named; no dot: webdataset takes what follows one as extension."""

IN_SPLIT_FILE: Final = {split: f"{split} of the split file" for split in SPLITS}


def shuffled_split(keys: Iterable[str], seed: int) -> dict[str, list[str]]:
    """6 : 2 : 2 by a seeded shuffle of the sorted keys, each split then sorted again."""
    order = sorted(keys)
    random.Random(seed).shuffle(order)
    first, second = round(0.6 * len(order)), round(0.8 * len(order))
    parts = (order[:first], order[first:second], order[second:])
    return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}


def read_split_file(url: str) -> dict[str, list[str]]:
    """Reads `{"train": [KEY, ...], "val": [...], "test": [...]}`; a split may be left out."""
    location, name = split_url(url)
    try:
        text = read_text(location, name)
    except FileNotFoundError as error:
        raise ValueError(
            f"no split file at {url}: --split takes {', '.join(RULES)} or a JSON file"
        ) from error
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
    return {split: found.get(split, []) for split in SPLITS}


def listed_items(
    keys: Mapping[str, Iterable[str]],
    path_of: Callable[[str], str],
    usable: re.Pattern[str] = KEY,
    expected: str = "letters, digits, - and _, at most 90",
    where: Mapping[str, str] = IN_SPLIT_FILE,
) -> Listing:
    """The items of keys that were written down for each split, in their order.

    A key without an image is kept here and rejected when it is read. Of a key that is there twice
    the test split keeps its own, then val.

    Args:
        keys: of each split.
        path_of: a key's image.
        usable: what a key must be.
        expected: that in words.
        where: it is written, for each split.
    """
    items: dict[str, list[Item]] = {split: [] for split in SPLITS}
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
                items[split].append(Item(key, path_of(key), split))
    return Listing(items, tuple(rejected))


def limited(splits: Mapping[str, list[Item]], limit: int) -> dict[str, list[Item]]:
    """The first items of every split, in proportion: `limit` in all, but one a split at least."""
    total = sum(map(len, splits.values()))
    return {
        split: items[: max(1, round(limit * len(items) / total))] if total else items
        for split, items in splits.items()
    }
