"""Quick operations on channels-last maps: the same numbers as PyTorch's own."""

import pytest
import torch
from torch import Tensor, nn

from stn_icnn.networks import channels_last
from stn_icnn.networks.channels_last import WideBatchNorm2d, _WideBatchNorm, concatenate

SHAPES = ((4, 8, 27, 16), (2, 26, 9, 9), (1, 3, 5, 14))


@pytest.fixture(autouse=True)
def _small_maps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels_last, "LEAST_VALUES", 1)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pixels together, of each map that was normalised this way."""
    taken: list[int] = []
    widened = channels_last._widened

    def noted(x: Tensor, together: int) -> Tensor:
        taken.append(together)
        return widened(x, together)

    monkeypatch.setattr(channels_last, "_widened", noted)
    return taken


def random_maps(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    maps = torch.randn(*shape, dtype=dtype) * 3 + 1
    return maps.contiguous(memory_format=torch.channels_last)


def norms(channels: int, dtype: torch.dtype) -> tuple[nn.BatchNorm2d, WideBatchNorm2d]:
    theirs, ours = nn.BatchNorm2d(channels), WideBatchNorm2d(channels)
    nn.init.uniform_(theirs.weight, 0.5, 2.0)
    nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    return theirs.to(dtype), ours.to(dtype)


def gradients(norm: nn.Module, x: Tensor, pull: Tensor) -> tuple[Tensor, ...]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = norm(x)
    out.backward(pull)
    assert x.grad is not None
    return out.detach(), x.grad, *(p.grad for p in norm.parameters() if p.grad is not None)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_equals_pytorch(shape: tuple[int, ...], wide: list[int]) -> None:
    torch.manual_seed(0)
    theirs, ours = norms(shape[1], torch.float64)
    for _ in range(2):
        x, pull = random_maps(*shape), random_maps(*shape)
        for a, b in zip(gradients(ours, x, pull), gradients(theirs, x, pull), strict=True):
            torch.testing.assert_close(a, b)
            assert a.stride() == b.stride()
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    assert min(wide) > 1


def test_bf16_keeps_float32_statistics() -> None:
    torch.manual_seed(0)
    theirs, ours = norms(8, torch.float32)
    x = random_maps(4, 8, 32, 32, dtype=torch.bfloat16) + 40
    pull = random_maps(4, 8, 32, 32, dtype=torch.bfloat16)
    rounded, exact = gradients(ours, x, pull), gradients(theirs, x.float(), pull.float())
    assert rounded[0].dtype is rounded[1].dtype is torch.bfloat16
    for a, b in zip(rounded, exact, strict=True):
        torch.testing.assert_close(a.float(), b, atol=0.05, rtol=0.01)
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation_equals_pytorch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    theirs, ours = norms(shape[1], torch.float64)
    for norm in (theirs, ours):
        norm(random_maps(*shape).fill_(2.0).cumsum(0))
        norm.eval()
    x = random_maps(*shape)
    torch.testing.assert_close(gradients(ours, x, x), gradients(theirs, x, x))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_gradient_is_that_of_the_function() -> None:
    torch.manual_seed(0)
    x = random_maps(2, 3, 4, 6).requires_grad_()
    weight, bias = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def normed(*arguments: Tensor) -> Tensor:
        return _WideBatchNorm.apply(*arguments, 1e-5, 8)[0]  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(normed, (x, weight, bias))


def test_gradients_of_a_concatenation_are_dense() -> None:
    maps = [random_maps(2, c, 4, 5).requires_grad_() for c in (2, 3, 4)]
    pull = random_maps(2, 9, 4, 5)
    out = concatenate(maps)
    out.backward(pull)
    torch.testing.assert_close(out, torch.cat(maps, dim=1))
    for m, part in zip(maps, pull.split([2, 3, 4], dim=1), strict=True):
        assert m.grad is not None
        assert m.grad.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(m.grad, part)
