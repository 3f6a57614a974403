"""The posterior of the joint learning-curve model: a grid over what is not linear, exact for what is.

Given the exponent c, the shift n0 and the size tau of the model's own error, the curves are linear in a, b and d, so
that part is a weighted least-squares fit in closed form (variable projection): there are no local minima.

Real learning curves are not power laws. What the law leaves over is taken for a smooth random function of the number of
records (``lack_of_fit``), anchored at the largest measured size, as in Kennedy and O'Hagan, Bayesian calibration of
computer models (2001). It gives small sizes less say in the forecast, and lets the forecast drift from the law with its
distance from the largest size. Its constants were chosen on one half of the datasets of LCDB 1.0 (Mohr et al., 2022);
tests/benchmarks/RESULTS.md has the coverage on the other half.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from studies.files.draws import Floats
from studies.fitting.noise import SizeMeans

Form = Literal["no transfer", "n0", "n0 and d", "separate"]
FORMS: tuple[Form, ...] = get_args(Form)
_FORM_PRIOR = {"no transfer": 5.0, "n0": 1.0, "n0 and d": 1.0, "separate": 0.5}  # the simpler, the likelier
_UNCONTROLLED_PRIOR = dict.fromkeys(FORMS, 1.0)  # of another team's network: nothing is known before

_EXPONENTS = np.geomspace(0.04, 6.0, 34)
_EXPONENT_PRIOR = (np.log(0.5), 0.6)  # mean and sd of log c, METHODS.md, Curves
_STEEP_PRIOR, _STEEP = (np.log(2.0), 0.8), 0.1  # that of a few curves, far steeper than the first would believe
_SHIFTS = 32
_SHIFT_PRIOR = (np.log(4.0), 2.0)  # of log n0, in smallest measured sizes: next to nothing is said about it
_OFFSET_SD, _UNCONTROLLED_OFFSET_SD = 0.01, 0.1  # of the prior of d; of another team's network as that of gains
_LEVEL_SD = 1.0  # of the prior of a and b, which are scores: next to nothing is said about them
TAUS = np.geomspace(0.01, 1.0, 7)
_TAU_PRIOR = (np.log(0.02), 1.4)
_BENDING = 0.5  # distances from the largest size grow as (1 - r^-0.5) / 0.5 of the ratio r, not as log r
_ROUGHNESS = 0.1  # share of a drifting level next to that of the drifting slope
_ARM_CORRELATION = 0.98  # of the two arms' lack of fit
_FOLDS = 8  # more sizes than these are left out in groups
_JITTER = 1e-10


@dataclass(frozen=True)
class Nonlinear:
    """What is not linear in the law, of some cells: exponents ``c`` (cells, arms) and the fine-tuned arm's ``n0``."""

    c: Floats
    n0: Floats


@dataclass(frozen=True)
class Grid:
    """The cells of one form over its ``axes``, evenly spaced logs: of c; of c and n0; or of the c of each arm.

    ``log_prior`` has as many axes. ``precision`` is the prior precision of the linear parameters: a and b; or a, b and
    d; or a and b of each arm.
    """

    n_arms: int
    axes: tuple[Floats, ...]
    log_prior: Floats
    precision: Floats

    def at(self, positions: Sequence[Floats]) -> Nonlinear:
        """Return what lies at ``positions`` along each axis, in steps from its first point, also between points."""
        first, *second = (
            np.exp(axis[0] + (axis[1] - axis[0]) * at) for axis, at in zip(self.axes, positions, strict=True)
        )
        if len(self.precision) == 4:
            return Nonlinear(np.stack([first, *second], axis=1), np.zeros(len(first)))
        return Nonlinear(np.repeat(first[:, None], self.n_arms, axis=1), second[0] if second else np.zeros(len(first)))

    def cells(self) -> Nonlinear:
        """Return what lies at the points, in the order of ``log_prior.ravel()``."""
        return self.at(list(np.indices(self.log_prior.shape, np.float64).reshape(len(self.axes), -1)))


@dataclass(frozen=True)
class Linear:
    """The linear part of some cells: ``centre`` (p, cells) and the Cholesky ``root`` (p, p, cells) of its precision.

    ``log_weight`` (cells,) is the log of the data's density there, the prior of the linear part integrated out.
    """

    centre: Floats
    root: Floats
    log_weight: Floats


@dataclass(frozen=True)
class Posterior:
    """The log weights (taus, *axes of the grid) of the cells of a form, all else integrated out."""

    grid: Grid
    log_weight: Floats

    @property
    def log_evidence(self) -> float:
        """The log of the summed weights."""
        return float(np.logaddexp.reduce(self.log_weight, axis=None))


