"""Intervals of scores by resampling the patients of a test set."""

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.metrics import LEAST_POSITIVES, Floats, _resampled_auroc, averaged_classes

INTERVAL = 0.90
_BLOCK = 2**22  # counts of records held at a time by the bootstrap: 32 MiB


def bootstrap_auroc_macro(
    labels: NDArray[np.uint8],
    scores: NDArray[np.floating],
    patients: NDArray[np.int64],
    n_resamples: int,
    seed: int,
    least_positives: int = LEAST_POSITIVES,
) -> Floats:
    """Return the macro AUROC of ``n_resamples`` resamples of the test set, whole patients drawn with replacement.

    Every resample averages over the same classes, those of ``averaged_classes`` of the whole test set; one that lacks
    an outcome of any of them gives NaN. Resamples depend on ``patients`` and ``seed`` alone: two networks given the
    same ones are compared in pairs.
    """
    per_class = bootstrap_auroc_per_class(labels, scores, patients, n_resamples, seed)
    return macro_of_resamples(per_class, averaged_classes(labels, least_positives))


def bootstrap_auroc_per_class(
    labels: NDArray[np.uint8], scores: NDArray[np.floating], patients: NDArray[np.int64], n_resamples: int, seed: int
) -> Floats:
    """Return the AUROC (classes, resamples) of the resamples of ``bootstrap_auroc_macro``, NaN where there is none."""
    _, owner = np.unique(patients, return_inverse=True)
    n_patients = int(owner.max()) + 1
    rng, shares = np.random.default_rng(seed), np.full(n_patients, 1 / n_patients)
    values = np.full((labels.shape[1], n_resamples), np.nan)
    step = max(1, _BLOCK // len(labels))
    for start in range(0, n_resamples, step):
        draws = rng.multinomial(n_patients, shares, size=min(step, n_resamples - start))
        counts = draws.T.astype(np.float64)[owner]  # (records, resamples)
        for k, row in enumerate(values):
            row[start : start + step] = _resampled_auroc(labels[:, k] > 0, scores[:, k], counts)
    return values


def macro_of_resamples(per_class: Floats, averaged: NDArray[np.bool_]) -> Floats:
    """Return the mean (resamples,) of (classes, resamples) over the ``averaged`` classes, NaN where one has no value.

    A mean over the classes that a resample happens to have would be of another quantity in each resample.
    """
    if not averaged.any():
        return np.full(per_class.shape[1], np.nan)
    return np.asarray(per_class[averaged].mean(axis=0), np.float64)


def interval(values: Floats, level: float = INTERVAL) -> tuple[float, float]:
    """Return the percentile interval of resampled values, NaN left out; (NaN, NaN) when there is no other."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    lower, upper = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)
