"""Builds a sharded data set: plans the shards, has them written, and writes the manifest last."""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sharding.layouts.splits import SPLITS, by_split, name_of
from sharding.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    PARTS_FOLDER,
    Manifest,
    Rejection,
    digest_of,
    load_manifest,
)
from sharding.packing.plausibility import lacks_all_parts, rare_classes
from sharding.packing.recipe import Recipe
from sharding.packing.sample import added_sides
from sharding.packing.writer import LAYOUTS, ShardRecord, ShardTask, write_shard
from sharding.storage.location import Address, open_location, open_source
from stn_icnn.label_set_file import labels_text
from stn_icnn.storage import ReadableLocation, StorageLocation

MOST_SHOWN: Final = 20
"""The most rejected images that are shown."""

_PLAN = f"{PARTS_FOLDER}/plan.json"
_PROBE = f"{PARTS_FOLDER}/probe"
_SHARD_FILES = re.compile(
    rf"({'|'.join(SPLITS)})/([0-9]{{6}}\.tar|\.[0-9]{{6}}\.tar\.[0-9a-f]{{32}}\.tmp)"
    r"|\.manifest\.json\.[0-9a-f]{32}\.tmp"
)
"""Paths of shards, and of unfinished shards and manifests that killed writers left."""

WriteShard = Callable[[ShardTask], ShardRecord]
MapTasks = Callable[[WriteShard, Sequence[ShardTask]], Iterable[ShardRecord]]
"""Runs tasks, as the builtin `map` does; their records may come in any order."""


@dataclass(frozen=True)
class Plan:
    """The shards that a recipe makes of a raw data set.

    Attributes:
        tasks: one for each shard of the data set.
        rejected: the files that the listing rejects.
        num_listed: number of items that are listed, of which `limit` takes a share.
    """

    tasks: tuple[ShardTask, ...]
    rejected: tuple[Rejection, ...]
    num_listed: int

    @property
    def digest(self) -> str:
        """A digest of which raw items go into which shard."""
        rejected = [dataclasses.astuple(rejection) for rejection in self.rejected]
        return digest_of([[task.digest for task in self.tasks], rejected])

    @property
    def num_items(self) -> int:
        """The number of items of all tasks."""
        return sum(len(task.items) for task in self.tasks)

    @property
    def share(self) -> float:
        """The share of the items listed that the tasks take."""
        return self.num_items / self.num_listed if self.num_listed else 1.0


def build(
    source: Address | ReadableLocation, out: Address, recipe: Recipe, map_tasks: MapTasks = map
) -> Manifest:
    """Shards a raw data set and returns its manifest; the same input gives the same bytes.

    If a call was interrupted, the same call continues where that stopped. It does nothing to a
    finished data set of the same items.

    Args:
        source: the raw data set, a folder or `s3://bucket/prefix`, or their location.
        out: the sharded data set, likewise.
        recipe: decides which item goes into which shard.
        map_tasks: runs the tasks, here or in other processes.

    Raises:
        ValueError: the source is of another layout, too much of it can't be used, or `out` holds
            something else.
        OSError: disk or network failed, or a permission is lacking; the same call continues.
    """
    location = open_location(out)
    plan = make_plan(source, out, recipe)
    if location.exists(MANIFEST):
        manifest = _accept_finished(location, plan, recipe.max_rejected)
    else:
        _begin(location, plan)
        records = _run(plan, plan.tasks, {}, recipe, map_tasks)
        without_copies = _leave_out_copies(plan.tasks, records)
        again = [task for task in without_copies if task.left_out != records[task.path].left_out]
        records = _run(plan, again, records, recipe, map_tasks)
        manifest = _assemble(recipe, plan, records)
        _require_parts(location, manifest, records.values())
        _delete_strays(location, manifest)
        location.write(MANIFEST, manifest.to_json())
    for path in location.list(PARTS_FOLDER):
        location.delete(path)
    return manifest


