"""Procedural faces: layouts, sides, and masks that fit what is drawn."""

import argparse
import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sharding.procedural import raw_faces as faces
from sharding.procedural.drawing import draw_face
from sharding.procedural.face_shape import FACE_PARTS, Drawing, Face
from sharding.procedural.random_face import random_face

SMALL_PX = 96
INNER = range(2, 10)  # lbl02 to lbl09: brows, eyes, nose, lips, inner mouth


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@cache
def drawn(index: int) -> tuple[Face, Drawing]:
    rng = np.random.default_rng([7, index])
    face = random_face(rng, "helen", 160)
    return face, draw_face(face, rng)


def part(drawing: Drawing, *names: str) -> NDArray[np.bool_]:
    return np.isin(drawing.parts, [FACE_PARTS.index(name) + 1 for name in names])


def listed(folder: Path, stem: str) -> list[str]:
    return [line.split(" , ")[1] for line in (folder / f"{stem}.txt").read_text().splitlines()]


def soft_maps(folder: Path, name: str) -> NDArray[np.int64]:
    maps = [
        np.asarray(Image.open(folder / "labels" / name / f"{name}_lbl{label:02d}.png"))
        for label in range(11)
    ]
    assert all(one.dtype == np.uint8 and one.ndim == 2 for one in maps)
    return np.stack(maps).astype(np.int64)


@pytest.fixture(scope="module")
def helen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("helen")
    faces.write_faces("helen", 60, out, seed=3, size_px=SMALL_PX, workers=1)
    return out


@pytest.fixture(scope="module")
def celebamask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("celebamask")
    faces.write_faces("celebamask", 24, out, seed=3, size_px=SMALL_PX, workers=1)
    return out


@pytest.mark.parametrize("layout", ["celebamask", "helen", "lapa"])
def test_same_call_gives_same_bytes_whatever_the_workers(
    layout: faces.Layout, tmp_path: Path
) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        faces.write_faces(layout, 4, tmp_path / name, seed=1, size_px=SMALL_PX, workers=workers)
    faces.write_faces(layout, 4, tmp_path / "other", seed=2, size_px=SMALL_PX, workers=1)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert digests(tmp_path / "one") != digests(tmp_path / "other")


def test_a_face_depends_on_seed_and_index_alone(tmp_path: Path, helen: Path) -> None:
    faces.write_faces("helen", 4, tmp_path, seed=3, size_px=SMALL_PX, workers=1)
    few, many = digests(tmp_path), digests(helen)
    assert all(many[path] == digest for path, digest in few.items() if "/" in path)


def test_celebamask_files(celebamask: Path) -> None:
    with Image.open(celebamask / "CelebA-HQ-img/0.jpg") as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert image.size == (2 * SMALL_PX, 2 * SMALL_PX)
    with Image.open(celebamask / "CelebAMask-HQ-mask-anno/0/00000_skin.png") as mask:
        assert (mask.mode, mask.size) == ("RGB", (SMALL_PX, SMALL_PX))
        assert set(np.unique(np.asarray(mask))) == {0, 255}
    rows = (celebamask / "CelebA-HQ-to-CelebA-mapping.txt").read_text().splitlines()
    assert rows[0].split() == ["idx", "orig_idx", "orig_file"]
    assert len({row.split()[2] for row in rows[1:]}) == 24
    index, original, file = rows[2].split()
    assert (index, f"{int(original) + 1:06d}.jpg") == ("1", file)


def test_celebamask_default_sizes(tmp_path: Path) -> None:
    faces.write_faces("celebamask", 1, tmp_path, workers=1)
    with Image.open(tmp_path / "CelebA-HQ-img/0.jpg") as image:
        assert image.size == (1024, 1024)
    with Image.open(tmp_path / "CelebAMask-HQ-mask-anno/0/00000_nose.png") as mask:
        assert mask.size == (512, 512)


def test_folders_hold_two_thousand_faces(tmp_path: Path) -> None:
    faces._prepare("celebamask", 2001, tmp_path)
    for index in (1999, 2000):
        faces.write_face("celebamask", tmp_path, 0, SMALL_PX, index)
    masks = tmp_path / "CelebAMask-HQ-mask-anno"
    assert (masks / "0/01999_skin.png").is_file()
    assert (masks / "1/02000_skin.png").is_file()


def test_a_part_that_is_not_seen_has_no_file(celebamask: Path) -> None:
    masks = sorted(celebamask.glob("CelebAMask-HQ-mask-anno/0/*.png"))
    assert all(np.asarray(Image.open(path)).any() for path in masks)
    for index in range(24):
        rng = np.random.default_rng([3, index])
        face = random_face(rng, "celebamask", SMALL_PX)
        mouth = celebamask / f"CelebAMask-HQ-mask-anno/0/{index:05d}_mouth.png"
        assert face.shape.mouth_open > 0 or not mouth.exists()
    with_mouth = sum(path.stem.endswith("_mouth") for path in masks)
    assert 0 < with_mouth < 24


