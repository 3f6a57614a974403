"""What a task that nobody has measured may look like: random effects over the tasks that were.

At every size each measured task has an expected score of either arm. On the logit scale a new task is their mean plus a
deviation: the tasks' own deviations added up with random normal weights, widened for a mean and a variance that are
known from few tasks. At any size that is exactly the prediction interval of a random-effects analysis, Student's t with
T - 1 degrees of freedom and mean +- t s sqrt(1 + 1/T) (Higgins, Thompson and Spiegelhalter, JRSS A 172, 2009), and what
varies together between tasks, arms and sizes, varies together in the draws. How well a task's own curve is known is
added: the deviation from its mean of a draw of a task taken at random.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import expit, logit

from studies.curve_draws import REACH, Floats, bent, evaluate
from studies.learning_curves import N_DRAWS, FitError, LearningCurveResults
from studies.noise import Noise

FEWEST_TASKS = 2
_FEW_TASKS = 5
_AHEAD = (2.0, REACH, 4 * REACH)
_LEAST, _MOST = 0.02, 0.9995  # scores beyond these count as these: their logit would run away


def pool_tasks(fits: Mapping[str, LearningCurveResults], seed: int) -> LearningCurveResults:
    """Return draws for a new task from fits of the measured ones (by name), as a result with ``tasks`` set.

    Raises FitError for fewer than two tasks, because how far tasks differ cannot be known from one, and for tasks that
    differ in their arms.
    """
    if len(fits) < FEWEST_TASKS:
        named = " and ".join(fits) or "no task"
        raise FitError(f"{named} alone cannot say how far tasks differ, which takes {FEWEST_TASKS} tasks, better five")
    results = list(fits.values())
    first = results[0]
    if len({result.arms for result in results}) > 1:
        raise FitError("the tasks to be pooled differ in their arms")
    sizes = _common_sizes(results)
    nodes = np.unique(np.concatenate([sizes[0] / np.array([REACH, 2.0]), sizes, sizes[-1] * np.array(_AHEAD)]))
    values = _new_task(results, nodes, np.random.default_rng(seed))
    alpha, gamma, correlation = (
        float(np.mean([getattr(r.noise, name) for r in results])) for name in ("alpha", "gamma", "correlation")
    )
    return LearningCurveResults(
        draws={
            arm: bent(_law_through(nodes, values[k]), nodes, values[k], first.chance)
            for k, arm in enumerate(first.arms)
        },
        sizes=sizes,
        noise=Noise(alpha, gamma, correlation),
        degrees_of_freedom=len(fits) - 1,
        forms={"pooled": 1.0},
        joint=np.zeros(N_DRAWS, np.bool_),
        warnings=_warn(results),
        chance=first.chance,
        tasks=tuple(fits),
    )


def _common_sizes(results: Sequence[LearningCurveResults]) -> Floats:
    """Return the sizes that every task has, or where there are not two, those within the range of every task."""
    shared = results[0].sizes
    for result in results[1:]:
        shared = np.intersect1d(shared, result.sizes)
    if len(shared) >= 2:
        return np.asarray(shared, np.float64)
    low, high = max(r.sizes.min() for r in results), min(r.sizes.max() for r in results)
    inside = np.unique(np.concatenate([r.sizes for r in results]))
    inside = inside[(inside >= low) & (inside <= high)]
    if len(inside) < 2:
        raise FitError("the tasks to be pooled were measured at sizes too different to compare")
    return np.asarray(inside, np.float64)


def _new_task(results: Sequence[LearningCurveResults], nodes: Floats, rng: np.random.Generator) -> Floats:
    """Draw scores (arms, N_DRAWS, nodes) of a new task."""
    arms = results[0].arms
    curves = np.array([[evaluate(r.draws[arm], nodes, r.chance) for arm in arms] for r in results])
    curves = np.clip(curves, _LEAST, _MOST)
    logits = logit(curves)  # (tasks, arms, draws, nodes)
    n_tasks = len(results)
    task_means = logits.mean(axis=2)
    mean = task_means.mean(axis=0)
    weights = rng.standard_normal((N_DRAWS, n_tasks)) / np.sqrt(n_tasks - 1)
    scale = np.sqrt((1 + 1 / n_tasks) * (n_tasks - 1) / rng.chisquare(n_tasks - 1, N_DRAWS))
    between = np.einsum("dt,tan->adn", weights * scale[:, None], task_means - mean)
    taken = rng.integers(0, n_tasks, N_DRAWS)
    within = logits[taken, :, np.arange(N_DRAWS)] - task_means[taken]  # (draws, arms, nodes)
    return np.asarray(expit(mean[:, None] + between + within.transpose(1, 0, 2)), np.float64)


def _law_through(nodes: Floats, values: Floats) -> dict[str, Floats]:
    """Return for each draw the law of c = 0.5 through its score at the middle node and at the last but two.

    The law only lends its shape between the nodes, where the bend is linear; at them draws are as drawn.
    """
    middle, late = len(nodes) // 2, len(nodes) - 3
    c = 0.5
    x, y = nodes[middle] ** -c, nodes[late] ** -c
    b = np.maximum((values[:, late] - values[:, middle]) / (x - y), 0.0)
    a = np.clip(values[:, late] + b * y, _LEAST, 1.0)
    return {"a": a, "b": b, "c": np.full(len(values), c), "n0": np.zeros(len(values))}


def _warn(results: Sequence[LearningCurveResults]) -> tuple[str, ...]:
    if len(results) >= _FEW_TASKS:
        return ()
    return (f"how far tasks differ is known from {len(results)} tasks only, and the bands are wide for it",)
