"""The training loop in one process: it learns, repeats itself, resumes, and stops on NaN."""

import io
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from stn_icnn.config import LossConfig, TrainConfig
from stn_icnn.context import CheckpointReport, EpochReport, LocalContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.networks.checkpoint import DataFacts, load_checkpoint
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.training.loop import (
    DivergedError,
    PhaseRun,
    num_pieces,
    run_phase,
    train_step,
)
from stn_icnn.training.objectives import OBJECTIVES, PhaseLoss
from stn_icnn.training.phases import MODEL_PHASES, PHASES, PhaseName
from stn_icnn.training.schedule import lr_factor
from stn_icnn.training.state import STATE_FILE, TrainState, load_history
from stn_icnn.training.validation import validate

FACTS = DataFacts(dataset="helen", fingerprint="f", scale_px=1024, scale_fit="at_most")


def fresh(config: TrainConfig) -> STNiCNN:
    torch.manual_seed(config.seed)
    return build_model(config.model)


def phase_run(phase, config: TrainConfig, tiny_faces, context: LocalContext) -> PhaseRun:
    return PhaseRun(
        phase=PHASES[phase],
        config=config,
        train_faces=tiny_faces("train", augmented=True),
        val_faces=tiny_faces("val", augmented=False),
        data=FACTS,
        context=context,
        log=lambda line: None,
    )


def epochs(config: TrainConfig, number: int) -> TrainConfig:
    named = {PHASES[phase].epochs: number for phase in MODEL_PHASES}
    return replace(config, optim=replace(config.optim, **named))


class Stop(Exception):
    pass


class StoppingContext(LocalContext):
    """Stops training as soon as so many reports are kept."""

    def __init__(self, folder: Path, num_reports: int) -> None:
        super().__init__(folder)
        self.num_reports = num_reports

    def report(self, report, checkpoint_dir) -> None:
        super().report(report, checkpoint_dir)
        if len(self.reports) == self.num_reports:
            raise Stop


class RecordedFaces(ShardedFaces):
    """Faces that remember what was asked of them."""

    def __init__(self, faces: ShardedFaces) -> None:
        self.__dict__.update(faces.__dict__)
        self.requests: list[Request] = []

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        self.requests += requests
        return super().__getitems__(requests)


def places(context: LocalContext) -> list[tuple[int, int]]:
    """Epochs that are done and steps of the next one, for each report."""
    return [(report.epoch, getattr(report, "step", 0)) for report in context.reports]


