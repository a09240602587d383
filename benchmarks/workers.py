"""Compares two workers with one core each with one worker with two."""

from collections.abc import Iterator

from benchmarks.measure import DEVICE, Row, in_turn
from benchmarks.subjects import Setup
from benchmarks.worker_group import start_workers
from stn_icnn.training.phases import MODEL_PHASES

CORES = 2


def workers(setup: Setup) -> Iterator[Row]:
    """Yields each phase's rate, for the same global batches read from the same shards."""
    if DEVICE.type == "cuda":
        yield Row(figure="two workers / one", note="not measured: it is about the cores of a CPU")
        return
    for phase in MODEL_PHASES:
        with (
            start_workers(setup, phase, 2, CORES) as two,
            start_workers(setup, phase, 1, CORES) as one,
        ):
            works = {"two": two.work("from_shards"), "one": one.work("from_shards")}
            times = in_turn(works, setup.rounds)
        num_images = setup.steps * setup.config.optim.global_batch
        yield Row(
            figure=f"{phase}: images/s, two workers with a core each / one with two",
            rounds=times.ratio("one", "two"),
            absolute={
                "two, images/s": times.rate("two", num_images),
                "one, images/s": times.rate("one", num_images),
            },
        )
