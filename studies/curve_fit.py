"""Posterior draws of learning curves: a grid over the exponents, exact for what is linear (variable projection)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from studies.noise import Noise
from studies.paired_runs import FitError, Floats, PairedRuns

N_DRAWS = 1000
_CANDIDATES, _ROUNDS = 40_000, 10  # candidates are drawn until enough of them are learning curves
_EXPONENTS = np.geomspace(0.08, 2.5, 36)


def draw_parameters(
    runs: PairedRuns, scores: Mapping[str, Floats], noise: Noise, freedom: int, rng: np.random.Generator
) -> dict[str, dict[str, Floats]]:
    """Return draws of a, b, c and n0 of each arm."""
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
            "n0": np.zeros(N_DRAWS),
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
