"""The failure of workers, and a training's report as the plain dict that Ray Train takes."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stn_icnn.context import CheckpointReport, EpochReport, Picture, TrainReport


@dataclass(frozen=True)
class WorkerFailure:
    """The death or exception of workers, after which Ray decides whether it starts them again."""

    errors: Mapping[int, str]
    """The errors by rank."""


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
