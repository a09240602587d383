"""Figures of training: against the authors' steps, and what reading and augmenting cost."""

import statistics
from collections.abc import Iterator

import torch

from benchmarks.inference import NO_REFERENCE
from benchmarks.measure import Row, Times, in_turn
from benchmarks.reference import Reference
from benchmarks.subjects import Setup, photographs
from benchmarks.team import team, usual_workers
from stn_icnn.studies.timing import Work
from stn_icnn.training.phases import MODEL_PHASES


def training(setup: Setup) -> Iterator[Row]:
    """Each phase read from shards and augmented, beside fed from memory and the authors' step."""
    photos = photographs(setup, setup.config.optim.global_batch)
    steps: dict[str, Work] = {}
    if setup.reference is not None:
        authors = Reference(setup.reference)
        steps["coarse"] = authors.coarse_step(photos)
        steps["end_to_end"] = authors.end_to_end_step(photos)
    num_images = setup.steps * setup.config.optim.global_batch
    for phase in MODEL_PHASES:
        with team(setup, phase, usual_workers(setup), torch.get_num_threads()) as ours:
            works = {
                "shards": ours.work("from_shards"),
                "memory": ours.work("from_memory"),
                "reading": ours.work("read"),
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
                "data_wait_fraction": statistics.median(ours.wait_shares[-setup.rounds :]),
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
