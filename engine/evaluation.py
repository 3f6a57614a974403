"""Scores of a multi-label classifier from its probabilities, and their sampling noise by patient."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.calibration import check_probabilities, expected_calibration_error

Floats = NDArray[np.float64]
INTERVAL = 0.90
_BLOCK = 2**22  # counts of records held at a time by the bootstrap: 32 MiB


@dataclass(frozen=True)
class ClassEvaluation:
    """One class: interval 90 % by patient; what its test records do not allow is NaN."""

    auroc: float
    auroc_ci_lower: float
    auroc_ci_upper: float
    auprc: float
    f1: float  # at ``threshold``
    threshold: float
    positives: int


@dataclass(frozen=True)
class Evaluation:
    """A network on its test records. Macro means are over the classes with both outcomes; ``left_out`` are the others.

    ``f1_macro`` is at the thresholds given, which were chosen on validation records; ``f1_weighted_at_half`` is the
    published study's measure. Intervals are 90 %, whole patients resampled; ``bootstrap`` holds the macro AUROC of
    every resample.
    """

    n_records: int
    n_patients: int
    auroc_macro: float
    auroc_macro_ci_lower: float
    auroc_macro_ci_upper: float
    auprc_macro: float
    f1_macro: float
    f1_weighted_at_half: float
    brier: float
    ece: float
    classes: Mapping[str, ClassEvaluation]
    left_out: tuple[str, ...]
    bootstrap: Floats = field(repr=False, compare=False)

    def as_dict(self, *, bootstrap: bool = True) -> dict[str, Any]:
        """Return the figures ready for JSON, null where one cannot be given; ``bootstrap`` False leaves it out."""
        document = {**asdict(self), "left_out": list(self.left_out), "bootstrap": self.bootstrap.round(5).tolist()}
        if not bootstrap:
            del document["bootstrap"]
        plain: dict[str, Any] = without_nan(document)
        return plain


def evaluate(
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.floating],
    patients: NDArray[np.int64],
    classes: Sequence[str],
    thresholds: Sequence[float] | Floats,
    seed: int,
    n_resamples: int = 1000,
) -> Evaluation:
    """Score the probabilities of a network, in use or under study, on test records.

    ``labels`` 0/1 and ``probabilities`` are (records, classes), ``patients`` (records,); ``thresholds`` (classes,) come
    from the validation records. ``seed`` fixes the resamples; with ``n_resamples`` 0 intervals are NaN. Raises
    ValueError when the shapes do not go together or there is no record.
    """
    cuts = np.asarray(thresholds, np.float64)
    shapes = (labels.shape, probabilities.shape, (len(patients), len(classes)), (len(labels), len(cuts)))
    if len(set(shapes)) > 1 or not labels.size:
        raise ValueError(f"labels, probabilities, patients x classes and thresholds do not go together: {shapes}")
    check_probabilities(probabilities)
    both = has_both_outcomes(labels)
    resamples = bootstrap_auroc_per_class(labels, probabilities, patients, n_resamples, seed)
    auroc, auprc = auroc_per_class(labels, probabilities), average_precision_per_class(labels, probabilities)
    f1, macro = f1_per_class(labels, probabilities, cuts), macro_of_resamples(resamples)
    lower, upper = interval(macro)
    return Evaluation(
        n_records=len(labels),
        n_patients=len(np.unique(patients)),
        auroc_macro=auroc_macro(labels, probabilities),
        auroc_macro_ci_lower=lower,
        auroc_macro_ci_upper=upper,
        auprc_macro=_mean(auprc[both]),
        f1_macro=_mean(f1[both]),
        f1_weighted_at_half=f1_weighted(labels, probabilities),
        brier=brier_score(labels, probabilities),
        ece=expected_calibration_error(labels, probabilities),
        classes={
            name: ClassEvaluation(
                float(auroc[k]), *interval(resamples[k]), float(auprc[k]), float(f1[k]), float(cuts[k]),
                int(labels[:, k].sum()),
            )
            for k, name in enumerate(classes)
        },
        left_out=tuple(name for name, usable in zip(classes, both, strict=True) if not usable),
        bootstrap=macro,
    )  # fmt: skip


def without_nan(value: Any) -> Any:
    """Return a JSON value, its numbers that are NaN or infinite replaced by None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def auroc_per_class(labels: NDArray[np.uint8], scores: NDArray[np.floating], weights: Floats | None = None) -> Floats:
    """Return the area under the ROC curve of each class, NaN where it lacks one of the two outcomes or a score is NaN.

    ``labels`` 0/1 and ``scores`` are (records, classes); ``weights`` (records,) counts a record so many times, which
    is what a bootstrap needs. Ties count one half (Mann-Whitney U, as scikit-learn's ``roc_auc_score``).
    """
    counts = (np.ones(len(labels)) if weights is None else weights)[:, None]
    columns = range(labels.shape[1])
    return np.array([_resampled_auroc(labels[:, k] > 0, scores[:, k], counts)[0] for k in columns], np.float64)


