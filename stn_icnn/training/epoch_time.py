"""The time that an epoch of a phase takes, measured on a few of its steps."""

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
    one_epoch, num_steps = run.plan(0), WARM_UP_STEPS + TIMED_STEPS
    epochs = range(-(-num_steps // len(one_epoch)))  # a small data set has few steps in each
    steps = [batch for epoch in epochs for batch in run.plan(epoch)][:num_steps]
    batches = run.batches(steps)
    train_until(run, state, steps, batches, WARM_UP_STEPS)
    state.progress = Progress(step=WARM_UP_STEPS)
    train_until(run, state, steps, batches, num_steps)
    num_timed = sum(map(len, steps[WARM_UP_STEPS:]))
    return state.progress.train_s / num_timed * sum(map(len, one_epoch))
