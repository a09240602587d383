"""The sharding job: builds shards with tasks that are spread over the cluster."""

import argparse
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import ray.exceptions

from cluster.shell_commands import typed_command
from cluster.storage.job_locations import readable_location, writable_location
from cluster.workers.ray_cluster import join_cluster, require_readable, require_shared
from sharding.cli import place_options, run_build
from sharding.manifest import PARTS_FOLDER
from sharding.packing.building import WriteShard
from sharding.packing.writer import ShardRecord, ShardTask
from stn_icnn.label_sets import PAPER9

MAX_RETRIES = 3
"""Retries of a task whose node or process dies; what a task raises is not tried again."""


def map_on_cluster(write: WriteShard, tasks: Sequence[ShardTask]) -> Iterator[ShardRecord]:
    """Runs shard tasks on the cluster, each on a CPU of any node; yields records as they come.

    Raises:
        OSError: where the cluster lost a task more often than it is tried again.
    """
    remote = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(write)
    pending = [remote.remote(task) for task in tasks]
    try:
        while pending:
            done, pending = ray.wait(pending)
            yield from ray.get(done)
    except ray.exceptions.RayTaskError:
        raise  # the task's own error
    except ray.exceptions.RayError as error:
        raise OSError(
            f"the cluster lost a shard's task: {error}; the same command goes on where this one "
            "stopped"
        ) from error
    finally:
        for task in pending:
            ray.cancel(task)


def run_sharding(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the sharding job.

    Args:
        args: the arguments that `sharding.cli.add_build_commands` describes.

    Returns:
        The job's last line: `out`, `num_samples` by split, `num_rejected`, `data_fingerprint`.

    Raises:
        ValueError: where source, settings or output cannot be used.
        OSError: where disk, network or tasks failed; the same command goes on where it stopped.
    """
    join_cluster()
    for place in place_options(args):
        raw = readable_location(getattr(args, place), place)
        require_readable(raw, ".")
        setattr(args, place, raw.url)
    out = writable_location(args.out, "shards")
    args.out = out.url

    def spread(write: WriteShard, tasks: Sequence[ShardTask]) -> Iterator[ShardRecord]:
        require_shared(out.child(PARTS_FOLDER))  # all there is ours: a killed job leaves its probe
        return map_on_cluster(write, tasks)

    manifest = run_build(args, spread)
    preset = "celebamask-tuned" if manifest.scale.fit == "exact" else "helen"
    train = f"{typed_command('python')} jobs/e2e.py {preset} --data {shlex.quote(out.url)}"
    if args.labels != PAPER9.name:
        train += f" --labels {shlex.quote(args.labels)}"
    print(f"\nto train on them: {train}\n", flush=True)
    return {
        "out": out.url,
        "num_samples": manifest.num_samples,
        "num_rejected": len(manifest.rejected),
        "data_fingerprint": manifest.fingerprint,
    }
