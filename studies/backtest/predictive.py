"""A forecast of what will be measured: draws of the expected score and normal noise on each, a mixture of normals.

Its distribution function, density and CRPS have closed forms, so that no random number and no bandwidth is in a score.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr

Floats = NDArray[np.float64]

_PAIRED = 250  # draws of which all pairs are taken: means over all draws hardly differ
_FAR, _HALVINGS = 6.0, 40
_LOG_ROOT = 0.5 * np.log(2 * np.pi)


def probability_below(value: float, draws: Floats, sd: float) -> float:
    """Return the probability that a measurement with noise ``sd`` (above 0) is at most ``value``."""
    return float(ndtr((value - draws) / sd).mean())


def quantile(level: float, draws: Floats, sd: float) -> float:
    """Return the measurement that is exceeded with probability 1 - ``level``."""
    low, high = float(draws.min()) - _FAR * sd, float(draws.max()) + _FAR * sd
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if probability_below(middle, draws, sd) < level else (low, middle)
    return (low + high) / 2


def log_score(value: float, draws: Floats, sd: float) -> float:
    """Return the log density of what was measured; higher is better."""
    log_density = -0.5 * ((value - draws) / sd) ** 2
    return float(logsumexp(log_density) - np.log(len(draws) * sd) - _LOG_ROOT)


def crps(value: float, draws: Floats, sd: float) -> float:
    """Return the continuous ranked probability score, in units of the score; lower is better.

    E|X - y| - E|X - X'| / 2 (Gneiting and Raftery 2007); for mixtures of normals by Grimit et al. 2006.
    """
    few = np.quantile(draws, (np.arange(_PAIRED) + 0.5) / _PAIRED)
    between = _mean_distance(few[:, None] - few[None, :], 2**0.5 * sd)
    return _mean_distance(draws - value, sd) - 0.5 * between


def _mean_distance(shift: Floats, sd: float) -> float:
    """Return the mean of |Z| over normal Z about each ``shift``."""
    z = shift / sd
    return float((shift * (2 * ndtr(z) - 1) + 2 * sd * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)).mean())
