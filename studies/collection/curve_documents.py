"""From tables of runs to the document of a curves file, whoever ran them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.seeds import stable_seed
from engine.versions import version_of
from models.registry import find_network, list_networks
from studies.files.arms import FINE_TUNE, FURTHER_STRATEGIES, SCRATCH
from studies.files.curves import SCHEMA_VERSION, corpus_of, is_disjoint
from studies.files.draws import Floats
from studies.files.draws_codec import affordable_draws, write_bend, write_draws
from studies.files.label_levels import LabelLevels, write_levels
from studies.files.precision import standing_order, with_precision
from studies.fitting.further_arms import fit_arms
from studies.fitting.label_levels import ClassScores, fit_class_noise, fit_label_levels
from studies.fitting.learning_curves import FitError, LearningCurveResults
from studies.fitting.noise import Noise
from studies.fitting.paired_runs import PairedRuns
from studies.fitting.pooling import FEWEST_TASKS, pool_tasks
from studies.runs.run_tables import PatientCovariance, RunTable, tabulate
from studies.runs.tidy_runs import TidyRuns

NO_UPSTREAM = "none"  # what the curve of a network that was only trained from scratch has for an upstream
NO_TEST_NOISE = "the test set's own sampling noise is unknown and not in these bands"
_FAMILIES = ("cnn", "rnn")
_DIGITS, _CLASS_DIGITS = 6, 4  # significant digits of what is measured, and of what single classes scored
NEW_TASK = "a new task"
FEWEST_FOR_LABELS = 8  # tasks: from seven, bands of a label reach from chance to certainty

Report = Callable[[int, int], None]  # (done, total)
Group = tuple[str, str, str | None]  # network, kind of upstream and precision


@dataclass(frozen=True)
class Measured:
    """A table of runs, and what is known of it beyond the scores: warnings, ``cost`` and ``provenance`` if any.

    ``kind`` says whose records the upstream's are and whether the task's labels are among its own, if that is known.
    ``left_out`` says of further arms that were run why they have no pairs. ``classes`` is what single classes scored,
    by arm.
    """

    table: RunTable
    metric: str
    warnings: tuple[str, ...] = ()
    cost: Mapping[str, Any] | None = None
    provenance: Mapping[str, Any] | None = None
    kind: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, ClassScores] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """What was measured, and the curves fitted to it."""

    measured: Measured
    fit: LearningCurveResults


@dataclass(frozen=True)
class Header:
    """What a curves file says of all its curves. ``parameters`` maps a network to its number of them, if known."""

    study: str
    version: str
    created: str
    parameters: Mapping[str, int | None]
    upstreams: Mapping[str, str]


def fit_runs(runs: TidyRuns, created: str, report: Report = lambda _done, _total: None) -> dict[str, Any]:
    """Fit anybody's runs and return the document of a curves file; ``not_fitted`` in it names what has no curve.

    Of costs, provenance and the test set's sampling noise such runs say nothing, so the document holds none.
    """
    tables, left_out = tabulate(runs)
    measured = [Measured(table, runs.metric, (NO_TEST_NOISE,)) for table in tables]
    archs = {table.arch: None for table in tables}
    upstreams = {table.upstream: f"as named in {runs.name}" for table in tables if table.upstream}
    header = Header(runs.name, version_of("ecgadvise"), created, archs, upstreams)
    document = make_document(header, measured, report)
    document["not_fitted"] += left_out
    return document


def time_of(path: Path) -> str:
    """Return when a file was last changed, in UTC: the same file gives the same document."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")


