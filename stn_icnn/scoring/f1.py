"""Computes F1 from pixel counts, as in the paper's Tables 2 to 4, and the mean label map.

Counts are summed first, over images and ranks, and F1 is computed once from the sum: a mean of the
F1 of batches or ranks is another number.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from stn_icnn.labels import LabelSet

F1Rows = Mapping[str, float | None]
"""F1 in [0, 1] by row, as `f1_rows` returns it; None where it is undefined."""

NUM_RESAMPLES: Final = 1000
"""The number of sets of images that are drawn for a bootstrap interval, each as large as the set
that they are drawn from."""
LEVEL: Final = 0.95
"""The coverage of intervals."""


def confusion(truth: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Counts pixels by true and predicted class.

    Args:
        truth: uint8 `[H, W]` or `[N, H, W]`, ids of C classes.
        predicted: uint8, as `truth`, at the same size.
        num_classes: C, the number of classes of the label set, at most 181.

    Returns:
        int64 `[C, C]`, rows truth, columns prediction; additive over images and ranks.
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"truth and predicted must have one shape, got {list(truth.shape)} and "
            f"{list(predicted.shape)}: score a prediction at its image's own size"
        )
    for name, labels in (("truth", truth), ("predicted", predicted)):
        if labels.dtype != torch.uint8:
            raise ValueError(f"{name} must be uint8 class ids, got {labels.dtype}")
        if labels.numel() > 0 and int(labels.max()) >= num_classes:
            raise ValueError(
                f"{name} must hold class ids below {num_classes}, got {int(labels.max())}"
            )
    # int16 holds C * C and moves a quarter of what int64 would; bincount adds up in int64.
    pairs = truth.to(torch.int16) * num_classes + predicted
    counts = torch.bincount(pairs.reshape(-1).int(), minlength=num_classes**2)
    return counts.view(num_classes, num_classes)


def none_if_undefined(value: float) -> float | None:
    """Returns a number as it is, and None for NaN, by which tensors mark an undefined one."""
    return None if math.isnan(value) else value


def f1_tensors(counts: Tensor, label_set: LabelSet) -> dict[str, Tensor]:
    """Computes F1 of every row of a report, for many confusion matrices at once.

    Args:
        counts: int64 `[..., C, C]`, rows truth, columns prediction.
        label_set: the C classes, which of them the model labels, and the rows.

    Returns:
        The rows of `label_set.f1_rows`, `mean`, and `mean_foreground` where the model labels the
        whole image; each float64 `[...]` in [0, 1], NaN where it is undefined.
    """
    predicted = label_set.model_classes
    undefined = torch.full(counts.shape[:-2], math.nan, dtype=torch.float64, device=counts.device)
    rows = {
        row: f1_tensor(counts, classes) if set(classes) <= set(predicted) else undefined
        for row, classes in label_set.f1_rows.items()
    }
    for mean, classes in label_set.mean_rows.items():
        of_classes = [f1_tensor(counts, (i,)) for i in classes if i in predicted]
        rows[mean] = torch.stack([*of_classes, undefined]).nanmean(dim=0)
    return rows


def f1_rows(counts: Tensor, label_set: LabelSet) -> dict[str, float | None]:
    """Computes F1 of every row of a report, from counts summed over the whole set of images.

    Args:
        counts: int64 `[C, C]`, rows truth, columns prediction.
        label_set: the C classes, which of them the model labels, and the rows.

    Returns:
        The rows of `label_set.f1_rows`, in [0, 1], and those of `label_set.mean_rows`: the mean F1
        of classes, those undefined left out. None where the model lacks a class of the row, or
        where the row's classes are in neither truth nor prediction.
    """
    expected = [label_set.num_classes] * 2
    if list(counts.shape) != expected:
        raise ValueError(
            f"counts must be {expected}, got {list(counts.shape)}: sum over the images first"
        )
    rows = f1_tensors(counts, label_set)
    return {row: none_if_undefined(float(f1)) for row, f1 in rows.items()}


def weakest_row(rows: F1Rows, label_set: LabelSet) -> str | None:
    """Returns the row of least F1 among the groups that hold no other; None where all lack F1."""
    groups = label_set.f1_rows
    defined = {
        row: f1
        for row, classes in groups.items()
        if (f1 := rows[row]) is not None
        and not any(set(other) < set(classes) for other in groups.values())
    }
    return min(defined, key=defined.__getitem__, default=None)


def f1_tensor(counts: Tensor, classes: Sequence[int]) -> Tensor:
    """Computes F1 of a group of classes, for many confusion matrices at once.

    Args:
        counts: int64 `[..., C, C]`, rows truth, columns prediction.
        classes: their ids; confusion inside the group costs nothing.

    Returns:
        float64 `[...]` in [0, 1], NaN where the classes are in neither truth nor prediction.
    """
    agreement, size = _agreement_and_size(counts, classes)
    return agreement.double() / size.double()


def bootstrap_f1(
    counts_per_image: Tensor, label_set: LabelSet, row: str = "overall", seed: int = 0
) -> Tensor:
    """Computes a row's F1 over test sets drawn, with replacement, from this one.

    The same seed draws the same images: of systems that were scored on one test set, the n-th
    numbers can be compared.

    Args:
        counts_per_image: int64 `[..., M, C, C]`, rows truth, columns prediction.
        label_set: the C classes, and the rows.
        row: a key of `label_set.f1_rows`.
        seed: seed of the draw.

    Returns:
        float64 `[..., NUM_RESAMPLES]`; NaN where a drawn set has none of the row's classes.
    """
    if row not in label_set.f1_rows:
        raise ValueError(f"row must be one of {', '.join(label_set.f1_rows)}, got {row!r}")
    if counts_per_image.shape[-3] == 0:
        raise ValueError("counts_per_image must hold at least one image, got none")
    # F1 needs two sums of the counts alone, so these are resampled, not the matrices.
    agreement_and_size = _agreement_and_size(counts_per_image, label_set.f1_rows[row])
    sums = torch.stack(agreement_and_size, dim=-1).double().cpu()
    agreement, size = resampled_sums(sums, seed).unbind(dim=-1)
    return agreement / size


def bootstrap_interval(
    counts_per_image: Tensor,
    label_set: LabelSet,
    row: str = "overall",
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Computes the percentile interval of `bootstrap_f1`.

    Args:
        counts_per_image: int64 `[M, C, C]`, rows truth, columns prediction.
        label_set: the C classes, and the rows.
        row: a key of `label_set.f1_rows`.
        seed: seed of the draw.
        level: the interval's coverage, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1].
    """
    f1 = bootstrap_f1(counts_per_image, label_set, row, seed)
    if f1.isnan().all():
        raise ValueError(f"row {row!r} is undefined: its classes are in no truth and no prediction")
    low, high = percentile_interval(f1, level).tolist()
    return low, high


