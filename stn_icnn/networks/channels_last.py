"""Quicker ways for two operations that are slow on CPUs with channels-last maps of few channels.

The maps of an iCNN are such maps.

**Batch norm.** PyTorch's kernel for that layout works a pixel at a time: with 8 channels it fills
part of a vector register, and its threads' sums share a cache line. Here k pixels that lie side by
side in memory are taken for one pixel of k times the channels, and their sums are joined
afterwards. This gives the same numbers, up to rounding, in a fraction of the time. k is a power of
2 that divides the number of pixels; an odd batch of odd patches is left to PyTorch's kernel.

**Concatenation.** The gradients of the maps are views of the gradient of the whole, so their pixels
lie apart in memory, and the operations that read them do so a few values at a time. Here they are
copied first, which costs less.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WIDE_CHANNELS = 256
"""The most channels that k pixels have together: a few full vector registers."""
LEAST_VALUES = 2**18
"""The fewest values of a map that is computed in this way: with fewer, its many small operations
cost more than it saves."""


def use_wide_batch_norm(module: nn.Module) -> None:
    """Has every plain batch norm of a module computed as `WideBatchNorm2d`; its state stays."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = WideBatchNorm2d


class WideBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with a quicker path for channels-last maps on CPUs; the same state."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises `[N, C, H, W]` floats; shape, dtype and layout stay."""
        together = _pixels_together(x)
        if together == 1 or (torch.is_grad_enabled() and not self.training):
            return super().forward(x)
        if self.training:
            arguments = (x, self.weight, self.bias, self.eps, together)
            normed, mean, var = _WideBatchNorm.apply(*arguments)  # type: ignore[no-untyped-call]
            self._follow(mean, var, x.numel() // x.shape[1])
            return cast(Tensor, normed)
        assert self.running_mean is not None
        assert self.running_var is not None
        constants = torch.stack([self.weight, self.bias, self.running_mean, self.running_var])
        return _normed(x, together, _repeated(constants, together), self.eps)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, num: int) -> None:
        """Moves the running statistics towards a batch's, as `nn.BatchNorm2d` does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (num / (num - 1)), self.momentum)


class _WideBatchNorm(torch.autograd.Function):
    """Normalises `[N, C, H, W]`, channels-last, by its own statistics."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, together: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the result, and mean and biased variance, `[C]` float32, without a gradient."""
        wide = _widened(x, together)
        unused = weight.new_zeros(2, wide.shape[1])  # float32, so that the statistics are
        means, variances = torch.ops.aten.batch_norm_update_stats(wide, *unused, 0.0)
        var_of_means, mean = torch.var_mean(means.view(together, -1), dim=0, correction=0)
        var = variances.view(together, -1).mean(0) + var_of_means
        constants = _repeated(torch.stack([weight, bias, mean, var]), together)
        ctx.save_for_backward(x, constants, weight * (var + eps).rsqrt())
        ctx.eps, ctx.together = eps, together
        ctx.mark_non_differentiable(mean, var)
        return _normed(x, together, constants, eps), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, weight and bias."""
        x, constants, scale = ctx.saved_tensors
        together, num = ctx.together, x.numel() // x.shape[1]
        weight, _, mean, var = constants
        # As if the statistics did not depend on x, whose part in them is put right below.
        wide_grad, *sums = torch.ops.aten.native_batch_norm_backward(
            _widened(grad.contiguous(memory_format=torch.channels_last), together),
            _widened(x, together),
            *(weight, mean, var, None, None, False, ctx.eps, [True, True, True]),
        )
        of_weight_and_bias = torch.stack(sums).view(2, together, -1).sum(1)
        pulls = _repeated(of_weight_and_bias * (scale / -num), together)
        of_x = _narrowed(wide_grad, x)
        of_x += _normed(x, together, torch.cat([pulls, constants[2:]]), ctx.eps)
        return of_x, *of_weight_and_bias, None, None


def concatenate(maps: Sequence[Tensor]) -> Tensor:
    """Concatenates maps, `[N, C_i, H, W]` of one layout, to `[N, sum of C_i, H, W]`."""
    if torch.is_grad_enabled() and _is_channels_last(maps[0]):
        return cast(Tensor, _Concatenate.apply(*maps))  # type: ignore[no-untyped-call]
    return torch.cat(list(maps), dim=1)


class _Concatenate(torch.autograd.Function):
    """`torch.cat` of channels whose gradients are dense in memory."""

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        """Concatenates maps, `[N, C_i, H, W]`."""
        ctx.channels = [m.shape[1] for m in maps]
        return torch.cat(maps, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """Returns the gradient of each map."""
        parts = torch.split(grad, ctx.channels, dim=1)
        return tuple(torch.empty_like(part).copy_(part) for part in parts)


def _pixels_together(x: Tensor) -> int:
    """Returns k, a power of 2 that divides the number of pixels; 1 where this way is not for x."""
    if x.numel() < LEAST_VALUES or not _is_channels_last(x):
        return 1
    channels = x.shape[1]
    most = 1 << max(1, WIDE_CHANNELS // channels).bit_length() - 1
    return math.gcd(x.numel() // channels, most)


def _is_channels_last(x: Tensor) -> bool:
    """Tells whether a map has this layout on a CPU, and not by chance the default one too."""
    dense = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return x.device.type == "cpu" and dense


def _widened(x: Tensor, together: int) -> Tensor:
    """Views channels-last `[N, C, H, W]` as `[1, k * C, N * H * W / k, 1]`, without a copy."""
    return x.permute(0, 2, 3, 1).view(1, -1, 1, together * x.shape[1]).permute(0, 3, 1, 2)


def _narrowed(wide: Tensor, like: Tensor) -> Tensor:
    """Undoes `_widened`."""
    num, channels, height, width = like.shape
    return wide.permute(0, 2, 3, 1).view(num, height, width, channels).permute(0, 3, 1, 2)


def _repeated(constants: Tensor, together: int) -> Tensor:
    """Repeats the channels' constants, `[M, C]`, for each of the k pixels: `[M, k * C]`."""
    return constants[:, None].expand(-1, together, -1).reshape(len(constants), -1)


def _normed(x: Tensor, together: int, constants: Tensor, eps: float) -> Tensor:
    """Returns `(x - mean) / sqrt(var + eps) * weight + bias`, of `x`'s dtype and layout.

    `constants` are weight, bias, mean and variance, `[4, k * C]` float32.
    """
    out = torch.empty_like(x)
    mean, invstd = constants.new_empty(2, 0)  # unused: they are for a batch's own statistics
    torch.ops.aten.native_batch_norm.out(
        *(_widened(x, together), *constants, False, 0.0, eps),
        out=_widened(out, together),
        save_mean=mean,
        save_invstd=invstd,
    )
    return out
