"""Writes procedural faces in the raw layouts, for the demo and tests.

    python -m sharding faces --layout celebamask|helen|helen-relabeled|lapa --count N --out RAW
    python -m sharding faces --layout folder --labels SET|FILE --count N --out RAW

A face depends on (seed, index) alone, so the same call writes the same bytes. In CelebAMask-HQ's
layout `eye_g` is the frame and, of sunglasses, the lenses: what is seen through clear lenses keeps
its own label.
"""

import argparse
import os
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sharding.layouts import celebamask, folder, helen, helen_relabeled, lapa
from sharding.layouts.label_maps import reduced
from sharding.layouts.pairs import Naming
from sharding.procedural.drawing import draw_face
from sharding.procedural.face_shape import FACE_PARTS, SUPERSAMPLING, Drawing
from sharding.procedural.random_face import Layout, random_face
from sharding.processes import map_in_processes
from stn_icnn.label_set_file import given_labels, label_set_of
from stn_icnn.label_sets import LABEL_SETS, PAPER9
from stn_icnn.labels import LabelSet
from stn_icnn.progress import progress

CELEBAMASK_SIZE_PX: Final = 512
"""Side of a CelebAMask-HQ mask."""
MEAN_SIZE_PX: Final = 290
"""The middle of the range of the sides of the images of other layouts."""
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
    label_set: LabelSet = PAPER9,
) -> None:
    """Writes procedural faces as the data set's own archive has them on disk.

    Args:
        layout: one of `Layout`; CelebAMask-HQ's photographs have twice the size of their masks.
        count: number of faces, from index 0 on.
        out: folder; made if absent. A second call of the same kind overwrites.
        seed: with a face's index, all that it depends on (beside `size_px`).
        size_px: side of a CelebAMask-HQ mask (512, the only one that sharding takes), or the middle
            of the range of the sides of other images (290).
        workers: processes; one a core by default, 1 runs in this process.
        label_set: the classes of the layout `folder`; of others than those that are drawn, which
            are CelebAMask-HQ's, there is nothing.

    Raises:
        ValueError: an argument is out of range, or the folder holds other images.
    """
    if layout not in get_args(Layout):
        raise ValueError(f"layout must be one of {get_args(Layout)}, got {layout!r}")
    if size_px is None:
        size_px = CELEBAMASK_SIZE_PX if layout == "celebamask" else MEAN_SIZE_PX
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
    write = partial(write_face, layout, out, seed, size_px, label_set=label_set)
    for _ in progress(map_in_processes(write, range(count), workers), count, "face"):
        pass
    _write_lists(layout, count, out)


def write_face(
    layout: Layout, out: Path, seed: int, size_px: int, index: int, label_set: LabelSet = PAPER9
) -> None:
    """Draws one face and writes its photograph and masks; arguments as of `write_faces`."""
    rng = np.random.default_rng([seed, index])
    face = random_face(rng, layout, size_px)
    drawing = draw_face(face, rng)
    if layout == "celebamask":
        _write_celebamask(out, index, drawing, face.look.jpeg_quality)
        return
    Image.fromarray(drawing.image).save(
        out / _image_path(layout, index), quality=face.look.jpeg_quality
    )
    if layout == "helen":
        _write_soft_maps(out, index, drawing)
    else:
        _write_label_map(layout, out, index, drawing, label_set)


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
    image.save(out / _image_path("celebamask", index), quality=jpeg_quality)
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


def _write_soft_maps(out: Path, index: int, drawing: Drawing) -> None:
    name = Path(_image_path("helen", index)).stem
    border = ImageFilter.GaussianBlur(HELEN_SOFTNESS_PX)
    soft = [np.asarray(soft_mask(drawing.parts, [part]).filter(border)) for part in HELEN_LABELS]
    rest = np.clip(255 - np.sum(soft, axis=0, dtype=np.int64), 0, 255).astype(np.uint8)
    for label, probability in enumerate([rest, *soft]):
        file = out / helen.map_path(name, f"lbl{label:02d}")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(probability).save(file, compress_level=1)


