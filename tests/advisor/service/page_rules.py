"""What holds for every page: read by Python's parser, so that it is said without a browser."""

import re
from html import unescape
from html.parser import HTMLParser

_VOID = {"meta", "link", "input", "br", "hr", "img"}
_NEUTRAL = {"hidden", "submit", "button"}


class Page(HTMLParser):
    """A page's elements, with what they say."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> ends nothing that is open")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [given for tag, given in self.elements if tag in tags]

    def find(self, name: str) -> dict[str, str]:
        return next(given for _, given in self.elements if given.get("id") == name)


def faults(text: str) -> list[str]:
    """Return what is wrong with a page: its structure, its names, what it loads."""
    page = Page(text)
    ids = [given["id"] for _, given in page.elements if "id" in given]
    labelled = {given["for"] for given in page.all("label")}
    found = [*page.wrong, *(f"<{tag}> is not ended" for tag in page.open)]
    found += [f"{tag} is there {len(page.all(tag))} times" for tag in ("h1", "main") if len(page.all(tag)) != 1]
    found += [f"the id {one} is there twice" for one in sorted({one for one in ids if ids.count(one) > 1})]
    found += [f"the field {given} has no label" for given in page.all("input", "select", "textarea")
              if given.get("type") not in _NEUTRAL and given.get("id") not in labelled]  # fmt: skip
    for tag, given in page.elements:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            found += [
                f"{name} names {one}, which is not there" for one in given.get(name, "").split() if one not in ids
            ]
        found += [f"<{tag} {name}> is a script in the page" for name in given if name.startswith("on")]
        found += [f"<{tag}> loads {given[name]}" for name in ("src", "href", "action")
                  if "//" in given.get(name, "") or given.get(name, "").startswith("javascript:")]  # fmt: skip
    found += ["there is a script in the page" for given in page.all("script")
              if "src" not in given and given.get("type") != "application/json"]  # fmt: skip
    return found


def words(text: str) -> str:
    """Return what a page says, without its marks."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))
