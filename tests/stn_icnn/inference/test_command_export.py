"""`stn-icnn export`: a file that runs as the documentation says."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_icnn.inference.command import main
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.labels import PAPER9

PARSING_PAGE = Path(__file__).parents[3] / "docs" / "parsing.md"


def documented_call() -> str:
    """The snippet of docs/parsing.md."""
    blocks = re.findall(r"(?:^ {4}.*\n|^\n)+", PARSING_PAGE.read_text(), flags=re.MULTILINE)
    [snippet] = [block for block in blocks if "onnxruntime.InferenceSession" in block]
    return textwrap.dedent(snippet)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command says, having exited with status 2."""
    assert main(["export", *map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_the_file_can_be_used_as_documented(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").symlink_to(exported / "new" / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (44, 60, 3), np.uint8)
    Image.fromarray(pixels).save("photo.jpg")
    exec(documented_call(), found := {})
    face = FaceParser.load(exported, "cpu").parse("photo.jpg")
    labels = np.asarray(Image.open("labels.png"))
    assert labels.shape == (44, 60)
    assert labels.any()
    assert (labels == face.labels).mean() > 0.999
    assert np.allclose(list(found["named"].values()), face.windows, atol=0.02)
    assert list(found["named"]) == [part.name for part in PAPER9.parts]


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
