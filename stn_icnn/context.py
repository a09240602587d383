"""The small protocol by which training meets a cluster, and its form for one process."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Metrics = Mapping[str, Any]
"""Numbers, and what they were computed on."""


class TrainContext(Protocol):
    """What training asks of where it runs. Every rank calls each member equally often."""

    @property
    def rank(self) -> int:
        """Of this process, from 0."""

    @property
    def world_size(self) -> int:
        """Number of processes that train together."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over ranks."""

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sums a tensor over ranks, in place."""

    def report(self, metrics: Metrics, checkpoint_dir: Path | None) -> None:
        """Hands over metrics and, on rank 0, a folder to keep.

        `epoch` among them counts the epochs that are done, `step` the steps of the next one;
        `computed_on` says what computes, and in which arithmetic.
        """

    def latest_checkpoint(self) -> AbstractContextManager[Path | None]:
        """The folder handed over last, also before a restart."""


class LocalContext:
    """One process, no cluster.

    Args:
        folder: where the latest checkpoint is kept; None keeps none.
        device: where to compute.
    """

    rank = 0
    world_size = 1

    def __init__(self, folder: Path | None = None, device: torch.device | None = None) -> None:
        self.folder = folder
        self.device = device or torch.device("cpu")
        self.reports: list[dict[str, Any]] = []

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module itself."""
        return module

    def sum_(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def report(self, metrics: Metrics, checkpoint_dir: Path | None) -> None:
        """Appends to `reports` and keeps a copy of the folder."""
        self.reports.append(dict(metrics))
        if self.folder is not None and checkpoint_dir is not None:
            shutil.copytree(checkpoint_dir, self.folder, dirs_exist_ok=True)

    @contextmanager
    def latest_checkpoint(self) -> Iterator[Path | None]:
        """The folder, if anything was kept in it."""
        kept = self.folder is not None and any(self.folder.glob("*"))
        yield self.folder if kept else None