def fit_forms(data: SizeMeans, *, is_controlled: bool = True) -> dict[Form, tuple[float, Posterior]]:
    """Fit the nested forms; return the weight and the posterior of each.

    Of a pre-training that nobody controlled (not ``is_controlled``) it is not believed beforehand that it hardly loses.

    A weight is proportional to the density that the form gives to sizes that were left out (pseudo Bayesian model
    averaging, Geisser and Eddy 1979): the forms that predict left-out sizes no worse than others share the draws.
    """
    if data.n_arms == 1:
        return {"separate": (1.0, condition(data, make_grid("separate", data)))}
    offset_sd = _OFFSET_SD if is_controlled else _UNCONTROLLED_OFFSET_SD
    posteriors = {form: condition(data, make_grid(form, data, offset_sd)) for form in FORMS}
    sizes = np.unique(data.sizes)
    if len(sizes) == 1:
        return {form: (1 / len(FORMS), posterior) for form, posterior in posteriors.items()}
    held_out = [data.without(sizes[fold :: min(_FOLDS, len(sizes))]) for fold in range(min(_FOLDS, len(sizes)))]
    log_density = {
        form: sum(posterior.log_evidence - condition(rest, posterior.grid).log_evidence for rest in held_out)
        for form, posterior in posteriors.items()
    }
    best = max(log_density.values())
    prior = _FORM_PRIOR if is_controlled else _UNCONTROLLED_PRIOR
    weights = {form: prior[form] * np.exp(value - best) for form, value in log_density.items()}
    return {form: (float(weights[form] / sum(weights.values())), posteriors[form]) for form in FORMS}


def make_grid(form: Form, data: SizeMeans, offset_sd: float = _OFFSET_SD) -> Grid:
    """Return the cells of a form and their prior, that of d with a standard deviation of ``offset_sd``."""
    flat = _LEVEL_SD**-2
    log_c = np.log(_EXPONENTS)
    usual, steep = _normal_weights(log_c, *_EXPONENT_PRIOR), _normal_weights(log_c, *_STEEP_PRIOR)
    prior_c = np.logaddexp(np.log(1 - _STEEP) + usual, np.log(_STEEP) + steep)
    if data.n_arms == 1 or form == "no transfer":
        return Grid(data.n_arms, (log_c,), prior_c, np.full(2, flat))
    if form == "separate":
        return Grid(2, (log_c, log_c), np.add.outer(prior_c, prior_c), np.full(4, flat))
    log_n0 = np.linspace(np.log(data.sizes.min() / 8), np.log(data.largest * 8), _SHIFTS)
    prior_n0 = _normal_weights(log_n0 - np.log(data.sizes.min()), *_SHIFT_PRIOR)
    precision = np.array([flat, flat] if form == "n0" else [flat, flat, offset_sd**-2])
    return Grid(2, (log_c, log_n0), np.add.outer(prior_c, prior_n0), precision)


def condition(data: SizeMeans, grid: Grid) -> Posterior:
    """Return the posterior of one form given the size means."""
    left_over = lack_of_fit(data.sizes, data.arms, data.sizes, data.arms, data)
    cells = grid.cells()
    design = _design(cells, len(grid.precision), data)
    prior_tau = _normal_weights(np.log(TAUS), *_TAU_PRIOR)
    log_weight = []
    for tau, log_prior_tau in zip(TAUS, prior_tau, strict=True):
        root = np.linalg.cholesky(total_covariance(data, left_over, tau))
        whiten = np.linalg.inv(root)
        linear = _fit_linear(whiten @ design, (whiten @ data.means)[:, None], grid.precision)
        log_weight.append(linear.log_weight - np.log(np.diag(root)).sum() + log_prior_tau)
    weights = np.array(log_weight).reshape(len(TAUS), *grid.log_prior.shape) + grid.log_prior
    return Posterior(grid, weights)


def fit_linear(data: SizeMeans, grid: Grid, cells: Nonlinear, taus: Floats) -> Linear:
    """Return the linear part of cells between the points of a grid, each with its own tau."""
    left_over = lack_of_fit(data.sizes, data.arms, data.sizes, data.arms, data)
    whiten = np.linalg.inv(np.linalg.cholesky(total_covariance(data, left_over, taus[:, None, None])))
    design = np.einsum("cij,pjc->pic", whiten, _design(cells, len(grid.precision), data))
    return _fit_linear(design, (whiten @ data.means).T, grid.precision)


