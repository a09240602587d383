"""The training loop of a phase: `train_step`, `train_epoch`, `validate`, `run_phase`."""

import math
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stn_icnn.config import OptimConfig, PhaseName, TrainConfig
from stn_icnn.context import TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.loading import load_batches
from stn_icnn.data.plan import Request, plan_epoch
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import FINE_NETWORKS, NUM_CLASSES
from stn_icnn.networks.checkpoint import MODEL_FILE, Checkpoint, DataFacts, save_checkpoint
from stn_icnn.networks.execution import describe_execution, prepare_model
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.networks.pasting import coarse_label_maps, label_maps
from stn_icnn.scoring.confusion import evaluation_batches, true_labels
from stn_icnn.scoring.f1 import confusion, f1_rows
from stn_icnn.scoring.window_scores import centre_errors
from stn_icnn.training.losses import coarse_loss, localizer_loss
from stn_icnn.training.phases import (
    PhaseLoss,
    end_to_end_loss,
    networks,
    networks_keeping_stats,
    set_trained,
    trained_parameters,
)
from stn_icnn.training.state import SECONDS, TrainState, restore_state, save_state
from stn_icnn.training.true_windows import f1_of_parts, parse_true_windows, true_windows_loss

WARM_UP_SHARE = 0.1
STEPS_PER_CHECK = 10
SECONDS_PER_LINE = 15.0

Say = Callable[[str], None]


class DivergedError(RuntimeError):
    """The loss is no longer a finite number; raised on all ranks."""


@dataclass(frozen=True)
class PhaseRun:
    """A phase and what it works on."""

    phase: PhaseName
    config: TrainConfig
    train_faces: ShardedFaces
    val_faces: ShardedFaces
    data: DataFacts
    context: TrainContext
    say: Say = print
    loader_processes: int = 0

    @property
    def num_epochs(self) -> int:
        """Epochs in all."""
        return self.config.optim.epochs(self.phase)

    @property
    def fine_networks(self) -> tuple[str, ...]:
        """Of the fine networks, those that are trained where the phase trains any."""
        return self.config.fine.networks if self.phase == "fine" else FINE_NETWORKS

    @property
    def keeping_stats(self) -> Collection[str]:
        """Networks whose batch norm uses its running statistics, and keeps them."""
        return networks_keeping_stats(self.phase, self.config.optim)

    def plan(self, epoch: int) -> list[list[Request]]:
        """The global batches of an epoch."""
        copies, batch = self.config.augment.copies, self.config.optim.global_batch
        return plan_epoch(len(self.train_faces), copies, batch, self.config.seed, epoch)


def lr_factor(optim: OptimConfig, step: int, steps_per_epoch: int, num_epochs: int) -> float:
    """What the learning rates are multiplied by at a step, counted from the phase's start."""
    if optim.schedule == "halving":
        return float(0.5 ** (step // steps_per_epoch // optim.halve_every_epochs))
    done = (step + 0.5) / (steps_per_epoch * num_epochs)
    if done < WARM_UP_SHARE:
        return done / WARM_UP_SHARE
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))


def build_optimizer(model: STNiCNN, phase: PhaseName, optim: OptimConfig) -> torch.optim.Optimizer:
    """Adam with a group a network; `peak_lr` is the rate that the schedule multiplies."""
    rates = optim.learning_rates(phase)
    groups = [
        {"params": parameters, "lr": rates[name], "peak_lr": rates[name]}
        for name, parameters in trained_parameters(model, rates)
    ]
    return torch.optim.Adam(groups, fused=True)


def train_step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    num_global: int,
    world_size: int,
    max_grad_norm: float = 0.0,
    micro_batch: int = 0,
) -> Tensor:
    """One step; the loss is summed here, averaged over ranks by the wrapper.

    Args:
        module: the wrapped `PhaseLoss`.
        optimizer: of the trained networks.
        batch: this rank's share.
        num_global: samples of the global batch.
        world_size: number of ranks.
        max_grad_norm: a network's gradient is scaled down to it; 0: never.
        micro_batch: images computed at once, about; 0: all.

    Returns:
        The sum of the losses of this rank's samples, detached scalar.
    """
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=batch.images.device)
    for piece in batch.split(num_pieces(num_global, world_size, micro_batch)):
        loss: Tensor = module(piece)
        (loss * (world_size / num_global)).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    if max_grad_norm:
        for group in optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], max_grad_norm)
    optimizer.step()
    return total


