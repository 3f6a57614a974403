"""``ecgadvise.evaluate``: scores of anybody's probabilities, with intervals by patient."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from engine.evaluation.calibration import DEFAULT_THRESHOLD
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.evaluation import evaluate as score
from engine.evaluation.metrics import LEAST_POSITIVES
from engine.evaluation.operating_point import stated_prevalence

__all__ = ["Evaluation", "evaluate"]


def evaluate(
    y: ArrayLike,
    p: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    classes: Sequence[str] | None = None,
    thresholds: float | Sequence[float] = DEFAULT_THRESHOLD,
    seed: int = 0,
    n_resamples: int = 1000,
    least_positives: int = LEAST_POSITIVES,
    prevalence: float | Mapping[str, float] | None = None,
) -> Evaluation:
    """Return the macro AUROC of probabilities with its 90 % interval, and the scores of each class.

    ``y`` 0/1 and ``p`` are (records, classes), or (records,) of one class; ``groups`` (records,) names each record's
    patient (None: each record is of another one), and whole patients are resampled. ``classes`` default to the columns
    of a DataFrame ``y``, else to their numbers. A class with fewer than ``least_positives`` positive or negative
    records is in ``left_out`` and in no mean; where all have fewer, only those without both outcomes are.
    ``thresholds`` are for F1, sensitivity, specificity and predictive values, which are stated at ``prevalence``, one
    share or one by class (None: that of the records). Choose neither on these records. Raises ValueError for what are
    not labels or probabilities or do not go together.
    """
    labels, probabilities = (_two_dimensional(values) for values in (y, p))
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("y holds something other than 0 and 1")
    names = getattr(y, "columns", range(labels.shape[1])) if classes is None else classes
    members = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    cuts = np.full(labels.shape[1], thresholds) if isinstance(thresholds, int | float) else np.asarray(thresholds)
    classes = [str(name) for name in names]
    stated = None if prevalence is None else stated_prevalence(prevalence, classes)
    return score(
        labels.astype(np.uint8), probabilities.astype(np.float64), members.astype(np.int64),
        classes, cuts, seed, n_resamples, least_positives, stated,
    )  # fmt: skip


def _two_dimensional(values: ArrayLike) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    array = np.asarray(values)
    return array[:, None] if array.ndim == 1 else array
