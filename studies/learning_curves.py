"""Performance against the number of labelled records: one power law an arm, both arms fitted together.

    score(n) = a - b * n ** -c          0.5 < a <= 1, b >= 0, c > 0

pow3 is the second best of 16 forms on public learning curves with few sizes (Mohr et al., LCDB, ECML PKDD 2022). The
posterior is computed on a grid over the two exponents; given those the curves are linear in a and b, so that part is
exact (variable projection) and there are no local minima. The replicates of a size are pairs: both arms trained on the
same records from the same seed, and their noise is correlated.

Bands are widened on purpose, because plain bootstrap bands of such fits cover too little: the noise scale of every
draw comes from a t distribution with (sizes - 3) degrees of freedom, and the test set's own sampling noise is added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Floats = NDArray[np.float64]

N_DRAWS = 1000
_CANDIDATES, _ROUNDS = 40_000, 10  # candidates are drawn until enough of them are learning curves
_EXPONENTS = np.geomspace(0.08, 2.5, 36)
_PARAMETERS_PER_ARM = 3
_NEAR_CHANCE = 0.6  # mean AUROC under which a size says nothing about the shape of the curve
_NOISE_SLOPE = (0.55, 0.15)  # prior mean and sd of gamma in log sd = alpha - gamma log n (STUDY.md section 4)


class FitError(ValueError):
    """Runs that no curve can be fitted to; one sentence says why."""


@dataclass(frozen=True)
class PairedRuns:
    """Scores of paired runs: ``scores[arm]`` is (sizes, replicates), NaN where a run is missing.

    ``test_covariance`` (arms, arms) is the sampling covariance of the mean scores from the finite test set.
    """

    sizes: Floats
    scores: Mapping[str, Floats]
    test_covariance: Floats


@dataclass(frozen=True)
class Noise:
    """Spread of a single run: log sd = alpha - gamma log n, and the correlation of the two arms of a pair."""

    alpha: float
    gamma: float
    correlation: float

    def sd(self, n_records: Floats) -> Floats:
        """Return the standard deviation of one run's score at each size."""
        return np.asarray(np.exp(self.alpha - self.gamma * np.log(n_records)), np.float64)


@dataclass(frozen=True)
class CurveFit:
    """Posterior draws of both arms; draw i of one arm belongs to draw i of the other.

    ``draws[arm]`` has arrays a, b and c of N_DRAWS values.
    """

    draws: Mapping[str, Mapping[str, Floats]]
    noise: Noise
    degrees_of_freedom: int
    warnings: tuple[str, ...]


def fit_paired_curves(runs: PairedRuns, seed: int) -> CurveFit:
    """Fit the arms of ``runs`` together. Raises FitError when an arm has fewer than three sizes or one replicate."""
    scores, warnings = _without_chance_level(runs)
    for arm, values in scores.items():
        if (measured := int(np.isfinite(values).any(axis=1).sum())) < _PARAMETERS_PER_ARM:
            raise FitError(f"{arm} was measured at {measured} sizes; a curve needs {_PARAMETERS_PER_ARM}")
    noise = _estimate_noise(runs.sizes, scores)
    warnings += [message for arm, values in scores.items() for message in _descents(runs.sizes, arm, values)]
    sizes_used = min(int(np.isfinite(values).any(axis=1).sum()) for values in scores.values())
    freedom = max(sizes_used - _PARAMETERS_PER_ARM, 1)
    draws = _draw_parameters(runs, scores, noise, freedom, np.random.default_rng(seed))
    return CurveFit(draws, noise, freedom, tuple(warnings))


def _without_chance_level(runs: PairedRuns) -> tuple[dict[str, Floats], list[str]]:
    """Blank the sizes whose mean is near chance, unless too few would be left; say so either way."""
    scores: dict[str, Floats] = {}
    warnings = []
    for arm, values in runs.scores.items():
        means = _row_means(values)
        low = means < _NEAR_CHANCE
        named = ", ".join(f"{n:.0f}" for n in runs.sizes[low])
        if low.any() and (np.isfinite(means) & ~low).sum() >= _PARAMETERS_PER_ARM:
            warnings.append(f"{arm} scored near chance at n = {named}: these sizes are left out of its curve")
            values = np.where(low[:, None], np.nan, values)
        elif low.any():
            warnings.append(f"{arm} scored near chance at n = {named}: the shape of its curve is poorly known")
        scores[arm] = values
    return scores, warnings


def _row_means(values: Floats) -> Floats:
    counts = np.isfinite(values).sum(axis=1)
    means = np.full(len(values), np.nan)
    np.divide(np.nansum(values, axis=1), counts, out=means, where=counts > 0)
    return means


def _estimate_noise(sizes: Floats, scores: Mapping[str, Floats]) -> Noise:
    """Pool the spread of the replicates over sizes and arms. Raises FitError when no size has two replicates."""
    residuals = {arm: values - _row_means(values)[:, None] for arm, values in scores.items()}
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


def _descents(sizes: Floats, arm: str, values: Floats) -> list[str]:
    """Name neighbouring sizes where more records scored clearly less (two standard errors)."""
    rows = [(n, row[np.isfinite(row)]) for n, row in zip(sizes, values, strict=True)]
    rows = [(n, row) for n, row in rows if len(row) > 1]
    found = []
    for (n, fewer), (m, more) in pairwise(rows):
        error = np.sqrt(fewer.var(ddof=1) / len(fewer) + more.var(ddof=1) / len(more))
        if fewer.mean() - more.mean() > 2 * error:
            found.append(f"{arm} scored lower at n = {m:.0f} than at n = {n:.0f}: the curve is not monotone")
    return found


