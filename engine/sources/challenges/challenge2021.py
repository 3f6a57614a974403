"""The PhysioNet/CinC Challenge 2020 and 2021 form: ``.hea`` and ``.mat`` files in folders, SNOMED codes in ``#Dx:``.

The sets lie side by side in one tree and are told apart by the letters that their record names begin with, as the
Challenge names them. **The form carries no patient identity: every record counts as its own patient.** The St
Petersburg, PTB and PTB-XL sets have several records of one patient, which may then fall on both sides of a split: for
PTB and PTB-XL prefer the original trees, which name their patients. About the other sets the form does not tell.

``paper`` has the classes of Nguyen and Do (2025) and, as they did, keeps the records that have none of them as negative
examples of all; ``all`` has every code that at least ten records carry, or every code where none has ten.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.records.folders import walk
from engine.records.record import LEADS, Record, RecordError
from engine.records.snomed import ACRONYMS, EQUIVALENT, described, diagnosis_codes, in_order, named
from engine.records.wfdb_reader import Header, comment_value, read_header, read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import CHALLENGE_2021
from engine.sources.tables import frequent_labels, parse_age, parse_sex

_CHALLENGE = "Perez Alday et al., Physiol Meas 41:124003 (2020); Reyna et al., Comput Cardiol 48 (2021)"


@dataclass(frozen=True)
class ChallengeSet:
    """One set: its record names (letters, digits, last number), whose it is, its rate in hertz, where it is found.

    ``folders`` are the names under which it is distributed, in lower-case letters and digits only. ``paper`` are its
    classes in the regenerated study; where ``closed`` its records carry no other code.
    """

    prefix: str
    digits: int
    last: int
    origin: str
    fs: float
    folders: frozenset[str]
    paper: Mapping[str, str] | None = None
    closed: bool = False


SETS = {
    "cpsc2018": ChallengeSet(
        "A",
        4,
        6877,
        "Liu et al., J Med Imaging Health Inform 8:1368 (2018)",
        500,
        frozenset({"cpsc2018", "wfdbcpsc2018", "trainingwfdb", "cpsc"}),
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
        closed=True,
    ),
    "cpsc-extra": ChallengeSet(
        "Q",
        4,
        3581,
        "Liu et al., J Med Imaging Health Inform 8:1368 (2018), unused part",
        500,
        frozenset({"cpsc2018extra", "cpscextra", "wfdbcpsc20182", "training2"}),
    ),
    "georgia": ChallengeSet(
        "E",
        5,
        10344,
        "Georgia 12-lead ECG Challenge database, Emory University",
        500,
        frozenset({"georgia", "wfdbga", "e"}),
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
        "S",
        4,
        549,
        "Bousseljot et al., Biomed Tech 40:S317 (1995)",
        1000,
        frozenset({"ptb", "wfdbptb", "trainingptb"}),
        {"NORM": "426783006", "MI": "164865005"},
    ),
    "chapman": ChallengeSet(
        "JS",
        5,
        45551,
        "Zheng et al., Sci Data 7:48 (2020); Zheng et al., Sci Rep 10:2898 (2020)",
        500,
        frozenset({"chapman", "chapmanshaoxing", "ningbo", "wfdbchapmanshaoxing", "wfdbningbo", "wfdbrecords"}),
    ),
    "st-petersburg": ChallengeSet(
        "I",
        4,
        75,
        "St Petersburg INCART 12-lead arrhythmia database",
        257,
        frozenset({"stpetersburg", "stpetersburgincart", "wfdbstpetersburg", "trainingstpetersburg"}),
    ),
    "ptb-xl-hr": ChallengeSet(
        "HR",
        5,
        21837,
        "Wagner et al., Sci Data 7:154 (2020)",
        500,
        frozenset({"ptbxl", "ptbxlhr", "wfdbptbxl"}),
    ),
}
_RECORD_NAME = re.compile(r"([A-Z]{1,2})(\d{4,5})")
_WRAPPER = re.compile(r"g?\d{1,3}|raw|WFDB", re.IGNORECASE)  # folders inside a set's own: g1, 01/010
_SET_OF_NAME = {(challenge_set.prefix, challenge_set.digits): name for name, challenge_set in SETS.items()}


def set_of(record_name: str) -> str | None:
    """Return the name of the set that a record belongs to, None for a record that is not the Challenge's."""
    match = _RECORD_NAME.fullmatch(record_name)
    return _SET_OF_NAME.get((match[1], len(match[2]))) if match else None


