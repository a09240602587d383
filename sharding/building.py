"""Builds a sharded data set: plans the shards, has them written, writes the manifest last."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from sharding.manifest import MANIFEST, PARTS_FOLDER, Manifest, digest_of, load_manifest
from sharding.splits import RULES, SPLITS, check_disjoint, limited
from sharding.storage import Place, open_place
from sharding.writer import LAYOUTS, ShardRecord, ShardTask, write_shard
from stn_icnn.labels import NUM_CLASSES

SHARD_SIZE: Final = 256
MAX_REJECTED: Final = 0.05

_PLAN = f"{PARTS_FOLDER}/plan.json"

MapTasks = Callable[
    [Callable[[ShardTask], ShardRecord], Sequence[ShardTask]], Iterable[ShardRecord]
]
"""How tasks are run, as the builtin `map`; their records may come in any order."""


def build(
    layout: str,
    source: str | Path,
    out: str | Path,
    *,
    split: str = "paper",
    limit: int | None = None,
    shard_size: int = SHARD_SIZE,
    seed: int = 0,
    max_rejected: float = MAX_REJECTED,
    map_tasks: MapTasks = map,
) -> Manifest:
    """Shards a raw data set, returns its manifest. The same input gives the same bytes.

    Interrupted, it goes on where it stopped when it is called again; on a finished data set made
    from the same items it does nothing.

    Args:
        layout: `celebamask` or `helen`.
        source: the raw data set, a folder or `s3://bucket/prefix`.
        out: where the shards go, likewise.
        split: `paper`, `official`, or a JSON file `{"train": [KEY, ...], "val": ..., "test": ...}`.
        limit: about how many items to take in all, in proportion from every split.
        shard_size: items a shard.
        seed: of the shuffle behind CelebAMask-HQ's `paper` split.
        max_rejected: the share of items that may be unusable.
        map_tasks: runs the tasks; replace it to spread them over processes.

    Raises:
        ValueError: the source is of another layout or too much of it unusable, or `out` is taken.
    """
    if not 0 <= max_rejected <= 1:
        raise ValueError(f"max_rejected must be a share from 0 to 1, got {max_rejected}")
    place = open_place(out)
    tasks = plan_shards(
        layout, source, out, split=split, limit=limit, shard_size=shard_size, seed=seed
    )
    plan = digest_of([task.digest for task in tasks])
    if place.exists(MANIFEST):
        manifest = _accept_finished(place, plan)
    else:
        _begin(place, plan)
        records = _run(tasks, max_rejected, map_tasks)
        manifest = _assemble(layout, split, plan, tasks, records)
        _delete_strays(place, manifest)
        place.write(MANIFEST, manifest.to_json())
    for path in place.list(PARTS_FOLDER):
        place.delete(path)
    return manifest


def plan_shards(
    layout: str,
    source: str | Path,
    out: str | Path,
    *,
    split: str = "paper",
    limit: int | None = None,
    shard_size: int = SHARD_SIZE,
    seed: int = 0,
) -> list[ShardTask]:
    """The tasks that together make the data set; arguments as of `build`."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if shard_size < 1:
        raise ValueError(f"shard_size must be at least 1, got {shard_size}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    raw = open_place(source)
    splits = LAYOUTS[layout].split_items(raw, split, seed)
    check_disjoint(splits)
    if limit is not None:
        splits = limited(splits, limit)
    if not any(splits.values()):
        raise ValueError(f"split {split!r} of {raw.url} has no items")
    out_url = open_place(out).url
    return [
        ShardTask(layout, raw.url, out_url, name, index, tuple(items[at : at + shard_size]))
        for name, items in splits.items()
        for index, at in enumerate(range(0, len(items), shard_size))
    ]


def _begin(place: Place, plan: str) -> None:
    """Claims an empty place, or goes on with an unfinished one of the same plan."""
    found = place.list()
    if _PLAN in found:
        if json.loads(place.read(_PLAN))["plan"] != plan:
            raise ValueError(
                f"{place.url} holds an unfinished data set of other items or settings: "
                "repeat the command that began it, remove it, or choose another --out"
            )
    elif found:
        raise ValueError(
            f"{place.url} must be empty or new, but holds {found[0]}: choose another --out"
        )
    else:
        place.write(_PLAN, json.dumps({"plan": plan}).encode())


def _run(
    tasks: Sequence[ShardTask], max_rejected: float, map_tasks: MapTasks
) -> dict[str, ShardRecord]:
    """Runs the tasks; their records by task digest. Stops once too many items are rejected."""
    num_items = sum(len(task.items) for task in tasks)
    records: dict[str, ShardRecord] = {}
    for record in map_tasks(write_shard, tasks):
        records[record.digest] = record
        rejected = [rejection for done in records.values() for rejection in done.rejected]
        if len(rejected) > max_rejected * num_items:
            raise ValueError(
                f"{len(rejected)} of {num_items} items are unusable, more than the share "
                f"{max_rejected:g} that --max-rejected allows; the first is "
                f"{rejected[0].source}: {rejected[0].reason}"
            )
    return records


def _assemble(
    layout: str,
    split: str,
    plan: str,
    tasks: Sequence[ShardTask],
    records: dict[str, ShardRecord],
) -> Manifest:
    ordered = [records[task.digest] for task in tasks]
    by_split = {name: [record for record in ordered if record.split == name] for name in SPLITS}
    return Manifest(
        dataset=layout,
        scale=LAYOUTS[layout].scale,
        split_rule=split if split in RULES else "file",
        plan=plan,
        splits={
            name: tuple(record.shard for record in done if record.shard)
            for name, done in by_split.items()
        },
        class_pixels={
            name: tuple(sum(record.class_pixels[i] for record in done) for i in range(NUM_CLASSES))
            for name, done in by_split.items()
        },
        rejected=tuple(rejection for record in ordered for rejection in record.rejected),
    )


def _accept_finished(place: Place, plan: str) -> Manifest:
    manifest = load_manifest(place)
    if manifest.plan != plan:
        raise ValueError(
            f"{place.url} already holds a data set of other items or settings "
            f"({manifest.dataset}, split {manifest.split_rule}, {manifest.num_samples}): "
            "remove it or choose another --out"
        )
    return manifest


def _delete_strays(place: Place, manifest: Manifest) -> None:
    """Removes what killed runs left beside the shards, before the manifest says that all is well.

    That nothing else can be there, `_begin` has seen to.
    """
    shards = {shard.path for done in manifest.splits.values() for shard in done}
    for path in place.list():
        if path not in shards and not path.startswith(f"{PARTS_FOLDER}/"):
            place.delete(path)
