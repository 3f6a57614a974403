"""The documents of the repository: which there are, their code, their links and their headings."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
# Those for everybody, which name each other; next to them lie cards, stores' tables and a kit's instructions.
DOCUMENTS = (
    "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "advisor/service/README.md",
    "studies/METHODS.md", "studies/FINDINGS.md", "studies/LOG.md", "tests/benchmarks/RESULTS.md",
)  # fmt: skip
GENERATED = ("commands.md", "python.md", "json.md", "settings.md")  # in docs/reference, from the code
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?![a-z]+:)([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_ANCHOR = re.compile(r'<a (?:id|name)="([^"]+)">')


def pages() -> list[Path]:
    """Return the pages of the documentation, in ``docs``."""
    return sorted(DOCS.rglob("*.md"))


def documents() -> list[Path]:
    """Return all documents for everybody, with the pages of the documentation."""
    return [*(ROOT / name for name in DOCUMENTS), *pages()]


def name_of(path: Path) -> str:
    """Return a document's path from the repository's root."""
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    """Return what a document says."""
    return path.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    """Return a text without its blocks of code."""
    return _FENCE.sub("", text)


def links(path: Path) -> list[tuple[Path, str]]:
    """Return the relative links of a document, each as the file that it leads to and the anchor there."""
    found = []
    for target in _LINK.findall(without_code(text_of(path))):
        file, _, anchor = target.partition("#")
        found.append(((path.parent / file).resolve() if file else path.resolve(), anchor))
    return found


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document as GitHub makes them of its headings, and those that it sets itself."""
    text, seen = without_code(text_of(path)), dict[str, int]()
    for heading in _HEADING.findall(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
    numbered = {f"{slug}-{number}" for slug, last in seen.items() for number in range(1, last + 1)}
    return {*seen, *numbered, *_ANCHOR.findall(text)}
