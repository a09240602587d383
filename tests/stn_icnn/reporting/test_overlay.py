import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stn_icnn.label_sets import PAPER9
from stn_icnn.reporting.overlay import LEGEND_CELL_PX, legend, overlay, palette_image, side_by_side

NOSE, SKIN = PAPER9.class_id["nose"], PAPER9.class_id["skin"]


def square(height: int = 9, width: int = 12) -> np.ndarray:
    """Nose in rows 2 to 6, columns 3 to 9."""
    labels = np.zeros((height, width), dtype=np.uint8)
    labels[2:7, 3:10] = NOSE
    return labels


def test_palette_image_reads_back_as_labels_and_looks_like_the_legend() -> None:
    labels = np.arange(PAPER9.num_classes, dtype=np.uint8).repeat(2).reshape(2, PAPER9.num_classes)
    file = io.BytesIO()
    palette_image(labels, PAPER9).save(file, format="PNG")

    image = Image.open(file)

    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), labels)
    assert np.array_equal(np.asarray(image.convert("RGB")), np.array(PAPER9.colours)[labels])


def test_overlay_tints_parts_and_draws_their_borders_solid() -> None:
    image = np.full((9, 12, 3), (200, 100, 40), dtype=np.uint8)
    before = image.copy()

    out = overlay(image, square(), PAPER9, alpha=0.25)

    assert out.shape == (9, 12, 3)
    assert out.dtype == np.uint8
    tinted = np.rint(0.75 * image[0, 0] + 0.25 * np.array(PAPER9.colours[NOSE]))
    assert np.array_equal(out[4, 5], tinted)
    for y, x in ((2, 5), (6, 5), (4, 3), (4, 9)):
        assert tuple(out[y, x]) == PAPER9.colours[NOSE]
    for y, x in ((1, 5), (7, 5), (4, 2), (4, 10)):
        assert np.array_equal(out[y, x], image[y, x])
    assert np.array_equal(image, before)


def test_overlay_separates_parts_that_touch() -> None:
    labels = np.full((5, 8), PAPER9.class_id["upper_lip"], dtype=np.uint8)
    labels[:, 4:] = PAPER9.class_id["lower_lip"]
    out = overlay(np.zeros((5, 8, 3), dtype=np.uint8), labels, PAPER9)
    assert tuple(out[2, 3]) == PAPER9.colours[PAPER9.class_id["upper_lip"]]
    assert tuple(out[2, 4]) == PAPER9.colours[PAPER9.class_id["lower_lip"]]
    assert tuple(out[2, 0]) != PAPER9.colours[PAPER9.class_id["upper_lip"]]


def test_windows_outline_the_pixels_they_hold() -> None:
    image = np.full((20, 30, 3), 100, dtype=np.uint8)
    # Centred on pixel (12, 8): columns 9 to 15, rows 6 to 10.
    out = overlay(
        image, np.zeros((20, 30), dtype=np.uint8), PAPER9, windows=[(12.5, 8.5, 7.0, 5.0)]
    )

    white = np.argwhere((out == 255).all(axis=-1))
    assert white.min(axis=0).tolist() == [6, 9]
    assert white.max(axis=0).tolist() == [10, 15]
    assert len(white) == 2 * 7 + 2 * 3
    assert (out[8, 12] == 100).all()
    assert (out[5, 12] == 0).all()


def test_window_beyond_the_frame_is_cut() -> None:
    labels = np.zeros((20, 30), dtype=np.uint8)
    image = np.full((20, 30, 3), 100, dtype=np.uint8)
    out = overlay(image, labels, PAPER9, windows=[(0.5, 0.5, 9.0, 9.0)])
    assert (out[4, 0] == 255).all()
    assert (out[0, 4] == 255).all()
    assert (out[0, 0] == 100).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 1), (1, 5), (5, 4)])
def test_a_picture_of_a_few_pixels_has_windows_too(size: tuple[int, int]) -> None:
    """They are smaller than a pixel."""
    width, height = size
    image, labels = np.full((height, width, 3), 100, np.uint8), np.zeros((height, width), np.uint8)
    windows = [(width * x, height * x, 0.16 * width, 0.16 * height) for x in (0.1, 0.5, 0.9)]
    out = overlay(image, labels, PAPER9, windows=windows)
    assert set(out.ravel().tolist()) & {0, 255}


def test_overlay_refuses_sizes_and_classes_that_do_not_fit() -> None:
    labels = square()
    with pytest.raises(ValueError, match=r"image must be \[9, 12, 3\].*got \[12, 9, 3\]"):
        overlay(np.zeros((12, 9, 3), dtype=np.uint8), labels, PAPER9)
    with pytest.raises(ValueError, match="class ids below 11, got 17"):
        overlay(np.zeros((9, 12, 3), dtype=np.uint8), labels + np.uint8(11), PAPER9)
    with pytest.raises(ValueError, match=r"labels must be uint8 \[H, W\], got int64"):
        palette_image(labels.astype(np.int64), PAPER9)


def test_legend_has_a_swatch_of_each_class_in_its_colour() -> None:
    cell_width, cell_height = LEGEND_CELL_PX
    out = legend(3 * cell_width + 5, PAPER9)
    assert out.shape == (3 * cell_height, 3 * cell_width + 5, 3)
    for place, i in enumerate(PAPER9.inner_classes):
        swatch = out[place // 3 * cell_height + 10, place % 3 * cell_width + 10]
        assert tuple(swatch) == PAPER9.colours[i]
    # The text is there.
    assert (out[:cell_height, 20:cell_width] < 100).any()


def test_side_by_side_is_photograph_truth_prediction() -> None:
    image = np.full((9, 12, 3), 50, dtype=np.uint8)
    truth = np.where(square() == 0, SKIN, square()).astype(np.uint8)

    out = side_by_side(image, truth, np.zeros_like(truth), PAPER9)

    assert out.shape == (9 + len(legend(36, PAPER9)), 36, 3)
    photo, with_truth, with_prediction = out[:9, :12], out[:9, 12:24], out[:9, 24:]
    assert np.array_equal(photo, image)
    # The model has no skin, so the truth shows none.
    assert np.array_equal(with_truth, overlay(image, square(), PAPER9))
    assert np.array_equal(with_prediction, image)


def test_side_by_side_reduces_large_photographs() -> None:
    image = np.zeros((100, 40, 3), dtype=np.uint8)
    labels = np.zeros((100, 40), dtype=np.uint8)
    out = side_by_side(image, labels, labels, PAPER9, max_side_px=50)
    assert out.shape == (50 + len(legend(60, PAPER9)), 60, 3)


def test_needs_no_torch() -> None:
    code = "import sys, stn_icnn.reporting.overlay; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
