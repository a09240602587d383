"""Loading a manifest, and what is said where there is none."""

import json
from pathlib import Path

import pytest

from sharding.manifest import Scale, load_manifest
from sharding.packing.building import build
from sharding.packing.recipe import Recipe


@pytest.fixture
def out(helen: Path, tmp_path: Path) -> Path:
    build(helen, tmp_path / "out", Recipe(layout="helen"))
    return tmp_path / "out"


def edit(out: Path, **changes: object) -> None:
    file = out / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_manifest_holds_what_readers_need(out: Path):
    content = json.loads((out / "manifest.json").read_text())
    assert content["format_version"] == 2
    assert content["dataset"] == "helen"
    assert content["scale"] == {"px": 1024, "fit": "at_most"}
    assert content["classes"][4] == "left_eye"
    assert content["num_samples"] == {"train": 4, "val": 1, "test": 1}
    assert content["sides"] == {pair: {"right": 6, "both": 6} for pair in ("brow", "eye")}
    assert content["rejected"] == []
    shard = content["splits"]["train"][0]
    assert shard["path"] == "train/000000.tar"
    assert shard["bytes"] == (out / shard["path"]).stat().st_size
    manifest = load_manifest(out)
    assert manifest.fingerprint == content["fingerprint"]
    assert manifest.scale == Scale(1024, "at_most")
    assert manifest.to_json() == (out / "manifest.json").read_bytes()


def test_celebamask_is_exactly_512(celebamask: Path, tmp_path: Path):
    manifest = build(celebamask, tmp_path / "out", Recipe(layout="celebamask", limit=3))
    assert manifest.scale == Scale(512, "exact")


def test_fingerprint_follows_the_content(out: Path, helen: Path, tmp_path: Path):
    (helen / "images/31_1.jpg").write_bytes((helen / "images/11_1.jpg").read_bytes())
    first = load_manifest(out).fingerprint
    other = build(helen, tmp_path / "other", Recipe(layout="helen", max_rejected=0.5))
    assert other.fingerprint != first


def test_nothing_there(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nothing at .*/missing; check the path, or make"):
        load_manifest(tmp_path / "missing")


def test_other_folder(helen: Path):
    with pytest.raises(ValueError, match=r"must be a sharded data set, but has no manifest.json"):
        load_manifest(helen)


def test_other_format_version(out: Path):
    edit(out, format_version=1)
    with pytest.raises(ValueError, match=r"must have format_version 2, got 1: shard the data"):
        load_manifest(out)


def test_classes_of_no_label_set(out: Path):
    classes = [*load_manifest(out).label_set.class_names, "hat"]
    edit(out, classes=classes)
    with pytest.raises(
        ValueError,
        match=r"manifest.json: classes must be background, .*hair, got .*hat: shard the data again",
    ):
        load_manifest(out)


@pytest.mark.parametrize("text", ["{", "[]", "{}", "\xff"])
def test_broken_json(out: Path, text: str):
    (out / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"manifest.json is not a manifest"):
        load_manifest(out)


def test_incomplete(out: Path):
    content = json.loads((out / "manifest.json").read_text())
    del content["splits"]
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"incomplete or malformed \('splits'\)"):
        load_manifest(out)


@pytest.mark.parametrize("samples", [None, "4", [4], {}])
def test_malformed(out: Path, samples: object):
    content = json.loads((out / "manifest.json").read_text())
    content["splits"]["train"][0]["samples"] = samples
    edit(out, splits=content["splits"])
    with pytest.raises(ValueError, match="incomplete or malformed"):
        load_manifest(out)


def test_edited_by_hand(out: Path):
    edit(out, dataset="celebamask")
    with pytest.raises(ValueError, match="has been changed: its fingerprint must be"):
        load_manifest(out)


@pytest.mark.parametrize("name", ["path", "sha256"])
def test_a_shard_s_name_does_not_lead_elsewhere(out: Path, name: str):
    splits = json.loads((out / "manifest.json").read_text())["splits"]
    splits["train"][0][name] = "../../../elsewhere"
    edit(out, splits=splits)
    with pytest.raises(ValueError, match=r"malformed \(.*got '\.\./\.\./\.\./elsewhere'"):
        load_manifest(out)
