"""Lays pictures out in named rows, as in the paper's Figures 5 and 8; resizes and encodes them."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stn_icnn.decoding import described
from stn_icnn.reporting.overlay import Uint8Array

T = TypeVar("T")

FONT_PX = 14
GAP_PX = 6

Row = tuple[str, Sequence[Uint8Array]]
"""A row's name and its pictures, uint8 `[h, w, 3]` RGB, of any sizes."""


def picture_grid(rows: Sequence[Row]) -> Uint8Array:
    """Lays rows of pictures out on white, the first of each row in the first column, and so on.

    Args:
        rows: the rows, of any numbers of pictures.

    Returns:
        uint8 `[H, W, 3]` RGB; a row is as high as its highest picture, a column as wide as its
        widest. A picture that is alone in its row lies across the columns.
    """
    font = ImageFont.load_default(FONT_PX)
    names = max(int(font.getlength(name)) for name, _ in rows) + 2 * GAP_PX
    widths = _column_widths([pictures for _, pictures in rows])
    heights = [max((p.shape[0] for p in pictures), default=2 * FONT_PX) for _, pictures in rows]
    across = max((p.shape[1] for _, pictures in rows for p in pictures[:1]), default=0)
    width = names + max(sum(widths) + GAP_PX * len(widths), across + GAP_PX)
    canvas = Image.new("RGB", (width, sum(heights) + GAP_PX * (len(rows) + 1)), "white")
    draw, y = ImageDraw.Draw(canvas), GAP_PX
    for (name, pictures), height in zip(rows, heights, strict=True):
        draw.text((GAP_PX, y + height / 2), name, "black", font, anchor="lm")
        x = names
        for picture, column in zip(pictures, widths, strict=False):
            canvas.paste(Image.fromarray(picture), (x, y))
            x += column + GAP_PX
        y += height + GAP_PX
    return np.asarray(canvas)


def captioned_panels(rows: Sequence[Mapping[str, Uint8Array]]) -> Uint8Array:
    """Lays rows of pictures of one size out on white, each under its caption.

    Args:
        rows: the pictures of each row, uint8 `[h, w, 3]` RGB, by caption.

    Returns:
        uint8 `[H, W, 3]` RGB.
    """
    font, line = ImageFont.load_default(FONT_PX), FONT_PX + GAP_PX
    height, width = next(picture.shape[:2] for row in rows for picture in row.values())
    num_columns = max(map(len, rows))
    size = (num_columns * (width + GAP_PX) - GAP_PX, len(rows) * (line + height))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for i, row in enumerate(rows):
        for j, (caption, picture) in enumerate(row.items()):
            x, y = j * (width + GAP_PX), i * (line + height)
            draw.text((x + width / 2, y + line / 2), caption, "black", font, anchor="mm")
            canvas.paste(Image.fromarray(picture), (x, y + line))
    return np.asarray(canvas)


def _column_widths(rows: Sequence[Sequence[Uint8Array]]) -> list[int]:
    num_columns = max(map(len, rows))
    in_columns = [row for row in rows if len(row) > 1 or num_columns == 1]
    return [max(row[i].shape[1] for row in in_columns if i < len(row)) for i in range(num_columns)]


def pixels_of(image: Tensor) -> Uint8Array:
    """Returns an image, `[3, H, W]` uint8, as a picture, `[H, W, 3]` on the CPU."""
    pixels: Uint8Array = image.permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels


def fitted(picture: Uint8Array, side_px: int) -> Uint8Array:
    """Resizes a picture, uint8 `[h, w, 3]`, to a longer side of so many pixels."""
    scale = side_px / max(picture.shape[:2])
    height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def encoded(image: Image.Image, kind: Literal["JPEG", "PNG", "WEBP"], quality: int = 88) -> bytes:
    """Returns the content of an image file; the quality is a JPEG's or WebP's."""
    content = io.BytesIO()
    image.save(content, kind, quality=quality, method=0)  # the quickest, for WebP
    return content.getvalue()


def framed(picture: Uint8Array, colour: tuple[int, int, int], width_px: int = 3) -> Uint8Array:
    """Returns a picture, uint8 `[h, w, 3]`, with a frame over its edge."""
    out = picture.copy()
    inside = np.zeros(out.shape[:2], dtype=bool)
    inside[width_px:-width_px, width_px:-width_px] = True
    out[~inside] = colour
    return out


class Drawings:
    """Draws pictures and figures; one that fails is named, and does not end the run.

    Attributes:
        failed: why each that failed did, by its name.
    """

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}

    def draw(self, name: str, make: Callable[[], T]) -> T | None:
        """Returns what is made, or None where that fails.

        Raises:
            OSError: the disk failed, as it would for every other.
        """
        try:
            return make()
        except OSError:
            raise
        except Exception as error:
            self.failed[name] = described(error)
            return None
