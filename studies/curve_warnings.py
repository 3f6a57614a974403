"""What is odd about runs, or too little, before a curve is fitted to them: said in words, not corrected in silence."""

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from studies.curve_draws import Floats
from studies.noise import SizeMeans, row_means
from studies.paired_runs import FEWEST_SIZES, PairedRuns

_SIZES_KEPT = 4  # sizes near chance are left out as long as so many remain
_NEAR_CHANCE = 0.1  # a mean so near to chance says nothing about the shape of the curve
_FEW_DEGREES = 2
_FALSE_ALARMS = 0.05  # of an arm whose curve does not fall


def without_chance_level(runs: PairedRuns) -> tuple[dict[str, Floats], list[str]]:
    """Blank the smallest sizes while their mean is near chance, but keep enough for a curve; say so either way."""
    scores: dict[str, Floats] = {}
    warnings = []
    for arm, values in runs.scores.items():
        means = row_means(values)
        measured = np.flatnonzero(np.isfinite(means))
        above = np.flatnonzero(means >= runs.chance + _NEAR_CHANCE)
        first_above = int(above[0]) if above.size else len(means)
        low = measured[measured < first_above]
        dropped = low[: max(len(measured) - _SIZES_KEPT, 0)] if runs.chance > 0 else low[:0]
        if dropped.size:
            named = ", ".join(f"{n:.0f}" for n in runs.sizes[dropped])
            warnings.append(f"{arm} scored near chance at n = {named}: these sizes are left out of its curve")
            values = values.copy()
            values[dropped] = np.nan
        if runs.chance > 0 and (low := np.setdiff1d(low, dropped)).size:
            named = ", ".join(f"{n:.0f}" for n in runs.sizes[low])
            warnings.append(f"{arm} scored near chance at n = {named}: the shape of its curve is poorly known")
        scores[arm] = values
    return scores, warnings


def thin_evidence(sizes: Floats, scores: Mapping[str, Floats], data: SizeMeans) -> list[str]:
    """Say where little was measured."""
    warnings = []
    for arm, values in scores.items():
        replicates = np.isfinite(values).sum(axis=1)
        if (replicates > 0).sum() == FEWEST_SIZES:
            warnings.append(f"{arm} was measured at two sizes: the shape of its curve is nearly all prior")
        if (alone := sizes[replicates == 1]).size:
            named = ", ".join(f"{n:.0f}" for n in alone)
            warnings.append(f"{arm} has one replicate at n = {named}: its spread is taken from other sizes")
    if (freedom := degrees_of_freedom(data)) < _FEW_DEGREES:
        warnings.append(f"{len(data.means)} means of sizes leave {max(freedom, 0)} degrees of freedom: bands are wide")
    return warnings


def degrees_of_freedom(data: SizeMeans) -> int:
    """Means of sizes less parameters: a, b, c for one arm, and n0 and d for two."""
    return len(data.means) - (3 if data.n_arms == 1 else 5)


def descents(data: SizeMeans, arms: Sequence[str]) -> list[str]:
    """Name sizes that scored clearly less than a smaller size: each is tested against the best before it."""
    found = []
    for number, arm in enumerate(arms):
        rows = np.flatnonzero(data.arms == number)
        clearly = NormalDist().inv_cdf(1 - _FALSE_ALARMS / len(rows))  # standard errors
        best = rows[0]
        for row in rows[1:]:
            variance = data.covariance[row, row] + data.covariance[best, best] - 2 * data.covariance[row, best]
            if data.means[best] - data.means[row] > clearly * np.sqrt(variance):
                n, m = data.sizes[best], data.sizes[row]
                found.append(f"{arm} scored lower at n = {m:.0f} than at n = {n:.0f}: the curve is not monotone")
            best = row if data.means[row] > data.means[best] else best
    return found
