"""Is the advice any good? Hold runs out and forecast them from the others (METHODS.md, Backtest).

Held out are the largest one and the largest two sizes of every curve; every task, whose forecast is then what the pool
of the other tasks says of a new one; and every site, whose tasks are forecast from those of the other sites. A held-out
cell is one task, network, precision, upstream and size with two replicates or more. A task is forecast from the pool
that would ship without it: of its network, precision and kind of upstream, with the further arms that were run; where
it is known what single classes scored, a second time, given the labels of the task and their shares of the records.

A larger size of a curve was tested on the patients of the smaller ones. What is forecast there is the score on this
very test set: neither the forecast nor the truth has the test set's sampling noise. What is forecast of a task is its
score on any patients, of whom its test set is a sample: the curves that are pooled have that noise, as those that ship,
and so has the truth. How the forecasts did is for ``studies.backtest.scorecard``.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.seeds import stable_seed
from studies.backtest.truth import (
    ReplicateNoise,
    Truth,
    estimate_replicate_noise,
    find_measured,
    measure_truth,
    patient_covariance,
)
from studies.collection.curve_documents import Fitted, Group, Measured, fit_measured, group_tasks, seed_of_pool
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.curves import corpus_of, is_disjoint, is_released
from studies.files.draws import REACH
from studies.files.label_levels import Label, LabelLevels, draws_given
from studies.files.precision import with_precision
from studies.fitting.label_levels import FEWEST_TASKS as FEWEST_TASKS_WITH_LABELS
from studies.fitting.label_levels import fit_label_levels
from studies.fitting.learning_curves import N_DRAWS, FitError, LearningCurveResults, fit_learning_curves
from studies.fitting.pooling import pool_tasks
from studies.runs.run_tables import RunTable, mean_and_error

Floats = NDArray[np.float64]
Report = Callable[[int, int], None]  # (done, total)
Pool = tuple[Group, Mapping[str, Fitted]]

LARGEST, TWO_LARGEST, TASK, SITE = "largest", "two_largest", "task", "site"
SCHEMES = {LARGEST: "largest size", TWO_LARGEST: "two largest sizes", TASK: "task", SITE: "site"}
_FEWEST_TASKS, _FEWEST_SITES = 3, 2  # to pool two and hold one out; to forecast one from another


@dataclass(frozen=True)
class Forecast:
    """What was predicted of one held-out cell.

    ``scores[arm]`` (draws,) are expected scores, ``run_sd[arm]`` the predicted spread of single runs about that,
    ``last`` the naive forecast of each arm.
    """

    scores: Mapping[str, Floats]
    run_sd: Mapping[str, float]
    last: Mapping[str, float]


@dataclass(frozen=True)
class HeldOut:
    """One held-out cell: what was measured, ``measured[arm]`` (replicates,), and what was predicted.

    ``truth`` says how well the arms' expected scores are known from that, which is no part of the forecast.
    ``patients_sd[arm]`` is what the choice of test patients adds to a measured score, where the forecast is of others.
    ``with_labels`` tells a forecast that was given the held-out task's labels and their shares of the records.
    """

    scheme: str
    table: RunTable
    n_records: float
    measured: Mapping[str, Floats]
    forecast: Forecast
    truth: Truth
    patients_sd: Mapping[str, float] = field(default_factory=dict)
    with_labels: bool = False

    @property
    def gain_draws(self) -> Floats:
        """Predicted gains, (draws,)."""
        return self.forecast.scores[FINE_TUNE] - self.forecast.scores[SCRATCH]

    @property
    def cell(self) -> tuple[str, int]:
        """What was measured, whichever scheme holds it out."""
        return self.table.name, int(self.n_records)


def hold_out(
    measured: Sequence[Measured], report: Report = lambda _done, _total: None
) -> tuple[list[HeldOut], list[str]]:
    """Forecast every cell that can be held out; return these and, in words, what could not be forecast.

    Runs from a network that no run of the study pre-trained are not held out unless they are all there is: they answer
    only where it is named, and the answers that everybody gets are not to be judged by them.
    """
    own = [one for one in measured if not is_released(one.table.upstream or "")]
    theirs = [one.table for one in measured if is_released(one.table.upstream or "")] if own else []
    measured = own or measured
    fitted, problems = fit_measured(measured, lambda done, total: report(done, 2 * total))
    apart = dict.fromkeys(f"{table.arch} from {table.upstream}" for table in theirs)
    problems += [f"{name} is not held out: it answers only where it is named" for name in apart]
    noise = estimate_replicate_noise([one.table for one in measured])
    cells: list[HeldOut] = []
    of_networks: dict[tuple[str, str | None], list[Fitted]] = defaultdict(list)
    for done, one in enumerate(fitted, start=1):
        table = one.measured.table
        of_networks[table.arch, table.precision].append(one)
        for scheme, n_sizes in ((LARGEST, 1), (TWO_LARGEST, 2)):
            cells += _hold_out_sizes(table, scheme, n_sizes, noise, problems)
        report(len(measured) + done, 2 * len(measured))
    for (arch, precision), of_network in of_networks.items():
        network = with_precision(arch, precision)
        tasks = {one.measured.table.task for one in of_network}
        sites = {corpus_of(task) for task in tasks}
        if len(tasks) < _FEWEST_TASKS:
            problems.append(f"{network}: tasks cannot be held out of {len(tasks)}, it takes {_FEWEST_TASKS}")
            continue
        cells += _hold_out_tasks(TASK, of_network, noise, problems)
        if len(sites) < _FEWEST_SITES:
            problems.append(f"{network}: sites cannot be held out of {len(sites)}, it takes {_FEWEST_SITES}")
        elif len(sites) < len(tasks):  # else every site is one task, which is held out already
            cells += _hold_out_tasks(SITE, of_network, noise, problems)
    return cells, problems


def fit_table(table: RunTable) -> LearningCurveResults:
    """Fit a table, seeded by what it is. Raises FitError."""
    return fit_learning_curves(table.runs, stable_seed(table.name, len(table.runs.sizes)))


def _hold_out_sizes(
    table: RunTable, scheme: str, n_sizes: int, noise: ReplicateNoise, problems: list[str]
) -> list[HeldOut]:
    kept = table.without_largest(n_sizes)
    try:
        found = forecast_sizes(scheme, table, kept, noise) if len(kept.runs.sizes) else []
    except FitError as error:
        problems.append(f"{table.name} without its {SCHEMES[scheme]}: {error}")
        return []
    return [cell for cell in found if cell.n_records <= REACH * kept.runs.sizes[-1]]


def forecast_sizes(scheme: str, table: RunTable, kept: RunTable, noise: ReplicateNoise) -> list[HeldOut]:
    """Forecast from the sizes in ``kept`` the larger ones of ``table`` that were measured. Raises FitError.

    The forecast is of scores on the test set that they share.
    """
    fit = fit_table(replace(kept, runs=replace(kept.runs, test_covariance=0 * kept.runs.test_covariance)))
    last = {arm: _last_mean(values) for arm, values in kept.runs.scores.items()}
    found = []
    for n in table.runs.sizes[table.runs.sizes > kept.runs.sizes[-1]]:
        measured = find_measured(table, n)
        if set(fit.arms) <= set(measured):
            truth = measure_truth(table, n, noise, fit.arms, with_patients=False)
            scores = {arm: measured[arm] for arm in fit.arms}
            found.append(HeldOut(scheme, table, float(n), scores, _forecast(fit, n, last), truth))
    return found


def _hold_out_tasks(
    scheme: str, of_network: Sequence[Fitted], noise: ReplicateNoise, problems: list[str]
) -> list[HeldOut]:
    """Forecast every task of a network from the pool without it, or without any task of its site."""
    cells = []
    for held in of_network:
        table = held.measured.table
        others = [one for one in of_network if _unit(scheme, one) != _unit(scheme, held)]
        pool = answering_pool(held, others)
        if pool is None:
            problems.append(f"{table.name} as a new {SCHEMES[scheme]}: {_why_no_pool(held)}")
            continue
        of, group = pool
        try:
            predicted = predict_new_task(group, table, seed_of_pool(of, group))
        except FitError as error:
            problems.append(f"{table.name} as a new {SCHEMES[scheme]}: {error}")
            continue
        given = _given_labels(predicted, group, held, seed_of_pool(of, group))
        low, high = predicted.sizes.min() / REACH, predicted.sizes.max() * REACH
        for n in table.runs.sizes:
            measured = find_measured(table, n)
            if low <= n <= high and set(table.runs.scores) <= set(measured):
                arms = tuple(measured)
                truth = measure_truth(table, n, noise, arms, with_patients=True)
                sd = dict(zip(arms, patient_covariance(table, arms).diagonal() ** 0.5, strict=True))
                last = _mean_of(group, n)
                cells.append(HeldOut(scheme, table, float(n), measured, _forecast(predicted, n, last), truth, sd))
                if given is not None:
                    forecast = _forecast(given.fit, n, last)
                    forecast = replace(forecast, run_sd={**forecast.run_sd, **given.run_sd(n)})
                    cells.append(HeldOut(scheme, table, float(n), measured, forecast, truth, sd, with_labels=True))
    return cells


@dataclass(frozen=True)
class _Given:
    """What is said of a new task whose labels are known: the pool's draws, moved, and the noise of these labels."""

    fit: LearningCurveResults
    levels: LabelLevels
    labels: tuple[Label, ...]

    def run_sd(self, n_records: float) -> dict[str, float]:
        macro = {arm: float(self.fit.scores(arm, n_records).mean()) for arm in self.levels.noise}
        return {arm: self.levels.run_sd(arm, self.labels, n_records, mean) for arm, mean in macro.items()}


