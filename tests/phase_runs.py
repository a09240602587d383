"""Phases of a training on tiny faces, in this process."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.networks.checkpoint import DataFacts
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.training.loop import (
    PhaseRun,
)
from stn_icnn.training.phases import PHASES, phases_up_to

FACTS = DataFacts(dataset="helen", fingerprint="f", scale_px=1024, scale_fit="at_most")


def fresh(config: TrainConfig) -> STNiCNN:
    torch.manual_seed(config.seed)
    return build_model(config.model)


def phase_run(phase, config: TrainConfig, tiny_faces, context: LocalContext) -> PhaseRun:
    return PhaseRun(
        phase=PHASES[phase],
        config=config,
        train_faces=tiny_faces("train", augmented=True),
        val_faces=tiny_faces("val", augmented=False),
        data=FACTS,
        context=context,
        log=lambda line: None,
    )


def epochs(config: TrainConfig, number: int) -> TrainConfig:
    named = {PHASES[phase].epochs: number for phase in phases_up_to("finder")}
    return replace(config, optim=replace(config.optim, **named))


def with_finder(config: TrainConfig) -> TrainConfig:
    """The settings of a model with a small finder, which has two epochs."""
    model, optim = replace(config.model, finder_px=64), replace(config.optim, epochs_finder=2)
    return replace(config, model=model, optim=optim)


class Stop(Exception):
    pass


class StoppingContext(LocalContext):
    """Stops training as soon as so many reports are kept."""

    def __init__(self, folder: Path, num_reports: int) -> None:
        super().__init__(folder)
        self.num_reports = num_reports

    def report(self, report, checkpoint_dir) -> None:
        super().report(report, checkpoint_dir)
        if len(self.reports) == self.num_reports:
            raise Stop


class RecordedFaces(ShardedFaces):
    """Faces that remember what was asked of them."""

    def __init__(self, faces: ShardedFaces) -> None:
        self.__dict__.update(faces.__dict__)
        self.requests: list[Request] = []

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        self.requests += requests
        return super().__getitems__(requests)


def places(context: LocalContext) -> list[tuple[int, int]]:
    """Epochs that are done and steps of the next one, for each report."""
    return [(report.epoch, getattr(report, "step", 0)) for report in context.reports]
