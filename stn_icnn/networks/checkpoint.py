"""The model file: tensors and plain types alone, with the settings of the training."""

import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch

from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import from_stored
from stn_icnn.networks.model import STNiCNN, build_model

FORMAT = "stn-icnn"
VERSION = 1
MODEL_FILE = "model.pt"


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The facts that a model file holds of the data that it was trained on."""

    dataset: str
    """The data set's name, as in its manifest."""
    fingerprint: str
    """The manifest's fingerprint."""
    scale_px: int
    """The side of an image at the working scale, px."""
    scale_fit: Literal["exact", "at_most"]
    """Whether a longer side is always brought to `scale_px`, or only where it exceeds it."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and how it came about."""

    model: STNiCNN
    config: TrainConfig
    data: DataFacts
    """The data that the networks that label were trained on, whose scale they need."""
    phase: str
    metrics: dict[str, float] = field(default_factory=dict)
    """The metrics of the validation that selected the model; of a finished one with a finder, those
    of the validation that selected the other networks too."""
    calibration: Mapping[str, Sequence[float]] | None = None
    """The weights of the model's confidence by its estimates' names, as `inference.calibration`
    fits them; None: it tells none."""


def save_checkpoint(path: Path | BinaryIO, checkpoint: Checkpoint) -> None:
    """Writes a model file to a path, or its content to an open file."""
    torch.save(
        {
            "format": FORMAT,
            "version": VERSION,
            "phase": checkpoint.phase,
            "config": asdict(checkpoint.config),
            "data": asdict(checkpoint.data),
            "metrics": dict(checkpoint.metrics),
            "weights": checkpoint.model.state_dict(),
            **_present("calibration", checkpoint.calibration),
        },
        path,
    )


def checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    """Returns the content of a model file."""
    file = io.BytesIO()
    save_checkpoint(file, checkpoint)
    return file.getvalue()


def _present(name: str, rows: Mapping[str, Sequence[float]] | None) -> dict[str, Any]:
    """Returns an entry of the file, where there is one: files without one stay as they were."""
    return {} if rows is None else {name: {key: list(row) for key, row in rows.items()}}


def find_model_file(path: Path | str) -> Path:
    """Returns the model file that a path names: the path itself, or the file in a folder.

    Raises:
        ValueError: there is none.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MODEL_FILE
    if not path.is_file():
        raise ValueError(
            f"no model at {path}: expected a model file or a folder with {MODEL_FILE} in it"
        )
    return path


def load_checkpoint(model: Path | str | bytes) -> Checkpoint:
    """Reads a model to the CPU, in evaluation mode.

    Args:
        model: a model file, a folder with one in it, or a model file's content.

    Raises:
        ValueError: there is no model, or it is not one of STN-iCNN, or of another version.
    """
    if isinstance(model, bytes):
        name, content = "this file", _read("this file", io.BytesIO(model))
    else:
        name = str(find_model_file(model))
        with open(name, "rb") as file:
            content = _read(name, file)
    if content.get("version") != VERSION:
        raise ValueError(
            f"{name} has format version {content.get('version')}, this code reads {VERSION}: use "
            "the release that wrote it, or train anew"
        )
    config = from_stored(content["config"])
    built = build_model(config.model)
    built.load_state_dict(content["weights"])
    data = DataFacts(**content["data"])
    calibration = content.get("calibration")
    phase, metrics = content["phase"], content["metrics"]
    return Checkpoint(built.eval(), config, data, phase, metrics, calibration)


def _read(name: str, file: BinaryIO) -> Mapping[str, Any]:
    unreadable = f"{name} is not a model of STN-iCNN: not readable as one"
    if not zipfile.is_zipfile(file):  # what else torch reads, a text perhaps, is not ours
        raise ValueError(unreadable)
    file.seek(0)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(unreadable) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{name} is not a model of STN-iCNN: expected a file that its training or "
            "`stn-icnn` wrote"
        )
    return content
