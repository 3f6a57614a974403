"""What the columns of a user's own table mean, told by their names and values; nothing that could be two things."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.sources import SourceError
from engine.sources.tables import shown

_RECORD_NAMES = {
    "record", "recordid", "recordname", "recordno", "recordpath", "recordfile", "recording", "file", "filename",
    "filepath", "path", "name", "wfdb", "ecg", "ecgid", "ecgfile", "exam", "examid", "id", "filenamelr",
    "filenamehr",
}  # fmt: skip
_PATIENT_NAMES = {
    "patient", "patientid", "patientno", "patientnumber", "patientname", "subject", "subjectid", "person",
    "personid", "participant", "participantid", "idpatient", "pid", "mrn",
}  # fmt: skip
_AGE_NAMES, _SEX_NAMES = {"age", "ageyears", "patientage"}, {"sex", "gender", "patientsex"}
_FOLD_NAMES = {"fold", "stratfold"}
_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


@dataclass(frozen=True)
class Table:
    """A user's table: rows by column, each with the line that it stands on, and what each column is."""

    path: Path
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]
    record: str
    patient: str | None
    labels: tuple[str, ...]
    age: str | None
    sex: str | None
    fold: str | None
    ignored: tuple[str, ...]


def flag(text: str) -> bool | None:
    """Return whether a cell says 1 or 0 (true, false, 1.0, 0.0); None for anything else."""
    return _FLAGS.get(text.strip().lower())


def understand(path: Path, is_record: Callable[[str], bool]) -> Table:
    """Read a table and tell its columns apart; ``is_record`` says whether a cell names a record on disk.

    Raises SourceError for what could be two things: two columns for the record or the patient, a label column with
    something else than 0 and 1 in it.
    """
    columns, rows, lines = _read(path)
    record = _record_column(path, columns, rows, is_record)
    patient = _only(path, "the patient", [name for name in columns if _plain(name) in _PATIENT_NAMES])
    age = _only(path, "the age", [name for name in columns if _plain(name) in _AGE_NAMES])
    sex = _only(path, "the sex", [name for name in columns if _plain(name) in _SEX_NAMES])
    fold = _only(path, "the fold", [name for name in columns if _plain(name) in _FOLD_NAMES])
    rest = [name for name in columns if name and name not in {record, patient, age, sex, fold}]
    labels = tuple(name for name in rest if _is_label(path, name, rows, lines))
    if not labels:
        raise SourceError(f"{path} has no label column: a label needs a column of its own, 0 or 1 in every row")
    ignored = tuple(name for name in rest if name not in labels)
    return Table(path, tuple(rows), tuple(lines), record, patient, labels, age, sex, fold, ignored)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _read(path: Path) -> tuple[list[str], list[dict[str, str]], list[int]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
        table = [
            (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise SourceError(f"{path} is not a table: {error}") from None
    if len(table) < 2:
        raise SourceError(f"{path} has no rows below its line of column names")
    columns = _named(table[0][1], [row for _, row in table[1:]])
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated:
        raise SourceError(f"{path} has more than one column named {', '.join(repeated)}")
    for line, row in table[1:]:
        if len(row) != len(columns):
            raise SourceError(f"{path}, line {line}: {len(row)} cells, but {len(columns)} columns")
    return columns, [dict(zip(columns, row, strict=True)) for _, row in table[1:]], [line for line, _ in table[1:]]


def _named(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Name the columns that have cells and no name by where they stand, so that none is lost unsaid."""
    return [
        name or (f"unnamed {position + 1}" if any(row[position] for row in rows if len(row) > position) else "")
        for position, name in enumerate(columns)
    ]


def _record_column(path: Path, columns: list[str], rows: list[dict[str, str]], is_record: Callable[[str], bool]) -> str:
    """Choose the column whose cells name records on disk, among those with a telling name if there are such."""
    telling = [name for name in columns if _plain(name) in _RECORD_NAMES]
    matching = [name for name in telling or columns if any(is_record(row[name]) for row in rows)]
    if any(is_record(name) for name in columns):
        raise SourceError(f"{path} has no line of column names: its first line is already one of a record")
    if not matching and telling:
        matching = [name for name in columns if any(is_record(row[name]) for row in rows)]
    found = _only(path, "the record", matching)
    if found is None:
        raise SourceError(
            f"{path}: no column names the records found below {path.parent} (columns: {', '.join(columns)})"
        )
    return found


def _only(path: Path, meaning: str, names: list[str]) -> str | None:
    if len(names) > 1:
        raise SourceError(f"{path}: {' and '.join(names)} could both be {meaning}; remove or rename all but one")
    return names[0] if names else None


def _is_label(path: Path, name: str, rows: list[dict[str, str]], lines: list[int]) -> bool:
    """Say whether a column holds 0 and 1. Raises SourceError where most cells do, or the others are left empty."""
    wrong = [(line, row[name]) for line, row in zip(lines, rows, strict=True) if flag(row[name]) is None]
    if not wrong:
        return True
    half_filled = len(wrong) < len(rows) and not any(value for _, value in wrong)
    if 2 * len(wrong) >= len(rows) and not half_filled:
        return False
    line, value = wrong[0]
    others = f"{len(wrong):,} are not" if len(wrong) > 1 else "one is not"
    raise SourceError(f"{path}, line {line}: {name} says {shown(value)}; a label is 0 or 1 in every row ({others})")
