"""`stn-icnn parse`: what it writes, and what it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_icnn.inference.command import main
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.label_sets import PAPER9
from tests.parse_command import SIZES, refusal


@pytest.mark.parametrize("named", [["."], ["a.jpg", "b.png"]], ids=["folder", "files"])
def test_every_photograph_gets_labels_overlay_and_windows(
    photos: Path, model: str, tmp_path: Path, named: list[str], capsys
):
    out = tmp_path / "new" / "out"
    given = [str(photos / name) for name in named]
    assert main(["parse", *given, "--model", model, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [
            "classes.json",
            *(
                f"{stem}{suffix}"
                for stem in "ab"
                for suffix in (".png", "_overlay.jpg", "_windows.json")
            ),
        ]
    )
    for name, size in SIZES.items():
        stem = Path(name).stem
        labels = Image.open(out / f"{stem}.png")
        assert labels.size == size
        assert set(np.unique(labels)) <= set(PAPER9.model_classes)
        assert Image.open(out / f"{stem}_overlay.jpg").size == size
        windows = json.loads((out / f"{stem}_windows.json").read_text())["windows"]
        assert list(windows) == [part.name for part in PAPER9.parts]
        x, y, width, height = windows["nose"]
        assert abs(x - size[0] / 2) < 3
        assert abs(y - 0.58 * size[1]) < 3
        assert width == height == pytest.approx(41, rel=0.02)
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result.pop("photos_per_second") > 0
    passed_over = {} if named != ["."] else {".txt": 1}
    assert result == {
        "out": str(out), "parsed": 2, "skipped": 0, "failed": 0, "passed_over": passed_over,
        "faces": 2, "without_face": 0, "doubtful": 0, "left_out": 0,
    }  # fmt: skip
    assert "2 of 2 photographs" in printed.err  # in a log; a terminal gets a bar


def test_folders_in_the_folder_are_mirrored_and_what_is_hidden_is_left(
    photos: Path, model: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("x/c.JPG", "x/y/a.png", ".thumbnails/t.jpg", "x/._c.jpg"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 40)).save(photos / name)
    monkeypatch.chdir(photos)
    for _ in range(2):  # results in a folder of the input are no photographs
        assert main(["parse", ".", "--model", model, "--out", "out", "--write", "labels"]) == 0
        written = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file()}
        assert written == {"a.png", "b.png", "x/c.png", "x/y/a.png", "classes.json"}


@pytest.mark.parametrize("write", ["labels", "windows,overlay"])
def test_only_the_results_that_are_asked_for_are_written(
    photos: Path, model: str, tmp_path: Path, write: str
):
    out = tmp_path / "out"
    given = [str(photos / "a.jpg"), "--model", model, "--out", str(out)]
    assert main(["parse", *given, "--write", write]) == 0
    assert {path.name for path in out.iterdir()} == (
        {"a.png", "classes.json"} if write == "labels" else {"a_windows.json", "a_overlay.jpg"}
    )


@pytest.mark.slow
def test_photographs_that_have_their_results_can_be_left(
    photos: Path, model: str, tmp_path: Path, capsys
):
    out = tmp_path / "out"
    run = ["parse", str(photos), "--model", model, "--out", str(out)]
    assert main(run) == 0
    (out / "b_overlay.jpg").unlink()
    before = {path: path.stat().st_ino for path in out.glob("a*")}
    capsys.readouterr()
    assert main([*run, "--skip-existing"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["parsed"], result["skipped"]) == (1, 1)
    assert (out / "b_overlay.jpg").exists()
    assert {path: path.stat().st_ino for path in out.glob("a*")} == before
    assert main(run) == 0
    assert json.loads(capsys.readouterr().out)["parsed"] == 2


@pytest.mark.slow
def test_more_photographs_than_are_held_at_a_time_give_what_each_gives_alone(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Batches of three at the end.
    monkeypatch.setattr("stn_icnn.inference.photographs.MAX_BATCH_PIXELS", 3 * 70 * 60)
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (60 - i % 7, 70 - i % 5, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{i:02d}.png")
    out = tmp_path / "out"
    assert main(["parse", str(photos), "--model", model, "--out", str(out)]) == 0
    parser = FaceParser.load(model, "cpu")
    for i in range(40):
        face = parser.parse(photos / f"{i:02d}.png")
        written = np.asarray(Image.open(out / f"{i:02d}.png"))
        assert written.shape == face.labels.shape
        assert (written != face.labels).mean() < 2e-3  # ties, rounded otherwise in a batch
        windows = json.loads((out / f"{i:02d}_windows.json").read_text())["windows"]
        assert np.allclose(list(windows.values()), face.windows, atol=1e-2)


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
    assert f"error: {tmp_path / 'empty'} holds no photographs" in said
    assert ".jpg" in said


@pytest.mark.slow
def test_photographs_that_differ_by_their_suffix_alone_are_both_parsed(
    photos: Path, model: str, tmp_path: Path, capsys
):
    Image.new("RGB", (30, 30)).save(photos / "a.png")
    (tmp_path / "more").mkdir()
    shutil.copy(photos / "a.jpg", tmp_path / "more")
    out = tmp_path / "out"
    for _ in range(2):
        assert main(["parse", str(photos), "--model", model, "--out", str(out)]) == 0
    labels = {path.name: Image.open(path).size for path in out.glob("*.png")}
    assert labels == {"a.jpg.png": SIZES["a.jpg"], "a.png.png": (30, 30), "b.png": SIZES["b.png"]}
    same = (photos / "a.jpg", tmp_path / "more/a.jpg")
    said = refusal(capsys, *same, "--model", model, "--out", tmp_path / "new")
    assert f"{same[0]} and {same[1]} would both be written as a.jpg.png" in said


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


def test_a_rotated_photograph_gets_labels_as_it_is_seen(model: str, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to be shown
    Image.new("RGB", (60, 44)).save(tmp_path / "phone.jpg", exif=exif)
    out = tmp_path / "out"
    assert main(["parse", str(tmp_path / "phone.jpg"), "--model", model, "--out", str(out)]) == 0
    assert Image.open(out / "phone.png").size == (44, 60)
    assert Image.open(out / "phone_overlay.jpg").size == (44, 60)


@pytest.mark.parametrize("write", ["", "labels,crop", "all"])
def test_results_that_there_are_not_are_refused(
    photos: Path, model: str, tmp_path: Path, write: str, capsys
):
    said = refusal(capsys, photos, "--model", model, "--out", tmp_path / "out", f"--write={write}")
    assert "--write must be of labels,overlay,windows,masks,probabilities,crops, separated" in said
    assert f"got {write!r}" in said


def test_a_device_that_is_not_there_is_refused(photos: Path, model: str, tmp_path: Path, capsys):
    for device in ("cuda:99", "abacus"):
        said = refusal(
            capsys, photos, "--model", model, "--out", tmp_path / "out", "--device", device
        )
        assert f"--device {device} can't be used: " in said
    assert not (tmp_path / "out").exists()


def test_a_job_s_results_are_not_mixed_with_others(
    photos: Path, model: str, tmp_path: Path, capsys
):
    (tmp_path / "parse.json").write_text("{}")
    said = refusal(capsys, photos, "--model", model, "--out", tmp_path)
    assert f"{tmp_path} holds the results of a job" in said


WITHOUT_A_CLUSTER = """
import importlib.abc, sys

