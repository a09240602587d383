"""What a page of HTML says, and that it needs nothing but itself."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """The text of a page, and the attributes of its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data.split()

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    @property
    def text(self) -> str:
        return " ".join(self.words)


def assert_self_contained(html: str) -> None:
    """Asserts that no request leaves the page, that it runs no script, and that its links lead
    somewhere."""
    page = Page(html)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert value.startswith(("data:image/", "#")), f"{tag} has {name}={value[:80]}"
    for url in re.findall(r"url\(([^)]*)\)", html):
        assert url.startswith("#"), url
    assert "@import" not in html
    assert not {"script", "link", "iframe", "object"} & {tag for tag, *_ in page.attributes}
    assert "<script" not in html
    anchors = {value for _, name, value in page.attributes if name == "id"}
    links = {value for tag, name, value in page.attributes if (tag, name) == ("a", "href")}
    assert {link.removeprefix("#") for link in links} <= anchors
