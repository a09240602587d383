"""What a face is before it is drawn, and the drawing that comes of it: parameters alone.

Coordinates of a face: the unit is half its width, the origin lies between the eyes, x to the
viewer's right, y down.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FACE_PARTS: Final = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth",
    "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
"""CelebAMask-HQ's parts in its official order; a part's id on the label map is its place + 1."""

SUPERSAMPLING: Final = 2
"""Side of an image's pixel in pixels of its label map."""
HEAD_RADIUS: Final = 1.12
"""Radius of the cylinder that carries the features, in half face widths."""

Floats = NDArray[np.float32]
Points = NDArray[np.float64]
RGB = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the head is (`x_px, y_px` is the point between the eyes) and looks, in radians."""

    scale_px: float
    stretch: float
    """Factor on the face's height, so that it is rounder or longer."""
    x_px: float
    y_px: float
    roll: float
    yaw: float
    pitch: float

    def turn(self, points: Points, lift: Points | float = 0.0) -> Points:
        """Turn features of the front of the head: points [K, 2] -> [K, 2], both in face units.

        Args:
            points: (x, y) as seen from the front.
            lift: [K] or one number, height over the head's surface in face units.
        """
        angle = np.arcsin(np.clip(points[:, 0] / HEAD_RADIUS, -0.9, 0.9))
        front = np.cos(angle)
        x = HEAD_RADIUS * np.sin(angle + self.yaw) + lift * math.sin(self.yaw)
        y = points[:, 1] * math.cos(self.pitch) + (front + lift) * math.sin(self.pitch)
        return np.stack([x, y], axis=1)

    def lean(self, points: Points) -> Points:
        """Turn the outline of the head, whose chin alone moves: [K, 2] -> [K, 2]."""
        down = np.clip(points[:, 1] / 1.8, 0.0, 1.0)
        return points + np.stack([0.5 * self.yaw * down, 0.25 * self.pitch * down], axis=1)

    def to_image(self, points: Points) -> Points:
        """Face units to pixels of the image, pixel centres at +0.5: [K, 2] -> [K, 2]."""
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        turned = (points * (1.0, self.stretch)) @ np.array([[cos, sin], [-sin, cos]])
        return np.asarray(turned * self.scale_px + (self.x_px, self.y_px))

    def to_face(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Pixels of the image to face units, the inverse of `to_image`; any equal shapes."""
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        dx, dy = (x - self.x_px) / self.scale_px, (y - self.y_px) / self.scale_px
        face_y = ((cos * dy - sin * dx) / self.stretch).astype(np.float32)
        return cos * dx + sin * dy, face_y


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Form and expression, in face units; pairs are (viewer's left, viewer's right)."""

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
    """Hair and what is worn. Lengths in face units."""

    bald: bool
    hair_length: float
    """y down to which hair falls beside the face; below 0 it is short."""
    hair_volume: float
    hairline: float
    """y of the hairline in the middle."""
    fringe: float
    """How far the hair comes down at one side (0: not), over the brow from about 0.8 on."""
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
    """Colours (RGB, 0 to 255), light and camera."""

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
    """All that is fixed of a face before it is drawn."""

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
        parts: [2H, 2W], uint8: 0 or a part's place in `FACE_PARTS` + 1, supersampled.
    """

    image: NDArray[np.uint8]
    parts: NDArray[np.uint8]
