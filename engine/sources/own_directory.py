"""A user's own directory: recordings anywhere below it, labelled by a table or by SNOMED codes in WFDB's headers.

The table is a CSV file in the directory (``engine/sources/own_tables``), a line of column names, then one row a record:
a column that names the record (its file, with or without folder and suffix), a column for the patient, one column of 0
and 1 a label; age, sex and fold where there are such. Columns are told by their names and values, ``inferred`` says in
sentences what was understood, and what could be two things raises SourceError. Without a table that has labels, these
are the codes in the headers' ``#Dx:`` comments, the 2020/2021 Challenge's form. Patient, age, sex and fold may stand in
a table of their own. A table that names no record is not used, and that is said.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.records.folders import copied_from, is_left_over, walk
from engine.records.formats.described.told import FILE_NAME
from engine.records.formats.detect import formats_in_words
from engine.records.formats.recordings import WFDB, Found, Recording, find_recordings
from engine.records.record import Record
from engine.records.snomed import described, in_order, named
from engine.records.wfdb_reader import comment_value
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.challenges.challenge2021 import coded_entry
from engine.sources.names import corpus_name
from engine.sources.own_recordings import Looked, common_leads, counted, look_at, people_of_files
from engine.sources.own_tables.cells import is_missing, shown
from engine.sources.own_tables.columns import NoRecordColumnError, Table, listed, understand
from engine.sources.own_tables.file import OTHER_SUFFIXES, SUFFIXES
from engine.sources.own_tables.patients import same_patient
from engine.sources.own_tables.record_names import RecordNames
from engine.sources.tables import frequent_labels

_EACH = 5  # files of which the same is said one by one; more are one sentence


class Directory:
    """A user's records and labels. Raises SourceError when there are none, or when they could mean two things.

    ``labels_needed`` may be False for what is done with the recordings alone.
    """

    version = "as found"
    licence = "the owner's"
    url = ""
    citation = ""

    def __init__(self, root: Path, labels_needed: bool = True) -> None:
        self.root = root
        self.name = corpus_name(root.resolve().name)
        tree = walk(root)
        found = find_recordings(tree)
        self.recordings = {recording.record_id: recording for recording in found.recordings}
        if not self.recordings:
            raise SourceError(_no_recordings(root, found))
        looked = look_at(found.recordings)
        self.leads, said_leads = common_leads(looked)
        tables = _find_tables(root, {one.record_id: one.path for one in found.recordings})
        if tables.labels is not None:
            self._entries, n_coded = _with_problems(_by_table(tables.labels, self.recordings), looked)
            said = _sentences(tables.labels, len(self.recordings))
            if n_coded:
                said += (f"not used: the SNOMED codes in {counted(n_coded, 'header')}; the table has the labels",)
            self.labels: tuple[str, ...] = tuple(tables.labels.labels)
            words, classes = "the columns of the table", {label: [label] for label in self.labels}
        else:
            self._entries, said = _by_codes(self.recordings, looked, tables.no_labels if labels_needed else None)
            self.labels = in_order(code for entry in self._entries for code in entry.labels)
            frequent = in_order(frequent_labels(self._entries)) or self.labels
            words, classes = f"SNOMED codes: {described(frequent)}", named(frequent)
        named_by = tables.labels if tables.labels and tables.labels.patient else None
        for table in tables.people:
            people = _by_table(table, self.recordings)
            self._entries = _with_people(self._entries, people, table, named_by)
            named_by = named_by or (table if table.patient else None)
            said += _sentences(table, len(self.recordings))
        self._entries, said_people = people_of_files(self._entries, looked, named_by.patient if named_by else None)
        said += said_people
        if named_by is None and not said_people:
            which = f"{looked.noun}s do not name" if tables.labels is None else "no column names"
            said += (f"{which} the patient: every record counts as its own patient",)
        said += tables.remarks
        self.labelled_by_table, self.patients_named_by_table = tables.labels is not None, named_by is not None
        self.tasks: Mapping[str, TaskDefinition] = {"labels": TaskDefinition(words, classes, labelled_only=False)}
        self.inferred: tuple[str, ...] = (
            f"{_in_formats(found)} below {root}",
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
        return self.recordings[entry.record_id].read()


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


def _find_tables(root: Path, paths: Mapping[str, Path]) -> _Tables:
    """Read the directory's tables. Raises SourceError where two have labels, or one cannot be understood."""
    names = RecordNames(root, paths)
    files = sorted(set(root.iterdir()) - set(paths.values()))
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
    remarks = _not_used([path.name for path, _ in others])
    if not labelled:
        remarks += _not_read([path.name for path in unread])
    people = tuple(table for table in understood if not table.labels)
    return _Tables(labelled[0] if labelled else None, people, _no_labels(root, people, others, unread), tuple(remarks))


def _not_used(names: Sequence[str]) -> list[str]:
    if len(names) > _EACH:
        named = listed(names, _EACH)
        return [f"{len(names):,} tables are not used, as none of their columns names the records: {named}"]
    return [f"{name} is not used: none of its columns names the records" for name in names]


def _not_read(names: Sequence[str]) -> list[str]:
    if len(names) > _EACH:
        named = listed(names, _EACH)
        return [f"{len(names):,} files are not read ({named}): save as CSV those that are about these records"]
    return [f"{name} is not read: save it as CSV if it is about these records" for name in names]


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


