"""`stn-icnn parse`: what it writes, and what it says when it can't."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.cli import main
from stn_icnn.checkpoint import Checkpoint, DataFacts, save_checkpoint
from stn_icnn.config import TrainConfig
from stn_icnn.labels import MODEL_CLASSES, PARTS
from stn_icnn.model import build_model

SIZES = {"a.jpg": (60, 44), "b.png": (40, 72)}


@pytest.fixture(scope="module")
def model(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    data = DataFacts(dataset="helen", fingerprint="abc", scale_px=1024, scale_fit="at_most")
    save_checkpoint(path, Checkpoint(build_model(tiny_config.model), tiny_config, data, "coarse"))
    return str(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, (width, height) in SIZES.items():
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("not a photograph")
    return folder


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command says, having exited with status 2."""
    assert main(["parse", *map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("named", [["."], ["a.jpg", "b.png"]], ids=["folder", "files"])
def test_every_photograph_gets_labels_overlay_and_windows(
    photos: Path, model: str, tmp_path: Path, named: list[str], capsys
):
    out = tmp_path / "new" / "out"
    given = [str(photos / name) for name in named]
    assert main(["parse", *given, "--model", model, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{stem}{suffix}" for stem in "ab" for suffix in (".png", "_overlay.jpg", ".json")
    )
    for name, size in SIZES.items():
        stem = Path(name).stem
        labels = Image.open(out / f"{stem}.png")
        assert labels.size == size
        assert set(np.unique(labels)) <= set(MODEL_CLASSES)
        assert Image.open(out / f"{stem}_overlay.jpg").size == size
        windows = json.loads((out / f"{stem}.json").read_text())["windows"]
        assert list(windows) == [part.name for part in PARTS]
        x, y, width, height = windows["nose"]
        assert abs(x - size[0] / 2) < 3
        assert abs(y - 0.58 * size[1]) < 3
        assert width == height == pytest.approx(41, rel=0.02)
    assert "2 photographs" in capsys.readouterr().out


def test_a_missing_photograph_is_named_before_anything_is_written(
    photos: Path, model: str, tmp_path: Path, capsys
):
    out = tmp_path / "out"
    said = refusal(capsys, photos / "a.jpg", photos / "gone.jpg", "--model", model, "--out", out)
    assert f"error: there is no photograph {photos / 'gone.jpg'}" in said
    assert not out.exists()


def test_a_folder_without_photographs_is_named(model: str, tmp_path: Path, capsys):
    (tmp_path / "empty").mkdir()
    said = refusal(capsys, tmp_path / "empty", "--model", model, "--out", tmp_path / "out")
    assert f"the folder {tmp_path / 'empty'} holds no photographs" in said
    assert ".jpg" in said


def test_names_that_would_overwrite_each_other_are_refused(
    photos: Path, model: str, tmp_path: Path, capsys
):
    Image.new("RGB", (30, 30)).save(photos / "a.png")
    said = refusal(capsys, photos, "--model", model, "--out", tmp_path / "out")
    assert f"{photos / 'a.jpg'} and {photos / 'a.png'} would both be written as a.png" in said


@pytest.mark.parametrize("name", ["b.png", "a_overlay.jpg"])
def test_a_photograph_is_never_overwritten(
    photos: Path, model: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys
):
    if name not in SIZES:
        (photos / "b.png").unlink()
        Image.new("RGB", (30, 30)).save(photos / name)
    before = (photos / name).read_bytes()
    monkeypatch.chdir(photos)
    said = refusal(capsys, photos, "--model", model, "--out", ".")
    assert f"would overwrite the photograph {photos / name}" in said
    assert (photos / name).read_bytes() == before


def test_a_photograph_that_is_none_is_named(model: str, tmp_path: Path, capsys):
    (tmp_path / "x.jpg").write_text("not a photograph")
    said = refusal(capsys, tmp_path / "x.jpg", "--model", model, "--out", tmp_path / "out")
    assert f"{tmp_path / 'x.jpg'} can't be read as a photograph" in said


def test_a_bad_model_is_named(photos: Path, tmp_path: Path, capsys):
    said = refusal(capsys, photos, "--model", tmp_path / "gone.pt", "--out", tmp_path / "out")
    assert f"no model at {tmp_path / 'gone.pt'}" in said
    said = refusal(capsys, photos, "--model", photos / "notes.txt", "--out", tmp_path / "out")
    assert "notes.txt is not a model of STN-iCNN" in said


def test_without_photographs_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["parse", "--model", "m", "--out", "o"])
    assert exit_.value.code == 2
    assert "PHOTO" in capsys.readouterr().err
