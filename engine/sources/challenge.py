"""The PhysioNet/CinC Challenge 2020 and 2021 form: ``.hea`` and ``.mat`` files in folders, SNOMED codes in ``#Dx:``.

The sets lie side by side in one tree and are told apart by the letters that their record names begin with, as the
Challenge names them. **The form carries no patient identity: every record counts as its own patient.** The St
Petersburg, PTB and PTB-XL sets have several records of one patient, which may then fall on both sides of a split: for
PTB and PTB-XL prefer the original trees, which name their patients. About the other sets the form does not tell.

``paper`` has the classes of Nguyen and Do (2025) and, as they did, keeps the records that have none of them as negative
examples of all; ``all`` has every code that at least ten records carry.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.records.record import LEADS, Record, RecordError
from engine.records.snomed import described, diagnosis_codes, in_order, named
from engine.records.wfdb_reader import comment_value, header_files, read_header, read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import CHALLENGE_2021
from engine.sources.tables import frequent_labels, parse_age, parse_sex

_CHALLENGE = "Perez Alday et al., Physiol Meas 41:124003 (2020); Reyna et al., Comput Cardiol 48 (2021)"


@dataclass(frozen=True)
class ChallengeSet:
    """One set: letters and number of digits of its record names, whose it is, its classes in the regenerated study."""

    prefix: str
    digits: int
    origin: str
    paper: Mapping[str, str] | None = None


SETS = {
    "cpsc2018": ChallengeSet(
        "A",
        4,
        "Liu et al., J Med Imaging Health Inform 8:1368 (2018)",
        {
            "NORM": "426783006",
            "AF": "164889003",
            "IAVB": "270492004",
            "LBBB": "164909002",
            "RBBB": "59118001",
            "PAC": "284470004",
            "VEB": "164884008",
            "STD": "429622005",
            "STE": "164931005",
        },
    ),
    "cpsc-extra": ChallengeSet("Q", 4, "Liu et al., J Med Imaging Health Inform 8:1368 (2018), unused part"),
    "georgia": ChallengeSet(
        "E",
        5,
        "Georgia 12-lead ECG Challenge database, Emory University",
        {
            "NORM": "426783006",
            "AF": "164889003",
            "IAVB": "270492004",
            "SB": "426177001",
            "LAD": "39732003",
            "STach": "427084000",
            "TAb": "164934002",
            "TInv": "59931005",
            "LQT": "111975006",
            "PAC": "284470004",
        },
    ),
    "ptb": ChallengeSet(
        "S", 4, "Bousseljot et al., Biomed Tech 40:S317 (1995)", {"NORM": "426783006", "MI": "164865005"}
    ),
    "chapman": ChallengeSet("JS", 5, "Zheng et al., Sci Data 7:48 (2020); Zheng et al., Sci Rep 10:2898 (2020)"),
    "st-petersburg": ChallengeSet("I", 4, "St Petersburg INCART 12-lead arrhythmia database"),
    "ptb-xl-hr": ChallengeSet("HR", 5, "Wagner et al., Sci Data 7:154 (2020)"),
}
_RECORD_NAME = re.compile(r"([A-Z]{1,2})(\d{4,5})")
_SET_OF_NAME = {(challenge_set.prefix, challenge_set.digits): name for name, challenge_set in SETS.items()}


def set_of(record_name: str) -> str | None:
    """Return the name of the set that a record belongs to, None for a record that is not the Challenge's."""
    match = _RECORD_NAME.fullmatch(record_name)
    return _SET_OF_NAME.get((match[1], len(match[2]))) if match else None


class Challenge:
    """One set of a Challenge tree. Raises SourceError when the tree has no record of it."""

    version, licence, url = CHALLENGE_2021.version, CHALLENGE_2021.licence, CHALLENGE_2021.url
    leads: tuple[str, ...] = LEADS

    def __init__(self, root: Path, name: str) -> None:
        if name not in SETS:
            raise SourceError(f"{name} is not a set of the Challenge; there are {', '.join(SETS)}")
        self.name = name
        self.citation = f"{_CHALLENGE}; {SETS[name].origin}"
        paths = [path for path in header_files(root) if set_of(path.stem) == name]
        if not paths:
            raise SourceError(f"{root} has no {name} record: no header is named {SETS[name].prefix} and a number")
        self._entries = _list(root, paths)
        paper = SETS[name].paper or {}
        self.labels = in_order([*paper.values(), *(code for entry in self._entries for code in entry.labels)])
        self.tasks: Mapping[str, TaskDefinition] = _define_tasks(paper, self._entries)

    def entries(self) -> list[Entry]:
        """List every record of the set, by path; one whose header says nothing usable has its ``problem`` set."""
        return list(self._entries)

    def read(self, entry: Entry) -> Record:
        """Read one record at its own sampling frequency. Raises RecordError."""
        return read_wfdb(entry.path)


def _list(root: Path, paths: list[Path]) -> list[Entry]:
    copies = Counter(path.stem for path in paths)
    entries = []
    for path in paths:
        entry = snomed_entry(path.stem, path.with_suffix(""))
        if copies[path.stem] > 1:
            problem = f"the tree has {copies[path.stem]} records of this name"
            entry = Entry(
                path.relative_to(root).with_suffix("").as_posix(), entry.path, path.stem, frozenset(), problem=problem
            )
        entries.append(entry)
    return entries


def snomed_entry(record_id: str, path: Path) -> Entry:
    """List the record at ``path`` (without suffix), labels, age and sex out of its header, as its own patient."""
    try:
        comments = read_header(path).comments
    except RecordError as error:
        return Entry(record_id, path, record_id, frozenset(), problem=str(error))
    labels, problem = frozenset[str](), None
    try:
        labels = diagnosis_codes(comments)
    except RecordError as error:
        problem = str(error)
    age, sex = parse_age(comment_value(comments, "Age") or ""), parse_sex(comment_value(comments, "Sex") or "")
    return Entry(record_id, path, record_id, labels, age=age, sex=sex, problem=problem)


def _define_tasks(paper: Mapping[str, str], entries: Iterable[Entry]) -> dict[str, TaskDefinition]:
    tasks = {}
    if paper:
        classes = {name: [code] for name, code in paper.items()}
        words = ", ".join(f"{name} {code}" for name, code in paper.items())
        tasks["paper"] = TaskDefinition(f"the classes of Nguyen and Do (2025): {words}", classes, labelled_only=False)
    if frequent := in_order(frequent_labels(entries)):
        tasks["all"] = TaskDefinition(f"every code with at least 10 records: {described(frequent)}", named(frequent))
    return tasks
