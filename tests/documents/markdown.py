"""Markdown of tables and of words that come from code."""

import re
from collections.abc import Iterable, Sequence

MADE = "<!-- Made from the code by `python tests/readme_outputs.py`: change the code, not this page. -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a pipe in a cell is written so that it stays in its cell."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def code(words: object) -> str:
    """Return words as code, nothing for none."""
    return f"`{words}`" if str(words) else ""


def prose(docstring: str) -> str:
    """Return a docstring, one paragraph a line, with single backticks as Markdown has them."""
    paragraphs = re.split(r"\n\s*\n", docstring.strip())
    return "\n\n".join(" ".join(paragraph.split()).replace("``", "`") for paragraph in paragraphs)


def page(title: str, *parts: str) -> str:
    """Return a page that is made: its title, that it is made, and its parts."""
    return "\n\n".join([f"# {title}", MADE, *parts]) + "\n"


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")
