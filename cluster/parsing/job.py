"""The parsing job: parses the photographs of a folder or bucket over the cluster."""

import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import ray
import ray.data
import ray.exceptions
import torch
from ray.util.annotations import RayDeprecationWarning

from cluster.config import ParsingJobConfig
from cluster.storage.job_locations import readable_location, writable_location
from cluster.storage.records import read_record, require_same_settings, write_record
from cluster.tracking.stored_models import FetchedModel
from cluster.workers.allocation import WorkerAllocation, allocate_workers
from cluster.workers.errors import PhaseFailedError
from cluster.workers.ray_cluster import join_cluster, require_readable, require_shared
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.model_sources import SHIPPED_MODEL
from stn_icnn.inference.outputs.output_files import ENDINGS
from stn_icnn.inference.parse_options import ParseOptions
from stn_icnn.inference.photographs import (
    NUM_THREADS,
    RECORD,
    ParseOutcome,
    parse_photos,
    summarize,
    until_all_fail,
)
from stn_icnn.inference.photos.listing import (
    StoredPhoto,
    add_outputs,
    describe_unowned,
    list_photos,
    pending_photos,
    plan_outputs,
    unowned_outputs,
)
from stn_icnn.networks.checkpoint import load_checkpoint
from stn_icnn.progress import progress
from stn_icnn.storage import Folder, StorageLocation, is_within

FAILED: Final = "failed.json"
"""The file in the output that lists the photographs that cannot be parsed, with the reasons."""

_UNSAID: Final = ParseOptions(kinds=()).record()
"""What a record does not say of options, in versions that had none: their defaults."""

MIN_PHOTOS_PER_WORKER: Final = 32
"""Where the number of workers is `auto`: for fewer, a worker is not worth its start."""

MAX_PHOTOS_PER_TASK: Final = 128
MIN_TASKS_PER_WORKER: Final = 8
"""With fewer, some workers would wait for the last ones to end."""


