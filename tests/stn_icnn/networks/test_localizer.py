"""The localization network: where it starts, its size, its precision."""

import pytest
import torch

from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.localizer import Localizer


def random_probs(px: int, num: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(num, len(PAPER9.model_classes), px, px, generator=generator).mul(3).softmax(1)
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("px", [32, 64, 128])
def test_untrained_it_points_at_an_average_face(px: int, training: bool):
    torch.manual_seed(0)
    locations = Localizer(PAPER9, px).train(training)(random_probs(px))
    assert locations.shape == (2, 6, 3)
    assert (
        locations[..., :2] - torch.tensor([part.centre for part in PAPER9.parts])
    ).abs().max() < 0.02
    assert locations[..., 2].abs().max() < 0.02


def test_the_average_face_has_the_subject_s_left_on_the_right():
    centres = {part.name: part.centre for part in PAPER9.parts}
    assert centres["left_eye"][0] > 0.5 > centres["right_eye"][0]
    assert centres["left_brow"][0] > 0.5 > centres["right_brow"][0]
    assert centres["left_brow"][1] < centres["left_eye"][1] < centres["nose"][1]
    assert centres["nose"][1] < centres["mouth"][1]


@pytest.mark.parametrize("px", [64, 128])
def test_it_is_small(px: int):
    assert sum(p.numel() for p in Localizer(PAPER9, px).parameters()) <= 300_000


def test_without_learn_scale_the_log_factor_is_0():
    torch.manual_seed(0)
    localizer = Localizer(PAPER9, 32, learn_scale=False)
    torch.nn.init.normal_(localizer.head.weight)
    locations = localizer(random_probs(32))
    assert locations.shape == (2, 6, 3)
    assert torch.equal(locations[..., 2], torch.zeros(2, 6))
    assert locations[..., :2].std() > 0.1


def test_centres_stay_float32_under_bf16_autocast():
    torch.manual_seed(0)
    localizer, probs = Localizer(PAPER9, 32).eval(), random_probs(32)
    with torch.autocast("cpu", torch.bfloat16):
        locations = localizer(probs)
    assert locations.dtype == torch.float32
    # bf16 has steps of 1/256 at 0.5, a pixel in 256: the bias alone would be rounded to them
    torch.testing.assert_close(locations, localizer(probs), atol=2e-4, rtol=0)


def test_a_gradient_reaches_the_first_convolution_at_once():
    localizer = Localizer(PAPER9, 32)
    localizer(random_probs(32)).sum().backward()
    assert next(localizer.features.parameters()).grad.abs().max() > 0
