"""Training from scratch for as long as another training took, to compare the two.

Schedules must know their length beforehand. So the seconds of an epoch of each phase are measured
first, and whole epochs chosen that come nearest to the time; what they took in the end is reported.
"""

import itertools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.storage.records import read_record, require_same_settings
from cluster.tracking.tracker import Run
from cluster.tracking.tracking_uri import unavailable
from cluster.training.phase_runs import (
    Training,
    branch,
    log_config,
    phase_task,
    require_batches,
    train_phase,
)
from cluster.training.run_record import FILE
from cluster.training.worker import TrainTask, open_phase
from cluster.workers.launch import PhaseFailedError, run_on_workers
from cluster.workers.ray_context import RayContext
from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import from_stored, to_dict
from stn_icnn.storage import StorageLocation
from stn_icnn.training.epoch_time import seconds_per_epoch
from stn_icnn.training.loop import DivergedError
from stn_icnn.training.phases import MODEL_PHASES, PHASES, PhaseName

FOLDER = "scratch"
"""Of its storage in the job's, its note in the job's record, and its run in MLflow."""
OWN = ("optim", "loss")
"""Its own settings; the job's record compares the others."""

Epochs = dict[PhaseName, int]


@dataclass(frozen=True)
class Scratch:
    """A training from scratch that is to come."""

    beside: Training
    """With which it shares data, images, workers and place."""
    config: TrainConfig
    """Its epochs are the phases' proportions."""
    run: Run
    """A child of the other's."""

    def train(self, budget_s: float) -> Training:
        """Trains the three phases, or what is left of them.

        Args:
            budget_s: seconds of training that they are to take together.

        Raises:
            PhaseFailedError: where a loss is not finite any more, or workers failed too often.
        """
        beside = self.beside
        epochs = self._epochs(budget_s)
        lengths: dict[str, Any] = {PHASES[phase].epochs: number for phase, number in epochs.items()}
        config = replace(self.config, optim=replace(self.config.optim, **lengths))
        training = branch(beside, FOLDER, config)
        log_config(training.run, config)
        for phase in MODEL_PHASES:
            train_phase(training, phase)
        return training

    def _epochs(self, budget_s: float) -> Epochs:
        """The phases' epochs: as noted, or chosen and noted."""
        noted = self.beside.record.content.get(FOLDER)
        if noted is None:
            seconds = self._seconds_per_epoch()
            optim = self.config.optim
            proportions = {phase: PHASES[phase].num_epochs(optim) for phase in MODEL_PHASES}
            noted = {
                "config": to_dict(self.config),
                "budget_s": budget_s,
                "seconds_per_epoch": seconds,
                "epochs": choose_epochs(seconds, proportions, budget_s),
            }
            self.beside.record.note(FOLDER, noted)
        print(
            f"from scratch for {noted['budget_s']:.0f} s: "
            + ", ".join(
                f"{phase} {number} x {noted['seconds_per_epoch'][phase]:.3g} s"
                for phase, number in noted["epochs"].items()
            ),
            flush=True,
        )
        epochs: Epochs = noted["epochs"]
        return epochs

    def _seconds_per_epoch(self) -> dict[PhaseName, float]:
        training = replace(self.beside, config=self.config)
        result = run_on_workers(
            time_phases,
            [phase_task(training, phase, None) for phase in MODEL_PHASES],
            name=f"timing-{uuid.uuid4().hex[:8]}",
            storage=self.beside.record.storage,
            allocation=self.beside.allocation,
            max_failures=self.beside.max_failures,
            on_report=lambda report: print(f"timing: {report}", flush=True),
        )
        if isinstance(result.return_value, str):
            raise PhaseFailedError(
                f"from scratch, while its steps were timed: {result.return_value}"
            )
        seconds: dict[PhaseName, float] = result.return_value
        return seconds


def require_same_scratch(storage: StorageLocation, config: TrainConfig) -> None:
    """Refuses to go on with a training from scratch that was begun with other settings.

    Asked before anything else is done, so that a finished run is not marked as failed by it.

    Args:
        storage: the job's own.
        config: settings of its training from scratch.

    Raises:
        ValueError: naming the settings.
    """
    noted = read_record(storage, FILE).get(FOLDER) if storage.exists(FILE) else None
    if noted is None:
        return
    ours, theirs = to_dict(config), to_dict(from_stored(noted["config"]))
    require_same_settings(
        f"the training from scratch of {storage.url}",
        {name: ours[name] for name in OWN},
        {name: theirs[name] for name in OWN},
        path=f"{FOLDER}.",
    )


def open_scratch(beside: Training, config: TrainConfig, tags: Mapping[str, Any]) -> Scratch:
    """Gets a training from scratch ready, without beginning it: what can be refused is refused now.

    Args:
        beside: the training that it is to take as long as.
        config: its settings; their epochs are proportions.
        tags: of its run.

    Raises:
        ValueError: where its batches leave a worker none.
        TrackingUnavailableError: where the tracking server has gone away since the job's start.
    """
    require_batches(config, beside.data, beside.allocation, beside.chosen_images)
    params = {**to_dict(config), "num_images": beside.chosen_images or "all"}
    for phase in MODEL_PHASES:  # these are chosen later, and a param can be set once
        params["optim"].pop(PHASES[phase].epochs)
    tracker = beside.run.tracker
    run = tracker.start_or_resume_run(FOLDER, beside.run.run_id, tags=tags, params=params)
    if run.run_id is None:  # the phases' own runs could not be put under it
        raise unavailable(tracker.uri, ConnectionError("it went away while the job began"))
    return Scratch(beside, config, run)


def time_phases(tasks: Sequence[TrainTask]) -> dict[PhaseName, float] | str:
    """In a worker: the seconds that an epoch of each phase takes; or why it can't be trained."""
    seconds = {}
    for task in tasks:
        try:
            seconds[task.phase] = seconds_per_epoch(*open_phase(RayContext(), task, log=print))
        except DivergedError as error:
            return str(error)
    return seconds


def choose_epochs(
    seconds: Mapping[PhaseName, float], proportions: Mapping[PhaseName, int], budget_s: float
) -> Epochs:
    """Whole epochs of the phases that take as near to a time as can be.

    Phases that would get less than one epoch get one, and the others what is left. Of the numbers
    next to the exact proportions those are taken whose sum of seconds is nearest.

    Args:
        seconds: that an epoch of each phase takes.
        proportions: of the phases' epochs.
        budget_s: seconds to be spent; where it does not hold an epoch of each, they get one each.
    """
    fixed: Epochs = {}
    while True:
        free = [phase for phase in proportions if phase not in fixed]
        left_s = budget_s - sum(seconds[phase] for phase in fixed)
        once_s = sum(seconds[phase] * proportions[phase] for phase in free)
        exact = {phase: left_s / once_s * proportions[phase] for phase in free}
        short = {phase: 1 for phase, number in exact.items() if number < 1}
        if not short:
            break
        fixed |= short

    choices = [
        dict(zip(exact, numbers, strict=True))
        for numbers in itertools.product(*((int(n), int(n) + 1) for n in exact.values()))
    ]
    nearest = min(choices, key=lambda e: abs(left_s - sum(seconds[p] * n for p, n in e.items())))
    chosen = fixed | nearest
    return {phase: chosen[phase] for phase in proportions}
