"""Reports made of blocks, which are written as Markdown and as a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from markupsafe import Markup, escape

from stn_icnn.reporting.gallery import Gallery
from stn_icnn.reporting.pages import file_data, render_page
from stn_icnn.reporting.run_results import ComparedSettings
from stn_icnn.reporting.tables import Table, escape_markdown

PAGE: Final = "report.html"
"""The file of a report's page."""


@dataclass(frozen=True)
class Items:
    """A list of texts."""

    texts: Sequence[str]


@dataclass(frozen=True)
class PictureFile:
    """A picture that lies in the report's folder."""

    file: str
    description: str


@dataclass(frozen=True)
class Heading:
    """The heading of what follows."""

    text: str


@dataclass(frozen=True)
class Origin:
    """What a report came of, so that it can be had again."""

    command: str
    """The command that the job was started with."""
    commit: str | None
    """The commit of the code."""
    run_id: str | None
    """MLflow's id of the run; None where it is not known yet."""


Block = str | Table | Items | PictureFile | Heading | Origin | ComparedSettings | Gallery
"""A part of a report. A text is a paragraph; in paragraphs and lists, words between backticks are
code, and so in a table's heading. An empty text or list is left out, and in Markdown a
gallery with its heading."""


def write_document(folder: Path, name: str, title: str, *blocks: Block) -> None:
    """Writes a report as `NAME.md` and as `report.html`, which holds its pictures itself.

    Args:
        folder: the folder that the pictures lie in already.
        name: the name of the Markdown file, without its ending.
        title: the report's heading.
        blocks: what follows.
    """
    write_markdown(folder / f"{name}.md", title, *blocks)
    page = render_page("document.html", title=title, blocks=_page_blocks(folder, blocks))
    (folder / PAGE).write_text(page, encoding="utf-8")


def write_markdown(path: Path, title: str, *blocks: Block) -> None:
    """Writes a report in Markdown as a UTF-8 file, with an empty line between blocks."""
    texts = [_markdown(block) for block in blocks]
    path.write_text("\n\n".join([f"# {title}", *filter(None, texts)]) + "\n", encoding="utf-8")


def _markdown(block: Block) -> str:
    match block:
        case Table():
            return "\n".join(block.markdown)
        case Items():
            return "\n".join(f"- {_markdown(text)}" for text in block.texts)
        case PictureFile():
            return f"![{block.description}]({block.file})"
        case Heading():
            return f"## {block.text}"
        case Origin():
            return f"    {block.command}"
        case ComparedSettings():
            return _markdown(_changed(block))
        case Gallery():
            return ""
    return "`".join(text if is_code else escape_markdown(text) for text, is_code in _spans(block))


def _page_blocks(folder: Path, blocks: Sequence[Block]) -> Iterator[tuple[str, object]]:
    """Yields the kind of each block, as the template has it, and what it shows."""
    for block in blocks:
        match block:
            case "" | Items([]):
                continue
            case Table():
                yield "table", Table([_inline(str(cell)) for cell in block.heading], block.rows)
            case Items():
                yield "items", [_inline(text) for text in block.texts]
            case PictureFile():
                yield "picture", (file_data(folder / block.file), block.description)
            case Heading():
                yield "heading", block.text
            case Origin():
                yield "origin", block
            case ComparedSettings():
                yield "settings", block
            case Gallery():
                yield "gallery", block
            case str():
                yield "text", _inline(block)


def _changed(compared: ComparedSettings) -> Block:
    """Returns the settings that differ, as Markdown has them."""
    if not compared.changed:
        return f"All are those of {compared.base}."
    rows = [[name, *values] for name, values in compared.changed.items()]
    return Table(["setting", "this run", compared.base], rows)


def _inline(text: str) -> Markup:
    """Returns a text as HTML."""
    code = Markup("<code>{}</code>")
    return Markup("").join(
        code.format(span) if is_code else escape(span) for span, is_code in _spans(text)
    )


def _spans(text: str) -> list[tuple[str, bool]]:
    """Divides a text at its backticks, telling of each span whether it is code."""
    return [(span, i % 2 == 1) for i, span in enumerate(text.split("`"))]
