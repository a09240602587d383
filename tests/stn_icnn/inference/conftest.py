"""A trained model, and a folder of photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.parse_command import SIZES


@pytest.fixture
def model(tiny_parent: Path) -> str:
    return str(tiny_parent)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, (width, height) in SIZES.items():
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("not a photograph")
    return folder
