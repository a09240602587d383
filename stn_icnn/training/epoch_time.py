"""The time that an epoch of a phase takes, measured on a few of its steps."""

from dataclasses import replace
from itertools import chain

from stn_icnn.data.epochs import Epoch
from stn_icnn.networks.model import STNiCNN
from stn_icnn.training.loop import PhaseRun, start_training, train_until
from stn_icnn.training.state import Progress

WARM_UP_STEPS = 3
"""Steps that are not counted: the first ones allocate, and choose how to convolve."""
TIMED_STEPS = 20


def seconds_per_epoch(run: PhaseRun, model: STNiCNN) -> float:
    """Measures the time of an epoch by training some of its steps.

    Args:
        run: the phase, with the data of a training.
        model: a model of its sizes; its weights stay, but not its running batch statistics.

    Returns:
        The seconds that this rank takes for as many images as an epoch has.

    Raises:
        DivergedError: on all ranks.
    """
    state = start_training(run, model)
    for group in state.optimizer.param_groups:
        group["peak_lr"] = 0.0  # as much work, and fresh networks can't diverge in it
    num_steps = WARM_UP_STEPS + TIMED_STEPS
    steps = _several_epochs(run, -(-num_steps // run.steps_per_epoch))
    train_until(run, state, steps, WARM_UP_STEPS)
    state.progress = Progress(step=WARM_UP_STEPS)
    train_until(run, state, steps, num_steps)
    num_timed = sum(steps.sizes[WARM_UP_STEPS:num_steps])
    num_looks = len(run.train_faces) * run.config.augment.copies
    return state.progress.train_s / num_timed * num_looks


def _several_epochs(run: PhaseRun, number: int) -> Epoch:
    """Opens the first epochs in a row: a small data set has few steps in each."""
    epochs = [run.open_epoch(i) for i in range(number)]
    return replace(
        epochs[0],
        sizes=[size for epoch in epochs for size in epoch.sizes],
        batches=chain.from_iterable(epoch.batches for epoch in epochs),
        keys=lambda step: (f"of step {step} of the measurement",),
    )
