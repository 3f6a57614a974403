"""Estimates of tasks and how they become one: random effects over tasks, or over the sources that tasks are of.

And how much of the variance of single values lies between groups of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtr, ndtri
from scipy.stats import t as student

Floats = NDArray[np.float64]
LEVEL = 0.90
_PRIOR_FREEDOM = 4
_FEWEST_TO_PREDICT = 3  # tasks, or sources
_FEWEST_SOURCES = 2
_GRID, _ZOOMS = 17, 6


@dataclass(frozen=True)
class TaskEstimate:
    """An estimate with its variance and the degrees of freedom of that; ``n_pairs`` stand behind it.

    ``design`` is the variance that it would have if the residual of a pair had variance 1: 1/n for a mean of n pairs,
    and for a slope over the spread of their sizes, 1 / Sxx.
    """

    effect: float
    variance: float
    freedom: float
    n_pairs: int
    design: float


@dataclass(frozen=True)
class Combined:
    """An estimate over tasks with its 90 % interval; ``between_sd`` is the spread of tasks, None when one is known.

    ``prediction`` is the 90 % interval of one more task's effect (Higgins, Thompson and Spiegelhalter, J R Stat Soc A
    172, 2009), None of fewer than three tasks; with few it is too short.
    """

    effect: float
    ci_lower: float
    ci_upper: float
    between_sd: float | None
    n_pairs: int
    tasks: tuple[str, ...]
    prediction: tuple[float, float] | None = None


def average_by_task(curves: Mapping[tuple[Any, ...], TaskEstimate | None]) -> dict[str, TaskEstimate]:
    """Average the estimates of every task, whose name comes first in each key; None is left out."""
    of_task: dict[str, list[TaskEstimate]] = defaultdict(list)
    for (task, *_), estimate in curves.items():
        if estimate is not None:
            of_task[task].append(estimate)
    return {
        task: TaskEstimate(
            effect=float(np.mean([one.effect for one in found])),
            variance=float(np.mean([one.variance for one in found])),
            freedom=min(one.freedom for one in found),
            n_pairs=sum(one.n_pairs for one in found),
            design=float(np.mean([one.design for one in found])),
        )
        for task, found in sorted(of_task.items())
    }


def mean_over_sizes(values: Iterable[tuple[int, float]]) -> TaskEstimate | None:
    """Return the mean over sizes of the means of ``(n_records, value)``; None where no size has two values.

    The variance of a size is that of its own values; with few replicates its degrees of freedom are added up.
    """
    by_size: dict[int, list[float]] = defaultdict(list)
    for n, value in values:
        by_size[n].append(value)
    cells = [np.array(cell) for cell in by_size.values() if len(cell) > 1]
    if not cells:
        return None
    variance = sum(cell.var(ddof=1) / len(cell) for cell in cells) / len(cells) ** 2
    design = sum(1 / len(cell) for cell in cells) / len(cells) ** 2
    freedom, n_values = sum(len(cell) - 1 for cell in cells), sum(len(cell) for cell in cells)
    return TaskEstimate(float(np.mean([cell.mean() for cell in cells])), float(variance), freedom, n_values, design)


def _moderated(found: Sequence[TaskEstimate]) -> Floats:
    """Return the variances, each drawn towards what all tasks have in common, which gets ``_PRIOR_FREEDOM`` degrees.

    From two or three pairs a variance is mostly chance, and a task whose pairs happen to agree would outweigh all
    others (Smyth, Stat Appl Genet Mol Biol 3(1):3, 2004, there with the degrees estimated). The residual variance of a
    pair is what tasks share; those with more pairs, or for a slope with a wider range of sizes, keep their weight.
    """
    freedom, design = (np.array([getattr(one, name) for one in found], np.float64) for name in ("freedom", "design"))
    of_a_pair = np.array([one.variance for one in found]) / design
    common = float(np.average(of_a_pair, weights=freedom))
    drawn = (freedom * of_a_pair + _PRIOR_FREEDOM * common) / (freedom + _PRIOR_FREEDOM)
    return np.asarray(np.maximum(drawn, 1e-12) * design, np.float64)


def combine(by_task: Mapping[str, TaskEstimate]) -> Combined:
    """Combine the estimates of tasks, at least one."""
    tasks, found = tuple(by_task), list(by_task.values())
    n_pairs = sum(one.n_pairs for one in found)
    if len(found) == 1:
        reach = float(student.ppf((1 + LEVEL) / 2, found[0].freedom)) * found[0].variance ** 0.5
        effect = found[0].effect
        return Combined(effect, effect - reach, effect + reach, None, n_pairs, tasks)
    from statsmodels.stats.meta_analysis import combine_effects

    variances = _moderated(found)
    with np.errstate(divide="ignore"):  # tasks that agree exactly have no heterogeneity to divide by
        pooled = combine_effects(np.array([one.effect for one in found]), variances, method_re="iterated")
    error = max(float(pooled.sd_eff_w_re), float(pooled.sd_eff_w_re_hksj))
    reach = float(student.ppf((1 + LEVEL) / 2, len(found) - 1)) * error
    effect, tau2 = float(pooled.mean_effect_re), float(pooled.tau2)
    prediction = None
    if len(found) >= _FEWEST_TO_PREDICT:
        away = float(student.ppf((1 + LEVEL) / 2, len(found) - 2)) * (tau2 + error**2) ** 0.5
        prediction = effect - away, effect + away
    return Combined(effect, effect - reach, effect + reach, tau2**0.5, n_pairs, tasks, prediction)


@dataclass(frozen=True)
class OverSources:
    """Estimates of tasks combined over the sources they are of, because a new dataset is of one more source.

    The 90 % interval is of the mean over sources. ``between_sources`` and ``between_tasks``, of one source, are
    standard deviations, the second None where every source has one task. ``prediction`` is the 90 % interval of a task
    of one more source, None of fewer than three sources; with few it is too short.
    """

    effect: float
    ci_lower: float
    ci_upper: float
    between_sources: float
    between_tasks: float | None
    n_pairs: int
    tasks: tuple[str, ...]
    sources: tuple[str, ...]
    prediction: tuple[float, float] | None


def combine_sources(by_source: Mapping[str, Mapping[str, TaskEstimate]]) -> OverSources | None:
    """Combine the estimates of tasks by source, None of fewer than two sources.

    Three levels, a task's estimate, tasks within a source, sources (Konstantopoulos, Res Synth Methods 2(1):61, 2011);
    both variances by restricted maximum likelihood. Given these a source is the weighted mean of its tasks, and counts
    once, however many it has. The interval is that of Hartung and Knapp over sources, with one degree of freedom less
    than there are, never narrower than the usual one.
    """
    found = [one for tasks in by_source.values() for one in tasks.values()]
    if len(by_source) < _FEWEST_SOURCES:
        return None
    effects, variances = np.array([one.effect for one in found]), _moderated(found)
    source = np.repeat(np.arange(len(by_source)), [len(tasks) for tasks in by_source.values()])
    nested = len(source) > len(by_source)
    between, within = _two_variances(effects, variances, source, nested)
    means, precision, _ = _means_of_sources(effects, variances + within, source)
    weights = 1 / (between + 1 / precision)
    effect = float((weights * means).sum() / weights.sum())
    freedom = len(by_source) - 1
    scatter = float((weights * (means - effect) ** 2).sum()) / freedom
    error = (max(scatter, 1.0) / float(weights.sum())) ** 0.5
    reach = float(student.ppf((1 + LEVEL) / 2, freedom)) * error
    prediction = None
    if len(by_source) >= _FEWEST_TO_PREDICT:
        away = float(student.ppf((1 + LEVEL) / 2, freedom - 1)) * (between + within + error**2) ** 0.5
        prediction = effect - away, effect + away
    return OverSources(
        effect, effect - reach, effect + reach, between**0.5, within**0.5 if nested else None,
        sum(one.n_pairs for one in found), tuple(task for tasks in by_source.values() for task in tasks),
        tuple(by_source), prediction,
    )  # fmt: skip


def _means_of_sources(effects: Floats, variances: Floats, source: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """Return each source's weighted mean of its tasks, its precision, and the weighted squares about it."""
    precision = _sums(1 / variances, source)
    means = _sums(effects / variances, source) / precision
    return means, precision, _sums((effects - means[source]) ** 2 / variances, source)


