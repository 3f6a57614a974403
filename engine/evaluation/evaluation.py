"""Scores of a multi-label classifier from its probabilities, and their sampling noise by patient."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.corpora.splits import has_both_outcomes
from engine.evaluation.bootstrap import bootstrap_auroc_per_class, interval, macro_of_resamples
from engine.evaluation.calibration import check_probabilities, expected_calibration_error
from engine.evaluation.metrics import (
    Floats,
    _mean,
    auroc_macro,
    auroc_per_class,
    average_precision_per_class,
    brier_score,
    f1_per_class,
    f1_weighted,
)
from engine.json_values import without_nan


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
