"""A user's own directory: WFDB records anywhere below it, labelled by a table or by SNOMED codes in the headers.

The table is one CSV file in the directory (comma, semicolon or tab), a line of column names, then one row a record: a
column that names the record (its file, with or without folder and suffix), a column for the patient, one column of 0
and 1 a label; age, sex and fold where there are such. Columns are told by their names and values, ``inferred`` says in
sentences what was understood, and what could be two things raises SourceError. Without a table, labels are the codes in
the headers' ``#Dx:`` comments, the 2020/2021 Challenge's form.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from engine.records.record import LEADS, Record, RecordError
from engine.records.signal import derivable
from engine.records.snomed import described, in_order, named
from engine.records.wfdb_reader import header_files, read_header, read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.challenge import snomed_entry
from engine.sources.own_table import Table, flag, understand
from engine.sources.tables import frequent_labels, parse_age, parse_sex, shown

_SUFFIXES = (".hea", ".dat", ".mat")
_LEADS_LOOKED_AT = 200  # headers, spread over the directory, that decide which leads the corpus has


class Directory:
    """A user's records and labels. Raises SourceError when there are none, or when they could mean two things."""

    version = "as found"
    licence = "the owner's"
    url = ""
    citation = ""
    fs = 100.0

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = re.sub(r"[^a-z0-9]+", "-", root.resolve().name.lower()).strip("-") or "records"
        paths = {path.relative_to(root).with_suffix("").as_posix(): path.with_suffix("") for path in header_files(root)}
        if not paths:
            raise SourceError(f"{root} has no WFDB record: no .hea file was found in it or in its folders")
        self.leads, said_leads = _leads(list(paths.values()))
        table = _find_table(root, paths)
        if table is not None:
            self._entries, said = _by_table(table, paths)
            self.labels: tuple[str, ...] = table.labels
            words, classes = "the columns of the table", {label: [label] for label in self.labels}
        else:
            self._entries, said = _by_codes(root, paths)
            self.labels = in_order(code for entry in self._entries for code in entry.labels)
            frequent = in_order(frequent_labels(self._entries)) or self.labels
            words, classes = f"SNOMED codes: {described(frequent)}", named(frequent)
        self.tasks: Mapping[str, TaskDefinition] = {"labels": TaskDefinition(words, classes, labelled_only=False)}
        self.inferred: tuple[str, ...] = (f"{_count(len(paths), 'WFDB record')} below {root}", said_leads, *said)

    def entries(self) -> list[Entry]:
        """List every record of the table, in its order, then those without a row; without a table, all by path.

        A record without a file, a row, a readable header, a label or a patient has its ``problem`` set.
        """
        return list(self._entries)

    def read(self, entry: Entry) -> Record:
        """Read one record at its own sampling frequency. Raises RecordError."""
        return read_wfdb(entry.path)


