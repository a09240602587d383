"""The result of an experiment: what is printed, stored and tracked beside the files it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stn_icnn.scoring.f1 import F1Rows
from stn_icnn.training.phases import System


@dataclass(frozen=True)
class ExperimentResult:
    """The result of an experiment, beside the files that it wrote."""

    table: Sequence[str]
    """Lines of Markdown, which are printed; empty where the report is."""
    result: Mapping[str, Any]
    """The results for the job's last line; their types are those that JSON holds."""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """Metrics for MLflow."""
    headline: str = ""
    """What came of it, in a line."""
    f1: F1Rows | None = None
    """The F1 that the list of runs shows, by row; None where nothing was labelled."""
    best: tuple[int, System] | None = None
    """The training, by its key, and the system that came out best; None where none is trained."""
    machine: str = ""
    """What it was computed on; empty where that is not told."""
