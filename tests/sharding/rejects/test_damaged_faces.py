"""Damaged files of many kinds end no run: each face comes out right, or is rejected by name."""

from pathlib import Path

import pytest

from sharding.packing.building import Recipe, build
from tests.sharding.damaged_faces import check_outcome, write_damaged_faces


@pytest.mark.parametrize(
    ("layout", "count"), [("helen", 100), pytest.param("celebamask", 40, marks=pytest.mark.slow)]
)
def test_each_is_right_or_named(layout: str, count: int, tmp_path: Path):
    sound, damaged, faces = write_damaged_faces(layout, count, tmp_path)
    build(sound, tmp_path / "a", Recipe(layout=layout))
    split = str(tmp_path / "split.json")
    build(damaged, tmp_path / "b", Recipe(layout=layout, split=split, max_rejected=1))
    outcome = check_outcome(faces, tmp_path / "a", tmp_path / "b")
    assert outcome.total() == count
    assert 0 < sum(n for what, n in outcome.items() if what.endswith(": right")) < count