def make_document(
    header: Header, measured: Sequence[Measured], report: Report = lambda _done, _total: None
) -> dict[str, Any]:
    """Fit every table and return the document of a curves file; what could not be fitted is in ``not_fitted``."""
    fitted, failures = fit_measured(measured, report)
    groups = group_tasks(fitted)
    further = _count_further([one] for one in fitted), _count_further(group.values() for group in groups.values())
    kept, kept_pooled = affordable_draws(len(fitted), further[0], len(groups), further[1])
    single = [_describe(one.measured, one.fit, kept) for one in fitted]
    pooled = [_pool(of, group, kept_pooled, failures) for of, group in groups.items()]
    curves = [*single, *filter(None, pooled)]
    families = {one.table.arch: _family(one.table.family) for one in measured}
    archs = sorted({curve["arch"] for curve in curves})
    return {
        "schema_version": SCHEMA_VERSION,
        "study": header.study,
        "version": header.version,
        "created": header.created,
        "networks": {arch: {"family": families[arch], "parameters": header.parameters[arch]} for arch in archs},
        "registered": {name: _family(of) for name in list_networks() if (of := find_network(name).family) != "kernel"},
        "family_default": _family_defaults(single),
        "upstreams": dict(header.upstreams),
        "not_fitted": failures,
        "curves": curves,
    }


def fit_measured(
    measured: Sequence[Measured], report: Report = lambda _done, _total: None
) -> tuple[list[Fitted], list[str]]:
    """Fit every table; return the fits and, in words, what could not be fitted."""
    fitted: list[Fitted] = []
    failures = []
    for done, one in enumerate(measured, start=1):
        try:
            fit, not_added = fit_arms(one.table.runs, one.table.further, _seed(one.table))
        except FitError as error:
            failures.append(f"{one.table.name}: {error}")
        else:
            fitted.append(Fitted(one, fit))
            failures += [f"{one.table.name}, {arm}: {why}" for arm, why in {**one.left_out, **not_added}.items()]
        report(done, len(measured))
    return fitted, failures


def _count_further(curves: Iterable[Iterable[Fitted]]) -> int:
    """Return how many further arms curves of these fits have together, at the most."""
    return sum(len({arm for one in curve for arm in _split(one.fit)[1]}) for curve in curves)


def _seed(table: RunTable) -> int:
    return stable_seed(table.task, with_precision(table.arch, table.precision), *filter(None, [table.upstream]))


def group_tasks(fitted: Sequence[Fitted]) -> dict[Group, dict[str, Fitted]]:
    """Return what can be pooled, by network, upstream and precision: the tasks, and of each the fit that stands for it.

    Tasks are pooled by the corpus their upstreams come from, because each task has an upstream without its own labels.
    Of a task with several upstreams, one without its labels stands for it, then that with the most runs. Tasks of one
    kind of upstream are a pool of their own too, where that is not the same.
    """
    groups: dict[Group, dict[str, Fitted]] = defaultdict(dict)
    for one in sorted(fitted, key=_stands_for_its_task):
        table = one.measured.table
        if table.upstream is not None:
            kind = one.measured.kind or table.upstream
            groups[table.arch, corpus_of(kind), table.precision][table.task] = one
            groups[table.arch, kind, table.precision][table.task] = one
    for (arch, name, precision), group in list(groups.items()):
        whole = arch, corpus_of(name), precision
        if name != corpus_of(name) and group == groups.get(whole):
            del groups[whole]
    in_order = sorted(groups.items(), key=lambda item: (*item[0][:2], standing_order(item[0][2])))
    return {of: dict(sorted(group.items())) for of, group in in_order if len(group) >= FEWEST_TASKS}


def _stands_for_its_task(one: Fitted) -> tuple[bool, int, str]:
    return is_disjoint(one.measured.kind or ""), one.measured.table.n_runs, one.measured.table.upstream or ""


