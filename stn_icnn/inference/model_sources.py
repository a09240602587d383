"""Finding a model by its name: a file or folder here, or one that another package fetches.

Packages register how they fetch models as entry points of the group `stn_icnn.model_sources`, each
under the scheme of the names that it takes: `models` for `models:/NAME@ALIAS`. So this library
reads models from MLflow where that is installed, and needs neither it nor what knows it.
"""

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stn_icnn.networks.checkpoint import Checkpoint

GROUP: Final = "stn_icnn.model_sources"
"""Each of its entry points is a function of a model's name and an MLflow tracking URI, or None for
the default; it returns the path of a local model file or folder, or raises ValueError."""


def find_model(name: str, tracking_uri: str | None = None) -> Path:
    """Returns the path of a local model file or folder, fetched first where it lies elsewhere.

    Args:
        name: a path, which need not exist, or `SCHEME:/...` as an installed source takes it.
        tracking_uri: where MLflow is, for a model that is there.

    Raises:
        ValueError: no source for the scheme is installed, or there is no such model.
        OSError: the source does not answer.
    """
    scheme, separator, _ = name.partition(":/")
    if not separator:
        return Path(name)
    try:
        for source in entry_points(group=GROUP, name=scheme):
            path: Path = source.load()(name, tracking_uri)
            return path
        lack = f"nothing installed here fetches models by {scheme}:/"
    except ModuleNotFoundError as error:
        lack = f"{error.name} is not installed here"
    raise ValueError(
        f"model {name!r} can't be fetched: {lack}; runs:/ and models:/ need all of STN-iCNN and "
        "MLflow installed (`make install` in a checkout), any other model is a file or folder"
    )


def load_usable(path: str | Path, user: str) -> "Checkpoint":
    """Reads a model file, or the one in a folder, to the CPU.

    Args:
        path: the file or folder.
        user: what is to use the model, for the message.

    Raises:
        ValueError: there is none, it is no model of STN-iCNN, or a network that it uses is not
            trained, so that it would label at random.
    """
    from stn_icnn.networks.checkpoint import load_checkpoint  # which brings PyTorch along
    from stn_icnn.training.phases import require_usable

    checkpoint = load_checkpoint(path)
    require_usable(str(path), user, checkpoint.phase, checkpoint.config.model)
    return checkpoint