def make_plan(source: Address | ReadableLocation, out: Address, recipe: Recipe) -> Plan:
    """Lists a raw data set and divides it into shards; arguments and errors as of `build`."""
    raw = open_source(source)
    keep_defects = recipe.known_defects == "keep"
    listing = LAYOUTS[recipe.layout].list_items(raw, recipe.split_rule, recipe.seed, keep_defects)
    destination, size = open_location(out), recipe.shard_size
    tasks = (
        ShardTask(
            recipe.layout,
            labels_text(recipe.label_set),
            raw,
            destination,
            split,
            index,
            tuple(items[start : start + size]),
        )
        for split, items in by_split(listing.items, recipe.limit).items()
        for index, start in enumerate(range(0, len(items), size))
    )
    plan = Plan(tuple(tasks), listing.rejected, len(listing.items))
    _require_few(plan, (), recipe.max_rejected)
    if not plan.tasks:
        raise ValueError(f"split {recipe.split_rule!r} of {raw.url} has no items")
    return plan


def _begin(location: StorageLocation, plan: Plan) -> None:
    """Claims an empty location, or continues an unfinished data set of the same plan."""
    found = location.list()
    # Other files in the parts' folder are no obstacle: a run may be killed as it writes the plan.
    foreign = [path for path in found if not path.startswith(f"{PARTS_FOLDER}/")]
    claim = json.dumps({"format_version": FORMAT_VERSION, "plan": plan.digest}).encode()
    if _PLAN in found:
        if location.read(_PLAN) != claim:
            raise ValueError(
                f"{location.url} holds an unfinished data set of other items or settings: "
                "repeat the command that began it, remove it, or choose another --out"
            )
    elif foreign:
        raise ValueError(
            f"{location.url} must be empty or new, but holds {foreign[0]}: choose another --out"
        )
    else:
        location.write(_PLAN, claim)
    # Both are needed at the end, and tried now: a lacking permission must not cost hours of work.
    location.abort_uploads(_SHARD_FILES)
    location.write(_PROBE, b"")
    location.delete(_PROBE)


def _run(
    plan: Plan,
    tasks: Sequence[ShardTask],
    earlier: Mapping[str, ShardRecord],
    recipe: Recipe,
    map_tasks: MapTasks,
) -> dict[str, ShardRecord]:
    """Runs tasks of a plan and returns their and earlier records, by shard path.

    Raises:
        ValueError: too many items are rejected; it stops as soon as that is known.
    """
    records = dict(earlier)
    for record in map_tasks(write_shard, tasks) if tasks else ():
        records[record.path] = record
        rejected = [found for record in records.values() for found in record.rejected]
        _require_few(plan, rejected, recipe.max_rejected)
    return records


def _require_few(plan: Plan, unreadable: Sequence[Rejection], max_rejected: float) -> None:
    """Refuses a data set of which listing and reading together reject too much.

    Raises:
        ValueError: with counts of the reasons and the first rejections.
    """
    # The listing's rejections are of all items, of which `limit` takes a share.
    num_listed = plan.share * len(plan.rejected)
    num_rejected, num_items = num_listed + len(unreadable), num_listed + plan.num_items
    if num_rejected <= max_rejected * num_items:
        return
    rejected = [*plan.rejected, *unreadable]
    whole = f" (all {len(plan.rejected)} of the listing counted)" if plan.share < 1 else ""
    shown = "\n".join(shown_rejections(rejected))
    raise ValueError(
        f"{num_rejected:.0f} of {num_items:.0f} items are rejected, more than the share "
        f"{max_rejected:g} that --max-rejected allows: {counted_by_kind(rejected)}{whole}\n{shown}"
    )


def shown_rejections(rejected: Sequence[Rejection], rest: str = "more") -> list[str]:
    """Returns a line for each of the first rejections, and `and N REST` if there are more."""
    lines = [f"rejected {rejection.source}: {rejection.reason}" for rejection in rejected]
    more = [f"and {len(lines) - MOST_SHOWN} {rest}"] if len(lines) > MOST_SHOWN else []
    shown = lines[:MOST_SHOWN] + more
    # A name need not be UTF-8: a terminal would refuse the line.
    return [line.encode(errors="backslashreplace").decode() for line in shown]


