"""From the posterior of the model to draws of whole curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from studies.files.draws import REACH, Floats
from studies.fitting.noise import SizeMeans
from studies.fitting.posterior import TAUS, Form, Posterior, fit_linear, lack_of_fit, solve_transposed, total_covariance
from studies.fitting.stable_draws import between_own_points, between_points, covariance_root, draw_positions

N_DRAWS = 1000
_ROUNDS = 100  # in which every draw that is not a learning curve yet is drawn anew
_BEHIND, _AHEAD = (0.25, 0.5), (2.0, 4.0, 16.0, 64.0)  # where curves are drawn next to the measured sizes
# The drift beyond the largest size, in that of the model: so many times what a draw's law has still to rise, in scales
# of the curve, from the least to the most. Found by holding out the largest sizes of real curves (METHODS.md, Curves).
_DRIFT_OF_RISE, _LEAST_DRIFT, _MOST_DRIFT = 8.0, 1.0, 2.2
_MOST_LINEAR, _MOST_AXES = 4, 2  # parameters and axes of a form


@dataclass(frozen=True)
class Laws:
    """Draws of the law: a, b and c (draws, arms) with b as the distance from a at the largest size; n0 (draws,).

    ``form`` is the number of the draw's form, ``tau`` (draws,) the size of the model's own error, ``scale`` that of its
    noise, ``shift`` (draws, arms) what the finite test set may have added to every score.
    """

    a: Floats
    b: Floats
    c: Floats
    n0: Floats
    form: NDArray[np.int64]
    tau: Floats
    scale: Floats
    shift: Floats

    def scores(self, sizes: Floats, arms: NDArray[np.int64], largest: float) -> Floats:
        """Return the law's scores (draws, M) of arms at sizes."""
        effective = sizes + self.n0[:, None] * (arms == 1)
        return np.asarray(self.a[:, arms] - self.b[:, arms] * (effective / largest) ** -self.c[:, arms], np.float64)

    def take(self, rows: NDArray[np.int64]) -> "Laws":
        """Return some of the draws."""
        return Laws(**{name.name: getattr(self, name.name)[rows] for name in fields(self)})

    def put(self, rows: NDArray[np.int64], others: "Laws") -> "Laws":
        """Return the draws with others in the place of some."""
        placed = {name.name: getattr(self, name.name).copy() for name in fields(self)}
        for name, values in placed.items():
            values[rows] = getattr(others, name)
        return Laws(**placed)


@dataclass(frozen=True)
class _Chance:
    """The random numbers that a law is made of, a row a draw: uniform ones, normal ones, the scale of its noise."""

    form: Floats
    tau: Floats
    axes: Floats
    linear: Floats
    scale: Floats
    test: Floats

    @classmethod
    def draw(cls, n_arms: int, freedom: int, rng: np.random.Generator) -> "_Chance":
        return cls(
            form=rng.random(N_DRAWS),
            tau=rng.random(N_DRAWS),
            axes=rng.random((N_DRAWS, _MOST_AXES)),
            linear=rng.standard_normal((N_DRAWS, _MOST_LINEAR)),
            scale=np.sqrt(freedom / rng.chisquare(freedom, N_DRAWS)),
            test=rng.standard_normal((N_DRAWS, n_arms)),
        )

    def take(self, rows: NDArray[np.int64]) -> "_Chance":
        return _Chance(**{name.name: getattr(self, name.name)[rows] for name in fields(self)})


def draw_laws(
    forms: Mapping[Form, tuple[float, Posterior]],
    data: SizeMeans,
    test_covariance: Floats,
    freedom: int,
    rng: np.random.Generator,
) -> tuple[Laws, bool]:
    """Draw N_DRAWS laws that are learning curves, a between 0 and 1 and b not negative, and say whether that went well.

    ``freedom`` counts what the spread of a run was estimated from: the noise of each draw has a scale of its own, so
    that the draws follow Student's t. Each draw is drawn anew, from numbers of its own, until it is a learning curve:
    what one needs changes no other. Where hardly any law under the posterior is a learning curve, the laws are flat.
    """
    test_root = covariance_root(test_covariance)
    rows = np.arange(N_DRAWS)
    laws: Laws | None = None
    for _ in range(_ROUNDS):
        drawn = _draw(forms, data, test_root, _Chance.draw(data.n_arms, freedom, rng).take(rows))
        laws = drawn if laws is None else laws.put(rows, drawn)
        level = drawn.a + drawn.shift
        rows = rows[~((level > 0) & (level <= 1) & (drawn.b >= 0)).all(axis=1)]
        if not len(rows):
            return laws, True
    assert laws is not None
    return laws.put(rows, _flatten(laws.take(rows))), len(rows) < N_DRAWS / 2


def _flatten(laws: Laws) -> Laws:
    """Make every law one that does not fall and ends at 1 or below, with the score it has at the largest size."""
    ending = np.clip(laws.a - laws.b + laws.shift, 0.0, 1.0)
    b = np.clip(laws.b, 0.0, 1.0 - ending)
    return replace(laws, a=ending + b - laws.shift, b=b)


def _draw(forms: Mapping[Form, tuple[float, Posterior]], data: SizeMeans, test_root: Floats, chance: _Chance) -> Laws:
    """Draw laws from the posterior without regard to what a learning curve can be."""
    ends = np.cumsum([weight for weight, _ in forms.values()])
    of_form = np.minimum(np.searchsorted(ends, chance.form * ends[-1], side="right"), len(forms) - 1)
    posteriors = [posterior for _, posterior in forms.values()]
    rows = {int(form): np.flatnonzero(of_form == form) for form in np.unique(of_form)}
    parts = [_draw_of_form(posteriors[form], form, data, test_root, chance.take(of)) for form, of in rows.items()]
    return _join(parts).take(np.argsort(np.concatenate(list(rows.values()))))


