"""The asker's own records: opened, counted, and compared with the records that the evidence rests on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.answer.words import count
from advisor.own_records.signal_differences import signal_differences
from engine.corpora.corpus import Corpus, TaskData
from engine.corpora.excluded import Exclusion, exclusion, percent
from engine.corpora.held_out import Division, HeldOut
from engine.corpora.opening import Say, open_directory
from engine.corpora.partition import available, listed
from engine.corpora.remarks import remarks
from engine.evaluation.metrics import LEAST_POSITIVES, averaged_classes
from engine.records.label_names import finding_of
from engine.sources import UnknownNameError
from models.errors import ExitCode, UserError
from studies.files.label_levels import Label
from studies.files.transferability import TaskFacts

FEWEST_POSITIVES = 10  # records of a label, under which any score of it is vague
_NAMED = 3
_CLEARLY_RARER = 0.8  # times; a share nearer than that to the evidence's is no other prevalence
_NOT_COMPARED = (
    "What the evidence's records are like is not written next to its curves: leads, labels and prevalence were not "
    "compared with yours."
)


class UnusableRecordsError(UserError, ValueError):
    """Records from which nothing can be learnt; one sentence says why."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class OwnData:
    """A directory's records under one task's labels, or some of them.

    ``pool`` and ``test`` are positions into ``data``: the records to train and validate with, and those ``held`` out,
    the same ones for every command that was ``asked`` alike.
    """

    directory: Path
    corpus: Corpus
    data: TaskData
    described: str
    pool: NDArray[np.int64]
    test: NDArray[np.int64]
    held: HeldOut
    asked: Division | None = None

    @property
    def held_out(self) -> str:
        """Which records are kept for the test, in words."""
        return self.held.words

    @property
    def patients(self) -> int:
        """The number of patients."""
        return len(np.unique(self.data.patients))

    @property
    def positives(self) -> dict[str, int]:
        """How many records have each label, the most frequent first."""
        counts = dict(zip(self.data.classes, self.data.labels.sum(axis=0, dtype=int).tolist(), strict=True))
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def scored_labels(self) -> tuple[Label, ...]:
        """What the records to learn from are labelled with."""
        return scored_labels(self.corpus, self.data, self.pool, self.test)

    @property
    def prevalence(self) -> dict[str, float]:
        """The share of records that has each label."""
        return {name: number / len(self.data.rows) for name, number in self.positives.items()}

    @property
    def excluded(self) -> Exclusion | None:
        """How the records are labelled that could not be used; None where there are none, or it was not kept."""
        return exclusion(self.corpus, self.data)

    def as_dict(self) -> dict[str, Any]:
        """Return what there is, ready for JSON."""
        excluded = self.excluded
        source = self.corpus.manifest["source"]
        return {
            "directory": str(self.directory),
            "source": source["name"],
            "task": self.data.name,
            "described": self.described,
            "records": len(self.data.rows),
            "unusable": self.corpus.unusable,
            "excluded": None if excluded is None else excluded.as_dict(),
            "patients": self.patients,
            "patients_told_apart": self.corpus.tells_patients_apart,
            "records_to_learn_from": len(self.pool),
            "records_to_test_on": len(self.test),
            "held_out": self.held_out,
            "division": self.held.as_dict(),
            "leads": list(self.corpus.leads),
            "fs": self.corpus.fs,
            "seconds": self.corpus.contract.seconds,
            "recorded": self.corpus.manifest.get("recorded"),
            "classes": {
                name: {"records": number, "prevalence": round(number / len(self.data.rows), 4)}
                for name, number in self.positives.items()
            },
        }


def open_own(
    directory: Path,
    labels: str | None,
    source: str | None,
    corpora: Path,
    workers: int = 1,
    say: Say = lambda _sentence: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    seconds: float | None = None,
    fs: float | None = None,
    division: Division | None = None,
) -> OwnData:
    """Open a directory of any known kind, or a prepared corpus; it is prepared into ``corpora`` the first time.

    ``labels`` names one of its tasks, or some labels of its first, apart by commas; ``seconds`` and ``fs`` are what of
    each record is used, ``division`` is how the test records are chosen. Raises SourceError and CorpusError for a
    directory without usable records, SamplingError, UnknownNameError for labels or a source that do not exist,
    PartitionError and UnusableRecordsError where there is nothing to learn.
    """
    corpus, first = open_directory(directory, "", corpora, source, workers, say, progress, seconds, fs)
    own = divide_own(directory, corpus, first, labels, division)
    has_both = (own.data.labels[own.pool].any(axis=0)) & (own.data.labels[own.pool] == 0).any(axis=0)
    if not has_both.any():
        raise UnusableRecordsError(
            f"no label of {directory} ({listed(own.data.classes)}) has both records with it and records without it "
            f"among the {len(own.pool):,} to learn from: there is nothing to tell apart"
        )
    return own


def divide_own(
    directory: Path, corpus: Corpus, task: str, labels: str | None = None, division: Division | None = None, *,
    is_asked: bool = False,
) -> OwnData:  # fmt: skip
    """Return an opened corpus's records under a task, or under the ``labels`` named as in ``open_own``, divided.

    ``is_asked`` tells that the task is not merely the first: then ``labels`` may name no other one.
    Raises UnknownNameError for labels that do not exist, PartitionError for records that cannot be divided.
    """
    if labels is not None and (bare := labels.removeprefix(f"{corpus.name}/")) in corpus.tasks:
        labels = bare  # as the answer's table names a task
    if is_asked and labels in corpus.tasks and labels != task:
        raise UnknownNameError(f"--labels {labels} is a task, and so is {task}, which is asked for: name one of them")
    task = labels if labels in corpus.tasks else task
    data = corpus.task(task)
    if labels is not None and labels not in corpus.tasks:
        data = _pick(data, labels, corpus)
    return OwnData(directory, corpus, data, corpus.describe_task(task), *available(corpus, data, division), division)


