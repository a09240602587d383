"""What a face costs by size of image, number at a time and size of the patches; and memory."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from benchmarks.measure import Row, Work, in_turn, peak_mib
from benchmarks.subjects import Setup, face_parser, photographs
from stn_icnn.config import PartSizes, TrainConfig

IMAGE_PX = (512, 256, 1024)
BATCHES = (1, 4, 16)
PATCH_PX = (81, 41, 121)
"""The first of each is what the others are divided by."""
MEMORY = {
    "parsing one face": ("parse", 512, 1),
    "parsing 16 faces at a time": ("parse", 512, 16),
    "parsing 16 faces of 1024 px at a time": ("parse", 1024, 16),
    "training, coarse": ("coarse", 512, 16),
    "training, end_to_end": ("end_to_end", 512, 16),
    "training, end_to_end, batches of 64": ("end_to_end", 512, 64),
}


def scaling(setup: Setup) -> Iterator[Row]:
    """Inference, each measured beside the first of its kind; then memory."""
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
    yield from _memory(setup)


def _with_patches(config: TrainConfig, px: int) -> TrainConfig:
    size = PartSizes.same(px)
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
    first: float | None = None
    for name, case in MEMORY.items():
        mib = peak_mib("-m", "benchmarks.memory", str(setup.shards), *map(str, case))
        first = first or mib
        yield Row(
            figure=f"memory of a process: {name} / {next(iter(MEMORY))}",
            rounds=[mib / first],
            absolute={"MiB": mib},
            note="measured once",
        )
