"""Tiny raw data sets that the tests draw themselves, in both layouts."""

import functools
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.register_assert_rewrite("tests.sharding.rejects.spoiled_data")

Box = tuple[int, int, int, int]  # x0, y0 inclusive, x1, y1 exclusive

# A frontal face of 512 px in CelebAMask-HQ's parts: the subject's left eye is on the right.
FACE: dict[str, Box] = {
    "skin": (100, 100, 400, 480),
    "nose": (230, 250, 280, 330),
    "l_eye": (300, 200, 350, 220),
    "r_eye": (150, 200, 200, 220),
    "l_brow": (290, 170, 360, 185),
    "r_brow": (140, 170, 210, 185),
    "mouth": (210, 380, 300, 390),
    "u_lip": (200, 365, 310, 380),
    "l_lip": (200, 390, 310, 410),
    "hair": (100, 20, 400, 110),
}

# HELEN's maps by number; its 02 and 04 are on the viewer's left. Background is what is left over.
HELEN_FACE: dict[int, Box] = {
    1: (10, 20, 90, 115),
    2: (20, 35, 40, 40),
    3: (60, 35, 80, 40),
    4: (22, 45, 38, 52),
    5: (62, 45, 78, 52),
    6: (45, 55, 55, 75),
    7: (35, 85, 65, 90),
    8: (37, 90, 63, 93),
    9: (35, 93, 65, 98),
    10: (10, 5, 90, 20),
}


@functools.cache
def photo(size: tuple[int, int], seed: int, file_format: str = "JPEG") -> bytes:
    """Smooth colour noise, encoded."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size).save(buffer, file_format)
    return buffer.getvalue()


def filled(size: tuple[int, int], box: Box) -> np.ndarray:
    """255 inside the box, 0 outside: uint8 [H, W]."""
    mask = np.zeros(size[::-1], np.uint8)
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = 255
    return mask


def png(data: np.ndarray, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(data).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@functools.cache
def mask_png(mask_px: int, box: Box, mode: str) -> bytes:
    return png(filled((mask_px, mask_px), box), mode)


def save(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def draw_celebamask() -> Callable[..., None]:
    """draw(root, number, parts=FACE, image=None, mode="RGB", mask_px=512)."""

    def draw(
        root: Path,
        number: int,
        parts: Mapping[str, Box] = FACE,
        image: bytes | None = None,
        mode: str = "RGB",
        mask_px: int = 512,
    ) -> None:
        save(root / f"CelebA-HQ-img/{number}.jpg", image or photo((512, 512), number))
        folder = root / f"CelebAMask-HQ-mask-anno/{number // 2000}"
        for part, box in parts.items():
            save(folder / f"{number:05d}_{part}.png", mask_png(mask_px, box, mode))

    return draw


@pytest.fixture
def draw_helen() -> Callable[..., None]:
    """draw(root, name, maps=None, image=None, size=(100, 120)); without lists."""

    def draw(
        root: Path,
        name: str,
        maps: Mapping[int, np.ndarray] | None = None,
        image: bytes | None = None,
        size: tuple[int, int] = (100, 120),
    ) -> None:
        save(root / f"images/{name}.jpg", image or photo(size, len(name)))
        drawn = {index: filled(size, box) for index, box in HELEN_FACE.items()}
        # The parts lie on the skin, whose map is therefore 0 there, as in the real data set.
        drawn[1][np.any([drawn[i] > 0 for i in range(2, 11)], axis=0)] = 0
        drawn[0] = (255 - np.sum(list(drawn.values()), axis=0)).clip(0, 255).astype(np.uint8)
        for index, soft in (drawn | dict(maps or {})).items():
            save(root / f"labels/{name}/{name}_lbl{index:02d}.png", png(soft))

    return draw


@pytest.fixture
def draw_pair() -> Callable[..., None]:
    """draw(root, image, mask, ids=None, file=None): paths, and HELEN's face in ids by default."""

    def draw(
        root: Path,
        image: str,
        mask: str,
        ids: np.ndarray | None = None,
        file: bytes | None = None,
    ) -> None:
        if ids is None:
            ids = np.zeros((120, 100), np.uint8)
            for class_id, (x0, y0, x1, y1) in HELEN_FACE.items():
                ids[y0:y1, x0:x1] = class_id
        save(root / image, file or photo(ids.shape[::-1], len(image) + sum(image.encode())))
        save(root / mask, png(ids))

    return draw


@pytest.fixture
def lapa(tmp_path: Path, draw_pair: Callable[..., None]) -> Path:
    """A raw data set of six faces in LaPa's three folders."""
    root = tmp_path / "raw-lapa"
    for split, names in (("train", "1_0 2_0 3_0 4_0"), ("val", "5_0"), ("test", "6_0")):
        for name in names.split():
            draw_pair(root, f"{split}/images/{name}.jpg", f"{split}/labels/{name}.png")
    return root


@pytest.fixture
def plain_folder(tmp_path: Path, draw_pair: Callable[..., None]) -> Path:
    """Ten photographs in `images`, their label maps in `masks`."""
    root = tmp_path / "raw-folder"
    for number in range(10):
        draw_pair(root, f"images/face-{number}.jpg", f"masks/face-{number}.png")
    return root


@pytest.fixture
def celebamask(tmp_path: Path, draw_celebamask: Callable[..., None]) -> Path:
    """A raw data set of ten faces, ids 1995 to 2004."""
    root = tmp_path / "raw-celebamask"
    for number in range(1995, 2005):
        draw_celebamask(root, number)
    return root


@pytest.fixture
def helen(tmp_path: Path, draw_helen: Callable[..., None]) -> Path:
    """A raw data set of six faces in HELEN's three lists."""
    root = tmp_path / "raw-helen"
    lists = {
        "exemplars": ["11_1", "12_1", "13_1", "14_2"],
        "tuning": ["21_1"],
        "testing": ["31_1"],
    }
    for list_name, names in lists.items():
        for name in names:
            draw_helen(root, name, size=(100 + len(list_name), 120))
        lines = [f"{index} , {name}\n\n" for index, name in enumerate(names, 1)]
        (root / f"{list_name}.txt").write_text("".join(lines))
    return root
