"""How far a face's labels can be trusted, from what the networks say of their own work.

The signs of trust are weighed by logistic functions whose weights `calibration.calibrate` fits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_icnn.geometry import fit_similarity
from stn_icnn.inference.faces.expected_f1 import expected_counts, expected_f1
from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.networks.pasting import PlacedPatches

PRESENCE: Final = "presence"
"""The name of the estimate that there is a face at all."""
FACE: Final = "face"
"""The name of the estimate that the face's F1 is at least GOOD_F1."""

GOOD_F1: Final = 0.85
"""The F1 from which labels count as good."""

LEAST_PRESENCE: Final = 0.5
"""The probability of being one from which a finding counts as a face."""

SIGNS: Final = ("expected F1", "expected F1 of the face", "score", "size", "misfit", "offset")
"""The signs that are weighed.

The F1 that the probabilities of the pixels promise, of the part and of the whole face, as log odds;
how well a face fits in the frame, as log odds; the frame's side as a binary logarithm of its share
of 512 px, no more than 0; how far the parts' places are from those of the mean face, as a share of
the frame's side; how far the mean face's frame that fits them best is from the frame that was cut,
likewise.
"""

_LEAST_PROBABILITY: Final = 1e-3
_FULL_SIDE: Final = 512.0


@dataclass(frozen=True)
class Confidence:
    """The estimates for one face, probabilities."""

    presence: float
    """The probability that there is a face at all, if one is as likely as none."""
    face: float
    """The probability that its F1 is at least GOOD_F1."""
    parts: Mapping[str, float]
    """The same of each part by its name."""


class ConfidenceEstimator:
    """Weighs the signs of trust.

    Args:
        calibration: by the names PRESENCE, FACE and the parts', the weights of the signs and a
            constant.
        mean_face: `[P, 2]` float32, the parts' centres as shares of the frame.
    """

    def __init__(self, calibration: Mapping[str, Sequence[float]], mean_face: Tensor) -> None:
        self._weights = {name: np.array(row, np.float64) for name, row in calibration.items()}
        self._mean_face = mean_face.cpu()

    def estimate(self, patches: PlacedPatches, frame: FaceFrame, score: float) -> Confidence:
        """Estimates how far a face's labels can be trusted.

        Args:
            patches: its labelled patches, where they lie in the photograph.
            frame: the square that it was cut from.
            score: how well a face fits there, in [0, 1].
        """
        signs = signs_of_trust(patches, frame, score, self._mean_face)
        sure = {
            name: self._probability(name, signs.get(name, signs[FACE])) for name in self._weights
        }
        parts = {part.name: sure[part.name] for part in patches.label_set.parts}
        return Confidence(sure[PRESENCE], sure[FACE], parts)

    def _probability(self, name: str, signs: NDArray[np.float64]) -> float:
        *weights, constant = self._weights[name]
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, float(signs @ weights) + constant))))


def signs_of_trust(
    patches: PlacedPatches, frame: FaceFrame, score: float, mean_face: Tensor
) -> dict[str, NDArray[np.float64]]:
    """Measures the signs of a face and of its parts.

    Args:
        patches: the face's labelled patches.
        frame: the square that it was cut from.
        score: how well a face fits there, in [0, 1].
        mean_face: `[P, 2]` float32, the parts' centres as shares of the frame.

    Returns:
        By FACE and the parts' names, the numbers that SIGNS names.
    """
    label_set = patches.label_set
    counts = torch.stack([expected_counts(probs) for probs in patches.probs.values()]).cpu()
    areas = [  # px of the photograph per pixel of the patch
        patches.windows[part][2] * patches.windows[part][3] / probs[0].numel()
        for part, probs in patches.probs.items()
    ]
    f1_of_parts = expected_f1(counts).tolist()
    f1 = float(expected_f1(torch.tensor(areas) @ counts))
    misfit, offset = _misfit(patches, frame, mean_face)
    of_face = (
        _log_odds(f1),
        _log_odds(score),
        min(0.0, math.log2(frame.side / _FULL_SIDE)),
        misfit,
        offset,
    )
    return {
        FACE: np.array([of_face[0], *of_face]),
        **{
            label_set.parts[part].name: np.array([_log_odds(f1_of_part), *of_face])
            for part, f1_of_part in zip(patches.probs, f1_of_parts, strict=True)
        },
    }


def _log_odds(probability: float) -> float:
    limited = min(max(probability, _LEAST_PROBABILITY), 1 - _LEAST_PROBABILITY)
    return math.log(limited / (1 - limited))


def _misfit(patches: PlacedPatches, frame: FaceFrame, mean_face: Tensor) -> tuple[float, float]:
    """Returns how far the windows are from a mean face, and its frame from the one that was cut."""
    centres = torch.tensor([window[:2] for window in patches.windows])
    affine, residual = fit_similarity(mean_face, centres)
    fitted = FaceFrame.from_affine(affine)
    offset = math.hypot(fitted.x - frame.x, fitted.y - frame.y) / frame.side
    return float(residual) / frame.side, offset + abs(math.log(fitted.side / frame.side))