def _join(parts: Sequence[Laws]) -> Laws:
    return Laws(**{name.name: np.concatenate([getattr(part, name.name) for part in parts]) for name in fields(Laws)})


def _draw_of_form(posterior: Posterior, form: int, data: SizeMeans, test_root: Floats, chance: _Chance) -> Laws:
    tau, positions = _draw_cells(posterior, chance)
    cells = posterior.grid.at(positions)
    linear = fit_linear(data, posterior.grid, cells, tau)
    normal = chance.linear[:, : len(linear.centre)].T
    drawn = (linear.centre + chance.scale * solve_transposed(linear.root, normal)).T
    separate = drawn.shape[1] == 4
    a = drawn[:, 0::2] if separate else np.repeat(drawn[:, :1], data.n_arms, axis=1)
    b = drawn[:, 1::2] if separate else np.repeat(drawn[:, 1:2], data.n_arms, axis=1)
    if drawn.shape[1] == 3:
        a = a + drawn[:, 2:] * np.arange(data.n_arms)
    shift = chance.test @ test_root.T
    return Laws(a, b, cells.c, cells.n0, np.full(len(tau), form), tau, chance.scale, shift)


def _draw_cells(posterior: Posterior, chance: _Chance) -> tuple[Floats, list[Floats]]:
    """Draw tau and positions along the axes of a grid, one after the other, each given those before it."""
    weights = np.exp(posterior.log_weight - posterior.log_weight.max())
    of_tau = np.broadcast_to(weights.reshape(len(TAUS), -1).sum(axis=1), (len(chance.tau), len(TAUS)))
    at = draw_positions(of_tau, chance.tau)
    weights = between_points(weights, at)  # (draws, *axes)
    tau = np.exp(np.log(TAUS[0]) + at * np.log(TAUS[1] / TAUS[0]))
    positions: list[Floats] = []
    for axis in range(len(posterior.grid.axes)):
        marginal = weights.sum(axis=tuple(range(2, weights.ndim)))
        positions.append(draw_positions(marginal, chance.axes[:, axis]))
        weights = between_own_points(weights, positions[-1])
    return tau, positions


def draw_bends(laws: Laws, data: SizeMeans, smallest: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw what the law leaves over; return the sizes (nodes,) and the bends (arms, draws, nodes) there.

    At and between measured sizes the bend is what the measured means say beyond the draw's law, beyond them it drifts:
    far where the law has far to rise, little where it has come to its plateau.
    A bend from the prior is corrected by how far the means, with noise of their own, lie from it (Matheron's rule).
    """
    sizes = np.unique(data.sizes)
    nodes = np.unique(np.concatenate([smallest * np.array(_BEHIND), sizes, data.largest * np.array(_AHEAD)]))
    at, arms = np.tile(nodes, data.n_arms), np.repeat(np.arange(data.n_arms), len(nodes))
    measured = data.arms * len(nodes) + np.searchsorted(nodes, data.sizes)
    own = lack_of_fit(at, arms, at, arms, data)
    tau = laws.tau[:, None]
    prior = tau * (rng.standard_normal((N_DRAWS, len(at))) @ covariance_root(own).T)
    noise = rng.standard_normal((N_DRAWS, len(data.means))) @ covariance_root(data.covariance).T
    residual = data.means - laws.scores(data.sizes, data.arms, data.largest)
    total = total_covariance(data, own[np.ix_(measured, measured)], tau[:, :, None])
    known = np.linalg.solve(total, np.stack([residual, prior[:, measured] + noise], axis=2))  # (draws, M, 2)
    expected, surprise = tau**2 * (known.transpose(2, 0, 1) @ own[measured])
    drift = np.where(at > data.largest, _drift(laws, data)[:, arms], 1.0)
    bends = expected + laws.scale[:, None] * (prior - surprise) * drift
    return nodes, bends.reshape(N_DRAWS, data.n_arms, len(nodes)).transpose(1, 0, 2)


def _drift(laws: Laws, data: SizeMeans) -> Floats:
    """Return how far each arm drifts beyond the largest size (draws, arms), in the drift of the model."""
    arms = np.arange(data.n_arms)
    last = laws.scores(np.full(data.n_arms, data.largest), arms, data.largest)
    rise = _DRIFT_OF_RISE * (laws.a - last) / data.scales
    return np.asarray(np.minimum(np.hypot(rise, _LEAST_DRIFT), _MOST_DRIFT), np.float64)


def draw_doubt(laws: Laws, arm: int, fall: float, nodes: Floats, largest: float, rng: np.random.Generator) -> Floats:
    """Draw (draws, nodes) what to add to the bends of an arm that falls by ``fall``, which no learning curve does.

    Beyond the largest size it is expected to stay where it is, not to rise as its law does. Whether the runs are to
    blame or the curve goes on falling is unknown: the doubt is a quarter of the fall at the measured sizes and grows
    to all of it at the last number of records that is answered.
    """
    ahead = np.clip(np.log(nodes / largest) / np.log(REACH), 0.0, 1.0)
    doubt = fall * (0.25 + 0.75 * ahead) * rng.standard_normal((N_DRAWS, 1))
    beyond = np.append(np.maximum(nodes, largest), largest)
    law = laws.scores(beyond, np.full(len(beyond), arm), largest)
    return np.asarray(doubt - (law[:, :-1] - law[:, -1:]), np.float64)
