"""The PhysioNet/CinC Challenge 2011, training set a: can this ECG be interpreted? 12 leads, 500 Hz, 10 s, 5 uV a unit.

``set-a/RECORDS`` lists 1,000 records. 3 to 18 graders gave each a letter: those in ``RECORDS-acceptable`` (773) have a
mean grade of 0.70 or more and at most one F, those in ``RECORDS-unacceptable`` (225) a mean below 0.70. The others
(2), of a good mean with two F or more, are the Challenge's "indeterminate" group, which it did not score: they are in
neither list, have no label here and cannot be used. Sets b and c have no published labels.

A record that is flat in every lead cannot be used, as in any other set. Here these are 67 and all of them unacceptable,
so that a network learns nothing of the plainest ones: ``data check``, ``train`` and a model card say so.

Age and sex stand in the last line of each header, by the publisher's description; 0 is an unknown age, 90 one over 89.
That line's exact form could not be looked up: what is not read as an age or a sex is unknown. Patients are not
published: every record counts as its own.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.records.record import LEADS, Record, RecordError
from engine.records.wfdb_reader import read_header, read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import CHALLENGE_2011
from engine.sources.tables import parse_sex, read_names

LABEL = "unacceptable"
LISTS = ("RECORDS", "RECORDS-acceptable", "RECORDS-unacceptable")
_FOLDER = "set-a"
_AGE = re.compile(r"\bage\b\W*(\d{1,2})\b", re.IGNORECASE)
_SEX = re.compile(r"\b(?:sex|gender)\b\W*(\w+)", re.IGNORECASE)
_UNKNOWN_AGES = (0, 90)


class Challenge2011:
    """Set a of the Challenge 2011 in a directory, or in its ``set-a``. Raises SourceError when it is not there."""

    name, version, licence, url, citation = CHALLENGE_2011
    inferred: tuple[str, ...] = ()
    leads: tuple[str, ...] = LEADS
    labels: tuple[str, ...] = (LABEL,)

    def __init__(self, root: Path) -> None:
        folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
        names, *lists = (read_names(folder / file, "Challenge 2011") for file in LISTS)
        unlisted = sorted({*lists[0], *lists[1]} - set(names))
        if unlisted:
            raise SourceError(f"{folder / LISTS[0]} does not list {unlisted[0]}, which is graded")
        acceptable, unacceptable = map(set, lists)
        self._entries = [_entry(folder / name, name in acceptable, name in unacceptable) for name in names]
        self.tasks: Mapping[str, TaskDefinition] = {
            "labels": TaskDefinition(
                "a signal quality that is unacceptable for interpretation", {LABEL: [LABEL]}, labelled_only=False
            )
        }

    def entries(self) -> list[Entry]:
        """List every record of ``RECORDS``, in its order; the indeterminate ones have their ``problem`` set."""
        return list(self._entries)

    def read(self, entry: Entry) -> Record:
        """Read one record at 500 Hz. Raises RecordError."""
        return read_wfdb(entry.path)


def _entry(path: Path, is_acceptable: bool, is_unacceptable: bool) -> Entry:
    age, sex = None, None
    problem = None
    if is_acceptable == is_unacceptable:
        problem = "graded acceptable and unacceptable" if is_acceptable else "indeterminate: graded neither"
    try:
        age, sex = _age_and_sex(read_header(path).comments)
    except RecordError as error:
        problem = problem or str(error)
    labels = frozenset([LABEL] if is_unacceptable and not is_acceptable else [])
    known = is_acceptable != is_unacceptable
    return Entry(path.name, path, path.name, labels, age=age, sex=sex, problem=problem, labels_known=known)


def _age_and_sex(comments: Sequence[str]) -> tuple[float | None, str | None]:
    line = comments[-1] if comments else ""
    age, sex = _AGE.search(line), _SEX.search(line)
    years = float(age[1]) if age and int(age[1]) not in _UNKNOWN_AGES else None
    return years, parse_sex(sex[1]) if sex else None