def counted_by_kind(rejected: Iterable[Rejection]) -> str:
    """Counts rejections as `KIND 3, OTHER KIND 1`, the most frequent first."""
    kinds = Counter(rejection.kind for rejection in rejected)
    return ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())


def _leave_out_copies(
    tasks: Sequence[ShardTask], records: Mapping[str, ShardRecord]
) -> list[ShardTask]:
    """Returns the tasks without the photographs that another split has too, byte for byte.

    No image may be in two splits: it stays in the test split or else in val.
    """
    first: dict[str, tuple[str, str]] = {}
    for task in sorted(tasks, key=lambda task: SPLITS.index(task.split), reverse=True):
        for key, sha256 in records[task.path].sha256.items():
            first.setdefault(sha256, (task.split, key))
    changed = []
    for task in tasks:
        copies = []
        for key, sha256 in records[task.path].sha256.items():
            split, other = first[sha256]
            if split != task.split:
                copies.append((key, f"same file in two splits: as {other} of {split}"))
        changed.append(dataclasses.replace(task, left_out=tuple(copies)))
    return changed


def _assemble(recipe: Recipe, plan: Plan, records: Mapping[str, ShardRecord]) -> Manifest:
    label_set, layout = recipe.label_set, LAYOUTS[recipe.layout]
    of_split: dict[str, list[ShardRecord]] = {split: [] for split in SPLITS}
    for task in plan.tasks:
        of_split[task.split].append(records[task.path])
    in_order = [record for done in of_split.values() for record in done]
    classes = range(label_set.num_classes)
    num_faces = sum(record.shard.samples for record in in_order if record.shard)
    return Manifest(
        dataset=layout.name,
        scale=layout.scale,
        split_rule=name_of(recipe.split_rule),
        plan=plan.digest,
        splits={
            split: tuple(record.shard for record in done if record.shard)
            for split, done in of_split.items()
        },
        class_pixels={
            split: tuple(sum(record.class_pixels[i] for record in done) for i in classes)
            for split, done in of_split.items()
        },
        sides=added_sides([record.sides for record in in_order], label_set),
        rejected=sum((record.rejected for record in in_order), plan.rejected),
        label_set=label_set,
        num_soft_masks=sum(record.num_soft_masks for record in in_order),
        rare_classes=rare_classes(_class_faces(in_order), num_faces, label_set),
    )


def _class_faces(records: Iterable[ShardRecord]) -> list[int]:
    """Adds up the numbers of faces that show each class."""
    return [sum(counts) for counts in zip(*(r.class_faces for r in records), strict=True)]


def _require_parts(
    location: StorageLocation, manifest: Manifest, records: Iterable[ShardRecord]
) -> None:
    """Refuses a data set in which hardly a face has any part.

    Its shards are forgotten, so that the same command reads what was mended meanwhile.

    Raises:
        ValueError: saying what may be wrong.
    """
    num_faces = sum(manifest.num_samples.values())
    if wrong := lacks_all_parts(_class_faces(records), num_faces, manifest.label_set):
        for path in location.list(PARTS_FOLDER):
            if path != _PLAN:
                location.delete(path)
        raise ValueError(f"{wrong} Mend them and repeat the command")


def _accept_finished(location: StorageLocation, plan: Plan, max_rejected: float) -> Manifest:
    manifest = load_manifest(location)
    if manifest.plan != plan.digest:
        raise ValueError(
            f"{location.url} already holds a data set of other items or settings "
            f"({manifest.dataset}, split {manifest.split_rule}, {manifest.num_samples}): "
            "remove it or choose another --out"
        )
    _require_few(plan, manifest.rejected[len(plan.rejected) :], max_rejected)
    return manifest


def _delete_strays(location: StorageLocation, manifest: Manifest) -> None:
    """Removes unfinished files of killed runs, before the manifest marks the data set as finished.

    Files of other names stay: `verify` names them.
    """
    shards = {shard.path for done in manifest.splits.values() for shard in done}
    for path in location.list():
        if path not in shards and _SHARD_FILES.fullmatch(path):
            location.delete(path)
    location.abort_uploads(_SHARD_FILES)
