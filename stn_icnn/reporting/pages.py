"""Pages of HTML that need nothing but themselves: templates, charts and pictures, all in one file.

They open from disk and in MLflow, whose frame runs no scripts and lets no request out.
"""

import base64
import io
import re
from pathlib import Path
from typing import Any, Final

import jinja2
import matplotlib
from markupsafe import Markup
from PIL import Image

from stn_icnn.reporting.charts import Figure
from stn_icnn.reporting.overlay import Uint8Array
from stn_icnn.reporting.picture_grid import encoded

MIME_TYPES: Final = {".png": "image/png", ".jpg": "image/jpeg"}

_TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render_page(template: str, **values: Any) -> str:
    """Fills in a template of this package.

    Args:
        template: its file, such as `run.html`.
        values: what it names; text is escaped, `Markup` is not.

    Returns:
        The page's HTML.
    """
    return _TEMPLATES.get_template(template).render(values)


def figure_svg(figure: Figure, description: str) -> Markup:
    """Returns a chart as an SVG element, which grows and shrinks with the page.

    Args:
        figure: the chart.
        description: what it shows, for those who can't see it.
    """
    content = io.StringIO()
    # Text stays text: small, sharp, and found by a search in the page.
    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    label = Markup(' role="img" aria-label="{}"').format(description)
    return Markup(svg.replace("<svg", f"<svg{label}", 1))


def picture_data(picture: Uint8Array) -> str:
    """Returns a picture, uint8 `[H, W, 3]` RGB, as the address of an image that holds itself."""
    image = Image.fromarray(picture)
    return _data_address(MIME_TYPES[".jpg"], encoded(image, "JPEG"))


def file_data(path: Path) -> str:
    """Returns a PNG or JPEG file as the address of an image that holds itself."""
    return _data_address(MIME_TYPES[path.suffix], path.read_bytes())


def _data_address(mime_type: str, content: bytes) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"
