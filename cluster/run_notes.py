"""The result of a job in MLflow's list of runs: the run's description, and its columns."""

from collections.abc import Iterable, Mapping

from cluster.storage.datasets import ShardedData
from cluster.tracking.tracker import Run
from stn_icnn.labels import LabelSet
from stn_icnn.scoring.f1 import F1Rows, weakest_row

WEAKEST_TAG = "weakest_class"
"""The tag that the list of runs shows beside F1."""
DEVICE_TAG = "device"
TRAIN_MINUTES = "train/minutes"
"""The metric of the minutes that the steps of a job's trainings took."""
BEST_SCORE = "best_score"
"""The metric of the score of a trial's best epoch, and of a sweep's best trial: whatever the trials
are compared by, more is better."""
VAL_F1 = "val/f1_"
"""What the metrics of F1 on the validation split begin with, before the row."""


def data_params(data: ShardedData, num_images: int | None = None) -> dict[str, str | int]:
    """Returns the params by which the list of runs shows what a run is trained on.

    Args:
        data: the data set.
        num_images: the number of images of its training split; None: all.
    """
    return {"data": data.name, "train_images": num_images or data.manifest.num_samples["train"]}


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
    return "\n\n".join(filter(None, [f"**{headline}**", origin, steps]))


def origin_sentence(
    done: str, num_images: int, minutes: float | None, machines: Iterable[str]
) -> str:
    """Returns a sentence for a description: `Trained on 8 images in 0.2 minutes, on a CPU.`

    Args:
        done: what was done, such as `Trained`.
        num_images: the number of images.
        minutes: how long it took; None where that is not known.
        machines: what it was computed on; empty where that is not known.
    """
    took = "" if minutes is None else f" in {minutes:.1f} minutes"
    on = f", on {one_line(machines)}" if one_line(machines) else ""
    return f"{done} on {num_images} images{took}{on}."


def log_machines(
    run: Run, machines: Iterable[str], minutes: float | None = None, step: int = 0
) -> None:
    """Puts what a job was computed on, and for how long it trained, into the list of runs.

    Args:
        run: the job's run.
        machines: the machines; those without a name are left out.
        minutes: the minutes of training; None where there was none, or they are not known.
        step: the step of the metric, which grows where a job goes on and trains more.
    """
    run.set_tags({DEVICE_TAG: one_line(machines) or None})
    run.log_metrics({TRAIN_MINUTES: minutes}, step=step)


def one_line(machines: Iterable[str]) -> str:
    """Returns machines as a text in which each is named once."""
    return "; ".join(filter(None, dict.fromkeys(machines)))


def log_f1(run: Run, split: str, rows: F1Rows, label_set: LabelSet, step: int = 0) -> None:
    """Puts F1 on a split, and the weakest class, into the list of runs."""
    run.log_metrics({f"{split}/f1_{row}": f1 for row, f1 in rows.items()}, step=step)
    log_weakest_class(run, rows, label_set)


def log_weakest_class(run: Run, rows: F1Rows, label_set: LabelSet) -> None:
    """Puts the class of the least F1 into the list of runs, where any is defined."""
    run.set_tags({WEAKEST_TAG: weakest_class(rows, label_set)})


def validation_rows(metrics: Mapping[str, float], label_set: LabelSet) -> F1Rows:
    """Returns F1 by row from an epoch's metrics, None for a row that they lack."""
    rows = (*label_set.f1_rows, *label_set.mean_rows)
    return {row: metrics.get(f"{VAL_F1}{row}") for row in rows}


def weakest_class(rows: F1Rows, label_set: LabelSet) -> str | None:
    """Returns the class of the least F1 and its F1, `upper lip 0.812`, if any is defined."""
    row = weakest_row(rows, label_set)
    return None if row is None else f"{row.replace('_', ' ')} {rows[row]:.3f}"
