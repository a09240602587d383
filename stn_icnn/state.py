"""What a phase has come to, and the file that it goes on from after a stop.

An epoch's order of samples and their augmentation follow from seed and epoch, so the number of
steps done says what comes next: no reader has a state to be kept.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from stn_icnn.checkpoint import Checkpoint, load_checkpoint
from stn_icnn.model import STNiCNN

STATE_FILE = "state.pt"


@dataclass
class Progress:
    """How far an epoch is, and what its steps add up to, those before a stop among them."""

    step: int = 0
    """Steps that are done."""
    loss: float = 0.0
    """Summed over their samples, of all ranks."""
    train_s: float = 0.0
    """The time they took, seconds; checkpoints are not in it."""
    wait_s: float = 0.0
    """Of that, what rank 0 waited for data, seconds."""

    def metrics(self, num_samples: int) -> dict[str, float]:
        """Of an epoch that is done.

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
    """What a phase has come to; all that a resumed one needs."""

    model: STNiCNN
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    """Epochs that are done."""
    progress: Progress = field(default_factory=Progress)
    """In the epoch after those."""
    best_score: float = -math.inf
    best: Checkpoint | None = None
    """The model with the best validation so far."""


def save_state(folder: Path, state: TrainState) -> None:
    """Writes the state, but for its best model, which is the folder's model file."""
    torch.save(
        {
            "epoch": state.epoch,
            "progress": asdict(state.progress),
            "best_score": state.best_score,
            "weights": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
        },
        folder / STATE_FILE,
    )


def restore_state(folder: Path, state: TrainState, device: torch.device) -> None:
    """Takes up the state that `save_state` wrote."""
    saved = torch.load(folder / STATE_FILE, map_location=device, weights_only=True)
    state.model.load_state_dict(saved["weights"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.epoch, state.progress = saved["epoch"], Progress(**saved["progress"])
    state.best_score = saved["best_score"]
    if math.isfinite(state.best_score):
        state.best = load_checkpoint(folder)
