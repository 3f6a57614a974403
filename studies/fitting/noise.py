"""How much single runs scatter, and how well the means of their scores are therefore known.

log sd = alpha - gamma log n of each arm, pooled over sizes: from scratch runs scatter more than fine-tuned. Scores of
one replicate go up and down together: the two arms of a pair train on the same records from the same seed, and a
replicate's records and test set may be good or bad ones at every size, unless each size has its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from studies.files.draws import Floats, run_sd
from studies.fitting.paired_runs import FitError

_NOISE_SLOPE = (0.55, 0.15)  # prior mean and sd of gamma (METHODS.md, Noise)
_POOLING = 8  # a size's own variance counts against the law's as its degrees of freedom against these: sizes differ
_STRONGEST = 0.9  # correlations beyond this are not believed
_LEAST_VARIANCE = 1e-9
_ALIKE = 1e-18  # sum of squares of replicates that differ by no more than the rounding of their mean


@dataclass(frozen=True)
class Noise:
    """Spread of a single run: log sd = alpha - gamma log n; correlations within a pair and within a replicate.

    Beyond the ``largest`` measured size it is taken to fall half as fast, because what the test sets add to it does not
    fall. ``degrees_of_freedom`` counts the replicates beyond the first of every size and arm.
    """

    alpha: float
    gamma: float
    correlation: float
    replicate_correlation: float = 0.0
    degrees_of_freedom: int = 1
    largest: float = np.inf

    def sd(self, n_records: Floats) -> Floats:
        """Return the standard deviation of one run's score at each size."""
        return run_sd(self.alpha, self.gamma, self.largest, n_records)


@dataclass(frozen=True)
class SizeMeans:
    """Mean scores (M,), each of an arm (its number) at a size, and the covariance (M, M) of their errors.

    ``scales`` says for each arm how large a lack of fit of 1 is: the range of its means, and how far the last is
    from a perfect score. ``largest`` is the largest size of any arm.
    """

    means: Floats
    arms: NDArray[np.int64]
    sizes: Floats
    covariance: Floats
    scales: Floats
    largest: float

    @property
    def n_arms(self) -> int:
        """How many arms there are."""
        return len(self.scales)

    def without(self, sizes: Floats) -> "SizeMeans":
        """Leave the means at ``sizes`` out."""
        kept = ~np.isin(self.sizes, sizes)
        covariance = self.covariance[np.ix_(kept, kept)]
        return SizeMeans(self.means[kept], self.arms[kept], self.sizes[kept], covariance, self.scales, self.largest)


def row_means(values: Floats) -> Floats:
    """Return the mean of each row over what it has, NaN for a row without anything."""
    counts = np.isfinite(values).sum(axis=1)
    means = np.full(len(values), np.nan)
    np.divide(np.nansum(values, axis=1), counts, out=means, where=counts > 0)
    return means


def estimate_noise(sizes: Floats, scores: Mapping[str, Floats], *, sizes_apart: bool = False) -> dict[str, Noise]:
    """Return the noise of each arm: its own law, and the correlations and degrees of freedom of all arms together.

    An arm without two replicates that differ has the law of all arms. ``sizes_apart`` tells runs of which those of one
    replicate have nothing in common at two sizes, neither records nor seed. Raises FitError when no size of any arm has
    two replicates that differ.
    """
    residuals = {arm: values - row_means(values)[:, None] for arm, values in scores.items()}
    squares = {arm: np.nansum(values**2, axis=1) for arm, values in residuals.items()}
    freedom = {arm: _freedom(values) for arm, values in scores.items()}
    common = _fit_law(sizes, np.sum(list(squares.values()), axis=0), np.sum(list(freedom.values()), axis=0))
    if common is None:
        raise FitError("no size has two replicates that differ, so the spread of a run is unknown; run more replicates")
    laws = {arm: _fit_law(sizes, squares[arm], freedom[arm]) or common for arm in scores}
    scaled = [
        residuals[arm] / np.exp(alpha - gamma * np.log(sizes))[:, None] for arm, (alpha, gamma, _) in laws.items()
    ]
    together = 0.0 if sizes_apart else _replicate_correlation(scaled)
    all_freedom = int(np.sum(list(freedom.values())))
    return {
        arm: Noise(alpha, gamma, _pair_correlation(scaled), together, all_freedom, largest)
        for arm, (alpha, gamma, largest) in laws.items()
    }


