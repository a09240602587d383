"""The training loop of a phase: `train_step`, `train_epoch`, `run_phase`."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stn_icnn.config import TrainConfig
from stn_icnn.context import (
    CheckpointReport,
    EpochReport,
    Picture,
    StepLosses,
    TrainContext,
    TrainReport,
)
from stn_icnn.data.batch import Batch
from stn_icnn.data.epochs import Epoch, TrainingFaces, open_epoch, steps_per_epoch
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.networks.checkpoint import MODEL_FILE, Checkpoint, DataFacts, save_checkpoint
from stn_icnn.networks.execution import describe_execution, prepare_model
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.training.machine_use import MachineUse
from stn_icnn.training.objectives import OBJECTIVES, PhaseLoss
from stn_icnn.training.phases import Phase
from stn_icnn.training.schedule import build_optimizer, lr_factor
from stn_icnn.training.state import (
    NUM_WORKERS,
    SECONDS,
    VALIDATION_SECONDS,
    Progress,
    TrainState,
    restore_state,
    save_state,
)
from stn_icnn.training.validation import validate
from stn_icnn.training.validation_pictures import picture_faces

STEPS_PER_CHECK = 10
"""Steps between looks at their losses, for which a GPU must be waited for."""
SECONDS_PER_LINE = 60.0
"""Time between lines in the log that say how far an epoch is."""

Log = Callable[[str], None]


class DivergedError(RuntimeError):
    """The loss is no longer a finite number; raised on all ranks."""


@dataclass(frozen=True)
class PhaseRun:
    """A phase of a training, with its settings, its data and the context that it runs in."""

    phase: Phase
    config: TrainConfig
    """The settings of the training, with those that the phase overrides."""
    train_faces: TrainingFaces
    val_faces: ShardedFaces
    data: DataFacts
    context: TrainContext
    log: Log = print
    """Takes the lines that say how far an epoch is."""
    loader_processes: int = 0
    num_pictured: int = 0
    """The number of validation faces of which pictures are reported at each validation, and before
    the first step."""

    @property
    def num_epochs(self) -> int:
        """The phase's number of epochs."""
        return self.phase.num_epochs(self.config.optim)

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps of each epoch, by which rates and steps are counted."""
        return steps_per_epoch(self.train_faces, self.config)

    def open_epoch(self, number: int, progress: Progress | None = None) -> Epoch:
        """Opens this rank's part of an epoch, of which some steps may be done."""
        progress = progress or Progress()
        return open_epoch(
            self.train_faces,
            self.config,
            number,
            self.context,
            self.loader_processes,
            progress.step,
            progress.legs,
        )

    def snapshot(self, model: STNiCNN, metrics: dict[str, float] | None = None) -> Checkpoint:
        """Returns a checkpoint with a copy of the model, and the metrics that it has reached."""
        copy = build_model(self.config.model)
        copy.load_state_dict(model.state_dict())
        return Checkpoint(copy, self.config, self.data, self.phase.name, metrics or {})


def start_training(run: PhaseRun, model: STNiCNN) -> TrainState:
    """Readies a model for the first step of a phase.

    Args:
        run: the phase.
        model: the model that the phase starts from, changed in place.
    """
    prepare_model(model, run.config, run.context.device)
    run.phase.set_trained(model, run.config)
    if "finder" in run.phase.rates and model.finder is not None:
        model.finder.restart_average()  # one that is trained further may see faces framed otherwise
    rates = run.phase.learning_rates(run.config.optim)
    module = run.context.wrap(PhaseLoss(model, OBJECTIVES[run.phase.objective], run.config))
    return TrainState(model, module, build_optimizer(model, rates))


def train_step(run: PhaseRun, state: TrainState, batch: Batch, num_global: int) -> Tensor:
    """Trains one step. The loss is a sum here; the wrapper averages gradients over ranks.

    Args:
        run: the phase.
        state: the state of the training, whose model is changed.
        batch: this rank's share of the global batch.
        num_global: the number of samples in the global batch.

    Returns:
        The sum of the losses of this rank's samples, a detached scalar.
    """
    optim, world_size = run.config.optim, run.context.world_size
    state.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=batch.images.device)
    for piece in batch.split(num_pieces(num_global, world_size, optim.micro_batch)):
        loss: Tensor = state.module(piece)
        (loss * (world_size / num_global)).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    if optim.max_grad_norm:
        for group in state.optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], optim.max_grad_norm)
    state.optimizer.step()
    return total


