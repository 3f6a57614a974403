"""A report in pieces, for other pages that show some of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape

from advisor.report.page import MAKER


@dataclass(frozen=True)
class Pieces:
    """What other pages show of a page: HTML, of ``sections`` by their ids; ``title`` is plain text, ``rows`` JSON."""

    title: str
    question: str
    verdicts: str
    sections: Mapping[str, str]
    rows: str


def take_apart(page: str) -> Pieces:
    """Return the pieces of a page that ``to_page`` made, here or in another process."""
    header = _between(page, "<header>", "</header>")
    found = re.finditer(r'<section id="([\w-]+)".*?</section>', page, re.DOTALL)
    return Pieces(
        unescape(_between(page, "<title>", "</title>")).removesuffix(MAKER),
        _between(header, "<h1>", "</h1>"),
        header[header.index("</h1>") + len("</h1>") :],
        {one[1]: one[0] for one in found},
        _between(page, '<script type="application/json" id="rows">', "</script>"),
    )


def _between(page: str, start: str, end: str) -> str:
    at = page.index(start) + len(start)
    return page[at : page.index(end, at)]