def _given_labels(
    predicted: LearningCurveResults, group: Mapping[str, Fitted], held: Fitted, seed: int
) -> _Given | None:
    """Return what the pool says given the labels of the held-out task; None where it cannot or they are not known."""
    own = held.measured.classes.get(SCRATCH)
    classes = [one.measured.classes[SCRATCH] for one in group.values() if SCRATCH in one.measured.classes]
    if own is None or len(classes) < FEWEST_TASKS_WITH_LABELS:
        return None
    levels = fit_label_levels(classes, N_DRAWS, seed)
    labels = tuple(Label(name, float(share)) for name, share in zip(own.findings, own.prevalence, strict=True))
    draws = draws_given(predicted.draws, levels, labels, float(predicted.sizes.min()), predicted.chance)
    return _Given(replace(predicted, draws=draws), levels, labels)


def _unit(scheme: str, one: Fitted) -> str:
    task = one.measured.table.task
    return corpus_of(task) if scheme == SITE else task


def answering_pool(held: Fitted, others: Sequence[Fitted]) -> Pool | None:
    """Return the pool that would ship of ``others`` and answer for the held-out task, None where none would.

    Of the pools of its network whose upstreams are of the corpus that its own is of, the one with most tasks.
    """
    table = held.measured.table
    if table.upstream is None:
        return None
    corpus = corpus_of(held.measured.kind or table.upstream)
    pools = [
        (of, group)
        for of, group in group_tasks(others).items()
        if (of[0], corpus_of(of[1]), of[2]) == (table.arch, corpus, table.precision)
    ]
    return max(pools, key=lambda pool: (len(pool[1]), is_disjoint(pool[0][1])), default=None)


