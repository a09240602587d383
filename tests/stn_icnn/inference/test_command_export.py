"""`stn-icnn export`: a file that runs as the documentation says."""

import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stn_icnn.geometry import fit_similarity
from stn_icnn.inference.command import main
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.faces.cutting import cut_square
from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import load_checkpoint

PARSING_PAGE = Path(__file__).parents[3] / "docs" / "parsing.md"


def documented_calls() -> list[str]:
    """The snippets of docs/parsing.md: that of the whole model, that of the finder."""
    blocks = re.findall(r"(?:^ {4}.*\n|^\n)+", PARSING_PAGE.read_text(), flags=re.MULTILINE)
    snippets = [block for block in blocks if "onnxruntime.InferenceSession" in block]
    assert len(snippets) == 2
    return [textwrap.dedent(snippet) for snippet in snippets]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command says, having exited with status 2."""
    assert main(["export", *map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_the_file_can_be_used_as_documented(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for file in (exported / "new").iterdir():
        (tmp_path / file.name).symlink_to(file)
    pixels = np.random.default_rng(0).integers(0, 256, (44, 60, 3), np.uint8)
    Image.fromarray(pixels).save("photo.jpg")
    of_model, of_finder = documented_calls()
    exec(of_model, found := {})
    parser = FaceParser.load(exported, "cpu")
    face = parser.parse("photo.jpg", framing="whole")
    labels = np.asarray(Image.open("labels.png"))
    assert labels.shape == (44, 60)
    assert labels.any()
    assert (labels == face.labels).mean() > 0.999
    assert np.allclose(list(found["named"].values()), face.windows, atol=0.02)
    assert list(found["named"]) == [part.name for part in PAPER9.parts]
    exec(of_finder, found)
    assert found["labels"].shape == (1, 512, 512)
    (a, _, left, b, _, top) = map(float, found["square"])
    frame = FaceFrame.from_affine(torch.tensor([[a, -b, left], [b, a, top]]), 512)
    cut = cut_square(pixels_of("photo.jpg"), (60, 44), frame, 512)
    # Beyond the photograph, Pillow has black where the parser repeats the edge.
    within = np.asarray(found["face"]).any(axis=2)
    assert within.any()
    off = np.abs(np.asarray(found["face"], float) - cut)[within]
    assert np.median(off) <= 2
    centres = torch.from_numpy(found["windows"][0, :, :2]) @ torch.tensor([[a, b], [-b, a]])
    mean_face = load_checkpoint(exported).model.finder.mean_face
    fitted, _ = fit_similarity(mean_face, centres.float() + torch.tensor([left, top]))
    axis, corner = found["axis"], found["corner"]
    assert np.allclose([axis.real, axis.imag], fitted[:, 0], atol=0.01)
    assert np.allclose([corner.real, corner.imag], fitted[:, 2], atol=0.01)


def pixels_of(photo: str) -> np.ndarray:
    return np.array(Image.open(photo).convert("RGB"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports in no time, to files of a few bytes."""
    monkeypatch.setattr("stn_icnn.inference.onnx_export.export_onnx", lambda model: b"labels")
    monkeypatch.setattr("stn_icnn.inference.onnx_finder.export_finder", lambda model: b"votes!!")


@pytest.mark.usefixtures("quick")
def test_a_trained_finder_has_a_file_of_its_own(finding_parent: Path, tmp_path: Path, capsys):
    out, finder = tmp_path / "face.v2.onnx", tmp_path / "face.v2_finder.onnx"
    assert main(["export", "--model", str(finding_parent), "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said == {"out": str(out), "bytes": 6, "finder": str(finder), "finder_bytes": 7}
    assert (out.read_bytes(), finder.read_bytes()) == (b"labels", b"votes!!")
    out.unlink()
    refused = refusal(capsys, "--model", finding_parent, "--out", out)
    assert f"export: error: {finder} is there already" in refused
    assert sorted(tmp_path.iterdir()) == [finder]


@pytest.mark.usefixtures("quick")
def test_a_model_without_a_finder_gives_one_file(sure_parent: Path, tmp_path: Path, capsys):
    out, other = tmp_path / "model.onnx", tmp_path / "model_finder.onnx"
    other.write_text("mine")
    assert main(["export", "--model", str(sure_parent), "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said == {"out": str(out), "bytes": 6}
    assert (out.read_bytes(), other.read_text()) == (b"labels", "mine")


def test_a_file_that_is_there_is_kept(tiny_parent: Path, tmp_path: Path, capsys):
    out = tmp_path / "model.onnx"
    out.write_text("mine")
    said = refusal(capsys, "--model", tiny_parent, "--out", out)
    assert f"export: error: {out} is there already" in said
    assert out.read_text() == "mine"


def test_a_bad_model_is_named(tmp_path: Path, capsys):
    said = refusal(capsys, "--model", tmp_path, "--out", tmp_path / "m.onnx")
    assert f"export: error: no model at {tmp_path / 'model.pt'}" in said
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_what_to_install(
    tiny_parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr("stn_icnn.inference.onnx_export.REQUIRED", ("onnx", "not_there"))
    said = refusal(capsys, "--model", tiny_parent, "--out", tmp_path / "new" / "m.onnx")
    assert "export needs not_there, not installed here: pip install 'stn-icnn[export]'" in said
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_trained_to_its_end_is_refused(
    tiny_model: Path, tmp_path: Path, capsys
):
    said = refusal(capsys, "--model", tiny_model, "--out", tmp_path / "model.onnx")
    assert f"{tiny_model} is a model of the phase coarse, but export needs localizer and" in said
    assert not (tmp_path / "model.onnx").exists()
