"""The origin of a run: settings as flat params, the data, the commit of the code."""

import dataclasses
import getpass
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from cluster.storage.datasets import ShardedData
from stn_icnn.config_dict import flatten_settings

VALUE_LIMIT: Final = 5000
"""The most characters of a param or tag; MLflow itself takes 6000 and 8000."""

DIGEST_LENGTH: Final = 12
"""The digits of a data set's fingerprint that name it; MLflow takes no more than 36."""

COMMIT_ENV: Final = "STN_ICNN_COMMIT"


def flatten(params: Any) -> dict[str, str]:
    """Returns nested settings as flat text: `{"optim": {"lr": 0.1}}` as `{"optim.lr": "0.1"}`.

    Args:
        params: a mapping or dataclass, nested or not; values longer than MLflow takes are cut.
    """
    if dataclasses.is_dataclass(params) and not isinstance(params, type):
        params = dataclasses.asdict(params)
    return {name: str(value)[:VALUE_LIMIT] for name, value in flatten_settings(params).items()}


def describe_split(data: ShardedData, split: str) -> dict[str, Any]:
    """Returns the facts about a split of a data set by which MLflow knows it."""
    return {
        "name": f"{data.name} {split}",
        "digest": data.manifest.fingerprint[:DIGEST_LENGTH],
        "location": data.location.url,
        "split": split,
        "images": data.manifest.num_samples[split],
    }


def command_line() -> str:
    """Returns the command that this process was started with, without passwords in addresses."""
    words = (re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", word) for word in sys.argv)
    return shlex.join(["python", *words])


def origin_tags() -> dict[str, str | None]:
    """Returns the tags by which MLflow's pages show who started a run, with what, at which commit.

    None where a value is not known, such as a user that the system has no name for.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = None
    commit = git_commit()
    return {
        MLFLOW_USER: user,
        MLFLOW_SOURCE_NAME: sys.argv[0] or None,
        MLFLOW_SOURCE_TYPE: "LOCAL",
        MLFLOW_GIT_COMMIT: commit and commit.removesuffix("-dirty"),
    }


def git_commit() -> str | None:
    """Returns the commit that this code was run from, with `-dirty` where tracked files differ.

    A submitted job's copy of the working directory is no checkout: there the variable
    `STN_ICNN_COMMIT` names the commit. It is None where neither tells; a package installed into
    some other project's checkout has none.
    """
    given = os.environ.get(COMMIT_ENV)
    if given:
        return given
    file = Path(__file__).resolve()
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    commit = _git(file.parent, "rev-parse", "HEAD")
    changes = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if commit and changes else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
