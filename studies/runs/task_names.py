"""A study's tasks by name: ``corpus/task``, or ``corpus/task@I+II`` for some of the leads."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from engine.corpora.corpus import Corpus, CorpusError, TaskData
from engine.corpora.splits import make_folds
from engine.records.contract import Reading, Sampling


class TaskName(NamedTuple):
    """The parts of a task's name; ``leads`` is () for all."""

    source: str
    task: str
    leads: tuple[str, ...]


def parse_task(name: str) -> TaskName:
    """Return the parts of a task's name."""
    where, _, leads = name.partition("@")
    source, _, task = where.partition("/")
    return TaskName(source, task, tuple(leads.split("+")) if leads else ())


def read_as(name: str, reading: Reading) -> str:
    """Return a task's name where its records are read so: that of the corpus at that rate, and of the leads."""
    source, task, _ = parse_task(name)
    rate = "" if reading.fs is None else Sampling(fs=reading.fs).suffix
    return f"{source}{rate}/{task}@{'+'.join(reading.leads)}"


def open_task(corpus: Corpus, name: str) -> TaskData:
    """Return a task of its corpus, ten folds made where the publisher gave none. Raises CorpusError when unknown."""
    task = corpus.task(parse_task(name).task)
    if (corpus.folds >= 0).any():
        return task
    return replace(task, folds=make_folds(corpus.patients)[task.rows])


def pick_leads(corpus: Corpus, name: str) -> list[int]:
    """Return the positions of a task's leads in its corpus. Raises CorpusError naming a lead that is not there."""
    leads = parse_task(name).leads or corpus.leads
    if missing := [lead for lead in leads if lead not in corpus.leads]:
        raise CorpusError(f"{name}: corpus {corpus.name} has no lead {missing[0]!r}; it has {', '.join(corpus.leads)}")
    return [corpus.leads.index(lead) for lead in leads]


def hash_task(corpora: Mapping[str, Corpus], name: str) -> str:
    """Return the hash of a task's data."""
    source, task, _ = parse_task(name)
    return corpora[source].task_hash(task)
