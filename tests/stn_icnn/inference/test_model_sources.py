"""Models are found by their names: files here, and what installed packages fetch."""

from pathlib import Path

import pytest

from stn_icnn.inference.model_sources import find_model


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
