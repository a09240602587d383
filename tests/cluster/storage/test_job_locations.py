from pathlib import Path

import pytest

from cluster.storage import job_locations
from sharding.storage.s3 import Bucket
from stn_icnn.storage import Folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (job_locations.STORAGE_ENV, job_locations.CACHE_ENV):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    yield tmp_path / "data" / "stn-icnn"
    assert not list(working.iterdir()), "something was left in the working directory"


def test_data_home_is_in_the_user_s_home_unless_xdg_says_otherwise(monkeypatch, tmp_path, home):
    assert job_locations.data_home() == home
    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ("", "relative/folder"):
        monkeypatch.setenv("XDG_DATA_HOME", ignored)
        assert job_locations.data_home() == tmp_path / ".local/share/stn-icnn"


def test_cache_home_is_named_or_in_the_user_s_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert job_locations.cache_home() == tmp_path / ".cache/stn-icnn"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert job_locations.cache_home() == Path("/xdg/stn-icnn")
    monkeypatch.setenv("STN_ICNN_CACHE", "/scratch/mine")
    assert job_locations.cache_home() == Path("/scratch/mine")
    monkeypatch.setenv("STN_ICNN_CACHE", "mine")
    with pytest.raises(ValueError, match="STN_ICNN_CACHE must be an absolute path, got 'mine'"):
        job_locations.cache_home()


def test_storage_argument_then_environment_then_home(monkeypatch, tmp_path, home):
    assert job_locations.resolve_storage() == Folder(home / "storage")
    monkeypatch.setenv("STN_ICNN_STORAGE", str(tmp_path / "env"))
    assert job_locations.resolve_storage() == Folder(tmp_path / "env")
    assert job_locations.resolve_storage(str(tmp_path / "given")) == Folder(tmp_path / "given")
    assert all((tmp_path / made).is_dir() for made in ("env", "given"))


def test_storage_in_a_bucket_is_kept_and_a_relative_folder_made_absolute(tmp_path, monkeypatch):
    assert job_locations.resolve_storage("s3://bucket/some/prefix/") == Bucket(
        "bucket", "some/prefix"
    )
    monkeypatch.chdir(tmp_path)
    assert job_locations.resolve_storage("there") == Folder(tmp_path / "there")


@pytest.mark.parametrize("storage", ["gs://bucket/x", "s3://", "s3:///prefix", "file:///tmp/x"])
def test_storage_refuses_what_it_cannot_use(storage):
    with pytest.raises(ValueError, match=r"storage must be a folder or s3://BUCKET/PREFIX, got"):
        job_locations.resolve_storage(storage)


def test_storage_refuses_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"the storage folder .*/file/x cannot be made"):
        job_locations.resolve_storage(str(tmp_path / "file" / "x"))


def test_a_submitted_job_s_own_copy_is_no_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray deletes it with the job."""
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0123456789abcdef"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(ValueError, match=r"storage folder runs is relative, .* temporary copy"):
        job_locations.resolve_storage("runs")
    assert job_locations.resolve_storage(str(tmp_path / "runs")) == Folder(tmp_path / "runs")