def total_covariance(data: SizeMeans, left_over: Floats, tau: Floats | float) -> Floats:
    """Return the covariance of the means about the law: the noise of runs and what the law leaves over."""
    return np.asarray(data.covariance + tau**2 * left_over + _JITTER * np.eye(len(data.means)), np.float64)


def _fit_linear(design: Floats, target: Floats, prior: Floats) -> Linear:
    """Fit whitened designs (p, M, cells) to whitened means (M, cells), up to the volume of the whitening."""
    precision = np.einsum("imc,jmc->ijc", design, design) + np.diag(prior)[:, :, None]
    moments = np.einsum("imc,mc->ic", design, np.broadcast_to(target, design.shape[1:]))
    root, centre = _solve(precision, moments)
    log_determinant = 2 * np.log(np.diagonal(root)).sum(axis=-1)
    residual = target - np.einsum("imc,ic->mc", design, centre)
    misfit = (residual**2).sum(axis=0) + prior @ centre**2 + log_determinant
    constant = 0.5 * (len(target) * np.log(2 * np.pi) - np.log(prior).sum())
    return Linear(centre, root, np.asarray(-0.5 * misfit - constant, np.float64))


def _solve(matrices: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Return Cholesky roots of positive definite matrices (p, p, cells), and solutions for right sides (p, cells).

    All cells in one operation: of matrices so small LAPACK would spend most of the time on the calls.
    """
    order = len(right)
    root = np.zeros_like(matrices)
    solved = np.empty_like(right)
    for i in range(order):
        for j in range(i):
            root[i, j] = (matrices[i, j] - (root[i, :j] * root[j, :j]).sum(axis=0)) / root[j, j]
        root[i, i] = np.sqrt(matrices[i, i] - (root[i, :i] ** 2).sum(axis=0))
        solved[i] = (right[i] - (root[i, :i] * solved[:i]).sum(axis=0)) / root[i, i]
    return root, solve_transposed(root, solved)


def solve_transposed(root: Floats, right: Floats) -> Floats:
    """Return root'^-1 right of lower triangular roots (p, p, cells), for right sides (p, cells)."""
    solved = right.copy()
    for i in reversed(range(len(right))):
        solved[i] = (solved[i] - (root[i + 1 :, i] * solved[i + 1 :]).sum(axis=0)) / root[i, i]
    return solved


def lack_of_fit(
    at: Floats, arms_at: NDArray[np.int64], to: Floats, arms_to: NDArray[np.int64], data: SizeMeans
) -> Floats:
    """Return the covariance of what the law leaves over, of sizes ``at`` with sizes ``to``, for tau = 1.

    Zero at the largest size, whose two sides are independent. On each it is an integrated Brownian motion (a slope
    that drifts) with a little Brownian motion (a level that drifts).
    """
    x, y = _distance(at, data.largest), _distance(to, data.largest)
    near, far = np.minimum.outer(np.abs(x), np.abs(y)), np.maximum.outer(np.abs(x), np.abs(y))
    drift = near**2 * (3 * far - near) / 6 + _ROUGHNESS * near
    drift[np.sign(x)[:, None] != np.sign(y)[None, :]] = 0.0
    arms = np.where(arms_at[:, None] == arms_to[None, :], 1.0, _ARM_CORRELATION)
    return np.asarray(drift * arms * np.outer(data.scales[arms_at], data.scales[arms_to]), np.float64)


def _distance(sizes: Floats, largest: float) -> Floats:
    return np.asarray((1 - (sizes / largest) ** -_BENDING) / _BENDING, np.float64)


def _design(cells: Nonlinear, n_linear: int, data: SizeMeans) -> Floats:
    """Return the design (p, M, cells) of the linear parameters, with b as the distance from a at the largest size."""
    fine_tuned = (data.arms == 1).astype(np.float64)[:, None]
    effective = data.sizes[:, None] + cells.n0 * fine_tuned
    falling = -np.exp(-cells.c[:, data.arms].T * np.log(effective / data.largest))
    level = np.ones_like(falling)
    columns = {
        2: [level, falling],
        3: [level, falling, level * fine_tuned],
        4: [level * (1 - fine_tuned), falling * (1 - fine_tuned), level * fine_tuned, falling * fine_tuned],
    }
    return np.stack(columns[n_linear])


def _normal_weights(values: Floats, mean: float, sd: float) -> Floats:
    """Return log weights, which sum to one, of an evenly spaced grid under a normal prior."""
    log_density = -0.5 * ((values - mean) / sd) ** 2
    return np.asarray(log_density - np.logaddexp.reduce(log_density), np.float64)