def test_a_second_call_leaves_no_mask_of_the_first(tmp_path: Path) -> None:
    for seed in (1, 2):
        faces.write_faces("celebamask", 3, tmp_path / "a", seed=seed, size_px=SMALL_PX, workers=1)
    faces.write_faces("celebamask", 3, tmp_path / "b", seed=2, size_px=SMALL_PX, workers=1)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


@pytest.mark.parametrize("name", ["eye", "brow", "ear"])
def test_celebamask_left_is_the_subjects(celebamask: Path, name: str) -> None:
    masks = celebamask / "CelebAMask-HQ-mask-anno/0"
    pairs = 0
    for index in range(24):
        left, right = (masks / f"{index:05d}_{side}_{name}.png" for side in "lr")
        if left.exists() and right.exists():
            left_x, right_x = (
                np.nonzero(np.asarray(Image.open(p)))[1].mean() for p in (left, right)
            )
            assert left_x > right_x
            pairs += 1
    assert pairs > 5


def test_helen_left_is_the_viewers(helen: Path) -> None:
    for viewers_left, viewers_right in ((2, 3), (4, 5)):
        apart = []
        for name in listed(helen, "exemplars"):
            maps = soft_maps(helen, name)
            xs = np.arange(maps.shape[2])
            both = maps[[viewers_left, viewers_right]].sum(axis=1)
            if both.any(axis=1).all():
                left_x, right_x = (both * xs).sum(axis=1) / both.sum(axis=1)
                apart.append(right_x - left_x)
        assert len(apart) > 30
        assert min(apart) > 0


def test_helen_maps_are_soft_and_sum_to_one(helen: Path) -> None:
    for name in listed(helen, "tuning"):
        maps = soft_maps(helen, name)
        assert np.abs(maps.sum(axis=0) - 255).max() <= 5
        assert ((maps[6] > 20) & (maps[6] < 235)).any()
        with Image.open(helen / "images" / f"{name}.jpg") as image:
            assert image.size == maps.shape[:0:-1]


def test_helen_lists_and_sizes(helen: Path) -> None:
    lists = {stem: listed(helen, stem) for stem in ("exemplars", "tuning", "testing")}
    assert {stem: len(names) for stem, names in lists.items()} == {
        "exemplars": 48,
        "tuning": 6,
        "testing": 6,
    }
    names = {name for some in lists.values() for name in some}
    assert names == {path.stem for path in (helen / "images").iterdir()}
    sizes = {Image.open(path).size for path in (helen / "images").iterdir()}
    sides = [side for size in sizes for side in size]
    assert len(sizes) > 40
    assert 0.75 * SMALL_PX <= min(sides) < 0.85 * SMALL_PX
    assert 1.15 * SMALL_PX < max(sides) <= 1.25 * SMALL_PX


def test_every_face_shows_its_parts() -> None:
    unseen = dict.fromkeys(FACE_PARTS, 0)
    for index in range(40):
        face, drawing = drawn(index)
        assert drawing.image.dtype == np.uint8
        assert drawing.image.shape == (*face.size_px[::-1], 3)
        assert drawing.parts.shape == tuple(2 * side for side in face.size_px[::-1])
        for name in FACE_PARTS:
            unseen[name] += not part(drawing, name).any()
        edges = [drawing.parts[0], drawing.parts[-1], drawing.parts[:, 0], drawing.parts[:, -1]]
        inner = [
            FACE_PARTS.index(name) + 1 for name in ("nose", "l_eye", "r_eye", "u_lip", "l_lip")
        ]
        assert not np.isin(np.concatenate(edges), inner).any()
    assert all(unseen[name] == 0 for name in ("skin", "nose", "u_lip", "l_lip"))
    assert all(unseen[name] <= 6 for name in ("l_eye", "r_eye", "l_brow", "r_brow"))
    assert all(unseen[name] < 40 for name in FACE_PARTS)


def contrast(drawing: Drawing, mask: NDArray[np.bool_], dx: int, dy: int) -> float:
    """How far a part's mean colour lies from that of the ring around it, the mask moved."""
    rows = np.any([np.roll(mask, shift, axis=0) for shift in range(-4, 5)], axis=0)
    wide = np.any([np.roll(rows, shift, axis=1) for shift in range(-4, 5)], axis=0)
    here, ring = (np.roll(area, (dy, dx), axis=(0, 1)) for area in (mask, wide & ~mask))
    image = drawing.image.repeat(2, axis=0).repeat(2, axis=1)
    return float(np.linalg.norm(image[here].mean(axis=0) - image[ring].mean(axis=0)))


