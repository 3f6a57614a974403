"""What follows from parameter draws of learning curves, in plain numpy: scores, gain, worth in records, break-even.

A draw of one arm is a law and a bend, ``score(n) = a - b * (n + n0) ** -c + bend(n)`` (METHODS.md, Curves). The bend is
what measured sizes say beyond the law, and how far the curve may drift from it beyond them: ``bend`` (draws, nodes) at
the numbers of records ``nodes``, in between linear in log n, outside as at the ends. Without it a draw is the law.
Draw i of one arm belongs to draw i of the other, so that differences between arms are differences between draws. The
fits and the adviser share this file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.files.arms import FINE_TUNE, SCRATCH

REACH = 4.0  # beyond that many times the measured range nothing is claimed
BAND = (0.05, 0.95)
_GRID_POINTS = 200
_PARTS = np.array([0.5, 0.8, 1.0])  # of the way between two nodes, on a log scale: the law curves there
_LEAST_ROOM = 1e-6  # between a mean score and 1
_AUROC_NAMES, _OTHER_AREAS = {"auroc", "auc"}, {"pr", "prc", "precision"}

Floats = NDArray[np.float64]
Draws = Mapping[str, Floats]


@dataclass(frozen=True)
class Interval:
    """A median and a 90 % interval, of a number of records or what it is worth; None beyond the evidence's reach."""

    median: float | None
    lower: float | None
    upper: float | None


def chance_level(metric: str) -> float:
    """Return what a network that knows nothing scores: 0.5 for an AUROC, else 0, because it depends on the labels."""
    words = set(metric.lower().replace("-", "_").split("_"))
    return 0.5 if words & _AUROC_NAMES and not words & _OTHER_AREAS else 0.0


def run_sd(alpha: float, gamma: float, largest: float, n_records: NDArray[Any] | float) -> Floats:
    """Return the spread of a single run's score, exp(alpha) n^-gamma, which falls half as fast beyond ``largest``."""
    n = np.asarray(n_records, np.float64)
    return np.asarray(
        np.exp(alpha - gamma * np.log(np.minimum(n, largest))) * np.maximum(n / largest, 1) ** (-gamma / 2)
    )


def evaluate(draws: Draws, n_records: NDArray[Any] | float, chance: float = 0.0) -> Floats:
    """Return the expected score of each draw, shape (draws, sizes), at the given numbers of records.

    It stays at ``chance`` (or at its law's own a, if that is less) where it would fall below: a power law falls without
    end towards few records, a network does not.
    """
    n = np.atleast_1d(np.asarray(n_records, np.float64))
    scores = n + draws["n0"][:, None] if "n0" in draws else np.tile(n, (len(draws["a"]), 1))
    np.log(scores, out=scores)  # (n + n0) ** -c as exp(-c log(n + n0)), a fifth of the time, and in place: most of an
    scores *= -draws["c"][:, None]  # answer's arithmetic is this, and new memory costs as much as the arithmetic
    np.exp(scores, out=scores)
    scores *= -draws["b"][:, None]
    scores += draws["a"][:, None]
    least = _least(draws, chance)
    np.maximum(scores, least, out=scores)
    if "bend" in draws:
        _add_bend(scores, np.log(draws["nodes"]), draws["bend"].T, np.log(n))
    return np.asarray(np.clip(scores, least, 1.0, out=scores), np.float64)


def bent(law: Draws, nodes: Floats, scores: Floats, chance: float) -> dict[str, Floats]:
    """Return draws that have the law's shape and go through ``scores`` (draws, nodes) at ``nodes``."""
    return {**law, "nodes": nodes, "bend": np.clip(scores, _least(law, chance), 1.0) - evaluate(law, nodes, chance)}


def _least(law: Draws, chance: float) -> Floats:
    return np.maximum(np.minimum(chance, law["a"]), 0.0)[:, None]


def _add_bend(scores: Floats, nodes: Floats, bend: Floats, at: Floats) -> None:
    """Add the bend (nodes, draws) to scores (draws, sizes): linear between nodes, as at the ends outside of them."""
    at = np.clip(at, nodes[0], nodes[-1])
    left = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2)
    share = (at - nodes[left]) / (nodes[left + 1] - nodes[left])
    scores += bend[left].T
    rise = np.diff(bend, axis=0)[left]
    rise *= share[:, None]
    scores += rise.T


