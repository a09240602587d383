"""The local folder; what it has in common with a bucket is tested in sharding/storage."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from stn_icnn.decoding import RejectedError, read_image_file
from stn_icnn.storage import Folder, is_within


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full_disk(source: BinaryIO, target: BinaryIO) -> None:
        target.write(b"ha")
        raise OSError("No space left on device")

    folder = Folder(tmp_path / "folder")
    folder.write("a", b"old")
    monkeypatch.setattr(shutil, "copyfileobj", full_disk)
    with pytest.raises(OSError, match="No space left"):
        folder.upload(io.BytesIO(b"half"), "a")
    assert folder.list() == ["a"]
    assert folder.read("a") == b"old"


@pytest.mark.parametrize("name", ["日" * 82, "n" * 255, "é" + "n" * 253])
def test_a_name_as_long_as_they_may_be_is_written(name: str, tmp_path: Path):
    """Whatever the name of the half-written file beside it is."""
    folder = Folder(tmp_path / "folder")
    folder.write(name, b"whole")
    assert folder.list() == [name]
    assert folder.read(name) == b"whole"


def test_a_fifo_is_refused_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(OSError, match="a pipe, socket or device"):
        Folder(tmp_path).read("x.jpg")
    with pytest.raises(OSError, match="a pipe, socket or device"):
        Folder(tmp_path).open("x.jpg")
    with pytest.raises(RejectedError, match="image not readable: a pipe, socket or device"):
        read_image_file(Folder(tmp_path), "x.jpg")


def test_what_is_within_a_location(tmp_path: Path):
    folder = Folder(tmp_path / "a")
    assert is_within(folder.url, folder)
    assert is_within(folder.child("b").url_of("c.jpg"), folder)
    assert not is_within(str(tmp_path / "ab"), folder)
    assert not is_within(str(tmp_path), folder)


def test_storage_and_progress_need_neither_torch_nor_boto3():
    code = """
import sys
import stn_icnn.progress, stn_icnn.storage
stn_icnn.storage.Folder(stn_icnn.storage.Path("x")).list()
print([name for name in ("torch", "boto3", "numpy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
