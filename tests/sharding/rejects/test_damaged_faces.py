"""Damaged files of many kinds end no run: each face comes out right, or is rejected by name."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from tests.sharding import damaged_faces
from tests.sharding.damaged_faces import check_outcome, write_damaged_faces


@pytest.mark.parametrize(
    ("layout", "count"),
    [("helen", 100), ("lapa", 100), pytest.param("celebamask", 40, marks=pytest.mark.slow)],
)
def test_each_is_right_or_named(layout: str, count: int, tmp_path: Path):
    sound, damaged, faces = write_damaged_faces(layout, count, tmp_path)
    build(sound, tmp_path / "a", Recipe(layout=layout))
    split = str(tmp_path / "split.json")
    build(damaged, tmp_path / "b", Recipe(layout=layout, split=split, max_rejected=1))
    outcome = check_outcome(faces, tmp_path / "a", tmp_path / "b")
    assert outcome.total() == count
    assert 0 < sum(n for what, n in outcome.items() if what.endswith(": right")) < count


def test_they_are_written_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["damaged_faces", str(tmp_path), "3", "helen"])
    runpy.run_path(damaged_faces.__file__, run_name="__main__")
    (keys,) = json.loads((tmp_path / "split.json").read_text()).values()
    assert len(keys) == 3
    assert len(list((tmp_path / "damaged/labels").iterdir())) == 3