class ParseTask:
    """Parses photographs on a worker: Ray Data makes one on each, and gives it task after task.

    Paths and reasons are bytes, as a file's name need not be UTF-8, which Ray's tables demand.
    """

    def __init__(
        self,
        model: "ray.ObjectRef[bytes]",
        source: StorageLocation,
        out: StorageLocation,
        options: ParseOptions,
        allocation: WorkerAllocation,
        max_megapixels: float,
    ) -> None:
        torch.set_num_threads(allocation.cpus_per_worker)
        warnings.filterwarnings("ignore", module="PIL")  # of broken EXIF and large files, unnamed
        device = "cuda" if allocation.use_gpu else "cpu"
        self.parser = FaceParser(load_checkpoint(ray.get(model)), device, max_megapixels)
        self.source, self.out, self.options = source, out, options
        self.threads = max(NUM_THREADS, allocation.cpus_per_worker)

    def __call__(self, task: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Parses photographs.

        Args:
            task: the photographs' `paths`, and whether they `are_named_in_full`.

        Returns:
            The `paths` that were dealt with and, beside them, their `failures`, each empty where
            the photograph's files are written, whether they `are_outputs` and `are_unforeseen`,
            their `num_faces`, `num_left_out` and `confidences`, NaN for none; and as `error` how
            disk or network failed, empty where they did not: raised, it would be buried in Ray's
            own words.
        """
        photos = [
            StoredPhoto(self.source, os.fsdecode(path), bool(in_full))
            for path, in_full in zip(task["paths"], task["are_named_in_full"], strict=True)
        ]
        done: list[ParseOutcome] = []
        error = ""
        try:
            # Whether all fail is for the driver to say, which knows of the other tasks.
            done += parse_photos(
                self.parser, photos, self.out, self.options, self.threads, any_done=True
            )
        except OSError as raised:
            error = str(raised) or type(raised).__name__
        return {
            "paths": [os.fsencode(outcome.photo.path) for outcome in done],
            "failures": [os.fsencode(outcome.failure or "") for outcome in done],
            "are_outputs": [outcome.is_output for outcome in done],
            "are_unforeseen": [outcome.is_unforeseen for outcome in done],
            "num_faces": [outcome.num_faces for outcome in done],
            "num_left_out": [outcome.num_left_out for outcome in done],
            "confidences": [
                math.nan if outcome.confidence is None else outcome.confidence for outcome in done
            ],
            "error": os.fsencode(error),
        }


def run_parsing(job: ParsingJobConfig) -> dict[str, Any]:
    """Runs the job: parses the photographs that lack output files, on the cluster.

    Returns:
        What the job prints last, as `summarize` returns it.

    Raises:
        ValueError: model, locations or resources cannot be used, or all photographs fail; nothing
            was parsed yet.
        OSError: disk or network failed; the same command goes on where it stopped.
        PhaseFailedError: workers died more often than allowed, or no photograph can be parsed.
    """
    options = ParseOptions.read(job.write, job.framing, job.boxes, job.min_confidence)
    kinds = options.kinds
    source, out = _open_locations(job)
    name = str(SHIPPED_MODEL) if job.model is None else job.model
    model = FetchedModel.fetch_usable(name, job.tracking_uri, "parsing")
    FaceParser(model.checkpoint, "cpu").finds_faces(
        options.framing, options.boxes is not None, options.min_confidence
    )
    listing = list_photos(source, out)
    existing = out.list()
    photos = plan_outputs(listing.photos, out, kinds, existing)
    passed_over = add_outputs(listing.passed_over, len(listing.photos) - len(photos))
    if options.boxes is not None:
        options.boxes.require_matches([photo.names for photo in photos])
    record = {"model": model.sha256, "input": source.url, **options.record()}
    _claim(out, existing, photos, record)
    pending = pending_photos(photos, existing, kinds)
    num_skipped = len(photos) - len(pending)
    print(f"{len(photos)} photographs, {num_skipped} of them done before", flush=True)
    if left := unowned_outputs(photos, out, existing):
        print(describe_unowned(left, out), flush=True)
    started = time.monotonic()
    tasks = _parse(pending, out, options, model.content, job) if pending else iter(())
    shown = progress(until_all_fail(tasks, num_skipped > 0), len(pending), "photograph", len)
    outcomes = _collect(shown, out)
    failures = _failures(outcomes)
    if failures or FAILED in existing:
        _write_failures(out, failures)
    if len(failures) == len(photos):
        raise PhaseFailedError(
            f"none of the {len(photos)} photographs can be parsed; why: {out.url_of(FAILED)}"
        )
    num_outputs = sum(outcome.is_output for outcome in outcomes)
    num_done = len(photos) - len(failures) - num_outputs
    print(f"\nresults of {num_done} photographs: {out.url}\n", flush=True)
    return summarize(out, outcomes, num_skipped, passed_over, time.monotonic() - started)


def _collect(tasks: Iterable[Sequence[ParseOutcome]], out: StorageLocation) -> list[ParseOutcome]:
    """Returns the outcomes of all tasks; lists those that failed before an error ends the run."""
    outcomes: list[ParseOutcome] = []
    try:
        for task in tasks:
            outcomes += task
    except BaseException:
        if failures := _failures(outcomes):
            try:
                _write_failures(out, failures)
            except OSError:  # as where the disk is full, which may be what ends the run
                for path, reason in failures.items():
                    print(f"{path}: {reason}", file=sys.stderr, flush=True)
        raise
    return outcomes


def _failures(outcomes: Sequence[ParseOutcome]) -> dict[str, str]:
    """Returns why photographs cannot be parsed, by their paths."""
    return {o.photo.path: o.failure for o in outcomes if o.failure is not None}


def _open_locations(job: ParsingJobConfig) -> tuple[StorageLocation, StorageLocation]:
    """Returns the locations of input and output, which must not mix.

    Raises:
        ValueError: one is no location, there is no such input, or the output holds it.
    """
    source = readable_location(job.input, "input")
    if isinstance(source, Folder) and not source.root.is_dir():
        raise ValueError(f"there is no folder {source.url}")
    out = writable_location(job.out, "results")
    if is_within(source.url, out):
        raise ValueError(
            f"--out {out.url} holds the input {source.url}, where results would be taken for "
            "photographs: choose another"
        )
    return source, out


def _claim(
    out: StorageLocation,
    existing: Sequence[str],
    photos: Sequence[StoredPhoto],
    record: Mapping[str, object],
) -> None:
    """Claims the output for one model, input and way of framing, to which its files then belong.

    Raises:
        ValueError: it belongs to others, or no record says to whom.
    """
    if RECORD not in existing:
        outputs = {path for photo in photos for path in photo.output_paths(list(ENDINGS))}
        unknown = sorted(outputs & set(existing))
        if unknown:
            raise ValueError(
                f"--out {out.url} holds {unknown[0]}, which this job may not take for its own: no "
                f"{RECORD} says which model made it; choose another"
            )
        write_record(out, RECORD, record)
        return
    try:
        found = read_record(out, RECORD)
        stored = {name: found[name] for name in ("model", "input")}
        # Records of earlier versions have no more, as each photograph was a face.
        stored |= {name: found.get(name, default) for name, default in _UNSAID.items()}
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{out.url_of(RECORD)} is damaged; choose another --out") from error
    require_same_settings(f"the parsing into {out.url}", record, stored, option="--out")


def _parse(
    photos: Sequence[StoredPhoto],
    out: StorageLocation,
    options: ParseOptions,
    model: bytes,
    job: ParsingJobConfig,
) -> Iterator[list[ParseOutcome]]:
    """Parses photographs of one location on the cluster; yields the outcomes of task after task.

    Raises:
        ValueError: resources are lacking, or a node does not see input or output.
        OSError: disk or network failed.
        PhaseFailedError: workers died more often than allowed.
    """
    source, scaling = photos[0].location, job.scaling
    may_grow = join_cluster()
    allocation = allocate_workers(scaling, math.ceil(len(photos) / MIN_PHOTOS_PER_WORKER), may_grow)
    require_readable(source, photos[0].path)
    require_shared(out)
    print(f"working on {allocation}", flush=True)
    _silence_ray_data()
    tasks = _tasks(photos, allocation.num_workers)
    size = min(allocation.num_workers, len(tasks))
    with warnings.catch_warnings():
        # Ray warns of `max_task_retries`, for which it has no other name yet (2.60).
        warnings.simplefilter("ignore", RayDeprecationWarning)
        rows = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map(
            ParseTask,
            fn_constructor_args=(
                ray.put(model),
                source,
                out,
                options,
                allocation,
                job.max_megapixels,
            ),
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
            num_cpus=allocation.cpus_per_worker,
            num_gpus=1 if allocation.use_gpu else None,
            # For ever by default: a photograph that ends its worker would end the next as well.
            max_task_retries=allocation.max_failures,
        )
    try:
        for row in rows.iter_rows():
            yield _outcomes(source, row)
            if row["error"]:
                error = os.fsdecode(row["error"])
                raise OSError(f"{error}; the same command goes on where this one stopped")
    except ray.exceptions.RayTaskError:
        raise  # what a task raised, with its trace
    except ray.exceptions.RayError as error:
        raise PhaseFailedError(
            f"the cluster lost workers: {error}; the same command goes on where this one stopped"
        ) from error


def _outcomes(source: StorageLocation, row: Mapping[str, Any]) -> list[ParseOutcome]:
    """Returns the outcomes that a task returned as a row of Ray's table."""
    names = ("paths", "failures", "are_outputs", "are_unforeseen")
    counts = ("num_faces", "num_left_out", "confidences")
    columns = (row[name] for name in (*names, *counts))
    return [
        ParseOutcome(
            StoredPhoto(source, os.fsdecode(path)),
            failure=os.fsdecode(failure) or None,
            is_output=bool(is_output),
            is_unforeseen=bool(is_unforeseen),
            num_faces=int(num_faces),
            num_left_out=int(num_left_out),
            confidence=None if math.isnan(confidence) else float(confidence),
        )
        for path, failure, is_output, is_unforeseen, num_faces, num_left_out, confidence in zip(
            *columns, strict=True
        )
    ]


def _tasks(photos: Sequence[StoredPhoto], num_workers: int) -> list[dict[str, list[Any]]]:
    """Returns the photographs, dealt out to tasks in their order."""
    even = math.ceil(len(photos) / (num_workers * MIN_TASKS_PER_WORKER))
    size = min(even, MAX_PHOTOS_PER_TASK)
    return [
        {
            "paths": [os.fsencode(photo.path) for photo in some],
            "are_named_in_full": [photo.is_named_in_full for photo in some],
        }
        for some in (photos[start : start + size] for start in range(0, len(photos), size))
    ]


def _silence_ray_data() -> None:
    """Keeps Ray Data's bars and notes out of the job's log: it has progress of its own."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _write_failures(out: StorageLocation, failures: Mapping[str, str]) -> None:
    """Writes the list of this run's failures; earlier ones were tried again in it."""
    if not failures:
        out.delete(FAILED)
        return
    listed = [{"photo": path, "reason": failures[path]} for path in sorted(failures)]
    write_record(out, FAILED, listed)
    print(f"{len(failures)} photographs can't be parsed: {out.url_of(FAILED)}", flush=True)
