"""The PhysioNet/CinC Challenge 2017: one lead at 300 Hz, 9 to 61 s, four classes out of ``REFERENCE-v3.csv``.

The hand-held device (AliveCor) records between the two hands, which is lead I; many of the records are upside down,
because it can be held either way. So the one lead, which the headers name ``ECG``, is called I here, and can be
compared with lead I of other sets. Patients are not published: every record counts as its own.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engine.records.record import Record
from engine.records.wfdb_reader import read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import CHALLENGE_2017
from engine.sources.tables import read_text

CLASSES = {"N": "normal sinus rhythm", "A": "atrial fibrillation", "O": "another rhythm", "~": "too noisy"}
_TABLE = "REFERENCE-v3.csv"


class Challenge2017:
    """The Challenge 2017 tree in a directory. Raises SourceError when the directory is not one."""

    name, version, licence, url, citation = CHALLENGE_2017
    inferred: tuple[str, ...] = ()
    leads: tuple[str, ...] = ("I",)
    labels = tuple(CLASSES)

    def __init__(self, root: Path) -> None:
        self.root = root
        self._rows = _read_reference(root / _TABLE)
        words = ", ".join(f"{name} {meaning}" for name, meaning in CLASSES.items())
        self.tasks: Mapping[str, TaskDefinition] = {
            "rhythm": TaskDefinition(f"one of four: {words}", {name: [name] for name in CLASSES})
        }

    def entries(self) -> list[Entry]:
        """List every record of the reference table, in its order."""
        folder = next((name for name in ("training2017", "training") if (self.root / name).is_dir()), "")
        return [self._entry(folder, record, label) for record, label in self._rows]

    def read(self, entry: Entry) -> Record:
        """Read one record at 300 Hz. Raises RecordError."""
        record = read_wfdb(entry.path)
        return replace(record, leads=self.leads) if len(record.leads) == 1 else record

    def _entry(self, folder: str, record: str, label: str) -> Entry:
        path = self.root / folder / record
        if folder == "training" and not path.with_name(record + ".hea").exists():
            path = self.root / folder / record[:3] / record  # as PhysioNet shows the unpacked set
        if label not in CLASSES:
            problem = f"label {label!r} is none of {', '.join(CLASSES)}"
            return Entry(record, path, record, frozenset(), problem=problem, labels_known=False)
        return Entry(record, path, record, frozenset([label]))


def _read_reference(path: Path) -> list[tuple[str, str]]:
    text = read_text(path, "Challenge 2017")
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise SourceError(f"{path} cannot be read: {error}") from None
    for line, row in enumerate(rows, start=1):
        if len(row) != 2 or not row[0].strip():
            raise SourceError(f"{path}, line {line}: not a record and a label")
    return [(row[0].strip(), row[1].strip()) for row in rows]
