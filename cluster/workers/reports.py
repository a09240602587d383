"""The failure of workers, and a training's report as the plain dict that Ray Train takes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stn_icnn.context import CheckpointReport, EpochReport, TrainReport


@dataclass(frozen=True)
class WorkerFailure:
    """The death or exception of workers, after which Ray decides whether it starts them again."""

    errors: Mapping[int, str]
    """The errors by rank."""


WorkerReport = TrainReport | WorkerFailure


def report_to_dict(report: TrainReport) -> dict[str, Any]:
    """Returns `epoch`, `step` (0 at an epoch's end), `computed_on` and the metrics by name."""
    values = asdict(report)
    metrics = values.pop("metrics", {})
    return {"step": 0, **values, **metrics}


def report_from_dict(values: Mapping[str, Any]) -> TrainReport:
    """Returns the report that `report_to_dict` made a dict of."""
    epoch, step = int(values["epoch"]), int(values["step"])
    computed_on = values.get("computed_on", "")  # absent where an earlier version wrote it
    if step:
        return CheckpointReport(epoch, step, computed_on)
    return EpochReport(epoch, {k: v for k, v in values.items() if "/" in k}, computed_on)
