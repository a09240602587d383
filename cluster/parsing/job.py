"""Parsing the photographs of a folder or bucket over the cluster."""

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import ray
import ray.data
import ray.exceptions
import torch
from ray.util.annotations import RayDeprecationWarning

from cluster.config import ParseConfig, ScalingConfig
from cluster.parsing.photographs import (
    RECORD,
    THREADS,
    Outcome,
    Photo,
    list_photos,
    parse_photos,
    pending_photos,
    require_distinct_results,
    summary,
)
from cluster.storage.locations import writable_location
from cluster.tracking.stored_models import FetchedModel
from cluster.workers.allocation import WorkerAllocation, allocate_workers
from cluster.workers.launch import PhaseFailedError
from cluster.workers.ray_cluster import join_cluster, require_readable, require_shared
from sharding.storage.location import open_location
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.results import ENDINGS, kinds_of, result_paths
from stn_icnn.networks.checkpoint import load_checkpoint
from stn_icnn.progress import progress
from stn_icnn.storage import StorageLocation

FAILED: Final = "failed.json"
"""In the output: the photographs that can't be parsed, with the reasons."""

LEAST_PHOTOS_A_WORKER: Final = 32
"""Where the number of workers is `auto`: for fewer, a worker is not worth its start."""

MOST_PHOTOS_A_TASK: Final = 128
TASKS_A_WORKER: Final = 8
"""At least, so that workers end at about the same time."""


class ParseTask:
    """A model on a worker: Ray Data makes one a worker, and calls it with one task at a time.

    Text is in bytes, as a file's name need not be UTF-8, which Ray's tables demand.
    """

    def __init__(
        self,
        model: "ray.ObjectRef[bytes]",
        source: StorageLocation,
        out: StorageLocation,
        kinds: Sequence[str],
        allocation: WorkerAllocation,
    ) -> None:
        torch.set_num_threads(allocation.cpus_per_worker)
        device = "cuda" if allocation.use_gpu else "cpu"
        self.parser = FaceParser(load_checkpoint(ray.get(model)), device)
        self.source, self.out, self.kinds = source, out, kinds
        self.threads = max(THREADS, allocation.cpus_per_worker)

    def __call__(self, task: Mapping[str, Sequence[bytes]]) -> dict[str, bytes | list[bytes]]:
        """Parses photographs.

        Args:
            task: their `paths`.

        Returns:
            Their `paths`, and of each its `failures`, empty where its results are written. Where
            disk or network failed, why, as `error`: raised, it would be buried in Ray's own words.
        """
        photos = [Photo(self.source, os.fsdecode(path)) for path in task["paths"]]
        done: list[Outcome] = []
        error = ""
        try:
            done += parse_photos(self.parser, photos, self.out, self.kinds, self.threads)
        except OSError as raised:
            error = str(raised)
        return {
            "paths": [os.fsencode(outcome.photo.path) for outcome in done],
            "failures": [os.fsencode(outcome.failure or "") for outcome in done],
            "error": os.fsencode(error),
        }


def run_parsing(job: ParseConfig) -> dict[str, Any]:
    """The parsing job.

    Returns:
        The job's last line: `out`, `parsed`, `skipped`, `failed`, `photos_per_second`.

    Raises:
        ValueError: for a model, places or resources that can't be used, before any work.
        OSError: disk or network failed; the same command goes on where it stopped.
        PhaseFailedError: workers died more often than allowed, or no photograph can be parsed.
    """
    kinds = kinds_of(job.write)
    source, out = _places(job)
    model = FetchedModel.fetch(job.model, job.tracking_uri)
    photos = list_photos(source, out)
    require_distinct_results(photos, out, kinds)
    there = out.list()
    _claim(out, there, photos, {"model": model.sha256, "input": source.url})
    rest = pending_photos(photos, there, kinds)
    print(f"{len(photos)} photographs, {len(photos) - len(rest)} of them done before", flush=True)
    started = time.monotonic()
    coming = _parse(rest, out, kinds, model.content, job.scaling) if rest else iter(())
    outcomes = [each for some in progress(coming, len(rest), "photograph", len) for each in some]
    failures = {o.photo.path: o.failure for o in outcomes if o.failure is not None}
    if failures or FAILED in there:
        _report(out, failures)
    if len(failures) == len(photos):
        raise PhaseFailedError(
            f"none of the {len(photos)} photographs can be parsed; why: {out.url_of(FAILED)}"
        )
    return summary(out, outcomes, len(photos) - len(rest), time.monotonic() - started)


