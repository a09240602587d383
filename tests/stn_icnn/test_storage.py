"""The local folder; what it has in common with a bucket is tested in sharding/storage."""

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

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
