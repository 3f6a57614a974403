"""Scores of a multi-label classifier from its probabilities, and their sampling noise by patient."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def auroc_per_class(labels: NDArray[np.uint8], scores: NDArray[np.floating], weights: Floats | None = None) -> Floats:
    """Return the area under the ROC curve of each class, NaN where it lacks one of the two outcomes or a score is NaN.

    ``labels`` 0/1 and ``scores`` are (records, classes); ``weights`` (records,) counts a record so many times, which
    is what a bootstrap needs. Ties count one half (Mann-Whitney U, as scikit-learn's ``roc_auc_score``).
    """
    counts = np.ones(len(labels)) if weights is None else weights
    return np.array(
        [_auroc(labels[:, k].astype(bool), scores[:, k], counts) for k in range(labels.shape[1])], np.float64
    )


def auroc_macro(labels: NDArray[np.uint8], scores: NDArray[np.floating], weights: Floats | None = None) -> float:
    """Return the mean AUROC over the classes that have both outcomes, NaN when none has."""
    per_class = auroc_per_class(labels, scores, weights)
    return float(np.nanmean(per_class)) if np.isfinite(per_class).any() else float("nan")


def average_precision_macro(labels: NDArray[np.uint8], scores: NDArray[np.floating]) -> float:
    """Return the mean average precision over the classes that have both outcomes, NaN when none has."""
    from sklearn.metrics import average_precision_score

    positives = labels.sum(axis=0)
    usable = np.flatnonzero((positives > 0) & (positives < len(labels)))
    if not len(usable):
        return float("nan")
    return float(np.mean([average_precision_score(labels[:, k], scores[:, k]) for k in usable]))


def brier_score(labels: NDArray[np.uint8], probabilities: NDArray[np.floating]) -> float:
    """Return the mean squared difference of probability and outcome over records and classes (Brier 1950)."""
    return float(np.mean((probabilities - labels) ** 2))


def bootstrap_auroc_macro(
    labels: NDArray[np.uint8], scores: NDArray[np.floating], patients: NDArray[np.int64], n_resamples: int, seed: int
) -> Floats:
    """Return the macro AUROC of ``n_resamples`` resamples of the test set, whole patients drawn with replacement.

    A resample in which no class has both outcomes gives NaN. Resamples depend on ``patients`` and ``seed`` alone: two
    networks given the same ones are compared in pairs.
    """
    _, owner = np.unique(patients, return_inverse=True)
    n_patients = int(owner.max()) + 1
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=n_resamples)
    per_class = np.stack([_resampled_auroc(labels[:, k].astype(bool), scores[:, k], draws[:, owner])
                          for k in range(labels.shape[1])])  # fmt: skip
    known = np.isfinite(per_class)
    means = np.full(n_resamples, np.nan)
    np.divide(np.where(known, per_class, 0).sum(axis=0), known.sum(axis=0), out=means, where=known.any(axis=0))
    return means


def _auroc(positive: NDArray[np.bool_], scores: NDArray[np.floating], counts: Floats) -> float:
    return float(_resampled_auroc(positive, scores, counts[None, :])[0])


def _resampled_auroc(positive: NDArray[np.bool_], scores: NDArray[np.floating], counts: NDArray[np.generic]) -> Floats:
    """AUROC for each row of ``counts`` (resamples, records): one sort serves all of them."""
    if np.isnan(scores).any():
        return np.full(len(counts), np.nan)
    order = np.argsort(scores, kind="stable")
    ordered = counts[:, order].astype(np.float64)
    ranked = scores[order]
    group_starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    with_outcome = np.add.reduceat(ordered * positive[order], group_starts, axis=1)  # (resamples, distinct scores)
    without = np.add.reduceat(ordered * ~positive[order], group_starts, axis=1)
    below = np.cumsum(without, axis=1) - without
    pairs = with_outcome.sum(axis=1) * without.sum(axis=1)
    wins = (with_outcome * (below + without / 2)).sum(axis=1)
    return np.asarray(np.divide(wins, pairs, out=np.full(len(counts), np.nan), where=pairs > 0), np.float64)
