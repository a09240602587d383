"""Faces that are far too dark, brought to the light of training faces."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

LUMINANCE: Final = (0.299, 0.587, 0.114)
"""The share of red, green and blue in a pixel's luminance."""

DARK_BELOW: Final = 110.0
"""A face is too dark if 99 % of its middle has less luminance. Of 400 faces of CelebAMask-HQ the
least is 125; in a quarter of the light the most is 63."""
BRIGHT_TARGET: Final = 214.0
"""The luminance to which that of a face that is too dark is brought: the median face's."""


def brighten_dark(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brightens a face that is far too dark.

    None of 400 faces of CelebAMask-HQ as they are is changed. Overexposed ones are left alone:
    what is cut off at white can't be told from the picture; the networks learn to do without it
    (`augment.exposure`).

    Args:
        face: `[h, w, 3]` RGB, cut as a frame says.

    Returns:
        The same array where nothing is to be done, else a new one.
    """
    height, width = face.shape[:2]
    middle = face[height // 4 : max(1, 7 * height // 8), width // 4 : max(1, 3 * width // 4)]
    bright = float(np.percentile(middle @ np.array(LUMINANCE, np.float32), 99))
    if bright >= DARK_BELOW:
        return face
    brightened = np.arange(256) * (BRIGHT_TARGET / max(bright, 1.0))
    table: NDArray[np.uint8] = brightened.round().clip(0, 255).astype(np.uint8)
    return table[face]
