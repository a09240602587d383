"""Which item goes into which split."""

import json
import random
import re
from collections.abc import Iterable, Mapping
from typing import Final

from sharding.raw import Item
from sharding.storage import split_url

SPLITS: Final = ("train", "val", "test")
RULES: Final = ("paper", "official")
"""The named rules; any other `--split` is a file."""

KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,90}")
"""What a sample may be named; no dot: webdataset takes what follows one as extension."""


def shuffled_split(keys: Iterable[str], seed: int) -> dict[str, list[str]]:
    """6 : 2 : 2 by a seeded shuffle of the sorted keys, each split then sorted again."""
    order = sorted(keys)
    random.Random(seed).shuffle(order)
    first, second = round(0.6 * len(order)), round(0.8 * len(order))
    parts = (order[:first], order[first:second], order[second:])
    return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}


def read_split_file(url: str) -> dict[str, list[str]]:
    """Reads `{"train": [KEY, ...], "val": [...], "test": [...]}`; a split may be left out."""
    place, name = split_url(url)
    try:
        found = json.loads(place.read(name))
    except FileNotFoundError as error:
        raise ValueError(
            f"no split file at {url}: --split takes {', '.join(RULES)} or a JSON file"
        ) from error
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


def keyed_items(
    split_keys: Mapping[str, Iterable[str]], sources: Mapping[str, str], *, rule: str
) -> dict[str, list[Item]]:
    """Items in the order of `split_keys`; every key must be among `sources` (key -> image path)."""
    unknown = [key for keys in split_keys.values() for key in keys if key not in sources]
    if unknown:
        raise ValueError(
            f"{len(unknown)} keys of split {rule!r} have no image in the source, "
            f"the first is {unknown[0]!r}; keys there look like {next(iter(sources))!r}"
        )
    return {
        split: [Item(key, sources[key], split) for key in keys]
        for split, keys in split_keys.items()
    }


def check_disjoint(splits: Mapping[str, list[Item]]) -> None:
    """Refuses a key that is in two splits, twice in one, or that a shard cannot hold."""
    seen: dict[str, str] = {}
    for split, items in splits.items():
        for item in items:
            if not KEY.fullmatch(item.key):
                raise ValueError(
                    f"key {item.key!r} of split {split} must be letters, digits, - and _ "
                    "(at most 90): rename the image"
                )
            if item.key in seen:
                raise ValueError(
                    f"key {item.key!r} is in split {seen[item.key]} and again in {split}: "
                    "a sample belongs to one split, once"
                )
            seen[item.key] = split


def limited(splits: Mapping[str, list[Item]], limit: int) -> dict[str, list[Item]]:
    """The first items of every split, in proportion: `limit` in all, but one a split at least."""
    total = sum(map(len, splits.values()))
    return {
        split: items[: max(1, round(limit * len(items) / total))] if total else items
        for split, items in splits.items()
    }