def _pool(of: Group, group: Mapping[str, Fitted], kept: int, failures: list[str]) -> dict[str, Any] | None:
    """Describe what a task that nobody has measured may look like, with the costs of the task with the most runs.

    Its provenance is that task's too, with the ``sources`` and ``devices`` of all tasks in place of one to speak of.
    """
    network, kind = with_precision(of[0], of[2]), of[1]
    try:
        fit = pool_tasks({task: one.fit for task, one in group.items()}, seed_of_pool(of, group))
    except FitError as error:
        failures.append(f"{NEW_TASK} {network} from {kind}: {error}")
        return None
    most = max(group.values(), key=lambda one: one.measured.table.n_runs).measured
    tables = [one.measured.table for one in group.values()]
    most = replace(most, cost=_cost_of_pool(most, group), warnings=(), kind=None, classes={})
    return {
        **_describe(most, fit, kept),
        "task": NEW_TASK,
        "upstream": kind,
        "sizes": [int(n) for n in fit.sizes],
        "replicates": max(min(table.replicates for table in tables), 1),
        "runs": sum(table.n_runs for table in tables),
        "points": {arm: {} for arm in _split(fit)[0]},
        "pooled": True,
        "tasks": list(group),
        **_describe_levels(group, kept, seed_of_pool(of, group)),
        **({} if most.provenance is None else {"provenance": {**most.provenance, **_of_all_tasks(group)}}),
    }


def _describe_levels(group: Mapping[str, Fitted], kept: int, seed: int) -> dict[str, Any]:
    levels = fit_levels_of_pool(group, kept, seed)
    return {} if levels is None else {"label_levels": write_levels(levels, kept)}


def fit_levels_of_pool(group: Mapping[str, Fitted], n_draws: int, seed: int) -> LabelLevels | None:
    """Return what labels say of the scores of a new task, None where too few tasks say what their classes scored."""
    by_arm: dict[str, list[ClassScores]] = defaultdict(list)
    for one in group.values():
        for arm, scores in one.measured.classes.items():
            by_arm[arm].append(scores)
    if len(by_arm[SCRATCH]) < FEWEST_FOR_LABELS:
        return None
    levels = fit_label_levels(by_arm[SCRATCH], n_draws, seed)
    noise = {arm: fit_class_noise(of_arm) for arm, of_arm in by_arm.items() if len(of_arm) >= FEWEST_FOR_LABELS}
    return replace(levels, noise=noise)


def seed_of_pool(of: Group, tasks: Iterable[str]) -> int:
    """Return the seed of a pool's draws: it follows from what is pooled."""
    return stable_seed(with_precision(of[0], of[2]), of[1], *tasks)


def _cost_of_pool(most: Measured, group: Mapping[str, Fitted]) -> Mapping[str, Any] | None:
    """Return the costs of the task with the most runs; of a further arm that it lacks, those of the first with it."""
    if most.cost is None:
        return None
    others = [one.measured.cost or {} for one in group.values()]
    further = {arm: cost[arm] for cost in reversed(others) for arm in FURTHER_STRATEGIES if arm in cost}
    return {**further, **most.cost}


def _of_all_tasks(group: Mapping[str, Fitted]) -> dict[str, Any]:
    devices = {device for one in group.values() for device in (one.measured.provenance or {}).get("devices", ())}
    return {"devices": sorted(devices), "sources": _sources(group)}


def _sources(group: Mapping[str, Fitted]) -> list[Mapping[str, str]]:
    """Return the publishers of the tasks' records, each once, that of the first task first."""
    sources: list[Mapping[str, str]] = []
    for one in group.values():
        source = (one.measured.provenance or {}).get("source")
        if source and source not in sources:
            sources.append(source)
    return sources


