"""How long an epoch of a phase takes, from a few of its steps."""

from stn_icnn.data.loading import load_batches
from stn_icnn.networks.execution import prepare_model
from stn_icnn.networks.model import STNiCNN
from stn_icnn.training.loop import PhaseRun, build_optimizer, train_until
from stn_icnn.training.phases import PhaseLoss, set_trained
from stn_icnn.training.state import Progress, TrainState

WARM_UP_STEPS = 3
"""Not counted: the first ones allocate, and choose how to convolve."""
TIMED_STEPS = 20


def seconds_per_epoch(run: PhaseRun, model: STNiCNN) -> float:
    """Trains some steps of a phase and counts their time as training counts it.

    Args:
        run: the phase; its data are those of a training.
        model: of its sizes; its weights stay, but not its batch norm's statistics.

    Returns:
        Seconds, of this rank, for as many images as an epoch has.

    Raises:
        DivergedError: on all ranks.
    """
    context, rates = run.context, run.config.optim.learning_rates(run.phase)
    prepare_model(model, run.config, context.device)
    set_trained(model, rates, run.keeping_stats, run.fine_networks)
    state = TrainState(model, build_optimizer(model, run.phase, run.config.optim))
    for group in state.optimizer.param_groups:
        group["peak_lr"] = 0.0  # as much work, and fresh networks can't diverge in it
    module = context.wrap(PhaseLoss(model, run.phase, run.config.loss, run.config.fine))
    one_epoch, num_steps = run.plan(0), WARM_UP_STEPS + TIMED_STEPS
    epochs = range(-(-num_steps // len(one_epoch)))  # a small data set has few steps in each
    steps = [batch for epoch in epochs for batch in run.plan(epoch)][:num_steps]
    batches = load_batches(
        run.train_faces, steps, context.rank, context.world_size, run.loader_processes
    )
    train_until(run, state, module, steps, batches, WARM_UP_STEPS)
    state.progress = Progress(step=WARM_UP_STEPS)
    train_until(run, state, module, steps, batches, num_steps)
    num_timed = sum(map(len, steps[WARM_UP_STEPS:]))
    return state.progress.train_s / num_timed * sum(map(len, one_epoch))
