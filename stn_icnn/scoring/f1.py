"""F1 from pixel counts, as in the paper's Tables 2 to 4, and the mean label map to compare with.

Counts are summed first, over images and ranks, and F1 is taken once of the sum: a mean of the F1 of
batches or ranks is another number.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stn_icnn.labels import F1_ROWS, INNER_CLASSES, MODEL_CLASSES, NUM_CLASSES

F1Rows = Mapping[str, float | None]
"""F1 in [0, 1] by row, as `f1_rows` returns it; None where it is undefined."""


def confusion(truth: Tensor, predicted: Tensor) -> Tensor:
    """Count pixels by true and predicted class.

    Args:
        truth: uint8 `[H, W]` or `[N, H, W]`, canonical class ids in 0 to 10.
        predicted: uint8, as `truth`, at the same size.

    Returns:
        int64 `[11, 11]`, rows truth, columns prediction; additive over images and ranks.
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"truth and predicted must have one shape, got {list(truth.shape)} and "
            f"{list(predicted.shape)}: score a prediction at its image's own size"
        )
    for name, labels in (("truth", truth), ("predicted", predicted)):
        if labels.dtype != torch.uint8:
            raise ValueError(f"{name} must be uint8 class ids, got {labels.dtype}")
        if labels.numel() > 0 and int(labels.max()) >= NUM_CLASSES:
            raise ValueError(
                f"{name} must hold class ids below {NUM_CLASSES}, got {int(labels.max())}"
            )
    # int16 holds 11 * 11 and moves a quarter of what int64 would; bincount adds up in int64.
    pairs = truth.to(torch.int16) * NUM_CLASSES + predicted
    counts = torch.bincount(pairs.reshape(-1).int(), minlength=NUM_CLASSES**2)
    return counts.view(NUM_CLASSES, NUM_CLASSES)


def f1_tensors(
    counts: Tensor, classes_of_model: Sequence[int] = MODEL_CLASSES
) -> dict[str, Tensor]:
    """F1 of every row of the paper's tables, for many confusion matrices at once.

    Args:
        counts: int64 `[..., 11, 11]`, rows truth, columns prediction.
        classes_of_model: canonical ids that the model can predict.

    Returns:
        The rows of `F1_ROWS` and `mean`, each float64 `[...]` in [0, 1], NaN where undefined.
    """
    undefined = torch.full(counts.shape[:-2], math.nan, dtype=torch.float64, device=counts.device)
    rows = {
        row: _f1(counts, classes) if set(classes) <= set(classes_of_model) else undefined
        for row, classes in F1_ROWS.items()
    }
    of_classes = [_f1(counts, (i,)) for i in INNER_CLASSES if i in classes_of_model]
    rows["mean"] = torch.stack([*of_classes, undefined]).nanmean(dim=0)
    return rows


def f1_rows(
    counts: Tensor, classes_of_model: Sequence[int] = MODEL_CLASSES
) -> dict[str, float | None]:
    """F1 of every row of the paper's tables, from counts summed over the whole set.

    Args:
        counts: int64 `[11, 11]`, rows truth, columns prediction.
        classes_of_model: canonical ids that the model can predict.

    Returns:
        The rows of `F1_ROWS`, in [0, 1], and `mean`: the mean F1 of the eight inner classes, those
        undefined left out. None where the model lacks a class of the row, or where the row's
        classes are in neither truth nor prediction.
    """
    if tuple(counts.shape) != (NUM_CLASSES, NUM_CLASSES):
        raise ValueError(
            f"counts must be [{NUM_CLASSES}, {NUM_CLASSES}], got {list(counts.shape)}: "
            "sum over the images first"
        )
    rows = {row: float(f1) for row, f1 in f1_tensors(counts, classes_of_model).items()}
    return {row: None if math.isnan(f1) else f1 for row, f1 in rows.items()}


def f1_of_classes(counts: Tensor, classes: Sequence[int]) -> float | None:
    """F1 of a set of classes; confusion inside the set costs nothing.

    Args:
        counts: int64 `[11, 11]`, rows truth, columns prediction.
        classes: canonical ids.

    Returns:
        In [0, 1]; None where the classes are in neither truth nor prediction.
    """
    f1 = float(_f1(counts, classes))
    return None if math.isnan(f1) else f1


def bootstrap_f1(
    counts_per_image: Tensor,
    row: str = "overall",
    num_resamples: int = 1000,
    seed: int = 0,
) -> Tensor:
    """A row's F1 over test sets drawn, with replacement, from this one.

    The same seed draws the same images: of systems that were scored on one test set, the n-th
    numbers can be compared.

    Args:
        counts_per_image: int64 `[..., M, 11, 11]`, rows truth, columns prediction.
        row: a key of `F1_ROWS`.
        num_resamples: test sets drawn, of M images each.
        seed: of the draw.

    Returns:
        float64 `[..., num_resamples]`; NaN where a drawn set has none of the row's classes.
    """
    if row not in F1_ROWS:
        raise ValueError(f"row must be one of {', '.join(F1_ROWS)}, got {row!r}")
    if counts_per_image.shape[-3] == 0:
        raise ValueError("counts_per_image must hold at least one image, got none")
    # F1 needs two sums of the counts alone, so these are resampled, not the matrices.
    sums = torch.stack(_agreement_and_size(counts_per_image, F1_ROWS[row]), dim=-1).double().cpu()
    agreement, size = resampled_sums(sums, num_resamples, seed).unbind(dim=-1)
    return agreement / size


