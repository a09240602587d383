"""Measures the share of the arithmetic floor that is reached, and where other time goes."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import DEVICE, Row, in_turn
from benchmarks.networks import forward_flops, matrix_product, step_flops
from benchmarks.subjects import PhaseBenchmark, Setup, face_parser, photographs, plain_parser
from stn_icnn.studies.timing import Work
from stn_icnn.training.phases import MODEL_PHASES

WHERE = {
    "optimizer": ("optimizer", "adam"),
    "loss": ("log_softmax", "nll_loss", "cross_entropy", "smooth_l1"),
    "networks": (
        *("conv", "batch_norm", "batchnorm", "relu", "threshold", "pool", "nearest"),
        *("::cat", "catbackward", "addmm", "cpp_fused"),
    ),
    "crop and paste": ("grid", "bilinear", "gather", "bmm", "matmul", "max", "masked_fill"),
    "copies": ("copy_", "fill_", "zero_", "clone", "contiguous"),
}
"""The kind of an operation, by the first of these words that its name contains."""
OTHER = "other operations"
BETWEEN = "between operations"


def floor(setup: Setup) -> Iterator[Row]:
    """Yields the share for inference and for each phase's step."""
    photos = photographs(setup, setup.batch)
    parser, plain = (make(setup.config, photos) for make in (face_parser, plain_parser))
    flops = sum(forward_flops(setup.config).values())
    for num in (1, setup.batch):
        work = partial(parser.parse_all, photos[:num])
        name = "inference, one face" if num == 1 else f"inference, {num} faces at a time"
        row = _row(setup, name, work, num, num * flops, parser.model.execution.bf16)
        yield replace(row, parts=time_by_part(partial(plain.parse_all, photos[:num])))
    for phase in MODEL_PHASES:
        subject = PhaseBenchmark(setup, phase)
        num = subject.batch
        needed = num * step_flops(setup.config, phase)
        row = _row(setup, f"{phase} step", subject.step, num, needed, subject.model.execution.bf16)
        yield replace(row, parts=time_by_part(subject.step))


def _row(setup: Setup, name: str, work: Work, num: int, flops: int, bf16: bool) -> Row:
    product, product_flops = matrix_product(bf16)
    times = in_turn({"product": product, "work": work}, setup.rounds)
    peak = times.rate("product", product_flops)
    return Row(
        figure=f"{name}: share of the arithmetic floor",
        rounds=times.ratio("product", "work", flops / product_flops),
        absolute={
            "ms an image": times.ms("work", num),
            "floor, ms an image": 1000 * flops / num / peak,
            "GFLOP an image": flops / num / 1e9,
            "peak, GFLOP/s": peak / 1e9,
        },
    )


def time_by_part(work: Work) -> dict[str, float]:
    """Measures the shares of a call's wall time by operation; the rest lies between operations."""
    activities = [ProfilerActivity.CPU]
    if DEVICE.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        started = time.perf_counter()
        work()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        wall_us = 1e6 * (time.perf_counter() - started)
    parts: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        on_gpu = event.self_device_time_total
        own_us = on_gpu if DEVICE.type == "cuda" else event.self_cpu_time_total
        parts[_part_of(event.key)] += own_us / wall_us
    parts[BETWEEN] = 1 - sum(parts.values())
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def _part_of(operation: str) -> str:
    name = operation.lower()
    for part, words in WHERE.items():
        if any(word in name for word in words):
            return part
    return OTHER
