"""What a task that nobody has measured may look like: random effects over the tasks that were.

At every size the score from scratch, in logits, and what fine-tuning has over it, as a difference of scores, are
mu + u_t of task t, u_t normal with standard deviation tau, and are known with an error of their own: the spread of the
task's draws there, which is large where the task was measured badly or not at all. (In logits a difference and its
error are both large where scores are near 1: tasks with large differences would hardly count.) A task counts with
1 / (error^2 + tau^2), so that one that is barely known hardly counts, and its error is not taken for a difference
between tasks. tau has a half-normal prior (Roever et al., Research Synthesis Methods 12, 2021) and is integrated over
on a grid: with few tasks, for which it is hardly known, the bands are wide. What varies together between tasks, sizes
and arms varies together in the draws: a new task's deviations are the measured tasks' own, added up with random
weights. A further arm is a difference to scratch over the tasks that have it, as the gain is, and changes no draw of
the two arms. The weights follow Student's t, whose degrees of freedom were chosen by holding out each of the nine tasks
that were measured in November 2026.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from studies.files.arms import FURTHER_STRATEGIES, SCRATCH
from studies.files.draws import REACH, Floats, bent, evaluate, no_better_with_fewer
from studies.fitting.further_arms import add_to_scratch
from studies.fitting.learning_curves import N_DRAWS, FitError, LearningCurveResults
from studies.fitting.noise import Noise

FEWEST_TASKS = 2
_SUPPORTING = 2  # tasks at least, and half of them, support a size of the pool
_FEW_TASKS = 5
_AHEAD = (2.0, REACH, 4 * REACH)
LEAST, MOST = 0.02, 0.9995  # scores beyond these count as these: their logit would run away
_FREEDOM = 6  # of Student's t that tasks deviate by: some gain far more than the others
_LEAST_DIFFERENCE = 1e-9


@dataclass(frozen=True)
class _Scale:
    """Of what tasks differ in: the grid of tau, the half-normal scale of its prior, the least error of a task."""

    taus: Floats
    prior: float
    least_error: float


_LOGITS = _Scale(np.concatenate([[0.0], np.geomspace(0.01, 4.0, 60)]), 1.0, 1e-3)
_SCORES = _Scale(np.concatenate([[0.0], np.geomspace(0.001, 0.6, 60)]), 0.1, 1e-4)


def pool_tasks(fits: Mapping[str, LearningCurveResults], seed: int) -> LearningCurveResults:
    """Return draws for a new task from fits of the measured ones (by name), as a result with ``tasks`` set.

    A further arm is in it where two tasks have it. Raises FitError for fewer than two tasks, because how far tasks
    differ cannot be known from one, for tasks that differ in their arms (the further ones apart), and for tasks of
    which too few were measured at the same sizes.
    """
    if len(fits) < FEWEST_TASKS:
        named = " and ".join(fits) or "no task"
        raise FitError(f"{named} alone cannot say how far tasks differ, which takes {FEWEST_TASKS} tasks, better five")
    results = list(fits.values())
    first = results[0]
    arms = tuple(arm for arm in first.arms if arm not in FURTHER_STRATEGIES)
    if any(set(result.arms) - set(FURTHER_STRATEGIES) != set(arms) for result in results):
        raise FitError("the tasks to be pooled differ in their arms")
    sizes = supported_sizes([result.sizes for result in results])
    nodes = np.unique(np.concatenate([sizes[0] / np.array([REACH, 2.0]), sizes, sizes[-1] * np.array(_AHEAD)]))
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((N_DRAWS, len(results)))
    weights *= np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, (N_DRAWS, 1)))
    values = _new_task(results, arms, nodes, (float(sizes[0]), float(sizes[-1])), weights, rng)
    draws = {
        arm: bent(law_through(nodes, values[k], len(nodes) // 2, len(nodes) - 3), nodes, values[k], first.chance)
        for k, arm in enumerate(arms)
    }
    further = {}
    for number, arm in enumerate(FURTHER_STRATEGIES, start=1):
        having = [k for k, result in enumerate(results) if arm in result.arms]
        if len(having) >= FEWEST_TASKS:
            some, its_own = [results[k] for k in having], np.random.default_rng([seed, number])
            ends = float(sizes[0]), float(sizes[-1])
            difference = _difference(some, arm, values[0], nodes, ends, weights[:, having], its_own)
            draws[arm] = add_to_scratch(draws[SCRATCH], nodes, difference, ends[0], first.chance)
            further[arm] = _mean_noise([result.further_noise.get(arm, result.noise) for result in some], ends[1])
    return LearningCurveResults(
        draws=draws,
        sizes=sizes,
        noise=_mean_noise([result.noise for result in results], float(sizes[-1])),
        degrees_of_freedom=len(fits) - 1,
        forms={"pooled": 1.0},
        joint=np.zeros(N_DRAWS, np.bool_),
        warnings=_warn(results),
        chance=first.chance,
        tasks=tuple(fits),
        further_noise={**_of_pair(results, arms, float(sizes[-1])), **further},
    )


def _of_pair(results: Sequence[LearningCurveResults], arms: Sequence[str], largest: float) -> dict[str, Noise]:
    """Return the noise of the arms of every curve but the first."""
    return {
        arm: _mean_noise([result.further_noise.get(arm, result.noise) for result in results], largest)
        for arm in arms[1:]
    }


def _mean_noise(of_tasks: Sequence[Noise], largest: float) -> Noise:
    alpha, gamma, correlation = (
        float(np.mean([getattr(noise, name) for noise in of_tasks])) for name in ("alpha", "gamma", "correlation")
    )
    return Noise(alpha, gamma, correlation, largest=largest)


def supported_sizes(measured: Sequence[Floats]) -> Floats:
    """Return the sizes that the tasks support together, of those of each task (``measured``), ascending.

    They are those at which half of the tasks were measured, and two at least: a task that stops early does not end the
    pool's range, nor does one that goes on alone extend it. Where there are not two such sizes, a size
    of any task counts that lies within the measured range of that many. Raises FitError when there are not two of
    those.
    """
    every, counts = np.unique(np.concatenate(list(measured)), return_counts=True)
    enough = max(-(-len(measured) // 2), min(_SUPPORTING, len(measured)))
    covering = np.sum([(every >= sizes.min()) & (every <= sizes.max()) for sizes in measured], axis=0)
    for support in (counts, covering):
        if len(supported := every[support >= enough]) > 1:
            return np.asarray(supported, np.float64)
    raise FitError("the tasks to be pooled were measured at sizes too different to compare")


def _new_task(
    results: Sequence[LearningCurveResults], arms: Sequence[str], nodes: Floats, ends: tuple[float, float],
    weights: Floats, rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Draw scores (arms, N_DRAWS, nodes) of a new task, supported from node to node of ``ends``, scratch first.

    ``weights`` (draws, tasks) say how the deviations of the measured tasks add up.
    """
    measured = _scores(results, arms, nodes)
    logits = _draw_effects(logit(np.clip(measured[:, 0], LEAST, MOST)), nodes, ends[1], weights, rng, _LOGITS)
    scratch = _no_worse_beyond(np.asarray(expit(logits), np.float64), nodes, ends[1])
    scores = [scratch]
    for k in range(1, len(arms)):  # a difference is far better known than either level
        over = _draw_effects(measured[:, k] - measured[:, 0], nodes, ends[1], weights, rng, _SCORES)
        scores.append(np.minimum(scratch + over, MOST))
    # Few tasks may differ by anything, but a score is expected.
    return no_better_with_fewer(np.maximum(scores, results[0].chance), int((nodes < ends[0]).sum()))


