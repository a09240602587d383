"""Resolves the address of the MLflow tracking store and the experiment in it, and connects."""

import contextlib
import logging
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

import sqlalchemy
from filelock import FileLock
from mlflow import MlflowClient

from cluster.config import is_verbose
from cluster.storage.job_locations import data_home, is_in_temporary_copy, writable_folder

TRACKING_ENV: Final = "MLFLOW_TRACKING_URI"

EXPERIMENT: Final = "stn-icnn"
EXPERIMENT_ENV: Final = "MLFLOW_EXPERIMENT_NAME"

DATABASE_PORTS: Final = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Databases that MLflow can use without a server in front, and their usual ports."""

PROBE_TIMEOUT_S: Final = 5


class TrackingUnavailableError(ConnectionError):
    """The tracking store does not answer, or refuses what every job must do."""


def resolve_tracking_uri(uri: str | None = None) -> str:
    """Returns the address of the store that runs are tracked in.

    Args:
        uri: an MLflow server's address or a database; else `$MLFLOW_TRACKING_URI`; else a sqlite
            file in `~/.local/share/stn-icnn`.

    Returns:
        The address; of a sqlite file always the absolute path, in a folder that exists.

    Raises:
        ValueError: where MLflow could not track into it, or only into the working directory, or
            where a database's driver is not installed.
    """
    given = uri or os.environ.get(TRACKING_ENV) or default_tracking_uri()
    kind, rest = _kind(given), given.partition("://")[2]
    if kind == "sqlite" and rest.strip("/"):
        if is_in_temporary_copy(_sqlite_file(given)):
            raise ValueError(
                f"the tracking URI {given} is relative, and a submitted job's working directory is "
                "a temporary copy: give sqlite:////ABSOLUTE/mlflow.db, with four slashes, or a "
                "server's address"
            )
        writable_folder(sqlite_path(given).parent, "tracking")
        return _full_address(given)
    if kind in ("http", "https") and urlsplit(given).hostname:
        return _full_address(given)
    if kind in DATABASE_PORTS and rest:
        _require_driver(given)
        return given
    raise ValueError(
        f"the tracking URI must be http(s)://HOST:PORT, sqlite:////ABSOLUTE/mlflow.db or a "
        f"database ({', '.join(DATABASE_PORTS)}), got {without_password(given, given)!r}; "
        f"give --tracking-uri or set {TRACKING_ENV}"
    )


def default_tracking_uri() -> str:
    """Returns the address of the store that is used where none is given."""
    return f"sqlite:///{data_home() / 'mlflow.db'}"


def is_found_unnamed(uri: str) -> bool:
    """Tells whether a command that is given no address finds the store at `uri`.

    It checks neither this address nor the one that such a command takes, and makes no folder.

    Args:
        uri: the address, as `resolve_tracking_uri` returns it.
    """
    try:
        return uri == _full_address(os.environ.get(TRACKING_ENV) or default_tracking_uri())
    except (OSError, RuntimeError):  # a working directory, or a user's home, that is not there
        return False


def experiment_name(given: str | None = None) -> str:
    """Returns a given name of an experiment; else `$MLFLOW_EXPERIMENT_NAME`; else `stn-icnn`."""
    return given or os.environ.get(EXPERIMENT_ENV) or EXPERIMENT


def artifact_location(tracking_uri: str) -> str | None:
    """Returns where a new experiment's artifacts go, or None where the server decides.

    A sqlite store has no server, and MLflow's own default is a folder in the working directory.

    Raises:
        ValueError: for a database without a server, which names no folder for artifacts.
    """
    kind = _kind(tracking_uri)
    if kind == "sqlite":
        return str(writable_folder(sqlite_path(tracking_uri).parent / "mlartifacts", "artifacts"))
    if kind in ("http", "https"):
        return None
    raise ValueError(
        f"a {kind} database holds no artifacts, and no artifact location was given; use "
        "`mlflow server --backend-store-uri …` in front of it and give the server's address"
    )


@contextlib.contextmanager
def connect(uri: str) -> Iterator[MlflowClient]:
    """Yields a client of the store at `uri`, which has answered.

    Meanwhile other jobs of this machine wait at a sqlite file, which may have no tables yet: MLflow
    makes them at first use, and of two processes doing so at once one fails.

    Args:
        uri: the address, as `resolve_tracking_uri` returns it.

    Raises:
        TrackingUnavailableError: where nobody answers, within seconds, or for an error in the
            block that is no ValueError.
    """
    set_client_defaults()
    sqlite = _kind(uri) == "sqlite"
    with FileLock(f"{sqlite_path(uri)}.lock") if sqlite else contextlib.nullcontext():
        probe_tracking(uri)
        try:
            yield MlflowClient(tracking_uri=uri)
        except ValueError:
            raise
        except Exception as error:
            # A database speaks through SQLAlchemy or Alembic, a server through MLflow.
            raise unavailable(uri, error) from error


def set_client_defaults() -> None:
    """Keeps MLflow's http clients in this process from blocking for minutes a call, and quiet.

    Variables that the user has set stay. The outbox retries over a longer time.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Those of a run's page, with the password that the server's address may hold.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    if not is_verbose():
        logging.getLogger("mlflow").setLevel(logging.WARNING)


