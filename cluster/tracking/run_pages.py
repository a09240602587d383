"""Where people look at a run: its page in MLflow's UI, and the files that it has left."""

import shlex
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.exceptions import MlflowException

from cluster.tracking.run_list import WORKFLOW, is_server, runs_url
from cluster.tracking.tracker import Run
from cluster.tracking.tracking_uri import (
    TRACKING_ENV,
    default_tracking_uri,
    experiment_name,
    resolve_tracking_uri,
    without_password,
)


def ui_command(tracking_uri: str) -> str | None:
    """Returns the command that starts MLflow's UI on a store; None where a server has it."""
    if is_server(tracking_uri):
        return None
    if tracking_uri == default_tracking_uri():
        return "make ui"
    return f"make ui {TRACKING_ENV}={_in_shell(tracking_uri)}"


def store_options(run: Run) -> str:
    """Returns the option that a command needs to find a run's store; empty where it needs none.

    It begins with a space.
    """
    uri = run.tracker.uri
    return "" if uri == resolve_tracking_uri() else f" --tracking-uri {_in_shell(uri)}"


def list_options(run: Run) -> str:
    """Returns the options that a command needs to find the list that a run is in.

    They begin with a space, as those of `store_options`, which are among them.
    """
    experiment = run.tracker.experiment
    if experiment is None or experiment == experiment_name():
        return store_options(run)
    return f"{store_options(run)} --experiment {shlex.quote(experiment)}"


def _in_shell(uri: str) -> str:
    """Returns an address as a command has it that can be run and shows no password.

    In the place of one with a password, the variable stands by which the user has it, or can.
    """
    return uri if uri == without_password(uri, uri) else f'"${TRACKING_ENV}"'


def run_page(run: Run) -> str:
    """Returns the address of a run's page, in the view of MLflow for training.

    It otherwise opens the view for language models.
    """
    tracker = run.tracker
    return f"{runs_url(tracker.uri, tracker.experiment_id)}/{run.run_id}?{WORKFLOW}"


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
