"""Charts: one look, whose bars stand where they are said to."""

from pathlib import Path

import pytest
from PIL import Image

from stn_icnn.reporting.charts import Colour, add_legend, draw_grouped_bars, open_figure


def test_a_figure_has_axes_for_each_title_and_its_size_in_pixels(tmp_path: Path) -> None:
    figure, axes = open_figure("left", "right", width=4, height=2)
    assert [one.get_title(loc="left") for one in axes] == ["left", "right"]
    figure.savefig(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (600, 300)


def test_bars_of_a_group_stand_around_its_name_and_there_is_none_without_a_height() -> None:
    figure, (axes,) = open_figure("bars")
    centres = draw_grouped_bars(
        axes, ["eyes", "nose"], {"iCNN": [0.5, None], "mine": [0.7, 0.8]}, label_format="%.2f"
    )
    add_legend(figure)
    assert centres == {
        "iCNN": pytest.approx([-0.2, 0.8]),
        "mine": pytest.approx([0.2, 1.2]),
    }
    assert list(axes.get_xticks()) == [0, 1]
    drawn = [bar.get_height() for bar in axes.patches]
    assert drawn == pytest.approx([0.5, float("nan"), 0.7, 0.8], nan_ok=True)
    assert [text.get_text() for text in axes.texts] == ["0.50", "", "0.70", "0.80"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["iCNN", "mine"]


def test_a_system_has_one_colour_and_others_the_models() -> None:
    _, (axes,) = open_figure("")
    draw_grouped_bars(axes, ["eyes"], {"mine": [0.5], "iCNN": [0.6]})
    _, (other,) = open_figure("")
    draw_grouped_bars(other, ["eyes"], {"iCNN": [0.6], "STN-iCNN*": [0.6]})
    colours = [[bar.get_facecolor() for bar in one.patches] for one in (axes, other)]
    assert colours[0][1] == colours[1][0] != colours[0][0] != colours[1][1]
    assert len({str(colour) for colour in Colour}) == len(Colour)
