"""What the columns of a user's own table mean, told by their names and values; nothing that could be two things."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.sources import SourceError
from engine.sources.own_tables.cells import flags, is_missing, sexes, shown
from engine.sources.own_tables.file import TableFile, read_table
from engine.sources.own_tables.patients import Patients, join_spellings
from engine.sources.own_tables.record_names import Located, RecordNames
from engine.sources.tables import parse_age

_RECORD_NAMES = {
    "record", "recordid", "recordname", "recordno", "recordpath", "recordfile", "recording", "file", "filename",
    "filepath", "path", "wfdb", "ecgid", "ecgfile", "filenamelr", "filenamehr",
}  # fmt: skip
_PERHAPS_RECORD_NAMES = {"name", "ecg", "exam", "examid", "id"}  # tables about other things have these too
_PATIENT_NAMES = {
    "patient", "patientid", "patientno", "patientnumber", "patientname", "patientcode", "subject", "subjectid",
    "subjectno", "subjectnumber", "subjectcode", "subjid", "usubjid", "person", "personid", "participant",
    "participantid", "participantno", "idpatient", "patid", "patno", "ptid", "pid", "mrn", "patientenid",
    "patientennummer", "paciente", "pacienteid",
}  # fmt: skip
_BEGIN_OF_PATIENT = ("patient", "paciente", "subject")
_AGE_NAMES = {
    "age", "ageyears", "ageinyears", "ageatexam", "ageatecg", "ageatrecording", "patientage", "alter", "edad",
    "leeftijd",
}  # fmt: skip
_SEX_NAMES = {"sex", "gender", "patientsex", "geschlecht", "sexo", "sexe", "sesso", "geslacht"}
_ONE_SEX_NAMES = {
    **dict.fromkeys(("male", "ismale"), ("male", "female")),
    **dict.fromkeys(("female", "isfemale"), ("female", "male")),
}
_FOLD_NAMES = {"fold", "stratfold"}
_WHOLE = re.compile(r"(-?\d{1,9})(?:[.,]0+)?", re.ASCII)
_LONGEST_SHOWN = 80  # characters of a cell of the record column
_LOOKED_AT = 50  # cells that decide whether a column without a telling name is worth looking up


class NoRecordColumnError(SourceError):
    """A table of which no column names the records. ``about_records`` where it seems to be meant to."""

    def __init__(self, message: str, *, about_records: bool) -> None:
        super().__init__(message)
        self.about_records = about_records


@dataclass(frozen=True)
class Table:
    """A user's table, its columns by what they mean; every sequence has one value a row.

    ``records`` are those found on disk, ``cells`` what the table calls them; ``labels`` say whether a row has each.
    """

    path: Path
    lines: tuple[int, ...]
    record: str
    cells: tuple[str, ...]
    records: tuple[str | None, ...]
    labels: dict[str, tuple[bool, ...]]
    patient: str | None
    patients: Patients
    age: str | None
    ages: tuple[float | None, ...]
    sex: str | None
    sexes: tuple[str | None, ...]
    fold: str | None
    folds: tuple[int | None, ...]
    fold_cells: tuple[str, ...]
    ignored: tuple[str, ...]
    remarks: tuple[str, ...]


def understand(path: Path, names: RecordNames) -> Table:
    """Read a table and tell its columns apart.

    Raises NoRecordColumnError where no column names records, SourceError for what could be two things: two columns for
    the record or the patient, a label column with something else than yes and no in it.
    """
    file = read_table(path)
    columns = [name for name in file.columns if not file.counts_rows(name)]
    record, located = _record_column(file, columns, names)
    patient = _only(path, "the patient", _called(columns, _PATIENT_NAMES))
    age = _only(path, "the age", _called(columns, _AGE_NAMES))
    sex, sexes_of_rows = _sex_column(file, columns)
    fold = _only(path, "the fold", _called(columns, _FOLD_NAMES))
    if patient is None and (likely := [name for name in columns if _plain(name).startswith(_BEGIN_OF_PATIENT)]):
        raise SourceError(
            f"{path}: {listed(likely)} could be the patient: name the column patient if it is, or else remove it"
        )
    told = {record, patient, age, sex, fold, *_called(columns, _ONE_SEX_NAMES)}
    rest = [name for name in columns if name not in told]
    labels = {name: label for name in rest if (label := _label(file, name)) is not None}
    used = {record, patient, age, sex, fold, *labels}
    nothing = (None,) * len(file.lines)
    fold_cells = file.columns[fold] if fold else ("",) * len(file.lines)
    return Table(
        path=path,
        lines=file.lines,
        record=record,
        cells=file.columns[record],
        records=located.records,
        labels=labels,
        patient=patient,
        patients=join_spellings(path, patient, file.columns[patient], file.lines, sexes_of_rows or nothing)
        if patient
        else Patients(("",) * len(file.lines), 0),
        age=age,
        ages=tuple(map(parse_age, file.columns[age])) if age else nothing,
        sex=sex,
        sexes=sexes_of_rows or nothing,
        fold=fold,
        folds=tuple(map(_whole, fold_cells)),
        fold_cells=fold_cells,
        ignored=tuple(name for name in file.columns if name not in used),
        remarks=tuple(remark for remark in (file.remark, located.remark) if remark),
    )


def listed(names: Sequence[str], at_most: int = 20) -> str:
    """Return names for a sentence, the first ones where there are very many."""
    more = f" and {len(names) - at_most:,} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _called(columns: Iterable[str], names: Iterable[str]) -> list[str]:
    return [name for name in columns if _plain(name) in names]


def _whole(cell: str) -> int | None:
    match = _WHOLE.fullmatch(cell)
    return int(match[1]) if match else None


def _only(path: Path, meaning: str, names: Sequence[str]) -> str | None:
    if len(names) > 1:
        raise SourceError(
            f"{path}: {listed(names[:-1])} and {names[-1]} could both be {meaning}; remove or rename all but one"
        )
    return names[0] if names else None


def _record_column(file: TableFile, columns: Sequence[str], names: RecordNames) -> tuple[str, Located]:
    """Choose the column that names records: one that is called so, else one of which every cell names another record.

    Where a column is called so and names none, no other is taken unless it is called so too: numbers of beats or years
    name files as well.
    """
    called = _called(columns, _RECORD_NAMES) or _called(columns, _PERHAPS_RECORD_NAMES)
    located = {name: names.locate(file.columns[name]) for name in called}
    matching = {name: found for name, found in located.items() if any(found.records)}
    if len(called) > len(matching):  # of several, one that names none casts doubt on one that names a few
        matching = {name: found for name, found in matching.items() if _most_once(found)}
    if not called:
        for name in columns:
            if (record := names.locate([name]).records[0]) is not None:
                raise SourceError(f"{file.path} has no line of column names: its first line is of record {record}")
        matching = {name: found for name in columns if (found := _by_values(file, name, names)) is not None}
    if not matching:
        raise _mismatch(file, columns, called, names)
    first = next(iter(matching))
    if any(found.records != matching[first].records for found in matching.values()):
        _only(file.path, "the record", list(matching))
    return first, matching[first]


def _most_once(found: Located) -> bool:
    records = [record for record in found.records if record is not None]
    return 2 * len(records) >= len(found.records) and len(set(records)) == len(records)


def _by_values(file: TableFile, name: str, names: RecordNames) -> Located | None:
    """Return the records of a column that says nothing by its name, if every cell names one of its own, else None.

    Numbers are often measurements: they have to name most records, and must not be yes and no alone.
    """
    cells = file.columns[name]
    if _plain(name) in _AGE_NAMES | _SEX_NAMES | _FOLD_NAMES:
        return None
    if not _promising(cells, names) or None not in flags(cells) or len(set(cells)) < len(cells):
        return None
    numbers = all(re.fullmatch(r"[\d.,]+", cell) for cell in cells)
    if numbers and 2 * len(cells) < len(names):
        return None
    found = names.locate(cells)
    return found if None not in found.records and len(set(found.records)) == len(cells) else None


def _promising(cells: Sequence[str], names: RecordNames) -> bool:
    looked_at = cells[:_LOOKED_AT]
    return 2 * sum(one is not None for one in names.locate(looked_at).records) >= len(looked_at)


def _mismatch(
    file: TableFile, columns: Sequence[str], called: Sequence[str], names: RecordNames
) -> NoRecordColumnError:
    """Say that no column names the records, with one cell next to file names where a column is called the record."""
    files = f"the files are named {names.examples()}"
    sentence = f"{file.path}: no column names the records found below {file.path.parent}"
    about = bool(_called(columns, _RECORD_NAMES))
    if called:
        cells = file.columns[called[0]]
        nearly = names.nearly(cells)
        bare = f"{nearly:,} of {len(cells):,} rows would without zeros at the start or .0 at the end"
        advice = f"; {bare}: write them as the files are named" if nearly else ""
        says = f" says {_first(cells)}" if about else ", which may be that, names none"  # a name may be a person's
        return NoRecordColumnError(f"{sentence}: {called[0]}{says}, {files}{advice}", about_records=about)
    likely = [
        name for name in columns
        if None in flags(file.columns[name]) and _promising(file.columns[name], names)
        and _plain(name) not in _PATIENT_NAMES | _AGE_NAMES
    ]  # fmt: skip
    if likely:
        return NoRecordColumnError(
            f"{sentence} in every row: name the column record if it is {listed(likely)}; {files}", about_records=True
        )
    if any(map(_is_value, columns)):  # not names: they may be a person's
        return NoRecordColumnError(f"{sentence}, nor has it a line of column names; {files}", about_records=False)
    return NoRecordColumnError(f"{sentence} (columns: {listed(columns)}); {files}", about_records=False)


def _is_value(name: str) -> bool:
    """Return whether what stands for a column's name is a number or a date."""
    return re.fullmatch(r"[\d.,:/ -]*\d[\d.,:/ -]*", name) is not None


