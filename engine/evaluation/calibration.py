"""From logits to probabilities that mean what they say, and to decisions: all of it chosen on validation records.

A network in use reports ``sigmoid(logit / temperature)`` and decides ``probability >= threshold``, class by class.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Validation records that are told apart perfectly ask for a temperature of 0, and labels that have nothing to do with
# the logits for an infinite one: neither says by how much, so the search ends here.
TEMPERATURE_BOUNDS = (0.1, 10.0)
ECE_BINS = 15  # as Guo et al. 2017
DEFAULT_THRESHOLD = 0.5


def calibrated_probabilities(logits: NDArray[np.floating], temperature: float) -> Floats:
    """Return ``sigmoid(logits / temperature)``: the order of the records stays (far from 0 some become equal)."""
    from scipy.special import expit

    return np.asarray(expit(np.asarray(logits, np.float64) / temperature), np.float64)


def fit_temperature(labels: NDArray[np.uint8], logits: NDArray[np.floating]) -> float:
    """Return the one temperature for all classes that minimises the binary cross-entropy (Guo et al. 2017).

    ``labels`` 0/1 and ``logits`` are (records, classes), of validation records. The loss is convex in the inverse of
    the temperature, so a bounded search over its logarithm finds the one minimum within ``TEMPERATURE_BOUNDS``; logits
    that are all zero keep 1. Raises ValueError when there is no record or a logit is not finite.
    """
    from scipy.optimize import minimize_scalar

    if not labels.size:
        raise ValueError("no validation records to fit a temperature on")
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite: no temperature can be fitted")
    outcomes, values = labels.astype(np.float64), logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = values * np.exp(-log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - outcomes * scaled))

    bounds = np.log(TEMPERATURE_BOUNDS)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x
    # The search never tries its bounds, and on a flat loss 1 is the answer: the first of equal losses is taken.
    return float(np.exp(min((0.0, float(found), *bounds.tolist()), key=loss)))


def choose_thresholds(
    labels: NDArray[np.uint8], probabilities: NDArray[np.floating], specificity: float | None = None
) -> Floats:
    """Return for each class the threshold (classes,) of highest F1, 0.5 where a class has one outcome only.

    ``labels`` 0/1 and ``probabilities`` are (records, classes), of validation records. A threshold lies midway between
    the lowest probability that it accepts and the highest that it rejects (0 where it rejects none), so that the last
    digit of a probability decides nothing. Of several equally good ones the highest is taken.

    With ``specificity`` it is the lowest threshold that rejects ``negatives_rejected`` of the negative records. Raises
    ValueError when a value is not a probability.
    """
    check_probabilities(probabilities)
    columns = zip(labels.T, probabilities.T.astype(np.float64), strict=True)
    return np.array(
        [
            DEFAULT_THRESHOLD
            if len(np.unique(truth)) < 2
            else _best_threshold(truth, values)
            if specificity is None
            else _specific_threshold(truth, values, specificity)
            for truth, values in columns
        ],
        np.float64,
    )


def negatives_rejected(negatives: int, specificity: float) -> int:
    """Return how many of the negative validation records a threshold rejects that is chosen for a specificity.

    It is the least k with ``k / (negatives + 1) >= specificity``: another negative record, exchangeable with these, is
    then rejected with at least that probability (the quantile of split conformal prediction, Vovk 2012, "Conditional
    validity of inductive conformal predictors"); the share ``k / negatives`` alone would fall short of it on average.
    More than there are: they are too few, and a threshold above all of them is the best there is.
    """
    return ceil(specificity * (negatives + 1) - 1e-9)  # as 0.95 * 20, which is 19 but for its last digit


def describe_few_negatives(labels: NDArray[np.uint8], classes: Sequence[str], specificity: float) -> list[str]:
    """Return a sentence on the classes that too few records (records, classes) lack to choose a specificity by."""
    negatives = len(labels) - labels.sum(axis=0, dtype=np.int64)
    few = [k for k, n in enumerate(negatives.tolist()) if 0 < n < min(len(labels), negatives_rejected(n, specificity))]
    if not few:
        return []
    from engine.corpora.partition import listed  # predictions are made without corpora

    fewest, needed = int(negatives[few].min()), ceil(specificity / (1 - specificity) - 1e-9)
    return [
        f"{listed([classes[k] for k in few])}: a specificity of {specificity:g} is chosen by at least {needed:,} "
        f"records without the label, and {fewest:,} {'are' if fewest > 1 else 'is'} there to choose by: the threshold "
        f"lies above them all, from which {fewest / (fewest + 1):.3g} may be expected"
    ]


def describe_rule(record: Mapping[str, Any]) -> str | None:
    """Return what the thresholds were chosen for and by which records, from a checkpoint's record; None: not known."""
    rule = record.get("threshold_rule")
    if not isinstance(rule, Mapping):
        return None
    aim = rule.get("specificity")
    where = "in cross-validation" if "probe" in record else "on validation records"
    return f"{'the highest F1' if aim is None else f'a specificity of {aim:g}'} {where}"


def expected_calibration_error(
    labels: NDArray[np.uint8], probabilities: NDArray[np.floating], bins: int = ECE_BINS
) -> float:
    """Return the expected calibration error, mean over all classes: 0 is perfect, 1 the worst.

    ``labels`` 0/1 and ``probabilities`` are (records, classes). Within a class the records fall into ``bins`` bins of
    equal width by their probability; the error is the mean over records of the distance between a bin's mean
    probability and its share of positives (Guo et al. 2017, for the probability of the class, not of the likeliest
    answer). Each class counts the same, as in the macro AUROC (classwise ECE, Kull et al. 2019): pooled over all
    record-class pairs, one class's excess would hide another's want. With few records it is above 0 by chance alone.
    NaN without any record; raises ValueError when a value is not a probability.
    """
    check_probabilities(probabilities)
    if not labels.size:
        return float("nan")
    exact = probabilities.astype(np.float64)
    gaps = exact - labels
    bin_of = np.minimum((exact * bins).astype(np.int64), bins - 1)
    n_records, n_classes = labels.shape
    cell = bin_of + bins * np.arange(n_classes)  # one row of bins a class
    sums = np.bincount(cell.ravel(), weights=gaps.ravel(), minlength=bins * n_classes)
    return float(np.abs(sums).sum() / (n_records * n_classes))


def check_probabilities(values: NDArray[np.floating]) -> None:
    """Raise ValueError when one of the values is NaN or lies outside 0 to 1, as a logit does."""
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError("a value is NaN or lies outside 0 to 1: these are not probabilities")


def _specific_threshold(labels: NDArray[np.uint8], probabilities: Floats, specificity: float) -> float:
    negatives = np.sort(probabilities[labels == 0])
    rejected = float(negatives[min(negatives_rejected(len(negatives), specificity), len(negatives)) - 1])
    return _between(rejected, float(np.min(probabilities[probabilities > rejected], initial=1.0)))


def _best_threshold(labels: NDArray[np.uint8], probabilities: Floats) -> float:
    positives = int(labels.sum())
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    last_of_tie = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    found = np.cumsum(labels[order], dtype=np.int64)[last_of_tie]
    best = last_of_tie[np.argmax(2 * found / (last_of_tie + 1 + positives))]
    accepted, rejected = ranked[best], ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return _between(float(rejected), float(accepted))


def _between(rejected: float, accepted: float) -> float:
    middle = (accepted + rejected) / 2
    return middle if middle > rejected else accepted  # neighbouring numbers have nothing between them
