"""The gain of an answer: its mean, its 90 % band, where it lies against the margin; and what a choice may lose."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from studies.files.arms import CHEAPEST_FIRST
from studies.files.draws import BAND, Floats, quantiles

_BOUND = 0.9  # of the draws lose no more


@dataclass(frozen=True)
class Gain:
    """Fine-tuned minus scratch, 90 % band, and where it lies against the margin."""

    mean: float
    mean_ci_lower: float
    mean_ci_upper: float
    p_above_margin: float
    p_within_margin: float
    p_below_margin: float


@dataclass(frozen=True)
class Loss:
    """What choosing an arm loses against the best in each draw: the mean, and what 90 % of the draws keep to."""

    mean: float
    upper: float


def summarise_loss(draws: Floats) -> Loss:
    """Summarise draws of a loss, (draws,), none of them negative."""
    return Loss(float(draws.mean()), quantiles(draws, (_BOUND,))[0])


def summarise_gain(draws: Floats, margin: float) -> Gain:
    """Return the mean and band of draws of the gain, and the shares of them above, within and below the margin."""
    low, high = quantiles(draws, BAND)
    above, below = float((draws > margin).mean()), float((draws < -margin).mean())
    within = float((np.abs(draws) <= margin).mean())
    return Gain(float(draws.mean()), low, high, above, within, below)


def name_first(scores: Mapping[str, Floats]) -> str:
    """Return the arm with the best expected score, of arms' draws (draws,) of it.

    Of those that are behind by no more than draws can tell, one standard error of the mean difference, the cheapest.
    """
    best = max(scores, key=lambda arm: float(scores[arm].mean()))
    behind = {arm: scores[best] - drawn for arm, drawn in scores.items()}
    level = [arm for arm, lead in behind.items() if lead.mean() <= lead.std() / lead.size**0.5]
    return min(level, key=CHEAPEST_FIRST.index)
