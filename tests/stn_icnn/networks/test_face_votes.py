"""Votes gathered into faces: perfect ones give the true frames back."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stn_icnn.data.scenes import Scenes
from stn_icnn.networks import face_votes
from stn_icnn.networks.face_votes import gather_votes, keep_apart
from stn_icnn.networks.finder import FinderOutput
from stn_icnn.training.finding import SceneTruth
from tests.block_faces import block_mean_face

PX, CELLS = 128, 64


def frame(x: float, y: float, side: float, degrees: float) -> list[float]:
    angle = math.radians(degrees)
    return [float(x), float(y), float(side), math.cos(angle), math.sin(angle)]


def scene_of(frames: list[list[float]]) -> Scenes:
    """A scene of faces that are average ones; a later one covers those before it."""
    centres, owner = [], torch.full((1, CELLS, CELLS), -1)
    at = (torch.arange(CELLS) + 0.5) * 2
    for k, (x, y, side, cos, sin) in enumerate(frames):
        turn = torch.tensor([[cos, -sin], [sin, cos]])
        centres.append((block_mean_face() - 0.5) @ turn.T * side + torch.tensor([x, y]))
        owner[0, torch.hypot(at[None, :] - x, at[:, None] - y) < 0.5 * side] = k
    none = torch.zeros(0, 6, 2)
    return Scenes(
        images=torch.zeros(1, 3, PX, PX),
        labels=torch.zeros(1, CELLS, CELLS, dtype=torch.uint8),
        owner=owner,
        centres=torch.stack(centres) if centres else none,
        present=torch.ones(len(centres), 6, dtype=torch.bool),
        scene=(0,) * len(centres),
    )


def perfect_output(truth: SceneTruth, noise: float = 0.0) -> FinderOutput:
    votes = truth.votes().movedim(-1, 1)
    votes = votes + noise * torch.randn(votes.shape, generator=torch.Generator().manual_seed(0))
    face_logits = torch.where(truth.core, 8.0, -8.0)
    return FinderOutput(torch.zeros(1, 9, CELLS, CELLS), face_logits, votes)


def found(frames: list[list[float]], noise: float = 0.0) -> tuple[Tensor, Tensor]:
    truth = SceneTruth.of(scene_of(frames), block_mean_face())
    (faces,) = gather_votes(perfect_output(truth, noise))
    return torch.from_numpy(faces.frames), torch.from_numpy(faces.scores)


@pytest.mark.parametrize("degrees", [0, 45, 65, -30])
@pytest.mark.parametrize("side", [30, 90])
def test_perfect_votes_give_the_true_frame_back(side: float, degrees: float) -> None:
    true = frame(60, 70, side, degrees)
    frames, scores = found([true])
    assert torch.allclose(frames, torch.tensor([true]), atol=0.01)
    assert scores.item() > 0.9


def test_faces_that_lie_or_stand_on_their_heads_are_left_to_turned_pictures() -> None:
    for degrees in (90, 180, -80):
        frames, _ = found([frame(60, 70, 60, degrees)])
        assert len(frames) == 0


def test_errors_of_single_votes_average_out() -> None:
    true = frame(60, 70, 60, 20)
    frames, scores = found([true], noise=0.05)
    assert torch.allclose(frames[0, :3], torch.tensor(true[:3]), atol=1.5)
    assert torch.allclose(frames[0, 3:], torch.tensor(true[3:]), atol=0.02)
    assert len(scores) == 1


def test_faces_side_by_side_and_partly_covered_are_each_found() -> None:
    """The second covers a part of the first."""
    pair = [frame(45, 60, 60, 0), frame(75, 66, 50, 30)]
    frames, scores = found(pair)
    order = frames[:, 0].argsort()
    assert torch.allclose(frames[order], torch.tensor(pair), atol=0.1)
    assert bool((scores > 0.4).all())
    assert scores[order][1] > scores[order][0], "of the covered one fewer cells vote"


def test_a_face_beyond_the_border_is_scored_by_what_is_to_be_seen_of_it() -> None:
    frames, scores = found([frame(8, 60, 70, 0)])
    assert torch.allclose(frames, torch.tensor([frame(8, 60, 70, 0)]), atol=0.05)
    assert scores.item() > 0.8


def test_where_no_cell_votes_there_is_no_face() -> None:
    frames, scores = found([])
    assert frames.shape == (0, 5)
    assert scores.shape == (0,)


def test_a_few_sure_cells_make_no_face() -> None:
    true = frame(60, 60, 100, 0)
    truth = SceneTruth.of(scene_of([true]), block_mean_face())
    output = perfect_output(truth)
    few = torch.full_like(output.face_logits, -8.0)
    few[0, 32, 28:31] = 8.0
    (faces,) = gather_votes(FinderOutput(output.logits, few, output.votes))
    assert len(faces.scores) == 0


def test_of_two_frames_of_one_face_the_surer_one_stays() -> None:
    frames = np.array([frame(50, 50, 60, 0), frame(53, 50, 50, 0), frame(100, 50, 60, 0)], "f4")
    assert keep_apart(frames, np.array([0.5, 0.9, 0.7], "f4")) == [1, 2]


def test_the_middle_of_a_turned_face() -> None:
    middle = face_votes.middle(np.array(frame(50, 50, 100, 90), "f4"))
    assert middle.tolist() == pytest.approx([42, 50], abs=1e-4)
