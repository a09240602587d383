"""Where things live, and whether they answer: storage, and the MLflow tracking store.

Every place is absolute: the working directory of a submitted job is a temporary copy.
"""

import contextlib
import fcntl
import os
import socket
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sharding.storage.location import open_location
from stn_icnn.storage import Folder, StorageLocation

STORAGE_ENV: Final = "STN_ICNN_STORAGE"
TRACKING_ENV: Final = "MLFLOW_TRACKING_URI"
CACHE_ENV: Final = "STN_ICNN_CACHE"

DATABASE_PORTS: Final = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Databases that MLflow can use without a server in front, and their usual ports."""

PROBE_TIMEOUT_S: Final = 5

RAY_WORKING_DIR_MARK: Final = "_ray_pkg_"
"""In the name of the folder that Ray unpacks `--working-dir` to."""


class TrackingUnavailableError(ConnectionError):
    """The tracking store does not answer, or refuses what every job must do."""


def data_home() -> Path:
    """This user's folder for what outlives a job.

    `$XDG_DATA_HOME/stn-icnn`, or `~/.local/share/stn-icnn`.
    """
    return _xdg_home("XDG_DATA_HOME", ".local/share") / "stn-icnn"


def cache_home() -> Path:
    """This node's folder for what can be fetched again.

    `$STN_ICNN_CACHE`, else `$XDG_CACHE_HOME/stn-icnn`, else `~/.cache/stn-icnn`.

    Raises:
        ValueError: for a relative `$STN_ICNN_CACHE`: workers start in a folder of their own.
    """
    given = os.environ.get(CACHE_ENV)
    if not given:
        return _xdg_home("XDG_CACHE_HOME", ".cache") / "stn-icnn"
    path = Path(given).expanduser()
    if not path.is_absolute():
        raise ValueError(f"{CACHE_ENV} must be an absolute path, got {given!r}")
    return path


def _xdg_home(variable: str, default: str) -> Path:
    """The folder that an XDG variable names, which the specification has ignored if relative."""
    given = Path(os.environ.get(variable, ""))
    return given if given.is_absolute() else Path.home() / default


def resolve_storage(storage: str | None = None) -> StorageLocation:
    """Where checkpoints, shards and reports go.

    Args:
        storage: a folder or `s3://bucket/prefix`; else `$STN_ICNN_STORAGE`; else
            `~/.local/share/stn-icnn/storage`.

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


def writable_location(address: str, use: str) -> StorageLocation:
    """Returns the location that a job writes to: a bucket's prefix, or a folder, made if absent.

    Raises:
        ValueError: for what is no storage location; for a folder as `writable_folder`.
    """
    location = open_location(address)
    if isinstance(location, Folder):
        return Folder(writable_folder(Path(address), use))
    return location


def resolve_tracking_uri(uri: str | None = None) -> str:
    """Where runs are tracked.

    Args:
        uri: an MLflow server's address or a database; else `$MLFLOW_TRACKING_URI`; else a sqlite
            file in `~/.local/share/stn-icnn`.

    Returns:
        The address; of a sqlite file always the absolute path, in a folder that exists.

    Raises:
        ValueError: where MLflow could not track into it, or only into the working directory.
    """
    given = uri or os.environ.get(TRACKING_ENV) or f"sqlite:///{data_home() / 'mlflow.db'}"
    scheme, _, rest = given.partition("://")
    kind = scheme.split("+")[0]
    if kind == "sqlite" and rest.strip("/"):
        path = sqlite_path(given)
        folder = writable_folder(path.parent, "tracking")
        query = given.partition("?")[2]
        return f"{scheme}:///{folder / path.name}" + (f"?{query}" if query else "")
    if kind in ("http", "https") and urlsplit(given).hostname:
        return given.rstrip("/")
    if kind in DATABASE_PORTS and rest:
        return given
    raise ValueError(
        f"the tracking URI must be http(s)://HOST:PORT, sqlite:////ABSOLUTE/mlflow.db or a "
        f"database ({', '.join(DATABASE_PORTS)}), got {without_password(given, given)!r}; "
        f"give --tracking-uri or set {TRACKING_ENV}"
    )


