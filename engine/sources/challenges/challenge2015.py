"""The PhysioNet/CinC Challenge 2015, training set: is an intensive care monitor's arrhythmia alarm true?

``training`` has 750 records of 5 min (``a104s``) or 5.5 min (``a103l``) at 250 Hz whose alarm was triggered at 5:00.
Two ECG leads, which differ from record to record, stand next to pulsatile channels (PLETH, ABP); the header's comments
say what the alarm was for and ``True alarm`` or ``False alarm``, as at least two annotators judged. The event that
triggered it began between 4:50 and 5:00 (ANSI/AAMI EC13), so that **what is read is lead II in these 10 s**, not what
half of the records have after the alarm. A record without lead II, the lead that most have, cannot be used and is
counted; ``--seconds 7`` uses the first 7 of these 10 s.

Patients are not published, and one may have up to three alarms of each of five kinds: every record counts as its own
patient, so that one person may be on both sides of a split.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.records.record import Record, RecordError
from engine.records.wfdb_reader import read_header, read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import CHALLENGE_2015

LABEL = "true_alarm"
TABLE = "ALARMS"
_FOLDER = "training"
_LEAD = "II"
_ALARM, _BEFORE = 300.0, 10.0  # seconds: when it is triggered, and how much of the record before that is used
_TRUE, _FALSE = "true alarm", "false alarm"


class Challenge2015:
    """The Challenge 2015 training set in a directory, or in its ``training``. Raises SourceError when it is not one."""

    name, version, licence, url, citation = CHALLENGE_2015
    leads: tuple[str, ...] = (_LEAD,)
    labels: tuple[str, ...] = (LABEL,)

    def __init__(self, root: Path) -> None:
        folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
        read = [_entry(path.with_suffix("")) for path in sorted(folder.glob("*.hea"))]
        if not any(entry.labels_known for entry, _ in read):
            raise SourceError(f"{root} is not a Challenge 2015 tree: no header in {folder} says {_TRUE} or {_FALSE}")
        self._entries = [entry for entry, _ in read]
        lacking = sum(_LEAD not in leads for _, leads in read)
        without = (f"{lacking:,} of {len(read):,} records have no lead {_LEAD} and cannot be used",) if lacking else ()
        self.inferred: tuple[str, ...] = (
            f"lead {_LEAD} is used, in the {_BEFORE:g} s before the alarm",
            *without,
            "patients are not published, and one may have several records: every record counts as its own patient",
        )
        self.tasks: Mapping[str, TaskDefinition] = {
            "labels": TaskDefinition(
                f"an arrhythmia alarm that is true, by lead {_LEAD} in the {_BEFORE:g} s before it",
                {LABEL: [LABEL]},
                labelled_only=False,
            )
        }

    def entries(self) -> list[Entry]:
        """List every record of the training set, by name; one whose header says nothing usable has its ``problem``."""
        return list(self._entries)

    def read(self, entry: Entry) -> Record:
        """Read the 10 s before the alarm at 250 Hz, every channel. Raises RecordError."""
        record = read_wfdb(entry.path)
        start, stop = round((_ALARM - _BEFORE) * record.fs), round(_ALARM * record.fs)
        if record.signals.shape[1] < stop:
            raise RecordError(f"{record.signals.shape[1] / record.fs:g} s long: it ends before the alarm")
        return replace(record, signals=np.ascontiguousarray(record.signals[:, start:stop]))


def _entry(path: Path) -> tuple[Entry, tuple[str, ...]]:
    """Return the record at ``path`` (without suffix) and its leads, (II,) where its header cannot be read."""
    try:
        header = read_header(path)
    except RecordError as error:
        problem = str(error)
        return Entry(path.name, path, path.name, frozenset(), problem=problem, labels_known=False), (_LEAD,)
    said = {_TRUE, _FALSE} & {comment.strip().lower() for comment in header.comments}
    if len(said) != 1:
        problem = "the header does not say whether the alarm was true"
        return Entry(path.name, path, path.name, frozenset(), problem=problem, labels_known=False), header.leads
    return Entry(path.name, path, path.name, frozenset([LABEL] if _TRUE in said else [])), header.leads
