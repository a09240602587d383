"""The list of runs in MLflow: its columns, and its address.

    python -m cluster.tracking.run_list     # serves it for a store that has no server

A list is an experiment. Its columns are stored in a tag of the experiment, a shared view, which
MLflow's page (as of version 3.17) reads where its address names the view.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from mlflow import MlflowClient

VIEW: Final = "jobs"
"""The name of the shared view."""
VIEW_TAG: Final = f"mlflow.sharedViewState.{VIEW}"

COLUMNS: Final = {
    "metrics.`test/f1_overall`": 112,
    "metrics.`test/f1_mean`": 92,
    "metrics.`test/images`": 82,
    "metrics.`val/f1_overall`": 104,
    "metrics.`val/f1_mean`": 88,
    "metrics.`best_score`": 88,
    "metrics.`train/minutes`": 92,
    "params.`data`": 80,
    "params.`train_images`": 88,
    "tags.`weakest_class`": 130,
    "tags.`device`": 220,
    "attributes.`Source`": 100,
}
"""The columns that a list of runs shows, in this order, and their widths, px. MLflow groups them by
metrics, params and tags."""

LOCAL_PORT: Final = 5000
"""The port at which `make ui` shows a store that has no server of its own, unless given another."""

WORKFLOW: Final = "workflowType=machine_learning"
"""The parameter of an address without which MLflow opens the view for language models."""


def share_view(client: MlflowClient, experiment_id: str) -> None:
    """Sets the experiment's shared view to `COLUMNS`, if it differs."""
    state = json.dumps(
        {
            "selectedColumns": list(COLUMNS),
            "columnOrder": list(COLUMNS),
            "columnWidths": COLUMNS,
            "orderByKey": "attributes.start_time",  # any other order shows children apart
            "orderByAsc": False,
        }
    )
    if client.get_experiment(experiment_id).tags.get(VIEW_TAG) != state:
        client.set_experiment_tag(experiment_id, VIEW_TAG, state)


def list_url(tracking_uri: str, experiment_id: str, port: int = LOCAL_PORT) -> str:
    """Returns the address of an experiment's list of runs; the arguments are `runs_url`'s."""
    return f"{runs_url(tracking_uri, experiment_id, port)}?{WORKFLOW}&viewStateShareKey={VIEW}"


def runs_url(tracking_uri: str, experiment_id: str, port: int = LOCAL_PORT) -> str:
    """Returns what the addresses of an experiment's runs begin with; it holds no password.

    Args:
        tracking_uri: the tracking store's address.
        experiment_id: the experiment's id.
        port: the port at which `make ui` shows a store that has no server of its own.
    """
    server = f"http://127.0.0.1:{port}"
    if is_server(tracking_uri):
        parts = urlsplit(tracking_uri)
        server = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    return f"{server}/#/experiments/{experiment_id}/runs"


def is_server(tracking_uri: str) -> bool:
    """Tells whether a tracking store has a server, which shows its runs."""
    return tracking_uri.startswith(("http://", "https://"))


def main(arguments: Sequence[str] = ()) -> None:
    """Prints the address of the list of runs; serves it where the store has no server."""
    parser = argparse.ArgumentParser(description="Serves the list of runs.")
    parser.add_argument("--port", type=int, default=LOCAL_PORT, help="default: %(default)s")
    port: int = parser.parse_args(arguments).port
    from cluster.tracking.tracker import Tracker

    tracker = Tracker.connect()
    print(f"open {list_url(tracker.uri, tracker.experiment_id, port)}", flush=True)
    if is_server(tracker.uri):
        return
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # seven processes more
    ui = [sys.executable, "-m", "mlflow", "ui", "--port", str(port)]  # found on any PATH
    os.execv(sys.executable, [*ui, "--backend-store-uri", tracker.uri])


if __name__ == "__main__":
    main(sys.argv[1:])
