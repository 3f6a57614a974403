"""Whether two sets of records differ, from counts alone: shares, histograms, and Holm's correction over all of them.

Every test is of two samples: what came in against the model's test records, which are no more than a sample either.
Records are taken to be independent. Where a person has several, differences look surer than they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05  # of all tests together
INTERVAL = 0.9
_LEAST_EXPECTED = 5.0  # of a bin, in the smaller sample
_SMOOTHING = 0.5  # of a record, added to each bin


def wilson_interval(successes: int, trials: int, level: float = INTERVAL) -> tuple[float, float]:
    """Return the score interval of a share (Wilson 1927, J Am Stat Assoc 22:209); 0 and 1 without a trial.

    ``(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`` with p the share of n trials.
    """
    if not trials:
        return 0.0, 1.0
    z2, share = NormalDist().inv_cdf((1 + level) / 2) ** 2, successes / trials
    middle = share + z2 / (2 * trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2)))
    lower, upper = ((middle + sign * half) / (1 + z2 / trials) for sign in (-1, 1))
    return (lower if successes else 0.0), (upper if successes < trials else 1.0)


def shares_differ(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Return the p-value of Fisher's exact test, two-sided, that two shares are one; each is (with it, of how many)."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[with_it, of - with_it] for with_it, of in (one, other)])[1])


@dataclass(frozen=True)
class HistogramDifference:
    """How far two histograms are apart.

    ``psi`` is the population stability index, ``usual_psi`` what 95 of 100 indices of equal distributions do not exceed
    with as many records, and ``p_value`` that of the chi-square test. ``bins`` were compared, neighbours put together.
    """

    psi: float
    usual_psi: float
    p_value: float
    bins: int


def compare_histograms(one: Sequence[int], other: Sequence[int]) -> HistogramDifference | None:
    """Return how far two histograms of the same bins are apart, None where too few records lie in more than one.

    Neighbouring bins are put together until the smaller sample may expect 5 records in each (Cochran 1954, Biometrics
    10:417): which is decided by both samples' sum, so that the test stays one given that sum. With shares p and q:

    - ``psi = sum((p - q) ln(p / q))`` (Siddiqi 2006, Credit Risk Scorecards), half a record added to every bin, or an
      empty one would make it infinite;
    - without a difference, psi is about ``(1/n + 1/m)`` times a chi-square variable of ``bins - 1`` degrees (Yurdakul
      and Naranjo 2020, J Risk Model Validation 14(4)): fixed limits such as 0.1 and 0.25 mean nothing for few records;
    - ``p_value`` from Pearson's two-sample statistic, with as many degrees.
    """
    from scipy.special import chdtrc, chdtri

    table = _put_together(np.array([one, other], np.float64))
    n_bins, sizes = table.shape[1], table.sum(axis=1, keepdims=True)
    if n_bins < 2:
        return None
    expected = sizes * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    smoothed = table + _SMOOTHING
    p, q = smoothed / smoothed.sum(axis=1, keepdims=True)
    spread = float((1 / sizes).sum())
    return HistogramDifference(
        psi=float(((p - q) * np.log(p / q)).sum()),
        usual_psi=spread * float(chdtri(n_bins - 1, 0.05)),
        p_value=float(chdtrc(n_bins - 1, statistic)),
        bins=n_bins,
    )


def _put_together(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return two histograms (2, bins) with bins put together, from the left, what is left over into the last."""
    both = table.sum(axis=0)
    share = table.sum(axis=1).min() / both.sum() if both.sum() else 0.0
    ends, filled = [0], 0.0
    for k, n in enumerate(both, start=1):
        filled += n * share
        if filled >= _LEAST_EXPECTED:
            ends.append(k)
            filled = 0.0
    if len(ends) == 1:
        return np.asarray(table.sum(axis=1, keepdims=True), np.float64)
    together: NDArray[np.float64] = np.add.reduceat(table, ends[:-1], axis=1)
    return together


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values corrected for their number (Holm 1979, Scand J Stat 6:65); None stays, and is not counted.

    The k-th smallest of n is multiplied by ``n - k + 1``, and is at least the one before it.
    """
    known = sorted((p, k) for k, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, k) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        adjusted[k] = least
    return adjusted
