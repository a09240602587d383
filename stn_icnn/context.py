"""The small protocol by which training meets a cluster, and its form for one process."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

StepLosses = Sequence[tuple[int, float]]
"""Losses within an epoch, means over a few steps each: the number of the phase's steps that are
done, and the loss."""


@dataclass(frozen=True)
class Picture:
    """A picture of what a model makes of a validation face."""

    name: str
    """The face's name, such as `faces/1`; the pictures of a name show how a phase goes on."""
    epoch: int
    """The number of epochs that were done."""
    webp: bytes
    """The picture as the content of a WebP file."""


@dataclass(frozen=True)
class EpochReport:
    """The end of an epoch, with its metrics."""

    epoch: int
    """The number of epochs that are done."""
    metrics: Mapping[str, float]
    computed_on: str
    """The machine of the rank that reports, and the arithmetic that it computes in."""
    step_losses: StepLosses = ()
    """Those of the whole epoch."""
    pictures: Sequence[Picture] = ()
    """Those that were made since the report before."""

    @property
    def checkpoint_name(self) -> str:
        """The name that the checkpoint is stored under; names sort in the order of training."""
        return f"epoch_{self.epoch:04d}"


@dataclass(frozen=True)
class CheckpointReport:
    """A checkpoint within an epoch."""

    epoch: int
    """The number of epochs that are done."""
    step: int
    """The number of steps of the next epoch that are done, at least 1."""
    computed_on: str
    """As an `EpochReport` has it."""
    step_losses: StepLosses = ()
    """Those of the epoch so far."""
    pictures: Sequence[Picture] = ()
    """As an `EpochReport` has them."""

    @property
    def checkpoint_name(self) -> str:
        """The name that the checkpoint is stored under; names sort in the order of training."""
        return f"epoch_{self.epoch:04d}_step_{self.step:05d}"


TrainReport = EpochReport | CheckpointReport


class TrainContext(Protocol):
    """The processes that train together, seen from one; each calls every method equally often."""

    @property
    def rank(self) -> int:
        """The rank of this process, from 0."""

    @property
    def world_size(self) -> int:
        """The number of processes that train together."""

    @property
    def device(self) -> torch.device:
        """The device that this process computes on."""

    @property
    def is_leaving(self) -> bool:
        """Whether a machine of these processes is about to go, as far as this one knows yet."""

    def note_steps(self, num_done: int) -> None:
        """Takes note of how many steps of the phase are done: at the start, and as it goes on."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """Returns the module with its gradients averaged over ranks."""

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sums a tensor over ranks, in place."""

    def report(self, report: TrainReport, checkpoint_dir: Path | None) -> None:
        """Hands over a report and, on rank 0, the folder of its checkpoint."""

    def latest_checkpoint(self) -> AbstractContextManager[Path | None]:
        """Opens the folder that was reported last, also before a restart; None if there is none."""


class LocalContext:
    """A context of one process, without a cluster.

    Args:
        folder: where the latest checkpoint is kept; None keeps none.
        device: the device to compute on; None: the CPU.
    """

    rank = 0
    world_size = 1
    is_leaving = False

    def __init__(self, folder: Path | None = None, device: torch.device | None = None) -> None:
        self.folder = folder
        self.device = device or torch.device("cpu")
        self.reports: list[TrainReport] = []

    def note_steps(self, num_done: int) -> None:
        """Does nothing: no one asks."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """Returns the module itself."""
        return module

    def sum_(self, tensor: Tensor) -> Tensor:
        """Returns the tensor itself."""
        return tensor

    def report(self, report: TrainReport, checkpoint_dir: Path | None) -> None:
        """Appends to `reports` and keeps a copy of the folder."""
        self.reports.append(report)
        if self.folder is not None and checkpoint_dir is not None:
            shutil.copytree(checkpoint_dir, self.folder, dirs_exist_ok=True)

    @contextmanager
    def latest_checkpoint(self) -> Iterator[Path | None]:
        """Gives the folder, if there is anything in it."""
        yield self.folder if self.folder and any(self.folder.glob("*")) else None
