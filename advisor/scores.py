"""What an arm is expected to score, with the band of that expectation and the band of a single run."""

from dataclasses import dataclass
from math import hypot

from studies.curve_draws import BAND, quantiles
from studies.curves_file import PairedCurve

_NORMAL_90 = 1.6448536269514722  # the 95 % quantile of a standard normal variable


@dataclass(frozen=True)
class Score:
    """An expected score: 90 % band of the mean over replicates, and of a single run."""

    mean: float
    mean_ci_lower: float
    mean_ci_upper: float
    obs_ci_lower: float
    obs_ci_upper: float


def summarise_score(curve: PairedCurve, strategy: str, n_records: int) -> Score:
    """Return the expected score of an arm at ``n_records``, with the 90 % bands of the mean and of a single run.

    A single run's distance from the median is that of the mean's band and 1.64 standard deviations of a run, as the
    hypotenuse: exact for normal draws, and more noise never makes a band narrower, which it does to the quantiles of
    a sum when the draws form clusters.
    """
    draws = curve.scores(strategy, n_records)[:, 0]
    low, median, high = quantiles(draws, (BAND[0], 0.5, BAND[1]))
    run = _NORMAL_90 * curve.run_sd(n_records)
    run_low, run_high = median - hypot(median - low, run), median + hypot(high - median, run)
    return Score(float(draws.mean()), low, high, max(run_low, 0.0), min(run_high, 1.0))