def auroc_macro(labels: NDArray[np.uint8], scores: NDArray[np.floating], weights: Floats | None = None) -> float:
    """Return the mean AUROC over the classes that have both outcomes, NaN when none has."""
    per_class = auroc_per_class(labels, scores, weights)
    return float(np.nanmean(per_class)) if np.isfinite(per_class).any() else float("nan")


def average_precision_per_class(labels: NDArray[np.uint8], scores: NDArray[np.floating]) -> Floats:
    """Return the average precision of each class, NaN where it lacks one of the two outcomes or a score is NaN.

    ``labels`` 0/1 and ``scores`` are (records, classes). The mean precision at each gain in recall, tied records taken
    at once, without interpolation, as scikit-learn's ``average_precision_score``.
    """
    columns = range(labels.shape[1])
    return np.array([_average_precision(labels[:, k], scores[:, k]) for k in columns], np.float64)


def average_precision_macro(labels: NDArray[np.uint8], scores: NDArray[np.floating]) -> float:
    """Return the mean average precision over the classes that have both outcomes, NaN when none has."""
    return _mean(average_precision_per_class(labels, scores)[has_both_outcomes(labels)])


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


def has_both_outcomes(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return for each class whether 0 and 1 both occur."""
    return np.asarray((labels > 0).any(axis=0) & (labels == 0).any(axis=0), np.bool_)


def bootstrap_auroc_macro(
    labels: NDArray[np.uint8], scores: NDArray[np.floating], patients: NDArray[np.int64], n_resamples: int, seed: int
) -> Floats:
    """Return the macro AUROC of ``n_resamples`` resamples of the test set, whole patients drawn with replacement.

    A resample in which no class has both outcomes gives NaN. Resamples depend on ``patients`` and ``seed`` alone: two
    networks given the same ones are compared in pairs.
    """
    return macro_of_resamples(bootstrap_auroc_per_class(labels, scores, patients, n_resamples, seed))


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


def macro_of_resamples(per_class: Floats) -> Floats:
    """Return the mean (resamples,) of (classes, resamples) over the classes that have a value, NaN where none has."""
    known = np.isfinite(per_class)
    means = np.full(per_class.shape[1], np.nan)
    np.divide(np.where(known, per_class, 0).sum(axis=0), known.sum(axis=0), out=means, where=known.any(axis=0))
    return means


def paired_bootstrap(
    labels: NDArray[np.uint8],
    probabilities_one: NDArray[np.floating],
    probabilities_other: NDArray[np.floating],
    patients: NDArray[np.int64],
    n_resamples: int,
    seed: int,
) -> Floats:
    """Return the difference (resamples,) in macro AUROC, one minus other, of two networks on the same test records.

    Both are scored on the same resamples of whole patients. A resample in which no class has both outcomes gives NaN.
    """
    one, other = (
        bootstrap_auroc_macro(labels, probabilities, patients, n_resamples, seed)
        for probabilities in (probabilities_one, probabilities_other)
    )
    return one - other


@dataclass(frozen=True)
class Difference:
    """One network's macro AUROC minus another's on the same records, with its 90 % interval by patient."""

    difference: float
    difference_ci_lower: float
    difference_ci_upper: float


def compare(
    labels: NDArray[np.uint8],
    probabilities_one: NDArray[np.floating],
    probabilities_other: NDArray[np.floating],
    patients: NDArray[np.int64],
    n_resamples: int,
    seed: int,
) -> Difference:
    """Return by how much the first network scores above the other on the test records, and how sure that is."""
    observed = auroc_macro(labels, probabilities_one) - auroc_macro(labels, probabilities_other)
    resampled = paired_bootstrap(labels, probabilities_one, probabilities_other, patients, n_resamples, seed)
    return Difference(observed, *interval(resampled))


def interval(values: Floats, level: float = INTERVAL) -> tuple[float, float]:
    """Return the percentile interval of resampled values, NaN left out; (NaN, NaN) when there is no other."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    lower, upper = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)


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
