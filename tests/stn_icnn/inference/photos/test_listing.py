"""Which files of a folder are taken for photographs, and which are passed over and counted."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from stn_icnn.inference.command import main


def parse(model: Path, *given: object) -> int:
    return main(["parse", *map(str, given), "--model", str(model)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.png"):
        Image.effect_noise((30, 40), 90).convert("RGB").save(folder / name)
    return folder


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_files_that_are_passed_over_are_counted_by_suffix(
    photos: Path, tiny_parent: Path, tmp_path: Path, capsys
):
    for name in ("raw.CR2", "raw.cr2", "notes", ".hidden.jpg", "notes.txt"):
        (photos / name).write_text("no photograph")
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "elsewhere" / "c.jpg")
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    assert parse(tiny_parent, photos, "--out", tmp_path / "out") == 0
    result = last_line(capsys)
    assert result["parsed"] == 2
    assert result["passed_over"] == {
        ".cr2": 2, "hidden": 1, "no suffix": 1, ".txt": 1, "linked folder": 1
    }  # fmt: skip
    (photos / "a.jpg").unlink()
    (photos / "b.png").unlink()
    assert parse(tiny_parent, photos, "--out", tmp_path / "out2") == 2
    assert "), but: 2 .cr2, 1 hidden, 1 no suffix" in capsys.readouterr().err


@pytest.mark.parametrize(
    "write",
    [
        "labels,overlay,windows",
        pytest.param("labels", marks=pytest.mark.slow),
        pytest.param("overlay", marks=pytest.mark.slow),
    ],
)
def test_label_maps_and_overlays_are_never_taken_for_photographs(
    photos: Path, tiny_parent: Path, write: str, capsys
):
    """Of an earlier run into another folder, into this one, and under other names."""
    number = write.count("labels") + write.count("overlay")
    assert parse(tiny_parent, photos, "--out", photos / "labels", "--write", write) == 0
    for again in range(2):
        assert last_line(capsys)["passed_over"] == {}, again
        assert parse(tiny_parent, photos, "--out", photos / "labels", "--write", write) == 0
    assert last_line(capsys)["parsed"] == 2
    for path in list((photos / "labels").glob("*.*g")):
        path.rename(path.with_stem(f"x_{path.stem}"))
    assert parse(tiny_parent, photos, "--out", photos / "other", "--write", write) == 0
    result = last_line(capsys)
    assert (result["parsed"], result["failed"]) == (2, 0)
    assert result["passed_over"].pop("label map or overlay") == 2 * number
    assert not any("_overlay_" in path.name for path in (photos / "other").iterdir())


@pytest.mark.slow
def test_the_folder_of_the_photographs_can_be_the_output_again_and_again(
    photos: Path, tiny_parent: Path, capsys
):
    (photos / "b.png").unlink()  # its label map would lie where it lies
    before = (photos / "a.jpg").read_bytes()
    for _ in range(3):
        assert parse(tiny_parent, photos, "--out", photos) == 0
        assert last_line(capsys)["parsed"] == 1
        assert {path.name for path in photos.iterdir()} == {
            "a.jpg", "a.png", "a_overlay.jpg", "a_windows.json", "classes.json"
        }  # fmt: skip
    assert (photos / "a.jpg").read_bytes() == before


def test_a_photograph_that_is_named_as_an_overlay_is_one(
    photos: Path, tiny_parent: Path, tmp_path: Path, capsys
):
    (photos / "a.jpg").rename(photos / "b_overlay.jpg")
    assert parse(tiny_parent, photos, "--out", tmp_path / "out") == 0
    assert last_line(capsys)["parsed"] == 2


@pytest.mark.parametrize("address", ["s3://bucket/photos", "https://host/a.jpg"])
def test_an_address_is_no_folder(address: str, photos: Path, tiny_parent: Path, capsys):
    for given in ((address, "--out", photos / "out"), (photos, "--out", address)):
        assert parse(tiny_parent, *given) == 2
        said = capsys.readouterr().err
        assert f"{address} is no folder: python jobs/parse.py --input s3://" in said
        assert len(said.splitlines()) == 1
    assert not (photos / "out").exists()


def test_an_empty_name_is_not_the_working_directory(
    photos: Path, tiny_parent: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(photos)
    for given, name in ((("", "--out", "out"), "PHOTO"), ((".", "--out", ""), "--out")):
        assert parse(tiny_parent, *given) == 2
        assert f"error: {name} is empty" in capsys.readouterr().err
    assert {path.name for path in photos.iterdir()} == {"a.jpg", "b.png"}


def test_an_output_that_is_a_file_is_refused(photos: Path, tiny_parent: Path, capsys):
    assert parse(tiny_parent, photos / "a.jpg", "--out", photos / "b.png") == 2
    assert f"--out must be a folder, {photos / 'b.png'} is none" in capsys.readouterr().err


def test_a_fifo_beside_a_photograph_of_its_name_is_named_and_does_not_hang(
    photos: Path, tiny_parent: Path, tmp_path: Path, capsys
):
    os.mkfifo(photos / "b.jpg")
    assert parse(tiny_parent, photos, "--out", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["parsed"] == 2
    assert f"{photos / 'b.jpg'}: image not readable: a pipe, socket or device" in printed.err


@pytest.mark.slow
def test_a_photograph_keeps_the_names_of_its_results_whatever_comes_beside_it(
    photos: Path, tiny_parent: Path, tmp_path: Path, capsys
):
    out = tmp_path / "out"
    given = (photos, "--out", out, "--skip-existing")
    assert parse(tiny_parent, *given) == 0
    Image.new("RGB", (31, 30)).save(photos / "a.webp")
    capsys.readouterr()
    assert parse(tiny_parent, *given) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["parsed"], result["skipped"]) == (1, 2)
    assert {path.name for path in out.glob("*.png")} == {"a.png", "a.webp.png", "b.png"}
    assert "used no longer" not in printed.err
    (photos / "a.jpg").unlink()
    assert parse(tiny_parent, *given) == 0
    assert (last_line(capsys)["parsed"], (out / "a.webp.png").exists()) == (0, True)


def test_results_of_which_no_record_tells_the_owner_are_named(
    photos: Path, tiny_parent: Path, tmp_path: Path, capsys
):
    """Without a file of windows, or with one of an earlier version."""
    out = tmp_path / "out"
    given = (photos, "--out", out, "--write", "labels", "--skip-existing")
    assert parse(tiny_parent, *given) == 0
    (out / "a_windows.json").write_text(json.dumps({"windows": {}}))
    Image.new("RGB", (31, 30)).save(photos / "a.webp")
    capsys.readouterr()
    assert parse(tiny_parent, *given) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["parsed"] == 2
    assert f"used no longer: {out / 'a.png'} and 1 more, as several photographs" in printed.err
    assert {path.name for path in out.glob("*.png")} == {
        "a.png", "a.jpg.png", "a.webp.png", "b.png"
    }  # fmt: skip
