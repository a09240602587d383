"""Sharding spread over the cluster."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from cluster.resources import join_cluster, require_readable, require_shared
from sharding.building import WriteShard
from sharding.cli import run_build
from sharding.writer import ShardRecord, ShardTask

MAX_RETRIES = 3
"""Of a task whose node or process dies; what a task raises is not tried again."""


def map_on_cluster(write: WriteShard, tasks: Sequence[ShardTask]) -> Iterator[ShardRecord]:
    """Yields the records as they come; a task takes a CPU of any node.

    Raises:
        OSError: tasks died too often.
    """
    remote = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(write)
    pending = [remote.remote(task) for task in tasks]
    try:
        while pending:
            done, pending = ray.wait(pending)
            yield from ray.get(done)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise OSError(
            f"a shard's task died {MAX_RETRIES + 1} times: {error}; the same command goes on where "
            "this one stopped"
        ) from error
    finally:
        for task in pending:
            ray.cancel(task)


def run_sharding(args: argparse.Namespace) -> dict[str, Any]:
    """The sharding job.

    Args:
        args: as `sharding.cli.add_build_commands` describes them.

    Returns:
        The job's last line: `out`, `num_samples` by split, `num_rejected`, `data_fingerprint`.

    Raises:
        ValueError: source, settings or places can't be used.
        OSError: disk, network or tasks failed; the same command goes on where it stopped.
    """
    join_cluster()
    if "://" not in args.out:
        Path(args.out).mkdir(parents=True, exist_ok=True)
        args.out = str(Path(args.out).absolute())
        require_shared(args.out)
    if "://" not in args.source:
        args.source = str(Path(args.source).absolute())
        require_readable(args.source, ".")
    manifest = run_build(args, map_on_cluster)
    return {
        "out": args.out,
        "num_samples": manifest.num_samples,
        "num_rejected": len(manifest.rejected),
        "data_fingerprint": manifest.fingerprint,
    }
