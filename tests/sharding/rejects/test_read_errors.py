"""A file that its owner has closed is rejected; a failing disk or network stops the run."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sharding.packing.building import Recipe, build
from sharding.packing.verify import verify
from stn_icnn.storage import Folder
from tests.sharding.rejects.spoiled_data import Raw, check


def failing_read(path: str, error: OSError) -> Callable[[Folder, str], bytes]:
    read = Folder.read

    def failing(self: Folder, asked: str) -> bytes:
        if asked == path:
            raise error
        return read(self, asked)

    return failing


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
def test_unreadable_file_is_rejected(
    raw_helen: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
):
    for number, (what, path) in enumerate(
        (("image", "images/12_1.jpg"), ("mask", "labels/12_1/12_1_lbl03.png"))
    ):
        error = OSError(code, os.strerror(code))
        with monkeypatch.context() as patch:
            patch.setattr(Folder, "read", failing_read(path, error))
            raw_helen.reasons["images/12_1.jpg"] = f"{what} not readable: {os.strerror(code)}"
            raw_helen.good.discard("12_1")
            check(raw_helen, "helen", tmp_path / f"out{number}")


@pytest.mark.parametrize(
    "code",
    [errno.EIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.ENOTCONN, errno.ESTALE, errno.EMFILE],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("path", ["images/21_1.jpg", "labels/21_1/21_1_lbl03.png", "tuning.txt"])
def test_failing_network_is_no_ones_fault(
    helen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, code: int
):
    """The run fails, whatever share may be rejected, and then goes on with nothing left out."""
    recipe = Recipe(layout="helen", max_rejected=1)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", failing_read(path, OSError(code, os.strerror(code))))
        with pytest.raises(OSError, match=os.strerror(code)):
            build(helen, out, recipe)
    assert not (out / "manifest.json").exists()
    assert build(helen, out, recipe).rejected == ()
    assert verify(out) == []


def test_failing_network_does_not_hide_files(
    raw_celebamask: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scandir = os.scandir

    def failing(path: str) -> object:
        if str(path).endswith("/0"):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing)
        with pytest.raises(OSError, match="Stale file handle"):
            build(raw_celebamask.root, tmp_path / "out", Recipe(layout="celebamask"))
    check(raw_celebamask, "celebamask", tmp_path / "out")
