"""From the posterior of the model to draws of whole curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from studies.curve_draws import REACH, Floats
from studies.curve_fit import TAUS, Form, Posterior, lack_of_fit
from studies.noise import SizeMeans

N_DRAWS = 1000
_CANDIDATES, _ROUNDS = 4_000, 40  # candidates are drawn until enough of them are learning curves
_BEHIND, _AHEAD = (0.25, 0.5), (2.0, 4.0, 16.0, 64.0)  # where curves are drawn beside the measured sizes
_CALIBRATION = 1.7  # of the drift beyond the largest size; found by holding out the largest sizes of real curves
_JITTER = 1e-10


@dataclass(frozen=True)
class Laws:
    """Draws of the law: a, b and c (draws, arms) with b as the distance from a at the largest size; n0 (draws,).

    ``form`` and ``tau`` are the draw's form and its index in TAUS, ``scale`` that of its noise, ``shift`` (draws, arms)
    what the finite test set may have added to every score.
    """

    a: Floats
    b: Floats
    c: Floats
    n0: Floats
    form: NDArray[np.int64]
    tau: NDArray[np.int64]
    scale: Floats
    shift: Floats

    def scores(self, sizes: Floats, arms: NDArray[np.int64], largest: float) -> Floats:
        """Return the law's scores (draws, M) of arms at sizes."""
        effective = sizes + self.n0[:, None] * (arms == 1)
        return np.asarray(self.a[:, arms] - self.b[:, arms] * (effective / largest) ** -self.c[:, arms], np.float64)

    def take(self, rows: NDArray[np.int64]) -> "Laws":
        """Return some of the draws."""
        return Laws(**{name.name: getattr(self, name.name)[rows] for name in fields(self)})


def draw_laws(
    forms: Mapping[Form, tuple[float, Posterior]],
    data: SizeMeans,
    test_covariance: Floats,
    freedom: int,
    rng: np.random.Generator,
) -> tuple[Laws, bool]:
    """Draw N_DRAWS laws that are learning curves, a between 0 and 1 and b not negative, and say whether that went well.

    ``freedom`` counts what the spread of a run was estimated from: the noise of each draw has a scale of its own, so
    that the draws follow Student's t. When hardly any law under the posterior is a learning curve, the laws are flat.
    """
    found: list[Laws] = []
    for _ in range(_ROUNDS):
        candidates = _candidates(forms, data.n_arms, test_covariance, freedom, rng)
        level = candidates.a + candidates.shift
        possible = np.flatnonzero(((level > 0) & (level <= 1) & (candidates.b >= 0)).all(axis=1))
        found.append(candidates.take(possible))
        if sum(len(laws.n0) for laws in found) >= N_DRAWS:
            return _join(found).take(rng.permutation(sum(len(laws.n0) for laws in found))[:N_DRAWS]), True
    return _flatten(candidates).take(rng.permutation(_CANDIDATES)[:N_DRAWS]), False


def _join(parts: Sequence[Laws]) -> Laws:
    return Laws(*(np.concatenate([getattr(part, name.name) for part in parts]) for name in fields(Laws)))


def _flatten(laws: Laws) -> Laws:
    """Make every law one that does not fall and ends at 1 or below, with the score it has at the largest size."""
    ending = np.clip(laws.a - laws.b + laws.shift, 0.0, 1.0)
    b = np.clip(laws.b, 0.0, 1.0 - ending)
    return replace(laws, a=ending + b - laws.shift, b=b)


def _candidates(
    forms: Mapping[Form, tuple[float, Posterior]],
    n_arms: int,
    test_covariance: Floats,
    freedom: int,
    rng: np.random.Generator,
) -> Laws:
    """Draw laws from the posterior without regard to what a learning curve can be."""
    counts = rng.multinomial(_CANDIDATES, [weight for weight, _ in forms.values()])
    parts = [
        _candidates_of_form(posterior, number, int(count), n_arms, test_covariance, freedom, rng)
        for number, ((_, posterior), count) in enumerate(zip(forms.values(), counts, strict=True))
    ]
    return _join(parts)


def _candidates_of_form(
    posterior: Posterior,
    form: int,
    count: int,
    n_arms: int,
    test_covariance: Floats,
    freedom: int,
    rng: np.random.Generator,
) -> Laws:
    weights = np.exp(posterior.log_weight - posterior.log_weight.max())
    cumulative = np.cumsum(weights)
    cell = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
    tau, cell = np.unravel_index(np.minimum(cell, weights.size - 1), weights.shape)
    scale = np.sqrt(freedom / rng.chisquare(freedom, count))
    root = np.linalg.cholesky(posterior.precision[tau, cell])
    normal = rng.standard_normal((count, root.shape[2], 1))
    linear = posterior.centre[tau, cell] + scale[:, None] * np.linalg.solve(root.transpose(0, 2, 1), normal)[:, :, 0]
    separate = linear.shape[1] == 4
    a = linear[:, 0::2] if separate else np.repeat(linear[:, :1], n_arms, axis=1)
    b = linear[:, 1::2] if separate else np.repeat(linear[:, 1:2], n_arms, axis=1)
    if linear.shape[1] == 3:
        a = a + linear[:, 2:] * np.arange(n_arms)
    shift = rng.multivariate_normal(np.zeros(n_arms), test_covariance, count)
    grid = posterior.grid
    return Laws(a, b, grid.c[cell], grid.n0[cell], np.full(count, form), tau.astype(np.int64), scale, shift)


def draw_bends(laws: Laws, data: SizeMeans, smallest: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw what the law leaves over; return the sizes (nodes,) and the bends (arms, draws, nodes) there.

    At and between measured sizes the bend is what the measured means say beyond the draw's law, beyond them it drifts.
    """
    sizes = np.unique(data.sizes)
    nodes = np.unique(np.concatenate([smallest * np.array(_BEHIND), sizes, data.largest * np.array(_AHEAD)]))
    at, arms = np.tile(nodes, data.n_arms), np.repeat(np.arange(data.n_arms), len(nodes))
    residual = data.means - laws.scores(data.sizes, data.arms, data.largest)
    measured = lack_of_fit(data.sizes, data.arms, data.sizes, data.arms, data)
    cross = lack_of_fit(at, arms, data.sizes, data.arms, data)
    own = lack_of_fit(at, arms, at, arms, data)
    calibration = np.where(at > data.largest, _CALIBRATION, 1.0)
    bends = np.empty((len(laws.n0), len(at)))
    for number, tau in enumerate(TAUS):
        rows = np.flatnonzero(laws.tau == number)
        total = data.covariance + tau**2 * measured + _JITTER * np.eye(len(data.means))
        gain = np.linalg.solve(total, tau**2 * cross.T).T
        values, vectors = np.linalg.eigh(tau**2 * (own - gain @ cross.T))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        noise = rng.standard_normal((len(rows), len(at))) @ root.T
        bends[rows] = residual[rows] @ gain.T + laws.scale[rows, None] * noise * calibration
    return nodes, bends.reshape(len(bends), data.n_arms, len(nodes)).transpose(1, 0, 2)


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
