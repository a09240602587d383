"""Tracks a job's runs in MLflow: a thin layer over `MlflowClient`, for the driver alone.

A job has one parent run, with a child for each phase or trial. After the start nothing here raises
because the server is away: what cannot be delivered waits in an outbox, which is mirrored in a
file, and goes out with a later call, at the end, or when the job is run again under its name.
"""

import dataclasses
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from cluster.storage.datasets import ShardedData
from cluster.storage.job_locations import data_home
from cluster.tracking.delivery import Delivery, find_or_make_experiment
from cluster.tracking.outbox import Outbox, Record, RefusedError
from cluster.tracking.picture_files import write_picture
from cluster.tracking.provenance import (
    VALUE_LIMIT,
    describe_split,
    flatten,
    git_commit,
    origin_tags,
)
from cluster.tracking.registry import FINGERPRINT_TAG
from cluster.tracking.run_list import share_view
from cluster.tracking.tracking_uri import (
    connect,
    experiment_name,
    resolve_tracking_uri,
    unavailable,
)
from stn_icnn.context import Picture

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker:
    """Writes one job's runs into one MLflow experiment. Safe to use from several threads."""

    experiment: str | None = None
    """The experiment's name, where `connect` was given one."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str, folder: Path) -> None:
        """Makes a tracker for a store that answers; `connect` finds one and makes it.

        Args:
            client: a client of the store at `uri`.
            uri: the store's address.
            experiment_id: the id of the experiment that holds all runs.
            folder: a local folder for what could not be delivered.
        """
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id
        self._delivery = Delivery(client, uri, experiment_id)
        self._folder = folder
        self._origin = origin_tags()
        self._outbox: Outbox | None = None  # of the job, once its run is started
        self._lock = threading.RLock()

    @classmethod
    def connect(
        cls,
        uri: str | None = None,
        experiment: str | None = None,
        outbox_folder: Path | None = None,
    ) -> Self:
        """Reaches the tracking store and finds or makes the experiment.

        Args:
            uri: the store's address, as `resolve_tracking_uri` takes it.
            experiment: the experiment's name, or None, as `experiment_name` takes it.
            outbox_folder: a local folder for what could not be delivered; by default in the user's
                data folder.

        Raises:
            ValueError: for an address or an experiment that cannot be used.
            TrackingUnavailableError: where nobody answers; after seconds, not minutes.
        """
        uri = resolve_tracking_uri(uri)
        name = experiment_name(experiment)
        with connect(uri) as client:
            experiment_id = find_or_make_experiment(client, uri, name)
            share_view(client, experiment_id)
        tracker = cls(client, uri, experiment_id, outbox_folder or data_home() / "undelivered")
        tracker.experiment = experiment
        return tracker

    @property
    def undelivered(self) -> Path | None:
        """The file of records that MLflow has not got; None where it has all."""
        with self._lock:
            return self._outbox.undelivered if self._outbox else None

    def start_or_resume_run(
        self,
        run_name: str,
        parent_id: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        params: Any = None,
        former_name: str | None = None,
    ) -> "Run":
        """Goes on with the run of this name and parent, or makes one.

        What an earlier driver of a job could not deliver is delivered when its parent run is
        resumed. A param that is there already keeps its first value; where the new one differs,
        the tag `params_changed_on_resume` names both.

        Args:
            run_name: the run's name, without `"`, which MLflow cannot search for.
            parent_id: the parent's id, for a child run, which may start while the server is away.
            tags: the run's tags, set anew at each start; None values are left out.
            params: a mapping or dataclass, nested ones flattened to `outer.inner`.
            former_name: the name by which an earlier version would have made it: a run of this name
                and parent is gone on with, under the new one.

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
            "former_name": former_name,
            "tags": _present({**self._origin, **(tags or {})}),
            "params": flatten(params or {}),
        }
        with self._lock:
            if parent_id is None:
                self._start_job(record)
            else:
                self._outbox = self._outbox or Outbox(self._deliver, self._folder, parent_id)
                self._outbox.add(record)
        return Run(self, run_name, parent_id)

    def _start_job(self, record: Record) -> None:
        try:
            run_id = self._delivery.start(record)
        except (MlflowException, OSError) as error:
            raise unavailable(self.uri, error) from error

        def still_holds(old: Record) -> bool:  # the job is started again: it has not ended
            return old["op"] != "finish" or old["parent"] is not None

        self._outbox = self._outbox or Outbox(self._deliver, self._folder, run_id, still_holds)
        self._outbox.flush()

    def flush(self, force: bool = False) -> None:
        """Delivers what waits, with `force` also shortly after a failure."""
        with self._lock:
            if self._outbox:
                self._outbox.flush(force)

    def deliver_left(self, run_id: str) -> None:
        """Delivers what the job of a run, which has ended, left in the folder."""
        with self._lock:
            self._outbox = Outbox(self._deliver, self._folder, run_id)
            self._outbox.flush(force=True)

    def run_id_of(self, run: "Run") -> str | None:
        """Returns MLflow's id of the run; None while its start waits for the server."""
        return self._delivery.known_run_id(run.name, run.parent_id)

    def send(self, run: "Run", record: Record) -> None:
        """Delivers a record of the run, or holds it; the record itself gets the run's name."""
        record |= {"name": run.name, "parent": run.parent_id}
        with self._lock:
            assert self._outbox is not None  # a run is started before it has records
            self._outbox.add(record)

    def _deliver(self, record: Record) -> None:
        if record["op"] == "register" and self._outbox:
            artifacts = ("artifacts", record["name"], record["parent"])
            refused = [(one["op"], one["name"], one["parent"]) for one in self._outbox.refused]
            if artifacts in refused:
                raise RefusedError("the run's artifacts have not been uploaded")
        self._delivery.deliver(record)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in MLflow, of a job or of one of its phases or trials.

    Attributes:
        tracker: the tracker that writes it.
        name: the name under which it is resumed.
        parent_id: the parent's id; None for a job's own run.
    """

    tracker: Tracker
    name: str
    parent_id: str | None

    @property
    def run_id(self) -> str | None:
        """The run's id in MLflow; None while a child's start waits for the server."""
        return self.tracker.run_id_of(self)

    def log_metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Logs the metrics of a step; one that the step has already keeps its first value.

        A worker that died repeats the reports since its last checkpoint.

        Args:
            values: metrics by names such as `val/f1_overall`; NaN is logged, None (a class that
                the model does not have) is not.
            step: the epoch.
        """
        record = {"op": "metrics", "values": _numbers(values), "step": int(step)}
        self.tracker.send(self, record | {"time_ms": _now_ms()})

    def log_curve(self, key: str, points: Sequence[tuple[int, float]]) -> None:
        """Logs a metric's values by step; a step that has a value keeps it."""
        if points:
            record = {"op": "curve", "key": key, "points": [list(point) for point in points]}
            self.tracker.send(self, record | {"time_ms": _now_ms()})

    def log_pictures(self, pictures: Sequence[Picture]) -> None:
        """Logs pictures for MLflow's image slider; an epoch that has pictures keeps them."""
        if not pictures:
            return
        time_ms = _now_ms()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "pictures")
            folder.mkdir()
            stems = [write_picture(folder, picture, time_ms) for picture in pictures]
            self.tracker.send(self, {"op": "pictures", "path": str(folder), "stems": stems})

    def log_data(self, data: ShardedData, splits: Sequence[str]) -> None:
        """Names splits of a data set as what the run works on: with their digest and location."""
        datasets = [describe_split(data, split) for split in splits]
        self.tracker.send(self, {"op": "inputs", "datasets": datasets})

    def log_artifacts(self, path: Path | str, artifact_path: str | None = None) -> None:
        """Uploads a file, or a folder's content, to `artifact_path` of the run's artifacts.

        Where the upload must wait, a copy is made: `path` may be removed afterwards.
        """
        path = Path(path).absolute()
        if not path.exists():
            raise ValueError(f"artifacts must be a file or folder, got {path}: it is not there")
        record = {"op": "artifacts", "path": str(path), "artifact_path": artifact_path}
        self.tracker.send(self, record)

    def log_file(self, name: str, content: bytes, artifact_path: str | None = None) -> None:
        """Stores a file of this name and content in `artifact_path` of the run's artifacts."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self.log_artifacts(path, artifact_path)

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Sets tags; those whose value is None are left out."""
        self.tracker.send(self, {"op": "tags", "tags": _present(tags)})

    def register_model(
        self,
        name: str,
        artifact_path: str,
        *,
        card: str,
        metrics: Mapping[str, float | None],
        data_fingerprint: str,
        tags: Mapping[str, str | None],
    ) -> str | None:
        """Registers the run's checkpoint; `registry.register` says which model becomes champion.

        Returns:
            The version; None where it waits for the server, or for the checkpoint's upload.
        """
        record: Record = {
            "op": "register",
            "model": name,
            "artifact_path": artifact_path,
            "card": card,
            "values": _numbers(metrics),
            "data_fingerprint": data_fingerprint,
            "tags": _present(tags),
        }
        self.tracker.send(self, record)
        return record.get("version")

    def last_line(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the last line of the run's job: `run_id`, `run_name`, and the result.

        Where there are records that MLflow has not got, `undelivered` names their file.
        """
        line = {"run_id": self.run_id, "run_name": self.name, **result}
        left = self.tracker.undelivered
        return {**line, "undelivered": str(left)} if left else line

    def describe(self, note: str) -> None:
        """Sets the run's description, Markdown, which MLflow shows in its list and on its page."""
        self.set_tags({MLFLOW_RUN_NOTE: note})

    def finish(self, status: Status) -> None:
        """Ends the run. At the end of a job's own run, all that waits is tried a last time."""
        self.tracker.send(self, {"op": "finish", "status": status, "time_ms": _now_ms()})
        if self.parent_id is None:
            self.tracker.flush(force=True)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Ends the run with the status that the block's end tells.

        `FINISHED` at its end, `FAILED` on an error, `KILLED` on Ctrl-C and on the `SystemExit`
        that Ray makes of SIGTERM; both are raised again.
        """
        try:
            yield
        except Exception:
            self.finish("FAILED")
            raise
        except BaseException:
            self.finish("KILLED")
            raise
        self.finish("FINISHED")


def run_tags(data_fingerprint: str | None, preset: str | None) -> dict[str, str | None]:
    """Returns the tags of every run; None where a value is not known."""
    return {FINGERPRINT_TAG: data_fingerprint, "preset": preset, "git_commit": git_commit()}


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if value is not None}


def _present(tags: Mapping[str, str | None] | None) -> dict[str, str]:
    return {k: str(v)[:VALUE_LIMIT] for k, v in (tags or {}).items() if v is not None}


def _now_ms() -> int:
    return int(time.time() * 1000)
