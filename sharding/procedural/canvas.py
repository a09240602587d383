"""The canvas of a face, and what it is painted with: smooth outlines, colours, light, textures.

Every shape is painted on the image and on the label map alike, so that a pixel's label is that of
the shape on top.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from sharding.procedural.face_shape import FACE_PARTS, RGB, SUPERSAMPLING, Face, Floats, Points

SHADE_PX: Final = 150
"""Longest side of the coarse grid on which light, which is smooth, is computed and enlarged."""
MIN_BLUR_PX: Final = 0.3
"""A smaller radius leaves no trace beside the antialiasing."""


def smooth(points: Sequence[tuple[float, float]], *, closed: bool = True) -> Points:
    """Returns a Catmull-Rom curve through K points: [8K, 2], or [8(K - 1), 2] where it is open."""
    p = np.asarray(points, dtype=np.float64)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0.0, 1.0, 8, endpoint=False)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.asarray(curve.reshape(-1, 2))


def ribbon(line: Points, half_width: Points | float) -> Points:
    """Returns the outline, [2K, 2], of a line [K, 2] with one half width or [K] of them."""
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    offset = normal * np.broadcast_to(half_width, len(line))[:, None]
    return np.concatenate([line + offset, (line - offset)[::-1]])


def ellipse(x: float, y: float, rx: float, ry: float, power: float = 2.0) -> Points:
    """Returns the outline of a (super)ellipse around (x, y): [32, 2]."""
    angle = np.linspace(0.0, 2 * np.pi, 32, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    round_x = np.sign(cos) * np.abs(cos) ** (2 / power)
    round_y = np.sign(sin) * np.abs(sin) ** (2 / power)
    outline: Points = np.stack([x + rx * round_x, y + ry * round_y], axis=1)
    return outline


def shifted(points: Points, x: float, y: float) -> Points:
    """Moves points by (x, y): [K, 2] -> [K, 2]."""
    return np.asarray(points + np.array([x, y]))


def mirrored(half: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Completes an outline, listed from top to bottom, by the mirror image of its right half."""
    return [*half, *((-x, y) for x, y in reversed(half[1:-1]))]


class Canvas:
    """An image [H, W, 3] and its label map [2H, 2W], painted together in turned face units."""

    def __init__(self, face: Face, rng: np.random.Generator) -> None:
        """Starts from the face's background, with nothing labelled."""
        width, height = face.size_px
        self.pose = face.pose
        self.parts = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
        self.image = background(face, rng)
        self.shade = light_on_head(face)
        self.grain = noise(rng, (height, width), 2, 0.04) * noise(rng, (height, width), 14, 0.025)
        self.strands = strands(face, rng)

    def fill(
        self,
        outline: Points,
        colour: RGB,
        part: str | None = None,
        *,
        opacity: float = 1.0,
        blur: float = 0.0,
        lit: float = 1.0,
        texture: Floats | None = None,
        within: Points | None = None,
    ) -> None:
        """Fills an outline.

        Args:
            outline: [K, 2], (x, y) in turned face units.
            colour: RGB, 0 to 255, before light.
            part: the part that it is labelled as; without one the labels do not change.
            opacity: 0 to 1.
            blur: radius in face units that softens the edge in the image, not in the label map.
            lit: share of the light on the head that falls on it, 0 to 1.
            texture: [H, W], a factor on the colour.
            within: [K, 2], a second outline; nothing is painted outside it.
        """
        outline, blur_px = self.pose.to_image(outline), blur * self.pose.scale_px
        low = np.floor(outline.min(axis=0) - 3 * blur_px - 1)
        high = np.ceil(outline.max(axis=0) + 3 * blur_px + 1)
        x0, y0, x1, y1 = np.clip([low, high], 0, self.shade.shape[::-1]).astype(int).ravel()
        if x0 >= x1 or y0 >= y1:
            return
        mask = _polygon(outline, x0, y0, x1, y1)
        if within is not None:
            inside = _polygon(self.pose.to_image(within), x0, y0, x1, y1)
            mask = ImageChops.darker(mask, inside)
        if part is not None:
            corner = (x0 * SUPERSAMPLING, y0 * SUPERSAMPLING)
            self.parts.paste(FACE_PARTS.index(part) + 1, corner, mask)
        alpha = mask.reduce(SUPERSAMPLING)
        if blur_px > MIN_BLUR_PX:
            alpha = alpha.filter(ImageFilter.GaussianBlur(blur_px))
        cover = np.asarray(alpha, dtype=np.float32)[..., None] * (opacity / 255)
        factor = 1 + lit * (self.shade[y0:y1, x0:x1] - 1)
        if texture is not None:
            factor = factor * texture[y0:y1, x0:x1]
        region = self.image[y0:y1, x0:x1]
        region += cover * (factor[..., None] * np.asarray(colour, dtype=np.float32) - region)