def num_pieces(num_global: int, world_size: int, micro_batch: int) -> int:
    """Pieces that each rank's share of a global batch is computed in; alike on all ranks.

    Shares differ by an image: there are no more pieces than the smallest has images.
    """
    if not micro_batch:
        return 1
    largest = -(-num_global // world_size)
    return min(-(-largest // micro_batch), num_global // world_size)


def train_until(
    run: PhaseRun,
    state: TrainState,
    module: nn.Module,
    plan: Sequence[Sequence[Request]],
    batches: Iterator[Batch],
    stop: int,
) -> None:
    """Trains an epoch up to a step.

    Args:
        run: the phase.
        state: how far it is; goes on to `stop`.
        module: the wrapped `PhaseLoss`.
        plan: the epoch's global batches.
        batches: this rank's shares of those that are not done.
        stop: number of steps to be done in the end.

    Raises:
        DivergedError: on all ranks, naming phase, step and samples.
    """
    optim, world_size, progress = run.config.optim, run.context.world_size, state.progress
    losses: list[Tensor] = []
    started = said = time.monotonic()
    for step in range(progress.step, stop):
        factor = lr_factor(optim, state.epoch * len(plan) + step, len(plan), run.num_epochs)
        for group in state.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        asked = time.monotonic()
        batch = next(batches).to(run.context.device)
        progress.wait_s += time.monotonic() - asked
        num_global = len(plan[step])
        loss = train_step(
            module,
            state.optimizer,
            batch,
            num_global,
            world_size,
            optim.max_grad_norm,
            optim.micro_batch,
        )
        losses.append(loss)
        if len(losses) == STEPS_PER_CHECK or step + 1 == stop:
            _count_steps(run, state, losses, plan)
            losses = []
        if run.context.rank == 0 and time.monotonic() - said > SECONDS_PER_LINE:
            said = time.monotonic()
            run.say(f"{run.phase} epoch {state.epoch + 1}, step {step + 1} of {len(plan)}")
    progress.train_s += time.monotonic() - started


def _count_steps(
    run: PhaseRun, state: TrainState, losses: list[Tensor], plan: Sequence[Sequence[Request]]
) -> None:
    """Adds steps to those that are done, if their losses, summed over ranks, are finite."""
    for value in run.context.sum_(torch.stack(losses)).tolist():
        step = state.progress.step
        if not math.isfinite(value):
            keys = ", ".join(run.train_faces.keys(plan[step]))
            raise DivergedError(
                f"{run.phase}: the loss is {value} at step {state.epoch * len(plan) + step} (epoch "
                f"{state.epoch + 1}), samples {keys}; lower the learning rate, or set "
                "optim.max_grad_norm"
            )
        state.progress.loss += value
        state.progress.step += 1


def train_epoch(run: PhaseRun, state: TrainState, module: nn.Module) -> dict[str, float]:
    """Trains what is left of an epoch, and reports a checkpoint at every stop before its end.

    Stops lie at fixed steps, and at each all ranks come to hold one state: a phase that goes on
    from there, with other ranks perhaps, does what one that never stopped does.

    Returns:
        The whole epoch's metrics.

    Raises:
        DivergedError: on all ranks.
    """
    plan = run.plan(state.epoch)
    every = run.config.checkpoint_every_steps or len(plan)
    rest, context = plan[state.progress.step :], run.context
    batches = load_batches(
        run.train_faces, rest, context.rank, context.world_size, run.loader_processes
    )
    while state.progress.step < len(plan):
        stop = min(state.progress.step + every, len(plan))
        train_until(run, state, module, plan, batches, stop)
        require_finite(run, state)
        average_buffers(state.model, context)
        if stop < len(plan):
            _report(run, state, {})
    return state.progress.metrics(sum(map(len, plan)))


def average_buffers(model: STNiCNN, context: TrainContext) -> None:
    """Gives the networks that gather batch norm statistics the mean of the ranks'.

    These are the ones that `set_trained` has left in training mode.
    """
    gathering = [network for network in networks(model).values() if network.training]
    buffers = [b for network in gathering for b in network.buffers() if b.is_floating_point()]
    if not buffers:
        return
    mean = context.sum_(nn.utils.parameters_to_vector(buffers)) / context.world_size
    nn.utils.vector_to_parameters(mean, buffers)


def require_finite(run: PhaseRun, state: TrainState) -> None:
    """Stops where the last steps have spoilt the weights, which are the same on all ranks.

    Raises:
        DivergedError: naming phase, step and epoch.
    """
    if not all(bool(p.isfinite().all()) for p in state.model.parameters()):
        raise DivergedError(
            f"{run.phase}: weights are no longer finite after step {state.progress.step} of epoch "
            f"{state.epoch + 1}; lower the learning rate, or set optim.max_grad_norm"
        )


@torch.inference_mode()
def validate(run: PhaseRun, model: STNiCNN) -> tuple[float, dict[str, float]]:
    """Scores a phase on the validation split.

    Returns:
        The score that models are selected by, higher is better, and the metrics: `val/loss`;
        `val/window_error_px`, the mean distance of a window's centre from its part's, where the
        phase finds windows; `val/f1_*` where it labels pixels.
    """
    model.eval()
    device = run.context.device
    loss = torch.zeros((), dtype=torch.float64, device=device)
    counts = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.int64, device=device)
    errors = torch.zeros(2, dtype=torch.float64, device=device)  # their sum and their number
    for _, batch in evaluation_batches(run.val_faces, run.context):
        validated = _validate_batch(run, model, batch)
        loss += validated.loss
        for i, labels in enumerate(validated.label_maps):
            counts += confusion(true_labels(batch, i), labels)
        if validated.windows is not None:
            of_batch = centre_errors(validated.windows, batch).double()
            errors += torch.stack([of_batch.nansum(), (~of_batch.isnan()).sum()])
    mean = run.context.sum_(loss).item() / len(run.val_faces)
    error_px, num_errors = run.context.sum_(errors).tolist()
    metrics = {"val/loss": mean}
    if num_errors:
        metrics["val/window_error_px"] = error_px / num_errors
    if run.phase == "localizer":
        return -mean, metrics
    counts = run.context.sum_(counts)
    rows = f1_of_parts(counts, run.fine_networks) if run.phase == "fine" else f1_rows(counts)
    f1 = {f"val/f1_{name}": value for name, value in rows.items() if value is not None}
    selected_by = "val/f1_parts" if run.phase == "fine" else "val/f1_overall"
    return f1.get(selected_by, 0.0), {**metrics, **f1}


@dataclass(frozen=True)
class _Validated:
    """What a phase makes of a batch of the validation split."""

    loss: Tensor
    """Summed over its samples."""
    label_maps: Sequence[Tensor] = ()
    """Where the phase labels pixels."""
    windows: Tensor | None = None
    """`[N, 6, 4]` float32, where the phase finds them."""


def _validate_batch(run: PhaseRun, model: STNiCNN, batch: Batch) -> _Validated:
    weights = run.config.loss
    if run.phase == "coarse":
        logits = model.label_coarsely(batch)
        return _Validated(coarse_loss(logits, batch), coarse_label_maps(logits, batch.host_sizes))
    if run.phase == "localizer":
        locations = model.locate(model.label_coarsely(batch))
        return _Validated(localizer_loss(locations, batch), windows=model.windows(locations, batch))
    if run.phase == "fine":
        fine = run.config.fine
        parsing = parse_true_windows(model, batch, fine.networks, fine.window_error)
        return _Validated(true_windows_loss(parsing, batch), label_maps(parsing, batch.host_sizes))
    parsing = model(batch)
    return _Validated(
        end_to_end_loss(parsing, batch, weights),
        label_maps(parsing, batch.host_sizes),
        parsing.windows,
    )


def run_phase(run: PhaseRun, model: STNiCNN) -> None:
    """Trains a phase from where its latest checkpoint stands to its last epoch.

    After every epoch it reports metrics and a folder with `model.pt`, the best model so far by
    validation, and `state.pt`, from which this function goes on to the same end as if it had not
    been stopped; every `checkpoint_every_steps` of an epoch it reports such a folder alone.

    Args:
        run: the phase, its data and its place.
        model: that the phase starts from; its weights change.

    Raises:
        DivergedError: on all ranks.
    """
    rates = run.config.optim.learning_rates(run.phase)
    prepare_model(model, run.config, run.context.device)
    set_trained(model, rates, fine=run.fine_networks)
    state = TrainState(model, build_optimizer(model, run.phase, run.config.optim))
    with run.context.latest_checkpoint() as folder:
        if folder is not None:
            restore_state(folder, state, run.context.device)
    module = run.context.wrap(PhaseLoss(model, run.phase, run.config.loss, run.config.fine))
    while state.epoch < run.num_epochs:
        set_trained(model, rates, run.keeping_stats, run.fine_networks)
        metrics = train_epoch(run, state, module)
        metrics[SECONDS] = state.finish_epoch()
        last = state.epoch == run.num_epochs
        if last or state.epoch % run.config.validate_every_epochs == 0:
            score, validation = validate(run, model)
            metrics |= validation
            if score > state.best_score:
                state.best_score, state.best = score, _snapshot(run, model, validation)
        state.history.append({"epoch": state.epoch, **metrics})
        _report(run, state, metrics)


def _snapshot(run: PhaseRun, model: STNiCNN, metrics: dict[str, float]) -> Checkpoint:
    """The model as it is now, kept aside."""
    kept = build_model(run.config.model)
    kept.load_state_dict(model.state_dict())
    return Checkpoint(kept, run.config, run.data, run.phase, metrics)


def _report(run: PhaseRun, state: TrainState, metrics: Mapping[str, float]) -> None:
    """Hands over the state and, at an epoch's end, its metrics; rank 0 writes the folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if run.context.rank == 0:
            best = state.best or _snapshot(run, state.model, {})
            save_checkpoint(folder / MODEL_FILE, best)
            save_state(folder, state)
        facts = {
            "epoch": state.epoch,
            "step": state.progress.step,
            "computed_on": describe_execution(state.model, run.context.device),
        }
        run.context.report({**facts, **metrics}, folder if run.context.rank == 0 else None)
