"""The command line: `python -m sharding`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sharding.cli import main
from sharding.manifest import Rejection, load_manifest
from sharding.packing.building import shown_rejections
from sharding.storage.location import open_location


def run(*args: object) -> int:
    return main([str(arg) for arg in args])


def run_helen(source: Path, out: Path, *options: object) -> int:
    """In this process: a worker's start takes seconds."""
    return run("helen", "--source", source, "--out", out, "--workers", 1, *options)


@pytest.mark.slow
def test_build_verify_inspect(celebamask: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out, sheet = tmp_path / "out", tmp_path / "sheets/sheet.png"
    assert run("celebamask", "--source", celebamask, "--out", out, "--shard-size", 4) == 0
    printed = capsys.readouterr()
    assert "6 train, 2 val, 2 test; 0 rejected\n" in printed.out
    last = printed.err.splitlines()[-1]
    assert re.fullmatch(r"10 of 10 images, \d+\.\d a second, 0 s left", last)
    assert run("verify", out) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}: sound\n"
    assert printed.err.startswith("10 of 10 images, ")

    assert run("inspect", out, "--sheet", sheet) == 0
    report, progress = capsys.readouterr()
    assert progress.startswith("10 of 10 images, ")
    lines = [line.split() for line in report.splitlines()]
    assert next(line[:3] for line in lines if line[:1] == ["train"]) == ["train", "6", "2"]
    assert ["left_eye", "100.0", "%", "50x20", "50x20"] in lines
    assert ["nose", "1.526", "1.526", "1.526"] in lines
    assert "right_eye lies left of left_eye in 10 of 10 faces: as it should be" in report
    assert Image.open(sheet).mode == "RGB"
    assert run("verify", out) == 0


