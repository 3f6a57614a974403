"""LUDB: 200 records of 200 patients, 12 leads, 500 Hz, 10 s, diagnosis statements in ``ludb.csv``.

**Gains.** The published headers give every lead its own gain, chosen so that each lead spans exactly 1 mV: voltages
read by them say nothing about hypertrophy, and Einthoven's equations fail. The stored integers obey the equations in
all 200 records, so that they share one unit. This reader takes it as 1 uV, which gives amplitudes like PTB-XL's, and
says so in the notes of every record it rescales; ``as_published=True`` keeps the header's gains.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.records.record import LEADS, Record
from engine.records.wfdb_reader import read_header, read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import LUDB
from engine.sources.tables import frequent_labels, parse_age, parse_sex, read_rows

_ABOUT_THE_PATIENT = ("ID", "Sex", "Age")
_UNITS_PER_MILLIVOLT = 1000.0
_RESCALED = "the header's gains scale each lead to 1 mV: read at 1 uV a unit instead"


class Ludb:
    """The LUDB tree in a directory. Raises SourceError when the directory is not one."""

    name, version, licence, url, citation = LUDB
    inferred: tuple[str, ...] = ()
    leads: tuple[str, ...] = LEADS

    def __init__(self, root: Path, as_published: bool = False) -> None:
        rows = read_rows(root / "ludb.csv", _ABOUT_THE_PATIENT, "LUDB")
        self._as_published = as_published
        self._entries = [_entry(root, row, line) for line, row in enumerate(rows, start=2)]
        self.labels = tuple(sorted({label for entry in self._entries for label in entry.labels}))
        frequent = frequent_labels(self._entries)
        words = "the statements with at least 10 patients" if frequent else "all statements (none has 10 patients)"
        classes = {label: [label] for label in frequent or self.labels}
        self.tasks: Mapping[str, TaskDefinition] = {"diagnoses": TaskDefinition(words, classes, labelled_only=False)}

    def entries(self) -> list[Entry]:
        """List every record of ``ludb.csv``."""
        return list(self._entries)

    def read(self, entry: Entry) -> Record:
        """Read one record at 500 Hz. Raises RecordError."""
        record = read_wfdb(entry.path)
        header = read_header(entry.path)
        spans = np.ptp(record.signals, axis=1)
        if self._as_published or not np.allclose(spans, 1, atol=1e-3):
            return record
        gains = np.array(header.gains)[:, None]
        baselines = np.array([channel.baseline for channel in header.channels])[:, None]
        signals = ((record.signals * gains + baselines) / _UNITS_PER_MILLIVOLT).astype(np.float32)
        return replace(record, signals=signals, notes=(*record.notes, _RESCALED))


def _entry(root: Path, row: dict[str, str], line: int) -> Entry:
    record = row["ID"].strip()
    if not record:
        raise SourceError(f"{root / 'ludb.csv'}, line {line}: no ID")
    cells = [cell for column, cell in row.items() if column not in _ABOUT_THE_PATIENT and isinstance(cell, str)]
    statements = {statement.strip() for cell in cells for statement in cell.split("\n")} - {""}
    age, sex = parse_age(row["Age"]), parse_sex(row["Sex"])
    return Entry(record, root / "data" / record, record, frozenset(statements), age=age, sex=sex)