def _polygon(outline: Points, x0: int, y0: int, x1: int, y1: int) -> Image.Image:
    """Fills an outline, in pixels, with 255 on a supersampled mask of a box of the image."""
    mask = Image.new("L", ((x1 - x0) * SUPERSAMPLING, (y1 - y0) * SUPERSAMPLING))
    corners = (outline - (x0, y0)) * SUPERSAMPLING - 0.5
    ImageDraw.Draw(mask).polygon(corners.ravel().tolist(), fill=255)
    return mask


def enlarge(field: NDArray[Any], height: int, width: int) -> Floats:
    """Enlarges a coarse field [h, w] to [height, width], float32."""
    coarse = Image.fromarray(field.astype(np.float32))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def noise(rng: np.random.Generator, size: tuple[int, int], cell_px: int, spread: float) -> Floats:
    """Samples smooth noise around 1, [H, W] float32, with spots of about `cell_px` pixels."""
    height, width = size
    coarse = rng.normal(1.0, spread, (height // cell_px + 2, width // cell_px + 2))
    return enlarge(coarse, height, width)


def strands(face: Face, rng: np.random.Generator) -> Floats:
    """Samples hair's texture, streaks that fall from the crown: a factor, [H, W] float32."""
    width, height = face.size_px
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    x, y = face.pose.to_face(xs, ys)
    angle = np.arctan2(x * 1.3, y + 1.8 + 0.25 * np.abs(x))
    fine, broad = rng.normal(0.0, 1.0, 300), rng.normal(0.0, 1.0, 50)
    turn = angle / (2 * np.pi) + 0.5
    streak = 0.12 * np.interp(turn * 299, np.arange(300), fine)
    streak += 0.14 * np.interp(turn * 49, np.arange(50), broad)
    texture: Floats = np.clip(1 + streak, 0.35, 1.9).astype(np.float32)
    return texture


def bumps(face: Face) -> list[tuple[float, float, float, float, float]]:
    """Returns the face's hills and hollows, each (x, y, x radius, y radius, height)."""
    shape = face.shape
    tip, mouth = shape.nose_length, shape.mouth_height
    apart, wide = shape.eye_apart, shape.nose_width
    pairs = [
        (apart * 0.95, -0.02, 0.26, 0.16, -0.13),
        (apart * 0.95, -0.30, 0.32, 0.09, 0.05),
        (wide * 0.8, tip - 0.08, 0.09, 0.09, 0.07),
        (0.60, 0.48, 0.26, 0.22, 0.09),
        (0.40, mouth - 0.02, 0.07, 0.12, -0.03),
    ]
    return [
        (0.0, tip * 0.45, 0.12, 0.36, 0.20),
        (0.0, tip - 0.14, 0.15, 0.13, 0.18),
        (0.0, mouth, 0.36, 0.15, 0.09),
        (0.0, mouth + 0.27, 0.24, 0.07, -0.05),
        (0.0, mouth + 0.50, 0.27, 0.17, 0.10),
        *((side * x, y, rx, ry, height) for x, y, rx, ry, height in pairs for side in (-1, 1)),
    ]


def light_on_head(face: Face) -> Floats:
    """Computes the light on an egg with the face's bumps (Lambert): a factor, [H, W] float32."""
    width, height = face.size_px
    step = max(1.0, max(width, height) / SHADE_PX)
    ys, xs = np.mgrid[0 : math.ceil(height / step), 0 : math.ceil(width / step)].astype(np.float32)
    x, y = face.pose.to_face((xs + 0.5) * step, (ys + 0.5) * step)
    surface = np.sqrt(np.maximum(0.02, 1.35 - x**2 - (0.62 * (y - 0.2)) ** 2))
    for bump_x, bump_y, rx, ry, rise in bumps(face):
        centre = face.pose.turn(np.array([[bump_x, bump_y]]), max(0.0, rise))
        centre_x, centre_y = centre[0].tolist()
        surface += rise * np.exp(-(((x - centre_x) / rx) ** 2) - ((y - centre_y) / ry) ** 2)
    unit = step / face.pose.scale_px
    down, across = np.gradient(surface, unit)
    # The gradient runs along the image's axes, the light's direction too.
    across, down = np.clip(across, -2.5, 2.5), np.clip(down, -2.5, 2.5)
    light_x, light_y, light_z = face.look.light
    facing = (light_z - across * light_x - down * light_y) / np.sqrt(1 + across**2 + down**2)
    shade = face.look.ambient + (1 - face.look.ambient) * np.maximum(0.0, facing) * face.look.gain
    return enlarge(shade, height, width)


def background(face: Face, rng: np.random.Generator) -> Floats:
    """Draws a blurred clutter of shapes, many in a face's colours: [H, W, 3] float32, 0 to 255."""
    width, height = face.size_px
    look = face.look
    first, second = muted(rng), muted(rng)
    image = Image.new("RGB", (2, 2))
    image.putdata([_rgb(c) for c in (first, second, mix(first, second, 0.5), first)])
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    usual = (look.skin, look.lips, look.brow, look.iris, look.hair, (235.0, 230.0, 225.0))
    for _ in range(int(rng.integers(4, 22))):
        x, y = rng.uniform(-0.1, 1.1, 2) * (width, height)
        rx, ry = rng.uniform(0.03, 0.25) * width, rng.uniform(0.01, 0.2) * height
        colour = _rgb(muted(rng) if rng.random() < 0.5 else usual[rng.integers(6)])
        shape = draw.ellipse if rng.random() < 0.7 else draw.rectangle
        shape((x - rx, y - ry, x + rx, y + ry), fill=colour)
    radius = rng.choice([0.3, 0.02 * width, 0.05 * width])
    image = image.filter(ImageFilter.GaussianBlur(float(radius)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 9))):  # sharp, of a feature's size and colour
        centre = rng.uniform(0, 1, 2) * (width, height)
        rx = rng.uniform(0.1, 0.4) * face.pose.scale_px
        outline = ellipse(centre[0], centre[1], rx, rx * rng.uniform(0.15, 0.7))
        draw.polygon(outline.ravel().tolist(), fill=_rgb(usual[rng.integers(6)]))
    return np.array(image, dtype=np.float32)


def _rgb(colour: RGB) -> tuple[int, int, int]:
    red, green, blue = (int(np.clip(value, 0, 255)) for value in colour)
    return red, green, blue


def muted(rng: np.random.Generator) -> RGB:
    """Samples a colour, seldom a strong one."""
    grey = rng.uniform(15, 235)
    red, green, blue = grey + rng.uniform(0.05, 0.65) * (rng.uniform(0, 255, 3) - grey)
    return float(red), float(green), float(blue)


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """Mixes two colours; `share`, 0 to 1, is that of the second."""
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(first, second, strict=True))
    return red, green, blue


def darker(colour: RGB, factor: float) -> RGB:
    """Multiplies a colour by a factor."""
    return mix((0.0, 0.0, 0.0), colour, factor)