@pytest.mark.slow
@pytest.mark.parametrize("phase", MODEL_PHASES)
def test_same_seed_same_bits_and_resumed_equals_straight(
    phase, tiny_config: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    config = epochs(tiny_config, 2)
    straight = LocalContext(tmp_path / "straight")
    model = fresh(config)
    run_phase(phase_run(phase, config, tiny_faces, straight), model)

    stopped = StoppingContext(tmp_path / "resumed", num_reports=1)
    with pytest.raises(Stop):
        run_phase(phase_run(phase, config, tiny_faces, stopped), fresh(config))
    resumed = LocalContext(tmp_path / "resumed")
    run_phase(phase_run(phase, config, tiny_faces, resumed), fresh(config))

    assert places(resumed) == [(2, 0)]
    assert stopped.reports[0].metrics["train/loss"] == straight.reports[0].metrics["train/loss"]
    assert resumed.reports[0].metrics["train/loss"] == straight.reports[1].metrics["train/loss"]
    one = load_checkpoint(tmp_path / "straight").model.state_dict()
    other = load_checkpoint(tmp_path / "resumed").model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def four_steps(tiny_config: TrainConfig) -> TrainConfig:
    """Two epochs of four steps, with a checkpoint after each."""
    config = replace(epochs(tiny_config, 2), checkpoint_every_steps=1)
    return replace(config, optim=replace(config.optim, global_batch=2, schedule="one_cycle"))


@pytest.mark.slow
@pytest.mark.parametrize("phase", MODEL_PHASES)
def test_stopped_in_an_epoch_goes_on_at_the_next_batch(
    phase, four_steps: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    """As if it had never stopped: the same bits, also as without checkpoints on the way."""
    straight = LocalContext(tmp_path / "straight")
    model = fresh(four_steps)
    uninterrupted = replace(four_steps, checkpoint_every_steps=0)
    run_phase(phase_run(phase, uninterrupted, tiny_faces, straight), model)

    stopped = StoppingContext(tmp_path / "resumed", num_reports=6)
    with pytest.raises(Stop):
        run_phase(phase_run(phase, four_steps, tiny_faces, stopped), fresh(four_steps))
    assert places(stopped) == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]

    resumed = LocalContext(tmp_path / "resumed")
    run = phase_run(phase, four_steps, tiny_faces, resumed)
    faces = RecordedFaces(run.train_faces)
    again = fresh(four_steps)
    run_phase(replace(run, train_faces=faces), again)
    assert faces.requests == [request for batch in run.plan(1)[2:] for request in batch]
    assert places(resumed) == [(1, 3), (2, 0)]
    assert resumed.reports[-1].metrics["train/loss"] == straight.reports[-1].metrics["train/loss"]
    one, other = model.state_dict(), again.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_losses_within_an_epoch_are_reported_at_the_optimizer_s_steps_also_over_a_stop(
    four_steps: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    straight = LocalContext()
    run_phase(phase_run("coarse", four_steps, tiny_faces, straight), fresh(four_steps))
    last = straight.reports[-1].step_losses
    assert [step for step, _ in last] == [5, 6, 7, 8]
    mean = sum(loss for _, loss in last) / 4  # batches of as many samples
    assert mean == pytest.approx(straight.reports[-1].metrics["train/loss"])
    assert [step for step, _ in straight.reports[5].step_losses] == [5, 6]

    stopped = StoppingContext(tmp_path, num_reports=6)
    with pytest.raises(Stop):
        run_phase(phase_run("coarse", four_steps, tiny_faces, stopped), fresh(four_steps))
    resumed = LocalContext(tmp_path)
    run_phase(phase_run("coarse", four_steps, tiny_faces, resumed), fresh(four_steps))
    assert resumed.reports[-1].step_losses == last


@pytest.mark.slow
def test_a_state_of_an_earlier_version_goes_on(
    four_steps: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    stopped = StoppingContext(tmp_path, num_reports=2)
    with pytest.raises(Stop):
        run_phase(phase_run("coarse", four_steps, tiny_faces, stopped), fresh(four_steps))
    saved = torch.load(tmp_path / STATE_FILE, weights_only=True)
    del saved["progress"]["step_losses"]
    torch.save(saved, tmp_path / STATE_FILE)
    resumed = LocalContext(tmp_path)
    run_phase(phase_run("coarse", four_steps, tiny_faces, resumed), fresh(four_steps))
    assert [step for step, _ in resumed.reports[1].step_losses] == [3, 4]


ROWS = {"coarse": 2, "localizer": 1, "frozen": 2, "end_to_end": 2}
"""Photograph and windows; prediction and truth, where a phase labels."""


@pytest.mark.slow
@pytest.mark.parametrize("phase", ROWS)
def test_pictures_of_the_same_faces_come_with_each_validation_and_change_no_bit(
    phase: PhaseName, tiny_config: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    config = replace(epochs(tiny_config, 3), validate_every_epochs=2)
    plain, pictured = LocalContext(tmp_path / "plain"), LocalContext(tmp_path / "pictured")
    run = phase_run(phase, config, tiny_faces, plain)
    run_phase(run, fresh(config))
    run_phase(replace(run, context=pictured, num_pictured=2), fresh(config))
    assert not any(report.pictures for report in plain.reports)
    pictures = [picture for report in pictured.reports for picture in report.pictures]
    assert [(one.name, one.epoch) for one in pictures] == [
        (name, epoch) for epoch in (0, 2, 3) for name in ("faces/1", "faces/2")
    ]
    for picture in pictures:
        image = np.asarray(Image.open(io.BytesIO(picture.webp)).convert("RGB"), dtype=int)
        height, width = image.shape[0] / ROWS[phase], (image.shape[1] - 6) // 2
        assert max(height - 20, width) == 192, "a panel below its caption"
        photo, beside = image[20:180, 8:100], image[20:180, width + 14 : width + 106]
        if phase == "coarse":
            assert beside.min() > 240, "it finds no windows"
        else:
            assert 0.005 < (abs(photo - beside).max(axis=2) > 60).mean() < 0.5, "lines are drawn"
    one, other = (
        torch.load(folder / STATE_FILE, weights_only=True)
        for folder in (plain.folder, pictured.folder)
    )
    assert all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])
    key = "val/loss"
    assert [e.get(key) for e in one["history"]] == [e.get(key) for e in other["history"]]


def test_a_stop_before_the_second_report_repeats_no_picture(
    four_steps: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    stopped = StoppingContext(tmp_path, num_reports=1)
    run = replace(phase_run("coarse", four_steps, tiny_faces, stopped), num_pictured=1)
    with pytest.raises(Stop):
        run_phase(run, fresh(four_steps))
    assert [one.epoch for one in stopped.reports[0].pictures] == [0]
    resumed = LocalContext(tmp_path)
    run_phase(replace(run, context=resumed), fresh(four_steps))
    assert [one.epoch for report in resumed.reports for one in report.pictures] == [1, 2]


def test_an_epoch_says_what_it_used_of_the_machine(tiny_config: TrainConfig, tiny_faces) -> None:
    context = LocalContext()
    run_phase(phase_run("coarse", epochs(tiny_config, 1), tiny_faces, context), fresh(tiny_config))
    metrics = context.reports[0].metrics
    assert 0 < metrics["system/cpu_cores"] < 2 * os.cpu_count()
    assert 0.05 < metrics["system/memory_gib"] < 100
    assert not any("gpu" in name for name in metrics)


def test_checkpoints_lie_at_fixed_steps_and_hold_one_state(
    four_steps: TrainConfig, tiny_faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever rank 0 saves, the other ranks must have come to hold as well."""
    context = LocalContext()
    averaged = []
    monkeypatch.setattr(
        "stn_icnn.training.loop.average_buffers", lambda *_: averaged.append(len(context.reports))
    )
    config = replace(four_steps, checkpoint_every_steps=3)
    run_phase(phase_run("coarse", config, tiny_faces, context), fresh(config))
    assert places(context) == [(0, 3), (1, 0), (1, 3), (2, 0)]
    assert averaged == [0, 1, 2, 3]
    assert [type(report) for report in context.reports] == [CheckpointReport, EpochReport] * 2
    assert ["train/loss" in report.metrics for report in context.reports[1::2]] == [True] * 2


def test_the_schedule_counts_steps_from_the_phases_start(
    four_steps: TrainConfig, tiny_faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a phase that has stopped in its second epoch."""
    steps = []
    monkeypatch.setattr(
        "stn_icnn.training.loop.lr_factor", lambda _, step, *__: steps.append(step) or 1.0
    )
    stopped = StoppingContext(tmp_path, num_reports=6)
    with pytest.raises(Stop):
        run_phase(phase_run("coarse", four_steps, tiny_faces, stopped), fresh(four_steps))
    run_phase(
        phase_run("coarse", four_steps, tiny_faces, LocalContext(tmp_path)), fresh(four_steps)
    )
    assert steps == list(range(8))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training loop's, which goes on by a millisecond each time that it is looked at."""
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks) / 1000)
    monkeypatch.setattr("stn_icnn.training.loop.time", clock)


@pytest.mark.slow
@pytest.mark.usefixtures("clock")
def test_a_resumed_epoch_counts_the_time_of_all_its_steps(
    four_steps: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    stopped = StoppingContext(tmp_path, num_reports=3)
    with pytest.raises(Stop):
        run_phase(phase_run("coarse", four_steps, tiny_faces, stopped), fresh(four_steps))
    path = tmp_path / STATE_FILE
    saved = torch.load(path, weights_only=True)
    assert 0 < saved["progress"]["wait_s"] < saved["progress"]["train_s"]
    saved["progress"] |= {"train_s": 8000.0, "wait_s": 2000.0}
    torch.save(saved, path)
    resumed = LocalContext(tmp_path)
    run_phase(phase_run("coarse", four_steps, tiny_faces, resumed), fresh(four_steps))
    metrics = resumed.reports[0].metrics
    assert metrics["train/images_per_second"] == pytest.approx(8 / 8000, rel=1e-5)
    assert metrics["train/data_wait_fraction"] == pytest.approx(0.25, rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("clock")
def test_a_phase_keeps_its_epochs_metrics_and_seconds_over_a_stop(
    four_steps: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    stopped = StoppingContext(tmp_path, num_reports=5)  # in the second epoch of two
    with pytest.raises(Stop):
        run_phase(phase_run("coarse", four_steps, tiny_faces, stopped), fresh(four_steps))
    path = tmp_path / STATE_FILE
    saved = torch.load(path, weights_only=True)
    saved["history"][0]["train/seconds"] = 3000.0
    saved["progress"]["train_s"] = 500.0
    torch.save(saved, path)
    resumed = LocalContext(tmp_path)
    run_phase(phase_run("coarse", four_steps, tiny_faces, resumed), fresh(four_steps))
    history = load_history(path.read_bytes())
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert history[0]["val/f1_overall"] == stopped.reports[3].metrics["val/f1_overall"]
    last = resumed.reports[-1]
    assert last.computed_on.endswith("1 thread, fp32")
    assert history[1] == {"epoch": last.epoch, **last.metrics}
    assert 3500 < history[1]["train/seconds"] < 3501


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

    def plan(self, epoch: int) -> list[list[Request]]:
        return super().plan(epoch) * 4


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


def test_validation_every_few_epochs_and_at_the_end(tiny_config: TrainConfig, tiny_faces) -> None:
    config = replace(epochs(tiny_config, 3), validate_every_epochs=2)
    context = LocalContext()
    run_phase(phase_run("localizer", config, tiny_faces, context), fresh(config))
    assert ["val/loss" in report.metrics for report in context.reports] == [False, True, True]


@pytest.mark.parametrize("phase", ["localizer", "end_to_end", "baseline"])
def test_validation_says_how_far_windows_lie_off(
    phase: PhaseName, tiny_config: TrainConfig, tiny_faces
) -> None:
    config = PHASES[phase].settings(tiny_config)
    run = phase_run(phase, config, tiny_faces, LocalContext())
    model = fresh(config).eval()
    metrics = validate(model, run.phase, config, run.val_faces, run.context)
    batch = run.val_faces.__getitems__([Request(i) for i in range(len(run.val_faces))])
    assert batch.centres is not None
    with torch.no_grad():
        locations = model.locate(model.label_coarsely(batch))
    off = locations[..., :2] * batch.sizes[:, None] - batch.centres
    assert metrics["val/window_error_px"] == pytest.approx(off.norm(dim=-1).mean().item(), rel=1e-3)


def test_without_windows_there_is_no_error_of_them(tiny_config: TrainConfig, tiny_faces) -> None:
    run = phase_run("coarse", tiny_config, tiny_faces, LocalContext())
    model = fresh(tiny_config)
    metrics = validate(model, run.phase, tiny_config, run.val_faces, run.context)
    assert "val/f1_overall" in metrics
    assert "val/window_error_px" not in metrics


def test_halving_schedule_is_the_papers(tiny_config: TrainConfig) -> None:
    optim = replace(tiny_config.optim, schedule="halving", halve_every_epochs=5)
    factors = [lr_factor(optim, epoch * 7, 7, 25) for epoch in range(25)]
    assert factors == [0.5 ** (epoch // 5) for epoch in range(25)]


def test_one_cycle_rises_then_falls_to_nothing(tiny_config: TrainConfig) -> None:
    optim = replace(tiny_config.optim, schedule="one_cycle")
    factors = [lr_factor(optim, step, 10, 10) for step in range(100)]
    peak = factors.index(max(factors))
    assert 5 <= peak <= 12
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] < 1e-3
    assert math.isclose(max(factors), 1, abs_tol=0.01)


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
