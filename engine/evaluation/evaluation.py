"""Scores of a multi-label classifier from its probabilities, and their sampling noise by patient."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.bootstrap import (
    auroc_intervals,
    bootstrap_auroc_per_class,
    macro_interval,
    macro_of_resamples,
)
from engine.evaluation.calibration import check_probabilities, expected_calibration_error
from engine.evaluation.metrics import (
    LEAST_POSITIVES,
    Floats,
    _mean,
    auroc_per_class,
    average_precision_per_class,
    averaged_classes,
    brier_score,
    f1_per_class,
    f1_weighted,
)
from engine.evaluation.operating_point import OperatingPoint, operating_point
from engine.json_values import without_nan


@dataclass(frozen=True, kw_only=True)
class ClassEvaluation(OperatingPoint):
    """One class: interval 90 % by patient (``auroc_intervals``); what its test records do not allow is NaN."""

    auroc: float
    auroc_ci_lower: float
    auroc_ci_upper: float
    auprc: float
    f1: float  # at ``threshold``


@dataclass(frozen=True)
class Evaluation:
    """A network on its test records. Macro means are over the classes that ``left_out`` does not name.

    These have at least ``least_positives`` positive and as many negative records, or, where no class has, both outcomes
    (``averaged_classes``). ``f1_macro`` is at the thresholds given, which were chosen on validation records;
    ``f1_weighted_at_half`` is the published study's measure, over all classes. So are ``brier`` and ``ece``, which a
    class without a positive has too and few positives do not make vague. Intervals are 90 %, whole patients resampled
    (``macro_interval``); ``bootstrap`` holds the macro AUROC of every resample, NaN for one that lacks an outcome of an
    averaged class.
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
    least_positives: int
    bootstrap: Floats = field(repr=False, compare=False)

    def as_dict(self, *, bootstrap: bool = True, operating_points: bool = True) -> dict[str, Any]:
        """Return the figures ready for JSON, null where one cannot be given.

        ``bootstrap`` and ``operating_points`` False leave the resamples and what ``OperatingPoint`` holds out.
        """
        document = {**asdict(self), "left_out": list(self.left_out), "bootstrap": self.bootstrap.round(5).tolist()}
        if not bootstrap:
            del document["bootstrap"]
        if not operating_points:
            left = {field.name for field in fields(OperatingPoint)} - {"threshold", "positives"}
            for one in document["classes"].values():
                for name in left:
                    del one[name]
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
    least_positives: int = LEAST_POSITIVES,
    prevalence: Mapping[str, float] | None = None,
) -> Evaluation:
    """Score the probabilities of a network, in use or under study, on test records.

    ``labels`` 0/1 and ``probabilities`` are (records, classes), ``patients`` (records,); ``thresholds`` (classes,) come
    from the validation records. ``seed`` fixes the resamples; with ``n_resamples`` 0 intervals of AUROCs are NaN.
    ``least_positives`` says which classes are averaged, ``prevalence`` for which share of positives the predictive
    values of a class are stated, where not for the test records'. Raises ValueError when the shapes do not go together,
    there is no record, or ``least_positives`` is below 1.
    """
    cuts = np.asarray(thresholds, np.float64)
    shapes = (labels.shape, probabilities.shape, (len(patients), len(classes)), (len(labels), len(cuts)))
    if len(set(shapes)) > 1 or not labels.size:
        raise ValueError(f"labels, probabilities, patients x classes and thresholds do not go together: {shapes}")
    check_probabilities(probabilities)
    averaged = averaged_classes(labels, least_positives)
    resamples = bootstrap_auroc_per_class(labels, probabilities, patients, n_resamples, seed)
    auroc, auprc = auroc_per_class(labels, probabilities), average_precision_per_class(labels, probabilities)
    f1, ends = f1_per_class(labels, probabilities, cuts), auroc_intervals(resamples, auroc, labels, patients)
    lower, upper = macro_interval(resamples, averaged, ends)
    return Evaluation(
        n_records=len(labels),
        n_patients=len(np.unique(patients)),
        auroc_macro=_mean(auroc[averaged]),
        auroc_macro_ci_lower=lower,
        auroc_macro_ci_upper=upper,
        auprc_macro=_mean(auprc[averaged]),
        f1_macro=_mean(f1[averaged]),
        f1_weighted_at_half=f1_weighted(labels, probabilities),
        brier=brier_score(labels, probabilities),
        ece=expected_calibration_error(labels, probabilities),
        classes={
            name: ClassEvaluation(
                **asdict(operating_point(labels[:, k] > 0, probabilities[:, k] >= cuts[k], patients, float(cuts[k]),
                                         (prevalence or {}).get(name))),
                auroc=float(auroc[k]), auroc_ci_lower=float(ends[k, 0]), auroc_ci_upper=float(ends[k, 1]),
                auprc=float(auprc[k]), f1=float(f1[k]),
            )
            for k, name in enumerate(classes)
        },
        left_out=tuple(name for name, counts in zip(classes, averaged, strict=True) if not counts),
        least_positives=least_positives,
        bootstrap=macro_of_resamples(resamples, averaged),
    )  # fmt: skip


def floor_of(evaluation: Mapping[str, Any]) -> int:
    """Return how many positive and negative test records every averaged class has at least: as asked, else 1.

    ``evaluation`` is what ``Evaluation.as_dict`` gives. It is 1 where no class has as many as were asked for, and in a
    checkpoint that was made before there was a floor.
    """
    asked, n_records = evaluation.get("least_positives", 1), evaluation.get("n_records", 0)
    positives = [one["positives"] for one in evaluation.get("classes", {}).values() if one.get("auroc") is not None]
    return int(asked) if any(asked <= count <= n_records - asked for count in positives) else 1


def describe_averages(evaluation: Mapping[str, Any]) -> list[str]:
    """Return sentences on which tested classes the macro means leave out, and on means that no class is fit for.

    ``evaluation`` is what ``Evaluation.as_dict`` gives. Classes that could not be tested at all are not named here.
    """
    asked, floor, left_out = evaluation.get("least_positives", 1), floor_of(evaluation), evaluation.get("left_out", ())
    classes = evaluation.get("classes", {})
    if asked > floor and len(left_out) < len(classes):
        return [
            f"No class has {asked} positive and {asked} negative test records: macro averages take all "
            f"{len(classes) - len(left_out)} with both outcomes, and are vague."
        ]
    rare = [name for name in left_out if classes.get(name, {}).get("auroc") is not None]
    few = f"fewer than {floor} positive or negative test records"
    return [f"Left out of macro averages, with {few}: {', '.join(rare)}."] if rare else []
