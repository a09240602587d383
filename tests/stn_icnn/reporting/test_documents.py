"""A report of blocks, as Markdown and as a page."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_icnn.reporting.documents import PAGE, Items, PictureFile, write_document
from stn_icnn.reporting.gallery import Gallery, ShownFace
from stn_icnn.reporting.pages import file_data
from stn_icnn.reporting.tables import Table
from tests.pages import Page


def test_both_forms_hold_every_block(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(tmp_path / "chart.png")
    write_document(
        tmp_path,
        "trial",
        "A <trial>",
        "STN-iCNN* with `a*b` & more",
        Table(["system", "`F1`"], [["STN-iCNN*", None]]),
        "",
        Items(["one", "`two`"]),
        Items([]),
        PictureFile("chart.png", "F1 by class"),
    )
    assert (tmp_path / "trial.md").read_text() == (
        "# A <trial>\n\n"
        "STN-iCNN\\* with `a*b` & more\n\n"
        "| system | `F1` |\n|---|---|\n| STN-iCNN\\* | - |\n\n"
        "- one\n- `two`\n\n"
        "![F1 by class](chart.png)\n"
    )
    page = (tmp_path / PAGE).read_text()
    assert "<h1>A &lt;trial&gt;</h1>" in page
    assert "<p>STN-iCNN* with <code>a*b</code> &amp; more</p>" in page
    assert "<th>system</th><th><code>F1</code></th>" in page
    assert "<td>STN-iCNN*</td><td>-</td>" in page
    assert "<li>one</li><li><code>two</code></li>" in page
    assert f'src="{file_data(tmp_path / "chart.png")}" alt="F1 by class"' in page
    assert page.count("<p>") == 2
    assert page.count("<ul>") == 1


def test_a_gallery_has_its_heading_where_it_has_faces_and_names_those_that_failed(
    tmp_path: Path,
) -> None:
    face = ShownFace("face_1", "0.5", "nose, 0.4", {"truth": "data:,"})
    failed = {"face IMG_2": "OSError: gone"}
    some = Gallery("Faces of <it>", {"worst": [face]}, {"nose": "red"}, failed)
    write_document(tmp_path, "trial", "A trial", some)
    text = Page((tmp_path / PAGE).read_text()).text
    assert "Faces of <it> Sorted by the F1 of each face." in text
    assert "Face IMG_2 could not be drawn: OSError: gone" in text
    assert (tmp_path / "trial.md").read_text() == "# A trial\n"
    write_document(tmp_path, "trial", "A trial", Gallery("Faces", {}, {"nose": "red"}, failed))
    text = Page((tmp_path / PAGE).read_text()).text
    assert text.split("A trial ")[-1] == "Face IMG_2 could not be drawn: OSError: gone"


def test_a_picture_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_document(tmp_path, "trial", "A trial", PictureFile("none.png", "nothing"))