def resampled_sums(per_image: Tensor, seed: int) -> Tensor:
    """Adds up numbers over sets of images drawn, with replacement, from these.

    Args:
        per_image: float64 `[..., M, K]`, on the CPU, the numbers of each image.
        seed: seed of the draw.

    Returns:
        float64 `[..., NUM_RESAMPLES, K]`.
    """
    num_images = per_image.shape[-2]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(num_images, (NUM_RESAMPLES, num_images), generator=generator)
    weights = torch.zeros(NUM_RESAMPLES, num_images, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones(1, 1, dtype=torch.float64).expand_as(weights))
    return weights @ per_image


def percentile_interval(drawn: Tensor, level: float = LEVEL) -> Tensor:
    """Returns the ends of the range that the middle `level` of resampled values lie in.

    Args:
        drawn: float64 `[R, ...]`; NaN is left out.
        level: the interval's coverage, in (0, 1).

    Returns:
        float64 `[2, ...]`, the lower and the upper end.
    """
    tail = (1 - level) / 2
    return torch.nanquantile(drawn, torch.tensor([tail, 1 - tail], dtype=drawn.dtype), dim=0)


def label_histogram(labels: Tensor, grid_px: int, num_classes: int) -> Tensor:
    """Counts one image's votes for the mean label map.

    Args:
        labels: uint8 `[H, W]`, ids of C classes.
        grid_px: side of the grid that images of all sizes are brought to.
        num_classes: C, the number of classes of the label set.

    Returns:
        int64 `[C, grid_px, grid_px]` of 0 and 1; additive over images and ranks.
    """
    on_grid = resize_labels(labels, grid_px, grid_px)
    return F.one_hot(on_grid.long(), num_classes).permute(2, 0, 1)


def mean_label_map(histogram: Tensor, model_classes: Sequence[int]) -> Tensor:
    """Labels each position with its most frequent class, as a parser would that sees no image.

    Args:
        histogram: int64 `[C, G, G]`, a sum of `label_histogram`.
        model_classes: ids of the classes that are predicted, background first; votes for others
            count as background.

    Returns:
        uint8 `[G, G]`, class ids; `resize_labels` brings it to an image's size.
    """
    ids = torch.tensor(model_classes, dtype=torch.uint8, device=histogram.device)
    votes = histogram[ids.long()]
    votes[0] += histogram.sum(dim=0) - votes.sum(dim=0)
    return ids[votes.argmax(dim=0)]


def resize_labels(labels: Tensor, height: int, width: int) -> Tensor:
    """Resizes a label map, uint8 `[H, W]`, to the nearest neighbours of its pixels' centres."""
    rows = _nearest(labels.shape[0], height, labels.device)
    columns = _nearest(labels.shape[1], width, labels.device)
    return labels[rows[:, None], columns]


def _agreement_and_size(counts: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Counts F1's numerator and denominator of a group, int64 `[...]` from `[..., C, C]`."""
    ids = list(classes)
    truth, predicted = counts[..., ids, :], counts[..., :, ids]
    agreement = 2 * truth[..., ids].sum(dim=(-2, -1))
    return agreement, truth.sum(dim=(-2, -1)) + predicted.sum(dim=(-2, -1))


def _nearest(size: int, new_size: int, device: torch.device) -> Tensor:
    """Finds the old pixel under the centre of each new one, int64 `[new_size]` indices."""
    return (2 * torch.arange(new_size, device=device) + 1) * size // (2 * new_size)