def _write_label_map(
    layout: Layout, out: Path, index: int, drawing: Drawing, label_set: LabelSet
) -> None:
    """Writes ids: of the data set's classes in grey, of one's own with a palette of its colours."""
    classes: Sequence[str] = label_set.class_names if layout == "folder" else helen.MAPS
    id_of_part = [0] * 256
    for number, part in enumerate(FACE_PARTS, 1):
        name = celebamask.PAINTED[part]
        id_of_part[number] = classes.index(name) if name in classes else 0
    height, width = drawing.image.shape[:2]
    ids = np.asarray(id_of_part, np.uint8)[drawing.parts]
    label_map = Image.fromarray(reduced(ids, (width, height)))
    if layout == "folder":
        label_map.putpalette([channel for colour in label_set.colours for channel in colour])
    label_map.save(out / _mask_path(layout, index), compress_level=1)


def _naming(layout: Layout, index: int) -> tuple[Naming, str]:
    """Returns how files are named where a face has one label map, and the name of a face there.

    Of ten faces of a data set that comes in splits one is in each but `train`.
    """
    name = f"{index:06d}_1"
    if layout == "folder":
        return folder.NAMING, name
    if layout == "lapa":
        return lapa.FOLDERS[{1: "val", 2: "test"}.get(index % 10, "train")], name
    return helen_relabeled.FOLDERS[{1: "test"}.get(index % 10, "train")], name


def _image_path(layout: Layout, index: int) -> str:
    if layout == "celebamask":
        return f"{celebamask.IMAGES}/{index}.jpg"
    if layout == "helen":
        return helen.image_path(f"{index:06d}_1")
    naming, name = _naming(layout, index)
    return naming.image_path(name)


def _mask_path(layout: Layout, index: int) -> str:
    naming, name = _naming(layout, index)
    return naming.mask_path(name)


def _prepare(layout: Layout, count: int, out: Path) -> None:
    """Makes the folders of images; refuses another call's, which would count as faces of this."""
    expected = {out / _image_path(layout, index) for index in range(count)}
    if layout not in ("celebamask", "helen"):
        expected |= {out / _mask_path(layout, index) for index in range(count)}
    for place in sorted({path.parent for path in expected}):
        place.mkdir(parents=True, exist_ok=True)
        others = sorted(set(place.iterdir()) - expected)
        if others:
            raise ValueError(
                f"{place} must hold no images but this call's, got {others[0].name}: "
                "empty or change it"
            )


def _write_lists(layout: Layout, count: int, out: Path) -> None:
    """Writes files that name the faces: HELEN's three lists, CelebAMask-HQ's mapping to CelebA."""
    if layout == "celebamask":
        lines = [f"{'idx':<12}{'orig_idx':<12}orig_file\n"]
        for index in range(count):
            original = index * CELEBA_STRIDE % CELEBA_FACES
            lines.append(f"{index:<12}{original:<12}{original + 1:06d}.jpg\n")
        (out / celebamask.MAPPING).write_text("".join(lines))
    if layout != "helen":
        return
    held_out = max(1, round(0.1 * count)) if count > 2 else 0
    names = (Path(_image_path(layout, index)).stem for index in range(count))
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
        help="side of a CelebAMask-HQ mask (default 512), or the mean side elsewhere (default 290)",
    )
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")
    what = f"classes of the layout folder: {', '.join(LABEL_SETS)}, or a JSON file"
    parser.add_argument(
        "--labels", default=PAPER9.name, metavar="SET|FILE", help=f"{what} (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    """Runs `python -m sharding faces`."""
    options = {"seed": args.seed, "size_px": args.size_px, "workers": args.workers}
    label_set = label_set_of(given_labels(args.labels))
    write_faces(args.layout, args.count, args.out, label_set=label_set, **options)
    print(f"{args.count} faces in {args.layout} layout under {args.out}")
