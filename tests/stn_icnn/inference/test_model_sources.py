"""Models are found by their names: files here, and what installed packages fetch."""

from pathlib import Path

import pytest

from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.model_sources import SHIPPED_MODEL, find_model

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that fetches models by `shelf:/`, and one whose need is missing."""
    metadata = tmp_path / "shelf-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[stn_icnn.model_sources]\nshelf = shelf_of_models:fetch\nlack = not_there_at_all:fetch\n"
    )
    (tmp_path / "shelf_of_models.py").write_text(
        "from pathlib import Path\n"
        "def fetch(name, tracking_uri):\n"
        "    return Path('/fetched') / name.removeprefix('shelf:/') / str(tracking_uri)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_a_path_is_taken_as_it_is():
    for name in ("model.pt", "/some/folder", "odd:name"):
        assert find_model(name) == Path(name)


@pytest.mark.usefixtures("shelf")
def test_an_installed_package_fetches_models_of_its_scheme():
    assert find_model("shelf:/face", "uri") == Path("/fetched/face/uri")
    assert find_model("shelf:/face") == Path("/fetched/face/None")


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("name", "lack"),
    [
        ("s3://bucket/model", "nothing installed here fetches models by s3:/"),
        ("lack:/face", "not_there_at_all is not installed here"),
    ],
)
def test_what_cannot_be_fetched_is_refused_saying_what_to_install(name: str, lack: str):
    with pytest.raises(ValueError, match=f"model '{name}' can't be fetched: {lack}; .*MLflow"):
        find_model(name)


def test_without_a_name_it_is_the_model_that_comes_along():
    assert find_model() == SHIPPED_MODEL
    linked = find_model("models/celebamask")
    assert (CHECKOUT / linked).resolve() == SHIPPED_MODEL.resolve()
    assert (CHECKOUT / linked).is_symlink(), "the model is in git once"


def test_a_parser_without_a_model_takes_the_one_that_comes_along():
    for parser in (FaceParser(device="cpu"), FaceParser.load(device="cpu")):
        assert parser.data.dataset == "celebamask"
        assert parser.device.type == "cpu"


@pytest.mark.usefixtures("shelf")
def test_a_parser_finds_a_model_by_its_name():
    for make in (FaceParser, FaceParser.load):
        with pytest.raises(ValueError, match="no model at /fetched/face/None"):
            make("shelf:/face")


def test_the_terms_of_the_model_that_comes_along_are_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    FaceParser()
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    words, _, file = line.partition(": ")
    assert words == "the model that comes with STN-iCNN is for non-commercial research only"
    assert "CelebAMask-HQ" in Path(file).read_text()
    FaceParser()
    FaceParser(CHECKOUT / "models" / "celebamask" / "model.pt")
    assert capsys.readouterr().err == ""


def test_a_home_that_cannot_be_written_to_hinders_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file" / "state"))
    for _ in range(2):
        FaceParser()
        assert "non-commercial research only" in capsys.readouterr().err


def test_the_terms_of_other_models_are_their_owners_matter(
    tiny_parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    FaceParser(tiny_parent)
    assert capsys.readouterr().err == ""
