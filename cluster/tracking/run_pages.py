"""Where people look at a run: its page in MLflow's UI, and the files that it has left."""

import shlex
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.exceptions import MlflowException

from cluster.tracking.run_list import WORKFLOW, is_server, runs_url
from cluster.tracking.tracker import Run, Tracker
from cluster.tracking.tracking_uri import (
    EXPERIMENT_ENV,
    TRACKING_ENV,
    experiment_name,
    is_found_unnamed,
    without_password,
)


def ui_command(run: Run) -> str | None:
    """Returns the command that opens MLflow's UI on the list that a run is in.

    None: the store has a server, which shows it.
    """
    uri = run.tracker.uri
    if is_server(uri):
        return None
    words = ["make ui"]
    if not is_found_unnamed(uri):
        words.append(f"{TRACKING_ENV}={_in_shell(uri)}")
    if experiment := _named_list(run):
        words.append(f"{EXPERIMENT_ENV}={shlex.quote(experiment)}")
    return " ".join(words)


def store_options(run: Run) -> str:
    """Returns the option that a command needs to find a run's store; empty where it needs none.

    It begins with a space.
    """
    uri = run.tracker.uri
    return "" if is_found_unnamed(uri) else f" --tracking-uri {_in_shell(uri)}"


def list_options(run: Run) -> str:
    """Returns the options that a command needs to find the list that a run is in.

    They begin with a space, as those of `store_options`, which are among them.
    """
    experiment = _named_list(run)
    return store_options(run) + (f" --experiment {shlex.quote(experiment)}" if experiment else "")


def _named_list(run: Run) -> str | None:
    """Returns the name of the list that a run is in; None where commands find it unnamed."""
    experiment = run.tracker.experiment
    return None if experiment == experiment_name() else experiment


def _in_shell(uri: str) -> str:
    """Returns an address for a command that is printed.

    One with a password is not shown: the command then takes it from `$MLFLOW_TRACKING_URI`, which
    the user sets.
    """
    return shlex.quote(uri) if uri == without_password(uri, uri) else f'"${TRACKING_ENV}"'


def run_page(run: Run) -> str:
    """Returns the address of a run's page, in the view of MLflow for training.

    It otherwise opens the view for language models.
    """
    return page_of(run.tracker, run.run_id)


def page_of(tracker: Tracker, run_id: str | None) -> str:
    """Returns the address of the page of a run of this id, as `run_page` does."""
    return f"{runs_url(tracker.uri, tracker.experiment_id)}/{run_id}?{WORKFLOW}"


def artifact_path(run: Run, artifact: str) -> str | None:
    """Returns the local path of a run's artifact; None where a server keeps it, or is away."""
    run_id = run.run_id
    if run_id is None:
        return None
    try:
        uri = run.tracker.client.get_run(run_id).info.artifact_uri
    except (MlflowException, OSError):
        return None
    parts = urlsplit(uri)
    return f"{url2pathname(parts.path)}/{artifact}" if parts.scheme in ("", "file") else None