def _no_worse_beyond(scores: Floats, nodes: Floats, largest: float) -> Floats:
    """Shift scores (draws, nodes) beyond the largest size so that their mean does not fall there.

    Tasks differ the more the further they are carried on, which alone would lower the mean of scores that end at 1.
    """
    for j in np.flatnonzero(nodes > largest):
        fall = scores[:, j - 1].mean() - scores[:, j].mean()
        scores[:, j] = np.minimum(scores[:, j] + max(fall, 0.0), MOST)
    return scores


def _difference(
    results: Sequence[LearningCurveResults], arm: str, scratch: Floats, nodes: Floats, ends: tuple[float, float],
    weights: Floats, rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Draw what an arm has over ``scratch`` (draws, nodes) in a new task, from the tasks that have it."""
    measured = _scores(results, (SCRATCH, arm), nodes)
    over = _draw_effects(measured[:, 1] - measured[:, 0], nodes, ends[1], weights, rng, _SCORES)
    return np.asarray(np.clip(scratch + over, results[0].chance, MOST) - scratch, np.float64)


def _scores(results: Sequence[LearningCurveResults], arms: Sequence[str], nodes: Floats) -> Floats:
    """Return the tasks' scores (tasks, arms, draws, nodes)."""
    return np.array([[evaluate(result.draws[arm], nodes, result.chance) for arm in arms] for result in results])


def _draw_effects(
    effects: Floats, nodes: Floats, largest: float, weights: Floats, rng: np.random.Generator, scale: _Scale
) -> Floats:
    """Draw what a new task has (N_DRAWS, nodes) from the draws of an effect (tasks, draws, nodes) of the tasks."""
    centre, error = effects.mean(axis=1), np.maximum(effects.std(axis=1), scale.least_error)  # (tasks, nodes)
    level, least = rng.random(N_DRAWS), np.zeros(N_DRAWS)
    drawn = np.empty((N_DRAWS, len(nodes)))
    for j, node in enumerate(nodes):
        drawn[:, j], taus = _draw_effect(centre[:, j], error[:, j], level, weights, least, scale)
        if node == largest:  # beyond it no task says that tasks differ less: their laws only come to rest
            least = taus
    return drawn


def _draw_effect(
    centre: Floats, error: Floats, level: Floats, weights: Floats, least: Floats, scale: _Scale
) -> tuple[Floats, Floats]:
    """Draw what a new task has at one size, from what the tasks have (``centre`` and its ``error``, of every task).

    ``level`` (draws,) says at which quantile of its posterior tau is drawn, ``least`` (draws,) how small it may be at
    the least, ``weights`` (draws, tasks) how the deviations of the measured tasks add up. Returns the draws, and tau.
    """
    taus = scale.taus
    precision, total, mean = _weighted(centre, error, taus)
    misfit = (precision * (centre - mean[:, None]) ** 2).sum(axis=1)
    log_weight = 0.5 * (np.log(precision).sum(axis=1) - np.log(total) - misfit) - 0.5 * (taus / scale.prior) ** 2
    density = np.exp(log_weight - log_weight.max())
    posterior = density * np.gradient(taus)
    cumulative = np.concatenate([[0.0], np.cumsum(np.diff(taus) * (density[1:] + density[:-1]) / 2)])
    drawn = np.interp(level * cumulative[-1], cumulative, taus)  # between the points too: no draw sits on a border
    typical = float(posterior @ taus / posterior.sum())
    shrunk = (centre - posterior @ mean / posterior.sum()) * typical**2 / (error**2 + typical**2)
    length = float(np.sqrt((shrunk**2).sum()))
    differ = length > _LEAST_DIFFERENCE  # tasks that do not differ do so in no direction but that of their rounding
    normal = weights @ (shrunk / length if differ else np.full(len(shrunk), len(shrunk) ** -0.5))
    widened = np.maximum(drawn, least)
    _, total, mean = _weighted(centre, error, drawn)
    return mean + normal * np.sqrt(widened**2 + 1 / total), widened


def _weighted(centre: Floats, error: Floats, taus: Floats) -> tuple[Floats, Floats, Floats]:
    """Return how much tasks count for each tau (taus, tasks), the sum of that (taus,), and the mean of the tasks."""
    precision = 1 / (error**2 + taus[:, None] ** 2)
    total = precision.sum(axis=1)
    return precision, total, precision @ centre / total


def law_through(nodes: Floats, values: Floats, first: int, last: int) -> dict[str, Floats]:
    """Return for each draw the law of c = 0.5 through its scores at two of the nodes, which are given by position.

    The law only lends its shape between the nodes, where the bend is linear; at them draws are as drawn.
    """
    c = 0.5
    x, y = nodes[first] ** -c, nodes[last] ** -c
    b = np.maximum((values[:, last] - values[:, first]) / (x - y), 0.0)
    a = np.clip(values[:, last] + b * y, LEAST, 1.0)
    return {"a": a, "b": b, "c": np.full(len(values), c), "n0": np.zeros(len(values))}


def _warn(results: Sequence[LearningCurveResults]) -> tuple[str, ...]:
    if len(results) >= _FEW_TASKS:
        return ()
    return (f"how far tasks differ is known from {len(results)} tasks only, and the bands are wide for it",)