def test_done_already(helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    for _ in range(2):
        assert run_helen(helen, tmp_path / "out") == 0
    assert "is already complete" in capsys.readouterr().out


def test_verify_exits_1_with_a_list(helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "out"
    run_helen(helen, out)
    (out / "val/000000.tar").unlink()
    capsys.readouterr()
    assert run("verify", out) == 1
    assert capsys.readouterr().out == f"val/000000.tar: missing\n{out}: 1 problem\n"


def test_swapped_sides_are_noticed(helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    """When the shards are made, and by `inspect`, in the words of the archive."""
    run_helen(helen, tmp_path / "right")
    assert "warning" not in capsys.readouterr().err
    run("inspect", tmp_path / "right", "--sheet", tmp_path / "sheet.png")
    brows = "right_brow (HELEN's lbl02) lies left of left_brow (lbl03)"
    assert f"{brows} in 6 of 6 faces: as it should be\n" in capsys.readouterr().out
    for maps in (helen / "labels").iterdir():
        for one, other in ((2, 3), (4, 5)):
            first, second = (maps / f"{maps.name}_lbl{i:02d}.png" for i in (one, other))
            parked = first.rename(maps / "parked.png")
            second.rename(first)
            parked.rename(second)
    assert run_helen(helen, tmp_path / "out") == 0
    warnings = capsys.readouterr().err
    for pair in ("brow", "eye"):
        assert f"warning: the left {pair} lies left of the right one in 6 of 6 faces" in warnings
    assert run("verify", tmp_path / "out") == 0
    run("inspect", tmp_path / "out", "--sheet", tmp_path / "sheet.png")
    report = capsys.readouterr().out
    eyes = "right_eye (HELEN's lbl04) lies left of left_eye (lbl05)"
    for pair in (brows, eyes):
        assert f"{pair} in 0 of 6 faces: WRONG: left and right are swapped\n" in report


def test_contact_sheet_may_go_to_a_bucket(helen: Path, tmp_path: Path, bucket: str):
    run_helen(helen, tmp_path / "out")
    assert run("inspect", tmp_path / "out", "--sheet", f"{bucket}/sheets/sheet.png") == 0
    with open_location(bucket).open("sheets/sheet.png") as sheet:
        assert Image.open(sheet).mode == "RGB"


def test_rejected_images_are_counted(helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    (helen / "images/11_1.jpg").write_bytes(b"")
    (helen / "testing.txt").write_text("1 , 31_1\n2 , 11_1\n3 , ../../secret\n4 , a.b\n")
    assert run_helen(helen, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "items are rejected, more than the share 0.05 that --max-rejected allows: " in error
    assert run_helen(helen, tmp_path / "out", "--max-rejected", 1) == 0
    printed = capsys.readouterr().out
    assert "rejected images/11_1.jpg: image empty: a file of 0 bytes\n" in printed
    assert "rejected images/11_1.jpg: listed twice: in exemplars.txt and testing.txt\n" in printed
    assert "3 train, 1 val, 1 test; 4 rejected: name not usable 2, listed twice 1, image" in printed
    run("inspect", tmp_path / "out", "--sheet", tmp_path / "sheet.png")
    assert "\n4 rejected: name not usable 2, listed twice 1, image" in capsys.readouterr().out


def test_too_many_rejected_images_are_shown(
    helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    missing = "".join(f"{number} , missing-{number:02d}\n" for number in range(30))
    (helen / "testing.txt").write_text(f"1 , 31_1\n{missing}2 , a.b\n")
    assert run_helen(helen, tmp_path / "out", "--max-rejected", 0.5) == 2
    *_, error, first = capsys.readouterr().err.partition("sharding helen: error: ")
    error, *shown = first.splitlines()
    share = "more than the share 0.5 that --max-rejected allows"
    kinds = "image missing 30, name not usable 1"
    assert error == f"31 of 37 items are rejected, {share}: {kinds}"
    expected = (
        "name not usable: 'a.b' in testing.txt, expected letters, digits, - and _, at most 90"
    )
    assert shown == [
        f"rejected images/a.b.jpg: {expected}",
        *(f"rejected images/missing-{number:02d}.jpg: image missing" for number in range(19)),
        "and 11 more",
    ]


def test_error_is_one_line_and_exit_2(tmp_path: Path):
    command = [sys.executable, "-m", "sharding", "inspect", str(tmp_path / "missing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("sharding inspect: error: there is nothing at ")


def test_faces_are_a_raw_data_set(tmp_path: Path, capsys: pytest.CaptureFixture):
    """What `faces` draws, the layout's own command reads, and the sides are right."""
    for layout in ("celebamask", "helen", "helen-relabeled", "lapa"):
        raw, out = tmp_path / f"raw-{layout}", tmp_path / layout
        faces = ("faces", "--layout", layout, "--count", 3, "--out", raw, "--workers", 1)
        assert run(*faces) == 0
        assert run(layout, "--source", raw, "--out", out, "--workers", 1) == 0
        assert run("verify", out) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_folder_of_one_s_own_classes(tmp_path: Path, capsys: pytest.CaptureFixture):
    """From ids and from colours, to shards that know the classes."""
    labels, raw, out = tmp_path / "nose.json", tmp_path / "raw", tmp_path / "out"
    names = {"background": [0, 0, 0], "hair": [120, 80, 160], "nose": [60, 180, 75]}
    classes = [{"name": name, "colour": colour} for name, colour in names.items()]
    parts = [{"name": "nose", "classes": ["nose"], "window_px": 81}]
    labels.write_text(json.dumps({"name": "hair-nose", "classes": classes, "parts": parts}))
    faces = ("faces", "--layout", "folder", "--labels", labels, "--count", 10, "--out", raw)
    assert run(*faces, "--workers", 1) == 0
    places = ("--images", raw / "images", "--masks", raw / "masks", "--workers", 1)
    assert run("folder", *places, "--labels", labels, "--out", out) == 0
    assert run("verify", out) == 0
    assert "10 of 10 faces" in capsys.readouterr().err
    manifest = load_manifest(out)
    assert manifest.num_samples == {"train": 8, "val": 1, "test": 1}
    assert manifest.label_set.class_names == tuple(names)
    assert all(pixels > 0 for pixels in manifest.class_pixels["train"])
    for mask in (raw / "masks").iterdir():
        Image.open(mask).convert("RGB").save(mask)
    assert run("folder", *places, "--labels", labels, "--out", tmp_path / "colours") == 0
    assert load_manifest(tmp_path / "colours").class_pixels == manifest.class_pixels


def test_a_name_that_is_not_utf8_can_be_printed():
    """A strict terminal would refuse it after the whole data set is made."""
    (line,) = shown_rejections([Rejection(os.fsdecode(b"caf\xe9.jpg"), "name not usable: odd")])
    assert line.encode() == b"rejected caf\\udce9.jpg: name not usable: odd"