def num_pieces(num_global: int, world_size: int, micro_batch: int) -> int:
    """Returns the number of pieces that a rank's share of a global batch is computed in.

    All ranks have as many, though their shares may differ by an image: no more than the smallest
    share has images.
    """
    if not micro_batch:
        return 1
    largest = -(-num_global // world_size)
    return min(-(-largest // micro_batch), num_global // world_size)


def train_until(run: PhaseRun, state: TrainState, epoch: Epoch, stop: int) -> None:
    """Trains an epoch up to a step, or up to where a machine is about to go, for the first time.

    Args:
        run: the phase.
        state: the state of the training, which is brought to `stop`.
        epoch: this rank's part of the epoch.
        stop: the number of the epoch's steps that are done in the end.

    Raises:
        DivergedError: on all ranks, naming phase, step and samples.
    """
    progress, num_steps = state.progress, len(epoch.sizes)
    losses: list[Tensor] = []
    started = logged = time.monotonic()
    for step in range(progress.step, stop):
        num_done = state.epoch * run.steps_per_epoch + step
        factor = lr_factor(run.config.optim, num_done, run.steps_per_epoch, run.num_epochs)
        for group in state.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        waited_from = time.monotonic()
        batch = next(epoch.batches).to(run.context.device)
        progress.wait_s += time.monotonic() - waited_from
        losses.append(train_step(run, state, batch, epoch.sizes[step]))
        run.context.note_steps(num_done + 1)
        if len(losses) == STEPS_PER_CHECK or step + 1 == stop:
            is_leaving = _count_steps(run, state, losses, epoch)
            losses = []
            if is_leaving and not state.knows_leaving:
                state.knows_leaving = True
                if run.context.rank == 0:
                    run.log(f"{run.phase.name}: a machine is about to go: a checkpoint is written")
                break
        if run.context.rank == 0 and time.monotonic() - logged > SECONDS_PER_LINE:
            logged = time.monotonic()
            run.log(f"{run.phase.name} epoch {state.epoch + 1}, step {step + 1} of {num_steps}")
    progress.train_s += time.monotonic() - started


def _count_steps(run: PhaseRun, state: TrainState, losses: list[Tensor], epoch: Epoch) -> bool:
    """Counts steps as done where their losses, summed over ranks, are finite.

    Returns:
        Whether any rank knows that a machine is about to go: the same on all.
    """
    progress = state.progress
    first, before = progress.step, progress.loss
    steps_before = state.epoch * run.steps_per_epoch
    leaving = torch.full_like(losses[0], float(run.context.is_leaving))
    *sums, num_leaving = run.context.sum_(torch.stack([*losses, leaving])).tolist()
    for value in sums:
        step = progress.step
        if not math.isfinite(value):
            keys = ", ".join(epoch.keys(step))
            raise DivergedError(
                f"{run.phase.name}: the loss is {value} at step {steps_before + step} "
                f"(epoch {state.epoch + 1}), samples {keys}; lower the learning rate, or set "
                "optim.max_grad_norm"
            )
        progress.loss += value
        progress.step += 1
    num_samples = sum(epoch.sizes[first : progress.step])
    done = steps_before + progress.step
    progress.step_losses.append((done, (progress.loss - before) / num_samples))
    return bool(num_leaving)


def train_epoch(run: PhaseRun, state: TrainState) -> dict[str, float]:
    """Trains what is left of an epoch, and reports a checkpoint at every stop before its end.

    Stops lie at fixed steps, and where a machine is about to go. At each, all ranks come to hold
    one state: a phase that goes on from there, with other ranks perhaps, does what one that never
    stopped does.

    Returns:
        The metrics of the whole epoch.

    Raises:
        DivergedError: on all ranks.
    """
    epoch = run.open_epoch(state.epoch, state.progress)
    num_steps = len(epoch.sizes)
    every = run.config.checkpoint_every_steps or num_steps
    while state.progress.step < num_steps:
        stop = min((state.progress.step // every + 1) * every, num_steps)
        train_until(run, state, epoch, stop)
        require_finite(run, state)
        average_buffers(state.model, run.context)
        if state.progress.step < num_steps:
            state.progress.legs = epoch.legs(state.progress.step)
            _report(run, state, tuple(state.progress.step_losses))
    return state.progress.metrics(sum(epoch.sizes))


def average_buffers(model: STNiCNN, context: TrainContext) -> None:
    """Gives all ranks the mean of their running batch statistics.

    Modules in training mode gather such statistics; the others keep theirs, which are the same on
    all ranks.
    """
    gathering = [module for module in model.modules() if module.training]
    buffers = [b for m in gathering for b in m.buffers(recurse=False) if b.is_floating_point()]
    if not buffers:
        return
    mean = context.sum_(nn.utils.parameters_to_vector(buffers)) / context.world_size
    nn.utils.vector_to_parameters(mean, buffers)


def require_finite(run: PhaseRun, state: TrainState) -> None:
    """Stops the training where the last steps have spoilt the weights, alike on all ranks.

    Raises:
        DivergedError: naming phase, step and epoch.
    """
    if not all(bool(p.isfinite().all()) for p in state.model.parameters()):
        raise DivergedError(
            f"{run.phase.name}: weights are no longer finite after step {state.progress.step} of "
            f"epoch {state.epoch + 1}; lower the learning rate, or set optim.max_grad_norm"
        )


def _report(
    run: PhaseRun,
    state: TrainState,
    step_losses: StepLosses,
    metrics: dict[str, float] | None = None,
) -> None:
    """Reports a checkpoint, which rank 0 writes, and at an epoch's end its metrics."""
    context = run.context
    computed_on = describe_execution(state.model, context.device)
    pictures, state.pictures = state.pictures, []
    report: TrainReport = CheckpointReport(
        state.epoch, state.progress.step, computed_on, step_losses, pictures
    )
    if metrics is not None:
        report = EpochReport(state.epoch, metrics, computed_on, step_losses, pictures)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if context.rank == 0:
            save_checkpoint(folder / MODEL_FILE, state.best or run.snapshot(state.model))
            save_state(folder, state)
        context.report(report, folder if context.rank == 0 else None)


def run_phase(run: PhaseRun, model: STNiCNN) -> None:
    """Trains a phase from where its latest checkpoint stands to its last epoch.

    After every epoch it reports metrics and a folder with `model.pt`, the best model so far by
    validation, and `state.pt`, from which this function goes on to the same end as if it had not
    been stopped; every `checkpoint_every_steps` of an epoch it reports such a folder alone.

    Args:
        run: the phase.
        model: the model that the phase starts from, changed in place.

    Raises:
        DivergedError: on all ranks.
    """
    state = start_training(run, model)
    with run.context.latest_checkpoint() as folder:
        if folder is not None:
            restore_state(folder, state, run.context.device)
    if not state.has_begun:
        _picture(run, state)
    machine_use = MachineUse(run.context)
    run.context.note_steps(state.epoch * run.steps_per_epoch + state.progress.step)
    while state.epoch < run.num_epochs:
        run.phase.set_trained(model, run.config)
        metrics = train_epoch(run, state)
        metrics |= machine_use.measure()
        metrics[NUM_WORKERS] = run.context.world_size
        step_losses = tuple(state.progress.step_losses)
        metrics[SECONDS] = state.finish_epoch()
        if state.epoch == run.num_epochs or state.epoch % run.config.validate_every_epochs == 0:
            began = time.monotonic()
            validation = validate(model, run.phase, run.config, run.val_faces, run.context)
            metrics |= validation
            score = run.phase.score(validation)
            if score > state.best_score:
                state.best_score, state.best = score, run.snapshot(model, validation)
            _picture(run, state)
            metrics[VALIDATION_SECONDS] = time.monotonic() - began
        state.history.append({"epoch": state.epoch, **metrics})
        _report(run, state, step_losses, metrics)


def _picture(run: PhaseRun, state: TrainState) -> None:
    """Makes rank 0's pictures for the next report; the others have none."""
    if run.context.rank == 0:
        pictures = picture_faces(
            state.model, run.phase, run.config, run.val_faces, run.context, run.num_pictured
        )
        state.pictures += [Picture(name, state.epoch, webp) for name, webp in pictures.items()]
