"""The F1 that label probabilities promise, if they hold."""

import torch
from torch import Tensor


def expected_counts(probs: Tensor) -> Tensor:
    """Counts the pixels that an expected F1 is made of.

    Args:
        probs: `[..., L, H, W]` float32, the probabilities of L classes, background first.

    Returns:
        `[..., 2]` float32: of the labelled pixels, how many are expected to be right; how many are
        labelled and how many are expected to be no background, together. They may be added up over
        maps, weighted by the size of a map's pixels.
    """
    inside = 1 - probs[..., 0, :, :]
    labelled = probs.argmax(dim=-3) > 0
    right, number, expected = (
        pixels.sum(dim=(-2, -1)) for pixels in (inside * labelled, labelled, inside)
    )
    return torch.stack([right, number + expected], dim=-1)


def expected_f1(counts: Tensor) -> Tensor:
    """Returns the F1 of counts, `[..., 2]` as `expected_counts` has them; 0 if they are 0."""
    right, both = counts.unbind(dim=-1)
    return 2 * right / both.clamp(min=1e-6)
