"""What a directory of records is worth: every record read, counted and checked, nothing written."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from engine.corpora.corpus import Problem, short_records
from engine.corpora.excluded import Exclusion, compare_labels
from engine.corpora.reading import Reading, duplicates, excluded_labels, read_all
from engine.records.contract import DEFAULT_SAMPLING, Sampling
from engine.records.short_records import ShortRecords
from engine.sources import Entry, Source, UnknownNameError


@dataclass(frozen=True)
class Survey:
    """The outcome of a check. ``classes`` counts the listed records of each class of ``task``, usable or not.

    ``unlabelled`` records have none of them. ``duplicates`` are groups of usable records with equal signals. ``short``
    is there where more records are too short for ``sampling`` than can be used, and ``excluded``, how the unusable ones
    are labelled, where there are such.
    """

    source: str
    task: str
    records: int
    unusable: int
    patients: int
    classes: dict[str, int]
    unlabelled: int
    patients_in_several_folds: int
    problems: tuple[Problem, ...]
    duplicates: tuple[tuple[str, ...], ...]
    sampling: Sampling
    short: ShortRecords | None
    excluded: Exclusion | None


def survey(
    source: Source,
    task: str | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    sampling: Sampling = DEFAULT_SAMPLING,
) -> Survey:
    """Read every record of a source as it would be for ``sampling``, and report.

    ``task`` is the source's first unless one is named. Raises UnknownNameError for an unknown task, SourceError for
    malformed tables.
    """
    name = task or next(iter(source.tasks))
    if name not in source.tasks:
        raise UnknownNameError(f"{source.name} has no task {name!r}; it has {', '.join(source.tasks)}")
    entries = source.entries()
    readings = read_all(source, entries, workers=workers, progress=progress, sampling=sampling)
    unusable = sum(not reading.usable for reading in readings)
    problems = tuple(Problem(r.record, problem, r.usable, r.seconds) for r in readings for problem in r.problems)
    classes = {label: set(union) for label, union in source.tasks[name].classes.items()}
    return Survey(
        source=source.name,
        task=name,
        records=len(entries),
        unusable=unusable,
        patients=len({entry.patient for entry in entries}),
        classes={label: sum(bool(entry.labels & union) for entry in entries) for label, union in classes.items()},
        unlabelled=sum(not any(entry.labels & union for union in classes.values()) for entry in entries),
        patients_in_several_folds=_patients_in_several_folds(entries),
        problems=problems,
        duplicates=tuple(duplicates(readings)),
        sampling=sampling,
        short=short_records(problems, len(entries) - unusable, len(entries), sampling),
        excluded=_excluded(entries, readings, classes, source.tasks[name].labelled_only),
    )


def _excluded(
    entries: Sequence[Entry], readings: Sequence[Reading], classes: Mapping[str, Set[str]], labelled_only: bool
) -> Exclusion | None:
    """Return what a corpus of these records would say of those that it leaves out (``excluded.exclusion``)."""
    excluded = excluded_labels(entries, readings)
    kept = [entry.labels for entry, reading in zip(entries, readings, strict=True) if reading.usable]
    if labelled_only:
        every = frozenset[str]().union(*classes.values())
        kept = [labels for labels in kept if labels & every]
        excluded = [[labels, n] for labels, n in excluded if labels is None or not every.isdisjoint(labels)]
    counts = {name: sum(bool(labels & union) for labels in kept) for name, union in classes.items()}
    return compare_labels(excluded, classes, counts, len(kept)) if excluded else None


def _patients_in_several_folds(entries: Sequence[Entry]) -> int:
    folds: dict[str, set[int | None]] = defaultdict(set)
    for entry in entries:
        folds[entry.patient].add(entry.fold)
    return sum(len(of_patient) > 1 for of_patient in folds.values())
