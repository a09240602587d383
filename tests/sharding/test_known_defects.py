"""CelebAMask-HQ's known defects and duplicates: dropped, or kept with duplicates in one split."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sharding.layouts.celebamask import LAYOUT
from sharding.layouts.raw import Listing
from sharding.manifest import Rejection
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.packing.verify import verify
from sharding.storage.location import open_location

Draw = Callable[..., None]

DEFECTS = {
    4790: "all masks empty",
    4995: "wrong skin",
    404: "lacks mouth and lips",
    481: "lacks hair or hat",
    13008: "lacks hair or hat",
    17586: "lacks hair or hat",
    2110: "not aligned",
    9150: "not usable",
    9895: "not usable",
    15587: "not usable",
    2905: "not usable",
    3137: "not usable",
}
TWINS = [
    (234, 235),
    (3329, 3330),
    (5162, 5163),
    (6770, 6771),
    (7384, 7385),
    (7561, 7562),
    (12444, 12445),
    (12885, 12886),
    (13825, 13826),
    (15506, 15507),
    (19199, 19200),
    (20134, 20135),
    (24646, 24647),
]
GOOD = range(29_900, 30_000)
ALL = sorted([*DEFECTS, *(number for pair in TWINS for number in pair), *GOOD])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """All defects and 100 good faces, in name: a listing opens no image."""
    images = tmp_path / "raw/CelebA-HQ-img"
    images.mkdir(parents=True)
    for number in ALL:
        (images / f"{number}.jpg").touch()
    nose = tmp_path / f"raw/CelebAMask-HQ-mask-anno/14/{GOOD[0]}_nose.png"
    nose.parent.mkdir(parents=True)
    nose.touch()
    return tmp_path / "raw"


@pytest.fixture(params=["paper 0", "paper 1", "paper 2", "official", "file"])
def rule(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> tuple[str, int]:
    """A split rule and its seed; by the two last, all of a pair's second are in test."""
    seconds = {second for _, second in TWINS}
    if request.param == "official":
        rows = (f"{n}\t0\t{200_000 if n in seconds else 1:06d}.jpg" for n in ALL)
        (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(["idx", *rows]))
    if request.param == "file":
        keys = {
            "train": [f"{number:05d}" for number in reversed(ALL) if number not in seconds],
            "test": [f"{number:05d}" for number in seconds],
        }
        (tmp_path / "split.json").write_text(json.dumps(keys))
        return str(tmp_path / "split.json"), 0
    name, _, seed = request.param.partition(" ")
    return name, int(seed or 0)


def list_faces(root: Path, rule: tuple[str, int], keep: bool = False) -> Listing:
    return LAYOUT.list_items(open_location(root), *rule, keep)


def split_of(listing: Listing) -> dict[int, str]:
    return {int(item.key): item.split for item in listing.items}


def test_dropped_by_default_with_reasons(root: Path, rule: tuple[str, int]):
    expected = {number: f"known defect: {why}" for number, why in DEFECTS.items()}
    expected |= {second: f"known duplicate: of {first:05d}" for first, second in TWINS}
    listing = list_faces(root, rule)
    rejected = {rejection.source: rejection.reason for rejection in listing.rejected}
    assert rejected == {f"CelebA-HQ-img/{n}.jpg": reason for n, reason in expected.items()}
    assert split_of(listing).keys() == set(ALL) - set(expected)


def test_kept_with_duplicates_in_one_split(root: Path, rule: tuple[str, int]):
    listing = list_faces(root, rule, keep=True)
    assert listing.rejected == ()
    split = split_of(listing)
    assert split.keys() == set(ALL)
    assert len(split) == len(listing.items)
    assert all(split[first] == split[second] for first, second in TWINS)


def test_other_faces_are_in_the_same_split_either_way(root: Path, rule: tuple[str, int]):
    dropped, kept = split_of(list_faces(root, rule)), split_of(list_faces(root, rule, keep=True))
    assert dropped == {number: kept[number] for number in dropped}


def test_second_of_a_pair_is_good_without_the_first(root: Path, tmp_path: Path):
    (root / "CelebA-HQ-img/234.jpg").unlink()
    (root / "CelebA-HQ-img/3330.jpg").unlink()
    listing = list_faces(root, ("paper", 0))
    assert {235, 3329} <= split_of(listing).keys()
    assert len(listing.rejected) == len(DEFECTS) + len(TWINS) - 2
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["00234", "00235"]}))
    assert list_faces(root, (str(split), 0)).rejected == ()


def test_shards_without_and_with_them(tmp_path: Path, draw_celebamask: Draw):
    """`limit` takes a few of the good; what is known is not held against so small a share."""
    for number in (404, 235, *range(1000, 1039)):
        draw_celebamask(tmp_path / "raw", number)
    first = (tmp_path / "raw/CelebA-HQ-img/235.jpg").read_bytes()
    draw_celebamask(tmp_path / "raw", 234, image=first)
    dropped = build(tmp_path / "raw", tmp_path / "drop", Recipe(layout="celebamask", limit=5))
    assert sorted(dropped.rejected, key=lambda rejection: rejection.reason) == [
        Rejection("CelebA-HQ-img/404.jpg", "known defect: lacks mouth and lips"),
        Rejection("CelebA-HQ-img/235.jpg", "known duplicate: of 00234"),
    ]
    assert sum(dropped.num_samples.values()) == 5
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["00404", "00234"], "test": ["00235", "01000"]}))
    recipe = Recipe(layout="celebamask", split=str(split), known_defects="keep")
    kept = build(tmp_path / "raw", tmp_path / "keep", recipe)
    assert kept.rejected == ()
    assert kept.num_samples == {"train": 3, "val": 0, "test": 1}
    assert verify(tmp_path / "drop") == verify(tmp_path / "keep") == []