def artifact_location(tracking_uri: str) -> str | None:
    """Where a new experiment's artifacts go, or None where the server decides.

    A sqlite store has no server, and MLflow's own default is a folder in the working directory.

    Raises:
        ValueError: for a database without a server, which names no place for artifacts.
    """
    kind = tracking_uri.partition("://")[0].split("+")[0]
    if kind == "sqlite":
        return str(writable_folder(sqlite_path(tracking_uri).parent / "mlartifacts", "artifacts"))
    if kind in ("http", "https"):
        return None
    raise ValueError(
        f"a {kind} database holds no artifacts, and no artifact location was given; use "
        "`mlflow server --backend-store-uri …` in front of it and give the server's address"
    )


@contextlib.contextmanager
def exclusive_first_use(uri: str) -> Iterator[None]:
    """Keeps other jobs of this machine from a sqlite file that may have no tables yet.

    MLflow makes them at first use; of two processes doing so at once one fails.
    """
    if not uri.startswith("sqlite"):
        yield
        return
    path = sqlite_path(uri)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_client_defaults() -> None:
    """Keeps MLflow's http clients of this process from blocking for minutes a call.

    Variables that the user has set stay. Retrying over a longer time is the tracker's business.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


def probe_tracking(uri: str) -> None:
    """Raises within seconds where nobody answers at `uri`.

    MLflow's own clients would try for minutes: an http server 7 times with doubling pauses, a
    database 10 times.

    Args:
        uri: as `resolve_tracking_uri` returns it.

    Raises:
        TrackingUnavailableError: naming the address and what to do.
    """
    kind = uri.partition("://")[0].split("+")[0]
    try:
        if kind == "sqlite":
            _probe_sqlite(sqlite_path(uri))
        elif kind in DATABASE_PORTS:
            address = urlsplit(uri)
            if address.hostname:
                port = address.port or DATABASE_PORTS[kind]
                socket.create_connection((address.hostname, port), PROBE_TIMEOUT_S).close()
        else:
            _probe_http(uri)
    except (OSError, sqlite3.Error) as error:
        raise unavailable(uri, error) from error


def unavailable(uri: str, cause: Exception) -> TrackingUnavailableError:
    """The error that says which address failed, why, and what to do."""
    kind = uri.partition("://")[0].split("+")[0]
    remedy = (
        "check that the file is a writable MLflow database"
        if kind == "sqlite"
        else "start the server, check the address and its credentials"
    )
    return TrackingUnavailableError(
        f"cannot track runs at {without_password(uri, uri)}: "
        f"{without_password(str(cause), uri)}; {remedy}, or give another --tracking-uri or "
        f"{TRACKING_ENV} (neither: a sqlite file under {data_home()})"
    )


def _probe_sqlite(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=PROBE_TIMEOUT_S)) as connection:
        connection.execute("BEGIN IMMEDIATE")  # needs a readable header and a writable file
        connection.rollback()


def _probe_http(uri: str) -> None:
    # urllib goes through the same proxies as MLflow does, which a bare socket would not.
    try:
        urllib.request.urlopen(f"{uri}/health", timeout=PROBE_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return  # somebody answers; whether it is MLflow is for the first real call to say
    except urllib.error.URLError as error:
        # MLflow may be told to accept this certificate, by variables that urllib does not know.
        if not isinstance(error.reason, ssl.SSLError):
            raise


def sqlite_path(tracking_uri: str) -> Path:
    """The absolute path of the file that a `sqlite:///` address names."""
    path = tracking_uri.partition("://")[2].partition("?")[0].removeprefix("/")
    return Path(path).expanduser().absolute()


def without_password(text: str, uri: str) -> str:
    """`text` without the password that the address `uri` may hold."""
    password = urlsplit(uri).password
    return text.replace(f":{password}@", ":***@") if password else text


def writable_folder(path: Path, use: str) -> Path:
    """A folder that a job writes to: absolute, made if absent, writable.

    Raises:
        ValueError: where it can't be, or would be lost with a submitted job's working directory.
    """
    path = path.expanduser()
    if not path.is_absolute() and RAY_WORKING_DIR_MARK in str(Path.cwd()):
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
