"""Samples random faces: pose, shape, style and look, from ranges that people have."""

from typing import Final, Literal

import numpy as np

from sharding.procedural.canvas import darker, mix, muted
from sharding.procedural.face_shape import RGB, Face, Look, Pose, Shape, Style

Layout = Literal["celebamask", "helen", "helen-relabeled", "lapa", "folder"]
"""The raw layouts in which faces are drawn. Those of CelebAMask-HQ are framed alike, all others are
of several sizes and zooms, as HELEN's."""

HELEN_SIDES: Final = (0.76, 1.24)
"""Shortest and longest side of a HELEN-like image, as fractions of `size_px`."""
CELEBAMASK_ZOOM: Final = (0.215, 0.265)
HELEN_ZOOM: Final = (0.2, 0.28)
"""Ranges of half a face's width, as a fraction of the image's (mean) side."""
REACH: Final = (1.25, 0.45)
"""Radius and y of the disc, in face units, that holds all inner parts and stays in the image."""

SKINS: Final[tuple[RGB, ...]] = (
    (248, 218, 200), (236, 196, 168), (222, 172, 138), (196, 142, 104), (156, 104, 72),
    (112, 72, 50), (76, 48, 36),
)  # fmt: skip
HAIRS: Final[tuple[RGB, ...]] = (
    (22, 18, 18), (48, 32, 24), (84, 54, 34), (128, 84, 48), (186, 142, 84), (222, 190, 130),
    (150, 66, 34), (140, 136, 134), (212, 208, 204), (150, 60, 110),
)  # fmt: skip
IRISES: Final[tuple[RGB, ...]] = (
    (60, 36, 22), (92, 58, 32), (110, 96, 50), (78, 112, 74), (84, 124, 158), (110, 118, 124),
)  # fmt: skip
LIPSTICKS: Final[tuple[RGB, ...]] = (
    (178, 34, 46), (206, 74, 92), (150, 40, 70), (214, 106, 96), (112, 36, 52), (226, 130, 146),
)  # fmt: skip


def random_pose(
    rng: np.random.Generator, size_px: tuple[int, int], zoom: tuple[float, float]
) -> Pose:
    """Samples a pose that keeps all inner parts inside an image of (width, height) `size_px`."""
    width, height = size_px
    radius, centre_y = REACH
    most = 0.48 * min(size_px) / radius
    scale = min(most, rng.uniform(*zoom) * (width * height) ** 0.5)
    roll = float(rng.uniform(-0.26, 0.26))
    room = 0.85 * np.maximum(0.0, np.array(size_px) / 2 - radius * scale)
    x, y = np.array(size_px) / 2 + rng.uniform(-1, 1, 2) * room
    return Pose(
        scale_px=float(scale),
        stretch=float(rng.uniform(0.84, 1.06)),
        x_px=float(x + np.sin(roll) * centre_y * scale),
        y_px=float(y - np.cos(roll) * centre_y * scale),
        roll=roll,
        yaw=float(np.clip(rng.normal(0, 0.16), -0.32, 0.32)),
        pitch=float(np.clip(rng.normal(0, 0.08), -0.16, 0.16)),
    )


def random_shape(rng: np.random.Generator) -> Shape:
    """Samples the form of a face and its expression."""
    uniform = rng.uniform
    opening = uniform(0.03, 0.14) if rng.random() < 0.9 else uniform(0.015, 0.03)
    brow = uniform(-0.40, -0.24)
    mood = rng.random()
    smile = uniform(0.06, 0.16) if mood < 0.45 else uniform(-0.06, 0.05)
    is_open = rng.random() < (0.7 if mood < 0.45 else 0.3)
    nose = uniform(0.66, 0.86)
    return Shape(
        jaw=uniform(-0.1, 0.13),
        chin=uniform(-0.12, 0.15),
        eye_apart=uniform(0.45, 0.53),
        eye_width=uniform(0.165, 0.215),
        eye_open=(opening * uniform(0.85, 1.15), opening * uniform(0.85, 1.15)),
        eye_slant=uniform(-0.02, 0.04),
        gaze=(uniform(-0.08, 0.08), uniform(-0.02, 0.02)),
        brow_height=(brow + uniform(-0.03, 0.03), brow + uniform(-0.03, 0.03)),
        brow_length=uniform(0.46, 0.62),
        brow_thick=uniform(0.03, 0.075),
        brow_arch=uniform(0.0, 0.12),
        brow_tilt=uniform(-0.12, 0.08),
        nose_width=uniform(0.25, 0.35),
        nose_length=nose,
        mouth_height=nose + uniform(0.29, 0.40),
        mouth_width=uniform(0.33, 0.46) + 0.5 * max(0.0, smile),
        mouth_open=float(rng.choice([uniform(0.05, 0.16), uniform(0.1, 0.3)])) if is_open else 0.0,
        smile=smile,
        mouth_skew=uniform(-0.03, 0.03),
        upper_lip=uniform(0.07, 0.14),
        lower_lip=uniform(0.09, 0.18),
        teeth=bool(rng.random() < 0.75),
    )