def _describe(one: Measured, fit: LearningCurveResults, kept: int) -> dict[str, Any]:
    table, (arms, others) = one.table, _split(fit)
    cost = {arm: known for arm, known in (one.cost or {}).items() if arm not in FURTHER_STRATEGIES}
    points = {
        arm: {str(n): [round(value, _DIGITS) for value in values] for n, values in by_size.items()}
        for arm, by_size in table.points().items()
    }
    return {
        "task": table.task,
        "arch": table.arch,
        "family": _family(table.family),
        "upstream": table.upstream or NO_UPSTREAM,
        **({} if one.kind is None else {"kind": one.kind}),
        "metric": one.metric,
        "precision": table.precision,
        "sizes": [int(n) for n in table.runs.sizes],
        "replicates": max(table.replicates, 1),
        "runs": table.n_runs,
        "draws": write_draws({arm: fit.draws[arm] for arm in arms}, kept),
        "noise": {
            **_spread(fit.noise),
            "correlation": _round(fit.noise.correlation), "degrees_of_freedom": fit.degrees_of_freedom,
            **({"fine_tune": _spread(fit.further_noise[FINE_TUNE])} if FINE_TUNE in fit.further_noise else {}),
        },
        "points": {arm: points[arm] for arm in arms},
        **({"classes": _describe_classes(one.classes[SCRATCH])} if SCRATCH in one.classes else {}),
        **({} if fit.tasks else {**_test_covariance(table, table.runs), **_of_all_arms(table.patients)}),
        **({} if one.cost is None else {"cost": cost}),
        **({"further_arms": {arm: _describe_further(arm, one, fit, kept, points) for arm in others}} if others else {}),
        **({} if one.provenance is None else {"provenance": one.provenance}),
        "warnings": [*one.warnings, *fit.warnings],
    }  # fmt: skip


def _describe_classes(found: ClassScores) -> dict[str, Any]:
    return {
        "names": list(found.classes),
        "prevalence": _round_all(found.prevalence),
        "positives": [_whole(count) for count in found.positives],
        "test_records": found.test_records,
        **({} if found.shared_test == 1 else {"shared_test": _round(found.shared_test)}),
        "sizes": [int(n) for n in found.sizes],
        "replicates": [int(count) for count in found.replicates],
        "means": _round_all(found.means),
        "variances": _round_all(found.variances),
    }


def _whole(count: float) -> int | float:
    """Return a whole number as one, and the mean of several test sets as it is."""
    return int(count) if count == int(count) else _round(float(count))


def _round_all(values: NDArray[np.float64]) -> Any:
    return np.vectorize(lambda value: float(f"{value:.{_CLASS_DIGITS}g}"))(values).tolist()


def _split(fit: LearningCurveResults) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the arms that were fitted together, and the further ones."""
    further = tuple(arm for arm in fit.arms if arm in FURTHER_STRATEGIES)
    return tuple(arm for arm in fit.arms if arm not in further), further


def _describe_further(
    arm: str, one: Measured, fit: LearningCurveResults, kept: int, points: Mapping[str, Any]
) -> dict[str, Any]:
    cost = (one.cost or {}).get(arm)
    return {
        **write_bend(fit.draws[arm], kept),
        "noise": _spread(fit.further_noise[arm]),
        "points": {} if fit.tasks else points[arm],
        **({} if fit.tasks else _test_covariance(one.table, one.table.further[arm])),
        **({} if cost is None else {"cost": cost}),
    }


def _test_covariance(table: RunTable, runs: PairedRuns) -> dict[str, Any]:
    """Return the sampling covariance that the test set gives to the arms that were fitted together, if it is known.

    It is, and is zero, where every replicate was tested on patients of its own.
    """
    known = table.patients is not None or runs.test_covariance.any()
    return {"test_covariance": _rows(runs.test_covariance)} if known else {}


def _of_all_arms(patients: PatientCovariance | None) -> dict[str, Any]:
    return {} if patients is None else {"patients": {"arms": list(patients.arms), "covariance": _rows(patients.values)}}


def _rows(covariance: Floats) -> list[list[float]]:
    return [[_round(value) for value in row] for row in ((covariance + covariance.T) / 2).tolist()]


def _spread(noise: Noise) -> dict[str, float]:
    return {"alpha": _round(noise.alpha), "gamma": _round(noise.gamma)}


def _family(family: str) -> str:
    """Return a family as curves files name it: state spaces and transformers are other networks there."""
    return family if family in _FAMILIES else "other"


def _family_defaults(curves: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Name, for each family, the network with the most runs behind it."""
    runs: dict[str, Counter[str]] = defaultdict(Counter)
    for curve in curves:
        runs[curve["family"]][curve["arch"]] += curve["runs"]
    return {family: counts.most_common(1)[0][0] for family, counts in sorted(runs.items()) if family in _FAMILIES}


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
