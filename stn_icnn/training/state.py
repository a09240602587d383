"""The state of a phase's training, and the file from which it goes on after a stop.

An epoch's order of samples and their augmentation follow from seed and epoch, so the number of
steps done says what comes next; where samples are streamed, with how many readers did them. No
reader has a state to be kept.
"""

import io
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from stn_icnn.context import Picture
from stn_icnn.data.stream_plan import Leg
from stn_icnn.networks.checkpoint import Checkpoint, load_checkpoint, read_tensors
from stn_icnn.networks.model import STNiCNN

STATE_FILE = "state.pt"
SECONDS = "train/seconds"
"""The metric that holds the time of a phase's steps up to the end of an epoch, seconds. Validation
and checkpoints are not in it, nor steps that were lost in a stop and done again."""
NUM_WORKERS = "train/workers"
"""The metric that holds the number of workers at the end of an epoch."""
VALIDATION_SECONDS = "val/seconds"
"""The metric that holds the time of an epoch's validation, and of its pictures, seconds."""


@dataclass
class Progress:
    """The steps that are done of an epoch, those before a stop among them."""

    step: int = 0
    """Number of steps that are done."""
    loss: float = 0.0
    """Sum of the losses of their samples, of all ranks."""
    train_s: float = 0.0
    """Time that they took, seconds; checkpoints are not in it."""
    wait_s: float = 0.0
    """Part of it in which rank 0 waited for data, seconds."""
    step_losses: list[tuple[int, float]] = field(default_factory=list)
    """The losses within the epoch, as `context.StepLosses` has them."""
    legs: list[Leg] = field(default_factory=list)
    """How the steps were streamed, if they were, up to the last checkpoint."""

    def metrics(self, num_samples: int) -> dict[str, float]:
        """Returns the metrics of an epoch that is done.

        Returns:
            `train/loss` (mean over samples), `train/images_per_second` (all ranks) and
            `train/data_wait_fraction`.
        """
        return {
            "train/loss": self.loss / num_samples,
            "train/images_per_second": num_samples / self.train_s,
            "train/data_wait_fraction": self.wait_s / self.train_s,
        }


@dataclass
class TrainState:
    """The state of a phase's training: all that a resumed one needs."""

    model: STNiCNN
    module: nn.Module
    """The model's `PhaseLoss`, whose gradients are averaged over ranks."""
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    """Number of epochs that are done."""
    progress: Progress = field(default_factory=Progress)
    """The steps that are done of the next epoch."""
    best_score: float = -math.inf
    best: Checkpoint | None = None
    """The model with the best validation so far."""
    history: list[dict[str, float]] = field(default_factory=list)
    """`epoch` and metrics of each of those that are done. Kept here, since a report may be lost
    with the driver that it was for, and an epoch that is done is not reported again."""
    knows_leaving: bool = False
    """Whether a checkpoint was written since a machine is about to go: one is enough."""
    pictures: list[Picture] = field(default_factory=list)
    """Pictures for the next report, which are not kept over a stop."""

    @property
    def has_begun(self) -> bool:
        """Whether a step is done."""
        return self.epoch > 0 or self.progress.step > 0

    def finish_epoch(self) -> float:
        """Counts an epoch as done.

        Returns:
            The time that the phase's steps have taken so far, seconds.
        """
        before = self.history[-1][SECONDS] if self.history else 0.0
        seconds = before + self.progress.train_s
        self.epoch, self.progress = self.epoch + 1, Progress()
        return seconds


def save_state(folder: Path, state: TrainState) -> None:
    """Writes the state, but for its best model, which is the folder's model file."""
    torch.save(
        {
            "epoch": state.epoch,
            "progress": asdict(state.progress),
            "best_score": state.best_score,
            "history": state.history,
            "weights": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
        },
        folder / STATE_FILE,
    )


def restore_state(folder: Path, state: TrainState, device: torch.device) -> None:
    """Restores the state that `save_state` wrote."""
    with (folder / STATE_FILE).open("rb") as file:
        saved = read_tensors(file, device)
    state.model.load_state_dict(saved["weights"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.epoch, state.progress = saved["epoch"], Progress(**saved["progress"])
    state.best_score = saved["best_score"]
    state.history = saved.get("history", [])  # absent where an earlier version wrote it
    if math.isfinite(state.best_score):
        state.best = load_checkpoint(folder)


def load_history(content: bytes) -> list[dict[str, float]]:
    """Reads `TrainState.history` from the content of a state file."""
    saved = read_tensors(io.BytesIO(content))
    history: list[dict[str, float]] = saved.get("history", [])
    return history
