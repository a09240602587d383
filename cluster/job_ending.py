"""The end of a job for people, before the line that programs read."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mlflow.entities import Run as StoredRun
from mlflow.exceptions import MlflowException

from cluster.shell_commands import typed_command
from cluster.tracking.registry import FINGERPRINT_TAG
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
"""The reports that the end of a job names unless it is given others: their paths by their names."""

_KIND_TAGS: Final = ("kind", "experiment", "system", "split", "framing", FINGERPRINT_TAG)
"""The tags that are equal in job runs of one kind on one data set."""
_MOST_RUNS: Final = 100
"""The most job runs among which an earlier one of the same kind is looked for."""


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
    lines = {**_places(run, reports), **next_steps}
    width = max(map(len, lines))
    print(f"\n{headline}")
    for word, line in lines.items():
        print(f"  {word:{width}}  {line}")
    print(flush=True)


def _places(run: Run, reports: Mapping[str, str]) -> dict[str, str]:
    """Returns where a job's result is to be seen, or how it comes there while MLflow lacks some."""
    paths = {word: artifact_path(run, report) for word, report in reports.items()}
    left = run.tracker.undelivered
    if left is None:
        start = ui_command(run)
        among = {word: f"{report}, among the run's artifacts" for word, report in reports.items()}
        return {
            **{word: path or among[word] for word, path in paths.items()},
            "in MLflow": run_page(run),
            **({"start it": start} if start else {}),
        }
    deliver = f"{typed_command('python')} -m cluster.deliver {shlex.quote(str(left))}"
    return {
        **{word: path for word, path in paths.items() if path and Path(path).exists()},
        "not in MLflow yet": str(left),
        "deliver it": f"{deliver}{store_options(run)}",
    }


def steps_with(run: Run, model: str | None) -> dict[str, str]:
    """Returns commands that go on from a run that scored a model, for `print_ending`.

    Args:
        run: the run.
        model: the model's name; None while it waits for the tracking server.
    """
    # The first of the runs is what the others are compared with.
    runs = f"{shlex.quote(_earlier_run(run) or 'OTHER_RUN')} {run.name}"
    compare = {"compare": f"{typed_command('stn-icnn')} compare {runs}{list_options(run)}"}
    if model is None:
        return compare
    start = f"--from {shlex.quote(model)} --data SHARDS{list_options(run)}"
    return {
        "parse": parse_command(run, model),
        **compare,
        "fine-tune": f"{typed_command('python')} jobs/hybrid.py {start}",
    }


def parse_command(run: Run, model: str) -> str:
    """Returns the command that parses a photograph with a model in a run's store."""
    options = f"--model {shlex.quote(model)} --out labels/{store_options(run)}"
    return f"{typed_command('stn-icnn')} parse PHOTO {options}"


def _earlier_run(run: Run) -> str | None:
    """Returns the name of the last finished job of a run's kind on its data set, other than it.

    None: there is none, or MLflow does not tell.
    """
    tracker = run.tracker
    if tracker.undelivered:  # the server is away: it is not waited for
        return None
    try:
        jobs = tracker.client.search_runs(
            [tracker.experiment_id],
            f"tags.{FINGERPRINT_TAG} LIKE '%'",  # which the runs of phases and trials lack
            max_results=_MOST_RUNS,
            order_by=["attributes.start_time DESC"],
        )
    except (MlflowException, OSError):
        return None
    own = next((_kind(job) for job in jobs if job.info.run_id == run.run_id), None)
    names = (
        str(job.info.run_name)
        for job in jobs
        if job.info.status == "FINISHED" and job.info.run_id != run.run_id and _kind(job) == own
    )
    return next(names, None)


def _kind(job: StoredRun) -> list[str | None]:
    return [job.data.tags.get(tag) for tag in _KIND_TAGS]
