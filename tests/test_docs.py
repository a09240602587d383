"""The docs name what is there: files, modules, links and headings."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("jobs", "cluster", "sharding", "stn_icnn")


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_modules_are_there(page: Path) -> None:
    """In code spans: `networks/model.py` stands for that of a package."""
    if page.name == "upgrading.md":  # which also names what has gone
        return
    for path in re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text()):
        places = [ROOT / path, *(ROOT / package / path for package in PACKAGES)]
        assert any(place.exists() for place in places), f"{page.name} names {path}"


def test_the_tree_of_the_architecture_page_has_every_module() -> None:
    tree = (ROOT / "docs" / "architecture.md").read_text().partition("## The tree")[2]
    named = set(re.findall(r"[\w/]+\.py", tree))
    there = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }
    assert named == there
