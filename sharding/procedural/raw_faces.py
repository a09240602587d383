"""Writes procedural faces in the raw layouts of CelebAMask-HQ and HELEN, for the demo and tests.

    python -m sharding faces --layout celebamask|helen --count N --out RAW

A face depends on (seed, index) alone, so the same call writes the same bytes. In CelebAMask-HQ's
layout `eye_g` is the frame and, of sunglasses, the lenses: what is seen through clear lenses keeps
its own label.
"""

import argparse
import os
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sharding.layouts import celebamask, helen
from sharding.procedural.drawing import draw_face
from sharding.procedural.face_shape import FACE_PARTS, SUPERSAMPLING, Drawing
from sharding.procedural.random_face import Layout, random_face
from sharding.processes import map_in_processes
from stn_icnn.progress import progress

DEFAULT_SIZE_PX: Final = {"celebamask": 512, "helen": 290}
"""Side of a CelebAMask-HQ mask, and the middle of the range of the sides of HELEN's images."""
MIN_SIZE_PX: Final = 48
HELEN_SOFTNESS_PX: Final = 0.6
"""Radius of the blur that makes HELEN's borders soft."""
CELEBA_FACES: Final = 202_599
CELEBA_STRIDE: Final = 125_213
"""Coprime to the number of CelebA's faces, so that ours spread evenly over its partition."""

HELEN_LABELS: Final = (
    "skin", "r_brow", "l_brow", "r_eye", "l_eye", "nose", "u_lip", "mouth", "l_lip", "hair",
)  # fmt: skip
"""Parts of lbl01 to lbl10; HELEN's left is the viewer's, `l_` the subject's."""
ON_SKIN: Final = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "mouth", "u_lip", "l_lip",
)  # fmt: skip
"""The parts that CelebAMask-HQ's skin mask covers too: its masks overlap."""


def write_faces(
    layout: Layout,
    count: int,
    out: Path,
    *,
    seed: int = 0,
    size_px: int | None = None,
    workers: int | None = None,
) -> None:
    """Writes procedural faces as the data set's own archive has them on disk.

    Args:
        layout: `celebamask` (photographs of twice the masks' size) or `helen`.
        count: number of faces, from index 0 on.
        out: folder; made if absent. A second call of the same kind overwrites.
        seed: with a face's index, all that it depends on (beside `size_px`).
        size_px: side of a CelebAMask-HQ mask (512, the only one that sharding takes), or the middle
            of the range of the sides of HELEN's images (290).
        workers: processes; one a core by default, 1 runs in this process.

    Raises:
        ValueError: an argument is out of range, or the folder holds other images.
    """
    if layout not in DEFAULT_SIZE_PX:
        raise ValueError(f"layout must be one of {get_args(Layout)}, got {layout!r}")
    size_px = DEFAULT_SIZE_PX[layout] if size_px is None else size_px
    workers = os.cpu_count() or 1 if workers is None else workers
    for name, value, least in (
        ("count", count, 1),
        ("seed", seed, 0),
        ("size_px", size_px, MIN_SIZE_PX),
        ("workers", workers, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    _prepare(layout, count, out)
    write = partial(write_face, layout, out, seed, size_px)
    for _ in progress(map_in_processes(write, range(count), workers), count, "face"):
        pass
    _write_lists(layout, count, out)


def write_face(layout: Layout, out: Path, seed: int, size_px: int, index: int) -> None:
    """Draws one face and writes its photograph and masks; arguments as of `write_faces`."""
    rng = np.random.default_rng([seed, index])
    face = random_face(rng, layout, size_px)
    drawing = draw_face(face, rng)
    write = _write_helen if layout == "helen" else _write_celebamask
    write(out, index, drawing, face.look.jpeg_quality)


def soft_mask(parts: NDArray[np.uint8], names: Iterable[str]) -> Image.Image:
    """Measures how much of each pixel some parts cover.

    Args:
        parts: uint8 [2H, 2W], the supersampled label map of a `Drawing`.
        names: of `FACE_PARTS`.

    Returns:
        [H, W], mode L, 0 to 255.
    """
    table = [0] * 256
    for name in names:
        table[FACE_PARTS.index(name) + 1] = 255
    return Image.fromarray(parts).point(table).reduce(SUPERSAMPLING)


def _write_celebamask(out: Path, index: int, drawing: Drawing, jpeg_quality: int) -> None:
    height, width = drawing.image.shape[:2]
    image = Image.fromarray(drawing.image).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    image.save(_image_path("celebamask", out, index), quality=jpeg_quality)
    for name in FACE_PARTS:
        path = out / celebamask.mask_path(index, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        soft = soft_mask(drawing.parts, ON_SKIN if name == "skin" else [name])
        mask = soft.point([0] * 128 + [255] * 128)
        if mask.getbbox() is None:
            # A part that is not seen has no file, also on a second run.
            path.unlink(missing_ok=True)
        else:
            mask.convert("RGB").save(path, compress_level=1)


def _write_helen(out: Path, index: int, drawing: Drawing, jpeg_quality: int) -> None:
    path = _image_path("helen", out, index)
    Image.fromarray(drawing.image).save(path, quality=jpeg_quality)
    border = ImageFilter.GaussianBlur(HELEN_SOFTNESS_PX)
    soft = [np.asarray(soft_mask(drawing.parts, [part]).filter(border)) for part in HELEN_LABELS]
    rest = np.clip(255 - np.sum(soft, axis=0, dtype=np.int64), 0, 255).astype(np.uint8)
    for label, probability in enumerate([rest, *soft]):
        file = out / helen.map_path(path.stem, f"lbl{label:02d}")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(probability).save(file, compress_level=1)


def _image_path(layout: Layout, out: Path, index: int) -> Path:
    if layout == "celebamask":
        return out / celebamask.IMAGES / f"{index}.jpg"
    return out / helen.image_path(f"{index:06d}_1")


def _prepare(layout: Layout, count: int, out: Path) -> None:
    """Makes the folder of images; refuses another call's, which would count as faces of this."""
    expected = [_image_path(layout, out, index) for index in range(count)]
    folder = expected[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(set(folder.iterdir()).difference(expected))
    if others:
        raise ValueError(
            f"{folder} must hold no images but this call's, got {others[0].name}: "
            "empty or change it"
        )


def _write_lists(layout: Layout, count: int, out: Path) -> None:
    """Writes the files that name the faces: HELEN's three lists, or the mapping to CelebA."""
    if layout == "celebamask":
        lines = [f"{'idx':<12}{'orig_idx':<12}orig_file\n"]
        for index in range(count):
            original = index * CELEBA_STRIDE % CELEBA_FACES
            lines.append(f"{index:<12}{original:<12}{original + 1:06d}.jpg\n")
        (out / celebamask.MAPPING).write_text("".join(lines))
        return
    held_out = max(1, round(0.1 * count)) if count > 2 else 0
    names = (_image_path(layout, out, index).stem for index in range(count))
    for file, size in zip(
        helen.LISTS.values(), (count - 2 * held_out, held_out, held_out), strict=True
    ):
        lines = [f"{number} , {name}\n" for number, name in enumerate(islice(names, size), 1)]
        (out / file).write_text("".join(lines))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `python -m sharding faces`."""
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
    """Runs `python -m sharding faces`."""
    options = {"seed": args.seed, "size_px": args.size_px, "workers": args.workers}
    write_faces(args.layout, args.count, args.out, **options)
    print(f"{args.count} faces in {args.layout} layout under {args.out}")
