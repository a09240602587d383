"""A phase that is stopped and goes on: the same bits, the same reports, all of its time."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stn_icnn.config import TrainConfig
from stn_icnn.context import CheckpointReport, EpochReport, LocalContext
from stn_icnn.data import stream_plan, streaming
from stn_icnn.data.plan import plan_epoch
from stn_icnn.data.shards import index_shard
from stn_icnn.data.streaming import StreamedFaces
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import load_checkpoint
from stn_icnn.training import loop
from stn_icnn.training.loop import run_phase
from stn_icnn.training.phases import phases_up_to
from stn_icnn.training.state import STATE_FILE, load_history
from tests.phase_runs import (
    RecordedFaces,
    Stop,
    StoppingContext,
    epochs,
    fresh,
    phase_run,
    places,
    with_finder,
)
from tests.sample_shards import FileShard


@pytest.mark.slow
@pytest.mark.parametrize("phase", phases_up_to("finder"))
def test_same_seed_same_bits_and_resumed_equals_straight(
    phase, tiny_config: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    config = epochs(with_finder(tiny_config), 2)
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


@pytest.mark.slow
@pytest.mark.parametrize("phase", phases_up_to("finder"))
def test_stopped_in_an_epoch_goes_on_at_the_next_batch(
    phase, four_steps: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    """As if it had never stopped: the same bits, also as without checkpoints on the way."""
    four_steps = with_finder(four_steps)
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
    plan = plan_epoch(8, 1, four_steps.optim.global_batch, four_steps.seed, epoch=1)
    assert faces.requests == [request for batch in plan[2:] for request in batch]
    assert places(resumed) == [(1, 3), (2, 0)]
    assert resumed.reports[-1].metrics["train/loss"] == straight.reports[-1].metrics["train/loss"]
    one, other = model.state_dict(), again.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


class LeavingContext(StoppingContext):
    """Hears after the first step that its machine is about to go, and is stopped at a report."""

    is_leaving = False

    def note_steps(self, num_done: int) -> None:
        self.is_leaving = num_done > 0


@pytest.mark.slow
def test_a_machine_that_is_about_to_go_leaves_one_checkpoint_and_the_same_bits(
    four_steps: TrainConfig, tiny_faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STEPS_PER_CHECK", 1)
    config = replace(four_steps, checkpoint_every_steps=3)
    straight = LocalContext()
    model = fresh(config)
    run_phase(phase_run("coarse", config, tiny_faces, straight), model)
    assert places(straight) == [(0, 3), (1, 0), (1, 3), (2, 0)]

    going_on = LeavingContext(tmp_path / "going-on", num_reports=9)
    run_phase(phase_run("coarse", config, tiny_faces, going_on), fresh(config))
    assert places(going_on) == [(0, 1), *places(straight)]

    gone = LeavingContext(tmp_path / "gone", num_reports=1)
    with pytest.raises(Stop):
        run_phase(phase_run("coarse", config, tiny_faces, gone), fresh(config))
    again, back = fresh(config), LocalContext(tmp_path / "gone")
    run_phase(phase_run("coarse", config, tiny_faces, back), again)
    assert places(back) == places(straight)
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_streamed_epoch_that_was_stopped_sees_no_sample_twice_and_counts_on(
    four_steps: TrainConfig, shards: Path, tiny_faces, tmp_path: Path, monkeypatch
) -> None:
    for module in (stream_plan, streaming):
        monkeypatch.setattr(module, "SHUFFLE_BUFFER", 1)
    paths = sorted((shards / "train").glob("*.tar"))
    faces = StreamedFaces([FileShard(path, len(index_shard(str(path)))) for path in paths], PAPER9)
    seen: list[str] = []
    encoded = faces.encoded
    monkeypatch.setattr(faces, "encoded", lambda *one: seen.append(one[1]) or encoded(*one))

    stopped = StoppingContext(tmp_path, num_reports=1)
    run = phase_run("coarse", four_steps, tiny_faces, stopped)
    with pytest.raises(Stop):
        run_phase(replace(run, train_faces=faces), fresh(four_steps))
    before = seen[: four_steps.optim.global_batch]  # beyond it was read ahead
    seen.clear()
    resumed = LocalContext(tmp_path)
    run = phase_run("coarse", four_steps, tiny_faces, resumed)
    run_phase(replace(run, train_faces=faces), fresh(four_steps))

    first, second = before + seen[:-8], seen[-8:]
    assert 4 <= len(first) == len(set(first)) < 8, "what the reader held is left out"
    assert len(set(second)) == 8
    assert places(resumed)[-1] == (2, 0)
    assert resumed.reports[-1].step_losses[-1][0] == 8, "steps are counted by whole epochs"
    assert load_checkpoint(tmp_path).phase == "coarse"
