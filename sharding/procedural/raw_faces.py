"""Procedural faces in the raw layouts of CelebAMask-HQ and HELEN, for the demo and for tests.

    python -m sharding faces --layout celebamask|helen --count N --out RAW

A face depends on (seed, index) alone, so the same call writes the same bytes. In CelebAMask-HQ's
layout `eye_g` is the frame and, of sunglasses, the lenses: what is seen through clear lenses keeps
its own label.
"""

import argparse
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sharding.procedural.canvas import darker, mix, muted
from sharding.procedural.drawing import draw_face
from sharding.procedural.face_shape import (
    FACE_PARTS,
    RGB,
    SUPERSAMPLING,
    Drawing,
    Face,
    Look,
    Pose,
    Shape,
    Style,
)
from stn_icnn.progress import progress

Layout = Literal["celebamask", "helen"]

DEFAULT_SIZE_PX: Final = {"celebamask": 512, "helen": 290}
"""Side of a mask; middle of the sides' range."""
MIN_SIZE_PX: Final = 48
HELEN_SIDES: Final = (0.76, 1.24)
"""Shortest and longest side of a HELEN-like image, of `size_px`."""
HELEN_SOFTNESS_PX: Final = 0.6
"""Radius of the blur that makes HELEN's borders soft."""
ZOOM: Final = {"celebamask": (0.215, 0.265), "helen": (0.2, 0.28)}
"""Half a face's width as a fraction of the image's (mean) side."""
REACH: Final = (1.25, 0.45)
"""Radius and y of the disc, in face units, that holds all inner parts and stays in the image."""
CELEBAMASK_FOLDER: Final = 2000
CELEBA_FACES: Final = 202_599
CELEBA_STRIDE: Final = 125_213
"""Coprime to the former, so that the faces spread evenly over CelebA's partition."""

HELEN_LABELS: Final = (
    "skin", "r_brow", "l_brow", "r_eye", "l_eye", "nose", "u_lip", "mouth", "l_lip", "hair",
)  # fmt: skip
"""Parts of lbl01 to lbl10; HELEN's left is the viewer's, `l_` the subject's."""
ON_SKIN: Final = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "mouth", "u_lip", "l_lip",
)  # fmt: skip
"""What CelebAMask-HQ's skin mask covers, its parts overlapping."""

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
    """A pose in an image of that width and height whose inner parts all lie in the image."""
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
    """Form and expression."""
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
    """Hair and what is worn."""
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
    """Colours, light and camera."""
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
    """Everything about a face but its textures and noise."""
    if layout == "helen":
        low, high = (round(size_px * side) for side in HELEN_SIDES)
        size = (int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1)))
    else:
        size = (size_px, size_px)
    return Face(
        size_px=size,
        pose=random_pose(rng, size, ZOOM[layout]),
        shape=random_shape(rng),
        style=random_style(rng),
        look=random_look(rng),
    )


def soft_mask(parts: NDArray[np.uint8], names: Iterable[str]) -> Image.Image:
    """How much of each pixel the parts cover: a label map [2H, 2W] to [H, W], mode L, 0 to 255."""
    table = [0] * 256
    for name in names:
        table[FACE_PARTS.index(name) + 1] = 255
    return Image.fromarray(parts).point(table).reduce(SUPERSAMPLING)


@dataclass(frozen=True)
class _Job:
    """What a worker needs to write one face after another."""

    layout: Layout
    out: Path
    seed: int
    size_px: int

    def __call__(self, index: int) -> None:
        rng = np.random.default_rng([self.seed, index])
        face = random_face(rng, self.layout, self.size_px)
        drawing = draw_face(face, rng)
        write = _write_helen if self.layout == "helen" else _write_celebamask
        write(self.out, index, drawing, face.look.jpeg_quality)