def _sums(values: Floats, source: NDArray[np.intp]) -> Floats:
    return np.bincount(source, values).astype(np.float64)


def _two_variances(effects: Floats, variances: Floats, source: NDArray[np.intp], nested: bool) -> tuple[float, float]:
    """Return the variances between sources and between tasks of one, by restricted maximum likelihood on a grid.

    The grid is of standard deviations and is laid anew about its best point until a step does not matter.
    """
    top = 3 * float(effects.std())
    low, high = np.zeros(2), np.array([top, top if nested else 0.0])
    best = np.zeros(2)
    for _ in range(_ZOOMS):
        of_sources, of_tasks = (np.linspace(*ends, _GRID) for ends in zip(low, high, strict=True))
        grid = np.array([_deviance(effects, variances + sd**2, source, of_sources**2) for sd in of_tasks])
        row, column = np.unravel_index(grid.argmin(), grid.shape)
        best = np.array([of_sources[column], of_tasks[row]])
        steps = (high - low) / (_GRID - 1)
        low, high = np.maximum(best - 1.5 * steps, 0), best + 1.5 * steps
    return float(best[0] ** 2), float(best[1] ** 2)


def _deviance(effects: Floats, variances: Floats, source: NDArray[np.intp], between: Floats) -> Floats:
    """Return minus twice the restricted log likelihood, up to a constant, at each variance between sources."""
    means, precision, squares = _means_of_sources(effects, variances, source)
    weights = 1 / (between[:, None] + 1 / precision)
    mean = (weights * means).sum(1) / weights.sum(1)
    spread = np.log1p(between[:, None] * precision).sum(1) + np.log(weights.sum(1)) + np.log(variances).sum()
    found: Floats = spread + squares.sum() + (weights * (means - mean[:, None]) ** 2).sum(1)
    return found


