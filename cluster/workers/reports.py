"""What becomes of workers, and a training's report as the plain dict that Ray Train takes."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stn_icnn.context import CheckpointReport, EpochReport, Picture, TrainReport


@dataclass(frozen=True)
class WorkerFailure:
    """The death or exception of workers, after which Ray decides whether it starts them again."""

    errors: Mapping[int, str]
    """The errors by rank."""


@dataclass(frozen=True)
class WorkersStarted:
    """The workers of a run have begun to train, at first or again."""

    num_workers: int
    nodes: Sequence[str]
    """The addresses of their nodes."""
    num_steps: int
    """The number of the run's steps that are done where they go on from."""
    restart_s: float | None = None
    """How long nobody trained, seconds; None: they are the first."""
    num_repeated: int | None = None
    """The number of steps that were done and are done again; None: not known."""


@dataclass(frozen=True)
class WorkersAwaited:
    """A run waits for its workers."""

    lost_nodes: Sequence[str]
    """The addresses of the nodes that ran workers and are gone."""
    wait_s: float
    """The longest that it waits, seconds."""


WorkerReport = TrainReport | WorkerFailure


def report_to_dict(report: TrainReport) -> dict[str, Any]:
    """Returns a report as JSON holds it.

    `epoch`, `step` (0 at an epoch's end) and `computed_on`, where there are any `step_losses` and
    `pictures`, and beside these the metrics by their names, each of which has a slash.
    """
    values: dict[str, Any] = {"step": 0, "epoch": report.epoch, "computed_on": report.computed_on}
    if isinstance(report, CheckpointReport):
        values["step"] = report.step
    else:
        values |= report.metrics
    if report.step_losses:
        values["step_losses"] = [list(one) for one in report.step_losses]
    if report.pictures:
        values["pictures"] = [
            {**vars(one), "webp": base64.b64encode(one.webp).decode()} for one in report.pictures
        ]
    return values


def report_from_dict(values: Mapping[str, Any]) -> TrainReport:
    """Returns the report that `report_to_dict` made a dict of."""
    epoch, step = int(values["epoch"]), int(values["step"])
    computed_on = values.get("computed_on", "")  # absent where an earlier version wrote it
    losses = tuple((int(at), float(loss)) for at, loss in values.get("step_losses", ()))
    pictures = tuple(
        Picture(one["name"], one["epoch"], base64.b64decode(one["webp"]))
        for one in values.get("pictures", ())
    )
    if step:
        return CheckpointReport(epoch, step, computed_on, losses, pictures)
    metrics = {name: value for name, value in values.items() if "/" in name}
    return EpochReport(epoch, metrics, computed_on, losses, pictures)
