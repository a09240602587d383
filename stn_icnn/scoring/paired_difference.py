"""The paired difference in F1 between two systems that were scored on the same images."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from stn_icnn.labels import LabelSet
from stn_icnn.scoring.f1 import bootstrap_f1, f1_tensors, percentile_interval
from stn_icnn.scoring.seed_statistics import SeedStatistics


@dataclass(frozen=True)
class PairedDifference:
    """The difference in F1 between two systems, on the same images and seeds."""

    system: str
    """The system whose F1 it is, less the reference's."""
    reference: str
    """The system that it is compared with."""
    over_seeds: SeedStatistics
    """Statistics of the differences, one for each seed."""
    interval: tuple[float, float]
    """95 % bootstrap interval, over images, of the mean over seeds."""
    images_better: float | None
    """Share of the images, over all seeds, on which the system's F1 is higher, among those
    on which the two differ; None where they differ on none."""

    @classmethod
    def between(
        cls,
        system: str,
        reference: str,
        counts: Mapping[str, Tensor],
        label_set: LabelSet,
        row: str = "overall",
    ) -> "PairedDifference":
        """Compares two systems.

        Args:
            system: name of the system whose F1 is taken.
            reference: name of the system whose F1 is subtracted.
            counts: by name, confusion counts, int64 `[M, C, C]`, or `[S, M, C, C]` of S seeds.
            label_set: the C classes, and those of them that each row is taken over.
            row: a key of `label_set.f1_rows`, whose F1 is compared.
        """
        ours, theirs = (
            counts[name].reshape(-1, *counts[name].shape[-3:]) for name in (system, reference)
        )
        resampled = bootstrap_f1(ours, label_set, row) - bootstrap_f1(theirs, label_set, row)
        low, high = percentile_interval(resampled.mean(dim=0)).tolist()
        by_seed, by_image = (
            f1_tensors(a, label_set)[row] - f1_tensors(b, label_set)[row]
            for a, b in ((ours.sum(dim=1), theirs.sum(dim=1)), (ours, theirs))
        )
        differing = by_image[~by_image.isnan() & (by_image != 0)]
        share = float((differing > 0).double().mean()) if differing.numel() else None
        return cls(system, reference, SeedStatistics.of(by_seed.tolist()), (low, high), share)

    @property
    def name(self) -> str:
        """The names of both systems: `STN-iCNN - iCNN`."""
        return f"{self.system} - {self.reference}"

    @property
    def numbers(self) -> list[float]:
        """The mean over seeds and the ends of the interval, as a job's last line has them."""
        return [self.over_seeds.mean, *self.interval]

    def __str__(self) -> str:
        """Returns the mean over seeds and the interval: `+0.0012 (-0.0002 to +0.0027)`."""
        low, high = self.interval
        return f"{self.over_seeds.mean:+.4f} ({low:+.4f} to {high:+.4f})"
