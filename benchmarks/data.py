"""How fast a raw CelebAMask-HQ folder is sharded, and its shards are read for training.

    python -m benchmarks.data RAW

Each figure stands beside a bound measured in the same run, on one core.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from simplejpeg import decode_jpeg

from sharding.celebamask import IMAGES, MASKS, PAINTED, SIZE_PX
from sharding.manifest import load_manifest
from sharding.raw import IMAGE_FILTER
from sharding.sample import JPEG_QUALITY, read_samples
from stn_icnn.config import celebamask
from stn_icnn.data import ShardedFaces, load_batches, plan_epoch

BOUND_IMAGES = 200
READ_ROUNDS = 15


def bare_sharding(raw: Path, images: Iterable[Path]) -> None:
    """Only decodes an image and its masks, resizes, and encodes image and labels."""
    for path in images:
        number = int(path.stem)
        image = Image.open(path).convert("RGB").resize((SIZE_PX, SIZE_PX), IMAGE_FILTER)
        folder = raw / MASKS / str(number // 2000)
        masks = (folder / f"{number:05d}_{part}.png" for part in PAINTED)
        grey = [np.asarray(Image.open(mask).convert("L")) for mask in masks if mask.exists()]
        image.save(io.BytesIO(), "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
        Image.fromarray(grey[0]).save(io.BytesIO(), "PNG")


RUN_AND_WEIGH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Prints the KiB of the largest process of a command; small itself, for a child counts its parent's
memory until it runs another program."""


def shard(raw: Path, out: Path, workers: int, limit: int) -> tuple[float, float]:
    """Images a second of the command line, its start included, and MiB of its largest process."""
    command = [sys.executable, "-m", "sharding", "celebamask", "--source", str(raw)]
    settings = ["--out", str(out), "--workers", str(workers), "--limit", str(limit)]
    weighed = [sys.executable, "-c", RUN_AND_WEIGH, *command, *settings]
    started = time.perf_counter()
    kib = subprocess.run(weighed, check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - started
    return sum(load_manifest(out).num_samples.values()) / seconds, int(kib) / 1024


def measure_sharding(raw: Path, out: Path) -> dict[str, float]:
    """Images a second, and MiB of the largest process, with one and with two workers."""
    images = sorted((raw / IMAGES).iterdir())
    few = images[:: max(1, len(images) // BOUND_IMAGES)]
    bare_sharding(raw, few[:10])
    started = time.perf_counter()
    bare_sharding(raw, few)
    bound = len(few) / (time.perf_counter() - started)
    _, mib_of_few = shard(raw, out / "few", 2, len(images) // 10)
    one, _ = shard(raw, out / "1-worker", 1, len(images))
    two, mib = shard(raw, out / "2-workers", 2, len(images))
    return {
        "sharding, images/s": one,
        "sharding, of the bound": one / bound,
        "sharding, two workers of one": two / one,
        "sharding, MiB of a worker, a tenth of the images": mib_of_few,
        "sharding, MiB of a worker, all images": mib,
    }


def measure_reading(out: Path) -> dict[str, float]:
    """Images a second of reading training batches on one core, of decoding the same alone."""
    torch.set_num_threads(1)
    config = celebamask()
    paths = sorted((out / "train").glob("*.tar"))[:1]
    faces = ShardedFaces([str(path) for path in paths], augment=config.augment)
    plan = plan_epoch(len(faces), 1, 16, seed=0, epoch=0)
    with paths[0].open("rb") as file:
        samples = [members for _, members in read_samples(file)]
    reading, decoding = [], []
    for _ in range(READ_ROUNDS):
        started = time.perf_counter()
        for members in samples:
            decode_jpeg(members["jpg"])
            np.array(Image.open(io.BytesIO(members["png"])))
        decoded = time.perf_counter()
        for _batch in load_batches(faces, plan):
            pass
        reading.append(time.perf_counter() - decoded)
        decoding.append(decoded - started)
    return {
        "reading, images/s": len(faces) / float(np.median(reading)),
        "reading, of decoding alone": float(np.median(np.divide(decoding, reading))),
    }


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", type=Path, help="a folder in CelebAMask-HQ's layout")
    raw = parser.parse_args().raw
    with tempfile.TemporaryDirectory() as folder:
        figures = measure_sharding(raw, Path(folder))
        figures |= measure_reading(Path(folder) / "2-workers")
    print("| figure | |\n|---|---|")
    for name, value in figures.items():
        print(f"| {name} | {value:.3g} |")


if __name__ == "__main__":
    main()
