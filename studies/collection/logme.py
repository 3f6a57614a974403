"""LogME: how well a network's features explain labels, from one forward pass."""

import numpy as np
from numpy.typing import NDArray

from engine.corpora.splits import has_both_outcomes
from studies.files.draws import Floats

_DECADES, _POINTS, _ZOOMS = 16.0, 81, 4


def log_me(features: NDArray[np.floating], labels: NDArray[np.uint8]) -> float:
    """Return LogME of features (records, features) for labels 0/1 (records, classes), the mean over the labels.

    Labels that all of the records have, or none, are left out, and so are features that are not finite everywhere;
    NaN where no other label, or no other feature that is not zero, is left.
    """
    columns = np.asarray(labels[:, has_both_outcomes(labels)], np.float64)
    finite = np.asarray(features[:, np.isfinite(features).all(axis=0)], np.float64)
    if not columns.shape[1] or not finite.any():
        return float("nan")
    left, singular, _ = np.linalg.svd(finite, full_matrices=False)
    explained = (left.T @ columns) ** 2
    unexplained = np.maximum((columns**2).sum(axis=0) - explained.sum(axis=0), 0.0)
    kept = singular > 1e-9 * singular[0]
    return float(
        np.mean([
            _log_evidence(singular[kept] ** 2, explained[kept, k], float(unexplained[k] + explained[~kept, k].sum()),
                          len(columns))
            for k in range(columns.shape[1])
        ])
    )  # fmt: skip


def _log_evidence(eigenvalues: Floats, explained: Floats, unexplained: float, n: int) -> float:
    """Return the largest log evidence per record of y = F w + e, w ~ N(0, 1/alpha), e ~ N(0, 1/beta).

    With t = alpha / beta the best beta is known, so that one number is searched: on a grid that is made finer.
    """

    def at(log_t: Floats) -> Floats:
        t = np.exp(log_t)[:, None]
        misfit = (t / (t + eigenvalues) * explained).sum(axis=1) + unexplained  # |y - Fm|^2 + t |m|^2
        precision = n / np.maximum(misfit, 1e-300)
        shrunk = np.log(t / (t + eigenvalues)).sum(axis=1)
        return np.asarray(0.5 * (n * np.log(precision / (2 * np.pi)) - n + shrunk) / n, np.float64)

    centre, width = float(np.log(eigenvalues[0])), _DECADES * np.log(10)
    for _ in range(_ZOOMS):
        grid = np.linspace(centre - width, centre + width, _POINTS)
        values = at(grid)
        centre, width = float(grid[values.argmax()]), 2 * width / (_POINTS // 2)
    return float(values.max())