def misfit(path: Path, header: Header) -> str | None:
    """Say what a header has that no published header of its record's set has; None where it is in their form.

    The published ones are of 12 leads at the set's own rate, their samples in ``NAME.mat`` (format 16 after 24 bytes).
    """
    challenge_set = SETS[set_of(path.stem) or ""]
    if int(path.stem.removeprefix(challenge_set.prefix)) > challenge_set.last:
        return f"the set ends at {challenge_set.prefix}{challenge_set.last:0{challenge_set.digits}d}"
    if {(one.file, one.format, one.offset) for one in header.channels} != {(f"{path.stem}.mat", 16, 24)}:
        return f"its samples are not stored as 16+24 in {path.stem}.mat"
    if len(header.leads) != len(LEADS):
        return f"it has {len(header.leads)} leads"
    if header.fs != challenge_set.fs:
        return f"it is at {header.fs:g} Hz, the set at {challenge_set.fs:g} Hz"
    codes = set((comment_value(header.comments, "Dx") or "").replace(" ", "").split(","))
    known = {*(challenge_set.paper or {}).values(), *EQUIVALENT}
    foreign = sorted(code for code in codes - known if code.isdecimal())
    if challenge_set.closed and foreign:
        return f"it has {described(foreign[:1])}, which is no code of the set"
    return None


def is_distributed_as(name: str, root: Path, header: Path) -> bool:
    """Whether a header lies in a folder that is called as the set of that name is where it is distributed."""
    parts = (*root.resolve().parts, *header.relative_to(root).parent.parts)
    named = [part for part in parts if not _WRAPPER.fullmatch(part)]
    return bool(named) and re.sub(r"[^a-z0-9]", "", named[-1].lower()) in SETS[name].folders


class Challenge:
    """One set of a Challenge tree. Raises SourceError when the tree has no record of it."""

    version, licence, url = CHALLENGE_2021.version, CHALLENGE_2021.licence, CHALLENGE_2021.url
    leads: tuple[str, ...] = LEADS

    def __init__(self, root: Path, name: str) -> None:
        if name not in SETS:
            raise SourceError(f"{name} is not a set of the Challenge; there are {', '.join(SETS)}")
        self.name = name
        self.citation = f"{_CHALLENGE}; {SETS[name].origin}"
        tree = walk(root)
        paths = [path for path in tree.headers if set_of(path.stem) == name]
        if not paths:
            raise SourceError(f"{root} has no {name} record: no header is named {SETS[name].prefix} and a number")
        self._entries = _list(root, paths)
        paper = SETS[name].paper or {}
        self.labels = in_order([*paper.values(), *(code for entry in self._entries for code in entry.labels)])
        self.tasks: Mapping[str, TaskDefinition] = _define_tasks(paper, self._entries)
        others = [path.stem for path in tree.headers if set_of(path.stem) is None]
        self.inferred: tuple[str, ...] = (*tree.sentences, *_unread(others), *_uncovered(paper, self._entries))

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
                path.relative_to(root).with_suffix("").as_posix(), entry.path, path.stem, frozenset(), problem=problem,
                labels_known=False,
            )  # fmt: skip
        entries.append(entry)
    return entries


def snomed_entry(record_id: str, path: Path) -> Entry:
    """List the record at ``path`` (without suffix), labels, age and sex out of its header, as its own patient."""
    try:
        comments = read_header(path).comments
    except RecordError as error:
        return Entry(record_id, path, record_id, frozenset(), problem=str(error), labels_known=False)
    return coded_entry(record_id, path, comments)


def coded_entry(record_id: str, path: Path, comments: Sequence[str]) -> Entry:
    """List the record at ``path`` (without suffix), labels, age and sex out of its header's comments."""
    labels, problem = frozenset[str](), None
    try:
        labels = diagnosis_codes(comments)
    except RecordError as error:
        problem = str(error)
    age, sex = parse_age(comment_value(comments, "Age") or ""), parse_sex(comment_value(comments, "Sex") or "")
    known = problem is None
    return Entry(record_id, path, record_id, labels, age=age, sex=sex, problem=problem, labels_known=known)


def _define_tasks(paper: Mapping[str, str], entries: Sequence[Entry]) -> dict[str, TaskDefinition]:
    tasks = {}
    if paper:
        classes = {name: [code] for name, code in paper.items()}
        words = ", ".join(f"{name} {code}" for name, code in paper.items())
        tasks["paper"] = TaskDefinition(f"the classes of Nguyen and Do (2025): {words}", classes, labelled_only=False)
    frequent = in_order(frequent_labels(entries))
    which = "every code with at least 10 records" if frequent else "every code (none has 10 records)"
    codes = frequent or in_order(code for entry in entries for code in entry.labels)
    if codes:
        tasks["all"] = TaskDefinition(f"{which}: {described(codes)}", named(codes))
    return tasks


def _unread(names: Sequence[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        yield f"left out, as of no set of the Challenge: {', '.join(names[:3])}{more}"


def _uncovered(paper: Mapping[str, str], entries: Sequence[Entry]) -> Iterator[str]:
    """Say which codes the task ``paper`` does not have: whoever trains on it should know."""
    if not frequent_labels(entries):
        yield "no code has 10 records, so that task all has every code"
    counts = Counter(code for entry in entries for code in entry.labels - set(paper.values()))
    if paper and counts:
        shown = ", ".join(f"{ACRONYMS.get(code, code)} ({n:,})" for code, n in counts.most_common(5))
        more = f" and {len(counts) - 5:,} more" if len(counts) > 5 else ""
        yield f"codes that are no class of task paper (see task all): {shown}{more}"
