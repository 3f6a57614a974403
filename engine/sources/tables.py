"""What publishers write into tables and header comments: rows, ages, sexes; and which labels are frequent enough."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from engine.sources import Entry, SourceError

_SEXES = {"f": "female", "female": "female", "m": "male", "male": "male"}
_SHORT = 3  # characters: "2", "?", "yes", "n/a"
_OLDEST = 120.0  # 300 stands for over 89, -1 and 999 for unknown


def read_rows(path: Path, columns: Iterable[str], publisher: str) -> list[dict[str, str]]:
    """Read a comma-separated table with a first line of names. Raises SourceError naming what is missing."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows = list(reader)
    except FileNotFoundError:
        raise SourceError(f"{path.parent} is no {publisher} tree: it has no {path.name}") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise SourceError(f"{path} is not a comma-separated table: {error}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    missing = set(columns) - set(reader.fieldnames or ())
    if missing:
        raise SourceError(f"{path} lacks the column {', '.join(sorted(missing))}")
    return rows


def shown(cell: str) -> str:
    """Return what a message may say of a cell that is not what it should be: the cell where it is a short code.

    Anything longer may be a name, a birth date or a remark about a person: where it stands is said in its place.
    """
    if not cell:
        return "nothing"
    return repr(cell) if len(cell) <= _SHORT else f"{len(cell)} characters of something else"


def parse_age(text: str) -> float | None:
    """Return an age in years, None for what is not an age: NaN, Unknown, a negative one, 300 (PTB-XL: over 89)."""
    try:
        age = float(text)
    except ValueError:
        return None
    return age if math.isfinite(age) and 0 <= age <= _OLDEST else None


def parse_sex(text: str) -> str | None:
    """Return "female" or "male" for F, M, Female, male, ...; None for anything else."""
    return _SEXES.get(text.strip().lower())


def frequent_labels(entries: Iterable[Entry], at_least: int = 10) -> tuple[str, ...]:
    """Return the labels that at least that many patients have, most patients first, ties by name.

    Entries with a problem do not count.
    """
    patients: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.problem is None:
            for label in entry.labels:
                patients[label].add(entry.patient)
    kept = [label for label, owners in patients.items() if len(owners) >= at_least]
    return tuple(sorted(kept, key=lambda label: (-len(patients[label]), label)))
