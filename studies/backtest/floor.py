"""What an oracle would be charged: a measured regret is above zero also of who knows every expected score.

The better arm of a cell is told from means of a few runs. Where the arms are nearly equal it is often the other one
that is better in truth, and whoever names that one is charged the difference. What it comes to depends on where the
true differences lie, which is estimated from all measured cells (empirical Bayes), never from a forecast, so that it is
the same for every model that is judged:

    X_k(n) - X_0(n) = (n / 500)^-c (mu_k + u_k),   u ~ N(0, T),   measured with the error of the cell's truth

c from a grid, mu and T by maximum likelihood (EM). Given what was measured of a cell, its true differences follow a
normal distribution; the oracle names the arm that is best in a draw of it, and is charged by the measured means.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studies.backtest.truth import Truth

Floats = NDArray[np.float64]

FEWEST_CELLS = 3  # from which anything can be said of where the differences lie
_EXPONENTS = np.arange(0.0, 1.51, 0.1)
_ROUNDS, _MORE_ROUNDS = 100, 2000  # of EM, for each exponent and for the likeliest: near zero a variance moves slowly
_DRAWS = 4000
_TYPICAL = 500.0
_LEAST = 1e-10  # of a variance


@dataclass(frozen=True)
class Reference:
    """Where the true differences to the first of ``arms`` lie: their mean (arms - 1,) and covariance at 500 records."""

    arms: tuple[str, ...]
    exponent: float
    mean: Floats
    covariance: Floats

    def draw_scores(self, n_records: float, truth: Truth) -> Floats:
        """Draw the true scores of a cell, (draws, arms), less that of the first arm, given what was measured."""
        scale = (n_records / _TYPICAL) ** -self.exponent
        difference, error = _differences(truth.among(self.arms))
        centre, remaining = _condition(difference[None] / scale, error[None] / scale**2, self.mean, self.covariance)
        root = np.linalg.cholesky(remaining[0] + _LEAST * np.eye(len(self.mean)))
        normal = np.random.default_rng(0).standard_normal((_DRAWS // 2, len(self.mean)))
        drawn = scale * (centre[0] + np.concatenate([normal, -normal]) @ root.T)
        return np.concatenate([np.zeros((_DRAWS, 1)), drawn], axis=1)


def fit_reference(arms: Sequence[str], cells: Sequence[tuple[float, Truth]]) -> Reference | None:
    """Estimate where true differences lie from distinct cells (size and truth); None from too few."""
    if len(cells) < FEWEST_CELLS or len(arms) < 2:
        return None
    sizes = np.array([n for n, _ in cells])
    found = [_differences(truth.among(arms)) for _, truth in cells]
    differences, errors = np.array([one for one, _ in found]), np.array([error for _, error in found])
    scales = [(sizes / _TYPICAL) ** -c for c in _EXPONENTS]
    likely = int(np.argmax([_fit(scale, differences, errors, _ROUNDS)[0] for scale in scales]))
    _, mean, covariance = _fit(scales[likely], differences, errors, _MORE_ROUNDS)
    return Reference(tuple(arms), float(_EXPONENTS[likely]), mean, covariance)


def charge_oracle(means: Floats, drawn: Floats) -> float:
    """Return the measured regret of who names the truly best arm, by measured ``means`` (arms,) and drawn scores."""
    chosen = np.bincount(drawn.argmax(axis=1), minlength=len(means)) / len(drawn)
    return float(means.max() - chosen @ means)


def _differences(truth: Truth) -> tuple[Floats, Floats]:
    to_first = np.concatenate([-np.ones((len(truth.arms) - 1, 1)), np.eye(len(truth.arms) - 1)], axis=1)
    return to_first @ truth.means, to_first @ truth.covariance @ to_first.T + _LEAST * np.eye(len(to_first))


def _fit(scale: Floats, differences: Floats, errors: Floats, rounds: int) -> tuple[float, Floats, Floats]:
    """Return the log likelihood, the mean and the covariance of the scaled true differences (cells, k)."""
    y, error = differences / scale[:, None], errors / scale[:, None, None] ** 2
    mean, covariance = y.mean(axis=0), np.cov(y.T).reshape(y.shape[1], y.shape[1])
    for _ in range(rounds):
        centre, remaining = _condition(y, error, mean, covariance)
        mean = centre.mean(axis=0)
        away = centre - mean
        covariance = (remaining + away[:, :, None] * away[:, None, :]).mean(axis=0)
    total = covariance + error
    away = (y - mean)[:, :, None]
    misfit = (away * np.linalg.solve(total, away)).sum()
    likelihood = -0.5 * (np.linalg.slogdet(total)[1].sum() + misfit) - y.shape[1] * np.log(scale).sum()
    return float(likelihood), mean, covariance


def _condition(y: Floats, error: Floats, mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Return mean (cells, k) and covariance (cells, k, k) of the true differences given the measured ``y``."""
    gain = np.swapaxes(np.linalg.solve(covariance + error, np.broadcast_to(covariance, error.shape)), 1, 2)
    centre = mean + np.einsum("cij,cj->ci", gain, y - mean)
    remaining = covariance - gain @ covariance
    return centre, (remaining + np.swapaxes(remaining, 1, 2)) / 2
