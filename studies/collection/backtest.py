"""Is the advice any good? Hold runs out and forecast them from the others (METHODS.md, Backtest).

Two things are held out: the largest one and the largest two sizes of every curve, and every task (its forecast is then
the pooled one of the other tasks). A held-out cell is one task, network, precision, upstream and size with two
replicates or more, and a task is forecast from others of its network in its precision, with the further arms that were
run.
The forecasts leave out the sampling noise of the test set, which a larger size shares with the smaller ones. How they
did is for ``studies.collection.scorecard``.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.seeds import stable_seed
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.draws import REACH
from studies.files.precision import with_precision
from studies.fitting.further_arms import fit_arms
from studies.fitting.learning_curves import FitError, LearningCurveResults, fit_learning_curves
from studies.fitting.noise import Noise, estimate_noise
from studies.fitting.pooling import pool_tasks
from studies.runs.run_tables import RunTable, mean_and_error

Floats = NDArray[np.float64]
Report = Callable[[int, int], None]  # (done, total)

LARGEST, TWO_LARGEST, TASK = "largest", "two_largest", "task"
SCHEMES = {LARGEST: "largest size", TWO_LARGEST: "two largest sizes", TASK: "task"}
_FEWEST_TASKS = 3  # to pool two and hold one out


@dataclass(frozen=True)
class Forecast:
    """What was predicted of one held-out cell.

    ``scores[arm]`` (draws,) are expected scores, ``run_sd`` the predicted spread of a single run about its expectation,
    ``last`` the naive forecast of each arm.
    """

    scores: Mapping[str, Floats]
    run_sd: float
    last: Mapping[str, float]


@dataclass(frozen=True)
class HeldOut:
    """One held-out cell: what was measured, ``measured[arm]`` (replicates,), and what was predicted.

    ``run_sd`` is the spread of a single measured run and ``correlation`` that of a pair, estimated with all runs of the
    table: they say how well the cell's truth is known, which is not a part of the forecast. ``further[arm]`` are the
    measured scores of the arms next to the two, in a cell of a held-out task.
    """

    scheme: str
    table: RunTable
    n_records: float
    measured: Mapping[str, Floats]
    forecast: Forecast
    run_sd: float
    correlation: float = 0.0
    further: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def gain_draws(self) -> Floats:
        """Predicted gains, (draws,)."""
        return self.forecast.scores[FINE_TUNE] - self.forecast.scores[SCRATCH]


def hold_out(
    tables: Sequence[RunTable], report: Report = lambda _done, _total: None
) -> tuple[list[HeldOut], list[str]]:
    """Forecast every cell that can be held out; return these and, in words, what could not be forecast."""
    cells: list[HeldOut] = []
    problems: list[str] = []
    fits: dict[tuple[str, str | None], dict[str, tuple[RunTable, LearningCurveResults]]] = defaultdict(dict)
    for done, table in enumerate(tables, start=1):
        try:
            fit, not_added = fit_arms(table.runs, table.further, _seed(table))
        except FitError as error:
            problems.append(f"{table.name}: {error}")
        else:
            fits[table.arch, table.precision][table.name] = table, fit
            problems += [f"{table.name}, {arm}: {why}" for arm, why in not_added.items()]
            for scheme, n_sizes in ((LARGEST, 1), (TWO_LARGEST, 2)):
                cells += _hold_out_sizes(table, scheme, n_sizes, problems)
        report(done, len(tables))
    for (arch, precision), of_network in fits.items():
        cells += _hold_out_tasks(with_precision(arch, precision), of_network, problems)
    return cells, problems


def fit_table(table: RunTable) -> LearningCurveResults:
    """Fit a table, seeded by what it is. Raises FitError."""
    return fit_learning_curves(table.runs, _seed(table))


def _seed(table: RunTable) -> int:
    return stable_seed(table.name, len(table.runs.sizes))


def _hold_out_sizes(table: RunTable, scheme: str, n_sizes: int, problems: list[str]) -> list[HeldOut]:
    kept = table.without_largest(n_sizes)
    try:
        found = forecast_sizes(scheme, table, kept) if len(kept.runs.sizes) else []
    except FitError as error:
        problems.append(f"{table.name} without its {SCHEMES[scheme]}: {error}")
        return []
    return [cell for cell in found if cell.n_records <= REACH * kept.runs.sizes[-1]]


def forecast_sizes(scheme: str, table: RunTable, kept: RunTable) -> list[HeldOut]:
    """Forecast from the sizes in ``kept`` the larger ones of ``table`` that were measured. Raises FitError."""
    fit = fit_table(kept)
    noise = estimate_noise(table.runs.sizes, table.runs.scores)
    last = {arm: _last_mean(values) for arm, values in kept.runs.scores.items()}
    return [
        _cell(scheme, table, n, _forecast(fit, n, last), noise)
        for n in table.runs.sizes
        if n > kept.runs.sizes[-1] and _is_measured(table, n)
    ]


def _hold_out_tasks(
    network: str, of_network: Mapping[str, tuple[RunTable, LearningCurveResults]], problems: list[str]
) -> list[HeldOut]:
    tasks = {table.task for table, _ in of_network.values()}
    if len(tasks) < _FEWEST_TASKS:
        problems.append(f"{network}: tasks cannot be held out of {len(tasks)}, it takes {_FEWEST_TASKS}")
        return []
    cells = []
    for table, own in of_network.values():
        others = _other_tasks(table, of_network)
        try:
            pooled = pool_tasks({name: fit for name, (_, fit) in others.items()}, stable_seed(table.name))
        except FitError as error:
            problems.append(f"{table.name} as a new task: {error}")
            continue
        low, high = pooled.sizes.min() / REACH, pooled.sizes.max() * REACH
        for n in table.runs.sizes:
            if low <= n <= high and _is_measured(table, n):
                cell = _cell(TASK, table, n, _forecast(pooled, n, _mean_of(others, n)), own.noise)
                cells.append(replace(cell, further=_further(table, n)))
    return cells


def _other_tasks(
    table: RunTable, of_network: Mapping[str, tuple[RunTable, LearningCurveResults]]
) -> dict[str, tuple[RunTable, LearningCurveResults]]:
    """Return one fit for each other task: of several upstreams the same as the table's, else that with most runs."""
    others: dict[str, tuple[RunTable, LearningCurveResults]] = {}
    for other, fit in sorted(
        of_network.values(), key=lambda found: (found[0].upstream == table.upstream, found[0].n_runs)
    ):
        if other.task != table.task and other.is_paired == table.is_paired:
            others[other.task] = other, fit
    return dict(sorted(others.items()))


