"""Compares training with the authors' steps, and measures what reading and augmenting cost."""

import statistics
from collections.abc import Iterator

import torch

from benchmarks.inference import NO_REFERENCE
from benchmarks.measure import Row, Times, in_turn
from benchmarks.reference import Reference
from benchmarks.subjects import Setup, photographs
from benchmarks.worker_group import default_num_workers, start_workers
from stn_icnn.studies.timing import Work
from stn_icnn.training.phases import MODEL_PHASES


def training(setup: Setup) -> Iterator[Row]:
    """Compares each phase's rate from augmented shards with that from memory and the authors'."""
    photos = photographs(setup, setup.config.optim.global_batch)
    steps: dict[str, Work] = {}
    if setup.reference is not None:
        authors = Reference(setup.reference)
        steps["coarse"] = authors.coarse_step(photos)
        steps["end_to_end"] = authors.end_to_end_step(photos)
    num_images = setup.steps * setup.config.optim.global_batch
    for phase in MODEL_PHASES:
        num_workers = default_num_workers(setup)
        with start_workers(setup, phase, num_workers, torch.get_num_threads()) as group:
            works = {
                "shards": group.work("from_shards"),
                "memory": group.work("from_memory"),
                "reading": group.work("read"),
            }
            if phase in steps:
                works["authors"] = steps[phase]
            times = in_turn(works, setup.rounds)
        if phase != "localizer":  # the authors train theirs on other labels, by another loss
            yield _against_authors(phase, times, setup)
        yield Row(
            figure=f"{phase}: images/s read from shards and augmented / fed from memory",
            rounds=times.ratio("memory", "shards"),
            absolute={
                "from shards, images/s": times.rate("shards", num_images),
                "from memory, images/s": times.rate("memory", num_images),
                "reading, share of the cores": statistics.median(times.ratio("reading", "shards")),
                "data_wait_fraction": statistics.median(group.wait_shares[-setup.rounds :]),
            },
        )


def _against_authors(phase: str, times: Times, setup: Setup) -> Row:
    figure = f"{phase}: our images/s, from shards and augmented / the authors', from memory"
    batch = setup.config.optim.global_batch
    rate = {"ours, images/s": times.rate("shards", setup.steps * batch)}
    if setup.reference is None:
        return Row(figure=figure, absolute=rate, note=NO_REFERENCE)
    return Row(
        figure=figure,
        rounds=times.ratio("authors", "shards", setup.steps),
        absolute={"authors, images/s": times.rate("authors", batch), **rate},
    )
