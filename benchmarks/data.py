"""Measures how fast a raw CelebAMask-HQ folder is sharded, and its shards read for training.

Each figure is divided by a bound that is measured in the same run, on one core.
"""

import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from simplejpeg import decode_jpeg

from benchmarks.measure import Row, in_turn, peak_mib
from benchmarks.subjects import Setup
from sharding.layouts.celebamask import IMAGES, MASKS, PAINTED, SIZE_PX
from sharding.layouts.raw import IMAGE_FILTER
from sharding.manifest import load_manifest
from sharding.packing.sample import JPEG_QUALITY, read_samples
from stn_icnn.data.loading import load_batches
from stn_icnn.data.plan import plan_epoch
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.presets import celebamask
from stn_icnn.studies.timing import seconds

BOUND_IMAGES = 200
ONCE = "measured once"


def data(setup: Setup) -> Iterator[Row]:
    """Yields the figures of sharding and reading a raw folder."""
    if setup.raw is None:
        yield Row(figure="sharding and reading", note="not measured: no raw folder given (RAW=DIR)")
        return
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        yield from _sharding(setup.raw, Path(folder))
        torch.set_num_threads(1)
        yield _reading(Path(folder) / "2-workers", setup.rounds)
    torch.set_num_threads(threads)


def bare_sharding(raw: Path, images: Iterable[Path]) -> None:
    """Decodes images and masks, resizes, and encodes image and labels, and does nothing else."""
    for path in images:
        number = int(path.stem)
        image = Image.open(path).convert("RGB").resize((SIZE_PX, SIZE_PX), IMAGE_FILTER)
        folder = raw / MASKS / str(number // 2000)
        masks = (folder / f"{number:05d}_{part}.png" for part in PAINTED)
        grey = [np.asarray(Image.open(mask).convert("L")) for mask in masks if mask.exists()]
        image.save(io.BytesIO(), "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
        Image.fromarray(grey[0]).save(io.BytesIO(), "PNG")


def shard(raw: Path, out: Path, workers: int, limit: int) -> tuple[float, float]:
    """Shards by the command line; returns images a second, and MiB of its largest process."""
    command = ["-m", "sharding", "celebamask", "--source", str(raw), "--out", str(out)]
    command += ["--workers", str(workers), "--limit", str(limit)]
    weighed: list[float] = []
    taken = seconds(lambda: weighed.append(peak_mib(*command)))
    return sum(load_manifest(out).num_samples.values()) / taken, weighed[0]


def _sharding(raw: Path, out: Path) -> Iterator[Row]:
    images = sorted((raw / IMAGES).iterdir())
    few = images[:: max(1, len(images) // BOUND_IMAGES)]
    bare_sharding(raw, few[:10])
    bound = len(few) / seconds(lambda: bare_sharding(raw, few))
    _, mib_of_few = shard(raw, out / "few", 2, len(images) // 10)
    one, _ = shard(raw, out / "1-worker", 1, len(images))
    two, mib = shard(raw, out / "2-workers", 2, len(images))
    for name, ratio, absolute in (
        ("sharding: images/s / the bound", one / bound, {"images/s": one, "bound": bound}),
        ("sharding: two workers / one", two / one, {"two, images/s": two, "one": one}),
        (
            "sharding: memory of a worker for all images / for a tenth",
            mib / mib_of_few,
            {"all, MiB": mib, "a tenth": mib_of_few},
        ),
    ):
        yield _once(name, ratio, absolute)


def _once(figure: str, ratio: float, absolute: Mapping[str, float]) -> Row:
    return Row(figure=figure, rounds=[ratio], absolute=absolute, note=ONCE)


def _reading(out: Path, rounds: int) -> Row:
    """Compares reading training batches on one core with decoding the same images alone."""
    config = celebamask()
    paths = sorted((out / "train").glob("*.tar"))[:1]
    label_set = load_manifest(out).label_set
    faces = ShardedFaces([str(path) for path in paths], label_set, augment=config.augment)
    plan = plan_epoch(len(faces), 1, 16, seed=0, epoch=0)
    with paths[0].open("rb") as file:
        samples = [members for _, members in read_samples(file)]

    def decode() -> None:
        for members in samples:
            decode_jpeg(members["jpg"])
            np.asarray(Image.open(io.BytesIO(members["png"]), formats=("PNG",)))

    def read() -> None:
        for _ in load_batches(faces, plan):
            pass

    times = in_turn({"read": read, "decode": decode}, rounds)
    return Row(
        figure="reading: images/s / decoding alone",
        rounds=times.ratio("decode", "read"),
        absolute={"images/s": times.rate("read", len(faces))},
    )
