"""From draws of the gain to a verdict (METHODS.md, Decision), and the verdict in one sentence.

A network has to be trained in any case, so that what counts is what a choice loses where it is wrong. An arm is named
where nine draws in ten say that it loses no more than the margin against the other, and where it very likely gains more
than that. How probable it is that it is the better one chooses the words.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from studies.files.draws import Floats
from studies.files.gain import Loss, summarise_gain, summarise_loss

Verdict = Literal["fine-tune", "scratch", "no-material-difference", "not-enough-evidence"]

DECISIVE = 0.8  # the probability of a material gain at which an arm is named whatever it may lose, and a target reached
_MISSED = 0.2  # the probability, 1 - DECISIVE, with which a number of records may miss its target
_AS_LIKELY_AS_NOT = 0.5
_CLEARLY, _PROBABLY = 0.95, 0.65  # to be better: words, nothing else
_MORE_DIGITS = 4  # that are tried before words say on which side of a limit a number lies


def decide(draws: Floats, margin: float) -> Verdict:
    """Return the verdict on draws of the gain of an asker who has a pre-trained network."""
    gain, (fine_tune, scratch) = summarise_gain(draws, margin), (loss.upper <= margin for loss in _losses(draws))
    if fine_tune and scratch:
        return "no-material-difference"
    if fine_tune or gain.p_above_margin >= DECISIVE:
        return "fine-tune"
    return "scratch" if scratch or gain.p_below_margin >= DECISIVE else "not-enough-evidence"


def decide_paid(draws: Floats, margin: float, saving: float | None) -> Verdict:
    """Return the verdict where a pre-training has to be paid for, which is made for no gain within the margin.

    ``saving`` is what it is expected to save in labels less what it costs. Where it is above zero, and the gain more
    likely than not above the margin, what holds with a network available holds; else scratch. So a higher price never
    moves the verdict towards fine-tuning. Without prices, None, fine-tuning has to be as good as certain to gain more
    than the margin, and scratch to the contrary.
    """
    if saving is None:
        p_fine_tune = float((draws > margin).mean())
        if p_fine_tune >= DECISIVE:
            return "fine-tune"
        return "scratch" if 1 - p_fine_tune >= DECISIVE else "not-enough-evidence"
    verdict, is_made = decide(draws, margin), saving > 0 and is_material(draws, margin)
    if verdict == "not-enough-evidence" and saving > 0:
        return verdict
    return verdict if is_made and verdict != "no-material-difference" else "scratch"


def is_material(draws: Floats, margin: float) -> bool:
    """Say whether a gain is more likely than not above the margin."""
    return float((draws > margin).mean()) > _AS_LIKELY_AS_NOT


def _losses(gain: Floats) -> tuple[Loss, Loss]:
    """Return what fine-tuning loses where scratch is better, and scratch where fine-tuning is."""
    return summarise_loss(np.maximum(-gain, 0.0)), summarise_loss(np.maximum(gain, 0.0))


def judge(gain_draws: Floats, margin: float) -> Verdict:
    """Return the verdict of an asker who has a pre-trained network, as the backtest asks for it."""
    return decide(gain_draws, margin)


def probability(value: float) -> str:
    """Return a probability in words: 1,000 draws never make certainty.

    Less than a verdict or a word requires, or more than a target may be missed with, never reads as if it were that.
    """
    if value > 0.99 or value < 0.01:
        return "over 0.99" if value > 0.99 else "under 0.01"
    limit = min((_MISSED, _PROBABLY, DECISIVE, _CLEARLY), key=lambda one: abs(one - value))
    return _on_its_side(
        value, limit, 2, (lambda read: read > limit) if limit == _MISSED else (lambda read: read >= limit)
    )


def at_most(loss: float, margin: float) -> str:
    """Return a loss in words, which reads as above the margin where it is, and else does not."""
    return _on_its_side(loss, margin, 3, lambda read: read > margin)


def losing(loss: Loss, margin: float, on_average: str = " on average") -> str:
    """Return what a choice loses in words, also where a few draws make a mean that is above what 90 % keep to."""
    mean, bound = f"{loss.mean:.3f}", at_most(loss.upper, margin)
    if float(mean) > float(f"{loss.upper:.3f}"):
        return f"{mean}{on_average}, though in 90 % at most {bound}"
    return f"{mean}{on_average}, at most {bound} (90 %)"


def _on_its_side(value: float, limit: float, digits: int, passes: Callable[[float], bool]) -> str:
    """Write a number with as many digits, from ``digits`` on, as it takes to pass a limit as read if it does so."""
    shown = (f"{value:.{more}f}" for more in range(digits, digits + _MORE_DIGITS))
    aside = f"just {'over' if value > limit else 'under'} {limit:g}"
    return next((words for words in shown if passes(float(words)) == passes(value)), aside)


def explain(n_records: int, verdict: Verdict, gain: Floats, margin: float, more: str) -> str:
    """Return the reason of a verdict on draws of the gain when a pre-trained network is available.

    ``more`` says what further evidence would help where there is not enough.
    """
    n, (fine_tune, scratch), mean = f"With {n_records:,} records", _losses(gain), float(gain.mean())
    if verdict == "no-material-difference":
        most = at_most(max(fine_tune.upper, scratch.upper), margin)
        return f"{n} it hardly matters which: either loses at most {most} against the other (90 %)."
    ahead = verdict == "fine-tune" or (verdict != "scratch" and mean >= 0)
    arm, loss = ("fine-tuning", fine_tune) if ahead else ("training from scratch", scratch)
    p_better = float((gain > 0).mean() if ahead else (gain < 0).mean())
    better = f"{n} {arm} is {_how_sure(p_better)} (probability {probability(p_better)}); choosing it loses "
    lost = f"{better}{losing(loss, margin)}"
    if verdict != "not-enough-evidence":
        return f"{lost}."
    return f"{lost}, more than the {margin:g} that matters; {more}."


def _how_sure(p_better: float) -> str:
    if p_better >= _CLEARLY:
        return "clearly better"
    if p_better >= _PROBABLY:
        return "probably better"
    return "ahead in a toss-up" if p_better >= _AS_LIKELY_AS_NOT else "ahead on average in a toss-up"


def explain_paid(n_records: int, verdict: Verdict, gain: Floats, margin: float, more: str) -> str:
    """Return the reason of a verdict when a pre-training has to be paid for and there are no prices to weigh it by."""
    n, p_fine_tune = f"With {n_records:,} records", float((gain > margin).mean())
    outcomes = {
        "fine-tune": (p_fine_tune, f"fine-tuning gains more than {margin:g}"),
        "scratch": (
            1 - p_fine_tune,
            f"fine-tuning gains no more than {margin:g}, and a pre-trained network would have to be made first",
        ),
    }
    if verdict in outcomes:
        chance, outcome = outcomes[verdict]
        return f"{n} {outcome} (probability {probability(chance)})."
    chance, outcome = max(outcomes.values())
    return (
        f"{n} most likely {outcome}, but paying for a pre-training requires probability {DECISIVE:g}; this has "
        f"{probability(chance)}; {more}."
    )


def explain_saving(
    n_records: int, verdict: Verdict, gain: Floats, margin: float, saving: float, p_pays_off: float, price: str,
    more: str,
) -> str:  # fmt: skip
    """Return the reason of a verdict that weighs what a pre-training saves against what it costs.

    ``price`` is the expected ``saving`` in words, without its sign; ``more`` is as in ``explain``.
    """
    n = f"With {n_records:,} records a pre-training is expected to"
    if saving <= 0:
        pays = f"it pays off with probability {probability(p_pays_off)}"
        return f"{n} cost {price} more than it saves in labels; {pays}."
    saves = f"{n} save {price} more in labels than it costs (probability {probability(1 - p_pays_off)} that it does not"
    lost = _losses(gain)[0]
    if verdict == "scratch":
        return f"{saves}), but a gain above {margin:g}, for which one would be made, is not likely."
    if verdict == "fine-tune":
        return f"{saves}); fine-tuning loses {losing(lost, margin)}."
    return (
        f"{saves}); fine-tuning loses at most {at_most(lost.upper, margin)} (90 %), more than the {margin:g} that "
        f"matters; {more}."
    )
