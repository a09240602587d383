"""What a job tells people: in MLflow, and at its end before the line that programs read."""

from collections.abc import Mapping

from cluster.tracking.run_pages import (
    artifact_path,
    list_options,
    run_page,
    store_options,
    ui_command,
)
from cluster.tracking.tracker import Run
from stn_icnn.labels import LabelSet
from stn_icnn.reporting.documents import PAGE
from stn_icnn.reporting.run_results import REPORT_FOLDER
from stn_icnn.reporting.tables import f1_headings, format_f1
from stn_icnn.scoring.f1 import F1Rows, weakest_row

REPORT = f"{REPORT_FOLDER}/{PAGE}"
"""The report among the artifacts of a run that scores a model, or of a sweep."""

WEAKEST_TAG = "weakest_class"
"""The tag that the list of runs shows beside F1."""


def print_ending(
    run: Run, headline: str, next_steps: Mapping[str, str], report: str = REPORT
) -> None:
    """Prints what came of a job, where it is to be seen, and what to type next.

    Args:
        run: the job's run.
        headline: what came of it, in a line.
        next_steps: commands by what they do, in a word.
        report: its report among its artifacts.
    """
    lines = {
        "report": artifact_path(run, report) or f"{report}, among the run's artifacts",
        "in MLflow": run_page(run),
        **({"start it": start} if (start := ui_command(run.tracker.uri)) else {}),
        **next_steps,
    }
    width = max(map(len, lines))
    print(f"\n{headline}")
    for word, line in lines.items():
        print(f"  {word:{width}}  {line}")
    print(flush=True)


def f1_headline(system: str, f1: F1Rows, split: str, dataset: str, label_set: LabelSet) -> str:
    """Returns a line with a system's F1 on a split, and the part that it labels worst."""
    name, row = f"{system} on the {split} split of {dataset}", weakest_row(f1, label_set)
    if row is None:
        return f"{name}: it has no part of a face"
    weakest = f"{f1_headings(label_set)[row]} {format_f1(f1[row])}"
    return f"{name}: F1 {format_f1(f1['overall'])}, weakest {weakest}"


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


def unfinished_note(run_name: str) -> str:
    """Returns the description of a run that has no result yet."""
    return (
        "No result yet: it is going on, or was stopped. "
        f"The same command with `--run-name {run_name}` goes on where it stopped."
    )


def result_note(headline: str, origin: str, next_steps: Mapping[str, str]) -> str:
    """Returns the description of a run that has a result.

    Args:
        headline: what came of it, in a line.
        origin: what it came of, in a sentence; it may be empty.
        next_steps: commands by what they do, in a word.
    """
    steps = "\n".join(f"- {word}: `{command}`" for word, command in next_steps.items())
    return f"**{headline}**" + (f"\n\n{origin}" if origin else "") + f"\n\n{steps}"


def weakest_class(rows: F1Rows, label_set: LabelSet) -> str | None:
    """Returns the class of the least F1 and its F1, `upper lip 0.812`, if any is defined."""
    row = weakest_row(rows, label_set)
    return None if row is None else f"{row.replace('_', ' ')} {rows[row]:.3f}"