def _leads(paths: list[Path]) -> tuple[tuple[str, ...], str]:
    """Return the leads that most headers have or allow to derive, and a sentence about them."""
    layouts: Counter[tuple[str, ...]] = Counter()
    chosen = paths[:: max(1, len(paths) // _LEADS_LOOKED_AT)]
    for path in chosen:
        try:
            named_leads = read_header(path).leads
        except RecordError:
            continue
        within = tuple(lead for lead in LEADS if lead in named_leads or lead in derivable(named_leads))
        layouts[within or tuple(sorted(set(named_leads)))] += 1
    layouts.pop((), None)
    if not layouts:
        raise SourceError(f"none of {_count(len(chosen), 'header')} looked at can be read and names its leads")
    leads = layouts.most_common(1)[0][0]
    votes = sum(n for layout, n in layouts.items() if set(leads) <= set(layout))
    said = f"leads {', '.join(leads)} ({votes} of {_count(len(chosen), 'header')} looked at have or give them)"
    more = {lead: None for layout in layouts for lead in layout if lead not in leads}
    have_more = sum(n for layout, n in layouts.items() if set(layout) - set(leads))
    return leads, f"{said}; not used: {', '.join(more)} of {_count(have_more, 'header')}" if more else said


def _find_table(root: Path, paths: Mapping[str, Path]) -> Table | None:
    """Return the directory's one table. Raises SourceError where there are several, or it cannot be understood."""
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in {".csv", ".tsv"})
    if len(tables) > 1:
        listed = ", ".join(path.name for path in tables)
        raise SourceError(f"{root} has {len(tables)} tables ({listed}); leave the one with the labels")
    names = _Names(paths)
    return understand(tables[0], lambda cell: names.find(cell) is not None) if tables else None


class _Names:
    """Finds the record that a table's cell names: by path from the directory, else by file name if only one has it."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for record_id in paths:
            self._by_stem[PurePosixPath(record_id).name].append(record_id)

    def find(self, cell: str) -> str | None:
        """Return the record's id, None where there is no such record or more than one."""
        for name in (cell, *(cell[: -len(suffix)] for suffix in _SUFFIXES if cell.lower().endswith(suffix))):
            path = name.replace("\\", "/").removeprefix("./")
            if path in self._paths:
                return path
            if "/" not in path and len(self._by_stem.get(path, ())) == 1:
                return self._by_stem[path][0]
        return None


def _by_table(table: Table, paths: Mapping[str, Path]) -> tuple[list[Entry], tuple[str, ...]]:
    names = _Names(paths)
    found = [names.find(row[table.record]) for row in table.rows]
    times = Counter(record_id for record_id in found if record_id is not None)
    entries = []
    listed: set[str] = set()
    for row, line, record_id in zip(table.rows, table.lines, found, strict=True):
        name = record_id or row[table.record] or f"line {line}"
        if name in listed:  # a record that several rows name is one record
            continue
        listed.add(name)
        entry = _row_entry(table, row, name, paths)
        if record_id is None:
            entry = replace(
                entry, problem=f"{table.path.name}, line {line}: no file, or more than one, for this record"
            )
        elif times[record_id] > 1:
            entry = replace(entry, problem=f"{table.path.name} has {times[record_id]} rows for this record")
        elif entry.problem is None:
            entry = replace(entry, problem=_header_problem(entry.path))
        entries.append(entry)
    unlisted = [record_id for record_id in paths if record_id not in times]
    problem = f"no row in {table.path.name}"
    entries += [Entry(name, paths[name], name, frozenset(), problem=problem) for name in unlisted]
    return entries, _sentences(table, found.count(None), len(unlisted))


def _header_problem(path: Path) -> str | None:
    try:
        read_header(path)
    except RecordError as error:
        return str(error)
    return None


def _row_entry(table: Table, row: dict[str, str], record_id: str, paths: Mapping[str, Path]) -> Entry:
    labels = frozenset(label for label in table.labels if flag(row[label]))
    patient, problem = record_id, None
    if table.patient is not None:
        patient = row[table.patient]
        problem = None if patient else f"no patient in column {table.patient}"
    fold = None
    if table.fold is not None:
        fold = int(row[table.fold]) if re.fullmatch(r"\s*-?\d{1,9}\s*", row[table.fold], re.ASCII) else None
        if fold is None:
            problem = f"{table.fold} says {shown(row[table.fold])}, which is not a whole number"
    age = parse_age(row[table.age]) if table.age else None
    sex = parse_sex(row[table.sex]) if table.sex else None
    return Entry(record_id, paths.get(record_id, table.path), patient, labels, fold, age, sex, problem)


def _sentences(table: Table, without_file: int, without_row: int) -> tuple[str, ...]:
    said = [f"{table.path.name}: {_count(len(table.rows), 'row')}, the record in column {table.record}"]
    if table.patient:
        n_patients = len({row[table.patient] for row in table.rows} - {""})
        said.append(f"{_count(n_patients, 'patient')} in column {table.patient}")
    else:
        said.append("no column names the patient: every record counts as its own patient")
    counts = ", ".join(f"{label} ({sum(flag(row[label]) or False for row in table.rows):,})" for label in table.labels)
    said.append(f"labels (records that have them): {counts}")
    for meaning, column, parse in (("age", table.age, parse_age), ("sex", table.sex, parse_sex)):
        if column:
            known = sum(parse(row[column]) is not None for row in table.rows)
            said.append(f"{meaning} in column {column}, understood in {_count(known, 'row')}")
    if table.fold:
        said.append(f"fold in column {table.fold}")
    if table.ignored:
        said.append(f"not used: {', '.join(table.ignored)}")
    if without_file:
        said.append(f"{_count(without_file, 'row')} without a file")
    if without_row:
        said.append(f"{_count(without_row, 'record')} without a row")
    return tuple(said)


def _by_codes(root: Path, paths: Mapping[str, Path]) -> tuple[list[Entry], tuple[str, ...]]:
    entries = [snomed_entry(record_id, path) for record_id, path in paths.items()]
    labelled = [entry for entry in entries if entry.labels]
    if not labelled:
        raise SourceError(f"{root} has no labels: neither a CSV table nor a header with SNOMED codes (#Dx: ...)")
    few = "" if frequent_labels(entries) else "; none has 10 records, so that all are used"
    codes = {code for entry in labelled for code in entry.labels}
    return entries, (
        f"no table: {_count(len(codes), 'SNOMED code')} in {len(labelled):,} of {_count(len(entries), 'header')}{few}",
        "headers do not name the patient: every record counts as its own patient",
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