def predict_new_task(others: Mapping[str, Fitted], held: RunTable, seed: int) -> LearningCurveResults:
    """Return what the other tasks, each a table and its fit, say of one that nobody has measured. Raises FitError.

    Of the table that is held out nothing may be used that its owner would not know before any training.
    """
    if held.task in others:
        raise ValueError(f"{held.task} is held out and cannot be predicted from itself")
    return pool_tasks({task: one.fit for task, one in others.items()}, seed)


def _why_no_pool(held: Fitted) -> str:
    table = held.measured.table
    if table.upstream is None:
        return "it was trained from scratch only"
    corpus = corpus_of(held.measured.kind or table.upstream)
    return f"too few of the others were fine-tuned from networks of {corpus}, it takes {_FEWEST_TASKS - 1}"


def _forecast(fit: LearningCurveResults, n_records: float, last: Mapping[str, float]) -> Forecast:
    scores = {arm: fit.scores(arm, n_records)[:, 0] for arm in fit.arms}
    at = np.array([n_records])
    run_sd = {arm: float(fit.further_noise.get(arm, fit.noise).sd(at)[0]) for arm in fit.arms}
    return Forecast(scores, run_sd, last)


def _last_mean(values: Floats) -> float:
    measured = values[np.isfinite(values).any(axis=1)]
    return mean_and_error(measured[-1])[0] if len(measured) else np.nan


def _mean_of(group: Mapping[str, Fitted], n_records: float) -> dict[str, float]:
    """Return each arm's mean over the other tasks at the measured size nearest to ``n_records``."""
    means = defaultdict(list)
    for other in group.values():
        runs = other.measured.table.runs
        nearest = np.argmin(np.maximum(runs.sizes / n_records, n_records / runs.sizes))  # of two as near, the smaller
        for arm, values in runs.scores.items():
            means[arm].append(mean_and_error(values[nearest])[0])
    return {arm: float(np.nanmean(values)) for arm, values in means.items()}