@dataclass(frozen=True)
class GroupedValues:
    """Values that fall into groups, such as gains by the network that they started from.

    ``blocks`` says what else moves values together and is no part of the question, such as the test set.
    """

    values: Floats
    groups: tuple[Any, ...]
    blocks: tuple[Any, ...]


@dataclass(frozen=True)
class Split:
    """How values scatter within a group and between groups: two standard deviations, and what the split rests on."""

    within_sd: float
    between_sd: float
    within_freedom: int
    between_freedom: int
    projections: Floats  # squares of the values along the directions in which groups differ
    spread: Floats  # by how much the variance between groups counts in each


def split_variance(found: GroupedValues) -> Split | None:
    """Split the variance of values, blocks taken out as fixed effects; None where one of the parts has no freedom.

    The moment estimator of Henderson's method III, which with one block is the analysis of variance.
    """
    blocks, groups = _indicators(found.blocks), _indicators(found.groups)
    residual = np.eye(len(blocks)) - blocks @ np.linalg.pinv(blocks)
    spread, directions = np.linalg.eigh(residual @ groups @ groups.T @ residual)
    kept = spread > 1e-9 * len(groups)
    squares = (directions[:, kept].T @ found.values) ** 2
    between_freedom = int(kept.sum())
    within_freedom = round(float(np.trace(residual))) - between_freedom
    if not between_freedom or within_freedom < 1:
        return None
    within = max(float(((residual @ found.values) ** 2).sum() - squares.sum()) / within_freedom, 1e-12)
    between = max(float((squares.sum() - between_freedom * within) / spread[kept].sum()), 0.0)
    return Split(within**0.5, between**0.5, within_freedom, between_freedom, squares, spread[kept])


def _indicators(names: Sequence[Any]) -> Floats:
    return np.array([[float(name == one) for one in dict.fromkeys(names)] for name in names])


def share_between(splits: Sequence[Split]) -> tuple[float, float, float]:
    """Return the share of the variance that lies between groups, the same in all splits, with its 90 % interval.

    Exact for independent splits of normal values (Wald, Ann Math Stat 18(4):586, 1947): at the true ratio of the
    variances F of each split has the F distribution; its normal scores are added with the square roots of the degrees
    of freedom between groups as weights. The share is where the sum is at its median.
    """
    low, middle, high = (_share_at(splits, level) for level in ((1 + LEVEL) / 2, 0.5, (1 - LEVEL) / 2))
    return middle, low, high


def _share_at(splits: Sequence[Split], level: float) -> float:
    """Return the share at which the sum of the normal scores is at a level; it falls as the share grows."""
    low, high = 0.0, 1 - 1e-6
    score = float(ndtri(level))
    if _score(splits, low) <= score:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(splits, middle) > score else (low, middle)
    return low


def _score(splits: Sequence[Split], share: float) -> float:
    ratio, total = share / (1 - share), 0.0
    for one in splits:
        f = float((one.projections / (1 + ratio * one.spread)).mean()) / one.within_sd**2
        level = np.clip(fdtr(one.between_freedom, one.within_freedom, f), 1e-12, 1 - 1e-12)
        total += one.between_freedom**0.5 * float(ndtri(level))
    return float(total / sum(one.between_freedom for one in splits) ** 0.5)
