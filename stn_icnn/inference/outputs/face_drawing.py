"""Drawing what was found over a photograph: labels, named windows, a legend."""

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stn_icnn.reporting.overlay import FONT_PX, LEGEND_CELL_PX, legend, overlay

if TYPE_CHECKING:
    from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto

LEGIBLE_PX: Final = 1024
"""The width of a photograph up to which names have `FONT_PX`; on wider ones, a multiple."""

LEGEND_MIN_PX: Final = 2 * LEGEND_CELL_PX[0]


def draw_overlay(photo: "ParsedPhoto") -> Image.Image:
    """Draws labels and windows over a photograph, or over its reduced copy at that one's size.

    Each window has its part's name. A legend of the classes' colours follows below, unless the
    photograph is narrower than LEGEND_MIN_PX.
    """
    height, width = photo.image.shape[:2]
    labels = photo.labels
    if labels.shape != (height, width):
        reduced = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
        labels = np.asarray(reduced)
    times = max(1, width // LEGIBLE_PX)
    drawn = Image.fromarray(overlay(photo.image, labels, photo.label_set))
    for face in photo.faces:
        names = [part.name.replace("_", " ") for part in face.label_set.parts]
        windows = face.windows * (max(width, height) / max(photo.size))
        _draw_windows(drawn, windows, face.frame.roll_deg, names, FONT_PX * times)
    if width < LEGEND_MIN_PX:
        return drawn
    below = Image.fromarray(legend(width // times, photo.label_set))
    below = below.resize((width, times * below.height), Image.Resampling.LANCZOS)
    both = Image.new("RGB", (width, height + below.height))
    both.paste(drawn, (0, 0))
    both.paste(below, (0, height))
    return both


def _draw_windows(
    image: Image.Image,
    windows: NDArray[np.float32],
    roll_deg: float,
    names: list[str],
    font_px: int,
) -> None:
    """Draws turned windows with their names, white within black, to be seen on any skin."""
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(font_px)
    cosine, sine = math.cos(math.radians(roll_deg)), math.sin(math.radians(roll_deg))
    for (x, y, width, height), name in zip(windows.tolist(), names, strict=True):
        corners = []
        for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)):
            across, down = u * width / 2, v * height / 2
            corners.append((x + cosine * across - sine * down, y + sine * across + cosine * down))
        line_px = max(1, font_px // FONT_PX)
        draw.line(corners, "black", 3 * line_px)
        draw.line(corners, "white", line_px)
        left, top = corners[0]
        draw.text(
            (left + 3, top + 2), name, "white", font, stroke_width=line_px, stroke_fill="black"
        )
