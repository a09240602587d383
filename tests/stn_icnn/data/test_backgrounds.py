"""Backgrounds of scenes: of every kind, and without a face in them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from stn_icnn.data import backgrounds
from stn_icnn.data.backgrounds import draw_background

KINDS = ("_flat", "_clouds", "_border", "_waves", "_patches")
PX = 64


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Tensor]]:
    """What has been drawn of each kind."""
    made: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}

    def recorded(kind: str):
        draw = getattr(backgrounds, kind)

        def record(*given):
            made[kind].append(draw(*given))
            return made[kind][-1]

        return record

    for kind in KINDS:
        monkeypatch.setattr(backgrounds, kind, recorded(kind))
    return made


@pytest.fixture
def photo() -> Tensor:
    """Red, with a green face in the middle."""
    photo = torch.zeros(3, 120, 100, dtype=torch.uint8)
    photo[0] = 200
    photo[:, 40:90, 30:70] = torch.tensor([0, 200, 0], dtype=torch.uint8)[:, None, None]
    return photo


@pytest.fixture
def inner(photo: Tensor) -> Tensor:
    return photo[1] > 0


def test_every_kind_is_drawn_at_times(drawn, photo: Tensor, inner: Tensor) -> None:
    for seed in range(60):
        background = draw_background(np.random.default_rng(seed), photo, inner, PX)
        assert background.shape == (3, PX, PX)
        assert background.dtype == torch.float32
        assert background.min() >= 0
        assert background.max() <= 1
    assert all(drawn.values())
    one, other = (draw_background(np.random.default_rng(s), photo, inner, PX) for s in (0, 1))
    assert not one.equal(other)


def test_the_same_seed_draws_the_same(photo: Tensor, inner: Tensor) -> None:
    for seed in range(10):
        one, other = (
            draw_background(np.random.default_rng(seed), photo, inner, PX) for _ in range(2)
        )
        assert one.equal(other)


def test_a_photograph_s_border_is_taken_where_it_shows_no_face(
    drawn, photo: Tensor, inner: Tensor
) -> None:
    for seed in range(60):
        draw_background(np.random.default_rng(seed), photo, inner, PX, may_be_patches=False)
    assert len(drawn["_border"]) > 5
    for border in drawn["_border"]:
        assert border[0].min() > 0.7
        assert border[1].max() < 0.1
    assert drawn["_patches"] == []


def test_of_a_photograph_without_a_border_clouds_are_drawn(drawn, photo: Tensor) -> None:
    for inner in (torch.ones(120, 100, dtype=torch.bool), torch.zeros(120, 100, dtype=torch.bool)):
        for seed in range(30):
            draw_background(np.random.default_rng(seed), photo, inner, PX, may_be_patches=False)
    assert len(drawn["_clouds"]) > len(drawn["_border"]) > 5