def bootstrap_interval(
    counts_per_image: Tensor,
    row: str = "overall",
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of `bootstrap_f1`.

    Args:
        counts_per_image: int64 `[M, 11, 11]`, rows truth, columns prediction.
        row: a key of `F1_ROWS`.
        num_resamples: test sets drawn, of M images each.
        seed: of the draw.
        level: the interval's coverage, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1].
    """
    f1 = bootstrap_f1(counts_per_image, row, num_resamples, seed)
    if f1.isnan().all():
        raise ValueError(f"row {row!r} is undefined: its classes are in no truth and no prediction")
    low, high = percentile_interval(f1, level).tolist()
    return low, high


def resampled_sums(per_image: Tensor, num_resamples: int, seed: int) -> Tensor:
    """Sums over sets of images drawn, with replacement, from these.

    Args:
        per_image: float64 `[..., M, K]`, on the CPU: what is added up.
        num_resamples: sets drawn, of M images each.
        seed: of the draw.

    Returns:
        float64 `[..., num_resamples, K]`.
    """
    num_images = per_image.shape[-2]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(num_images, (num_resamples, num_images), generator=generator)
    weights = torch.zeros(num_resamples, num_images, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones(1, 1, dtype=torch.float64).expand_as(weights))
    return weights @ per_image


def percentile_interval(drawn: Tensor, level: float = 0.95) -> Tensor:
    """Returns the ends of the range that the middle `level` of resampled values lie in.

    Args:
        drawn: float64 `[R, ...]`; NaN is left out.
        level: the interval's coverage, in (0, 1).

    Returns:
        float64 `[2, ...]`, the lower and the upper end.
    """
    tail = (1 - level) / 2
    return torch.nanquantile(drawn, torch.tensor([tail, 1 - tail], dtype=drawn.dtype), dim=0)


def label_histogram(labels: Tensor, grid_px: int) -> Tensor:
    """One image's votes for the mean label map.

    Args:
        labels: uint8 `[H, W]`, canonical class ids.
        grid_px: side of the grid that images of all sizes are brought to.

    Returns:
        int64 `[11, grid_px, grid_px]` of 0 and 1; additive over images and ranks.
    """
    on_grid = resize_labels(labels, grid_px, grid_px)
    return F.one_hot(on_grid.long(), NUM_CLASSES).permute(2, 0, 1)


def mean_label_map(histogram: Tensor, classes_of_model: Sequence[int] = MODEL_CLASSES) -> Tensor:
    """The class most frequent at each place: what a parser scores that never sees the image.

    Args:
        histogram: int64 `[11, G, G]`, a sum of `label_histogram`.
        classes_of_model: canonical ids, background first; votes for others count as background.

    Returns:
        uint8 `[G, G]`, canonical class ids; `resize_labels` brings it to an image's size.
    """
    ids = torch.tensor(classes_of_model, dtype=torch.uint8, device=histogram.device)
    votes = histogram[ids.long()]
    votes[0] += histogram.sum(dim=0) - votes.sum(dim=0)
    return ids[votes.argmax(dim=0)]


def resize_labels(labels: Tensor, height: int, width: int) -> Tensor:
    """Nearest neighbour between pixel centres: uint8 `[H, W]` to uint8 `[height, width]`."""
    rows = _nearest(labels.shape[0], height, labels.device)
    columns = _nearest(labels.shape[1], width, labels.device)
    return labels[rows[:, None], columns]


def _agreement_and_size(counts: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """F1's numerator and denominator for a set of classes, int64 `[...]` from `[..., 11, 11]`."""
    ids = list(classes)
    truth, predicted = counts[..., ids, :], counts[..., :, ids]
    agreement = 2 * truth[..., ids].sum(dim=(-2, -1))
    return agreement, truth.sum(dim=(-2, -1)) + predicted.sum(dim=(-2, -1))


def _f1(counts: Tensor, classes: Sequence[int]) -> Tensor:
    """F1 of a set of classes, float64 `[...]` from int64 `[..., 11, 11]`; 0 / 0 gives NaN."""
    agreement, size = _agreement_and_size(counts, classes)
    return agreement.double() / size.double()


def _nearest(size: int, new_size: int, device: torch.device) -> Tensor:
    """Index of the old pixel under the centre of each new one, int64 `[new_size]`."""
    return (2 * torch.arange(new_size, device=device) + 1) * size // (2 * new_size)