def _draw_parameters(
    runs: PairedRuns, scores: Mapping[str, Floats], noise: Noise, freedom: int, rng: np.random.Generator
) -> dict[str, dict[str, Floats]]:
    arms = list(scores)
    reference = float(np.exp(np.log(runs.sizes).mean()))  # b is drawn as the distance from a at this size
    exponents, designs, targets = _whitened_grid(runs.sizes, scores, noise, reference)
    gram = np.einsum("gip,giq->gpq", designs, designs)  # (grid, parameters, parameters)
    moments = np.einsum("gip,gi->gp", designs, targets)
    centre = np.linalg.solve(gram, moments[:, :, None])[:, :, 0]
    residual = (targets**2).sum(axis=1) - (moments * centre).sum(axis=1)
    log_weight = _log_exponent_prior(exponents).sum(axis=1) - 0.5 * np.linalg.slogdet(gram)[1]
    factor = np.linalg.cholesky(np.linalg.inv(gram))

    def candidates() -> tuple[Floats, Floats]:
        """Draw exponents and linear parameters, and keep those that are learning curves."""
        scale = np.sqrt(freedom / rng.chisquare(freedom, _CANDIDATES))
        cell = _sample_cells(log_weight, residual, scale, rng)
        normal = rng.standard_normal((_CANDIDATES, 2 * len(arms)))
        linear = centre[cell] + scale[:, None] * np.einsum("kpq,kq->kp", factor[cell], normal)
        linear[:, 0::2] += rng.multivariate_normal(np.zeros(len(arms)), runs.test_covariance, _CANDIDATES)
        possible = ((linear[:, 0::2] > 0.5) & (linear[:, 0::2] <= 1) & (linear[:, 1::2] >= 0)).all(axis=1)
        return exponents[cell[possible]], linear[possible]

    c, linear = candidates()
    for _ in range(_ROUNDS - 1):
        if len(c) >= N_DRAWS:
            break
        c, linear = (np.concatenate(pair) for pair in zip((c, linear), candidates(), strict=True))
    if len(c) < N_DRAWS:
        raise FitError(
            f"the runs of {' and '.join(arms)} do not look like learning curves: under "
            f"{N_DRAWS / _ROUNDS / _CANDIDATES:.2%} of the fits rise with more records towards a score of at most 1"
        )
    return {
        arm: {
            "a": linear[:N_DRAWS, 2 * k],
            "b": linear[:N_DRAWS, 2 * k + 1] * reference ** c[:N_DRAWS, k],
            "c": c[:N_DRAWS, k],
        }
        for k, arm in enumerate(arms)
    }


def _whitened_grid(
    sizes: Floats, scores: Mapping[str, Floats], noise: Noise, reference: float
) -> tuple[Floats, Floats, Floats]:
    """Return exponents (grid, arms), designs (grid, observations, 2 * arms) and targets (grid, observations).

    Observations are scaled to unit variance, and the second arm of a pair has what the first predicts taken out.
    """
    arms = list(scores)
    exponents = np.stack(np.meshgrid(*[_EXPONENTS] * len(arms), indexing="ij"), axis=-1).reshape(-1, len(arms))
    sd = noise.sd(sizes)
    rows, targets = [], []
    for s, r in np.ndindex(*scores[arms[0]].shape):
        present = [k for k, arm in enumerate(arms) if np.isfinite(scores[arm][s, r])]
        if not present:
            continue
        covariance = np.full((len(present),) * 2, noise.correlation)
        np.fill_diagonal(covariance, 1.0)
        whiten = np.linalg.inv(np.linalg.cholesky(covariance)) / sd[s]
        design = np.zeros((len(exponents), len(present), 2 * len(arms)))
        for row, k in enumerate(present):
            design[:, row, 2 * k] = 1.0
            design[:, row, 2 * k + 1] = -((sizes[s] / reference) ** -exponents[:, k])
        rows.append(np.einsum("ij,gjp->gip", whiten, design))
        targets.append(whiten @ np.array([scores[arms[k]][s, r] for k in present]))
    target = np.concatenate(targets)
    return exponents, np.concatenate(rows, axis=1), np.broadcast_to(target, (len(exponents), len(target)))


def _log_exponent_prior(exponents: Floats) -> Floats:
    """Return the log density of c ~ logN(log 0.5, 0.6) on a grid that is even in log c."""
    return np.asarray(-0.5 * ((np.log(exponents) - np.log(0.5)) / 0.6) ** 2, np.float64)


def _sample_cells(log_weight: Floats, residual: Floats, scale: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw one grid cell for each noise scale: a larger scale makes the data say less about the exponents."""
    cells = np.empty(len(scale), np.int64)
    order = np.argsort(scale, kind="stable")
    for block in np.array_split(order, 400):  # scales of one block are nearly equal: they share their weights
        log_posterior = log_weight - 0.5 * (residual - residual.min()) / np.median(scale[block]) ** 2
        cumulative = np.cumsum(np.exp(log_posterior - log_posterior.max()))
        uniform = rng.random(len(block)) * cumulative[-1]
        cells[block] = np.minimum(np.searchsorted(cumulative, uniform), len(cumulative) - 1)
    return cells
