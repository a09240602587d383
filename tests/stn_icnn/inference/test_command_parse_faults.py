"""`stn-icnn parse` where photographs or results fail: which end the run, which are named."""

import errno
import json
from pathlib import Path

import pytest
from PIL import Image

from stn_icnn.inference.command import main
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.outputs.output_files import encode_output
from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto
from stn_icnn.inference.photographs import MOST_UNFORESEEN
from stn_icnn.inference.photos.decoding import DecodedPhoto
from stn_icnn.storage import Folder
from tests.parse_command import refusal


def test_photographs_that_are_none_are_named_and_the_others_parsed(
    photos: Path, model: str, tmp_path: Path, capsys
):
    """Each of another kind of damage; the last may come after the good ones."""
    Image.effect_noise((200, 200), 90).save(photos / "whole.png")
    half = (photos / "whole.png").read_bytes()[:5000]
    (photos / "whole.png").unlink()
    bad = {"aa.jpg": b"text", "half.png": half, "nothing.bmp": b"", "z.webp": half[::-1]}
    for name, content in bad.items():
        (photos / name).write_bytes(content)
    out = tmp_path / "out"
    assert main(["parse", str(photos), "--model", model, "--out", str(out)]) == 1
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["parsed"], result["failed"]) == (2, 4)
    for name in bad:
        assert f"{photos / name}: image " in printed.err
    assert {path.name[0] for path in out.iterdir()} == {"a", "b", "c"}  # classes.json
    assert not (out / "aa.png").exists()


@pytest.mark.parametrize("in_the_way", ["b.png", "long"])
def test_a_result_that_cannot_be_written_is_named_and_the_others_are(
    photos: Path, model: str, tmp_path: Path, in_the_way: str, capsys
):
    """A folder has the name of its result, or the name is too long for a disk."""
    out = tmp_path / "out"
    if in_the_way == "long":
        named = "b" * 247 + ".png"
        (photos / "b.png").rename(photos / named)
        reason = "overlay not written: File name too long"
    else:
        named, reason = "b.png", "labels not written: Is a directory"
        (out / "b.png").mkdir(parents=True)
    assert main(["parse", str(photos), "--model", model, "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["failed"] == json.loads(printed.out)["parsed"] == 1
    assert f"{photos / named}: {reason}" in printed.err
    assert (out / "a_windows.json").exists()


def test_a_full_disk_ends_it_at_once(
    photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    tried = []

    def full(folder: Folder, path: str, data: bytes) -> None:
        tried.append(path)
        raise OSError(errno.ENOSPC, "No space left on device", path)

    for i in range(30):
        Image.new("RGB", (30, 30)).save(photos / f"c{i}.png")
    monkeypatch.setattr(Folder, "write", full)
    said = refusal(capsys, photos, "--model", model, "--out", tmp_path / "out")
    assert "error: [Errno 28] No space left on device: " in said
    assert len(tried) < 30


@pytest.mark.parametrize(
    ("error", "status"), [(OSError(errno.ENOSPC, "full"), 2), (KeyboardInterrupt(), 130)]
)
def test_what_ends_the_run_does_not_hide_what_failed_before(
    photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys,
    error: BaseException, status: int,
):  # fmt: skip
    def ended(folder: Folder, path: str, data: bytes) -> None:
        raise error

    (photos / "a.jpg").write_bytes(b"text")
    monkeypatch.setattr(Folder, "write", ended)
    command = ["parse", str(photos), "--model", model, "--out", str(tmp_path / "out")]
    assert main(command) == status
    assert f"{photos / 'a.jpg'}: image does not decode" in capsys.readouterr().err


def fail_at_13_x_17(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model fails for a batch that has a photograph of 13 x 17 px."""
    parse_all = FaceParser.parse_all

    def fragile(parser: FaceParser, given: list[DecodedPhoto], *how: object) -> object:
        if any(photo.size == (13, 17) for photo in given):
            raise RuntimeError("a bug")
        return parse_all(parser, given, *how)

    monkeypatch.setattr(FaceParser, "parse_all", fragile)


def test_odd_ones_do_not_end_a_run_that_goes_on_where_others_are_done(
    photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    fail_at_13_x_17(monkeypatch)
    command = ["parse", str(photos), "--model", model, "--out", str(tmp_path / "out")]
    assert main(command) == 0
    for i in range(MOST_UNFORESEEN + 1):
        Image.new("RGB", (13, 17)).save(photos / f"0{i}.png")
    Image.new("RGB", (30, 30)).save(photos / "z.png")
    capsys.readouterr()
    assert main([*command, "--skip-existing"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["parsed"], result["skipped"], result["failed"]) == (1, 2, MOST_UNFORESEEN + 1)


def test_what_fails_for_all_photographs_ends_it(
    photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    def broken(parser: FaceParser, given: list[object], *how: object) -> list[object]:
        raise RuntimeError("no kernel for this device")

    for i in range(30):
        Image.new("RGB", (30, 30)).save(photos / f"c{i}.png")
    monkeypatch.setattr(FaceParser, "parse_all", broken)
    said = refusal(capsys, photos, "--model", model, "--out", tmp_path / "out")
    assert "all photographs fail" in said
    assert "RuntimeError: no kernel for this device" in said


def test_what_fails_for_one_photograph_is_named(
    photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """In the model, or as its overlay is drawn; the others of its batch are parsed."""

    def undrawn(face: ParsedPhoto, kind: str, photo: str) -> bytes:
        if kind == "overlay" and face.labels.shape == (23, 19):
            raise ZeroDivisionError("division by zero")
        return encode_output(face, kind, photo)

    Image.new("RGB", (13, 17)).save(photos / "c.png")
    Image.new("RGB", (19, 23)).save(photos / "d.png")
    fail_at_13_x_17(monkeypatch)
    monkeypatch.setattr("stn_icnn.inference.photographs.encode_output", undrawn)
    out = tmp_path / "out"
    assert main(["parse", str(photos), "--model", model, "--out", str(out)]) == 1
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["parsed"], result["failed"]) == (2, 2)
    assert f"{photos / 'c.png'}: not parsed: RuntimeError: a bug" in printed.err
    assert f"{photos / 'd.png'}: overlay not made: ZeroDivisionError: division" in printed.err
