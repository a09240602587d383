"""Fetches runs from MLflow to compare them: what they have kept, or what MLflow knows of them."""

import ast
import difflib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from cluster.tracking.registry import FINGERPRINT_TAG
from cluster.tracking.stored_models import NOT_FOUND, explaining_loss
from cluster.tracking.tracking_uri import (
    EXPERIMENT_ENV,
    connect,
    experiment_name,
    resolve_tracking_uri,
    unavailable,
)
from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import flatten_settings
from stn_icnn.label_sets import PAPER9
from stn_icnn.labels import LabelSet
from stn_icnn.reporting.comparison import COMPARED_CURVES, ComparedRun
from stn_icnn.reporting.run_results import (
    COUNTS_FILE,
    FACES_FILE,
    REPORT_FOLDER,
    RESULTS_FILE,
    History,
    RunResults,
)
from stn_icnn.reporting.tables import f1_headings
from stn_icnn.scoring.f1 import F1Rows

MOST_NAMES: Final = 1000
"""The most runs whose names are looked through for near ones."""
KEPT: Final = (RESULTS_FILE, COUNTS_FILE, FACES_FILE)


def fetch_runs(
    names: Sequence[str], tracking_uri: str | None, experiment: str | None
) -> list[ComparedRun]:
    """Fetches runs with what they have kept.

    Args:
        names: the runs' names, which are looked for in the experiment, or ids, in all.
        tracking_uri: the tracking store's address, resolved like a job's.
        experiment: the experiment's name, or None, as `experiment_name` takes it.

    Raises:
        ValueError: where there is no such run, naming near ones, or it has not scored a model.
        TrackingUnavailableError: where the tracking server does not answer, or goes away.
    """
    uri = resolve_tracking_uri(tracking_uri)
    with connect(uri) as client:
        found = [_find_run(client, name, experiment_name(experiment)) for name in names]
    try:
        return [_compared_run(client, uri, run) for run in found]
    except MlflowException as error:
        raise unavailable(uri, error) from error


def _find_run(client: MlflowClient, name: str, experiment: str) -> Run:
    """Returns the run of a name or an id."""
    try:
        return client.get_run(name)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
    stored = client.get_experiment_by_name(experiment)
    if stored is None:
        known = ", ".join(repr(one.name) for one in client.search_experiments())
        raise ValueError(
            f"experiment must be one of {known}, got {experiment!r}: give another --experiment or "
            f"{EXPERIMENT_ENV}"
        )
    place = [stored.experiment_id]
    # No run is made under a name with double quotes, for which MLflow cannot be asked.
    named = [] if '"' in name else client.search_runs(place, f'attributes.run_name = "{name}"')
    jobs = [run for run in named if MLFLOW_PARENT_RUN_ID not in run.data.tags] or named
    if not jobs:
        latest = client.search_runs(place, max_results=MOST_NAMES)
        raise ValueError(_lack(name, experiment, latest))
    if len(jobs) > 1:
        ids = ", ".join(run.info.run_id for run in jobs)
        raise ValueError(f"{len(jobs)} runs are called {name!r}: give one's id: {ids}")
    return jobs[0]


def _lack(name: str, experiment: str, latest: Sequence[Run]) -> str:
    """Returns the message that there is no run of a name, with names like it."""
    jobs = (run for run in latest if MLFLOW_PARENT_RUN_ID not in run.data.tags)
    names = list(dict.fromkeys(str(run.info.run_name) for run in jobs))
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    shown = ", ".join(near or names[:5]) or "none"
    return (
        f"there is no run {name!r} in the experiment {experiment!r}; "
        f"{'near ones' if near else 'the latest'}: {shown}; runs of other experiments: give their "
        "id, or --experiment"
    )


def _compared_run(client: MlflowClient, uri: str, run: Run) -> ComparedRun:
    run_id = run.info.run_id
    there = {Path(file.path).name for file in client.list_artifacts(run_id, REPORT_FOLDER)}
    if not there.issuperset(KEPT):
        return _without_results(client, run)
    with tempfile.TemporaryDirectory(prefix="stn-icnn-compare-") as folder:
        for file in KEPT:
            source = f"runs:/{run_id}/{REPORT_FOLDER}/{file}"
            with explaining_loss(f"run {run.info.run_name!r}", source, run_id, uri):
                mlflow.artifacts.download_artifacts(source, dst_path=folder, tracking_uri=uri)
        results = RunResults.read(Path(folder))
    results = replace(results, run_name=str(run.info.run_name))
    return ComparedRun.of_results(results, run_id)


def _without_results(client: MlflowClient, run: Run) -> ComparedRun:
    """Returns a run of an earlier version, with what MLflow knows of it.

    Raises:
        ValueError: where it has no F1.
    """
    name, tags = str(run.info.run_name), run.data.tags
    for split in ("test", tags.get("split", "val")):
        f1 = _f1(run, split, PAPER9)
        if f1.get("overall") is not None:
            break
    else:
        raise ValueError(
            f"run {name!r} must have scored a model, got one ({run.info.status}) without F1: let "
            "it finish, by the same command, or name another"
        )
    known = flatten_settings(asdict(TrainConfig()))
    return ComparedRun(
        name=name,
        run_id=run.info.run_id,
        f1=f1,
        split=split,
        fingerprint=tags.get(FINGERPRINT_TAG),
        settings={key: _value(text) for key, text in run.data.params.items() if key in known},
        history=_history(client, run),
    )


def _f1(run: Run, split: str, label_set: LabelSet) -> F1Rows:
    values: Mapping[str, float] = run.data.metrics
    return {row: values.get(f"{split}/f1_{row}") for row in f1_headings(label_set)}


def _value(text: str) -> Any:
    """Returns a param as a setting: a number, a list or a text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return list(value) if isinstance(value, tuple) else value


def _history(client: MlflowClient, run: Run) -> History:
    """Returns the curves of a run's phases, which are runs of their own."""
    children = client.search_runs(
        [run.info.experiment_id],
        f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}'",
        order_by=["attributes.start_time ASC"],
    )
    history = {}
    for child in children:
        epochs: dict[int, dict[str, float | None]] = {}
        for metric in COMPARED_CURVES:
            if metric in child.data.metrics:
                for point in client.get_metric_history(child.info.run_id, metric):
                    epochs.setdefault(point.step, {"epoch": point.step})[metric] = point.value
        if epochs and (phase := child.data.tags.get("phase")):
            history[phase] = [epochs[step] for step in sorted(epochs)]
    return history
