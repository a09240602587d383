"""One face's fault rejects that face; what would fail for each stops the run."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sharding.packing import writer
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.packing.verify import verify
from sharding.packing.writer import LAYOUTS
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


@pytest.mark.parametrize("where", ["image", "mask"])
def test_a_pipe_in_the_place_of_a_file_is_rejected_and_not_waited_for(
    raw_helen: Raw, tmp_path: Path, where: str
):
    path = {"image": "images/12_1.jpg", "mask": "labels/12_1/12_1_lbl03.png"}[where]
    (raw_helen.root / path).unlink()
    os.mkfifo(raw_helen.root / path)
    raw_helen.reasons["images/12_1.jpg"] = f"{where} not readable: a pipe, socket or device"
    raw_helen.good.remove("12_1")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sharding", "helen", "--source", str(raw_helen.root)]
    command += ["--out", str(out), "--max-rejected", "1", "--workers", "1"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    check(raw_helen, "helen", tmp_path / "again")
    assert (out / "manifest.json").read_bytes() == (tmp_path / "again/manifest.json").read_bytes()


@pytest.mark.parametrize("step", ["read", "encode"])
def test_an_error_that_nobody_foresaw_rejects_one_face(
    raw_helen: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    """Pillow, NumPy or what is read next may raise anything."""

    def fail_for_one(real: Callable[..., object], key: Callable[..., str]) -> Callable[..., object]:
        def run(*args: object) -> object:
            if key(*args) == "12_1":
                raise RuntimeError("tile cannot extend outside image")
            return real(*args)

        return run

    if step == "read":
        read = fail_for_one(LAYOUTS["helen"].read, lambda _, item, __: item.key)
        monkeypatch.setitem(LAYOUTS, "helen", replace(LAYOUTS["helen"], read=read))
    else:
        encode = fail_for_one(writer.encode_sample, lambda item, *_: item.key)
        monkeypatch.setattr(writer, "encode_sample", encode)
    reason = "sample fails: RuntimeError: tile cannot extend outside image"
    raw_helen.reasons["images/12_1.jpg"] = reason
    raw_helen.good.remove("12_1")
    check(raw_helen, "helen", tmp_path / "out")


def test_a_bucket_without_rights_ends_the_run(
    helen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its first refusal does: the other files would be refused, too."""
    error = PermissionError("s3://raw/images/12_1.jpg: AccessDenied")
    monkeypatch.setattr(Folder, "read", failing_read("images/12_1.jpg", error))
    with pytest.raises(PermissionError, match=r"s3://raw/images/12_1\.jpg: AccessDenied"):
        build(helen, tmp_path / "out", Recipe(layout="helen", max_rejected=1))


def test_a_full_disk_ends_the_run(helen: Path, tmp_path: Path):
    """Whatever share may be rejected: it is the fault of none."""
    recipe, out = Recipe(layout="helen", max_rejected=1), tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # the disk takes no more
    try:
        with pytest.raises(OSError, match="File too large"):
            build(helen, out, recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert build(helen, out, recipe).rejected == ()