BLOCKED = {"boto3", "botocore", "cluster", "jobs", "mlflow", "ray", "sharding", "webdataset"}

class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
from stn_icnn.inference.command import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_parsing_needs_none_of_what_a_cluster_needs(photos: Path, model: str, tmp_path: Path):
    """Where Ray, MLflow, boto3 and the packages over the model library can't be imported."""
    out = tmp_path / "out"
    for given, status in ((model, 0), ("models:/any@champion", 2)):
        command = [sys.executable, "-c", WITHOUT_A_CLUSTER, "parse", str(photos)]
        command += ["--model", given, "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
    assert (out / "a.png").exists()
    assert "error: model 'models:/any@champion' can't be fetched: " in done.stderr
    assert "need MLflow: pip install 'stn-icnn[train]'" in done.stderr


@pytest.mark.slow
def test_the_command_is_a_module_too(photos: Path, model: str, tmp_path: Path):
    command = [sys.executable, "-m", "stn_icnn.inference.command", "parse", str(photos / "a.jpg")]
    subprocess.run([*command, "--model", model, "--out", str(tmp_path / "out")], check=True)
    assert (tmp_path / "out" / "a.png").exists()


def test_a_bad_model_is_named(photos: Path, tmp_path: Path, capsys):
    said = refusal(capsys, photos, "--model", tmp_path / "gone.pt", "--out", tmp_path / "out")
    assert f"no model at {tmp_path / 'gone.pt'}" in said
    said = refusal(capsys, photos, "--model", photos / "notes.txt", "--out", tmp_path / "out")
    assert "notes.txt is not a model of STN-iCNN" in said


def test_a_model_that_is_not_trained_to_its_end_is_refused(
    photos: Path, tiny_model: Path, tmp_path: Path, capsys
):
    """It would label at random."""
    said = refusal(capsys, photos, "--model", tiny_model, "--out", tmp_path / "out")
    assert f"{tiny_model} is a model of the phase coarse, but parsing needs localizer" in said
    assert "give a model of the phase frozen or end_to_end" in said
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="phase coarse, but parsing needs localizer and fine"):
        FaceParser.load(tiny_model)


def test_without_photographs_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["parse", "--model", "m", "--out", "o"])
    assert exit_.value.code == 2
    assert "PHOTO" in capsys.readouterr().err
