"""The training loop in one process: what a step changes, what is kept, and when it stops."""

import math
import os
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch

from stn_icnn.config import LossConfig, TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.data.epochs import Epoch
from stn_icnn.data.plan import Request
from stn_icnn.networks.checkpoint import load_checkpoint
from stn_icnn.training.loop import (
    DivergedError,
    PhaseRun,
    num_pieces,
    run_phase,
    train_step,
)
from stn_icnn.training.objectives import OBJECTIVES, PhaseLoss
from stn_icnn.training.phases import PHASES
from stn_icnn.training.state import Progress, TrainState
from tests.phase_runs import epochs, fresh, phase_run, places


@pytest.mark.slow
def test_an_epoch_says_what_it_used_of_the_machine(tiny_config: TrainConfig, tiny_faces) -> None:
    context = LocalContext()
    run_phase(phase_run("coarse", epochs(tiny_config, 1), tiny_faces, context), fresh(tiny_config))
    metrics = context.reports[0].metrics
    assert 0 < metrics["system/cpu_cores"] < 2 * os.cpu_count()
    assert 0.05 < metrics["system/memory_gib"] < 100
    assert not any("gpu" in name for name in metrics)


@pytest.mark.parametrize(
    ("phase", "trained"),
    [
        ("coarse", {"coarse"}),
        ("localizer", {"localizer"}),
        ("end_to_end", {"coarse", "localizer", "fine"}),
    ],
)
def test_a_phase_changes_what_it_trains_and_nothing_else(
    phase, trained: set[str], tiny_config: TrainConfig, tiny_faces
) -> None:
    config = epochs(tiny_config, 1)
    model = fresh(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run_phase(phase_run(phase, config, tiny_faces, LocalContext()), model)
    changed = {
        name.split(".")[0]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == trained


@pytest.mark.parametrize(
    ("settings", "moved"),
    [
        ({}, {"fine"}),
        ({"freeze_pretrained_stats": False}, {"coarse", "localizer", "fine"}),
        ({"freeze_batch_stats": True}, set()),
    ],
)
@pytest.mark.slow
def test_whose_batch_statistics_move_in_end_to_end_training(
    settings: dict[str, bool], moved: set[str], tiny_config: TrainConfig, tiny_faces
) -> None:
    optim = replace(tiny_config.optim, epochs_end_to_end=1, **settings)
    model = fresh(tiny_config)
    before = {name: value.clone() for name, value in model.named_buffers()}
    config = replace(tiny_config, optim=optim)
    run_phase(phase_run("end_to_end", config, tiny_faces, LocalContext()), model)
    buffers = dict(model.named_buffers())
    changed = {name for name in before if not torch.equal(buffers[name], before[name])}
    assert {name.split(".")[0] for name in changed} == moved


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_a_step_in_pieces_is_the_step(
    micro_batch: int, tiny_config: TrainConfig, tiny_faces
) -> None:
    faces = tiny_faces("train", augmented=True)
    batch = faces.__getitems__([Request(i) for i in range(4)])
    weights = []
    for size in (0, micro_batch):
        model = fresh(tiny_config)
        optim = replace(tiny_config.optim, freeze_batch_stats=True, micro_batch=size)
        config = replace(tiny_config, optim=optim)
        run = phase_run("end_to_end", config, tiny_faces, LocalContext())
        run.phase.set_trained(model, config)
        # Adam would divide rounding errors by gradients that are next to none.
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        module = PhaseLoss(model, OBJECTIVES[run.phase.objective], config)
        loss = train_step(run, TrainState(model, module, optimizer), batch, len(batch))
        weights.append((loss, torch.nn.utils.parameters_to_vector(model.parameters())))
    (loss, whole), (loss_of_pieces, in_pieces) = weights
    assert loss_of_pieces.item() == pytest.approx(loss.item(), rel=1e-5)
    assert (in_pieces - whole).abs().max() < 1e-6


def test_ranks_take_their_shares_in_equally_many_pieces() -> None:
    """A rank with one more would wait for the others for ever."""
    assert [num_pieces(17, 2, micro_batch) for micro_batch in (0, 1, 3, 8, 9)] == [1, 8, 3, 2, 1]
    assert num_pieces(2, 2, 1) == 1


class FourTimesAnEpoch(PhaseRun):
    """Every batch four times: an epoch's checkpoint costs more than a step."""

    @property
    def steps_per_epoch(self) -> int:
        return 4 * super().steps_per_epoch

    def open_epoch(self, number: int, progress: Progress | None = None) -> Epoch:
        four = [super(FourTimesAnEpoch, self).open_epoch(number) for _ in range(4)]
        batches = chain.from_iterable(epoch.batches for epoch in four)
        return replace(four[0], sizes=[*four[0].sizes] * 4, batches=batches)


@pytest.mark.slow
def test_overfits_two_faces(tiny_config: TrainConfig, tiny_faces) -> None:
    """Everything at once on two faces, scored on the same two: the parser has them by heart."""
    faces = tiny_faces("train", augmented=False)
    faces.samples = faces.samples[:2]
    optim = replace(
        tiny_config.optim,
        schedule="one_cycle",
        lr_coarse_end_to_end=5e-3,
        lr_localizer_end_to_end=2e-3,
    )
    config = replace(
        epochs(replace(tiny_config, optim=optim), 30),
        loss=LossConfig(coarse_weight=1.0, localizer_weight=1.0),
        validate_every_epochs=30,
    )
    context = LocalContext()
    run = phase_run("end_to_end", config, tiny_faces, context)
    run = replace(run, train_faces=faces, val_faces=faces)
    run_phase(FourTimesAnEpoch(**vars(run)), fresh(config))
    first, last = context.reports[0].metrics, context.reports[-1].metrics
    assert last["train/loss"] < 0.1 * first["train/loss"]
    # Untrained it is 0. Far from 1: batch norm's running statistics are those of two faces.
    assert last["val/f1_overall"] > 0.3


def test_diverging_loss_stops_and_names_step_and_samples(
    tiny_config: TrainConfig, tiny_faces
) -> None:
    config = replace(
        epochs(tiny_config, 2), optim=replace(epochs(tiny_config, 2).optim, lr_coarse=1e30)
    )
    context = LocalContext()
    run = phase_run("coarse", config, tiny_faces, context)
    with pytest.raises(
        DivergedError, match=r"coarse: the loss is nan at step \d+.*samples \w+"
    ) as e:
        run_phase(run, fresh(config))
    assert any(place.key in str(e.value) for place in run.train_faces.samples)


def test_spoilt_weights_are_not_saved(
    four_steps: TrainConfig, tiny_faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step can spoil the weights though its own loss is finite."""

    def spoil_at_the_second(run, state, *_) -> torch.Tensor:
        if places(context):
            state.optimizer.param_groups[0]["params"][0].data.fill_(math.nan)
        return torch.zeros(())

    monkeypatch.setattr("stn_icnn.training.loop.train_step", spoil_at_the_second)
    context = LocalContext(tmp_path)
    run = phase_run("coarse", four_steps, tiny_faces, context)
    with pytest.raises(DivergedError, match="no longer finite after step 2 of epoch 1"):
        run_phase(run, fresh(four_steps))
    assert places(context) == [(0, 1)]


def test_best_model_is_kept_not_the_last(
    tiny_config: TrainConfig, tiny_faces, tmp_path: Path, monkeypatch
) -> None:
    scores = iter([0.5, 0.9, 0.1])
    monkeypatch.setattr(
        "stn_icnn.training.loop.validate",
        lambda *_: {"val/f1_overall": next(scores)},
    )
    config = replace(epochs(tiny_config, 3), validate_every_epochs=1)
    context = LocalContext(tmp_path)
    run_phase(phase_run("coarse", config, tiny_faces, context), fresh(config))
    assert load_checkpoint(tmp_path).metrics == {"val/f1_overall": 0.9}


def test_frozen_networks_keep_their_batch_statistics(tiny_config: TrainConfig) -> None:
    model = fresh(tiny_config)
    optim = replace(tiny_config.optim, freeze_batch_stats=True)
    PHASES["frozen"].set_trained(model, tiny_config)
    assert not model.coarse.training
    assert not any(p.requires_grad for p in model.coarse.parameters())
    assert model.fine.training
    PHASES["frozen"].set_trained(model, replace(tiny_config, optim=optim))
    assert not model.fine.training
    assert all(p.requires_grad for p in model.fine.parameters())
