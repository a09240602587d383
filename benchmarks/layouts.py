"""Measures what the memory layout and the precision of the networks gain."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.measure import DEVICE, Row, in_turn
from benchmarks.subjects import PhaseBenchmark, Setup
from stn_icnn.config import TrainConfig
from stn_icnn.networks.execution import computes_bf16
from stn_icnn.studies.timing import Work

STANDS_FOR = "the coarse network alone"


def layouts(setup: Setup) -> Iterator[Row]:
    """Yields the ratios of channels-last to the default layout, and of bf16 to fp32."""
    config = setup.config
    plain = replace(config, channels_last=False)
    yield from _rows(setup, "channels-last / the default layout", config, plain)
    name = "bf16 / fp32"
    if not computes_bf16(DEVICE):
        yield Row(figure=f"images/s, {name}", note="not measured: this device has no bf16")
        return
    bf16, fp32 = replace(config, precision="bf16"), replace(config, precision="fp32")
    yield from _rows(setup, name, bf16, fp32)


def _rows(setup: Setup, name: str, one: TrainConfig, other: TrainConfig) -> Iterator[Row]:
    for what in ("training", "inference"):
        works = {label: _work(setup, config, what) for label, config in (("1", one), ("2", other))}
        times = in_turn(works, setup.rounds)
        batch = one.optim.global_batch
        yield Row(
            figure=f"{what}, images/s, {name}",
            rounds=times.ratio("2", "1"),
            absolute={
                "with, images/s": times.rate("1", batch),
                "without": times.rate("2", batch),
            },
            note=STANDS_FOR,
        )


def _work(setup: Setup, config: TrainConfig, what: str) -> Work:
    """Returns a coarse training step, or coarse labelling, of a batch in memory."""
    subject = PhaseBenchmark(replace(setup, config=config), "coarse")
    if what == "training":
        return subject.step
    subject.model.eval()

    @torch.inference_mode()
    def label() -> None:
        subject.model.label_coarsely(subject.memory)

    return label
