"""Random draws that another processor may round differently, but cannot turn over.

The same seed gives the same numbers everywhere. What is made of them, and of the data, must depend on both without a
jump: then two machines whose linear algebra differs in the last digits give draws that differ in the last digits. Two
things jump. Eigenvectors and singular vectors have any sign, and in a space of equal values any direction, so that a
root of a covariance made of them is another one on another processor. And a draw that takes the cell of a grid in which
a number falls takes the neighbour where the number lies on their border.
"""

import numpy as np

from studies.files.draws import Floats

_JITTER = 1e-10  # of the largest variance: what does not vary has a root all the same


def covariance_root(covariance: Floats) -> Floats:
    """Return the lower triangular root R of a covariance (n, n), R R' = covariance: rows @ R.T have that covariance.

    Cholesky's factor, which is unique. The covariance may be singular.
    """
    largest = float(covariance.diagonal().max())
    if largest <= 0:
        return np.zeros_like(covariance)
    return np.asarray(np.linalg.cholesky(covariance + _JITTER * largest * np.eye(len(covariance))), np.float64)


def draw_positions(weights: Floats, levels: Floats) -> Floats:
    """Return positions (draws,) on evenly spaced points of ``weights`` (draws, points), as steps from the first point.

    A point's weight is spread over the step about it, from half a step before to half a step after it. That makes the
    distribution function continuous, and the positions are where it has its ``levels`` (draws,), between 0 and 1.
    """
    cumulative = np.cumsum(weights, axis=1)
    asked = levels * cumulative[:, -1]
    point = np.minimum((cumulative <= asked[:, None]).sum(axis=1), weights.shape[1] - 1)
    rows = np.arange(len(levels))
    before = np.where(point > 0, cumulative[rows, point - 1], 0.0)
    share = (asked - before) / np.maximum(cumulative[rows, point] - before, np.finfo(np.float64).tiny)
    return np.asarray(point - 0.5 + np.clip(share, 0.0, 1.0), np.float64)


def between_points(values: Floats, positions: Floats) -> Floats:
    """Return ``values`` (points, ...) at positions (draws,), linear between points: (draws, ...).

    Before the first point and beyond the last the values are those of these.
    """
    left, share = _neighbours(len(values), positions)
    share = share.reshape(-1, *([1] * (values.ndim - 1)))
    return np.asarray((1 - share) * values[left] + share * values[left + 1], np.float64)


def between_own_points(values: Floats, positions: Floats) -> Floats:
    """Return each draw's own ``values`` (draws, points, ...) at its position (draws,), linear between points."""
    left, share = _neighbours(values.shape[1], positions)
    share = share.reshape(-1, *([1] * (values.ndim - 2)))
    rows = np.arange(len(values))
    return np.asarray((1 - share) * values[rows, left] + share * values[rows, left + 1], np.float64)


def _neighbours(points: int, positions: Floats) -> tuple[np.ndarray, Floats]:
    at = np.clip(positions, 0, points - 1)
    left = np.minimum(at.astype(np.int64), points - 2)
    return left, at - left
