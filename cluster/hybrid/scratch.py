"""Training from scratch for as long as another training took, to compare the two.

A schedule must know its length beforehand. So the seconds that an epoch of each phase takes are
measured first, and the whole epochs are chosen that come nearest to the time; the report has the
seconds that they took in the end.
"""

import itertools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cluster.storage.records import read_record, require_same_settings
from cluster.tracking.tracker import Run
from cluster.training.phase_training import log_config, phase_task, train_phase
from cluster.training.run_record import FILE
from cluster.training.setup import Training, child_training, require_batches, start_child_run
from cluster.training.worker import TrainTask, open_phase
from cluster.workers.errors import PhaseFailedError
from cluster.workers.launch import run_on_workers
from cluster.workers.ray_context import RayContext
from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import from_stored
from stn_icnn.storage import StorageLocation
from stn_icnn.training.epoch_time import seconds_per_epoch
from stn_icnn.training.loop import DivergedError
from stn_icnn.training.phases import MODEL_PHASES, PHASES, PhaseName

NAME = "scratch"
"""The name of its folder in the job's storage, its entry in the job's record, its run in MLflow."""
OWN_SETTINGS = ("optim", "loss")
"""The settings that it does not share with the fine-tuning, and so with the job's record."""

Epochs = dict[PhaseName, int]
"""Number of epochs of each phase."""


@dataclass(frozen=True)
class ScratchTraining:
    """A training from scratch that is checked and tracked, and has not started."""

    fine_tuning: Training
    """The fine-tuning, with which it shares data, images, workers and storage."""
    config: TrainConfig
    """Its settings; their epochs are the phases' proportions."""
    run: Run
    """Its run, a child of the fine-tuning's."""

    def train(self, budget_s: float) -> Training:
        """Trains the three phases, or what is left of them.

        Args:
            budget_s: the seconds of training that they are to take together.

        Raises:
            PhaseFailedError: where a loss is not finite any more, or workers failed too often.
        """
        epochs = self._epochs(budget_s)
        lengths: dict[str, Any] = {PHASES[phase].epochs: number for phase, number in epochs.items()}
        config = replace(self.config, optim=replace(self.config.optim, **lengths))
        training = child_training(self.fine_tuning, NAME, config)
        log_config(training.run, config)
        training.expect(MODEL_PHASES)
        for phase in MODEL_PHASES:
            train_phase(training, phase)
        return training

    def _epochs(self, budget_s: float) -> Epochs:
        """Returns the phases' epochs that are recorded; chooses and records them the first time."""
        noted = self.fine_tuning.record.content.get(NAME)
        if noted is None:
            seconds = self._seconds_per_epoch()
            optim = self.config.optim
            proportions = {phase: PHASES[phase].num_epochs(optim) for phase in MODEL_PHASES}
            noted = {
                "config": asdict(self.config),
                "budget_s": budget_s,
                "seconds_per_epoch": seconds,
                "epochs": choose_epochs(seconds, proportions, budget_s),
            }
            self.fine_tuning.record.write_entry(NAME, noted)
        epochs: Epochs = noted["epochs"]
        seconds = noted["seconds_per_epoch"]
        each = ", ".join(f"{phase} {num} x {seconds[phase]:.3g} s" for phase, num in epochs.items())
        print(f"from scratch for {noted['budget_s']:.0f} s: {each}", flush=True)
        return epochs

    def _seconds_per_epoch(self) -> dict[PhaseName, float]:
        training = replace(self.fine_tuning, config=self.config)
        result = run_on_workers(
            time_phases,
            [phase_task(training, phase, None) for phase in MODEL_PHASES],
            name=f"timing-{uuid.uuid4().hex[:8]}",
            storage=self.fine_tuning.record.storage,
            allocation=self.fine_tuning.allocation,
        )
        if isinstance(result.return_value, str):
            raise PhaseFailedError(
                f"from scratch, while its steps were timed: {result.return_value}"
            )
        seconds: dict[PhaseName, float] = result.return_value
        return seconds


def require_same_scratch_settings(storage: StorageLocation, config: TrainConfig) -> None:
    """Refuses to go on with a training from scratch that was started with other settings.

    It is asked before anything else is done, so that it marks no finished run as failed.

    Args:
        storage: the job's run storage.
        config: the settings of its training from scratch.

    Raises:
        ValueError: naming the settings.
    """
    noted = read_record(storage, FILE).get(NAME) if storage.exists(FILE) else None
    if noted is None:
        return
    ours, theirs = asdict(config), asdict(from_stored(noted["config"]))
    require_same_settings(
        f"the training from scratch of {storage.url}",
        {name: ours[name] for name in OWN_SETTINGS},
        {name: theirs[name] for name in OWN_SETTINGS},
        path=f"{NAME}.",
    )


def open_scratch(
    fine_tuning: Training, config: TrainConfig, tags: Mapping[str, Any]
) -> ScratchTraining:
    """Checks and tracks a training from scratch, without starting it.

    Args:
        fine_tuning: the training that it is to take as long as.
        config: its settings; their epochs are proportions.
        tags: the tags of its run.

    Raises:
        ValueError: where a batch has fewer images than there are workers.
        TrackingUnavailableError: where the tracking server has gone away since the job's start.
    """
    require_batches(config, fine_tuning.data, fine_tuning.allocation, fine_tuning.chosen_images)
    params = {**asdict(config), "num_images": fine_tuning.chosen_images or "all"}
    for phase in MODEL_PHASES:  # these are chosen later, and a param can be set once
        params["optim"].pop(PHASES[phase].epochs)
    run = start_child_run(fine_tuning, NAME, params, tags)
    return ScratchTraining(fine_tuning, config, run)


def time_phases(tasks: Sequence[TrainTask]) -> dict[PhaseName, float] | str:
    """Measures in a worker the seconds that an epoch of each phase takes.

    Returns:
        The seconds by phase; or, where a phase can't be trained, the reason.
    """
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
    """Chooses the whole epochs of the phases whose time is nearest to a given one.

    Phases that would get less than one epoch get one, and the others share what is left. Of the
    whole numbers next to the exact proportions those are taken whose sum of seconds is nearest.

    Args:
        seconds: the seconds that an epoch of each phase takes.
        proportions: the epochs of the phases in proportion to each other.
        budget_s: the seconds to spend; where they are too few for an epoch of each phase, each
            gets one.
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
