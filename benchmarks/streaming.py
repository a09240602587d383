"""Measures the reader of streamed shards alone, on small faces from an S3 server of this machine.

    python -m benchmarks.streaming --folder DIR      # --samples N --rounds N; --help

It starts a server of its own (moto, which keeps objects in memory), and prints a table. `DIR` keeps
the data set: procedural faces of about 64 px, each under many keys.
"""

import argparse
import contextlib
import hashlib
import io
import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import boto3
import torch
from PIL import Image

from benchmarks.measure import HEADER, Row, in_turn
from cluster.config import Reading
from cluster.storage.datasets import ShardedData
from cluster.storage.sharded_faces import read_train_faces
from sharding.manifest import MANIFEST, Shard, load_manifest
from sharding.packing.building import Recipe, build
from sharding.packing.sample import JPEG_QUALITY, encode_image, read_samples
from sharding.procedural.raw_faces import write_faces
from sharding.storage.location import open_location
from stn_icnn.config import OptimConfig, TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.data.epochs import Epoch, open_epoch
from stn_icnn.data.stream_plan import Leg

NUM_FACES = 1000
FACE_PX = 64
FEW_SAMPLES = 20_000
"""The samples of those figures for which all would take long."""
CHECKPOINT_STEPS = 50
CACHE_GB = "1"
CONFIG = TrainConfig(optim=OptimConfig(global_batch=64))
SPLIT = "train"
KINDS = ("steps", "rates", "epoch", "killed")


class RankAlone(LocalContext):
    """One of several ranks, which reads without the others."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        super().__init__()
        self.rank, self.world_size = rank, world_size  # type: ignore[misc]


def faces_of(
    data: ShardedData,
    context: LocalContext,
    reading: Reading,
    num_done: int = 0,
    legs: Sequence[Leg] = (),
    number: int = 0,
) -> Epoch:
    """Opens a rank's part of an epoch by a reader, with the augmentation of a training."""
    with contextlib.redirect_stdout(io.StringIO()):
        faces = read_train_faces(replace(data, reading=reading), CONFIG, context, augmented=True)
    return open_epoch(faces, CONFIG, number, context, 0, num_done, legs)


def few(data: ShardedData, num_samples: int) -> ShardedData:
    """Returns the data set with as many of its first training shards as have so many samples."""
    shards, number = data.manifest.splits[SPLIT], 0
    starts = itertools.accumulate((shard.samples for shard in shards), initial=0)
    number = sum(start < num_samples for start in starts)
    splits = {**data.manifest.splits, SPLIT: shards[:number]}
    return replace(data, manifest=replace(data.manifest, splits=splits))


def equal_steps(data: ShardedData) -> Iterator[Row]:
    """Counts the steps of several workers, and how often each sample comes."""
    for world_size in (2, 3, 5):
        seen: Counter[str] = Counter()
        steps = []
        for rank in range(world_size):
            batches = list(faces_of(data, RankAlone(rank, world_size), "stream").batches)
            seen.update(key for batch in batches for key in batch.keys)
            steps.append(len(batches))
        num_samples = data.manifest.num_samples[SPLIT]
        yield Row(
            figure=f"{world_size} workers: samples seen / samples",
            rounds=[len(seen) / num_samples],
            absolute={"samples": num_samples, "most often seen": max(seen.values())},
            note=f"steps of the workers: {', '.join(map(str, steps))}",
        )


