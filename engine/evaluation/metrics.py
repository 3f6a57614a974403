"""Scores of probabilities: AUROC, average precision, F1 and Brier score, per class and averaged."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST_POSITIVES = 10  # positive and negative test records of a class that macro averages take, unless asked otherwise


def averaged_classes(labels: NDArray[np.uint8], least_positives: int = LEAST_POSITIVES) -> NDArray[np.bool_]:
    """Return for each class (classes,) whether macro averages over these records take it.

    They take the classes with at least ``least_positives`` positive and as many negative records in ``labels`` 0/1
    (records, classes): the area of a class with a handful of positives is mostly chance, and counts as much as any
    other. Where no class has that many, they take all that have both outcomes. Raises ValueError for
    ``least_positives`` below 1.
    """
    if least_positives < 1:
        raise ValueError(f"least_positives is {least_positives}: an AUROC needs at least 1 positive record")
    positives = (labels > 0).sum(axis=0)
    rarer = np.minimum(positives, len(labels) - positives)
    tested = rarer >= least_positives
    return np.asarray(tested if tested.any() else rarer >= 1, np.bool_)


def auroc_per_class(labels: NDArray[np.uint8], scores: NDArray[np.floating], weights: Floats | None = None) -> Floats:
    """Return the area under the ROC curve of each class, NaN where it lacks one of the two outcomes or a score is NaN.

    ``labels`` 0/1 and ``scores`` are (records, classes); ``weights`` (records,) counts a record that many times, which
    is what a bootstrap needs. Ties count one half (Mann-Whitney U, as scikit-learn's ``roc_auc_score``).
    """
    counts = (np.ones(len(labels)) if weights is None else weights)[:, None]
    columns = range(labels.shape[1])
    return np.array([_resampled_auroc(labels[:, k] > 0, scores[:, k], counts)[0] for k in columns], np.float64)


def auroc_macro(labels: NDArray[np.uint8], scores: NDArray[np.floating], weights: Floats | None = None) -> float:
    """Return the mean AUROC over all classes that have both outcomes, however rare, NaN when none has.

    This is what chooses the epoch on validation records, which are too few for the floor of ``averaged_classes``; test
    records are scored with that floor (``engine.evaluation.evaluation``).
    """
    per_class = auroc_per_class(labels, scores, weights)
    return float(np.nanmean(per_class)) if np.isfinite(per_class).any() else float("nan")


def average_precision_per_class(labels: NDArray[np.uint8], scores: NDArray[np.floating]) -> Floats:
    """Return the average precision of each class, NaN where it lacks one of the two outcomes or a score is NaN.

    ``labels`` 0/1 and ``scores`` are (records, classes). The mean precision at each gain in recall, tied records taken
    at once, without interpolation, as scikit-learn's ``average_precision_score``.
    """
    columns = range(labels.shape[1])
    return np.array([_average_precision(labels[:, k], scores[:, k]) for k in columns], np.float64)


def f1_per_class(labels: NDArray[np.uint8], probabilities: NDArray[np.floating], thresholds: Floats | float) -> Floats:
    """Return each class's F1 of the decision ``probability >= threshold``, NaN without a positive or with a NaN.

    ``labels`` 0/1 and ``probabilities`` are (records, classes), ``thresholds`` (classes,) or one number for all.
    """
    decided = probabilities >= thresholds
    found, positives = (decided & (labels > 0)).sum(axis=0), labels.sum(axis=0, dtype=np.int64)
    f1 = 2 * found / np.maximum(decided.sum(axis=0) + positives, 1)
    return np.where((positives > 0) & ~np.isnan(probabilities).any(axis=0), f1, np.nan)


def f1_weighted(labels: NDArray[np.uint8], probabilities: NDArray[np.floating], threshold: float = 0.5) -> float:
    """Return the mean F1 of the classes at one threshold, weighted by their positives; NaN when there are none.

    The measure of Nguyen and Do 2025 (PLOS ONE 20(5): e0316043), and scikit-learn's ``average="weighted"``.
    """
    positives = labels.sum(axis=0, dtype=np.int64)
    present = positives > 0
    if not present.any():
        return float("nan")
    return float(np.average(f1_per_class(labels, probabilities, threshold)[present], weights=positives[present]))


def brier_score(labels: NDArray[np.uint8], probabilities: NDArray[np.floating]) -> float:
    """Return the mean squared difference of probability and outcome over records and classes (Brier 1950)."""
    return float(np.mean((probabilities - labels) ** 2))


def _resampled_auroc(positive: NDArray[np.bool_], scores: NDArray[np.floating], counts: Floats) -> Floats:
    """AUROC for each column of ``counts`` (records, resamples): one sort serves all of them.

    With whole counts every sum is a whole number or a half, so the result does not depend on the order of summation.
    """
    if np.isnan(scores).any():
        return np.full(counts.shape[1], np.nan)
    negatives = np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    below = np.zeros((len(negatives) + 1, counts.shape[1]))  # how many negatives lie below each place in their order
    np.cumsum(counts[negatives], axis=0, out=below[1:])
    first, last = (np.searchsorted(scores[negatives], scores[positive], side) for side in ("left", "right"))
    own = counts[positive]
    wins = np.einsum("ij,ij->j", own, below[first] + below[last]) / 2  # a tie counts one half
    pairs = own.sum(axis=0) * below[-1]
    return np.asarray(np.divide(wins, pairs, out=np.full(counts.shape[1], np.nan), where=pairs > 0), np.float64)


def _average_precision(labels: NDArray[np.uint8], scores: NDArray[np.floating]) -> float:
    positives = int(labels.sum())
    if positives in (0, len(labels)) or np.isnan(scores).any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    found = np.cumsum(labels[order], dtype=np.int64)[last_of_tie]
    return float(np.sum(np.diff(found, prepend=0) * (found / (last_of_tie + 1))) / positives)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
