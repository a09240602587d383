"""Where the faces of photographs are: what a finder of faces gives, and what it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stn_icnn.inference.face_frame import FaceFrame


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