@pytest.mark.parametrize("names", [("l_brow",), ("r_eye",), ("u_lip", "l_lip", "mouth"), ("hair",)])
def test_masks_fit_the_drawing(names: tuple[str, ...]) -> None:
    """A part stands out most where its mask is, not two pixels beside it."""
    offsets = [(0, 0), (-4, 0), (4, 0), (0, -4), (0, 4)]
    found = []
    for index in range(12):
        _, drawing = drawn(index)
        mask = part(drawing, *names)
        if mask.any():
            found.append([contrast(drawing, mask, dx, dy) for dx, dy in offsets])
    here, *beside = np.mean(found, axis=0)
    assert len(found) > 8
    assert here > 1.03 * max(beside)


def test_dark_lenses_and_hair_hide_what_is_under_them() -> None:
    face, _ = drawn(0)
    style = replace(
        face.style, glasses=True, sunglasses=True, lens=(0.38, 0.28), bald=False, hat=False,
        hairline=-1.0, fringe=1.3, fringe_side=1,
    )  # fmt: skip
    pose = replace(face.pose, yaw=0.0, pitch=0.0)
    hidden = draw_face(replace(face, style=style, pose=pose), np.random.default_rng(0))
    bare = draw_face(
        replace(face, style=replace(style, glasses=False, bald=True), pose=pose),
        np.random.default_rng(0),
    )
    assert part(bare, "l_eye").any()
    assert not part(hidden, "l_eye", "r_eye").any()
    assert part(hidden, "l_brow").sum() < 0.5 * part(bare, "l_brow").sum()
    assert part(hidden, "hair")[part(bare, "l_brow")].any()


@pytest.mark.slow
def test_a_mean_label_map_is_a_poor_parser(tmp_path: Path) -> None:
    """The pose varies so much that no fixed map scores, wherever its threshold lies."""
    faces.write_faces("helen", 120, tmp_path, seed=5, size_px=SMALL_PX, workers=2)
    mean = np.zeros((11, 128, 128))
    for name in listed(tmp_path, "exemplars"):
        labels = Image.fromarray(soft_maps(tmp_path, name).argmax(axis=0).astype(np.uint8))
        grid = np.asarray(labels.resize((128, 128), Image.Resampling.NEAREST))
        mean += grid == np.arange(11)[:, None, None]
    inner = mean[INNER].sum(axis=0) / mean.sum(axis=0)
    predictions = [np.isin(mean.argmax(axis=0), INNER)]
    predictions += [inner > threshold for threshold in (0.15, 0.25, 0.35, 0.45)]
    counts = np.zeros((len(predictions), 2))
    for name in listed(tmp_path, "tuning") + listed(tmp_path, "testing"):
        truth = np.isin(soft_maps(tmp_path, name).argmax(axis=0), INNER)
        for number, prediction in enumerate(predictions):
            fixed = Image.fromarray(prediction.astype(np.uint8)).resize(truth.shape[::-1])
            found = np.asarray(fixed) > 0
            counts[number] += 2 * (truth & found).sum(), truth.sum() + found.sum()
    assert (counts[:, 0] / counts[:, 1]).max() < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"size_px": 8}, "size_px must be at least 48, got 8"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"layout": "lfw"}, "layout must be one of .* got 'lfw'"),
    ],
)
def test_refuses_bad_arguments(change: dict[str, object], message: str, tmp_path: Path) -> None:
    arguments = {"layout": "helen", "count": 1, "out": tmp_path} | change
    with pytest.raises(ValueError, match=message):
        faces.write_faces(**arguments)  # type: ignore[arg-type]


def test_refuses_a_folder_with_other_images(tmp_path: Path) -> None:
    faces.write_faces("helen", 2, tmp_path, size_px=SMALL_PX, workers=1)
    with pytest.raises(ValueError, match=r"got 000001_1\.jpg"):
        faces.write_faces("helen", 1, tmp_path, size_px=SMALL_PX, workers=1)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    faces.add_arguments(parser)
    options = f"--layout helen --count 3 --out {tmp_path} --seed 4 --size-px 64 --workers 1"
    faces.run(parser.parse_args(options.split()))
    shown = capsys.readouterr()
    assert f"3 faces in helen layout under {tmp_path}" in shown.out
    assert "3 of 3 faces, " in shown.err
    assert [len(listed(tmp_path, stem)) for stem in ("exemplars", "tuning", "testing")] == [1, 1, 1]
