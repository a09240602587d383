"""The end of a job for people, before the line that programs read."""

from collections.abc import Mapping
from types import MappingProxyType

from cluster.tracking.run_pages import (
    artifact_path,
    list_options,
    run_page,
    store_options,
    ui_command,
)
from cluster.tracking.tracker import Run
from stn_icnn.reporting.documents import PAGE
from stn_icnn.reporting.run_results import REPORT_FOLDER

REPORT = f"{REPORT_FOLDER}/{PAGE}"
"""The report among the artifacts of a run that scores a model, or of a sweep."""
REPORTS: Mapping[str, str] = MappingProxyType({"report": REPORT})
"""The reports that the end of a job names, by what it calls them, where there are no others."""


def print_ending(
    run: Run,
    headline: str,
    next_steps: Mapping[str, str],
    reports: Mapping[str, str] = REPORTS,
) -> None:
    """Prints what came of a job, where it is to be seen, and what to type next.

    Args:
        run: the job's run.
        headline: what came of it, in a line.
        next_steps: commands by what they do, in a word.
        reports: its reports among its artifacts, by what to call them.
    """
    lines = {
        **{word: _place_of(run, report) for word, report in reports.items()},
        "in MLflow": run_page(run),
        **({"start it": start} if (start := ui_command(run.tracker.uri)) else {}),
        **next_steps,
    }
    width = max(map(len, lines))
    print(f"\n{headline}")
    for word, line in lines.items():
        print(f"  {word:{width}}  {line}")
    print(flush=True)


def _place_of(run: Run, report: str) -> str:
    return artifact_path(run, report) or f"{report}, among the run's artifacts"


def steps_with(run: Run, model: str | None) -> dict[str, str]:
    """Returns commands that go on from a run that scored a model, for `print_ending`.

    Args:
        run: the run.
        model: the model's name; None while it waits for the tracking server.
    """
    compare = {"compare": f"stn-icnn compare {run.name} OTHER_RUN{list_options(run)}"}
    if model is None:
        return compare
    return {
        "parse": f"stn-icnn parse PHOTO --model {model} --out labels/{store_options(run)}",
        **compare,
        "fine-tune": f"python jobs/hybrid.py --from {model} --data SHARDS{list_options(run)}",
    }
