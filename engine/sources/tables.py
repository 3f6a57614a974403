"""What publishers write into tables and header comments: rows, ages, sexes; and which labels are frequent enough."""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.records.formats.contents import known_sex
from engine.sources import Entry, SourceError
from models.errors import decoding_fault

_UNITS = r"y|yrs?|years?(?: old)?|jahre?|ans|a\u00f1os|anos|m|mo|mos|months?|w|weeks?|d|days?"
_AGE = re.compile(rf"([0-9]{{1,4}}(?:[.,][0-9]+)?)[ -]*({_UNITS})?")
_A_YEAR = {"y": 1.0, "j": 1.0, "a": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
_OLDEST = 120.0  # 300 stands for over 89, -1 and 999 for unknown


def read_rows(path: Path, columns: Iterable[str], publisher: str) -> list[dict[str, str]]:
    """Read a comma-separated table with a first line of names. Raises SourceError naming what is missing."""
    return list(iterate_rows(path, columns, publisher))


def iterate_rows(path: Path, columns: Iterable[str], publisher: str) -> Iterator[dict[str, str]]:
    """Yield the rows of ``read_rows``, for a table of hundreds of thousands. Raises SourceError."""
    reader = csv.DictReader(io.StringIO(read_text(path, publisher), newline=""), restval="")
    try:
        missing = set(columns) - set(reader.fieldnames or ())
        if missing:
            raise SourceError(f"{path} lacks the column {', '.join(sorted(missing))}")
        yield from reader
    except csv.Error as error:
        raise SourceError(f"{path} is not a comma-separated table: {error}") from None


def read_names(path: Path, publisher: str) -> list[str]:
    """Read a list of records, one a line with or without a folder, and return their names. Raises SourceError."""
    lines = (line.strip() for line in read_text(path, publisher).splitlines())
    return [line.rpartition("/")[2] for line in lines if line]


def read_text(path: Path, publisher: str) -> str:
    """Read a file of a publisher's tree. Raises SourceError where it is missing or no text."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise SourceError(f"{path} is not a file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        raise SourceError(f"{path.parent} is not a {publisher} tree: it has no {path.name}") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} cannot be read: {decoding_fault(error)}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None


def parse_age(text: str) -> float | None:
    """Return an age in years, None for what is not an age: NaN, Unknown, a negative one, 300 (PTB-XL: over 89).

    A decimal comma and a unit are understood: 45,5; 45 years; 006M and 003D, as DICOM writes ages (PS3.5, AS).
    """
    try:
        age = float(text)
    except ValueError:
        match = _AGE.fullmatch(text.strip().lower())
        if match is None:
            return None
        is_letter = match[2] is not None and len(match[2]) == 1
        if is_letter and match[2] != "y" and not re.fullmatch(r"\d{3}[mwd]", match[0], re.ASCII):
            return None  # 45M is a man of 45, in most tables; DICOM's 006M has three digits
        age = float(match[1].replace(",", ".")) / _A_YEAR[(match[2] or "y")[0]]
    return age if math.isfinite(age) and 0 <= age <= _OLDEST else None


def parse_sex(text: str) -> str | None:
    """Return "female" or "male" for F, M, Female, male, weiblich, ...; None for anything else."""
    return known_sex(text)


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
