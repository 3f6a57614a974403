"""The runs of a store, scored by another rule of which classes macro averages take; none is trained again.

Scores by class are stored, so that a macro average of them is exact. So are logits, and the resamples made of them.
Runs that were stored before there were logits have float16 probabilities: their resamples are made of these, each class
moved by what float16 changed of its AUROC, and the run says so (``rescored``).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.corpora.corpus import Corpus, CorpusError, TaskData
from engine.evaluation.bootstrap import (
    auroc_intervals,
    bootstrap_auroc_per_class,
    macro_interval,
    macro_of_resamples,
)
from engine.evaluation.metrics import (
    LEAST_POSITIVES,
    _mean,
    auroc_per_class,
    average_precision_per_class,
    averaged_classes,
)
from engine.json_values import without_nan
from engine.training.finish import resampling_seed
from studies.collection.patient_sampling import share_no_fold
from studies.runs.run import Run, known
from studies.runs.store import Store, StoreError
from studies.runs.task_names import hash_task, open_task, parse_task

Floats = NDArray[np.float64]
Report = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Rescored:
    """How many runs were looked at, and those whose scores changed, as they are now."""

    n_runs: int
    changed: tuple[Run, ...]


@dataclass(frozen=True)
class _Tested:
    """The test records of a run: ``labels`` 0/1 (records, classes) and ``patients`` (records,).

    ``takes`` (classes,) are the classes that macro averages take, and ``folds`` the test folds of all replicates of the
    task where these are tested on records of their own.
    """

    task: TaskData
    labels: NDArray[np.uint8]
    patients: NDArray[np.int64]
    takes: NDArray[np.bool_]
    folds: tuple[int, ...]


def rescore(
    store: Store,
    corpora: Mapping[str, Corpus],
    least_positives: int = LEAST_POSITIVES,
    report: Report = lambda _done, _total: None,
) -> Rescored:
    """Let the macro averages of all runs take the classes of ``averaged_classes``, in one transaction.

    Where replicates of a task are tested on folds of their own, all take the same classes: those with that many
    positive records in all these folds together. A run whose averages take the classes that they took keeps its scores
    to the last digit and only says the rule.
    Raises CorpusError where a corpus is missing or has other records than the runs were tested on, StoreError, and
    ValueError for ``least_positives`` below 1.
    """
    runs, written = store.runs(), list[Run]()
    _check_corpora(runs, corpora)
    views = {task: open_task(corpora[parse_task(task).source], task) for task in {run.spec.read_task for run in runs}}
    rotated = _rotated_tests(runs)
    for done, run in enumerate(runs, start=1):
        task = views[run.spec.read_task]
        tests = rotated.get((run.task, run.data_hash), ()) if run.role == "downstream" else ()
        written.append(_scored(run, store, _tested(task, run.spec.test_folds, tests, least_positives), least_positives))
        report(done, len(runs))
    store.rewrite(written)
    pairs = zip(runs, written, strict=True)
    return Rescored(len(runs), tuple(now for before, now in pairs if now.averaged != before.averaged))


def _check_corpora(runs: Sequence[Run], corpora: Mapping[str, Corpus]) -> None:
    for task, data_hash in dict.fromkeys((run.spec.read_task, run.data_hash) for run in runs):
        source = parse_task(task).source
        if source not in corpora:
            raise CorpusError(f"no prepared corpus {source}, which runs of {task} were tested on")
        if hash_task(corpora, task) != data_hash:
            raise CorpusError(f"{corpora[source].root} holds other records of {task} than runs were tested on")


def _rotated_tests(runs: Sequence[Run]) -> dict[tuple[str, str | None], tuple[tuple[int, ...], ...]]:
    """Return the test folds of tasks whose replicates are tested on folds of their own, by task and data.

    That are tasks with runs of one network, arm and size on several sets of test folds, which have none in common.
    """
    cells: dict[tuple[Any, ...], set[tuple[int, ...]]] = defaultdict(set)
    for run in runs:
        if run.role == "downstream":
            where = run.arch, run.strategy, run.upstream, run.recipe, run.n_records
            cells[(run.task, run.data_hash), *where].add(run.spec.test_folds)
    found: dict[tuple[str, str | None], set[tuple[int, ...]]] = defaultdict(set)
    for (of, *_), tests in cells.items():
        if len(tests) > 1 and share_no_fold(tests):
            found[of] |= tests
    return {of: tuple(sorted(tests)) for of, tests in found.items()}


def _tested(task: TaskData, folds: Sequence[int], tests: Sequence[tuple[int, ...]], least_positives: int) -> _Tested:
    """Return the test records of a run, one of those whose replicates are tested on the folds of ``tests`` in turn.

    Their averages take one set of classes: those with enough positives in all of these folds together, and both
    outcomes in each test set.
    """
    rows = task.in_folds(folds)
    together = tuple(sorted({fold for one in tests for fold in one}))
    takes = averaged_classes(task.labels[task.in_folds(together or folds)], least_positives)
    for one in tests:
        labels = task.labels[task.in_folds(one)] > 0
        takes &= labels.any(axis=0) & ~labels.all(axis=0)
    return _Tested(task, task.labels[rows], task.patients[rows], takes, together)


def _scored(run: Run, store: Store, tested: _Tested, least_positives: int) -> Run:
    """Return the run with its macro averages by that rule."""
    takes = tested.takes
    names = [name for name, taken in zip(run.classes, takes, strict=True) if taken]
    left_out = [name for name in run.classes if name not in names]
    details = {**run.details, "least_positives": least_positives, "left_out": left_out}
    if tested.folds:
        details["counted_in_folds"] = list(tested.folds)  # its positives, which least_positives is about
    if run.averaged == tuple(names):
        return replace(run, details=_without_old_place(details))
    probabilities, has_logits = _predictions(run, store)
    by_class = {name: _stored(run, name) for name in ("auroc", "auprc", "f1")}
    for name, score in (("auroc", auroc_per_class), ("auprc", average_precision_per_class)):
        if by_class[name] is None:
            by_class[name] = score(tested.labels, probabilities)
    scores = {f"{name}_macro": _mean(values[takes]) for name, values in by_class.items() if values is not None}
    per_class = _resamples(run, tested, probabilities, by_class["auroc"], has_logits)
    resampled = macro_of_resamples(per_class, takes)
    details["bootstrap"] = resampled.round(5).tolist()
    if not has_logits:
        remade = "resamples" if "evaluation" in details else "resamples and AUPRC"
        details["rescored"] = f"{remade} from float16 probabilities"
    if "evaluation" in details and (auroc := by_class["auroc"]) is not None:
        ends_by_class = auroc_intervals(per_class, auroc, tested.labels, tested.patients)
        lower, upper = macro_interval(per_class, takes, ends_by_class)
        ends = {"auroc_macro_ci_lower": lower, "auroc_macro_ci_upper": upper}
        details["evaluation"] = {**details["evaluation"], **scores, **ends}
    return replace(run, **without_nan(scores), details=without_nan(_without_old_place(details)))


def _predictions(run: Run, store: Store) -> tuple[Floats, bool]:
    """Return the test probabilities, and whether they are made of logits. Raises StoreError where there are none."""
    key = known(run.key)
    try:
        return np.asarray(store.probabilities(key), np.float64), store.logits(key) is not None
    except KeyError:
        raise StoreError(f"{store.path} lacks the test predictions of run {key}, so that it cannot be scored") from None


def _resamples(run: Run, tested: _Tested, probabilities: Floats, by_class: Floats | None, has_logits: bool) -> Floats:
    """Return the AUROC (classes, resamples) of the run's resamples, about its stored AUROC ``by_class``."""
    seed = resampling_seed(tested.task)
    found = bootstrap_auroc_per_class(tested.labels, probabilities, tested.patients, len(run.bootstrap), seed)
    if has_logits or by_class is None:
        return found
    moved = by_class - auroc_per_class(tested.labels, probabilities)
    return np.clip(found + moved[:, None], 0, 1)


def _stored(run: Run, score: str) -> Floats | None:
    """Return a score by class (classes,), NaN where a class has none; None where the store does not keep it."""
    classes: Mapping[str, Mapping[str, float | None]] = run.details.get("evaluation", {}).get("classes", {})
    if classes:
        values = [classes[name][score] for name in run.classes]
    elif score in run.details:
        values = [run.details[score][name] for name in run.classes]
    else:
        return None
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _without_old_place(details: dict[str, Any]) -> dict[str, Any]:
    """Drop the classes left out from where earlier versions kept them."""
    if "left_out" not in details.get("evaluation", {}):
        return details
    evaluation = {name: value for name, value in details["evaluation"].items() if name != "left_out"}
    return {**details, "evaluation": evaluation}
