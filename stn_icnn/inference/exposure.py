"""Faces that are far too dark or overexposed, brought nearer to the light of training faces."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

LUMINANCE: Final = (0.299, 0.587, 0.114)
"""The share of red, green and blue in a pixel's luminance."""

DARK_BELOW: Final = 110.0
"""A face is too dark if 99 % of its middle has less luminance. Of 400 faces of CelebAMask-HQ the
least is 125; in a quarter of the light the most is 63."""
BRIGHT_TARGET: Final = 214.0
"""That luminance of the median face, to which one that is too dark is brought."""

CLIPPED_FROM: Final = 253
"""A channel is clipped from here on; JPEG takes some from white."""
OVEREXPOSED_SHARE: Final = 0.33
"""A face is overexposed if red is clipped in so much of its middle. Of the same faces the most is
0.316; of 100 whose light was multiplied by 1.8 and clipped, the median is 0.69, and 95 exceed
0.35."""
RED_TO_BLUE: Final = 1.6
GREEN_TO_BLUE: Final = 1.2
"""The ratios of skin, by which clipped red and green are told from blue, which is clipped last."""
OVEREXPOSURE: Final = 1.2
"""What an overexposed face is divided by, to make room for them."""


def even_exposure(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brightens a face that is far too dark, and restores the colours of an overexposed one.

    On 100 validation faces of CelebAMask-HQ, F1 `overall` of the model that comes along is 0.925;
    in a quarter of the light 0.754, with this step 0.924; with 1.8 times the light, clipped, 0.883
    and 0.896. Gamma curves instead do less: 0.815 and 0.884. None of 400 such faces as they are is
    changed.

    Args:
        face: `[h, w, 3]` RGB, cut as a frame says.

    Returns:
        The same array where nothing is to be done, else a new one.
    """
    height, width = face.shape[:2]
    middle = face[height // 4 : max(1, 7 * height // 8), width // 4 : max(1, 3 * width // 4)]
    bright = float(np.percentile(middle @ np.array(LUMINANCE, np.float32), 99))
    if bright < DARK_BELOW:
        gain = BRIGHT_TARGET / max(bright, 1.0)
        return _mapped(np.arange(256) * gain)[face]
    if (middle[..., 0] >= CLIPPED_FROM).mean() > OVEREXPOSED_SHARE:
        return _restored(face)
    return face


def _restored(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Sets clipped red and green to what skin of the same blue has, and makes all darker."""
    values = np.arange(256) / OVEREXPOSURE
    restored = _mapped(values)[face]
    for channel, ratio in enumerate((RED_TO_BLUE, GREEN_TO_BLUE)):
        clipped = face[..., channel] >= CLIPPED_FROM
        of_skin = _mapped(values * ratio)[face[..., 2][clipped]]
        restored[clipped, channel] = np.maximum(restored[clipped, channel], of_skin)
    return restored


def _mapped(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Rounds a table of 256 values to 8 bits."""
    return values.round().clip(0, 255).astype(np.uint8)
