"""How well a test set will know an AUROC, before anything is trained.

The standard error of Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic
(ROC) curve", Radiology 143 (1982), with scores of negative exponential distributions. Where those of positive and of
negative records scatter alike it is up to a third too large. It takes test records for independent: of several records
of a patient, count patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from engine.evaluation.bootstrap import exact_interval

LEVEL = 0.9
FEW_PATIENTS = 50  # that have a label, or lack it: a fifth of fewer are under ten to test on
PLANNED = 0.85  # AUROC, sensitivity or specificity that a test is planned for
_MOST = 10**9  # records: what needs more is not told in records


@dataclass(frozen=True)
class Rarest:
    """The label that a test set will know worst: how many of its patients have it, and how many do not."""

    label: str
    positives: int
    negatives: int

    def half_width(self, auroc: float) -> float:
        """Return half the width of the 90 % interval of an AUROC that these patients measure."""
        return auroc_half_width(auroc, self.positives, self.negatives)


@dataclass(frozen=True)
class RareLabel:
    """The label that the fewest ``patients`` of all have, or lack (``is_missing``): ``few``, ``tested`` in the test."""

    label: str
    is_missing: bool
    few: int
    patients: int
    tested: int

    @property
    def measures(self) -> str:
        """What the few measure."""
        return "specificity" if self.is_missing else "sensitivity"

    def in_words(self) -> str:
        """Say how many there are and what they will know, before a training."""
        known = (
            f"the {self.tested:,} of them in the test will know a {self.measures} of {PLANNED:g} to "
            f"+-{proportion_half_width(PLANNED, self.tested):.2f} (90 %)"
            if self.tested
            else f"none of them is in the test: its {self.measures} will not be known"
        )
        return f"{self.counted()}: few to learn it from, and {known}"

    def counted(self) -> str:
        """Say how many there are."""
        how = "lack" if self.is_missing else "have"
        return f"{self.few:,} of {self.patients:,} patients {how} {self.label}, the rarest label"


def rare_label(
    labels: NDArray[np.uint8], patients: NDArray[np.int64], classes: Sequence[str], is_test: NDArray[np.bool_]
) -> RareLabel | None:
    """Return the rarest label of all records and how many of its patients test it, None where all have one outcome.

    ``labels`` 0/1 are (records, classes), ``patients`` and ``is_test`` (records,).
    """
    whole = rarest_label(labels, patients, classes)
    if whole is None:
        return None
    is_missing, column = whole.negatives < whole.positives, labels[:, classes.index(whole.label)] > 0
    few = np.setdiff1d(patients, patients[column]) if is_missing else patients[column]
    tested = np.intersect1d(few, patients[is_test])
    return RareLabel(whole.label, is_missing, len(np.unique(few)), whole.positives + whole.negatives, len(tested))


def rarest_label(labels: NDArray[np.uint8], patients: NDArray[np.int64], classes: Sequence[str]) -> Rarest | None:
    """Return the label with the fewest patients on its smaller side, of those that have both; None where none has.

    ``labels`` 0/1 are (records, classes) and ``patients`` (records,). A patient has what any of its records has.
    """
    whose, of_record = np.unique(patients, return_inverse=True)
    has = np.zeros((len(whose), len(classes)), np.bool_)
    np.logical_or.at(has, of_record, labels.astype(np.bool_))
    positives = has.sum(axis=0)
    fewest = np.minimum(positives, len(whose) - positives)
    if not fewest.any():
        return None
    k = int(np.argmin(np.where(fewest > 0, fewest, len(whose))))
    return Rarest(classes[k], int(positives[k]), int(len(whose) - positives[k]))


def proportion_half_width(share: float, trials: int, level: float = LEVEL) -> float:
    """Return half the width of the interval of a ``share`` that so many patients measure (``exact_interval``)."""
    lower, upper = exact_interval(share, trials, level)
    return (upper - lower) / 2


def auroc_half_width(auroc: float, positives: int, negatives: int, level: float = LEVEL) -> float:
    """Return half the width of the interval of an AUROC that ``positives`` and ``negatives`` test records measure.

    ``level`` is what the interval holds. Raises ValueError for an AUROC outside 0 to 1 and for a side without records.
    """
    if not 0 <= auroc <= 1:
        raise ValueError(f"{auroc} is no AUROC: it lies between 0 and 1")
    if positives < 1 or negatives < 1:
        raise ValueError(f"an AUROC takes positive and negative records, not {positives} and {negatives}")
    return _half_width(auroc, positives, negatives, level)


def records_for_half_width(auroc: float, prevalence: float, half_width: float, level: float = LEVEL) -> int | None:
    """Return the least number of test records that measure an AUROC to plus or minus ``half_width``, None beyond 1e9.

    ``prevalence`` is the share of them that has the label. Raises ValueError for one that is not between 0 and 1, and
    for a half-width that is not positive.
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"a label that a share of {prevalence} of the records has cannot be told apart")
    if half_width <= 0:
        raise ValueError(f"a half-width is positive, not {half_width}")
    low, high = 1, _MOST
    if _half_width(auroc, high * prevalence, high * (1 - prevalence), level) > half_width:
        return None
    while low < high:  # it falls with every record more
        middle = (low + high) // 2
        if _half_width(auroc, middle * prevalence, middle * (1 - prevalence), level) <= half_width:
            high = middle
        else:
            low = middle + 1
    return max(low, ceil(1 / prevalence), ceil(1 / (1 - prevalence)))


def _half_width(auroc: float, positives: float, negatives: float, level: float) -> float:
    two_positives = auroc / (2 - auroc)  # probability that both of two positive records are above a negative one
    two_negatives = 2 * auroc**2 / (1 + auroc)
    variance = (
        auroc * (1 - auroc)
        + (positives - 1) * (two_positives - auroc**2)
        + (negatives - 1) * (two_negatives - auroc**2)
    ) / (positives * negatives)
    return float(norm.ppf((1 + level) / 2)) * sqrt(max(variance, 0.0))