@dataclass(frozen=True)
class ScoreGrid:
    """One arm's scores (draws, points) at numbers of records evenly spaced on a log scale, over the evidence's reach.

    Working them out takes most of the time of what follows from them, so that they are worked out once for all of it.
    """

    log_n: Floats
    scores: Floats

    def first_reaching(self, scores: Floats) -> Floats:
        """Return the smallest n at which each draw reaches its score of ``scores`` (draws,).

        The grid's smallest where it does so there already, infinite where it does not within the grid.
        """
        short = scores[:, None] - self.scores
        reaches = short <= 0
        first = np.argmax(reaches, axis=1)
        reached = np.where(reaches.any(axis=1), self.log_n[0], np.inf)
        inside = np.flatnonzero(first > 0)  # the score is reached between two grid points
        before, after = short[inside, first[inside] - 1], short[inside, first[inside]]
        reached[inside] = self.log_n[first[inside] - 1] + self._step * before / (before - after)
        return np.asarray(np.exp(reached), np.float64)

    def reaching_from(self, n_records: float, scores: Floats) -> Floats:
        """Return the n nearest to ``n_records`` at which each draw has its score of ``scores`` (draws,).

        Above ``n_records`` where the draw scores less there, below it where it scores more: so it is more records
        that are missing and fewer that are too many, also of a draw that does not rise all the way. Infinite where
        the score is not reached within the grid, the grid's smallest where it is never lost.
        """
        reaches = self.scores >= scores[:, None]
        at = float(np.clip(np.log(n_records), self.log_n[0], self.log_n[-1]))
        here = _between(self.log_n, self.scores, at) >= scores
        above = self.log_n > at
        up = np.argmax(reaches & above, axis=1)  # 0 where none is above: the grid begins below n_records or at it
        down = _GRID_POINTS - 1 - np.argmax((~reaches & ~above)[:, ::-1], axis=1)
        lost = (~reaches & ~above).any(axis=1)
        found = np.where(here, self.log_n[0], np.inf)
        for rows, after in ((~here & (up > 0), up), (here & lost, np.minimum(down + 1, _GRID_POINTS - 1))):
            inside, last = np.flatnonzero(rows), after[rows]
            before, beyond = self.scores[inside, last - 1], self.scores[inside, last]
            rise = np.where(beyond == before, 1.0, beyond - before)
            share = np.clip((scores[inside] - before) / rise, 0.0, 1.0)
            found[inside] = self.log_n[last - 1] + self._step * share
        return np.exp(np.where(here, np.minimum(found, at), np.maximum(found, at)))

    def last_ahead(self, other: "ScoreGrid", margin: float) -> Floats:
        """Return the smallest n beyond which each draw stays at or under the other arm's score plus ``margin``.

        The grid's smallest where it never is above, infinite where it still is at its end.
        """
        excess = self.scores - other.scores
        excess -= margin
        above = excess > 0
        after = _GRID_POINTS - np.argmax(above[:, ::-1], axis=1)  # one past the last grid point above the margin
        after = np.where(above.any(axis=1), after, 0)
        ends = np.where(after == 0, self.log_n[0], np.inf)
        inside = np.flatnonzero((after > 0) & (after < _GRID_POINTS))  # it falls to the margin between two points
        high, low = excess[inside, after[inside] - 1], excess[inside, after[inside]]
        ends[inside] = self.log_n[after[inside] - 1] + self._step * high / (high - low)
        return np.asarray(np.exp(ends), np.float64)

    @property
    def _step(self) -> float:
        return float(self.log_n[1] - self.log_n[0])


def _between(nodes: Floats, scores: Floats, at: float) -> Floats:
    """Return each draw's score at ``at``, linear between the nodes."""
    left = min(max(int(np.searchsorted(nodes, at, side="right")) - 1, 0), len(nodes) - 2)
    share = (at - nodes[left]) / (nodes[left + 1] - nodes[left])
    return np.asarray((1 - share) * scores[:, left] + share * scores[:, left + 1])


def no_better_with_fewer(scores: Floats, n_known: int) -> Floats:
    """Return scores (..., nodes), none of the first ``n_known`` higher than the next one.

    Of fewer records than were ever measured nothing is known but that they hardly do better than more: what draws do
    there is prior, and half of them would rise.
    """
    scores = scores.copy()
    for node in range(n_known - 1, -1, -1):
        scores[..., node] = np.minimum(scores[..., node], scores[..., node + 1])
    return scores


def no_fall_beyond(arms: Mapping[str, Draws], largest: float, chance: float) -> dict[str, Draws]:
    """Return draws of which no arm's mean falls beyond the ``largest`` measured size.

    Out there nothing was measured that could fall: what falls is a mean of scores that differ the more the further they
    are carried on, and end at 1. At each node a draw is raised by a share of its distance from 1, the least that it
    takes, which is the same for fine-tuning and scratch: their difference is far better known than how high they score.
    Draws without a bend follow their laws, which rise.
    """
    if any("bend" not in draws for draws in arms.values()):
        return dict(arms)
    pair = {arm: draws for arm, draws in arms.items() if arm in (SCRATCH, FINE_TUNE)}
    alone = ({arm: draws} for arm, draws in arms.items() if arm not in pair)
    raised = {arm: draws for group in (pair, *alone) for arm, draws in _raise_beyond(group, largest, chance).items()}
    return {arm: raised[arm] for arm in arms}


