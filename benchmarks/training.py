"""Figures of training: against the authors' steps, and what reading and augmenting cost."""

import statistics
from collections.abc import Iterator

from benchmarks.inference import NO_REFERENCE
from benchmarks.measure import Row, Times, Work, in_turn
from benchmarks.reference import Reference
from benchmarks.subjects import Setup, Training, photographs
from stn_icnn.phases import PHASES


def training(setup: Setup) -> Iterator[Row]:
    """Each phase read from shards and augmented, beside fed from memory and the authors' step."""
    photos = photographs(setup, setup.config.optim.global_batch)
    steps: dict[str, Work] = {}
    if setup.reference is not None:
        authors = Reference(setup.reference)
        steps["coarse"] = authors.coarse_step(photos)
        steps["end_to_end"] = authors.end_to_end_step(photos)
    for phase in PHASES:
        subject = Training(setup, phase)
        works: dict[str, Work] = {
            "shards": subject.from_shards,
            "memory": subject.from_memory,
            "reading": subject.read,
        }
        if phase in steps:
            works["authors"] = steps[phase]
        times = in_turn(works, setup.rounds)
        rate = times.rate("shards", subject.num_images)
        if phase != "localizer":  # the authors train theirs on other labels, by another loss
            yield _against_authors(phase, times, subject, setup.reference is not None)
        yield Row(
            figure=f"{phase}: images/s read from shards and augmented / fed from memory",
            rounds=times.ratio("memory", "shards"),
            absolute={
                "from shards, images/s": rate,
                "from memory, images/s": times.rate("memory", subject.num_images),
                "reading, share of a core": statistics.median(times.ratio("reading", "shards")),
                "data_wait_fraction": statistics.median(subject.wait_shares[-setup.rounds :]),
            },
        )


def _against_authors(phase: str, times: Times, subject: Training, measured: bool) -> Row:
    figure = f"{phase}: our images/s, from shards and augmented / the authors', from memory"
    ours = {"ours, images/s": times.rate("shards", subject.num_images)}
    if not measured:
        return Row(figure=figure, absolute=ours, note=NO_REFERENCE)
    more = subject.num_images / subject.batch
    return Row(
        figure=figure,
        rounds=times.ratio("authors", "shards", more),
        absolute={"authors, images/s": times.rate("authors", subject.batch), **ours},
    )
