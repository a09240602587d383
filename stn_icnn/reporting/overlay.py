"""Draws label maps: an indexed PNG, colours over the photograph, truth beside prediction."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from stn_icnn.labels import LabelSet

Uint8Array = npt.NDArray[np.uint8]
Window = tuple[float, float, float, float]
"""The centre (x, y), width and height of a rectangle, px."""

FONT_PX = 13
BAND_PIXELS = 1_000_000
LEGEND_CELL_PX = (104, 20)
"""Width and height of a swatch with its class's name."""


def palette_image(labels: Uint8Array, label_set: LabelSet) -> Image.Image:
    """Makes an indexed image whose pixels are class ids and whose palette is the classes' colours.

    Args:
        labels: uint8 `[H, W]`, class ids.
        label_set: the classes.

    Returns:
        Mode P. Saved as PNG it looks like the overlay and reads back as the label map.
    """
    _check_labels(labels, label_set)
    image = Image.fromarray(labels)
    image.putpalette(_palette(label_set).tobytes())
    return image


def overlay(
    image: Uint8Array,
    labels: Uint8Array,
    label_set: LabelSet,
    alpha: float = 0.5,
    windows: Sequence[Window] = (),
) -> Uint8Array:
    """Tints each class's pixels with its colour and draws their border solid.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        labels: uint8 `[H, W]`, class ids; background is left as it is.
        label_set: the classes.
        alpha: the tint's share, in [0, 1].
        windows: `(x, y, w, h)` of rectangles to draw: centre and size in pixels of the image, the
            centre of the top left pixel at (0.5, 0.5).

    Returns:
        uint8 `[H, W, 3]`, a new array.
    """
    _check_labels(labels, label_set)
    if image.shape != (*labels.shape, 3):
        raise ValueError(
            f"image must be {[*labels.shape, 3]}, the labels' size in RGB, got {list(image.shape)}"
        )
    out, palette = image.copy(), _palette(label_set)
    height, width = labels.shape
    rows = max(1, BAND_PIXELS // max(1, width))  # all at once would take a multiple of the memory
    for top in range(0, height, rows):
        band, around = out[top : top + rows], labels[max(0, top - 1) : top + rows + 1]
        own = slice(min(top, 1), min(top, 1) + len(band))
        of_band = around[own]
        part = of_band > 0  # a small share of a photograph: the rest is left alone
        band[part] = np.rint((1 - alpha) * band[part] + alpha * palette[of_band[part]])
        border = _border(around)[own]
        band[border] = palette[of_band[border]]
    _outline_windows(out, windows)
    return out


def side_by_side(
    image: Uint8Array,
    truth: Uint8Array,
    predicted: Uint8Array,
    label_set: LabelSet,
    max_side_px: int = 512,
) -> Uint8Array:
    """Lays photograph, truth and prediction side by side, with a legend below.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        truth: uint8 `[H, W]`, class ids.
        predicted: uint8 `[H, W]`, class ids.
        label_set: the classes; those that the model does not label are shown as background, in the
            truth too.
        max_side_px: larger photographs are reduced to it.

    Returns:
        uint8 `[h + legend, 3 w, 3]`, `[h, w]` being the size after reduction.
    """
    height, width = truth.shape
    scale = min(1.0, max_side_px / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    photo = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    panels = [photo]
    for labels in (truth, predicted):
        shown = model_labels(labels, label_set)
        reduced = Image.fromarray(shown).resize(size, Image.Resampling.NEAREST)
        panels.append(overlay(photo, np.asarray(reduced), label_set))
    return np.concatenate([np.concatenate(panels, axis=1), legend(3 * size[0], label_set)])


def model_labels(labels: Uint8Array, label_set: LabelSet) -> Uint8Array:
    """Returns a label map with background where the model labels no such class."""
    return np.where(np.isin(labels, label_set.model_classes), labels, 0).astype(np.uint8)


def marked_on_grey(
    image: Uint8Array, *marks: tuple[npt.NDArray[np.bool_], tuple[int, int, int]]
) -> Uint8Array:
    """Paints pixels in plain colours over a pale photograph in grey.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        marks: pixels, bool `[H, W]`, and the colour that they get.

    Returns:
        uint8 `[H, W, 3]`, a new array.
    """
    grey = image.mean(axis=2, keepdims=True) * 0.6 + 90
    out = np.repeat(grey, 3, axis=2).clip(0, 255).astype(np.uint8)
    for pixels, colour in marks:
        out[pixels] = colour
    return out


def legend(width_px: int, label_set: LabelSet, classes: Sequence[int] | None = None) -> Uint8Array:
    """Draws swatches with the names of classes, in as many lines as they need.

    Args:
        width_px: width of the legend.
        label_set: the classes.
        classes: ids of the classes that are shown, but background; None: those that the model
            labels.

    Returns:
        uint8 `[h, width_px, 3]` RGB, black on white.
    """
    cell_width, cell_height = LEGEND_CELL_PX
    ids = label_set.model_classes if classes is None else classes
    shown = [label_set.classes[i] for i in ids if i > 0]
    num_columns = max(1, min(len(shown), width_px // cell_width))
    num_lines = -(-len(shown) // num_columns)
    canvas = Image.new("RGB", (width_px, num_lines * cell_height), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(FONT_PX)
    for i, shown_class in enumerate(shown):
        x, y = i % num_columns * cell_width, i // num_columns * cell_height
        draw.rectangle((x + 4, y + 4, x + 15, y + 15), fill=shown_class.colour)
        name = shown_class.name.replace("_", " ")
        draw.text((x + 20, y + cell_height / 2), name, "black", font, anchor="lm")
    return np.asarray(canvas)


def _border(labels: Uint8Array) -> npt.NDArray[np.bool_]:
    """Marks, bool `[H, W]`, the labelled pixels that have a neighbour of another class."""
    differs = np.zeros(labels.shape, dtype=bool)
    down = labels[1:] != labels[:-1]
    differs[1:] |= down
    differs[:-1] |= down
    right = labels[:, 1:] != labels[:, :-1]
    differs[:, 1:] |= right
    differs[:, :-1] |= right
    return differs & (labels > 0)


def draw_windows(image: Uint8Array, windows: Sequence[Window]) -> Uint8Array:
    """Returns an image, uint8 `[H, W, 3]`, with the pixels inside each window outlined.

    The line is white within black, to be seen on any skin. A window is at least 1 px wide and high.
    """
    out = image.copy()
    _outline_windows(out, windows)
    return out


def _outline_windows(image: Uint8Array, windows: Sequence[Window]) -> None:
    for x, y, w, h in windows:
        left, top = round(x - w / 2), round(y - h / 2)
        right, bottom = max(left, round(x + w / 2) - 1), max(top, round(y + h / 2) - 1)
        _outline(image, (left - 1, top - 1, right + 1, bottom + 1), 0)
        _outline(image, (left, top, right, bottom), 255)


def _outline(image: Uint8Array, box: tuple[int, int, int, int], grey: int) -> None:
    """Draws the outline of a box, as far as it lies in the image, in place.

    Args:
        image: uint8 `[H, W, 3]`.
        box: its first column and row, and its last, px.
        grey: the value of the three channels.
    """
    left, top, right, bottom = box
    height, width = image.shape[:2]
    columns = slice(max(left, 0), max(right + 1, 0))
    rows = slice(max(top, 0), max(bottom + 1, 0))
    for y in (top, bottom):
        if 0 <= y < height:
            image[y, columns] = grey
    for x in (left, right):
        if 0 <= x < width:
            image[rows, x] = grey


def _palette(label_set: LabelSet) -> Uint8Array:
    """Returns the RGB colour of each class, uint8 `[C, 3]`."""
    return np.array(label_set.colours, dtype=np.uint8)


def _check_labels(labels: Uint8Array, label_set: LabelSet) -> None:
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"labels must be uint8 [H, W], got {labels.dtype} {list(labels.shape)}")
    if labels.size > 0 and labels.max() >= label_set.num_classes:
        raise ValueError(
            f"labels must hold class ids below {label_set.num_classes}, got {labels.max()}"
        )
