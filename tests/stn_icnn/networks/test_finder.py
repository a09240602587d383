"""The finder: what its outputs stand for, and the mean face that it keeps."""

import math
from dataclasses import replace

import pytest
import torch

from stn_icnn.config import TrainConfig
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.finder import NUM_VOTES, REFERENCE_SIDE, Finder, FinderOutput
from stn_icnn.networks.model import build_model


@pytest.fixture(scope="module")
def finder() -> Finder:
    torch.manual_seed(0)
    return Finder(PAPER9).eval()


def test_an_output_stands_for_a_cell_of_2_by_2_pixels(finder: Finder) -> None:
    with torch.no_grad():
        output = finder.split(finder(torch.rand(2, 3, 48, 64)))
    assert output.logits.shape == (2, 9, 24, 32)
    assert output.face_logits.shape == (2, 24, 32)
    assert output.votes.shape == (2, NUM_VOTES, 24, 32)
    assert output.frames().shape == (2, 5, 24, 32)


def test_it_has_under_0_3_million_parameters(finder: Finder) -> None:
    assert sum(p.numel() for p in finder.parameters()) == 212_237


def test_light_and_contrast_change_nothing(finder: Finder) -> None:
    photo = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        bright, dark = finder(photo), finder(0.3 * photo + 0.2)
    assert torch.allclose(bright, dark, atol=1e-3)
    assert finder(torch.full((1, 3, 32, 32), 0.5)).isfinite().all(), "a photograph of one colour"


def test_votes_are_frames_seen_from_their_cells() -> None:
    votes = torch.zeros(1, NUM_VOTES, 3, 4)
    votes[0, :, 1, 2] = torch.tensor([0.25, -0.5, math.log(40 / REFERENCE_SIDE), 0.0, 2.0])
    output = FinderOutput(torch.zeros(1, 9, 3, 4), torch.zeros(1, 3, 4), votes)
    frames = output.frames()
    # The cell's centre is (5, 3): a quarter of 40 px to the right, half of it up; turned by 90 deg.
    assert torch.allclose(frames[0, :, 1, 2], torch.tensor([15.0, -17.0, 40.0, 0.0, 1.0]))
    assert torch.allclose(frames[0, :3, 0, 0], torch.tensor([1.0, 1.0, REFERENCE_SIDE]))


def test_the_mean_face_is_that_of_all_faces_so_far() -> None:
    finder = Finder(PAPER9)
    assert not finder.is_trained
    assert finder.mean_face.equal(torch.tensor([part.centre for part in PAPER9.parts]))
    shares, present = torch.rand(7, 6, 2), torch.ones(7, 6, dtype=torch.bool)
    present[3, 2] = present[5, 2] = False
    finder.average(shares[:4], present[:4])
    finder.average(shares[4:], present[4:])
    assert finder.is_trained
    assert finder.num_averaged.tolist() == [7, 7, 5, 7, 7, 7]
    expected = (shares * present[..., None]).sum(dim=0) / present.sum(dim=0)[:, None]
    assert torch.allclose(finder.mean_face, expected, atol=1e-6)


def test_a_model_has_a_finder_where_its_size_is_given(tiny_config: TrainConfig) -> None:
    without = build_model(tiny_config.model)
    model = build_model(replace(tiny_config.model, finder_px=64))
    assert without.finder is None
    assert not without.finds_faces
    assert not model.finds_faces, "not before it is trained"
    assert not any(name.startswith("finder") for name in without.state_dict())
    assert model.finder is not None
    model.finder.average(torch.rand(1, 6, 2), torch.ones(1, 6, dtype=torch.bool))
    assert model.finds_faces