def scored_labels(
    corpus: Corpus, data: TaskData, pool: NDArray[np.int64], test: NDArray[np.int64]
) -> tuple[Label, ...]:
    """Return the labels of the records ``pool`` with their shares of them.

    What all or none of these have is left out, and so is what the macro average over the ``test`` records leaves out.
    """
    source = str(corpus.manifest["source"]["name"])
    scored = averaged_classes(data.labels[test], LEAST_POSITIVES)
    shares = zip(data.classes, data.labels[pool].mean(axis=0).tolist(), scored, strict=True)
    return tuple(Label(finding_of(name, source), share) for name, share, is_in in shares if is_in and 0 < share < 1)


def _pick(data: TaskData, labels: str, corpus: Corpus) -> TaskData:
    wanted = tuple(dict.fromkeys(name.strip() for name in labels.split(",") if name.strip()))
    unknown = [name for name in wanted if name not in data.classes]
    if unknown or not wanted:
        what = repr(unknown[0]) if unknown else repr(labels)
        others = f"; its tasks are {', '.join(corpus.tasks)}" if len(corpus.tasks) > 1 else ""
        raise UnknownNameError(f"{data.name} has no label {what}; it has {listed(data.classes)}{others}")
    columns = [data.classes.index(name) for name in wanted]
    return replace(data, classes=wanted, labels=data.labels[:, columns])


def compare(own: OwnData, facts: Mapping[str, TaskFacts], tasks: tuple[str, ...]) -> tuple[str, ...]:
    """Say in plain words where the records do not match those of the evidence's ``tasks``."""
    known = [facts[task] for task in tasks if task in facts]
    compared = _beside(own, known) if known else (_NOT_COMPARED,)
    signals = signal_differences(own.corpus, facts, tasks)
    return (*signals, *compared, *remarks_on(own))


def remarks_on(own: OwnData) -> tuple[str, ...]:
    """Say what is odd about the records themselves: labels with few records, and what ``data check`` finds."""
    return (*_too_few(own), *_unscored(own), *_remarks(own))


def _remarks(own: OwnData) -> Iterator[str]:
    """Repeat what ``data check`` finds odd."""
    excluded = own.excluded
    if excluded is not None and (warning := excluded.warning()) is not None:
        yield f"{warning} (see ecgadvise data check {own.directory})."
    for sentence in remarks(own.corpus, own.data.rows[own.test]):
        yield f"{sentence} (see ecgadvise data check {own.directory})."


def _beside(own: OwnData, known: list[TaskFacts]) -> Iterator[str]:
    yield from _labels(own, known)
    sources = sorted({facts.source for facts in known})
    mine = own.corpus.manifest["source"]["name"]
    if mine not in sources:
        yield (
            f"The evidence's records are of {listed(sources)}, yours of {mine}: other hospitals, devices and "
            "patients, which no band accounts for unless a pilot does."
        )


def _labels(own: OwnData, known: list[TaskFacts]) -> Iterator[str]:
    counts = [len(facts.prevalence) for facts in known]
    n, low, high = len(own.data.classes), min(counts), max(counts)
    if not low <= n <= high:
        theirs = f"{low}" if low == high else f"{low} to {high}"
        yield f"Your records have {count(n, 'label')}, the evidence's tasks {theirs}."
    shares = [share for facts in known for share in facts.prevalence.values()]
    least, most = min(shares), max(shares)
    rare = {name: share for name, share in own.prevalence.items() if 0 < share < _CLEARLY_RARER * least}
    frequent = {name: share for name, share in own.prevalence.items() if share > most / _CLEARLY_RARER}
    for found, words, limit in ((rare, "Rarer", least), (frequent, "More frequent", most)):
        if found:
            yield f"{words} than any label of the evidence ({percent(limit)} of records): {_with_shares(found)}."


def _too_few(own: OwnData) -> Iterator[str]:
    few = {name: number for name, number in own.positives.items() if number < FEWEST_POSITIVES}
    if few:
        more = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
        named = ", ".join(f"{name} ({number})" for name, number in list(few.items())[:_NAMED])
        yield f"Fewer than {FEWEST_POSITIVES} records have {named}{more}: any score of these is vague."


def _unscored(own: OwnData) -> Iterator[str]:
    """Name the labels that are in no macro average over the test records, and so in no expected score."""
    scored = averaged_classes(own.data.labels[own.test], LEAST_POSITIVES)
    names = [name for name, is_in in zip(own.data.classes, scored, strict=True) if not is_in]
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield (
            f"Not in the expected scores, because fewer than {LEAST_POSITIVES} test records have or lack them: "
            f"{', '.join(names[:_NAMED])}{more}."
        )


def _with_shares(shares: Mapping[str, float]) -> str:
    more = f" and {len(shares) - _NAMED} more" if len(shares) > _NAMED else ""
    return ", ".join(f"{name} ({percent(share)})" for name, share in list(shares.items())[:_NAMED]) + more
