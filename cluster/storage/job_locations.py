"""The folders and buckets that a job writes to: the user's own, or defaults in the home folder.

Each is made absolute, as the working directory of a submitted job is a temporary copy.
"""

import math
import os
from pathlib import Path
from typing import Final

from platformdirs.unix import Unix

from sharding.storage.location import Address, open_location
from stn_icnn.storage import Folder, StorageLocation

STORAGE_ENV: Final = "STN_ICNN_STORAGE"
CACHE_ENV: Final = "STN_ICNN_CACHE"
CACHE_LIMIT_ENV: Final = "STN_ICNN_CACHE_GB"

RAY_WORKING_DIR_MARK: Final = "_ray_pkg_"
"""Part of the name of the folder that Ray unpacks a submitted job's `--working-dir` to."""

_USER_FOLDERS: Final = Unix("stn-icnn")
"""The folders of the XDG specification, on every system alike."""


def data_home() -> Path:
    """Returns this user's folder for files that outlive a job.

    It is `$XDG_DATA_HOME/stn-icnn`, or `~/.local/share/stn-icnn`.
    """
    return _USER_FOLDERS.user_data_path


def cache_home() -> Path:
    """Returns this node's folder for files that can be fetched again.

    It is `$STN_ICNN_CACHE`, else `$XDG_CACHE_HOME/stn-icnn`, else `~/.cache/stn-icnn`.

    Raises:
        ValueError: for a relative `$STN_ICNN_CACHE`: workers start in a folder of their own.
    """
    given = os.environ.get(CACHE_ENV)
    if not given:
        return _USER_FOLDERS.user_cache_path
    path = Path(given).expanduser()
    if not path.is_absolute():
        raise ValueError(f"{CACHE_ENV} must be an absolute path, got {given!r}")
    return path


def cache_limit() -> float | None:
    """Returns the most bytes of shards that a node may keep, `$STN_ICNN_CACHE_GB`, if it is set.

    Raises:
        ValueError: for one that is no number of gigabytes.
    """
    given = os.environ.get(CACHE_LIMIT_ENV)
    if not given:
        return None
    try:
        limit = float(given)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < math.inf:
        raise ValueError(f"{CACHE_LIMIT_ENV} must be a number of gigabytes, got {given!r}")
    return limit * 1e9


def resolve_storage(storage: str | None = None) -> StorageLocation:
    """Returns the location of a job's checkpoints, shards and reports.

    Args:
        storage: a folder or `s3://bucket/prefix`; None: `$STN_ICNN_STORAGE` where it is set, or
            else `~/.local/share/stn-icnn/storage`.

    Returns:
        An absolute folder, which exists, or a bucket's prefix.

    Raises:
        ValueError: for another scheme, an address without a bucket, or an unusable folder.
    """
    given = storage or os.environ.get(STORAGE_ENV) or str(data_home() / "storage")
    try:
        open_location(given)
    except ValueError as error:
        raise ValueError(
            f"storage must be a folder or s3://BUCKET/PREFIX, got {given!r}; "
            f"give --storage or set {STORAGE_ENV}"
        ) from error
    return writable_location(given, "storage")


def readable_location(address: Address, use: str) -> StorageLocation:
    """Returns the location that a job reads from; nothing of it is read yet.

    Args:
        address: as the user gave it, or the location itself.
        use: what it is for, as messages name it.

    Raises:
        ValueError: for an address that is no storage location, or a folder that a submitted job's
            copy of the working directory lacks.
    """
    location = open_location(address)
    if (
        isinstance(location, Folder)
        and is_in_temporary_copy(address)
        and not location.root.exists()
    ):
        raise ValueError(
            f"the {use} folder {address} is relative, and the copy of the working directory that a "
            "submitted job runs in does not have it (what .gitignore names is left out): give an "
            "absolute path or s3://BUCKET/PREFIX"
        )
    return location


def is_in_temporary_copy(address: Address) -> bool:
    """Tells whether an address is a relative path, and this process runs in a submitted job's copy.

    What is written there is lost with the job.
    """
    if not isinstance(address, str | Path) or Path(address).expanduser().is_absolute():
        return False
    return RAY_WORKING_DIR_MARK in str(Path.cwd())


def writable_location(address: str, use: str) -> StorageLocation:
    """Returns the location that a job writes to: a bucket's prefix, or a folder, made if absent.

    Args:
        address: as the user gave it.
        use: what it is for, as messages name it.

    Raises:
        ValueError: for an address that is no storage location, and as `writable_folder` does.
    """
    location = open_location(address)
    if isinstance(location, Folder):
        return Folder(writable_folder(Path(address), use))
    return location


def writable_folder(path: Path, use: str) -> Path:
    """Returns a folder that a job writes to: absolute, made if absent, writable.

    Args:
        path: as the user gave it.
        use: what it is for, as messages name it.

    Raises:
        ValueError: where the folder cannot be made or written to, or is in a submitted job's
            working directory, with which it would be lost.
    """
    path = path.expanduser()
    if is_in_temporary_copy(path):
        raise ValueError(
            f"the {use} folder {path} is relative, and a submitted job's working directory is a "
            "temporary copy: give an absolute path or s3://BUCKET/PREFIX"
        )
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"the {use} folder {path} cannot be made: {error.strerror}; give another"
        ) from error
    if not os.access(path, os.W_OK):
        raise ValueError(f"the {use} folder {path} is not writable; give another")
    return path
