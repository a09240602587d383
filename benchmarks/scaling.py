"""Measures a face's time by image size, batch, patch size and parts; and memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from benchmarks.measure import DEVICE, Row, in_turn, peak_mib
from benchmarks.networks import Inputs, inputs_of
from benchmarks.subjects import Setup, face_parser, photographs, plain_parser
from stn_icnn.config import TrainConfig, same_size
from stn_icnn.networks.execution import autocast_bf16
from stn_icnn.networks.model import STNiCNN
from stn_icnn.studies.timing import Work

IMAGE_PX = (512, 256, 1024)
BATCHES = (1, 4, 16)
PATCH_PX = (81, 41, 121)
"""The sizes that are compared; the others are divided by the first of each."""
MEMORY = {
    "parsing one face": ("parse", 512, 1, 0),
    "parsing 16 faces at a time": ("parse", 512, 16, 0),
    "parsing 16 faces of 1024 px at a time": ("parse", 1024, 16, 0),
    "training, coarse, batches of 16": ("coarse", 512, 16, 0),
    "training, end_to_end, batches of 16": ("end_to_end", 512, 16, 0),
    "training, end_to_end, batches of 64": ("end_to_end", 512, 64, 0),
    "training, end_to_end, batches of 64 in pieces of 16": ("end_to_end", 512, 64, 16),
}
"""The arguments of `benchmarks.memory` for each case."""


def scaling(setup: Setup) -> Iterator[Row]:
    """Yields the times of inference, each by the first of its kind, and then the memory."""
    config = setup.config
    yield from _compare(setup, {f"{px} px": (_parsing(setup, config, 1, px), 1) for px in IMAGE_PX})
    yield from _compare(
        setup, {f"{num} at a time": (_parsing(setup, config, num), num) for num in BATCHES}
    )
    sized = {px: _with_patches(config, px) for px in PATCH_PX}
    yield from _compare(
        setup,
        {f"patches of {px} px": (_parsing(setup, sized[px], 1), 1) for px in PATCH_PX},
    )
    yield from _compare(setup, _by_parts(setup))
    yield from _memory(setup)


def _by_parts(setup: Setup) -> dict[str, tuple[Work, int]]:
    """Returns work for the bare fine networks of all parts, and of fewer."""
    model = plain_parser(setup.config, photographs(setup, 1)).model
    inputs = inputs_of(model, 1)["fine"]
    works: dict[str, tuple[Work, int]] = {}
    for start, name in enumerate(model.fine):
        parts = model.label_set.parts_of_network
        num_parts = sum(len(parts[left]) for left in list(model.fine)[start:])
        what = f"fine networks of {num_parts} parts" if num_parts > 1 else f"that of the {name}"
        works[what] = (partial(_label, model, inputs[start:]), 1)
    return works


@torch.inference_mode()
def _label(model: STNiCNN, inputs: Inputs) -> None:
    for network, patches in inputs:
        patches = patches.contiguous(memory_format=torch.channels_last)
        with autocast_bf16(DEVICE, model.execution.bf16):
            network(patches)


def _with_patches(config: TrainConfig, px: int) -> TrainConfig:
    size = same_size(px)
    return replace(config, model=replace(config.model, window_px=size, patch_px=size))


def _parsing(setup: Setup, config: TrainConfig, num: int, px: int | None = None) -> Work:
    photos = photographs(setup, num, px)
    parser = face_parser(config, photos)
    return lambda: parser.parse_all(photos)


def _compare(setup: Setup, works: Mapping[str, tuple[Work, int]]) -> Iterator[Row]:
    times = in_turn({name: work for name, (work, _) in works.items()}, setup.rounds)
    first, *others = works
    of_first = works[first][1]
    for name in others:
        num = works[name][1]
        yield Row(
            figure=f"ms a face: {name} / {first}",
            rounds=times.ratio(name, first, of_first / num),
            absolute={f"{n}, ms a face": times.ms(n, works[n][1]) for n in (name, first)},
        )


def _memory(setup: Setup) -> Iterator[Row]:
    (first, case), *others = MEMORY.items()
    of_first = _peak_mib(setup, case)
    for name, case in others:
        mib = _peak_mib(setup, case)
        yield Row(
            figure=f"memory of a process: {name} / {first}",
            rounds=[mib / of_first],
            absolute={"MiB": mib, f"{first}, MiB": of_first},
            note="measured once",
        )


def _peak_mib(setup: Setup, case: Sequence[str | int]) -> float:
    return peak_mib("-m", "benchmarks.memory", str(setup.shards), *map(str, case))
