"""Sharded data as jobs find it, and what is said where there is none."""

import json
import shutil
from pathlib import Path

import pytest

from cluster.storage.datasets import ShardedData
from sharding.manifest import Manifest, load_manifest
from stn_icnn.storage import Folder


def test_a_data_set_tells_a_model_what_it_must_remember(shards: Path):
    facts = ShardedData.open(str(shards)).facts
    assert facts.dataset == "helen"
    assert facts.fingerprint == load_manifest(shards).fingerprint
    assert (facts.scale_px, facts.scale_fit) == (1024, "at_most")
    assert ShardedData.open(str(shards), "procedural").facts.dataset == "procedural"


def test_shards_are_found_in_the_manifest_s_order(shards: Path):
    found = ShardedData.open(str(shards)).shards("train")
    assert [s.url for s in found] == [str(shards / "train" / f"{i:06d}.tar") for i in range(3)]
    assert [s.samples for s in found] == [3, 3, 2]


def test_a_relative_address_is_made_absolute(shards: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(shards.parent)
    assert ShardedData.open("shards").location == Folder(shards)


def test_nothing_there(tmp_path: Path):
    with pytest.raises(ValueError, match=r"there is nothing at .*gone; check the path"):
        ShardedData.open(str(tmp_path / "gone"))


def test_what_a_submitted_job_s_copy_leaves_out(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ray copies the working directory without what .gitignore names, as it does data."""
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0123456789abcdef"
    shutil.copytree(shards, copy / "copied")
    monkeypatch.chdir(copy)
    told = r"the data folder shards/helen is relative, .*\.gitignore.*: give an absolute path or s3"
    with pytest.raises(ValueError, match=told):
        ShardedData.open("shards/helen")
    assert ShardedData.open("copied").location == Folder(copy / "copied")
    with pytest.raises(ValueError, match="there is nothing at /nowhere"):
        ShardedData.open("/nowhere")


def test_a_folder_of_something_else(tmp_path: Path):
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be a sharded data set, but has no manifest\.json"):
        ShardedData.open(str(tmp_path))


def test_an_unfinished_data_set(shards: Path, tmp_path: Path):
    shutil.copytree(shards, tmp_path / "half")
    (tmp_path / "half" / "manifest.json").unlink()
    (tmp_path / "half" / ".parts").mkdir()
    (tmp_path / "half" / ".parts" / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match=r"half is unfinished: .* run the command .* again"):
        ShardedData.open(str(tmp_path / "half"))


def test_an_empty_split_is_refused_with_what_there_is(shards: Path, tmp_path: Path):
    manifest = load_manifest(shards)
    emptied = Manifest(**{**vars(manifest), "splits": {**manifest.splits, "val": ()}})
    (tmp_path / "manifest.json").write_bytes(emptied.to_json())
    data = ShardedData.open(str(tmp_path))
    with pytest.raises(ValueError, match=r"has no faces in its split 'val'; .*'train': 8"):
        data.shards("val")
    assert len(data.shards("train")) == 3


def test_a_manifest_that_was_edited_is_refused(shards: Path, tmp_path: Path):
    content = json.loads((shards / "manifest.json").read_text())
    content["scale"]["px"] = 512
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has been changed"):
        ShardedData.open(str(tmp_path))
