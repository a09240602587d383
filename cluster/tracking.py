"""Tracking of runs in MLflow, for the driver alone; a thin layer over `mlflow.MlflowClient`.

One parent run a job, one child a phase or trial. After the start nothing here raises because the
server is away: what cannot be delivered waits in order, mirrored in a spool file, and goes out
with a later call, at the end, or when the job is run again under its name.
"""

import dataclasses
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from cluster import places
from cluster.model_card import VALUE_LIMIT, flatten, git_commit
from cluster.models import FINGERPRINT_TAG, register
from cluster.spool import Outbox, Record, RefusedError

EXPERIMENT: Final = "stn-icnn"

Status = Literal["FINISHED", "FAILED", "KILLED"]

_PARENT_TAG: Final = "mlflow.parentRunId"
_CHANGED_TAG: Final = "params_changed_on_resume"
_BATCH: Final = 100  # params, or tags, that MLflow takes in one call

_REFUSALS: Final = (
    *("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"),
    *("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"),
)
"""MLflow's answers that trying again would not change."""


class Tracker:
    """Writes one job's runs into one MLflow experiment. Safe to use from several threads."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str, folder: Path) -> None:
        """For `connect`, which see."""
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id
        self._outbox = Outbox(self._deliver, folder)
        self._run_ids: dict[tuple[str, str | None], str] = {}
        self._logged: dict[str, set[tuple[str, int]]] = {}
        self._lock = threading.RLock()

    @classmethod
    def connect(
        cls,
        uri: str | None = None,
        experiment: str = EXPERIMENT,
        artifact_location: str | None = None,
        spool_folder: Path | None = None,
    ) -> Self:
        """Reaches the tracking store and finds or makes the experiment.

        Args:
            uri: see `places.resolve_tracking_uri`.
            experiment: its name.
            artifact_location: of a new experiment; by default the server's own place, or a folder
                beside the sqlite file. MLflow fixes it when the experiment is made.
            spool_folder: a local folder for what could not be delivered; by default in the user's
                data folder.

        Raises:
            ValueError: for an address or an experiment that cannot be used.
            TrackingUnavailableError: where nobody answers; after seconds, not minutes.
        """
        uri = places.resolve_tracking_uri(uri)
        places.set_client_defaults()
        with places.alone_at_first_use(uri):
            places.probe_tracking(uri)
            try:
                client = MlflowClient(tracking_uri=uri)
                experiment_id = _experiment_id(client, uri, experiment, artifact_location)
            except ValueError:
                raise
            except Exception as error:
                # A database speaks through SQLAlchemy or Alembic, a server through MLflow.
                raise places.unavailable(uri, error) from error
        return cls(client, uri, experiment_id, spool_folder or places.data_home() / "undelivered")

    @property
    def undelivered(self) -> Path | None:
        """The file of records that MLflow has not got; None where it has all."""
        with self._lock:
            return self._outbox.undelivered

    def start_or_resume_run(
        self,
        run_name: str,
        parent_id: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        params: Any = None,
    ) -> "Run":
        """Goes on with the run of this name and parent, or makes one.

        What an earlier driver of a job could not deliver is delivered when its parent run is
        resumed. A param that is there already keeps its first value; where the new one differs,
        the tag `params_changed_on_resume` names both.

        Args:
            run_name: without `"`, which MLflow cannot search for.
            parent_id: of a child run. A child may be started while the server is away.
            tags: set anew at each start; None values are left out.
            params: a mapping or dataclass, nested ones flattened to `outer.inner`.

        Raises:
            ValueError: for a name that could not be found again.
            TrackingUnavailableError: where a parent run cannot be made.
        """
        if not run_name.strip() or '"' in run_name:
            raise ValueError(
                f"run_name must be a name without double quotes, got {run_name!r}; give another"
            )
        record: Record = {
            "op": "start",
            "name": run_name,
            "parent": parent_id,
            "tags": _present(tags),
            "params": flatten(params or {}),
        }
        with self._lock:
            if parent_id is None:
                self._start_job(record)
            else:
                self._outbox.open(parent_id)
                self._outbox.add(record)
        return Run(self, run_name, parent_id)

    def _start_job(self, record: Record) -> None:
        try:
            self._start(record)
        except (MlflowException, OSError) as error:
            raise places.unavailable(self.uri, error) from error
        # The parent has just been started again: how it ended before no longer holds.
        self._outbox.open(
            self._run_ids[record["name"], None],
            wanted=lambda old: old["op"] != "finish" or old["parent"] is not None,
        )
        self._outbox.flush()

    def register_model(
        self,
        name: str,
        run: "Run",
        artifact_path: str,
        *,
        card: str,
        metrics: Mapping[str, float | None],
        data_fingerprint: str,
        tags: Mapping[str, str | None] | None = None,
    ) -> str | None:
        """Registers a run's checkpoint; see `models.register` for who becomes champion.

        Returns:
            The version; None where it waits for the server, or for the checkpoint's upload.
        """
        record = {
            "op": "register",
            "model": name,
            "artifact_path": artifact_path,
            "card": card,
            "values": _numbers(metrics),
            "data_fingerprint": data_fingerprint,
            "tags": _present(tags),
        }
        self._send(run, record)
        return record.get("version")

    def flush(self, force: bool = False) -> None:
        """Delivers what waits; with `force` also shortly after a failure."""
        with self._lock:
            self._outbox.flush(force)

    def _send(self, run: "Run", record: Record) -> None:
        record |= {"name": run.name, "parent": run.parent_id}
        with self._lock:
            self._outbox.add(record)

    def _deliver(self, record: Record) -> None:
        try:
            self._call(record)
        except (MlflowException, OSError) as error:
            reason = places.masked(str(error), self.uri)
            if self._is_refusal(record, error):
                raise RefusedError(reason) from error
            address = places.masked(self.uri, self.uri)
            raise OSError(f"no answer from MLflow at {address}: {reason}") from error

    def _is_refusal(self, record: Record, error: Exception) -> bool:
        if isinstance(error, MlflowException) and error.error_code in _REFUSALS:
            return True
        if record["op"] != "artifacts":
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
                self._start(record)
            case "metrics":
                self._log_metrics(record)
            case "tags":
                self._log_tags(self._run_id(record), record["tags"])
            case "artifacts":
                self._log_artifacts(record)
            case "register":
                self._register(record)
            case "finish":
                run_id = self._run_id(record)
                self.client.set_terminated(run_id, record["status"], record["time_ms"])
            case op:
                raise RefusedError(f"unknown operation {op!r}")

    def _start(self, record: Record) -> None:
        run_id, params = self._run_id(record), record["params"]
        known = self.client.get_run(run_id).data.params
        self.client.update_run(run_id, status="RUNNING")
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

    def _run_id(self, record: Record) -> str:
        """The id of the record's run, which is found by its name, or made."""
        name, parent = record["name"], record["parent"]
        if (name, parent) not in self._run_ids:
            run = self._find(name, parent)
            if run is None:
                tags = {_PARENT_TAG: parent} if parent else {}
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
            query += f" and tags.`{_PARENT_TAG}` = '{parent}'"
        runs = self.client.search_runs(
            [self.experiment_id], query, order_by=["attributes.start_time DESC"]
        )
        return next((run for run in runs if run.data.tags.get(_PARENT_TAG) == parent), None)

    def _log_metrics(self, record: Record) -> None:
        run_id, step = self._run_id(record), record["step"]
        logged = self._logged[run_id]
        # The time is that of the report: where a call timed out though the server had taken it,
        # the second one is the same row, which MLflow's stores keep once.
        metrics = [
            Metric(key, float(value), record["time_ms"], step)
            for key, value in record["values"].items()
            if (key, step) not in logged
        ]
        if metrics:
            self.client.log_batch(run_id, metrics=metrics, synchronous=True)
            logged.update((metric.key, step) for metric in metrics)

    def _log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        if tags:
            entities = [RunTag(key, value) for key, value in tags.items()]
            self.client.log_batch(run_id, tags=entities, synchronous=True)

    def _log_artifacts(self, record: Record) -> None:
        run_id, path = self._run_id(record), Path(record["path"])
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        try:
            log(run_id, str(path), record["artifact_path"])
        except (MlflowException, OSError):
            raise
        except Exception as error:
            # The artifact store's own client: botocore's errors share no base with these two.
            raise OSError(f"{type(error).__name__}: {error}") from error

    def _register(self, record: Record) -> None:
        run = (record["name"], record["parent"])
        if any(
            other["op"] == "artifacts" and (other["name"], other["parent"]) == run
            for other in self._outbox.aside
        ):
            raise RefusedError("the run's artifacts have not been uploaded")
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


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in MLflow: a job's, or that of one of its phases.

    Attributes:
        tracker: writes it.
        name: under which it is resumed.
        parent_id: the parent's id; None for a job's own run.
    """

    tracker: Tracker
    name: str
    parent_id: str | None

    @property
    def run_id(self) -> str | None:
        """MLflow's id; None for a child that waits for the server. A parent always has one."""
        return self.tracker._run_ids.get((self.name, self.parent_id))

    def log_metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Logs one report: a metric of a step counts once, the first time.

        A worker that died repeats the reports since its last checkpoint.

        Args:
            values: by names as `val/f1_overall`; NaN is logged, None (a class that the model does
                not have) is not.
            step: the epoch.
        """
        record = {"op": "metrics", "values": _numbers(values), "step": int(step)}
        self.tracker._send(self, record | {"time_ms": _now_ms()})

    def log_artifacts(self, path: Path | str, artifact_path: str | None = None) -> None:
        """Uploads a file, or a folder's content, to `artifact_path` of the run's artifacts.

        Where the upload must wait, a copy is kept; `path` may be removed afterwards.
        """
        path = Path(path).absolute()
        if not path.exists():
            raise ValueError(f"artifacts must be a file or folder, got {path}: it is not there")
        record = {"op": "artifacts", "path": str(path), "artifact_path": artifact_path}
        self.tracker._send(self, record)

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Sets tags; None values are left out."""
        self.tracker._send(self, {"op": "tags", "tags": _present(tags)})

    def finish(self, status: Status) -> None:
        """Ends the run. A parent's end makes a last attempt at all that waits."""
        self.tracker._send(self, {"op": "finish", "status": status, "time_ms": _now_ms()})
        if self.parent_id is None:
            self.tracker.flush(force=True)


def run_tags(data_fingerprint: str | None, preset: str | None) -> dict[str, str | None]:
    """The tags that every run bears; None where a thing is not known."""
    return {FINGERPRINT_TAG: data_fingerprint, "preset": preset, "git_commit": git_commit()}


def _experiment_id(client: MlflowClient, uri: str, name: str, artifact_location: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        place = artifact_location or places.artifact_location(uri)
        try:
            return client.create_experiment(name, artifact_location=place)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another driver was quicker
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"experiment {name!r} (id {found.experiment_id}) is deleted; restore it: "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return found.experiment_id


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if value is not None}


def _present(tags: Mapping[str, str | None] | None) -> dict[str, str]:
    return {k: str(v)[:VALUE_LIMIT] for k, v in (tags or {}).items() if v is not None}


def _now_ms() -> int:
    return int(time.time() * 1000)
