"""What models were given, as counts a day: enough to see that it changes, too little to say anything of a person.

A row of ``intake`` has a model (its id and its file's hash), a day (UTC), what was counted, a name, and a number:

    records, noted                       records with a prediction, and those of them with a note
    unusable, note                       records by kind of problem, or of note: words of this file alone
    fs, leads                            records by sampling rate, and by the leads that are in them
    positive, bin 0 ... 9, millionths    by class: decisions, and the probability in bins and summed, in millionths

Sentences of the readers are not kept: a few of them quote a file.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import numpy as np

from advisor.service.store import ServiceStore
from engine.deploy.inference import Listed, Prediction, decisions
from engine.deploy.model_facts import ModelFacts
from engine.evaluation.score_histogram import BINS, bins_of
from engine.records.record import LEADS, Record

MILLION = 1_000_000
OTHER = "other"
NOTES = {
    "leads derived from others": r"derived from I and II",
    "longer than what is used": r"s long: the first",
    "a flat lead": r"^leads? .* (?:is|are) flat",
    "implausible voltage": r"from peak to peak|its beats span",
    "leads misnamed, or of different gains": r"contradicts I and II",
    "sampled slower than the model reads": r"nothing above .* is in it",
    "a gain or a rate was assumed": r"assumed, as WFDB defines",
    "leads not recorded at one time": r"sampled up to .* apart|leads begin at sample",
    "put together from parts, or parts left out": r"put together from|left out",
    "its one lead is taken for another": r"is taken for",
}
PROBLEMS = {
    "a lead is missing": r"^lead .* missing$",
    "too short": r"s long; .* needed$",
    "samples are missing (NaN)": r"are missing \(NaN\)",
    "flat in every lead": r"^flat in every lead|^lead .* is flat$",
    "a file is missing": r"^file missing",
    "not entered": r"^not entered",
    "no finite probability": r"no finite probability",
    "sampled too slowly, or at no known rate": r"^sampled at|sampling (?:frequency|rate|period)",
    "a lead that is needed cannot be used": r"more than once|not a voltage|no unit|sensitivity|is sampled at|range of",
    "cut or damaged": r"truncated|damaged|\bcut\b|checksum|does not fit",
    "in no format that is read": r"^is not a|^it is not a|not read|no ECG recording|format|signals\.toml",
    "unreadable": r"^unreadable",
}
_FASTEST = 5000  # hertz; what says more is counted together


@dataclass
class Seen:
    """How the records of one request were recorded: filled in while they are read."""

    fs: Counter[str] = field(default_factory=Counter)
    leads: Counter[str] = field(default_factory=Counter)

    def watch(self, listed: Iterable[Listed]) -> list[Listed]:
        """Return the same records, each of which is counted here when it is read."""
        return [replace(one, read=self._counted(one.read)) for one in listed]

    def _counted(self, read: Callable[[], Record]) -> Callable[[], Record]:
        def reading() -> Record:
            record = read()
            self.fs[_rate(record.fs)] += 1
            self.leads[_leads(record.leads)] += 1
            return record

        return reading


def _rate(fs: float) -> str:
    return f"{round(fs)} Hz" if 0 < fs <= _FASTEST else OTHER


def _leads(leads: Sequence[str]) -> str:
    """Return which of the twelve leads are there: the name of another may be anything, a person's too."""
    known = [lead for lead in LEADS if lead in leads]
    others = len(set(leads) - set(LEADS))
    return ", ".join([*known, *([f"{others} more" if known else f"{others} others"] if others else [])]) or "none"


def kind_of(sentence: str, kinds: Mapping[str, str]) -> str:
    """Return which kind of ``NOTES`` or ``PROBLEMS`` a reader's sentence is of."""
    return next((kind for kind, pattern in kinds.items() if re.search(pattern, sentence)), OTHER)


Counts = Mapping[tuple[str, str], int]


def count(facts: ModelFacts, predictions: Sequence[Prediction], seen: Seen) -> Counter[tuple[str, str]]:
    """Return what there is to count of one request, by what and name."""
    usable = [one for one in predictions if one.probabilities is not None]
    counts: Counter[tuple[str, str]] = Counter({("records", ""): len(usable)})
    counts["noted", ""] = sum(bool(one.notes) for one in usable)
    for one in usable:
        counts.update({("note", kind) for kind in (kind_of(note, NOTES) for note in one.notes)})
    counts.update(("unusable", kind_of(one.problem, PROBLEMS)) for one in predictions if one.problem is not None)
    counts.update({("fs", name): n for name, n in seen.fs.items()})
    counts.update({("leads", name): n for name, n in seen.leads.items()})
    for one in usable:
        assert one.probabilities is not None
        present, bins = decisions(one.probabilities, facts), bins_of(np.array(one.probabilities))
        for name, p, positive, k in zip(facts.classes, one.probabilities, present, bins.tolist(), strict=True):
            counts["positive", name] += positive
            counts[f"bin {k}", name] += 1
            counts["millionths", name] += round(MILLION * p)
    return counts


def add(store: ServiceStore, model: str, counts: Counts, day: date | None = None) -> None:
    """Add counts to those of a model, all of them or none. ``day`` None is today."""
    on = (day or datetime.now(UTC).date()).isoformat()
    rows = [(model, on, what, name, n) for (what, name), n in counts.items() if n]
    with store.transaction() as db:
        db.executemany(
            "INSERT INTO intake VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (model, day, what, name) DO UPDATE SET n = n + excluded.n",
            rows,
        )


def forget(db: sqlite3.Connection, model: str) -> None:
    """Remove what was counted for the model of an id, whatever file it had."""
    db.execute("DELETE FROM intake WHERE substr(model, 1, ?) = ?", (len(model) + 1, f"{model}/"))


@dataclass(frozen=True)
class Intake:
    """The counts of a model over some days. ``bins`` and ``millionths`` are by class, the others by kind or name."""

    first_day: date | None
    last_day: date | None
    days: int
    counts: Counts

    @property
    def records(self) -> int:
        """Records with a prediction."""
        return self.counts.get(("records", ""), 0)

    @property
    def noted(self) -> int:
        """Records with a prediction and a note."""
        return self.counts.get(("noted", ""), 0)

    def of(self, what: str) -> dict[str, int]:
        """Return the counts of one kind by name, the largest first."""
        found = {name: n for (kind, name), n in self.counts.items() if kind == what}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def bins(self, name: str) -> tuple[int, ...]:
        """Return how many probabilities of a class lie in each bin."""
        return tuple(self.counts.get((f"bin {k}", name), 0) for k in range(BINS))


def read(store: ServiceStore, model: str, since: date | None = None) -> Intake:
    """Return what a model was given from a day on; None: ever."""
    begin = "" if since is None else since.isoformat()
    these = "FROM intake WHERE model = ? AND day >= ?"
    rows = store.rows(f"SELECT what, name, sum(n) AS n {these} GROUP BY what, name", model, begin)
    counts = {(row["what"], row["name"]): row["n"] for row in rows}
    days = "min(day) AS first, max(day) AS last, count(DISTINCT day) AS days"
    (span,) = store.rows(f"SELECT {days} {these}", model, begin)
    first, last = (None if span[end] is None else date.fromisoformat(span[end]) for end in ("first", "last"))
    return Intake(first, last, span["days"], counts)
