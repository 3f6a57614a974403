"""Estimates of tasks and how they become one: random effects (two-stage meta-analysis)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]
LEVEL = 0.90
_PRIOR_FREEDOM = 4
_FEWEST_TO_PREDICT = 3  # tasks


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
