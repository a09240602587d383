"""One procedural face: its parameters, and the drawing of its photograph and of its label map.

Coordinates of a face: the unit is half its width, the origin lies between the eyes, x to the
viewer's right, y down. Every shape is drawn once, on the image and on the label map, so that the
labels are those of what lies on top.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

FACE_PARTS: Final = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth",
    "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
"""CelebAMask-HQ's parts in its official order; a part's id on the label map is its place + 1."""

SUPERSAMPLING: Final = 2
HEAD_RADIUS: Final = 1.12
"""Radius of the cylinder that carries the features, in half face widths."""
SHADE_PX: Final = 150
"""Longest side of the coarse grid on which light is computed; it is smooth, so it is enlarged."""
MIN_BLUR_PX: Final = 0.3
"""A smaller radius leaves no trace beside the antialiasing."""
CURVE_POINTS: Final = 25
BLACK: Final = (0.0, 0.0, 0.0)
WHITE: Final = (255.0, 255.0, 255.0)
GOLD: Final = (228.0, 208.0, 150.0)
HAIR_SHADOW: Final = (15.0, 8.0, 5.0)

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


def smooth(points: Sequence[tuple[float, float]], *, closed: bool = True) -> Points:
    """A Catmull-Rom curve through the points: K of them -> [8K, 2] (open: [8(K - 1), 2])."""
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
    """The outline of a line [K, 2] with a half width (one, or [K]): [2K, 2]."""
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    offset = normal * np.broadcast_to(half_width, len(line))[:, None]
    return np.concatenate([line + offset, (line - offset)[::-1]])


def ellipse(x: float, y: float, rx: float, ry: float, power: float = 2.0) -> Points:
    """A (super)ellipse around (x, y): [32, 2]."""
    angle = np.linspace(0.0, 2 * np.pi, 32, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    round_x = np.sign(cos) * np.abs(cos) ** (2 / power)
    round_y = np.sign(sin) * np.abs(sin) ** (2 / power)
    outline: Points = np.stack([x + rx * round_x, y + ry * round_y], axis=1)
    return outline


def shifted(points: Points, x: float, y: float) -> Points:
    """The points moved by (x, y): [K, 2] -> [K, 2]."""
    return np.asarray(points + np.array([x, y]))


def mirrored(half: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A closed outline from its right half, listed from top to bottom, both ends on the axis."""
    return [*half, *((-x, y) for x, y in reversed(half[1:-1]))]


class Canvas:
    """An image [H, W, 3] and its label map [2H, 2W], painted together in a face's turned units."""

    def __init__(self, face: Face, rng: np.random.Generator) -> None:
        """Start from the face's background, with nothing labelled."""
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
        """Fill an outline.

        Args:
            outline: [K, 2], (x, y) in turned face units.
            colour: RGB, 0 to 255, before light.
            part: the part that it is labelled as; without one it leaves the labels alone.
            opacity: 0 to 1.
            blur: softens the image's edge, in face units; that of the label map stays.
            lit: share of the light on the head that falls on it, 0 to 1.
            texture: [H, W], a factor on the colour.
            within: [K, 2], a second outline that it does not leave.
        """
        outline, blur_px = self.pose.to_image(outline), blur * self.pose.scale_px
        height, width = self.shade.shape
        low = np.floor(outline.min(axis=0) - 3 * blur_px - 1).astype(int)
        high = np.ceil(outline.max(axis=0) + 3 * blur_px + 1).astype(int)
        x0, y0 = max(0, low[0]), max(0, low[1])
        x1, y1 = min(width, high[0]), min(height, high[1])
        if x0 >= x1 or y0 >= y1:
            return
        mask = _polygon(outline, x0, y0, x1, y1)
        if within is not None:
            inside = _polygon(self.pose.to_image(within), x0, y0, x1, y1)
            mask = ImageChops.darker(mask, inside)
        if part is not None:
            box = [edge * SUPERSAMPLING for edge in (x0, y0, x1, y1)]
            self.parts.paste(FACE_PARTS.index(part) + 1, (box[0], box[1], box[2], box[3]), mask)
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
    """An outline in pixels, filled with 255 on a supersampled mask of a box of the image."""
    mask = Image.new("L", ((x1 - x0) * SUPERSAMPLING, (y1 - y0) * SUPERSAMPLING))
    corners = (outline - (x0, y0)) * SUPERSAMPLING - 0.5
    ImageDraw.Draw(mask).polygon(corners.ravel().tolist(), fill=255)
    return mask


