"""How many records it takes to reach a score, and what more records would add."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np

from advisor.costs import bill, charge
from advisor.decision import DECISIVE
from advisor.question import Question
from studies.curve_draws import BAND, FINE_TUNE, REACH, SCRATCH, ScoreGrid, quantiles
from studies.curves_file import PairedCurve

ARMS = {"scratch": SCRATCH, "fine_tune": FINE_TUNE}


@dataclass(frozen=True)
class Reach:
    """The smallest number of records with which an arm's expected score reaches the target with 80 % probability.

    None where that is more than the evidence reaches; ``p_unreachable`` is the probability that it is. Never less than
    the smallest number that the evidence speaks of. ``total_cost`` is the bill with so many records.
    """

    records: int | None
    p_unreachable: float
    total_cost: float | None


@dataclass(frozen=True)
class MoreRecords:
    """What more labelled records are expected to add to the better arm's score, with the 90 % band of the mean."""

    arm: str
    n_records: int
    score: float
    added: float
    added_ci_lower: float
    added_ci_upper: float


def reach_target(
    question: Question, target: float, grids: Mapping[str, ScoreGrid], least: int, priced_by: PairedCurve
) -> dict[str, Reach]:
    """Return what each arm needs for ``target``; times and prices are those of the curve ``priced_by``.

    ``grids`` holds the scores of each strategy, ``least`` is the smallest number that the evidence speaks of.
    """
    return {key: _reach(key, question, target, grids[arm], least, priced_by) for key, arm in ARMS.items()}


def _reach(key: str, question: Question, target: float, grid: ScoreGrid, least: int, priced_by: PairedCurve) -> Reach:
    needed = grid.first_reaching(np.full(len(grid.scores), target))
    rank = ceil(DECISIVE * needed.size) - 1
    enough = float(np.partition(needed, rank)[rank])
    p_unreachable = float(np.isinf(needed).mean())
    if np.isinf(enough):
        return Reach(None, p_unreachable, None)
    n_records = max(ceil(enough), least)
    then = charge(priced_by, n_records, question.device_speed)
    return Reach(n_records, p_unreachable, bill(key, then, question, n_records).total)


def add_records(question: Question, curve: PairedCurve, expected: Mapping[str, float]) -> MoreRecords | None:
    """Return what twice the records would add, or as many as the evidence reaches; None where it reaches no further.

    ``expected`` holds the score of each arm now; the better one is asked.
    """
    n = min(2 * question.n_records, int(max(curve.sizes) * REACH))
    if n <= question.n_records:
        return None
    arm = max(expected, key=lambda key: expected[key])
    then, now = (curve.scores(ARMS[arm], k)[:, 0] for k in (n, question.n_records))
    low, high = quantiles(then - now, BAND)
    return MoreRecords(arm, n, float(then.mean()), float((then - now).mean()), low, high)
