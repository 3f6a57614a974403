"""Intervals of scores by resampling the patients of a test set, and of perfect ones, where no resample differs."""

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.metrics import LEAST_POSITIVES, Floats, _resampled_auroc, averaged_classes

INTERVAL = 0.90
FEW_PATIENTS = 10  # of the rarer outcome: with fewer, resamples are too much alike
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


def auroc_intervals(per_class: Floats, auroc: Floats, labels: NDArray[np.uint8], patients: NDArray[np.int64]) -> Floats:
    """Return the interval of each class's AUROC, (classes, 2), from its resamples ``per_class`` (classes, resamples).

    It is the percentile interval, and at least ``exact_interval`` where fewer than ten patients have the rarer outcome,
    whose resamples are too much alike, or where ``auroc`` (classes,) is 1 or 0 and all of them are. (NaN, NaN) where no
    resample has a value.
    """
    found = _percentiles(per_class)
    for k in np.flatnonzero(np.isfinite(found[:, 0]) & np.isfinite(auroc)):
        rarer = min(len(np.unique(patients[(labels[:, k] > 0) == outcome])) for outcome in (True, False))
        if rarer < FEW_PATIENTS or auroc[k] in (0, 1):
            lower, upper = exact_interval(float(auroc[k]), rarer)
            found[k] = min(found[k, 0], lower), max(found[k, 1], upper)
    return found


def macro_interval(per_class: Floats, averaged: NDArray[np.bool_], by_class: Floats) -> tuple[float, float]:
    """Return the interval of the mean AUROC over the ``averaged`` classes; ``by_class`` is of ``auroc_intervals``.

    It is the percentile interval of the resampled means; by how much the interval of a class is wider than its
    percentiles is added, as if all errors came together.
    """
    ends = np.array(interval(macro_of_resamples(per_class, averaged)))
    if averaged.any():
        ends += np.nan_to_num(by_class - _percentiles(per_class))[averaged].sum(axis=0) / averaged.sum()
    return float(ends[0]), float(ends[1])


def _percentiles(per_class: Floats) -> Floats:
    return np.array([interval(values) for values in per_class], np.float64).reshape(-1, 2)


def exact_interval(share: float, trials: float, level: float = INTERVAL) -> tuple[float, float]:
    """Return the interval of a ``share`` of independent trials, that of Clopper and Pearson 1934 (Biometrika 26:404).

    An AUROC is such a share: each patient of the rarer outcome makes a pair with another patient of the other one, and
    it is the proportion of pairs in the right order. That holds whatever the distributions of the scores.
    """
    from scipy.special import betaincinv  # scipy.stats takes a second to load

    tail, right = (1 - level) / 2, share * trials
    lower = float(betaincinv(right, trials - right + 1, tail)) if share > 0 else 0.0
    upper = float(betaincinv(right + 1, trials - right, 1 - tail)) if share < 1 else 1.0
    return lower, upper
