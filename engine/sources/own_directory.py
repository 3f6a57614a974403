"""A user's own directory: WFDB records anywhere below it, labelled by a table or by SNOMED codes in the headers.

The table is a CSV file in the directory (``engine/sources/own_tables``), a line of column names, then one row a record:
a column that names the record (its file, with or without folder and suffix), a column for the patient, one column of 0
and 1 a label; age, sex and fold where there are such. Columns are told by their names and values, ``inferred`` says in
sentences what was understood, and what could be two things raises SourceError. Without a table that has labels, these
are the codes in the headers' ``#Dx:`` comments, the 2020/2021 Challenge's form. Patient, age, sex and fold may stand in
a table of their own. A table that names no record is not used, and that is said.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.records.folders import copied_from, is_left_over, walk
from engine.records.lead_names import renamed
from engine.records.record import LEADS, Record, RecordError
from engine.records.signal import derivable
from engine.records.snomed import described, in_order, named
from engine.records.wfdb_reader import comment_value, read_header, read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.challenges.challenge2021 import snomed_entry
from engine.sources.names import corpus_name
from engine.sources.own_tables.cells import is_missing, shown
from engine.sources.own_tables.columns import NoRecordColumnError, Table, listed, understand
from engine.sources.own_tables.file import OTHER_SUFFIXES, SUFFIXES
from engine.sources.own_tables.patients import same_patient
from engine.sources.own_tables.record_names import RecordNames
from engine.sources.tables import frequent_labels

_CHANNEL = re.compile(r"[\w.+/()%-]{1,16}")  # Resp, CO2, SpO2(%)
_LEADS_LOOKED_AT = 200  # headers, spread over the directory, that decide which leads the corpus has


class Directory:
    """A user's records and labels. Raises SourceError when there are none, or when they could mean two things."""

    version = "as found"
    licence = "the owner's"
    url = ""
    citation = ""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = corpus_name(root.resolve().name)
        tree = walk(root)
        paths = {path.relative_to(root).with_suffix("").as_posix(): path.with_suffix("") for path in tree.headers}
        if not paths:
            raise SourceError(f"{root} has no WFDB record: no .hea file was found in it or in its folders")
        self.leads, said_leads = _leads(list(paths.values()))
        tables = _find_tables(root, RecordNames(root, paths))
        if tables.labels is not None:
            self._entries, n_coded = _with_header_problems(_by_table(tables.labels, paths))
            said = _sentences(tables.labels, len(paths))
            if n_coded:
                said += (f"not used: the SNOMED codes in {_count(n_coded, 'header')}; the table has the labels",)
            self.labels: tuple[str, ...] = tuple(tables.labels.labels)
            words, classes = "the columns of the table", {label: [label] for label in self.labels}
        else:
            self._entries, said = _by_codes(paths, tables.no_labels)
            self.labels = in_order(code for entry in self._entries for code in entry.labels)
            frequent = in_order(frequent_labels(self._entries)) or self.labels
            words, classes = f"SNOMED codes: {described(frequent)}", named(frequent)
        named_by = tables.labels if tables.labels and tables.labels.patient else None
        for table in tables.people:
            people = _by_table(table, paths)
            self._entries = _with_people(self._entries, people, table, named_by)
            named_by = named_by or (table if table.patient else None)
            said += _sentences(table, len(paths))
        if named_by is None:
            which = "headers do not name" if tables.labels is None else "no column names"
            said += (f"{which} the patient: every record counts as its own patient",)
        said += tables.remarks
        self.tasks: Mapping[str, TaskDefinition] = {"labels": TaskDefinition(words, classes, labelled_only=False)}
        self.inferred: tuple[str, ...] = (
            f"{_count(len(paths), 'WFDB record')} below {root}",
            *tree.sentences,
            said_leads,
            *said,
        )

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
    others: Counter[str] = Counter()
    other_names: dict[str, str] = {}
    chosen = paths[:: max(1, len(paths) // _LEADS_LOOKED_AT)]
    for path in chosen:
        try:
            header = read_header(path)
        except RecordError:
            continue
        within = tuple(lead for lead in LEADS if lead in header.leads or lead in derivable(header.sound_leads))
        layouts[within or tuple(sorted(set(header.sound_leads)))] += 1
        others.update(set(header.leads) - set(LEADS))
        other_names |= renamed([channel.name for channel in header.channels], header.leads)
    layouts.pop((), None)
    if not layouts:
        raise SourceError(f"none of {_count(len(chosen), 'header')} looked at can be read and names its leads")
    leads = layouts.most_common(1)[0][0]
    votes = sum(n for layout, n in layouts.items() if set(leads) <= set(layout))
    said = f"leads {', '.join(leads)} ({votes} of {_count(len(chosen), 'header')} looked at have or give them)"
    if other_names:
        said += f"; {', '.join(other_names)} read as {', '.join(other_names.values())}"
    more = {lead: None for layout in layouts for lead in layout if lead not in leads}
    more |= {lead: None for lead in sorted(others) if lead not in leads}
    have_more = sum(n for layout, n in layouts.items() if set(layout) - set(leads))
    have_more = max([have_more, *(others[lead] for lead in more)])
    not_used = ", ".join(dict.fromkeys(map(_shown, more)))
    return leads, f"{said}; not used: {not_used} of {_count(have_more, 'header')}" if more else said


def _shown(channel: str) -> str:
    """Return a channel's name for a message, unless it may be free text, which may name a person."""
    return channel if _CHANNEL.fullmatch(channel) else "a channel with a long name"


@dataclass(frozen=True)
class _Tables:
    """The table with the labels, those with patients, ages, sexes or folds alone, and remarks about all others.

    ``no_labels`` is what to raise where neither a table nor the headers have labels.
    """

    labels: Table | None
    people: tuple[Table, ...]
    no_labels: SourceError
    remarks: tuple[str, ...]


def is_table(path: Path) -> bool:
    """Whether a file of a directory is taken for a table about its records, by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not is_left_over(path.name)


def _find_tables(root: Path, names: RecordNames) -> _Tables:
    """Read the directory's tables. Raises SourceError where two have labels, or one cannot be understood."""
    files = sorted(root.iterdir())
    understood: list[Table] = []
    others: list[tuple[Path, NoRecordColumnError]] = []
    for path in filter(is_table, files):
        if path.is_dir():
            continue
        if not path.is_file():  # a pipe would be waited for
            raise SourceError(f"{path} is not a file")
        try:
            understood.append(understand(path, names))
        except NoRecordColumnError as error:
            others.append((path, error))
    labelled = [table for table in understood if table.labels]
    if len(labelled) > 1:
        names_of_tables = ", ".join(table.path.name for table in labelled)
        raise SourceError(f"{root} has {len(labelled)} tables ({names_of_tables}); leave the one with the labels")
    if not labelled and (meant := next((error for _, error in others if error.about_records), None)) is not None:
        raise meant
    unread = [
        path for path in files
        if path.suffix.lower() in OTHER_SUFFIXES and not is_left_over(path.name) and path.is_file()
    ]  # fmt: skip
    remarks = [f"{path.name} is not used: none of its columns names the records" for path, _ in others]
    if not labelled:
        remarks += [f"{path.name} is not read: save it as CSV if it is about these records" for path in unread]
    people = tuple(table for table in understood if not table.labels)
    return _Tables(labelled[0] if labelled else None, people, _no_labels(root, people, others, unread), tuple(remarks))


def _no_labels(
    root: Path, people: Sequence[Table], others: Sequence[tuple[Path, SourceError]], unread: Sequence[Path]
) -> SourceError:
    """Return what to raise where headers have no codes either."""
    if people:
        return SourceError(
            f"{people[0].path} has no label column: a label needs a column of its own, 0 or 1 in every row (not used: "
            f"{listed(people[0].ignored) or 'none'})"
        )
    if others:
        return others[0][1]
    if unread:
        return SourceError(f"{unread[0]} is not a CSV file, and not read: save it as CSV")
    return SourceError(f"{root} has no labels: neither a CSV table nor a header with SNOMED codes (#Dx: ...)")


def _by_table(table: Table, paths: Mapping[str, Path]) -> list[Entry]:
    rows = [_row_entry(table, row, paths) for row in range(len(table.lines))]
    of_record: dict[str, list[Entry]] = defaultdict(list)
    for entry in rows:
        of_record[entry.record_id].append(entry)
    entries = []
    for name, same in of_record.items():  # a record that several rows name is one record
        entry = same[0]
        if name in paths and any(other != entry for other in same):
            said = f"{table.path.name} has {len(same)} rows for this record"
            entry = replace(entry, problem=said, labels_known=all(other.labels == entry.labels for other in same))
        entries.append(entry)
    problem = f"no row in {table.path.name}"
    entries += [
        Entry(name, path, name, frozenset(), problem=problem, labels_known=False)
        for name, path in paths.items()
        if name not in of_record
    ]
    return entries


def _with_header_problems(entries: Sequence[Entry]) -> tuple[list[Entry], int]:
    """Return the entries with what their headers are unusable for, and how many headers have codes of their own."""
    looked_at, n_coded = [], 0
    for entry in entries:
        problem = entry.problem
        if problem is None:
            try:
                n_coded += bool(comment_value(read_header(entry.path).comments, "Dx"))
            except RecordError as error:
                problem = str(error)
        looked_at.append(replace(entry, problem=problem))
    return looked_at, n_coded


def _row_entry(table: Table, row: int, paths: Mapping[str, Path]) -> Entry:
    found, line = table.records[row], table.lines[row]
    record_id = found or (f"line {line}" if is_missing(table.cells[row]) else table.cells[row])
    labels = frozenset(label for label, values in table.labels.items() if values[row])
    patient, problem = record_id, None
    if table.patient is not None:
        patient = table.patients.rows[row]
        problem = None if patient else f"no patient in column {table.patient}"
    fold = table.folds[row]
    if table.fold is not None and fold is None:
        problem = f"{table.fold} says {shown(table.fold_cells[row])}, which is not a whole number"
    if found is None:
        problem = f"{table.path.name}, line {line}: no file, or more than one, for this record"
    path = paths.get(record_id, table.path)
    return Entry(record_id, path, patient, labels, fold, table.ages[row], table.sexes[row], problem)


def _with_people(
    entries: Sequence[Entry], people: Iterable[Entry], table: Table, named_by: Table | None
) -> list[Entry]:
    """Return entries with the patient, age, sex and fold of ``table``, which has no labels, where they lack them.

    ``named_by`` is the table that has named their patients. Raises SourceError where ``table`` says otherwise.
    """
    by_record = {person.record_id: person for person in people}
    completed = []
    for entry in entries:
        person = by_record.get(entry.record_id)
        contradicts = person is not None and person.problem is not None and not table.patient and not table.fold
        if person is None or entry.problem is not None or contradicts:
            completed.append(entry)
            continue
        named_twice = table.patient is not None and person.problem is None
        if named_by and named_twice and same_patient(person.patient) != same_patient(entry.patient):
            raise SourceError(
                f"{named_by.path} and {table.path.name} name different patients for record {entry.record_id}"
            )
        takes_patient = table.patient is not None and named_by is None
        completed.append(
            replace(
                entry,
                patient=person.patient if takes_patient else entry.patient,
                fold=person.fold if entry.fold is None else entry.fold,
                age=person.age if entry.age is None else entry.age,
                sex=person.sex if entry.sex is None else entry.sex,
                problem=person.problem if takes_patient or table.fold else None,
            )
        )
    return completed


def _sentences(table: Table, n_records: int) -> tuple[str, ...]:
    rows = len(table.lines)
    said = [f"{table.path.name}: {_count(rows, 'row')}, the record in column {table.record}", *table.remarks]
    if table.patient:
        joined = table.patients.n_joined
        several = f", {joined:,} of them in several spellings, which were joined" if joined else ""
        said.append(f"{_count(len(table.patients), 'patient')} in column {table.patient}{several}")
    found = {record for record in table.records if record is not None}
    if table.labels:
        with_label = {
            label: {record for record, value in zip(table.records, values, strict=True) if value and record is not None}
            for label, values in table.labels.items()
        }
        counts = [f"{label} ({len(records):,})" for label, records in with_label.items()]
        said.append(f"labels (records that have them): {listed(counts, 100)}")
    said += [
        f"{meaning} in column {column}, understood in {_count(sum(value is not None for value in values), 'row')}"
        for meaning, column, values in (("age", table.age, table.ages), ("sex", table.sex, table.sexes))
        if column
    ]
    if table.fold:
        said.append(f"fold in column {table.fold}")
    if table.ignored:
        said.append(f"not used: {listed(table.ignored)}")
    if without_file := table.records.count(None):
        said.append(f"{_count(without_file, 'row')} without a file")
    if without_row := n_records - len(found):
        said.append(f"{_count(without_row, 'record')} without a row")
    return tuple(said)


def _by_codes(paths: Mapping[str, Path], no_labels: SourceError) -> tuple[list[Entry], tuple[str, ...]]:
    there = set(paths.values())
    entries = [_coded_entry(record_id, path, there) for record_id, path in paths.items()]
    labelled = [entry for entry in entries if entry.labels]
    if not labelled:
        raise no_labels
    few = "" if frequent_labels(entries) else "; none has 10 records, so that all are used"
    codes = {code for entry in labelled for code in entry.labels}
    headers = _count(len(entries), "header")
    return entries, (f"no table of labels: {_count(len(codes), 'SNOMED code')} in {len(labelled):,} of {headers}{few}",)


def _coded_entry(record_id: str, path: Path, there: Collection[Path]) -> Entry:
    """List a record by its header's codes; the copy of one that is there too would be counted as another patient."""
    of = copied_from(path.name)
    if of is not None and path.with_name(of) in there:
        problem = f"named as a copy of {of}, which is there too"
        return Entry(record_id, path, record_id, frozenset(), problem=problem, labels_known=False)
    return snomed_entry(record_id, path)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
