"""Both raw layouts of real faces, through the readers, where STN_ICNN_FACES names a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.packing.verify import verify
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.label_sets import PAPER9

FACES = os.environ.get("STN_ICNN_FACES")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FACES, reason="STN_ICNN_FACES names no folder of real faces"),
]


@pytest.mark.parametrize(
    ("layout", "splits"),
    [
        ("celebamask", {"train": 12, "val": 4, "test": 4}),
        ("helen", {"train": 16, "val": 2, "test": 2}),
    ],
)
def test_real_faces_have_their_parts_where_faces_have_them(
    layout: str, splits: dict[str, int], tmp_path: Path
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "shards"
    expand = [sys.executable, f"{FACES}/expand.py", layout, str(raw), "--limit", "20"]
    subprocess.run(expand, check=True, capture_output=True)
    manifest = build(raw, out, Recipe(layout=layout))
    assert manifest.num_samples == splits
    assert verify(out) == []
    faces = ShardedFaces([str(out / "train" / "000000.tar")], PAPER9)
    x: dict[str, list[float]] = {}
    y: dict[str, list[float]] = {}
    for i in range(len(faces)):
        sample = faces[Request(i)]
        assert sample.centres is not None
        assert sample.present is not None
        if not bool(sample.present.all()):
            continue
        for part, centre in zip(PAPER9.parts, sample.centres[0].tolist(), strict=True):
            x.setdefault(part.name, []).append(centre[0])
            y.setdefault(part.name, []).append(centre[1])
    for i in range(len(x["nose"])):
        assert x["right_eye"][i] < x["nose"][i] < x["left_eye"][i]
        assert x["right_brow"][i] < x["left_brow"][i]
        assert y["left_brow"][i] < y["left_eye"][i] < y["nose"][i] < y["mouth"][i]
