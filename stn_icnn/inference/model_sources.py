"""Finding a model by its name: a file or folder here, or one that another package fetches.

Where none is named, it is the model that comes along with this package. Packages register how they
fetch models as entry points of the group `stn_icnn.model_sources`, each under the scheme of the
names that it takes: `models` for `models:/NAME@ALIAS`. So this library reads models from MLflow
where that is installed, and needs neither it nor what knows it.
"""

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stn_icnn.networks.checkpoint import Checkpoint

GROUP: Final = "stn_icnn.model_sources"
"""Each of its entry points is a function of a model's name and an MLflow tracking URI, or None for
the default; it returns the path of a local model file or folder, or raises ValueError."""


SHIPPED_MODEL: Final = Path(__file__).parents[1] / "models" / "celebamask"
"""The folder of the model that comes along. `models/celebamask` of a checkout is a link to it."""


def find_model(name: str | Path | None = None, tracking_uri: str | None = None) -> Path:
    """Returns the path of a local model file or folder, fetched first where it lies elsewhere.

    Args:
        name: a path, which need not exist, or `SCHEME:/...` as an installed source takes it; None:
            the model that comes along.
        tracking_uri: where MLflow is, for a model that is there.

    Raises:
        ValueError: no source for the scheme is installed, or there is no such model.
        OSError: the source does not answer.
    """
    if name is None:
        return SHIPPED_MODEL
    if isinstance(name, Path):
        return name
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
        f"model {name!r} can't be fetched: {lack}; runs:/ and models:/ need MLflow: "
        "pip install 'stn-icnn[train]'; any other model is a file or folder"
    )


def load_usable(path: str | Path, user: str) -> "Checkpoint":
    """Reads a model file, or the one in a folder, to the CPU.

    The terms of the model that comes along are said at its first use.

    Args:
        path: the file or folder.
        user: what is to use the model, for the message.

    Raises:
        ValueError: there is none, it is no model of STN-iCNN, or a network that it uses is not
            trained, so that it would label at random.
    """
    # Which brings PyTorch along.
    from stn_icnn.networks.checkpoint import find_model_file, load_checkpoint
    from stn_icnn.training.phases import require_usable

    checkpoint = load_checkpoint(path)
    require_usable(str(path), user, checkpoint.phase, checkpoint.config.model)
    if find_model_file(path).resolve().parent == SHIPPED_MODEL.resolve():
        _say_terms_once()
    return checkpoint


def _say_terms_once() -> None:
    """Says on stderr, once a user, what the model that comes along may be used for.

    An empty file in `$XDG_STATE_HOME/stn-icnn`, or `~/.local/state/stn-icnn`, records that it was
    said. Where none can be written, it is said each time.
    """
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
        said = state / "stn-icnn" / "terms-of-celebamask-said"
        said.parent.mkdir(parents=True, exist_ok=True)
        said.touch(exist_ok=False)
    except FileExistsError:
        return
    except (OSError, RuntimeError):  # a home that is read-only, or unknown
        pass
    print(
        "the model that comes with STN-iCNN is for non-commercial research only: "
        f"{SHIPPED_MODEL / 'LICENSE'}",
        file=sys.stderr,
    )
