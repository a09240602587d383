"""Damaged photographs: each is parsed as it decodes, or named, and none ends the run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_icnn.inference.command import main
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.photos.decoding import load_photo
from tests.damaged_photos import write_damaged_photos

NUMBER = 100


def test_each_is_right_or_named(
    sure_parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sound = write_damaged_photos(tmp_path / "in", NUMBER, seed=1)
    out = tmp_path / "out"
    command = ["parse", str(tmp_path / "in"), "--model", str(sure_parent), "--out", str(out)]
    assert main([*command, "--write", "labels"]) == 1
    printed = capsys.readouterr()
    named = set(re.findall(r"^.*/(\S+): (?:image|not parsed)", printed.err, re.MULTILINE))
    result = json.loads(printed.out)
    assert result["parsed"] + result["failed"] == NUMBER
    assert result["failed"] == len(named)
    assert 20 < len(named) < 80
    for path in (tmp_path / "in").iterdir():
        labels = out / f"{path.stem}.png"
        assert labels.exists() != (path.name in named)
        if labels.exists():
            assert np.asarray(Image.open(labels)).shape == load_photo(path).pixels.shape[:2]
    parser = FaceParser.load(sure_parent, "cpu")
    for name, image in sound.items():
        assert name not in named
        face = parser.parse(image)
        assert len(np.unique(face.labels)) > 3
        labels = np.asarray(Image.open(out / f"{Path(name).stem}.png"))
        assert (labels != face.labels).mean() < 2e-3, name
