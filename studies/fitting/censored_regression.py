"""Linear regression on a right-censored outcome with normal errors: the Tobit model of Tobin (1958).

In the parameters of Olsen (Econometrica 46:1211, 1978), theta = 1 / sigma and delta = beta / sigma, the log likelihood
is concave, so that Newton's method finds its one maximum. A training whose last epoch was its best is censored: the
best epoch lies there or beyond.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

Floats = NDArray[np.float64]

_STEPS, _TOLERANCE = 200, 1e-10
_LEAST_SPREAD = 1e-3  # of the outcome: with less, sigma tends to 0 and the likelihood has no maximum


class CensoredFitError(ValueError):
    """Outcomes that say too little for a fit; one sentence says why."""


@dataclass(frozen=True)
class CensoredFit:
    """``coefficients`` (p,), the residual ``sigma``, and the ``covariance`` (p, p) of the coefficients."""

    coefficients: Floats
    sigma: float
    covariance: Floats
    n_observed: int


def fit_censored(outcome: Floats, design: Floats, censored: NDArray[np.bool_]) -> CensoredFit:
    """Fit ``outcome = design @ coefficients + sigma * normal``; where ``censored``, the true outcome is larger.

    Raises CensoredFitError when fewer outcomes than p + 1 are observed, or these do not tell the coefficients apart.
    """
    n_parameters = design.shape[1]
    observed = ~censored
    if observed.sum() <= n_parameters or np.linalg.matrix_rank(design[observed]) < n_parameters:
        raise CensoredFitError(
            f"{observed.sum()} of {len(outcome)} outcomes were observed to their end, too few for "
            f"{n_parameters} coefficient{'s' * (n_parameters > 1)}"
        )
    start = np.asarray(np.linalg.lstsq(design, outcome, rcond=None)[0], np.float64)
    spread = float(np.std(outcome - design @ start))
    if spread < _LEAST_SPREAD:
        return _without_spread(start, design, observed)
    parameters: Floats = np.asarray(np.append(start, 1.0) / spread, np.float64)
    signed = np.column_stack([design, -outcome])  # the linear predictor of both kinds is signed @ parameters
    value, gradient, hessian = _likelihood(parameters, signed, censored)
    for _ in range(_STEPS):
        direction = np.asarray(np.linalg.solve(hessian, -gradient), np.float64)
        parameters, value, gradient, hessian = _climb(parameters, direction, value, signed, censored)
        if float(gradient @ direction) < _TOLERANCE:
            break
    return _describe(parameters, hessian, observed)


def _climb(
    parameters: Floats, direction: Floats, value: float, signed: Floats, censored: NDArray[np.bool_]
) -> tuple[Floats, float, Floats, Floats]:
    """Take the longest of the steps 1, 1/2, 1/4, ... that keeps theta positive and does not lower the likelihood."""
    step = 1.0
    while step > 1e-8:
        tried = parameters + step * direction
        if tried[-1] > 0 and (found := _likelihood(tried, signed, censored))[0] >= value:
            return tried, *found
        step /= 2
    return parameters, *_likelihood(parameters, signed, censored)


def _likelihood(parameters: Floats, signed: Floats, censored: NDArray[np.bool_]) -> tuple[float, Floats, Floats]:
    """Return log likelihood, gradient and Hessian at (delta, theta)."""
    seen, hidden = signed[~censored], signed[censored]
    theta, z, w = parameters[-1], seen @ parameters, hidden @ parameters
    log_phi, log_cdf = -0.5 * w**2 - 0.5 * np.log(2 * np.pi), log_ndtr(w)
    ratio = np.exp(log_phi - log_cdf)  # phi / Phi, the inverse Mills ratio
    value = len(z) * np.log(theta) - 0.5 * (z**2).sum() + log_cdf.sum()
    gradient = -seen.T @ z + hidden.T @ ratio
    gradient[-1] += len(z) / theta
    hessian = -seen.T @ seen - (hidden * (ratio * (ratio + w))[:, None]).T @ hidden
    hessian[-1, -1] -= len(z) / theta**2
    return float(value), gradient, hessian


def _describe(parameters: Floats, hessian: Floats, observed: NDArray[np.bool_]) -> CensoredFit:
    sigma = 1 / parameters[-1]
    coefficients = parameters[:-1] * sigma
    # beta = delta / theta: the delta method
    jacobian = np.column_stack([np.eye(len(coefficients)), -coefficients]) * sigma
    covariance = jacobian @ np.linalg.inv(-hessian) @ jacobian.T
    return CensoredFit(coefficients, float(sigma), covariance, int(observed.sum()))


def _without_spread(coefficients: Floats, design: Floats, observed: NDArray[np.bool_]) -> CensoredFit:
    n_parameters = design.shape[1]
    nothing = np.zeros((n_parameters, n_parameters))
    return CensoredFit(coefficients, 0.0, nothing, int(observed.sum()))