def _write_celebamask(out: Path, index: int, drawing: Drawing, jpeg_quality: int) -> None:
    height, width = drawing.image.shape[:2]
    image = Image.fromarray(drawing.image).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    image.save(out / "CelebA-HQ-img" / f"{index}.jpg", quality=jpeg_quality)
    folder = out / "CelebAMask-HQ-mask-anno" / str(index // CELEBAMASK_FOLDER)
    for name in FACE_PARTS:
        path = folder / f"{index:05d}_{name}.png"
        soft = soft_mask(drawing.parts, ON_SKIN if name == "skin" else [name])
        mask = soft.point([0] * 128 + [255] * 128)
        if mask.getbbox() is None:
            path.unlink(
                missing_ok=True
            )  # a part that is not seen has no file, also on a second run
        else:
            mask.convert("RGB").save(path, compress_level=1)


def _helen_name(index: int) -> str:
    return f"{index:06d}_1"


def _write_helen(out: Path, index: int, drawing: Drawing, jpeg_quality: int) -> None:
    name = _helen_name(index)
    Image.fromarray(drawing.image).save(out / "images" / f"{name}.jpg", quality=jpeg_quality)
    border = ImageFilter.GaussianBlur(HELEN_SOFTNESS_PX)
    soft = [np.asarray(soft_mask(drawing.parts, [part]).filter(border)) for part in HELEN_LABELS]
    rest = np.clip(255 - np.sum(soft, axis=0, dtype=np.int64), 0, 255).astype(np.uint8)
    folder = out / "labels" / name
    folder.mkdir(parents=True, exist_ok=True)
    for label, probability in enumerate([rest, *soft]):
        Image.fromarray(probability).save(folder / f"{name}_lbl{label:02d}.png", compress_level=1)


def _write_lists(layout: Layout, out: Path, count: int) -> None:
    """The files that name the faces: HELEN's three lists, CelebAMask-HQ's mapping to CelebA."""
    if layout == "celebamask":
        lines = [f"{'idx':<12}{'orig_idx':<12}orig_file\n"]
        for index in range(count):
            original = index * CELEBA_STRIDE % CELEBA_FACES
            lines.append(f"{index:<12}{original:<12}{original + 1:06d}.jpg\n")
        (out / "CelebA-HQ-to-CelebA-mapping.txt").write_text("".join(lines))
        return
    held_out = max(1, round(0.1 * count)) if count > 2 else 0
    names = [_helen_name(index) for index in range(count)]
    for stem, some in (
        ("exemplars", names[: count - 2 * held_out]),
        ("tuning", names[count - 2 * held_out : count - held_out]),
        ("testing", names[count - held_out :]),
    ):
        lines = [f"{number} , {name}\n" for number, name in enumerate(some, 1)]
        (out / f"{stem}.txt").write_text("".join(lines))


def _prepare(layout: Layout, count: int, out: Path) -> None:
    """Make the folders; refuse images of another call, which would count as faces of this one."""
    if layout == "helen":
        images, expected = out / "images", {f"{_helen_name(i)}.jpg" for i in range(count)}
    else:
        images, expected = out / "CelebA-HQ-img", {f"{i}.jpg" for i in range(count)}
        for folder in range((count - 1) // CELEBAMASK_FOLDER + 1):
            (out / "CelebAMask-HQ-mask-anno" / str(folder)).mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    other = sorted({path.name for path in images.iterdir()} - expected)
    if other:
        raise ValueError(
            f"{images} must hold no images but this call's, got {other[0]}: empty or change it"
        )


def write_faces(
    layout: Layout,
    count: int,
    out: Path,
    *,
    seed: int = 0,
    size_px: int | None = None,
    workers: int | None = None,
) -> None:
    """Write procedural faces as the data set's own archive has them on disk.

    Args:
        layout: whose files: `celebamask` (images of twice the masks' size) or `helen`.
        count: number of faces, from index 0 on.
        out: folder; made if absent. A second call of the same kind overwrites.
        seed: with a face's index, all that it depends on (beside `size_px`).
        size_px: side of a CelebAMask-HQ mask (512, the only one that sharding takes), or the middle
            of the range of the sides of HELEN's images (290).
        workers: processes; one a core by default, 1 runs in this process.
    """
    size_px = DEFAULT_SIZE_PX.get(layout, 0) if size_px is None else size_px
    workers = os.cpu_count() or 1 if workers is None else workers
    if layout not in get_args(Layout):
        raise ValueError(f"layout must be one of {get_args(Layout)}, got {layout!r}")
    for name, value, least in (
        ("count", count, 1),
        ("seed", seed, 0),
        ("size_px", size_px, MIN_SIZE_PX),
        ("workers", workers, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    _prepare(layout, count, out)
    job = _Job(layout, out, seed, size_px)
    if workers == 1:
        for _ in progress(map(job, range(count)), count, "face"):
            pass
    else:
        # Spawned, as a fork of a process with threads (Ray's, torch's) may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, count), mp_context=context) as pool:
            done = pool.map(job, range(count), chunksize=4)
            for _ in progress(done, count, "face"):
                pass
    _write_lists(layout, out, count)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m sharding faces`."""
    parser.add_argument("--layout", choices=get_args(Layout), required=True, help="whose files")
    parser.add_argument("--count", type=int, required=True, help="number of faces")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other faces (default 0)")
    parser.add_argument(
        "--size-px",
        type=int,
        help="side of a CelebAMask-HQ mask (default 512), or HELEN's mean side (default 290)",
    )
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")


def run(args: argparse.Namespace) -> None:
    """Run `python -m sharding faces`."""
    write_faces(
        args.layout,
        args.count,
        args.out,
        seed=args.seed,
        size_px=args.size_px,
        workers=args.workers,
    )
    print(f"{args.count} faces in {args.layout} layout under {args.out}")
