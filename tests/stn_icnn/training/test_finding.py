"""The finder's training: the truth of scenes, the loss, faces that are found, and a whole phase."""

from dataclasses import replace

import pytest
import torch

from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.data.plan import Request
from stn_icnn.data.scenes import Scenes, compose_scenes
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.finder import Finder, FinderOutput
from stn_icnn.training.finding import SceneTruth, average_faces, count_found, finder_loss
from stn_icnn.training.loop import run_phase
from stn_icnn.training.validation import validate
from tests.block_faces import block_faces, block_mean_face
from tests.phase_runs import fresh, phase_run, with_finder

PX = 64


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    """Three scenes with faces that are all to be seen."""
    scenes = compose_scenes(block_faces(12), PAPER9, PX, range(12))
    assert len(scenes.scene) > 6
    return scenes


@pytest.fixture(scope="module")
def truth(scenes: Scenes) -> SceneTruth:
    return SceneTruth.of(scenes, block_mean_face())


def perfect(truth: SceneTruth, sureness: float = 9.0) -> FinderOutput:
    ids = torch.zeros(11, dtype=torch.long)
    ids[list(PAPER9.model_classes)] = torch.arange(9)
    labels = torch.nn.functional.one_hot(ids[truth.labels.long()], 9).movedim(-1, 1)
    return FinderOutput(
        sureness * labels.float(),
        torch.where(truth.core, sureness, -sureness),
        truth.votes().movedim(-1, 1),
    )


def test_frames_are_the_photographs_own_squares(scenes: Scenes, truth: SceneTruth) -> None:
    """Parts' centres, as shares of the frame, are those of the mean face."""
    x, y, side, cos, sin = truth.frames[:, None].unbind(-1)
    across, down = scenes.centres[..., 0] - x, scenes.centres[..., 1] - y
    shares = torch.stack([cos * across + sin * down, cos * down - sin * across], dim=-1)
    shares = shares / side[..., None] + 0.5
    # Its left and right are not quite alike, as its centres are whole pixels.
    assert torch.allclose(shares, block_mean_face().expand_as(shares), atol=0.01)


def test_a_face_that_is_turned_by_more_than_70_degrees_is_background(
    scenes: Scenes, truth: SceneTruth
) -> None:
    turned = (truth.frames[:, 3] < 0.34).nonzero().flatten().tolist()
    assert 0 < len(turned) < len(truth.frames)
    for k in turned:
        on_it = truth.owner == k
        assert not truth.voting[on_it].any()
        assert not truth.labels[on_it].any()
    others = ~torch.isin(truth.owner, torch.tensor(turned))
    assert truth.labels[others].equal(scenes.labels[others])


def test_cells_of_no_face_neither_vote_nor_count(scenes: Scenes, truth: SceneTruth) -> None:
    nobody = scenes.owner < 0
    assert not (truth.voting & nobody).any()
    assert not (truth.core & ~truth.voting).any()
    assert truth.cells_of_faces(truth.core)[-1] == 0
    assert truth.votes().isfinite().all()


def test_the_loss_of_perfect_outputs_is_next_to_nothing(scenes: Scenes, truth: SceneTruth) -> None:
    right = perfect(truth)
    loss = finder_loss(right, scenes, truth, PAPER9)
    assert loss.shape == ()
    assert loss < 0.05
    for wrong in (
        replace(right, logits=-right.logits),
        replace(right, face_logits=-right.face_logits),
        replace(right, votes=right.votes + 0.3),
    ):
        assert finder_loss(wrong, scenes, truth, PAPER9) > loss + 1


def test_scenes_without_faces_have_a_finite_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stn_icnn.data.scenes.NUM_FACES", (1.0, 0.0, 0.0, 0.0))
    empty = compose_scenes(block_faces(2), PAPER9, PX, [0, 1])
    none = SceneTruth.of(empty, block_mean_face())
    finder = Finder(PAPER9)
    output = finder.split(finder(empty.images))
    loss = finder_loss(output, empty, none, PAPER9)
    assert loss.isfinite()
    loss.backward()
    assert count_found(perfect(none), empty, none).tolist() == [0, 0, 0]


def test_the_loss_falls_on_scenes_that_are_seen_again(scenes: Scenes, truth: SceneTruth) -> None:
    torch.manual_seed(0)
    finder = Finder(PAPER9)
    optimizer = torch.optim.Adam(finder.parameters(), lr=5e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        output = finder.split(finder(scenes.images))
        loss = finder_loss(output, scenes, truth, PAPER9) / len(scenes.images)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.grad is not None and p.grad.any() for p in finder.parameters() if p.dim() > 1)


def test_found_given_and_true_faces_are_counted(scenes: Scenes, truth: SceneTruth) -> None:
    right = perfect(truth)
    found, given, true = count_found(right, scenes, truth).tolist()
    assert 3 < true <= len(scenes.scene)
    assert true - 1 <= found <= true
    assert found <= given <= found + 1
    nothing = replace(right, face_logits=-torch.ones_like(right.face_logits) * 9)
    assert count_found(nothing, scenes, truth).tolist() == [0, 0, true]
    beside = replace(right, votes=right.votes + torch.tensor([0.16, 0, 0, 0, 0])[:, None, None])
    found, given, _ = count_found(beside, scenes, truth).tolist()
    assert found == 0
    assert given > 0, "frames of no face"


def test_the_mean_face_is_that_of_the_photographs_as_they_are() -> None:
    finder = Finder(PAPER9)
    average_faces(finder, block_faces(3))
    assert torch.allclose(finder.mean_face, block_mean_face(), atol=1e-6)


@pytest.mark.slow
def test_the_phase_trains_the_finder_alone_and_takes_the_mean_of_its_own_faces(
    tiny_config: TrainConfig, tiny_faces
) -> None:
    config = with_finder(tiny_config)
    model, context = fresh(config), LocalContext()
    assert model.finder is not None
    some = torch.ones(50, 6, dtype=torch.bool)
    model.finder.average(torch.rand(50, 6, 2), some)  # of faces that were framed otherwise
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = phase_run("finder", config, tiny_faces, context)
    run_phase(run, model)
    changed = {
        name.split(".")[0]
        for name, value in model.state_dict().items()
        if not value.equal(before[name])
    }
    assert changed == {"finder"}
    assert model.finds_faces
    batch = run.train_faces.__getitems__([Request(i) for i in range(len(run.train_faces))])
    alone = Finder(PAPER9)
    average_faces(alone, batch)
    assert model.finder.num_averaged.equal(alone.num_averaged * config.optim.epochs_finder)
    assert torch.allclose(model.finder.mean_face, alone.mean_face, atol=1e-5)
    metrics = context.reports[-1].metrics
    assert 0 <= metrics["val/faces_f1"] <= 1
    assert metrics["val/loss"] > 0
    assert not any(name.startswith("val/f1_") for name in metrics), "it labels no face"


def test_a_face_s_validation_scene_is_always_the_same(tiny_config: TrainConfig, tiny_faces) -> None:
    config = with_finder(tiny_config)
    run = phase_run("finder", config, tiny_faces, LocalContext())
    model = fresh(config)
    one, other = (validate(model, run.phase, config, run.val_faces, run.context) for _ in range(2))
    assert one == other
    assert model.finder is not None
    assert not model.finder.is_trained, "validation teaches nothing"