def _no_recordings(root: Path, found: Found) -> str:
    said = f"{root} has no ECG recording: no WFDB header (.hea) or file in {formats_in_words()} is in it or its folders"
    if found.untold:
        said += (
            f"; {found.untold[0].name} may hold signals, but nothing says their rate, unit and leads: write a "
            f"{FILE_NAME} next to it"
        )
    return said


def _in_formats(found: Found) -> str:
    """Return how many recordings there are of each format."""
    formats = found.by_format
    if len(formats) == 1:
        return counted(len(found.recordings), f"{next(iter(formats))} record")
    return f"{counted(len(found.recordings), 'record')} ({listed([f'{n:,} {form}' for form, n in formats.items()])})"


def _by_table(table: Table, recordings: Mapping[str, Recording]) -> list[Entry]:
    rows = [_row_entry(table, row, recordings) for row in range(len(table.lines))]
    of_record: dict[str, list[Entry]] = defaultdict(list)
    for entry in rows:
        of_record[entry.record_id].append(entry)
    entries = []
    for name, same in of_record.items():  # a record that several rows name is one record
        entry = same[0]
        if name in recordings and any(other != entry for other in same):
            said = f"{table.path.name} has {len(same)} rows for this record"
            entry = replace(entry, problem=said, labels_known=all(other.labels == entry.labels for other in same))
        entries.append(entry)
    problem = f"no row in {table.path.name}"
    entries += [
        Entry(name, recording.path, name, frozenset(), problem=problem, labels_known=False)
        for name, recording in recordings.items()
        if name not in of_record
    ]
    return entries


def _with_problems(entries: Sequence[Entry], looked: Looked) -> tuple[list[Entry], int]:
    """Return the entries with what their files are unusable for, and how many headers have codes of their own."""
    with_problem = [
        replace(entry, problem=looked.problems.get(entry.record_id)) if entry.problem is None else entry
        for entry in entries
    ]
    n_coded = sum(
        entry.problem is None and comment_value(looked.glances[entry.record_id].comments, "Dx") is not None
        for entry in with_problem
    )
    return with_problem, n_coded


def _row_entry(table: Table, row: int, recordings: Mapping[str, Recording]) -> Entry:
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
    path = recordings[record_id].path if record_id in recordings else table.path
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
    said = [f"{table.path.name}: {counted(rows, 'row')}, the record in column {table.record}", *table.remarks]
    if table.patient:
        joined = table.patients.n_joined
        several = f", {joined:,} of them in several spellings, which were joined" if joined else ""
        said.append(f"{counted(len(table.patients), 'patient')} in column {table.patient}{several}")
    found = {record for record in table.records if record is not None}
    if table.labels:
        with_label = {
            label: {record for record, value in zip(table.records, values, strict=True) if value and record is not None}
            for label, values in table.labels.items()
        }
        counts = [f"{label} ({len(records):,})" for label, records in with_label.items()]
        said.append(f"labels (records that have them): {listed(counts, 100)}")
    said += [
        f"{meaning} in column {column}, understood in {counted(sum(value is not None for value in values), 'row')}"
        for meaning, column, values in (("age", table.age, table.ages), ("sex", table.sex, table.sexes))
        if column
    ]
    if table.fold:
        said.append(f"fold in column {table.fold}")
    if table.ignored:
        said.append(f"not used: {listed(table.ignored)}")
    if without_file := table.records.count(None):
        said.append(f"{counted(without_file, 'row')} without a file")
    if without_row := n_records - len(found):
        said.append(f"{counted(without_row, 'record')} without a row")
    return tuple(said)


def _by_codes(
    recordings: Mapping[str, Recording], looked: Looked, no_labels: SourceError | None
) -> tuple[list[Entry], tuple[str, ...]]:
    """List recordings by the codes in their headers. Raises ``no_labels``, where it is given, if none has any."""
    there = {recording.path for recording in recordings.values()}
    entries = [_coded_entry(recording, looked, there) for recording in recordings.values()]
    labelled = [entry for entry in entries if entry.labels]
    if not labelled and no_labels is not None:
        raise no_labels
    if not labelled:
        return entries, ()
    few = "" if frequent_labels(entries) else "; none has 10 records, so that all are used"
    codes = {code for entry in labelled for code in entry.labels}
    headers = looked.count(len(entries))
    return entries, (
        f"no table of labels: {counted(len(codes), 'SNOMED code')} in {len(labelled):,} of {headers}{few}",
    )


def _coded_entry(recording: Recording, looked: Looked, there: Collection[Path]) -> Entry:
    """List a record by its header's codes; the copy of one that is there too would be counted as another patient."""
    record_id, path = recording.record_id, recording.path
    of = copied_from(path.name)
    problem = looked.problems.get(record_id)
    if of is not None and path.with_name(of) in there:
        problem = f"named as a copy of {of}, which is there too"
    elif problem is None and recording.format != WFDB:
        problem = "no table gives its labels"
    if problem is not None:
        return Entry(record_id, path, record_id, frozenset(), problem=problem, labels_known=False)
    return coded_entry(record_id, path, looked.glances[record_id].comments)