def probe_tracking(uri: str) -> None:
    """Raises within seconds where nobody answers at `uri`.

    MLflow's own clients would try for minutes: an http server 7 times with doubling pauses, a
    database 10 times.

    Args:
        uri: the address, as `resolve_tracking_uri` returns it.

    Raises:
        TrackingUnavailableError: naming the address and what to do.
    """
    kind = _kind(uri)
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
    """Returns the error that says which address failed, why, and what to do."""
    remedy = (
        "check that the file is a writable MLflow database"
        if _kind(uri) == "sqlite"
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
    # MLflow's client takes user and password out of the address, as urllib does not.
    parts = urlsplit(uri)
    server = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        urllib.request.urlopen(f"{server}/health", timeout=PROBE_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return  # somebody answers; whether it is MLflow is for the first real call to say
    except urllib.error.URLError as error:
        # MLflow may be told to accept this certificate, by variables that urllib does not know.
        if not isinstance(error.reason, ssl.SSLError):
            raise


def sqlite_path(tracking_uri: str) -> Path:
    """Returns the absolute path of the file that a `sqlite:///` address names."""
    return _sqlite_file(tracking_uri).absolute()


def without_password(text: str, uri: str) -> str:
    """Returns `text` without the password that the address `uri` may hold."""
    password = urlsplit(uri).password
    return text.replace(f":{password}@", ":***@") if password else text


def _sqlite_file(tracking_uri: str) -> Path:
    """Returns the path of that file as it is written there, which may be relative."""
    path = tracking_uri.partition("://")[2].partition("?")[0].removeprefix("/")
    return Path(path).expanduser()


def _full_address(given: str) -> str:
    """Returns an address in the one form that the project has of it."""
    kind, query = _kind(given), given.partition("?")[2]
    if kind == "sqlite":
        scheme = given.partition("://")[0]
        return f"{scheme}:///{sqlite_path(given)}" + (f"?{query}" if query else "")
    return given.rstrip("/") if kind in ("http", "https") else given


def _kind(uri: str) -> str:
    """Returns the scheme of an address without a database's driver: `http`, `sqlite`, …"""
    return uri.partition("://")[0].split("+")[0]


def _require_driver(uri: str) -> None:
    """Refuses a database whose Python driver is not installed.

    Raises:
        ValueError: naming the driver, and the extra that has it where there is one.
    """
    try:
        sqlalchemy.make_url(uri).get_dialect().import_dbapi()
    except (ImportError, sqlalchemy.exc.ArgumentError) as error:
        remedy = "install it"
        if _kind(uri) == "postgresql":
            remedy = "it comes with the extra `postgres`: pip install 'stn-icnn[postgres]'"
        raise ValueError(
            f"the driver for {without_password(uri, uri)} is missing ({error}): {remedy}"
        ) from error
