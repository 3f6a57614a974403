"""The PTB Diagnostic ECG database in its own layout: ``patientNNN/sNNNN_re.hea``, 15 signals, 1000 Hz, 290 patients.

A record's label is the header's ``Reason for admission``; 12 of the 15 signals are used (not the Frank leads vx, vy,
vz). Task ``paper`` has the two classes of Nguyen and Do (2025) and, as they did, keeps patients admitted for another
reason as negative examples of both; records whose reason is not given cannot be used. (549 records, 522 used by them.)
"""

import re
from collections.abc import Mapping
from pathlib import Path

from engine.records.folders import walk
from engine.records.record import LEADS, Record, RecordError
from engine.records.wfdb_reader import comment_value, read_header, read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import PTB
from engine.sources.tables import parse_age, parse_sex

_PATIENT, _RECORD = re.compile(r"patient\d{3}"), re.compile(r"s\d{4}[a-z_]re")
_PAPER = {"NORM": "Healthy control", "MI": "Myocardial infarction"}


class Ptb:
    """The PTB tree in a directory. Raises SourceError when the directory is not one."""

    name, version, licence, url, citation = PTB
    leads: tuple[str, ...] = LEADS

    def __init__(self, root: Path) -> None:
        headers = sorted(path for path in root.glob("patient*/*.hea") if is_header(path))
        if not headers:
            raise SourceError(f"{root} is not a PTB tree: it has no header patientNNN/sNNNN_re.hea")
        self._entries = [_entry(path) for path in headers]
        tree = walk(root)
        others = [path.relative_to(root).as_posix() for path in tree.headers if not is_header(path)]
        more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
        left = (f"left out, as not named like PTB's: {others[0]}{more}",) if others else ()
        self.inferred: tuple[str, ...] = (*tree.sentences, *left)
        self.labels = tuple(sorted({*_PAPER.values(), *(label for entry in self._entries for label in entry.labels)}))
        classes = {name: [reason] for name, reason in _PAPER.items()}
        self.tasks: Mapping[str, TaskDefinition] = {
            "paper": TaskDefinition(
                "the reason for admission: healthy control, infarction", classes, labelled_only=False
            )
        }

    def entries(self) -> list[Entry]:
        """List every record, by patient."""
        return list(self._entries)

    def read(self, entry: Entry) -> Record:
        """Read one record at 1000 Hz. Raises RecordError."""
        return read_wfdb(entry.path)


def is_header(path: Path) -> bool:
    """Whether a path ends as those of the set do: ``patient001/s0010_re.hea``, ``patient004/s0020lre.hea``."""
    return bool(_PATIENT.fullmatch(path.parent.name) and _RECORD.fullmatch(path.stem)) and path.suffix == ".hea"


def _entry(header: Path) -> Entry:
    record_id, path, patient = f"{header.parent.name}/{header.stem}", header.with_suffix(""), header.parent.name
    try:
        comments = read_header(path).comments
    except RecordError as error:
        return Entry(record_id, path, patient, frozenset(), problem=str(error), labels_known=False)
    age, sex = parse_age(comment_value(comments, "age") or ""), parse_sex(comment_value(comments, "sex") or "")
    reason = comment_value(comments, "Reason for admission") or ""
    if reason.lower() in {"", "n/a", "unknown"}:
        problem = "the header gives no reason for admission"
        return Entry(record_id, path, patient, frozenset(), age=age, sex=sex, problem=problem, labels_known=False)
    known = {name.lower(): name for name in _PAPER.values()}
    return Entry(record_id, path, patient, frozenset([known.get(reason.lower(), reason)]), age=age, sex=sex)
