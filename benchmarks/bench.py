"""Measured ratios of this code on this machine: `make bench`. See README.md beside it."""

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from cluster.provenance import git_commit
from sharding.building import Recipe, build
from sharding.faces import write_faces
from stn_icnn.batch import Batch, collate
from stn_icnn.config import PRESETS, TrainConfig
from stn_icnn.data import Request, ShardedFaces
from stn_icnn.evaluate import parse_batch
from stn_icnn.labels import PARTS_OF_NETWORK
from stn_icnn.model import STNiCNN, build_model, computes_bf16, prepare_model
from stn_icnn.phases import PhaseLoss, set_trained
from stn_icnn.train import build_optimizer, train_step

ROUNDS = 5
BATCH = 16
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
RESULT = Path(__file__).with_name("result.json")


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call, the device's queue drained."""
    started = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def ratio(one: Callable[[], object], other: Callable[[], object]) -> float:
    """Median over rounds of `seconds(one) / seconds(other)`, taken in turn after a warm-up."""
    one(), other()
    return statistics.median(seconds(one) / seconds(other) for _ in range(ROUNDS))


def ready(config: TrainConfig) -> STNiCNN:
    """A fresh model, all of it trained."""
    model = prepare_model(build_model(config.model), config, DEVICE)
    set_trained(model, {"coarse": 1.0, "localizer": 1.0, "fine": 1.0})
    return model


def coarse_step(config: TrainConfig, batch: Batch) -> Callable[[], object]:
    """A training step of the coarse network."""
    model = ready(config)
    optimizer = build_optimizer(model, "coarse", config.optim)
    loss = PhaseLoss(model, "coarse", config.loss)
    return lambda: train_step(loss, optimizer, batch, len(batch), 1)


def end_to_end_step(config: TrainConfig, batch: Batch) -> Callable[[], object]:
    """A training step of everything."""
    model = ready(config)
    optimizer = build_optimizer(model, "end_to_end", config.optim)
    loss = PhaseLoss(model, "end_to_end", config.loss)
    return lambda: train_step(loss, optimizer, batch, len(batch), 1)


def bare_networks(config: TrainConfig, num: int, train: bool) -> Callable[[], object]:
    """The networks alone, on random input of the right sizes."""
    model = ready(config)
    if not train:
        model.eval()
    px = config.model.coarse_px
    inputs = [(model.coarse, torch.rand(num, 3, px, px, device=DEVICE))]
    inputs.append((model.localizer, torch.rand(num, 9, px, px, device=DEVICE)))
    for name, network in model.fine.items():
        side = config.model.patch_px.of_network(name)
        many = num * len(PARTS_OF_NETWORK[name])
        inputs.append((network, torch.rand(many, 3, side, side, device=DEVICE)))
    if config.channels_last:
        inputs = [(n, x.contiguous(memory_format=torch.channels_last)) for n, x in inputs]

    def run() -> None:
        with (
            torch.set_grad_enabled(train),
            torch.autocast(DEVICE.type, torch.bfloat16, enabled=model.bf16),
        ):
            for network, x in inputs:
                out = network(x)
                if train:
                    out.float().square().mean().backward()

    return run


def inference(
    run: Callable[[STNiCNN, Batch], object], config: TrainConfig, batch: Batch
) -> Callable[[], object]:
    """Inference with a fresh model."""
    model = ready(config).eval()

    def parse() -> None:
        with torch.inference_mode():
            run(model, batch)

    return parse


def measure(folder: Path) -> dict[str, float | None]:
    """All figures, by name."""
    write_faces("helen", 3 * BATCH, folder / "raw")
    build(folder / "raw", folder / "shards", Recipe(layout="helen"))
    config = PRESETS["helen"]()
    shards = [str(path) for path in sorted((folder / "shards" / "train").glob("*.tar"))]
    faces = ShardedFaces(shards, augment=config.augment)
    requests = [Request(i) for i in range(BATCH)]

    def read() -> Batch:
        return collate([faces[request] for request in requests])

    batch = read().to(DEVICE)
    photos = replace(batch, augmentation=None)
    contiguous = replace(config, channels_last=False)
    fp32, bf16 = replace(config, precision="fp32"), replace(config, precision="bf16")
    step = end_to_end_step(config, batch)
    label_coarsely = STNiCNN.label_coarsely
    return {
        "channels-last, training": ratio(
            coarse_step(contiguous, batch), coarse_step(config, batch)
        ),
        "channels-last, inference": ratio(
            inference(label_coarsely, contiguous, photos), inference(label_coarsely, config, photos)
        ),
        "bf16, training": ratio(coarse_step(fp32, batch), coarse_step(bf16, batch))
        if computes_bf16(DEVICE)
        else None,
        "networks' share of a training step": ratio(bare_networks(config, BATCH, True), step),
        "networks' share of inference": ratio(
            bare_networks(config, BATCH, False), inference(parse_batch, config, photos)
        ),
        "reading's share of a training step": ratio(read, step),
    }


def main() -> None:
    """Measures, prints a Markdown table, and writes `result.json`."""
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": git_commit(),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    RESULT.write_text(json.dumps({"facts": facts, "ratios": figures}, indent=1) + "\n")
    print("| figure | ratio |\n|---|---|")
    for name, value in figures.items():
        print(f"| {name} | {'not on this device' if value is None else f'{value:.2f}'} |")
    print(f"\n{facts}")


if __name__ == "__main__":
    main()
