"""The PhysioNet Challenge 2025: Chagas disease by the 12-lead ECG, in records that the organisers' scripts prepare.

The scripts make WFDB records of CODE-15% and SaMi-Trop (400 Hz, 7.3 or 10.2 s, as the organisers say) and of PTB-XL
(500 Hz, 10 s) in folders that the user names; zeros before and after a recording are cut off. Each header says ``#
Chagas label: True`` or ``False``, ``# Age``, ``# Sex`` and ``# Source``, which the scripts' first version left out.

**The source tells the label.** In CODE-15% patients said themselves whether they have the disease; all of SaMi-Trop
have it, by serological tests; of PTB-XL, recorded in Germany, nobody is taken to have it. A network that tells
devices or hospitals apart scores well on these and knows nothing about the disease. How many of which source have it
is said, and every record of a source that has one outcome only carries a remark, which ``train`` repeats and a model
card keeps. Lengths may differ by outcome too: that is said, and ``--seconds 7`` makes them equal.

The first version of the scripts wrote ``# Patient ID`` for CODE-15%, the later ones do not. Where ``exams.csv`` of
CODE-15% (345,779 records of 233,770 patients) or ``ptbxl_database.csv`` lies in the directory, it names the patients;
SaMi-Trop has one record a patient. Any other record counts as its own patient, which is said.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.records.folders import walk
from engine.records.record import LEADS, Record, RecordError
from engine.records.wfdb_reader import comment_value, read_header, read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import CHAGAS_2025
from engine.sources.tables import iterate_rows, parse_age, parse_sex

LABEL = "chagas"
_CODE_15, _SAMI_TROP, _PTB_XL = "CODE-15%", "SaMi-Trop", "PTB-XL"
_EXAMS, _PTB_XL_TABLE = "exams.csv", "ptbxl_database.csv"
TABLES = frozenset({_EXAMS, _PTB_XL_TABLE, "code15_chagas_labels.csv", "samitrop_chagas_labels.csv"})
_COMMENT = "Chagas label"
_OUTCOMES = {"true": True, "false": False}
_NO_SOURCE = "no named source"
_SHORT = 10.0  # seconds


@dataclass(frozen=True)
class _Listed:
    """A record, the set that it is of, and how long it is in seconds."""

    entry: Entry
    source: str
    seconds: float

    @property
    def outcome(self) -> bool:
        return bool(self.entry.labels)


class Challenge2025:
    """A tree of the Challenge 2025. Raises SourceError when no header in it has a Chagas label."""

    name, version, licence, url, citation = CHAGAS_2025
    leads: tuple[str, ...] = LEADS
    labels: tuple[str, ...] = (LABEL,)

    def __init__(self, root: Path) -> None:
        tree = walk(root)
        patients = _patients(root)
        listed = [_list(root, path, patients) for path in tree.headers]
        known = [one for one in listed if one.entry.labels_known]
        if not known:
            raise SourceError(f"{root} is not a Challenge 2025 tree: no header in it has a {_COMMENT}")
        self._entries = [one.entry for one in listed]
        self._sources = {one.entry.record_id: one.source for one in listed}
        self._one_outcome = _one_outcome(known)
        self.inferred: tuple[str, ...] = (
            *tree.sentences,
            _counts(known),
            *_warnings(known, self._one_outcome),
            *_lengths(known),
            *_unknown_patients(known),
        )
        self.tasks: Mapping[str, TaskDefinition] = {
            "labels": TaskDefinition(
                "Chagas disease: self-reported in CODE-15%, by serological tests and always in SaMi-Trop, taken to be"
                " never in PTB-XL, so that the source tells the label",
                {LABEL: [LABEL]},
                labelled_only=False,
            )
        }

    def entries(self) -> list[Entry]:
        """List every record of the tree, by path; one whose header says nothing usable has its ``problem`` set."""
        return list(self._entries)

    def read(self, entry: Entry) -> Record:
        """Read one record at its own sampling frequency, with a note where its source tells its label.

        Raises RecordError.
        """
        record, source = read_wfdb(entry.path), self._sources[entry.record_id]
        if source not in self._one_outcome:
            return record
        return replace(record, notes=(*record.notes, f"{_one_sided(source, self._one_outcome[source])}: {_TELLS}"))


_TELLS = "its source tells its label"


def has_label(header: Path) -> bool | None:
    """Whether a header has a Chagas label, None for one that cannot be read."""
    try:
        return comment_value(read_header(header.with_suffix("")).comments, _COMMENT) is not None
    except RecordError:
        return None


def _list(root: Path, header: Path, patients: Mapping[str, Mapping[str, str]]) -> _Listed:
    path, record_id = header.with_suffix(""), header.relative_to(root).with_suffix("").as_posix()
    try:
        read = read_header(path)
    except RecordError as error:
        entry = Entry(record_id, path, record_id, frozenset(), problem=str(error), labels_known=False)
        return _Listed(entry, _NO_SOURCE, 0.0)
    source, said = comment_value(read.comments, "Source") or _NO_SOURCE, comment_value(read.comments, _COMMENT)
    number = comment_value(read.comments, "Patient ID") or patients.get(source, {}).get(_exam(path.name))
    outcome = _OUTCOMES.get((said or "").lower())
    problem = None
    if outcome is None:
        problem = f"the header gives no {_COMMENT}" if said is None else f"{_COMMENT} {said!r} is not True or False"
    entry = Entry(
        record_id,
        path,
        f"{source} {number}" if number else record_id,
        frozenset([LABEL] if outcome else []),
        age=parse_age(comment_value(read.comments, "Age") or ""),
        sex=parse_sex(comment_value(read.comments, "Sex") or ""),
        problem=problem,
        labels_known=outcome is not None,
    )
    return _Listed(entry, source, read.n_samples / read.fs)


def _patients(root: Path) -> dict[str, dict[str, str]]:
    """Return the patients of the exams of each source whose own table lies in the directory."""
    tables = {_CODE_15: (_EXAMS, "exam_id"), _PTB_XL: (_PTB_XL_TABLE, "ecg_id")}
    found: dict[str, dict[str, str]] = {}
    for source, (file, exam) in tables.items():
        if (root / file).exists():
            rows = iterate_rows(root / file, [exam], source)  # SaMi-Trop's exams.csv has no patient_id
            found[source] = {_exam(row[exam]): row["patient_id"].strip() for row in rows if row.get("patient_id")}
    return found


def _exam(name: str) -> str:
    """Return the number of an exam: 113 of ``113``, and of ``00113_hr`` as PTB-XL names its files."""
    return name.strip().partition("_")[0].lstrip("0")


def _one_outcome(listed: Sequence[_Listed]) -> dict[str, bool]:
    """Return the sources all of whose records have one outcome, where others have the other one."""
    outcomes = defaultdict(set)
    for one in listed:
        outcomes[one.source].add(one.outcome)
    if len(set().union(*outcomes.values())) == 1:
        return {}
    return {source: found.pop() for source, found in sorted(outcomes.items()) if len(found) == 1}


def _one_sided(source: str, outcome: bool) -> str:
    return f"{'every' if outcome else 'no'} record of {source} has {LABEL}"


def _counts(listed: Sequence[_Listed]) -> str:
    records = Counter(one.source for one in listed)
    positive = Counter(one.source for one in listed if one.outcome)
    return "; ".join(f"{source}: {n:,} records, {positive[source]:,} with {LABEL}" for source, n in records.items())


def _warnings(listed: Sequence[_Listed], one_outcome: Mapping[str, bool]) -> Iterator[str]:
    if one_outcome:
        which = ", ".join(_one_sided(source, outcome) for source, outcome in one_outcome.items())
        yield f"{which}: a network may learn to tell the sources apart instead of the disease"
    if unnamed := sum(one.source == _NO_SOURCE for one in listed):
        yield f"headers do not name the source of {unnamed:,} records: whether it tells the label is not known"


def _lengths(listed: Sequence[_Listed]) -> Iterator[str]:
    """Say that lengths tell of the label, where the outcomes have other shares of short records."""
    both = {outcome: [one.seconds < _SHORT for one in listed if one.outcome is outcome] for outcome in (True, False)}
    (short, n), (short_without, n_without) = ((sum(found), len(found)) for found in both.values())
    if n and n_without and short * n_without != short_without * n:
        yield (
            f"shorter than {_SHORT:g} s: {short:,} of {n:,} records with {LABEL}, {short_without:,} of {n_without:,} "
            "without: a record's length tells of its label; --seconds 7 uses the first 7 s of each"
        )


def _unknown_patients(listed: Sequence[_Listed]) -> Iterator[str]:
    own = [one for one in listed if one.entry.patient == one.entry.record_id and one.source != _SAMI_TROP]
    if own:
        yield (
            f"headers do not name the patient of {len(own):,} records: each counts as its own patient; {_EXAMS} of "
            f"{_CODE_15} or {_PTB_XL_TABLE} next to the records names those of theirs"
        )