def _places(job: ParseConfig) -> tuple[StorageLocation, StorageLocation]:
    """The input and the output, which must not mix.

    Raises:
        ValueError: for what is no place, and an output that holds the input.
    """
    source, out = open_location(job.input), writable_location(job.out, "results")
    if f"{source.url}/".startswith(f"{out.url}/"):
        raise ValueError(
            f"--out {out.url} holds the input {source.url}, where results would be taken for "
            "photographs: choose another"
        )
    return source, out


def _claim(
    out: StorageLocation, there: Sequence[str], photos: Sequence[Photo], record: Mapping[str, str]
) -> None:
    """Makes the output that of one model and one input: what is there is then theirs.

    Raises:
        ValueError: where it is another's, or nobody knows whose.
    """
    if RECORD not in there:
        results = {path for photo in photos for path in result_paths(photo.path, list(ENDINGS))}
        unknown = sorted(results & set(there))
        if unknown:
            raise ValueError(
                f"--out {out.url} holds {unknown[0]}, which this job may not take for its own: no "
                f"{RECORD} says which model made it; choose another"
            )
        out.write(RECORD, json.dumps(record, indent=1).encode())
        return
    try:
        found = json.loads(out.read(RECORD))
        differing = [name for name in record if found[name] != record[name]]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{out.url_of(RECORD)} is damaged; choose another --out") from error
    if differing:
        name = differing[0]
        raise ValueError(
            f"--out {out.url} holds results of another {name}: {found[name]}, here it is "
            f"{record[name]}; choose another"
        )


def _parse(
    photos: Sequence[Photo],
    out: StorageLocation,
    kinds: Sequence[str],
    model: bytes,
    scaling: ScalingConfig,
) -> Iterator[list[Outcome]]:
    """Parses photographs of one place on the cluster; yields what came of them, task by task.

    Raises:
        ValueError: where there are not the resources, or a node does not see input or output.
        OSError: disk or network failed.
        PhaseFailedError: workers died more often than allowed.
    """
    source = photos[0].place
    may_grow = join_cluster()
    allocation = allocate_workers(scaling, math.ceil(len(photos) / LEAST_PHOTOS_A_WORKER), may_grow)
    require_readable(source, photos[0].path)
    require_shared(out)
    print(f"working on {allocation}", flush=True)
    _quieten()
    tasks = _tasks(photos, allocation.num_workers)
    with warnings.catch_warnings():
        # Of arguments like the last; it has no other name yet (2.60).
        warnings.simplefilter("ignore", RayDeprecationWarning)
        rows = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map(
            ParseTask,
            fn_constructor_args=(ray.put(model), source, out, kinds, allocation),
            compute=ray.data.ActorPoolStrategy(
                size=min(allocation.num_workers, len(tasks)), max_tasks_in_flight_per_actor=2
            ),
            num_cpus=allocation.cpus_per_worker,
            num_gpus=1 if allocation.use_gpu else None,
            # For ever by default: a photograph that ends its worker would end the next as well.
            max_task_retries=scaling.max_failures,
        )
    try:
        for row in rows.iter_rows():
            if row["error"]:
                error = os.fsdecode(row["error"])
                raise OSError(f"{error}; the same command goes on where this one stopped")
            yield [
                Outcome(Photo(source, os.fsdecode(path)), os.fsdecode(failure) or None)
                for path, failure in zip(row["paths"], row["failures"], strict=True)
            ]
    except ray.exceptions.RayTaskError:
        raise  # an error of ours, with its trace
    except ray.exceptions.RayError as error:
        raise PhaseFailedError(
            f"the cluster lost workers: {error}; the same command goes on where this one stopped"
        ) from error


def _tasks(photos: Sequence[Photo], num_workers: int) -> list[dict[str, list[bytes]]]:
    """Deals photographs out to tasks, in their order."""
    even = math.ceil(len(photos) / (num_workers * TASKS_A_WORKER))
    size = min(even, MOST_PHOTOS_A_TASK)
    paths = [os.fsencode(photo.path) for photo in photos]
    return [{"paths": paths[start : start + size]} for start in range(0, len(paths), size)]


def _quieten() -> None:
    """Keeps Ray Data's bars and notes out of the job's log: it has progress of its own."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _report(out: StorageLocation, failures: Mapping[str, str]) -> None:
    """Lists the photographs that can't be parsed, this time: those of before were tried again."""
    if not failures:
        out.delete(FAILED)
        return
    listed = [{"photo": path, "reason": failures[path]} for path in sorted(failures)]
    out.write(FAILED, json.dumps(listed, indent=1).encode())
    print(f"{len(failures)} photographs can't be parsed: {out.url_of(FAILED)}", flush=True)
