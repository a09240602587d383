"""A trial's checkpoints and reports: whole or absent, wherever its process is killed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.sweep.trial_storage import TrialStorage
from sharding.storage.location import open_location
from stn_icnn.context import CheckpointReport, EpochReport
from stn_icnn.storage import Folder, StorageLocation


def folder_with(path: Path, text: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.pt").write_text(text)
    (path / "state.pt").write_text(text)
    return path


def report(epoch: int) -> EpochReport:
    return EpochReport(epoch, {"val/f1_parts": epoch / 10}, "a CPU")


def content(storage: TrialStorage) -> set[str]:
    with storage.checkpoint() as folder:
        assert folder is not None
        return {(folder / name).read_text() for name in ("model.pt", "state.pt")}


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_the_latest_checkpoint_takes_the_place_of_the_one_before(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    location: StorageLocation = Folder(tmp_path / "trial" / "fine")
    if kind == "bucket":
        location = open_location(request.getfixturevalue("bucket")).child("trial").child("fine")
    storage = TrialStorage(location)
    with storage.checkpoint() as folder:
        assert folder is None
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        storage.model()
    storage.save(folder_with(tmp_path / "a", "one"), report(1))
    storage.save(folder_with(tmp_path / "b", "within"), CheckpointReport(1, 2, "a CPU"))
    assert content(storage) == {"within"}
    storage.save(folder_with(tmp_path / "c", "two"), report(2))
    assert content(TrialStorage(location)) == {"two"}
    assert storage.model() == b"two"
    assert TrialStorage(location).reports() == [report(1), report(2)]
    assert {path.split("/")[0] for path in storage.location.list()} == {
        "epoch_0002",
        "latest.json",
        "reports.json",
    }


def test_killed_while_a_checkpoint_is_written_the_one_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = TrialStorage(Folder(tmp_path / "fine"))
    storage.save(folder_with(tmp_path / "a", "one"), report(1))
    write = type(storage.location).write
    written = []

    def dies_at_the_second(self, path: str, data: bytes) -> None:
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        write(self, path, data)

    monkeypatch.setattr(type(storage.location), "write", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        storage.save(folder_with(tmp_path / "b", "two"), report(2))
    monkeypatch.undo()
    assert content(storage) == {"one"}
    assert storage.reports() == [report(1)]
    storage.save(folder_with(tmp_path / "b", "two"), report(2))
    assert content(storage) == {"two"}


def test_killed_before_the_one_before_is_gone_it_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = TrialStorage(Folder(tmp_path / "fine"))
    storage.save(folder_with(tmp_path / "a", "one"), report(1))

    def dies(self, path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(storage.location), "delete", dies)
    with pytest.raises(KeyboardInterrupt):
        storage.save(folder_with(tmp_path / "b", "two"), report(2))
    monkeypatch.undo()
    assert content(storage) == {"two"}
    storage.save(folder_with(tmp_path / "c", "three"), report(3))
    assert {path.split("/")[0] for path in storage.location.list()} == {
        "epoch_0003",
        "latest.json",
        "reports.json",
    }


def test_a_checkpoint_that_comes_again_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    storage = TrialStorage(Folder(tmp_path / "fine"))
    for text in ("one", "again"):
        storage.save(folder_with(tmp_path / text, text), report(1))
    assert content(storage) == {"again"}


def test_an_epoch_that_is_trained_again_replaces_its_report(tmp_path: Path) -> None:
    storage = TrialStorage(Folder(tmp_path))
    for epoch in (1, 2, 3, 2):
        storage.add_report(report(epoch))
    assert storage.reports() == [report(1), report(2)]


def test_reports_are_read_as_an_earlier_version_wrote_them(tmp_path: Path) -> None:
    stored = [
        {"epoch": 1, "step": 0, "val/f1_parts": 0.1},
        {"epoch": 2, "step": 0, "computed_on": "a CPU", "val/f1_parts": 0.2},
    ]
    (tmp_path / "reports.json").write_text(json.dumps(stored))
    storage = TrialStorage(Folder(tmp_path))
    assert storage.reports() == [replace(report(1), computed_on=""), report(2)]
    storage.add_report(report(2))
    assert json.loads((tmp_path / "reports.json").read_text())[1] == stored[1]
