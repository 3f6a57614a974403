"""Pieces of Markdown documents."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

UNKNOWN = "not recorded"


def document(title: str, opening: str, sections: Mapping[str, Sequence[str]]) -> str:
    """Return a Markdown document of titled sections."""
    lines = [f"# {title}", "", opening]
    for name, body in sections.items():
        lines += ["", f"## {name}", "", *body]
    return "\n".join(lines) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str | None]]) -> list[str]:
    """Return a Markdown table; a cell that is None is not recorded."""
    cells = [
        [(UNKNOWN if cell is None else cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows
    ]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells)]


def number(values: Mapping[str, Any], name: str) -> float | None:
    """Return a finite number, None where there is none."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def figure(values: Mapping[str, Any], name: str) -> str | None:
    """Return a score with three decimals."""
    value = number(values, name)
    return None if value is None else f"{value:.3f}"


def interval(values: Mapping[str, Any], name: str) -> str | None:
    """Return a score and its interval, as ``0.912 (0.903 to 0.921)``."""
    middle, *ends = (figure(values, name + end) for end in ("", "_ci_lower", "_ci_upper"))
    return f"{middle} ({ends[0]} to {ends[1]})" if middle and all(ends) else middle


def count(value: Any) -> str | None:
    """Return a whole number with commas."""
    return f"{value:,}" if isinstance(value, int) else None


def counted(number: int, noun: str, plural: str) -> str:
    """Return a number of things in words."""
    return f"{number:,} {noun if number == 1 else plural}"


def plain(value: Any) -> str | None:
    """Return a free fact in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or None
    if isinstance(value, list | tuple):
        return ", ".join(str(plain(item)) for item in value) or None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return None if value is None or value == "" else str(value)


def bullets(sentences: Iterable[str]) -> list[str]:
    """Return a Markdown list."""
    return [f"- {sentence}" for sentence in sentences]
