"""Delivers records to MLflow: a record's run is found or made, and its content is written there.

A record that comes again, as after a time-out, doubles nothing: the run is found by its name, a
param keeps its first value, and a metric of a step counts once.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_LOGGED_IMAGES,
    MLFLOW_PARENT_RUN_ID,
)

from cluster.tracking import picture_files
from cluster.tracking.outbox import Record, RefusedError
from cluster.tracking.provenance import VALUE_LIMIT
from cluster.tracking.registry import register
from cluster.tracking.tracking_uri import artifact_location, without_password

_CHANGED_TAG: Final = "params_changed_on_resume"
_BATCH: Final = 100  # params, or tags, that MLflow takes in one call
_METRICS_BATCH: Final = 1000

_REFUSALS: Final = (
    *("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"),
    *("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"),
)
"""The errors of MLflow that trying again would not change."""


class Delivery:
    """Delivers records into one MLflow experiment; it is not safe for threads by itself."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        """Remembers where to deliver, and asks MLflow nothing.

        Args:
            client: a client of the store at `uri`.
            uri: the address, named without its password where the store is away.
            experiment_id: the id of the experiment that holds all runs.
        """
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id
        self._run_ids: dict[tuple[str, str | None], str] = {}
        self._logged: dict[str, set[tuple[str, int]]] = {}
        self._pictured: dict[str, set[tuple[str, int]]] = {}

    def known_run_id(self, name: str, parent_id: str | None) -> str | None:
        """Returns MLflow's id of a run that was found or made here; None for any other."""
        return self._run_ids.get((name, parent_id))

    def deliver(self, record: Record) -> None:
        """Carries out what the record says; a record that registers a model gets its `version`.

        Raises:
            RefusedError: where MLflow will not take it, now or later.
            OSError: where MLflow is away.
        """
        try:
            self._call(record)
        except (MlflowException, OSError) as error:
            reason = without_password(str(error), self.uri)
            if self._is_refusal(record, error):
                raise RefusedError(reason) from error
            address = without_password(self.uri, self.uri)
            raise OSError(f"no answer from MLflow at {address}: {reason}") from error

    def start(self, record: Record) -> str:
        """Delivers a record of a run's start, and lets MLflow's own errors through.

        Returns:
            The run's id.
        """
        run_id, params = self._run_id(record), record["params"]
        known = self.client.get_run(run_id).data.params
        self.client.update_run(run_id, status="RUNNING", name=record["name"])
        new = [Param(key, value) for key, value in params.items() if key not in known]
        for i in range(0, len(new), _BATCH):
            self.client.log_batch(run_id, params=new[i : i + _BATCH], synchronous=True)
        changed = [
            f"{key}: {known[key]} -> {value}"
            for key, value in params.items()
            if known.get(key, value) != value
        ]
        tags = {_CHANGED_TAG: "; ".join(changed)[:VALUE_LIMIT]} if changed else {}
        self._log_tags(run_id, record["tags"] | tags)
        return run_id

    def _is_refusal(self, record: Record, error: Exception) -> bool:
        if isinstance(error, MlflowException) and error.error_code in _REFUSALS:
            return True
        if "path" not in record:
            return False
        # Is it the artifact store alone? Then it must not hold up the metrics behind it.
        try:
            self.client.get_experiment(self.experiment_id)
        except (MlflowException, OSError):
            return False
        return True

    def _call(self, record: Record) -> None:
        match record["op"]:
            case "start":
                self.start(record)
            case "metrics":
                self._log_metrics(record)
            case "tags":
                self._log_tags(self._run_id(record), record["tags"])
            case "curve":
                self._log_curve(record)
            case "inputs":
                self._log_inputs(record)
            case "artifacts":
                self._log_artifacts(record)
            case "pictures":
                self._log_pictures(record)
            case "register":
                self._register(record)
            case "finish":
                run_id = self._run_id(record)
                self.client.set_terminated(run_id, record["status"], record["time_ms"])
            case op:
                raise RefusedError(f"unknown operation {op!r}")

    def _run_id(self, record: Record) -> str:
        """Returns the id of the record's run, which is found by its name, or made."""
        name, parent = record["name"], record["parent"]
        if (name, parent) not in self._run_ids:
            former = record.get("former_name")
            run = self._find(name, parent) or (self._find(former, parent) if former else None)
            if run is None:
                tags = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
                run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
            self._logged[run.info.run_id] = {
                (key, metric.step)
                for key in run.data.metrics
                for metric in self.client.get_metric_history(run.info.run_id, key)
            }
            self._run_ids[name, parent] = run.info.run_id
        return self._run_ids[name, parent]

    def _find(self, name: str, parent: str | None) -> MlflowRun | None:
        query = f'attributes.run_name = "{name}"'
        if parent:
            query += f" and tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"
        runs = self.client.search_runs(
            [self.experiment_id], query, order_by=["attributes.start_time DESC"]
        )
        return next(
            (run for run in runs if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent), None
        )

    def _log_metrics(self, record: Record) -> None:
        values = record["values"].items()
        self._log_points(record, [(key, record["step"], value) for key, value in values])

    def _log_curve(self, record: Record) -> None:
        points = record["points"]
        self._log_points(record, [(record["key"], step, value) for step, value in points])

    def _log_points(self, record: Record, points: Sequence[tuple[str, int, Any]]) -> None:
        """Logs the metrics of steps that have none yet."""
        run_id = self._run_id(record)
        logged = self._logged[run_id]
        # The time is that of the report: where a call timed out though the server had taken it,
        # the second one is the same row, which MLflow's stores keep once.
        metrics = [
            Metric(key, float(value), record["time_ms"], step)
            for key, step, value in points
            if (key, step) not in logged
        ]
        for i in range(0, len(metrics), _METRICS_BATCH):
            self.client.log_batch(run_id, metrics[i : i + _METRICS_BATCH], synchronous=True)
        logged.update((metric.key, metric.step) for metric in metrics)

    def _log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        if tags:
            entities = [RunTag(key, value) for key, value in tags.items()]
            self.client.log_batch(run_id, tags=entities, synchronous=True)

    def _log_inputs(self, record: Record) -> None:
        inputs = [
            DatasetInput(
                Dataset(
                    name=dataset["name"],
                    digest=dataset["digest"],
                    source_type="s3" if dataset["location"].startswith("s3:") else "local",
                    source=json.dumps({"uri": dataset["location"]}),
                    profile=json.dumps({"num_rows": dataset["images"]}),
                ),
                [InputTag(MLFLOW_DATASET_CONTEXT, dataset["split"])],
            )
            for dataset in record["datasets"]
        ]
        self.client.log_inputs(self._run_id(record), datasets=inputs)

    def _log_artifacts(self, record: Record) -> None:
        run_id, path = self._run_id(record), Path(record["path"])
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        with _artifact_store():
            log(run_id, str(path), record["artifact_path"])

    def _log_pictures(self, record: Record) -> None:
        """Uploads the pictures of steps that have none yet."""
        run_id, folder = self._run_id(record), Path(record["path"])
        with _artifact_store():
            if run_id not in self._pictured:
                there = self.client.list_artifacts(run_id, picture_files.FOLDER)
                names = (PurePosixPath(file.path).name for file in there)
                self._pictured[run_id] = picture_files.steps_of_files(names)
            for stem in record["stems"]:
                if picture_files.step_of(stem) in self._pictured[run_id]:
                    continue
                for path in picture_files.files_of(folder, stem):
                    self.client.log_artifact(run_id, str(path), picture_files.FOLDER)
                self._pictured[run_id].add(picture_files.step_of(stem))
        self._log_tags(run_id, {MLFLOW_LOGGED_IMAGES: "True"})

    def _register(self, record: Record) -> None:
        record["version"] = register(
            self.client,
            name=record["model"],
            run_id=self._run_id(record),
            artifact_path=record["artifact_path"],
            card=record["card"],
            tags=record["tags"],
            metrics={key: float(value) for key, value in record["values"].items()},
            data_fingerprint=record["data_fingerprint"],
        )


@contextmanager
def _artifact_store() -> Iterator[None]:
    """Makes errors of the artifact store's own client ones of the store's absence."""
    try:
        yield
    except (MlflowException, OSError):
        raise
    except Exception as error:  # botocore's errors share no base with these two
        raise OSError(f"{type(error).__name__}: {error}") from error


def find_or_make_experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Returns the id of the experiment of this name, which is made where there is none.

    Args:
        client: a client of the store at `uri`.
        uri: the store's address, which says where a new experiment's artifacts are stored.
        name: the experiment's name.

    Raises:
        ValueError: where the experiment is deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifact_location(uri))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another driver was quicker
            assert found is not None
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"experiment {name!r} (id {found.experiment_id}) is deleted; restore it: "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return str(found.experiment_id)
