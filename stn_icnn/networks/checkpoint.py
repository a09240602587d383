"""The model file: tensors and plain types alone, with the settings of the training."""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import torch

from stn_icnn.archives import require_total
from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import from_stored, to_stored
from stn_icnn.networks.model import STNiCNN, build_model

FORMAT = "stn-icnn"
VERSION = 1
MODEL_FILE = "model.pt"

_STORAGES: Final = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte")
_CALLED: Final = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch BoolStorage",
        *(f"torch {kind}Storage" for kind in _STORAGES),
    }
)
"""All that a file of tensors and plain types calls as it is read. `weights_only` alone would let it
call more, such as one that takes any memory it names."""


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
            "config": to_stored(checkpoint.config),
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
        name, num_bytes = "this file", len(model)
        content = _read(name, io.BytesIO(model))
    else:
        path = find_model_file(model)
        name, num_bytes = str(path), path.stat().st_size
        with path.open("rb") as file:
            content = _read(name, file)
    if content.get("version") != VERSION:
        raise ValueError(
            f"{name} has format version {content.get('version')}, this code reads {VERSION}: use "
            "the release that wrote it, or train anew"
        )
    config = from_stored(content["config"])
    with torch.device("meta"):  # where tensors have shapes and take no memory
        described = build_model(config.model).state_dict().values()
    if sum(tensor.nbytes for tensor in described) > num_bytes:
        raise ValueError(f"{name} is too small to hold the model that its settings describe")
    built = build_model(config.model)
    built.load_state_dict(content["weights"])
    data = DataFacts(**content["data"])
    calibration = content.get("calibration")
    phase, metrics = content["phase"], content["metrics"]
    return Checkpoint(built.eval(), config, data, phase, metrics, calibration)


def _read(name: str, file: BinaryIO) -> Mapping[str, Any]:
    unreadable = f"{name} is not a model of STN-iCNN: not readable as one"
    try:
        content = read_tensors(file)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(unreadable) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{name} is not a model of STN-iCNN: expected a file that its training or "
            "`stn-icnn` wrote"
        )
    return content


def read_tensors(file: BinaryIO, device: torch.device | str = "cpu") -> Any:
    """Reads what `torch.save` wrote of tensors and plain types; nothing else in it is run.

    It takes no more memory than the file has bytes.

    Args:
        file: a seekable file.
        device: where the tensors go.

    Raises:
        ValueError: it is no such file, its members are compressed, or it calls something else.
        RuntimeError, EOFError, pickle.UnpicklingError: it is damaged.
    """
    num_bytes = file.seek(0, io.SEEK_END)
    if not zipfile.is_zipfile(file):  # what else torch reads, a text perhaps, is not ours
        raise ValueError("not an archive of tensors")
    with zipfile.ZipFile(file) as archive:
        require_total(archive, num_bytes)
        for name in archive.namelist():
            if name.endswith(".pkl"):
                _require_plain(archive.read(name))
    file.seek(0)
    return torch.load(file, map_location=device, weights_only=True)


def _require_plain(pickled: bytes) -> None:
    """Refuses a pickle that calls more than `_CALLED`; raises ValueError, naming it."""
    for operation, argument, _ in pickletools.genops(pickled):
        named = operation.name in ("GLOBAL", "INST")
        by_stack = operation.name in ("STACK_GLOBAL", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")
        if by_stack or (named and argument not in _CALLED):
            raise ValueError(
                f"it calls {argument or operation.name}, which no file of tensors does"
            )