def epoch_in_a_process(data: ShardedData, results: "multiprocessing.Queue[Row]") -> None:
    """Streams an epoch, and weighs the process on its way."""
    started = time.perf_counter()
    keys: Counter[str] = Counter()
    mib: list[float] = []
    num_samples = data.manifest.num_samples[SPLIT]
    every = max(1, num_samples // CONFIG.optim.global_batch // 20)
    for step, batch in enumerate(faces_of(data, RankAlone(), "auto").batches):
        keys.update(batch.keys)
        if step % every == every - 1:
            mib.append(resident_mib())
    taken = time.perf_counter() - started
    names = sys.getsizeof(keys) + sum(map(sys.getsizeof, keys))
    results.put(
        Row(
            figure="an epoch: samples seen / samples",
            rounds=[len(keys) / num_samples],
            absolute={
                "samples": num_samples,
                "GB": sum(shard.bytes for shard in data.shards(SPLIT)) / 1e9,
                "most often seen": max(keys.values()),
                "samples/s": num_samples / taken,
                "MiB after a 20th": mib[0],
                "MiB at half": mib[len(mib) // 2],
                "MiB at the end": mib[-1],
                "MiB of them, the names counted here": names / 2**20,
            },
            note=f"STN_ICNN_CACHE_GB={CACHE_GB}, --reading auto",
        )
    )


def resident_mib() -> float:
    """Returns the memory that this process has in use, MiB; on Linux alone."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def rates(data: ShardedData, rounds: int) -> Iterator[Row]:
    """Compares the readers, the copies having been fetched and opened before."""
    with contextlib.redirect_stdout(io.StringIO()):
        began = time.perf_counter()
        copied = read_train_faces(
            replace(data, reading="copy"), CONFIG, RankAlone(), augmented=True
        )
        fetching = time.perf_counter() - began
        streamed = read_train_faces(
            replace(data, reading="stream"), CONFIG, RankAlone(), augmented=True
        )
    numbers = itertools.count()
    cpu: dict[str, list[float]] = {"copy": [], "stream": []}

    def read(name: str) -> None:
        faces = copied if name == "copy" else streamed
        used = time.process_time()
        for _ in open_epoch(faces, CONFIG, next(numbers), RankAlone()).batches:
            pass
        cpu[name].append(time.process_time() - used)

    times = in_turn({name: lambda name=name: read(name) for name in cpu}, rounds)  # type: ignore[misc]
    num_samples = data.manifest.num_samples[SPLIT]
    of_cpu = {name: min(used) for name, used in cpu.items()}
    yield Row(
        figure="rate of stream / copy",
        rounds=times.ratio("copy", "stream"),
        absolute={
            "stream, samples/s": times.rate("stream", num_samples),
            "copy": times.rate("copy", num_samples),
            "CPU time of copy / stream": of_cpu["copy"] / of_cpu["stream"],
        },
        note="an epoch each, after the copy was made",
    )
    first_copied = [fetching + copy for copy in times.seconds["copy"]]
    yield Row(
        figure="rate of stream / copy, in the first epoch",
        rounds=[a / b for a, b in zip(first_copied, times.seconds["stream"], strict=True)],
        absolute={"fetching and opening the copy, s": fetching},
        note="with the time that the copy takes to make",
    )


def read_until_killed(data: ShardedData, rank: int, world_size: int, path: str) -> None:
    """Streams, and writes a line of keys for each step."""
    with Path(path).open("w") as file:
        for batch in faces_of(data, RankAlone(rank, world_size), "stream").batches:
            print(*batch.keys, file=file, flush=True)


def killed_and_resumed(data: ShardedData, before: int, after: int) -> Row:
    """Kills workers in mid-epoch, and goes on from their last checkpoint with others."""
    num_steps = -(-data.manifest.num_samples[SPLIT] // CONFIG.optim.global_batch)
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{rank}" for rank in range(before)]
        workers = [
            multiprocessing.Process(target=read_until_killed, args=(data, rank, before, path))
            for rank, path in enumerate(paths)
        ]
        for worker in workers:
            worker.start()
        while any(_num_lines(path) < num_steps // 2 for path in paths):
            time.sleep(0.05)
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
        lines = [Path(path).read_text().splitlines() for path in paths]
    num_done = min(map(len, lines)) // CHECKPOINT_STEPS * CHECKPOINT_STEPS
    kept = Counter(key for own in lines for line in own[:num_done] for key in line.split())
    lost = min(map(len, lines)) - num_done
    legs = [(before, 0, num_done)]
    steps = 0
    for rank in range(after):
        epoch = faces_of(data, RankAlone(rank, after), "stream", num_done, legs)
        steps = len(epoch.sizes)
        kept.update(key for batch in epoch.batches for key in batch.keys)
    num_samples = data.manifest.num_samples[SPLIT]
    return Row(
        figure=f"{before} workers killed, resumed by {after}: samples seen / samples",
        rounds=[len(kept) / num_samples],
        absolute={
            "samples": num_samples,
            "most often seen": max(kept.values()),
            "passed over": num_samples - len(kept),
            "steps at the checkpoint": num_done,
            "steps lost and not kept": lost,
            "steps in the end": steps,
            "steps of a whole epoch": num_steps,
        },
        note=f"a checkpoint every {CHECKPOINT_STEPS} steps",
    )


def _num_lines(path: str) -> int:
    return Path(path).read_bytes().count(b"\n") if Path(path).exists() else 0


def make_data(folder: Path, num_samples: int, per_shard: int) -> None:
    """Draws faces, and writes each into the shards of a data set under many keys."""
    with tempfile.TemporaryDirectory() as scratch:
        raw, small = Path(scratch) / "raw", Path(scratch) / "small"
        write_faces("helen", NUM_FACES, raw, size_px=FACE_PX, workers=1)
        build(raw, small, Recipe(layout="helen"))
        manifest = load_manifest(small)
        samples = [
            members | {"jpg": _sharp(members["jpg"])}
            for path in sorted(small.glob("*/*.tar"))
            for _, members in read_samples(path.open("rb"))
        ]
        for split in ("val", "test"):
            for shard in manifest.splits[split]:
                (folder / shard.path).parent.mkdir(parents=True, exist_ok=True)
                (folder / shard.path).write_bytes((small / shard.path).read_bytes())
    (folder / SPLIT).mkdir(exist_ok=True)
    shards = [
        _write_shard(folder, f"{SPLIT}/{number:06d}.tar", samples, range(start, stop))
        for number, start in enumerate(range(0, num_samples, per_shard))
        for stop in [min(start + per_shard, num_samples)]
    ]
    manifest = replace(manifest, splits={**manifest.splits, SPLIT: tuple(shards)})
    (folder / MANIFEST).write_bytes(manifest.to_json())


def _sharp(jpeg: bytes) -> bytes:
    """Encodes a photograph as sharding does it where it must."""
    image = Image.open(io.BytesIO(jpeg))
    return encode_image(image, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")


def _write_shard(
    folder: Path, path: str, samples: Sequence[dict[str, bytes]], keys: Sequence[int]
) -> Shard:
    with tarfile.open(folder / path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key in keys:
            for suffix, data in samples[key % len(samples)].items():
                info = tarfile.TarInfo(f"{key:08d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    content = (folder / path).read_bytes()
    return Shard(path, hashlib.sha256(content).hexdigest(), len(content), len(keys))


@contextlib.contextmanager
def s3_server() -> Iterator[None]:
    """Starts an S3 server with an empty bucket `faces`, which this process's clients go to."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with (
        tempfile.NamedTemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
    ):
        try:
            while not (found := re.search(r"http://\S+", Path(log.name).read_text())):
                time.sleep(0.1)
            os.environ["AWS_ENDPOINT_URL"] = found[0]
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                os.environ[name] = "bench"
            os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
            boto3.client("s3").create_bucket(Bucket="faces")
            yield
        finally:
            server.kill()


def measure(data: ShardedData, only: Sequence[str], rounds: int) -> Iterator[Row]:
    """Yields the figures of some kinds."""
    part = few(data, FEW_SAMPLES)
    if "steps" in only:
        yield from equal_steps(part)
    if "rates" in only:
        yield from rates(part, rounds)
    if "epoch" in only:
        results: multiprocessing.Queue[Row] = multiprocessing.Queue()
        whole = multiprocessing.Process(target=epoch_in_a_process, args=(data, results))
        whole.start()
        yield results.get()
        whole.join()
    if "killed" in only:
        yield killed_and_resumed(data, 2, 3)


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="keeps the data set")
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--per-shard", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    multiprocessing.set_start_method("spawn")
    if not (asked.folder / MANIFEST).exists():
        make_data(asked.folder, asked.samples, asked.per_shard)
    with s3_server(), tempfile.TemporaryDirectory() as cache:
        os.environ["STN_ICNN_CACHE"], os.environ["STN_ICNN_CACHE_GB"] = cache, CACHE_GB
        place = open_location("s3://faces/set")
        for path in open_location(asked.folder).list():
            place.upload((asked.folder / path).open("rb"), path)
        print(HEADER, flush=True)
        for row in measure(ShardedData.open(place), asked.only, asked.rounds):
            print(row.to_markdown(), flush=True)


if __name__ == "__main__":
    main()
