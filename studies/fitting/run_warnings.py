"""What is odd about runs, or too little, before a curve is fitted to them: said in words, not corrected in silence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from studies.files.draws import Floats
from studies.fitting.noise import SizeMeans, row_means
from studies.fitting.paired_runs import FEWEST_SIZES, PairedRuns
from studies.fitting.stable_draws import covariance_root

_SIZES_KEPT = 4  # sizes near chance are left out as long as that many remain
_NEAR_CHANCE = 0.1  # a mean so near to chance says nothing about the shape of the curve
_FEW_DEGREES = 2
_FALSE_ALARMS = 0.05  # of an arm whose curve neither rises nor falls
_CHANCES = 1000
_NEARLY_ALL = 0.8  # of the arms fall: then it is the metric that does
_LEAST_P = 1e-12  # keeps an exact line, whose p is 0 or 1, from outweighing all others
_FALSE_REFUSALS = 0.01  # of tables whose scores neither rise nor fall


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
            these = "these sizes are" if dropped.size > 1 else "this size is"
            warnings.append(f"{arm} scored near chance at n = {named}: {these} left out of its curve")
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
        plural = "" if freedom == 1 else "s"
        warnings.append(
            f"{len(data.means)} means of sizes leave {max(freedom, 0)} degree{plural} of freedom: bands are wide"
        )
    return warnings


def degrees_of_freedom(data: SizeMeans) -> int:
    """Means of sizes less parameters: a, b, c for one arm, and n0 and d for two."""
    return len(data.means) - (3 if data.n_arms == 1 else 5)


@dataclass(frozen=True)
class Descent:
    """An arm (its number) that scored clearly less at larger sizes than at smaller ones; ``fall`` is by how much."""

    arm: int
    before: float
    after: float
    fall: float

    def describe(self, name: str) -> str:
        """Return it in words."""
        return f"{name} scored lower at n = {self.after:.0f} than at n = {self.before:.0f}: the curve is not monotone"


def descents(data: SizeMeans, freedom: int, rng: np.random.Generator) -> list[Descent]:
    """Return the arms whose scores fall with more records, tested one by one.

    Every block of neighbouring sizes is compared with the block that follows it. The largest difference in standard
    errors is held against what chance makes of it where the scores neither rise nor fall, the case in which it is the
    largest; ``freedom`` counts what the spread of a run was estimated from.
    """
    found = []
    for arm in range(data.n_arms):
        rows = np.flatnonzero(data.arms == arm)
        if len(rows) < 2:
            continue
        means, covariance = data.means[rows], data.covariance[np.ix_(rows, rows)]
        contrasts = _falls_between_blocks(len(rows))
        errors = np.sqrt(np.einsum("ci,ij,cj->c", contrasts, covariance, contrasts))
        observed = contrasts @ means / errors
        chance = rng.standard_normal((_CHANCES, len(rows))) @ covariance_root(covariance).T
        chance = chance @ (contrasts / errors[:, None]).T
        chance *= np.sqrt(freedom / rng.chisquare(freedom, (_CHANCES, 1)))
        if observed.max() > 0 and (chance.max(axis=1) >= observed.max()).mean() < _FALSE_ALARMS:
            after = int(np.flatnonzero(contrasts[observed.argmax()] < 0)[-1])
            before = int(means[:after].argmax())
            found.append(Descent(arm, data.sizes[rows[before]], data.sizes[rows[after]], _largest_fall(means)))
    return found


def _falls_between_blocks(n_sizes: int) -> Floats:
    """Return the contrasts (contrasts, sizes): the mean of a block of sizes less that of the block that follows."""
    rows = []
    for start in range(n_sizes - 1):
        for middle in range(start + 1, n_sizes):
            for end in range(middle + 1, n_sizes + 1):
                row = np.zeros(n_sizes)
                row[start:middle] = 1 / (middle - start)
                row[middle:end] = -1 / (end - middle)
                rows.append(row)
    return np.array(rows)


def _largest_fall(means: Floats) -> float:
    return float((np.maximum.accumulate(means) - means).max())


def count_falling(arms: Sequence[Sequence[tuple[int, float]]]) -> tuple[int, int]:
    """Return how many arms fall where nearly all clearly do, else 0, and how many have enough runs to tell.

    An arm is the (n_records, score) of its runs: three or more at two sizes or more. A line of the scores over log
    n_records is tested for a slope below 0, one-sided, and the arms' tests are combined (Stouffer et al. 1949).
    """
    from scipy.stats import combine_pvalues, linregress

    judged = [arm for arm in arms if len(arm) > 2 and len({n for n, _ in arm}) > 1]
    lines = [linregress(*_over_log_n(arm), alternative="less") for arm in judged]
    falling = sum(bool(line.slope < 0) for line in lines)
    if not lines or falling < _NEARLY_ALL * len(lines):
        return 0, len(lines)
    known = np.nan_to_num([line.pvalue for line in lines], nan=0.5)  # equal scores say nothing either way
    p_values = np.clip(known, _LEAST_P, 1 - _LEAST_P)
    return (falling if combine_pvalues(p_values, "stouffer").pvalue < _FALSE_REFUSALS else 0), len(lines)


def _over_log_n(arm: Sequence[tuple[int, float]]) -> tuple[Floats, Floats]:
    n_records, scores = np.array(arm, np.float64).T
    return np.log(n_records), scores
