"""From draws of the gain to a verdict (METHODS.md, Decision), and the verdict in one sentence."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from studies.files.draws import Floats
from studies.files.gain import Gain, summarise_gain

Verdict = Literal["fine-tune", "scratch", "no-material-difference", "not-enough-evidence"]

DECISIVE = 0.8  # the probability at which a verdict is given


def decide(draws: Floats, margin: float, pays_off: NDArray[np.bool_] | None = None) -> Verdict:
    """Return the verdict on draws of the gain.

    ``pays_off`` is given when a pre-training would have to be paid for: whether, in each draw, it saves more in labels
    than it costs (True where that cannot be weighed). Fine-tuning then has to gain more than the margin and to pay off;
    whatever falls short of that speaks for scratch. So a higher price never moves the verdict towards fine-tuning.
    """
    if pays_off is not None:
        p_fine_tune = float(((draws > margin) & pays_off).mean())
        if p_fine_tune >= DECISIVE:
            return "fine-tune"
        return "scratch" if 1 - p_fine_tune >= DECISIVE else "not-enough-evidence"
    gain = summarise_gain(draws, margin)
    if gain.p_above_margin >= DECISIVE:
        return "fine-tune"
    if gain.p_below_margin >= DECISIVE:
        return "scratch"
    return "no-material-difference" if gain.p_within_margin >= DECISIVE else "not-enough-evidence"


def judge(gain_draws: Floats, margin: float) -> Verdict:
    """Return the verdict of an asker who has a pre-trained network, as the backtest asks for it."""
    return decide(gain_draws, margin)


def probability(value: float) -> str:
    """Return a probability in words: 1,000 draws never make certainty."""
    return "over 0.99" if value > 0.99 else "under 0.01" if value < 0.01 else f"{value:.2f}"


def explain(verdict: Verdict, n_records: int, outcomes: dict[Verdict, tuple[float, str]], more: str) -> str:
    """Return the verdict's reason: ``outcomes`` holds each verdict's probability and what it says of fine-tuning.

    ``more`` is the further evidence that would help where there is not enough.
    """
    n = f"With {n_records:,} records"
    if verdict in outcomes:
        chance, outcome = outcomes[verdict]
        return f"{n} {outcome} (probability {probability(chance)})."
    chance, outcome = max(outcomes.values())
    return (
        f"{n} most likely {outcome}, but a verdict requires probability {DECISIVE:g}; this one has "
        f"{probability(chance)}; {more} would help to decide."
    )


def outcomes_at_hand(gain: Gain, margin: float) -> dict[Verdict, tuple[float, str]]:
    """Return what each verdict says when a pre-trained network is available, and its probability."""
    return {
        "fine-tune": (gain.p_above_margin, f"fine-tuning gains more than {margin:g}"),
        "no-material-difference": (gain.p_within_margin, f"the two differ by at most {margin:g}"),
        "scratch": (gain.p_below_margin, f"fine-tuning loses more than {margin:g}"),
    }


def outcomes_to_pay(
    draws: Floats, margin: float, pays_off: NDArray[np.bool_] | None
) -> dict[Verdict, tuple[float, str]]:
    """Return what each verdict says when a pre-training has to be paid for, and its probability.

    ``pays_off`` is None where that cannot be weighed.
    """
    gains = draws > margin
    p_fine_tune = float((gains if pays_off is None else gains & pays_off).mean())
    more, less = (
        ("", ", and a pre-trained network would have to be made first")
        if pays_off is None
        else (
            " and saves more in labels than its pre-training costs",
            ", or saves less in labels than pre-training costs",
        )
    )
    return {
        "fine-tune": (p_fine_tune, f"fine-tuning gains more than {margin:g}{more}"),
        "scratch": (1 - p_fine_tune, f"fine-tuning gains no more than {margin:g}{less}"),
    }
