"""The result of an experiment: what is printed, stored and tracked beside the files it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ExperimentResult:
    """The result of an experiment, beside the files that it wrote."""

    table: Sequence[str]
    """Lines of Markdown, which are printed."""
    result: Mapping[str, Any]
    """The results for the job's last line; their types are those that JSON holds."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics for MLflow."""
