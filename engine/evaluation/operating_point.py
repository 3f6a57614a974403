"""What the decisions of a class at its threshold are worth: sensitivity, specificity and predictive values.

**Sensitivity and specificity** are proportions of records, and records of one patient go together. The interval is that
of Clopper and Pearson 1934 for the effective number of records (Korn and Graubard 1998, Survey Methodology 24:193):
what the records count for after their variance between patients, at least as if those of a patient were one. With a
record a patient it is the exact interval of that many. Percentiles of resampled patients have no width where all
decisions are right, and too little with a few dozen patients (``tests/benchmarks/proportions.py``).

**Predictive values** follow from both at a prevalence (Bayes), which is taken to be known. A predictive value rises
with a ratio of two proportions, of which the interval is that of Donner and Zou 2012 (Stat Methods Med Res 21:347,
MOVER-R) from the two intervals; where one of them is 0 or 1 the logit interval of Mercaldo, Lau and Zhou 2007 (Stat
Med 26:2170) has no width or no end, and this one has both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.bootstrap import INTERVAL, exact_interval
from engine.evaluation.metrics import Floats
from engine.records.label_names import finding_of
from models.errors import ExitCode, UserError

Band = tuple[float, float, float]  # a value and both ends of its interval
_UNKNOWN: Band = (math.nan, math.nan, math.nan)


class OperatingPointError(UserError, ValueError):
    """A specificity or a prevalence that no operating point can have; one sentence says which."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """How the decisions ``probability >= threshold`` of one class do on test records, with 90 % intervals.

    ``sensitivity`` rests on the ``positives``, records of ``positive_patients`` patients, ``specificity`` on the
    ``negatives``. ``ppv`` and ``npv``, the positive and negative predictive value, are at ``prevalence``: that of the
    test records unless ``prevalence_stated``. NaN where the test records do not allow one.
    """

    threshold: float
    positives: int
    negatives: int
    positive_patients: int
    negative_patients: int
    sensitivity: float
    sensitivity_ci_lower: float
    sensitivity_ci_upper: float
    specificity: float
    specificity_ci_lower: float
    specificity_ci_upper: float
    prevalence: float
    prevalence_stated: bool
    ppv: float
    ppv_ci_lower: float
    ppv_ci_upper: float
    npv: float
    npv_ci_lower: float
    npv_ci_upper: float


def check_specificity(value: float) -> float:
    """Return a specificity that thresholds can be chosen for. Raises OperatingPointError for any other number."""
    if not 0 < value < 1:
        raise OperatingPointError(f"a specificity of {value:g} cannot be asked for: give one between 0 and 1, as 0.95")
    return value


def stated_prevalence(given: float | Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """Return the prevalence that is stated for each class: one number for all, or by name, as a label is known.

    Raises OperatingPointError for a name that is no class's, and for a share that is not between 0 and 1.
    """
    if not isinstance(given, Mapping):
        given = dict.fromkeys(classes, given)
    stated: dict[str, float] = {}
    for name, share in given.items():
        if not 0 < share < 1:
            raise OperatingPointError(
                f"a prevalence of {share:g} cannot be stated: give a share of patients between 0 and 1, as 0.02"
            )
        named = [one for one in classes if one == name] or [
            one for one in classes if finding_of(one) == finding_of(name)
        ]
        if not named:
            from engine.corpora.partition import listed  # predictions are made without corpora

            raise OperatingPointError(f"a prevalence is stated for {name}, which is none of {listed(classes)}")
        stated |= dict.fromkeys(named, share)
    return stated


def operating_point(
    positive: NDArray[np.bool_], decided: NDArray[np.bool_], patients: NDArray[np.int64], threshold: float,
    prevalence: float | None = None,
) -> OperatingPoint:  # fmt: skip
    """Return what the decisions ``decided`` (records,) of a class at ``threshold`` are worth, ``positive`` being true.

    ``prevalence`` is what the predictive values are stated for, None: that of the records.
    """
    negative = ~positive
    sensitivity = proportion(decided[positive], patients[positive])
    specificity = proportion(~decided[negative], patients[negative])
    share = float(positive.mean()) if prevalence is None else prevalence
    values = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": predictive_value(sensitivity, specificity, share),
        "npv": predictive_value(specificity, sensitivity, 1 - share),
    }
    ends = ("", "_ci_lower", "_ci_upper")
    bands = {name + end: one for name, band in values.items() for end, one in zip(ends, band, strict=True)}
    return OperatingPoint(
        threshold=threshold,
        positives=int(positive.sum()),
        negatives=int(negative.sum()),
        positive_patients=len(np.unique(patients[positive])),
        negative_patients=len(np.unique(patients[negative])),
        prevalence=share,
        prevalence_stated=prevalence is not None,
        **bands,
    )


def proportion(outcomes: NDArray[np.bool_], patients: NDArray[np.int64], level: float = INTERVAL) -> Band:
    """Return the share of ``outcomes`` (records,) that are true and its interval, NaN without a record."""
    if not len(outcomes):
        return _UNKNOWN
    _, owner, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    true = np.asarray(np.bincount(owner, weights=outcomes), np.float64)
    share = float(outcomes.mean())
    return (share, *exact_interval(share, _effective(true, sizes.astype(np.float64), share, level), level))


def _effective(true: Floats, sizes: Floats, share: float, level: float) -> float:
    """Return how many independent records count for as much as those of the patients (patients,).

    Between ``n^2 / sum(sizes^2)``, patients whose records all have one outcome, and ``n``. In between it is the
    variance of independent records over that between patients, which few patients know badly: hence Student's t.
    """
    from scipy.special import ndtri, stdtrit

    n, k = float(sizes.sum()), len(sizes)
    fewest = n**2 / float((sizes**2).sum())
    variance = float(((true - share * sizes) ** 2).sum()) / n**2
    if k == 1 or share in (0, 1):
        return fewest
    tail = (1 + level) / 2
    unsure = (ndtri(tail) / stdtrit(k - 1, tail)) ** 2
    between = max(variance * k / (k - 1), np.finfo(np.float64).tiny)
    return float(np.clip(share * (1 - share) / between * unsure, fewest, n))


def predictive_value(found: Band, spared: Band, prevalence: float) -> Band:
    """Return the share of true decisions among those of one kind, and its interval.

    ``found`` is the proportion of those who are what the decision says that get it, ``spared`` of the others that do
    not, ``prevalence`` the share of the former: sensitivity, specificity and prevalence give the positive predictive
    value; specificity, sensitivity and 1 - prevalence the negative one. NaN where nobody would get the decision.
    """
    wrong = 1 - spared[0], 1 - spared[2], 1 - spared[1]  # a proportion too, with its ends in order
    if math.isnan(found[0]) or math.isnan(wrong[0]) or found[0] == wrong[0] == 0:
        return _UNKNOWN
    lower, upper = _ratio_interval(found, wrong)
    ratio = found[0] / wrong[0] if wrong[0] else math.inf
    odds = prevalence / (1 - prevalence) if prevalence < 1 else math.inf
    value, low, high = (1.0 if math.isinf(r) else r * odds / (1 + r * odds) for r in (ratio, lower, upper))
    return value, low, high


def _ratio_interval(one: Band, other: Band) -> tuple[float, float]:
    """Return the interval of ``one / other``, independent proportions (MOVER-R, in the form that no 0 divides)."""
    (p, p_low, p_high), (q, q_low, q_high) = one, other
    below, above = p_low * (2 * p - p_low), p_high * (2 * p - p_high)
    under, over = q_low * (2 * q - q_low), q_high * (2 * q - q_high)
    root = p * q + math.sqrt(max((p * q) ** 2 - below * over, 0.0))
    lower = below / root if root else 0.0
    upper = (p * q + math.sqrt(max((p * q) ** 2 - above * under, 0.0))) / under if under else math.inf
    return lower, upper