def _fit_law(sizes: Floats, squares: Floats, freedom: NDArray[np.int64]) -> tuple[float, float, float] | None:
    """Return alpha, gamma and the largest size of the law; None where no size has two replicates that differ."""
    known = (freedom > 0) & (squares > _ALIKE)
    if not known.any():
        return None
    half = freedom[known] / 2
    log_sd = 0.5 * (np.log(squares[known] / 2) - digamma(half))  # the log of a sample's sd alone is too small
    precision = 2.0 * freedom[known]  # 1 / variance of the log of a standard deviation
    x = np.log(sizes[known])
    centre = np.average(x, weights=precision)
    prior_mean, prior_sd = _NOISE_SLOPE
    slope_precision = (precision * (x - centre) ** 2).sum() + prior_sd**-2
    gamma = (prior_mean * prior_sd**-2 - (precision * (x - centre) * log_sd).sum()) / slope_precision
    alpha = np.average(log_sd, weights=precision) + gamma * centre
    return float(alpha), float(gamma), float(sizes[known].max())


def summarise(sizes: Floats, scores: Mapping[str, Floats], noise: Mapping[str, Noise]) -> SizeMeans:
    """Return the mean score of each arm and size that was measured, and the covariance of these means."""
    first = next(iter(noise.values()))  # of correlations there is one of all arms
    means = np.concatenate([row_means(values) for values in scores.values()])
    measured = np.isfinite(means)
    arms = np.repeat(np.arange(len(scores)), len(sizes))[measured]
    at = np.tile(sizes, len(scores))[measured]
    ran = np.concatenate([np.isfinite(values) for values in scores.values()])[measured].astype(np.float64)
    sd = np.concatenate([_shrunk_sd(sizes, values, noise[arm]) for arm, values in scores.items()])[measured]
    shared = (ran @ ran.T) / np.outer(ran.sum(axis=1), ran.sum(axis=1))  # of two means: the replicates of both
    correlation = np.where(arms[:, None] == arms[None, :], 1.0, first.correlation)
    correlation = correlation * np.where(at[:, None] == at[None, :], 1.0, first.replicate_correlation)
    covariance = correlation * shared * np.outer(sd, sd)
    scales = [_scale(row_means(values)) for values in scores.values()]
    return SizeMeans(means[measured], arms, at, covariance, np.array(scales), float(at.max()))


def _scale(means: Floats) -> float:
    means = means[np.isfinite(means)]
    return float(np.ptp(means) + 1 - means[-1] + 1e-3)


def _freedom(values: Floats) -> NDArray[np.int64]:
    return np.asarray(np.maximum(np.isfinite(values).sum(axis=1) - 1, 0), np.int64)


def _shrunk_sd(sizes: Floats, values: Floats, noise: Noise) -> Floats:
    """Return the sd of a run at each size: the arm's law, corrected by what the size's own replicates say."""
    freedom = _freedom(values)
    squares = np.nansum((values - row_means(values)[:, None]) ** 2, axis=1)
    variance = (_POOLING * noise.sd(sizes) ** 2 + squares) / (_POOLING + freedom)
    return np.asarray(np.sqrt(np.maximum(variance, _LEAST_VARIANCE)), np.float64)


def _pair_correlation(residuals: Sequence[Floats]) -> float:
    """Return the correlation of the two arms at one size and replicate."""
    if len(residuals) == 1:
        return 0.0
    one, other = residuals
    both = np.isfinite(one) & np.isfinite(other)
    return _correlation((one[both] * other[both]).sum(), (one[both] ** 2).sum() * (other[both] ** 2).sum(), -_STRONGEST)


def _replicate_correlation(residuals: Sequence[Floats]) -> float:
    """Return the correlation of two sizes of one arm and replicate, not under zero."""
    product, squares = 0.0, 0.0
    for values in residuals:
        filled = np.nan_to_num(values)
        products = filled @ filled.T
        power = (filled**2) @ np.isfinite(values).T  # of one size over the replicates that the other has too
        product += products.sum() - np.trace(products)
        squares += np.sqrt(power * power.T).sum() - np.trace(power)
    return _correlation(product, squares**2, 0.0)


def _correlation(product: float, squares: float, least: float) -> float:
    return float(np.clip(product / np.sqrt(squares), least, _STRONGEST)) if squares > 0 else 0.0
