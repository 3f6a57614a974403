"""The kinds of columns that a run has: how a store keeps each, and how its cells in a table are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from studies.files.precision import PRECISIONS

_NO_UPSTREAM = {"", "-", ".", "?", "none", "null", "na", "n/a", "#n/a", "nan"}
_COLUMN = "column"
_MOST = 10**15  # a whole number beyond it is not told from its neighbours


@dataclass(frozen=True)
class Column:
    """A kind of column: its type in SQLite, what its cell in a table means (None: nothing known), if it is a score."""

    sql: str
    read: Callable[[str], Any]
    is_score: bool = False


def read_text(cell: str) -> str | None:
    """Return the text, None for an empty cell."""
    return cell or None


def read_upstream(cell: str) -> str | None:
    """Return the upstream, None for an empty cell and for the words that mean none."""
    return None if cell.lower() in _NO_UPSTREAM else cell


def read_precision(cell: str) -> str | None:
    """Return the precision, None for a cell that names none: in a table the column may be a score of that name."""
    return cell.lower() if cell.lower() in PRECISIONS else None


def read_number(cell: str) -> float | None:
    """Return the number, None for a cell that is none or is not finite."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if isfinite(value) else None


def read_whole(cell: str) -> int | None:
    """Return the whole number, None for a cell that is none."""
    value = read_number(cell)
    return int(value) if value is not None and value == int(value) and value < _MOST else None


def _metadata(column: Column) -> Mapping[str, Column]:
    return {_COLUMN: column}


def column_of(metadata: Mapping[Any, Any]) -> Column | None:
    """Return the column that a dataclass field says it is by its metadata, None for a field that is none."""
    column: Column | None = metadata.get(_COLUMN)
    return column


TEXT = _metadata(Column("TEXT", read_text))
UPSTREAM = _metadata(Column("TEXT", read_upstream))
PRECISION = _metadata(Column("TEXT", read_precision))
WHOLE = _metadata(Column("INTEGER", read_whole))
NUMBER = _metadata(Column("REAL", read_number))
SCORE = _metadata(Column("REAL", read_number, is_score=True))
