"""The command line: `python -m sharding`."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sharding.cli import main


def run(*args: object) -> int:
    return main([str(arg) for arg in args])


def test_build_verify_inspect(celebamask: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out, sheet = tmp_path / "out", tmp_path / "sheets/sheet.png"
    assert run("celebamask", "--source", celebamask, "--out", out, "--shard-size", 4) == 0
    printed = capsys.readouterr()
    assert "6 train, 2 val, 2 test; 0 rejected" in printed.out
    assert printed.err.splitlines()[0] == "train/000000.tar: 4 of 10 images"
    assert run("verify", out) == 0
    assert capsys.readouterr().out == f"{out}: sound\n"

    assert run("inspect", out, "--sheet", sheet) == 0
    report = capsys.readouterr().out
    lines = [line.split() for line in report.splitlines()]
    assert next(line[:3] for line in lines if line[:1] == ["train"]) == ["train", "6", "2"]
    assert ["left_eye", "100.0", "%", "50x20", "50x20"] in lines
    assert ["nose", "1.526", "1.526", "1.526"] in lines
    assert "left_eye lies right of right_eye in 100.0 % of 10 faces: as it should be" in report
    assert Image.open(sheet).mode == "RGB"
    assert run("verify", out) == 0


def test_done_already(helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    for _ in range(2):
        assert run("helen", "--source", helen, "--out", tmp_path / "out") == 0
    assert "is already complete" in capsys.readouterr().out


def test_verify_exits_1_with_a_list(helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "out"
    run("helen", "--source", helen, "--out", out)
    (out / "val/000000.tar").unlink()
    capsys.readouterr()
    assert run("verify", out) == 1
    assert capsys.readouterr().out == f"val/000000.tar: missing\n{out}: 1 problem\n"


def test_inspect_notices_swapped_sides(helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    for maps in (helen / "labels").iterdir():
        for one, other in ((2, 3), (4, 5)):
            first, second = (maps / f"{maps.name}_lbl{i:02d}.png" for i in (one, other))
            parked = first.rename(maps / "parked.png")
            second.rename(first)
            parked.rename(second)
    run("helen", "--source", helen, "--out", tmp_path / "out")
    run("inspect", tmp_path / "out", "--sheet", tmp_path / "sheet.png")
    assert "in 0.0 % of 6 faces: WRONG: left and right swapped?" in capsys.readouterr().out


def test_rejected_images_are_counted(helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    (helen / "images/11_1.jpg").write_bytes(b"")
    args = ("helen", "--source", helen, "--out", tmp_path / "out")
    assert run(*args) == 2
    assert "1 of 6 items are unusable" in capsys.readouterr().err
    assert run(*args, "--max-rejected", 0.5) == 0
    printed = capsys.readouterr().out
    assert "rejected images/11_1.jpg: images/11_1.jpg is empty" in printed
    assert "3 train, 1 val, 1 test; 1 rejected" in printed


def test_error_is_one_line_and_exit_2(tmp_path: Path):
    command = [sys.executable, "-m", "sharding", "inspect", str(tmp_path / "missing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("sharding inspect: error: there is nothing at ")


def test_faces_are_a_raw_data_set(tmp_path: Path):
    """What `faces` draws, `celebamask` and `helen` read, and the sides are right."""
    for layout in ("celebamask", "helen"):
        raw, out = tmp_path / f"raw-{layout}", tmp_path / layout
        assert run("faces", "--layout", layout, "--count", 3, "--out", raw) == 0
        assert run(layout, "--source", raw, "--out", out) == 0
        assert run("verify", out) == 0