def random_style(rng: np.random.Generator) -> Style:
    """Samples the hair, and what is worn."""
    uniform, chance = rng.uniform, rng.random
    is_long = chance() < 0.5
    glasses = chance() < 0.2
    fringe = uniform(0.3, 1.05) if chance() < 0.35 else 0.0
    return Style(
        bald=bool(chance() < 0.07),
        hair_length=uniform(0.8, 2.6) if is_long else -1.0,
        hair_volume=uniform(0.0, 0.35),
        hairline=uniform(-1.25, -0.9),
        fringe=fringe,
        fringe_side=int(rng.choice([-1, 1])),
        side_cover=(uniform(-0.05, 0.22), uniform(-0.05, 0.22)),
        beard=0.0 if is_long or chance() < 0.5 else uniform(0.15, 0.8),
        hat=bool(chance() < 0.08),
        earrings=bool(chance() < 0.2),
        necklace=bool(chance() < 0.15),
        glasses=bool(glasses),
        sunglasses=bool(glasses and chance() < 0.15),
        lens=(uniform(0.29, 0.38), uniform(0.18, 0.28)),
        frame_width=uniform(0.012, 0.04),
    )


def random_look(rng: np.random.Generator) -> Look:
    """Samples the colours, the light and the camera."""
    uniform = rng.uniform
    tone = (len(SKINS) - 1) * uniform(0, 1) ** 1.4
    skin = mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
    hair = HAIRS[rng.integers(len(HAIRS))] if rng.random() < 0.6 else HAIRS[rng.integers(3)]
    bare = mix(darker(skin, 0.9), (190.0, 80.0, 80.0), uniform(0.15, 0.55))
    lips = mix(
        bare, LIPSTICKS[rng.integers(len(LIPSTICKS))], uniform(0.4, 1.0) * (rng.random() < 0.35)
    )
    angle, height = uniform(0, 2 * np.pi), uniform(0.35, 1.0)
    light = np.array([np.cos(angle), -abs(np.sin(angle)) + 0.2, height])
    light /= np.linalg.norm(light)
    made_up = rng.random() < 0.3
    exposure, warmth = uniform(0.75, 1.2), uniform(0.93, 1.08)
    return Look(
        skin=skin,
        hair=hair,
        brow=darker(mix(hair, (50.0, 34.0, 26.0), uniform(0.2, 1.0)), uniform(0.6, 1.0)),
        brow_opacity=uniform(0.45, 0.95),
        iris=IRISES[rng.integers(len(IRISES))],
        lips=lips,
        makeup=muted(rng) if made_up else darker(skin, 0.6),
        makeup_opacity=uniform(0.2, 0.5) if made_up else uniform(0.05, 0.3),
        cloth=muted(rng),
        hat=muted(rng),
        frame=darker(muted(rng), uniform(0.1, 0.8)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        ambient=uniform(0.35, 0.75),
        gain=uniform(1.1, 1.6),
        tint=(exposure * warmth, exposure * uniform(0.97, 1.03), exposure / warmth),
        greyscale=bool(rng.random() < 0.05),
        blur=uniform(0.0, 0.02),
        noise=uniform(0.0, 9.0),
        jpeg_quality=int(rng.integers(60, 96)),
    )


def random_face(rng: np.random.Generator, layout: Layout, size_px: int) -> Face:
    """Samples everything about a face but its textures and noise.

    Args:
        rng: the source of all choices; the order in which it is asked fixes the face.
        layout: whose range of sizes and zooms.
        size_px: side of a CelebAMask-HQ image, or the middle of the range of HELEN's sides.
    """
    if layout == "celebamask":
        size, zoom = (size_px, size_px), CELEBAMASK_ZOOM
    else:
        low, high = (round(size_px * side) for side in HELEN_SIDES)
        size = (int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1)))
        zoom = HELEN_ZOOM
    return Face(
        size_px=size,
        pose=random_pose(rng, size, zoom),
        shape=random_shape(rng),
        style=random_style(rng),
        look=random_look(rng),
    )
