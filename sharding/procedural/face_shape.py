"""The parameters of a face before it is drawn, and the drawing that comes of it.

Convention: in face units, half a face's width is 1, the origin lies between the eyes, x points to
the viewer's right, y down.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sharding.layouts.celebamask import PAINTED

FACE_PARTS: Final = tuple(PAINTED)
"""CelebAMask-HQ's parts in its official order; a part's id on the label map is its index + 1."""

SUPERSAMPLING: Final = 2
"""Length of an image pixel's side, in pixels of the label map."""
HEAD_RADIUS: Final = 1.12
"""Radius of the cylinder that carries the features, in half face widths."""

Floats = NDArray[np.float32]
Points = NDArray[np.float64]
RGB = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """The head's location, (`x_px`, `y_px`) between the eyes, and its direction in radians."""

    scale_px: float
    stretch: float
    """Factor on the face's height, which makes it rounder or longer."""
    x_px: float
    y_px: float
    roll: float
    yaw: float
    pitch: float

    def turn(self, points: Points, lift: Points | float = 0.0) -> Points:
        """Turns features on the front of the head by yaw and pitch.

        Args:
            points: [K, 2], (x, y) as seen from the front, in face units.
            lift: [K] or one number, height over the head's surface in face units.

        Returns:
            [K, 2], in face units.
        """
        angle = np.arcsin(np.clip(points[:, 0] / HEAD_RADIUS, -0.9, 0.9))
        front = np.cos(angle)
        x = HEAD_RADIUS * np.sin(angle + self.yaw) + lift * math.sin(self.yaw)
        y = points[:, 1] * math.cos(self.pitch) + (front + lift) * math.sin(self.pitch)
        return np.stack([x, y], axis=1)

    def lean(self, points: Points) -> Points:
        """Turns an outline of the head, [K, 2] -> [K, 2]: its chin moves, its top stays."""
        down = np.clip(points[:, 1] / 1.8, 0.0, 1.0)
        return points + np.stack([0.5 * self.yaw * down, 0.25 * self.pitch * down], axis=1)

    def to_image(self, points: Points) -> Points:
        """Maps face units to pixels of the image, pixel centres at +0.5: [K, 2] -> [K, 2]."""
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        turned = (points * (1.0, self.stretch)) @ np.array([[cos, sin], [-sin, cos]])
        return np.asarray(turned * self.scale_px + (self.x_px, self.y_px))

    def to_face(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Maps pixels of the image to face units, the inverse of `to_image`; of any shape."""
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        dx, dy = (x - self.x_px) / self.scale_px, (y - self.y_px) / self.scale_px
        face_y = ((cos * dy - sin * dx) / self.stretch).astype(np.float32)
        return cos * dx + sin * dy, face_y


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A face's form and expression, in face units; pairs are (viewer's left, viewer's right)."""

    jaw: float
    chin: float
    eye_apart: float
    eye_width: float
    eye_open: tuple[float, float]
    eye_slant: float
    gaze: tuple[float, float]
    brow_height: tuple[float, float]
    brow_length: float
    brow_thick: float
    brow_arch: float
    brow_tilt: float
    nose_width: float
    nose_length: float
    mouth_height: float
    mouth_width: float
    mouth_open: float
    """Gap between the lips; 0 is closed, without an inner mouth."""
    smile: float
    mouth_skew: float
    upper_lip: float
    lower_lip: float
    teeth: bool


@dataclass(frozen=True, kw_only=True)
class Style:
    """The hair and what is worn, in face units."""

    bald: bool
    hair_length: float
    """y down to which hair falls beside the face; hair below 0 is short."""
    hair_volume: float
    hairline: float
    """y of the hairline in the middle."""
    fringe: float
    """Length by which the hair hangs down at one side; 0 is none, 0.8 reaches the brow."""
    fringe_side: int
    side_cover: tuple[float, float]
    beard: float
    """Opacity of the beard; 0 is none."""
    hat: bool
    earrings: bool
    necklace: bool
    glasses: bool
    sunglasses: bool
    lens: tuple[float, float]
    frame_width: float


@dataclass(frozen=True, kw_only=True)
class Look:
    """The colours (RGB, 0 to 255), the light and the camera."""

    skin: RGB
    hair: RGB
    brow: RGB
    brow_opacity: float
    iris: RGB
    lips: RGB
    makeup: RGB
    makeup_opacity: float
    cloth: RGB
    hat: RGB
    frame: RGB
    light: tuple[float, float, float]
    """Direction to the light: x to the viewer's right, y down, z to the viewer."""
    ambient: float
    gain: float
    tint: RGB
    greyscale: bool
    blur: float
    """Radius of the final blur as a fraction of the face's half width."""
    noise: float
    """Standard deviation of the sensor noise, 0 to 255."""
    jpeg_quality: int


@dataclass(frozen=True, kw_only=True)
class Face:
    """Everything about a face that is fixed before it is drawn."""

    size_px: tuple[int, int]
    """Width and height of the image."""
    pose: Pose
    shape: Shape
    style: Style
    look: Look


@dataclass(frozen=True)
class Drawing:
    """A drawn face.

    Attributes:
        image: [H, W, 3], uint8, RGB.
        parts: [2H, 2W], uint8, supersampled: 0, or a part's index in `FACE_PARTS` + 1.
    """

    image: NDArray[np.uint8]
    parts: NDArray[np.uint8]