def _first(cells: Sequence[str]) -> str:
    return repr(next((cell for cell in cells if not is_missing(cell)), "")[:_LONGEST_SHOWN])


def _sex_column(file: TableFile, columns: Sequence[str]) -> tuple[str | None, tuple[str | None, ...] | None]:
    """Return the column of sexes and what it says in each row: one called so, else one of yes and no called male."""
    if (name := _only(file.path, "the sex", _called(columns, _SEX_NAMES))) is not None:
        return name, tuple(sexes(file.columns[name]))
    for name in _called(columns, _ONE_SEX_NAMES):
        said = flags(file.columns[name])
        if all(one is not None or is_missing(cell) for one, cell in zip(said, file.columns[name], strict=True)):
            yes, no = _ONE_SEX_NAMES[_plain(name)]
            return name, tuple(None if one is None else yes if one else no for one in said)
    return None, None


def _label(file: TableFile, name: str) -> tuple[bool, ...] | None:
    """Return the values of a label column, None for another one.

    Raises SourceError where most cells are yes or no and others are not, or where all others are missing.
    """
    cells = file.columns[name]
    values = flags(cells)
    known = [value for value in values if value is not None]
    if len(known) == len(cells):
        return tuple(known)
    wrong = [(line, cell) for line, cell, value in zip(file.lines, cells, values, strict=True) if value is None]
    half_filled = bool(known) and all(is_missing(cell) for _, cell in wrong)
    if 2 * len(wrong) >= len(cells) and not half_filled:
        return None
    line, cell = wrong[0]
    others = f"{len(wrong):,} are not" if len(wrong) > 1 else "one is not"
    rule = f"a label is 0 or 1 in every row ({others}); correct or remove the column"
    raise SourceError(f"{file.path}, line {line}: {name} says {shown(cell)}; {rule}")
