"""Pieces of an HTML page. Every text that is given is escaped here: names of tasks come from other people's files."""

from collections.abc import Iterable, Sequence
from html import escape

_CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")


def text(value: str) -> str:
    """Return a text as HTML, also within quotes."""
    return escape(value.translate(_CONTROLS).encode("utf-8", "replace").decode("utf-8"))


def paragraph(value: str, kind: str = "") -> str:
    """Return a paragraph of the CSS class ``kind``."""
    return f"<p{_classed(kind)}>{text(value)}</p>"


def bullets(values: Iterable[str], kind: str = "") -> str:
    """Return a list of sentences."""
    return f"<ul{_classed(kind)}>{''.join(f'<li>{text(value)}</li>' for value in values)}</ul>"


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a list of names, each with what is known of it."""
    return f"<dl>{''.join(f'<dt>{text(name)}</dt><dd>{text(value)}</dd>' for name, value in rows)}</dl>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return a table whose first column names the rows, in a frame that scrolls where a screen is too narrow."""
    head = "".join(f'<th scope="col">{text(name)}</th>' if name else "<td></td>" for name in header)
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th>{"".join(f"<td>{text(value)}</td>" for value in values)}</tr>'
        for name, *values in rows
    )
    said = f"<caption>{text(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def section(title: str, *body: str, name: str) -> str:
    """Return a section with a heading; ``body`` is HTML, ``name`` its id."""
    heading = f'<h2 id="{name}-title">{text(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{heading}\n{"".join(body)}</section>\n'


def _classed(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