def _cell(scheme: str, table: RunTable, n_records: float, forecast: Forecast, noise: Noise) -> HeldOut:
    sd = float(noise.sd(np.array([n_records]))[0])
    return HeldOut(scheme, table, n_records, _row(table, n_records), forecast, sd, noise.correlation)


def _forecast(fit: LearningCurveResults, n_records: float, last: Mapping[str, float]) -> Forecast:
    scores = {arm: fit.scores(arm, n_records)[:, 0] for arm in fit.arms}
    return Forecast(scores, float(fit.noise.sd(np.array([n_records]))[0]), last)


def _row(table: RunTable, n_records: float) -> dict[str, Floats]:
    position = int(np.flatnonzero(table.runs.sizes == n_records)[0])
    return {arm: values[position] for arm, values in table.runs.scores.items()}


def _further(table: RunTable, n_records: float) -> dict[str, Floats]:
    """Return the scores of the further arms that have two replicates or more at a size."""
    found = {}
    for arm, pairs in table.further.items():
        for values in pairs.scores[arm][pairs.sizes == n_records]:
            if np.isfinite(values).sum() > 1:
                found[arm] = values
    return found


def _is_measured(table: RunTable, n_records: float) -> bool:
    """Whether every arm has two replicates at a size: with fewer, its truth is not known."""
    return all(np.isfinite(values).sum() > 1 for values in _row(table, n_records).values())


def _last_mean(values: Floats) -> float:
    measured = values[np.isfinite(values).any(axis=1)]
    return mean_and_error(measured[-1])[0] if len(measured) else np.nan


def _mean_of(others: Mapping[str, tuple[RunTable, LearningCurveResults]], n_records: float) -> dict[str, float]:
    """Return each arm's mean over the other tasks at the measured size nearest to ``n_records``."""
    means = defaultdict(list)
    for other, _ in others.values():
        sizes = other.runs.sizes
        nearest = sizes[np.argmin(np.maximum(sizes / n_records, n_records / sizes))]  # of two as near, the smaller
        for arm, values in _row(other, nearest).items():
            means[arm].append(mean_and_error(values)[0])
    return {arm: float(np.nanmean(values)) for arm, values in means.items()}
