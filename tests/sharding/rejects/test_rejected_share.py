"""The share of a data set that may be rejected, and what counts towards it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from tests.sharding.rejects.spoiled_data import Raw, list_more


def test_a_split_file_takes_a_few_of_a_poor_archive(raw_celebamask: Raw, tmp_path: Path):
    """The archive's own defects, in faces that the file does not name, do not stop it."""
    raw = raw_celebamask
    for name in ("a", "b", "c"):
        (raw.root / f"CelebA-HQ-img/{name}.jpg").write_bytes(b"of no id")
        (raw.root / f"CelebAMask-HQ-mask-anno/0/{name}_nose.png").write_bytes(b"without an image")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["01995", "01996"], "test": ["02003"]}))
    recipe = Recipe(layout="celebamask", split=str(split), max_rejected=0)
    manifest = build(raw.root, tmp_path / "out", recipe)
    assert manifest.num_samples == {"train": 2, "val": 0, "test": 1}
    with pytest.raises(ValueError, match="6 of 16 items are rejected"):
        build(raw.root, tmp_path / "all", replace(recipe, split="paper", max_rejected=0.05))


def test_a_list_of_helen_that_was_cut_off_stops_the_run(raw_helen: Raw, tmp_path: Path):
    """Else the data set would be smaller than its archive, and nobody would know."""
    (raw_helen.root / "exemplars.txt").write_text("1 , 11_1\n")
    with pytest.raises(ValueError, match=r"3 of 6 items are rejected.*: image in no list 3"):
        build(raw_helen.root, tmp_path / "out", Recipe(layout="helen"))


def test_rejects_of_the_listing_and_of_reading_are_one_sum(raw_helen: Raw, tmp_path: Path):
    raw = raw_helen
    list_more(raw, ["21_1"])
    (raw.root / "images/12_1.jpg").write_bytes(b"")
    recipe = Recipe(layout="helen", max_rejected=0.2)
    with pytest.raises(ValueError, match="2 of 7 items are rejected") as failed:
        build(raw.root, tmp_path / "out", recipe)
    assert str(failed.value).splitlines()[1:] == [
        "rejected images/21_1.jpg: listed twice: in exemplars.txt and tuning.txt",
        "rejected images/12_1.jpg: image empty: a file of 0 bytes",
    ]
    build(raw.root, tmp_path / "out", replace(recipe, max_rejected=0.3))
    with pytest.raises(ValueError, match="2 of 7 items are rejected"):  # though all is finished
        build(raw.root, tmp_path / "out", recipe)


def test_limit_takes_its_share_of_what_the_listing_rejects(raw_helen: Raw, tmp_path: Path):
    """Else the rejects of a whole archive would be held against a few faces of it."""
    raw = raw_helen
    list_more(raw, ["21_1"])
    recipe = Recipe(layout="helen", limit=3, max_rejected=0.2)
    assert build(raw.root, tmp_path / "sound", recipe).num_samples["train"] == 2
    (raw.root / "images/11_1.jpg").write_bytes(b"")
    whole = r"listed twice 1, image empty 1 \(all 1 of the listing counted\)"
    with pytest.raises(ValueError, match=rf"2 of 5 items .* share 0\.2 .*: {whole}"):
        build(raw.root, tmp_path / "out", recipe)
