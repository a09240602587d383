"""Where the faces of photographs are: what a finder of faces gives, and what it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stn_icnn.inference.face_frame import FaceFrame
from stn_icnn.networks.model import Parsing


@dataclass(frozen=True)
class FoundFace:
    """A face's place in a photograph, and how sure it is that there is one."""

    frame: FaceFrame
    """The square that the face is cut from, px of the photograph."""
    score: float
    """In [0, 1]: 1 for a face that a user's box or landmarks name."""


class FaceFinder(Protocol):
    """Finds the faces of photographs."""

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[FoundFace]]:
        """Finds faces.

        Args:
            images: photographs of any sizes, `[H, W, 3]` uint8 RGB each.

        Returns:
            For each photograph its faces, the surest first; none where there is no face.
        """
        ...


class ConfidenceEstimator(Protocol):
    """Tells how far the labels of faces can be trusted."""

    def __call__(self, parsing: Parsing, found: Sequence[FoundFace]) -> Tensor:
        """Estimates the probabilities that a face and each of its parts have an F1 of 0.85 or more.

        Args:
            parsing: what the model made of N faces.
            found: where each was found.

        Returns:
            `[N, 1 + P]` float32 in [0, 1]: the face, then the P parts of the label set.
        """
        ...