def _raise_beyond(arms: Mapping[str, Draws], largest: float, chance: float) -> Mapping[str, Draws]:
    """Raise arms by the same shares so that no mean falls; the last share goes on where nothing is claimed any more."""
    every = np.unique(np.concatenate([draws["nodes"] for draws in arms.values()]))
    beyond = every[(every > largest) & (every <= REACH * largest)]
    nodes = np.concatenate([[largest], beyond])
    steps = [largest, *(n for left, right in pairwise(nodes) for n in left * (right / left) ** _PARTS)]
    means = np.stack([evaluate(draws, np.array(steps), chance).mean(axis=0) for draws in arms.values()])
    before, means = means[:, :1], means[:, 1:].reshape(len(arms), len(beyond), len(_PARTS))
    shares, added = [0.0], np.zeros((len(arms), 1))
    for j in range(len(beyond)):
        inside = means[:, j] + added * (1 - _PARTS)  # what raising the node on the left adds
        needed = (np.hstack([before, inside[:, :-1]]) - inside[:, -1:]) / (1 - np.append(0.0, _PARTS[:-1]))
        room = np.maximum(1 - means[:, j, -1:], _LEAST_ROOM)
        shares.append(float(np.clip((needed / room).max(), 0.0, 1.0)))
        added = shares[-1] * room
        before = inside[:, -1:] + added
    return arms if not any(shares) else {arm: _raise(draws, nodes, shares, chance) for arm, draws in arms.items()}


def _raise(draws: Draws, nodes: Floats, shares: Sequence[float], chance: float) -> dict[str, Floats]:
    """Raise draws at their nodes by shares of their distance from 1, which are given at ``nodes``."""
    share = np.interp(np.log(draws["nodes"]), np.log(nodes), shares)
    return {**draws, "bend": draws["bend"] + share * (1 - evaluate(draws, draws["nodes"], chance))}


def score_grid(draws: Draws, smallest: float, largest: float, chance: float = 0.0) -> ScoreGrid:
    """Return an arm's scores from ``smallest`` / REACH to REACH times ``largest``, of the measured sizes."""
    log_n = np.linspace(np.log(smallest / REACH), np.log(largest * REACH), _GRID_POINTS)
    return ScoreGrid(log_n, evaluate(draws, np.exp(log_n), chance))


def records_to_reach(draws: Draws, scores: Floats, smallest: float, largest: float, chance: float = 0.0) -> Floats:
    """Return the smallest n at which each draw reaches its score of ``scores`` (draws,).

    ``smallest`` / REACH where it does so there already, infinite where it does not within REACH times ``largest``.
    """
    return score_grid(draws, smallest, largest, chance).first_reaching(scores)


def worth_in_records(
    arms: Mapping[str, Draws], n_records: float, smallest: float, largest: float, chance: float = 0.0
) -> Floats:
    """Return how many more records scratch needs to reach the fine-tuned score at ``n_records``, for each draw.

    Infinite where that takes more records than REACH times ``largest``, negative where fine-tuning is the worse.
    """
    fine_tuned = evaluate(arms[FINE_TUNE], n_records, chance)[:, 0]
    grid = score_grid(arms[SCRATCH], smallest, largest, chance)
    return grid.reaching_from(n_records, fine_tuned) - n_records


def break_even(
    arms: Mapping[str, Draws], margin: float, smallest: float, largest: float, chance: float = 0.0
) -> Floats:
    """Return the smallest n beyond which the gain stays at or under ``margin``, for each draw.

    ``smallest`` / REACH where it never is above, infinite where it still is at REACH times ``largest``.
    """
    fine_tuned, scratch = (score_grid(arms[arm], smallest, largest, chance) for arm in (FINE_TUNE, SCRATCH))
    return fine_tuned.last_ahead(scratch, margin)


def quantiles(values: Floats, at: tuple[float, ...] = BAND) -> list[float]:
    """Return order statistics, which also infinite values have (``np.quantile`` would load numpy.ma at every start)."""
    ranks = [round(q * (values.size - 1)) for q in at]
    ordered = np.partition(values, ranks, axis=None)
    return [float(ordered[rank]) for rank in ranks]


def interval(values: Floats) -> Interval:
    """Summarise numbers of records, of which some may be infinite."""
    lower, median, upper = quantiles(values, (BAND[0], 0.5, BAND[1]))
    return Interval(*(None if not np.isfinite(v) else float(round(v)) for v in (median, lower, upper)))
