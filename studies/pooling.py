"""What a task that nobody has measured may look like: random effects over the tasks that were.

For T tasks with curves known at some sizes, a new task's curve is drawn as mean + deviation, where the deviation is the
tasks' own deviations added up with random normal weights, widened for an unknown variance and mean. Any score at any
size then has exactly the classical prediction interval, Student's t with T - 1 degrees of freedom, mean +- t s
sqrt(1 + 1/T), and what varies together between tasks (arms, sizes) varies together in the draws.
"""

from collections.abc import Mapping

import numpy as np

from studies.learning_curves import N_DRAWS, FitError, LearningCurveResults
from studies.noise import Noise
from studies.paired_runs import Floats

FEWEST_TASKS = 2


def pool_tasks(fits: Mapping[str, LearningCurveResults], seed: int) -> LearningCurveResults:
    """Return draws for a new task from fits of the measured ones (by name), as a result with ``tasks`` set.

    Raises FitError for fewer than two tasks: how far tasks differ cannot be known from one.
    """
    if len(fits) < FEWEST_TASKS:
        raise FitError(
            f"{' and '.join(fits) or 'nothing'} alone cannot say how far tasks differ; fit two tasks or more"
        )
    first = next(iter(fits.values()))
    n_tasks = len(fits)
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((N_DRAWS, n_tasks)) / np.sqrt(n_tasks - 1)
    scale = np.sqrt((1 + 1 / n_tasks) * (n_tasks - 1) / rng.chisquare(n_tasks - 1, N_DRAWS))
    draws = {}
    for arm in first.arms:
        medians = np.array(
            [[_link(name, np.median(fit.draws[arm][name])) for name in ("a", "b", "c", "n0")] for fit in fits.values()]
        )
        new = medians.mean(axis=0) + scale[:, None] * (weights @ (medians - medians.mean(axis=0)))
        draws[arm] = {name: _unlink(name, new[:, k]) for k, name in enumerate(("a", "b", "c", "n0"))}
    noise = Noise(*np.mean([(f.noise.alpha, f.noise.gamma, f.noise.correlation) for f in fits.values()], axis=0))
    sizes = np.unique(np.concatenate([fit.sizes for fit in fits.values()]))
    return LearningCurveResults(draws, sizes, noise, n_tasks - 1, {}, (), first.chance, tuple(fits))


def _link(name: str, value: float) -> float:
    return float(np.log(1 - value) if name == "a" else np.log1p(value) if name == "n0" else np.log(value))


def _unlink(name: str, value: Floats) -> Floats:
    if name == "a":
        return np.asarray(np.maximum(1 - np.exp(value), 0.5), np.float64)
    if name == "n0":
        return np.asarray(np.maximum(np.expm1(value), 0.0), np.float64)
    return np.asarray(np.exp(value) if name == "b" else np.clip(np.exp(value), 0.01, 9.0), np.float64)