def enlarge(field: NDArray[Any], height: int, width: int) -> Floats:
    """A coarse field [h, w] to [height, width], float32."""
    coarse = Image.fromarray(field.astype(np.float32))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def noise(rng: np.random.Generator, size: tuple[int, int], cell_px: int, spread: float) -> Floats:
    """Smooth noise around 1: [H, W], float32, with spots of about `cell_px` pixels."""
    height, width = size
    coarse = rng.normal(1.0, spread, (height // cell_px + 2, width // cell_px + 2))
    return enlarge(coarse, height, width)


def strands(face: Face, rng: np.random.Generator) -> Floats:
    """Hair's texture, streaks that fall from the crown: a factor [H, W], float32."""
    width, height = face.size_px
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    x, y = face.pose.to_face(xs, ys)
    angle = np.arctan2(x * 1.3, y + 1.8 + 0.25 * np.abs(x))
    fine, broad = rng.normal(0.0, 1.0, 300), rng.normal(0.0, 1.0, 50)
    place = angle / (2 * np.pi) + 0.5
    streak = 0.12 * np.interp(place * 299, np.arange(300), fine)
    streak += 0.14 * np.interp(place * 49, np.arange(50), broad)
    texture: Floats = np.clip(1 + streak, 0.35, 1.9).astype(np.float32)
    return texture


def bumps(face: Face) -> list[tuple[float, float, float, float, float]]:
    """Hills and hollows of the face that light shows: (x, y, x radius, y radius, height)."""
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
    """Light on an egg with the face's bumps (Lambert): a factor [H, W], float32."""
    width, height = face.size_px
    step = max(1.0, max(width, height) / SHADE_PX)
    ys, xs = np.mgrid[0 : math.ceil(height / step), 0 : math.ceil(width / step)].astype(np.float32)
    x, y = face.pose.to_face((xs + 0.5) * step, (ys + 0.5) * step)
    surface = np.sqrt(np.maximum(0.02, 1.35 - x**2 - (0.62 * (y - 0.2)) ** 2))
    for bump_x, bump_y, rx, ry, rise in bumps(face):
        centre_x, centre_y = map(
            float, face.pose.turn(np.array([[bump_x, bump_y]]), max(0.0, rise))[0]
        )
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
    """A blurred clutter of shapes, many in a face's colours: [H, W, 3], float32, 0 to 255."""
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
    """A random colour, seldom a strong one."""
    grey = rng.uniform(15, 235)
    red, green, blue = grey + rng.uniform(0.05, 0.65) * (rng.uniform(0, 255, 3) - grey)
    return float(red), float(green), float(blue)


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """`share` of the second colour, the rest of the first."""
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(first, second, strict=True))
    return red, green, blue


def darker(colour: RGB, factor: float) -> RGB:
    """The colour times a factor."""
    return mix((0.0, 0.0, 0.0), colour, factor)


def draw_face(face: Face, rng: np.random.Generator) -> Drawing:
    """Draw a face from back to front; `rng` gives only textures, clutter and noise."""
    canvas = Canvas(face, rng)
    draw_body(canvas, face)
    draw_head(canvas, face)
    draw_mouth(canvas, face)
    draw_nose(canvas, face)
    for side in (-1, 1):
        draw_eye(canvas, face, side)
        draw_brow(canvas, face, side)
    draw_hair(canvas, face)
    if face.style.hat:
        draw_hat(canvas, face)
    if face.style.glasses:
        draw_glasses(canvas, face)
    return Drawing(photograph(canvas.image, face, rng), np.array(canvas.parts))


def draw_body(canvas: Canvas, face: Face) -> None:
    """Hair behind the head, neck, clothes, necklace."""
    pose, style, look = face.pose, face.style, face.look
    if not style.bald and style.hair_length > 0:
        wide, low = 1.15 + style.hair_volume, style.hair_length
        half = [(0.0, -1.7 - style.hair_volume * 0.6), (0.7, -1.55), (wide, -0.7)]
        half += [(wide + 0.05, 0.3), (wide + 0.05, low), (0.4, low + 0.15), (0.0, low)]
        back = pose.lean(smooth(mirrored(half)))
        canvas.fill(back, darker(look.hair, 0.6), "hair", texture=canvas.strands, lit=0.3)
    chin = 1.8 + face.shape.chin
    half = [(0.0, 1.0), (0.62, 1.0), (0.62, chin + 0.2), (0.8, chin + 1.2), (0.0, chin + 1.2)]
    neck = smooth(mirrored(half))
    canvas.fill(neck, darker(look.skin, 0.8), "neck", lit=0.4, texture=canvas.grain)
    collar = chin + 0.42
    half = [(0.0, collar + 0.25), (0.6, collar - 0.1), (1.5, collar + 0.2), (2.6, collar + 0.8)]
    cloth = smooth(mirrored([*half, (2.8, 6.0), (0.0, 6.0)]))
    canvas.fill(cloth, look.cloth, "cloth", lit=0.0, texture=canvas.grain)
    if style.necklace:
        beads = [(-0.66, collar - 0.25), (0.0, collar + 0.1), (0.66, collar - 0.25)]
        line = smooth(beads, closed=False)
        canvas.fill(ribbon(line, 0.035), GOLD, "neck_l", lit=0.0)


def face_outline(face: Face) -> Points:
    """The outline of the face, [K, 2], leaning."""
    jaw, chin = face.shape.jaw, face.shape.chin
    half = [(0.0, -1.5), (0.5, -1.42), (0.86, -1.0), (0.98, -0.45), (1.0, 0.05)]
    half += [(0.94 + 0.5 * jaw, 0.55), (0.76 + jaw, 1.12), (0.46 + 1.2 * jaw, 1.6 + chin)]
    half += [(0.18, 1.83 + chin), (0.0, 1.86 + chin)]
    return face.pose.lean(smooth(mirrored(half)))


def draw_head(canvas: Canvas, face: Face) -> None:
    """Ears, skin, beard."""
    look = face.look
    for side, name in ((-1, "r_ear"), (1, "l_ear")):
        x = side * 1.02 - 0.3 * face.pose.yaw  # the ear that looks at the viewer moves in
        ear, hollow = ellipse(x, 0.22, 0.15, 0.33), ellipse(x + side * 0.03, 0.22, 0.07, 0.2)
        canvas.fill(ear, darker(look.skin, 0.92), name, lit=0.6, texture=canvas.grain)
        canvas.fill(hollow, darker(look.skin, 0.6), blur=0.04, opacity=0.7)
        if face.style.earrings:
            canvas.fill(ellipse(x, 0.66, 0.06, 0.12), GOLD, "ear_r", lit=0.0)
    skin = face_outline(face)
    canvas.fill(shifted(skin, 0.0, 0.1), BLACK, opacity=0.45, blur=0.1)
    canvas.fill(skin, look.skin, "skin", texture=canvas.grain)
    flush = darker(mix(look.skin, (225.0, 60.0, 60.0), 0.3), 0.95)
    for side in (-1, 1):
        cheek = face.pose.turn(ellipse(side * 0.6, 0.55, 0.25, 0.2))
        canvas.fill(cheek, flush, blur=0.12, opacity=0.2 + 0.5 * look.makeup_opacity)
    if face.style.beard > 0:
        mouth, opacity = face.shape.mouth_height, face.style.beard
        half = [(0.0, mouth - 0.32), (0.35, mouth - 0.26), (0.62, mouth + 0.1), (0.92, 0.35)]
        beard = face.pose.lean(smooth(mirrored([*half, (1.3, 0.9), (0.9, 2.4), (0.0, 2.4)])))
        canvas.fill(beard, look.brow, opacity=opacity, blur=0.05, texture=canvas.grain, within=skin)


def draw_nose(canvas: Canvas, face: Face) -> None:
    """The nose differs from the skin by light, shadow and nostrils alone."""
    look, shape, turn = face.look, face.shape, face.pose.turn
    wide, low = shape.nose_width, shape.nose_length

    def lifted(points: Points) -> Points:
        middle = np.clip(1 - np.abs(points[:, 0]) / (1.3 * wide), 0, 1)
        return turn(points, 0.3 * middle * np.clip(points[:, 1] / low, 0, 1))

    half = [(0.0, -0.08), (0.11, -0.05), (0.13, 0.2), (0.60 * wide, 0.6 * low), (wide, 0.83 * low)]
    half += [(0.93 * wide, 0.97 * low), (0.5 * wide, low + 0.03), (0.0, low + 0.07)]
    nose = lifted(smooth(mirrored(half)))
    side = -1.0 if look.light[0] > 0 else 1.0
    shadow = darker(look.skin, 0.45)
    strength = 0.15 + 0.45 * (1 - look.ambient)
    canvas.fill(shifted(nose, side * 0.09, 0.05), shadow, blur=0.07, opacity=strength)
    flesh = mix(look.skin, (215.0, 90.0, 80.0), 0.07)
    canvas.fill(nose, flesh, "nose", blur=0.05, texture=canvas.grain)
    flank = np.array([(0.05, 0.1), (0.12, 0.1), (0.75 * wide, 0.7 * low), (0.4 * wide, 0.75 * low)])
    canvas.fill(lifted(flank * (side, 1.0)), shadow, blur=0.05, opacity=0.6 * strength)
    canvas.fill(lifted(ellipse(0.0, low + 0.02, 0.7 * wide, 0.05)), shadow, blur=0.03, opacity=0.55)
    for x in (-1.0, 1.0):
        wing = np.array([(0.85, 0.72), (1.02, 0.83), (0.95, 0.97), (0.8, 1.0)]) * (x * wide, low)
        canvas.fill(lifted(ribbon(wing, 0.02)), shadow, blur=0.02, opacity=0.45)
        nostril = ellipse(x * 0.48 * wide, low - 0.03, 0.27 * wide, 0.045)
        canvas.fill(lifted(nostril), darker(look.skin, 0.22), blur=0.015, opacity=0.85)
    shine = mix(look.skin, WHITE, 0.6)
    tip = ellipse(-side * 0.04, low - 0.17, 0.06, 0.06)
    canvas.fill(lifted(tip), shine, blur=0.04, opacity=0.35)
    ridge = ribbon(np.array([(0.0, 0.1), (-side * 0.02, 0.6 * low)]), 0.03)
    canvas.fill(lifted(ridge), shine, blur=0.04, opacity=0.25)


def mouth_curves(shape: Shape) -> tuple[Points, Points, Points, Points]:
    """The lips' four edges from top to bottom, each [25, 2] from the viewer's left to right."""
    t = np.linspace(-1.0, 1.0, CURVE_POINTS)
    bulge = 1 - t**2
    middle = shape.mouth_height - shape.smile * t**2 + shape.mouth_skew * t + 0.02 * bulge
    bow = 1 - 0.28 * np.exp(-((t / 0.16) ** 2))
    inner_top = middle - 0.35 * shape.mouth_open * bulge
    inner_low = middle + 0.65 * shape.mouth_open * bulge**0.8
    top = inner_top - shape.upper_lip * (1 - np.abs(t) ** 1.6) * bow
    low = inner_low + shape.lower_lip * (1 - np.abs(t) ** 2.4)
    top, inner_top, inner_low, low = (
        np.stack([shape.mouth_width * t, y], axis=1) for y in (top, inner_top, inner_low, low)
    )
    return top, inner_top, inner_low, low


def draw_mouth(canvas: Canvas, face: Face) -> None:
    """Lips, what is seen between them, and the folds beside them."""
    look, shape, turn = face.look, face.shape, face.pose.turn
    top, inner_top, inner_low, low = (turn(curve, 0.06) for curve in mouth_curves(shape))
    whole, upper = np.concatenate([top, low[::-1]]), np.concatenate([top, inner_top[::-1]])
    shadow = darker(look.skin, 0.45)
    canvas.fill(shifted(whole, 0.0, 0.09), shadow, blur=0.08, opacity=0.35)
    canvas.fill(whole, look.lips, "l_lip", blur=0.012, texture=canvas.grain)
    canvas.fill(upper, darker(look.lips, 0.82), "u_lip", blur=0.012, texture=canvas.grain)
    shine_y = shape.mouth_height + 0.65 * shape.mouth_open + 0.5 * shape.lower_lip
    shine = turn(ellipse(0.0, shine_y, 0.14, 0.025), 0.06)
    canvas.fill(shine, WHITE, blur=0.025, opacity=0.25)
    if shape.mouth_open > 0:
        draw_inner_mouth(canvas, face, inner_top, inner_low)
    else:
        canvas.fill(ribbon(inner_top, 0.012), darker(look.lips, 0.35), blur=0.012, opacity=0.8)
    depth = 0.12 + 1.6 * max(0.0, shape.smile)
    fold = [(1.1 * shape.nose_width, shape.nose_length - 0.1), (0.5, 0.9)]
    fold += [(shape.mouth_width + 0.1, shape.mouth_height)]
    for side in (-1.0, 1.0):
        line = turn(smooth([(side * x, y) for x, y in fold], closed=False))
        canvas.fill(ribbon(line, 0.02), shadow, blur=0.03, opacity=depth)


def draw_inner_mouth(canvas: Canvas, face: Face, top: Points, low: Points) -> None:
    """A dark mouth with tongue and teeth, between the lips' inner edges, both [K, 2]."""
    shape = face.shape
    inner = np.concatenate([top, low[::-1]])
    canvas.fill(inner, (62.0, 18.0, 20.0), "mouth", lit=0.4)
    middle = shape.mouth_height + 0.6 * shape.mouth_open
    tongue = face.pose.turn(ellipse(0.0, middle, 0.25, 0.35 * shape.mouth_open), 0.03)
    canvas.fill(tongue, (165.0, 70.0, 75.0), within=inner, blur=0.02, opacity=0.8, lit=0.5)
    if shape.teeth:
        depth = min(0.12, 0.7 * shape.mouth_open)
        teeth = np.concatenate([shifted(top, 0.0, -depth), shifted(top, 0.0, depth)[::-1]])
        canvas.fill(teeth, (232.0, 226.0, 212.0), within=inner, blur=0.012, lit=0.6)


def draw_eye(canvas: Canvas, face: Face, side: int) -> None:
    """One eye, at the viewer's left (-1) or right (1), with its socket, lids and lashes."""
    look, shape, turn = face.look, face.shape, face.pose.turn
    t = np.linspace(-1.0, 1.0, CURVE_POINTS)
    opening = shape.eye_open[(side + 1) // 2]
    middle = -shape.eye_slant * side * t
    x = side * shape.eye_apart + shape.eye_width * t
    upper = np.stack([x, middle - opening * (1 - np.abs(t) ** 2.2)], axis=1)
    lower = np.stack([x, middle + (0.035 + 0.35 * opening) * (1 - t**2)], axis=1)
    ball = turn(np.concatenate([upper, lower[::-1]]))
    around = turn(ellipse(side * shape.eye_apart, -0.08, shape.eye_width * 1.25, 0.17))
    canvas.fill(around, look.makeup, blur=0.06, opacity=look.makeup_opacity)
    crease = shifted(upper, 0.0, 0.1 * opening - 0.084)
    canvas.fill(turn(ribbon(crease, 0.013)), darker(look.skin, 0.4), blur=0.015, opacity=0.5)
    lash = np.interp(side * t, (-1, 1), (0.008, 0.03))
    canvas.fill(turn(ribbon(upper, lash)), darker(look.brow, 0.4), blur=0.008, opacity=0.9, lit=0.3)
    canvas.fill(turn(ribbon(lower, 0.008)), darker(look.skin, 0.4), blur=0.012, opacity=0.6)
    name = "l_eye" if side > 0 else "r_eye"
    canvas.fill(ball, (222.0, 216.0, 212.0), name, blur=0.006, lit=0.8)
    centre = np.array([(side * shape.eye_apart + shape.gaze[0], shape.gaze[1] - 0.02)])
    iris_x, iris_y = map(float, turn(centre)[0])
    rings = ((0.105, darker(look.iris, 0.55)), (0.085, look.iris), (0.044, (12.0, 10.0, 10.0)))
    for radius, colour in rings:
        round_iris = ellipse(iris_x, iris_y, radius, radius / face.pose.stretch)
        canvas.fill(round_iris, colour, within=ball, lit=0.5)
    canvas.fill(turn(ribbon(upper, 0.03)), (20.0, 12.0, 10.0), within=ball, blur=0.02, opacity=0.5)
    glint = ellipse(iris_x + 0.04 * look.light[0], iris_y - 0.035, 0.022, 0.022)
    canvas.fill(glint, WHITE, within=ball, lit=0.0, opacity=0.85)


def draw_brow(canvas: Canvas, face: Face, side: int) -> None:
    """One brow: a tapering band of hair whose ends fade."""
    shape, look = face.shape, face.look
    t = np.linspace(0.0, 1.0, CURVE_POINTS)
    height = shape.brow_height[(side + 1) // 2]
    x = side * (shape.eye_apart - shape.eye_width - 0.06 + shape.brow_length * t)
    arch = shape.brow_arch * np.sin(np.pi * np.minimum(1.0, 0.85 * t + 0.05))
    y = height - arch + shape.brow_tilt * (0.5 - t)
    half_width = shape.brow_thick * (0.55 + 0.75 * t) * (1 - 0.9 * t**2.5)
    outline = face.pose.turn(ribbon(np.stack([x, y], axis=1), half_width))
    name = "l_brow" if side > 0 else "r_brow"
    colour = mix(look.skin, look.brow, look.brow_opacity)
    canvas.fill(outline, colour, name, blur=0.022, texture=canvas.grain)
    core = face.pose.turn(ribbon(np.stack([x, y], axis=1), half_width * 0.55))
    canvas.fill(core, look.brow, blur=0.02, opacity=0.6 * look.brow_opacity, texture=canvas.strands)


def front_hair(face: Face) -> Points:
    """The outline of the hair from the crown to its edge on the forehead, [K, 2]."""
    style, pose = face.style, face.pose
    x = np.linspace(0.98, -0.98, 41)
    edge = style.hairline + 0.75 * (-0.35 - style.hairline) * np.abs(x) ** 3
    sweep = np.clip((x * style.fringe_side + 0.55) / 1.2, 0.0, 1.0)
    edge = edge + style.fringe * sweep**0.8
    edge = edge + 0.05 * np.sin(x * 23 + style.hairline * 40) * np.cos(x * 9) * (0.4 + style.fringe)
    inner = pose.turn(np.stack([x, edge], axis=1))
    crown, wide = 1.68 + 0.7 * style.hair_volume, 1.03 + 0.6 * style.hair_volume
    half = [(-wide, 0.0), (-wide - 0.02, -0.6), (-0.85 * wide, -1.15), (-0.5, 0.12 - crown)]
    outer = [*half, (0.0, -crown), *((-x, y) for x, y in reversed(half))]
    return np.concatenate([pose.lean(smooth(outer, closed=False)), inner])


def falling_hair(face: Face, side: int) -> Points:
    """The outline of long hair at one side of the face, over its edge, [K, 2]."""
    style = face.style
    cover, low = style.side_cover[(side + 1) // 2], style.hair_length
    wide = 1.03 + 0.6 * style.hair_volume
    outer = [(0.5, -1.35), (1.0, -1.05), (wide + 0.1, -0.4), (wide + 0.22, low * 0.6)]
    inner = [(1.0, low + 0.1), (0.97, 0.8), (0.93, 0.1), (0.9, -0.6)]
    outline = [*outer, (wide + 0.15, low), *((x - cover, y) for x, y in inner)]
    return face.pose.lean(smooth([(side * x, y) for x, y in outline]))


def draw_hair(canvas: Canvas, face: Face) -> None:
    """Hair over the forehead and, where long, down the sides; it throws a soft shadow."""
    style, colour = face.style, face.look.hair
    if style.bald:
        return
    layers = [(front_hair(face), colour)]
    if style.hair_length > 0:
        layers += [(falling_hair(face, side), darker(colour, 0.9)) for side in (-1, 1)]
    skin = face_outline(face)
    for outline, _ in layers:
        shadow = shifted(outline, 0.0, 0.06)
        canvas.fill(shadow, HAIR_SHADOW, blur=0.06, opacity=0.35, within=skin)
    for outline, shade in layers:
        canvas.fill(outline, shade, "hair", texture=canvas.strands, lit=0.5)


def draw_hat(canvas: Canvas, face: Face) -> None:
    """A hat with a band, over hair and forehead."""
    lean, colour = face.pose.lean, face.look.hat
    low = face.style.hairline * 0.3 - 0.5
    half = [(0.0, -2.15), (0.6, -2.0), (1.08, -1.4), (1.12, -0.72), (0.6, low - 0.08), (0.0, low)]
    dome = lean(smooth(mirrored(half)))
    shadow, skin = shifted(dome, 0.0, 0.08), face_outline(face)
    canvas.fill(shadow, BLACK, opacity=0.4, blur=0.06, within=skin)
    canvas.fill(dome, colour, "hat", lit=0.4, texture=canvas.grain)
    half = [(0.0, low - 0.25), (1.1, -1.0), (1.12, -0.75), (0.0, low + 0.02)]
    canvas.fill(lean(smooth(mirrored(half))), darker(colour, 0.6), "hat", lit=0.4)


def draw_glasses(canvas: Canvas, face: Face) -> None:
    """Glasses, of which the frame and dark lenses hide what is under them."""
    style, colour, turn = face.style, face.look.frame, face.pose.turn
    width, gap = style.frame_width, 0.5 - style.lens[0]
    for side in (-1.0, 1.0):
        lens = turn(ellipse(side * 0.5, 0.03, *style.lens, 2.8), 0.1)
        if style.sunglasses:
            canvas.fill(lens, darker(colour, 0.25), "eye_g", lit=0.4)
        glare = lens * 0.6 + 0.4 * lens[20]
        canvas.fill(glare, WHITE, opacity=0.13, blur=0.08, within=lens, lit=0.0)
        rim = ribbon(np.concatenate([lens, lens[:2]]), width)
        temple = np.array([(side * (0.98 - gap), -0.08), (side * 1.0, -0.12)])
        canvas.fill(rim, colour, "eye_g", lit=0.3)
        canvas.fill(ribbon(turn(temple, 0.05), width), colour, "eye_g", lit=0.3)
    bridge = turn(smooth([(-gap, -0.02), (0.0, -0.08), (gap, -0.02)], closed=False), 0.1)
    canvas.fill(ribbon(bridge, width), colour, "eye_g", lit=0.3)


def photograph(image: Floats, face: Face, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Camera: tint, blur, sensor noise. [H, W, 3], float32, to the same as uint8."""
    tinted = np.clip(image * np.asarray(face.look.tint, dtype=np.float32), 0, 255)
    blurred = Image.fromarray(tinted.astype(np.uint8))
    if face.look.greyscale:
        blurred = blurred.convert("L").convert("RGB")
    radius = face.look.blur * face.pose.scale_px
    if radius > MIN_BLUR_PX:
        blurred = blurred.filter(ImageFilter.GaussianBlur(radius))
    grain = rng.standard_normal(image.shape[:2], dtype=np.float32) * np.float32(face.look.noise)
    noisy = np.asarray(blurred) + grain[..., None]
    return np.asarray(np.clip(noisy, 0, 255).astype(np.uint8))
