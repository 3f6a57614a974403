"""How much single runs scatter: log sd = alpha - gamma log n, pooled over both arms, and correlated within a pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma

from studies.paired_runs import FitError, Floats

_NOISE_SLOPE = (0.55, 0.15)  # prior mean and sd of gamma (STUDY.md section 4)


@dataclass(frozen=True)
class Noise:
    """Spread of a single run: log sd = alpha - gamma log n, and the correlation of the two arms of a pair."""

    alpha: float
    gamma: float
    correlation: float

    def sd(self, n_records: Floats) -> Floats:
        """Return the standard deviation of one run's score at each size."""
        return np.asarray(np.exp(self.alpha - self.gamma * np.log(n_records)), np.float64)


def estimate_noise(sizes: Floats, scores: Mapping[str, Floats]) -> Noise:
    """Pool the spread of the replicates over sizes and arms. Raises FitError when no size has two replicates."""
    residuals = {arm: values - row_means(values)[:, None] for arm, values in scores.items()}
    freedom = {arm: np.maximum(np.isfinite(values).sum(axis=1) - 1, 0) for arm, values in scores.items()}
    weights = sum(freedom.values())
    squares = sum(np.nansum(values**2, axis=1) for values in residuals.values())
    known = (weights > 0) & (squares > 0)
    if not known.any():
        raise FitError("no size has two replicates that differ, so the spread of a run is unknown")
    half = weights[known] / 2
    log_sd = 0.5 * (np.log(squares[known] / 2) - digamma(half))  # the log of a sample's sd alone is too small
    precision = 2.0 * weights[known]  # 1 / variance of the log of a standard deviation
    x = np.log(sizes[known])
    centre = np.average(x, weights=precision)
    prior_mean, prior_sd = _NOISE_SLOPE
    slope_precision = (precision * (x - centre) ** 2).sum() + prior_sd**-2
    gamma = (prior_mean * prior_sd**-2 - (precision * (x - centre) * log_sd).sum()) / slope_precision
    alpha = np.average(log_sd, weights=precision) + gamma * centre
    sd = np.exp(alpha - gamma * np.log(sizes))[:, None]
    return Noise(float(alpha), float(gamma), _pair_correlation([values / sd for values in residuals.values()]))


def _pair_correlation(residuals: Sequence[Floats]) -> float:
    if len(residuals) != 2:
        return 0.0
    one, other = residuals
    both = np.isfinite(one) & np.isfinite(other)
    scale = np.sqrt((one[both] ** 2).sum() * (other[both] ** 2).sum())
    return float(np.clip((one[both] * other[both]).sum() / scale, -0.9, 0.9)) if scale > 0 else 0.0


def row_means(values: Floats) -> Floats:
    """Return the mean of each row over what it has, NaN for a row without anything."""
    counts = np.isfinite(values).sum(axis=1)
    means = np.full(len(values), np.nan)
    np.divide(np.nansum(values, axis=1), counts, out=means, where=counts > 0)
    return means
