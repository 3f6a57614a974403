"""How many records it takes to reach a score, and what more records would add."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, hypot

import numpy as np

from advisor.answer.costs import bill, charge
from advisor.answer.decision import DECISIVE
from advisor.answer.question import Question
from studies.files.arms import ARMS, arms_in
from studies.files.curve import Curve
from studies.files.draws import BAND, ScoreGrid, quantiles

_STRATEGIES = {arm.field: arm.strategy for arm in ARMS}


@dataclass(frozen=True)
class Reach:
    """The smallest number of records with which an arm's expected score reaches the target with 80 % probability.

    None where that is more than the evidence reaches; ``p_unreachable`` is the probability that it is. Never less than
    the smallest number that the evidence speaks of. ``total_cost`` is the bill with that many records.
    """

    records: int | None
    p_unreachable: float
    total_cost: float | None


@dataclass(frozen=True)
class MoreRecords:
    """What more labelled records are expected to add to the best arm's score, with the 90 % band of the mean."""

    arm: str
    n_records: int
    score: float
    added: float
    added_ci_lower: float
    added_ci_upper: float


def reach_target(
    question: Question, target: float, grids: Mapping[str, ScoreGrid], least: int, priced_by: Curve
) -> dict[str, Reach]:
    """Return what each arm needs for ``target``; times and prices are those of the curve ``priced_by``.

    ``grids`` holds the scores of every strategy that was measured, ``least`` is the smallest number that the evidence
    speaks of.
    """
    return {
        arm.field: _reach(arm.field, question, target, grids[arm.strategy], least, priced_by) for arm in arms_in(grids)
    }


def _reach(key: str, question: Question, target: float, grid: ScoreGrid, least: int, priced_by: Curve) -> Reach:
    needed = grid.first_reaching(np.full(len(grid.scores), target))
    rank = ceil(DECISIVE * needed.size) - 1
    enough = float(np.partition(needed, rank)[rank])
    p_unreachable = float(np.isinf(needed).mean())
    if np.isinf(enough):
        return Reach(None, p_unreachable, None)
    n_records = max(ceil(enough), least)
    then = charge(priced_by, n_records, question.device_speed)
    return Reach(n_records, p_unreachable, bill(key, then, question, n_records).total)


def add_records(question: Question, curve: Curve, expected: Mapping[str, float]) -> MoreRecords | None:
    """Return what twice the records would add, or as many as the evidence reaches; None where it reaches no further.

    ``expected`` holds the score of each arm now; the best one is asked.
    """
    n = min(2 * question.n_records, curve.reach[1])
    if n <= question.n_records:
        return None
    arm = max(expected, key=lambda key: expected[key])
    then, now = (curve.scores(_STRATEGIES[arm], k)[:, 0] for k in (n, question.n_records))
    low, high = quantiles(then - now, BAND)
    return MoreRecords(arm, n, float(then.mean()), float((then - now).mean()), low, high)


_NORMAL_90 = 1.6448536269514722  # the 95 % quantile of a standard normal variable


@dataclass(frozen=True)
class Score:
    """An expected score: 90 % band of the mean over replicates, and of a single run."""

    mean: float
    mean_ci_lower: float
    mean_ci_upper: float
    obs_ci_lower: float
    obs_ci_upper: float


def summarise_score(curve: Curve, strategy: str, n_records: int) -> Score:
    """Return the expected score of an arm at ``n_records``, with the 90 % bands of the mean and of a single run.

    A single run's distance from the median is that of the mean's band and 1.64 standard deviations of a run, as the
    hypotenuse: exact for normal draws, and more noise never makes a band narrower, which it does to the quantiles of
    a sum when the draws form clusters.
    """
    draws = curve.scores(strategy, n_records)[:, 0]
    low, median, high = quantiles(draws, (BAND[0], 0.5, BAND[1]))
    run = _NORMAL_90 * curve.run_sd(n_records, strategy)
    run_low, run_high = median - hypot(median - low, run), median + hypot(high - median, run)
    return Score(float(draws.mean()), low, high, max(run_low, 0.0), min(run_high, 1.0))
