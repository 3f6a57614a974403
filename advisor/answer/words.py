"""Numbers of an answer in words, as its table and its explanation say them."""

import re
from collections.abc import Sequence
from math import inf, isnan
from typing import TYPE_CHECKING

from advisor.answer.decision import losing, probability
from studies.files.arms import ARMS, PAIR
from studies.files.curve import PooledCurve
from studies.files.draws import Interval

if TYPE_CHECKING:
    from advisor.answer.recommend import Recommendation

METRICS = {"auroc_macro": "macro AUROC"}
_MOST = 1e11  # hours, or a sum of money: beyond it a number of 12 digits and more tells nobody anything
VERDICTS = {
    "fine-tune": ("FINE-TUNE", "bold green"),
    "scratch": ("TRAIN FROM SCRATCH", "bold green"),
    "no-material-difference": ("NO MATERIAL DIFFERENCE", "bold cyan"),
    "not-enough-evidence": ("NOT ENOUGH EVIDENCE", "bold yellow"),
}


def compares_more(answer: "Recommendation") -> bool:
    """Say whether more arms than fine-tuning and scratch were measured: then the best of them comes first."""
    return len(answer.arms) > len(PAIR)


def headline(answer: "Recommendation") -> tuple[str, str]:
    """Return what to do in a few words, with their style: the best of several arms, else the verdict on the two."""
    return (answer.best.arm.advice.upper(), "bold green") if compares_more(answer) else VERDICTS[answer.verdict]


def why_best(answer: "Recommendation") -> str:
    """Say what speaks for the best arm, how probable it is that it is the best, and what it loses where it is not.

    Where that may be more than the margin, it says why.
    """
    best, first = answer.best, answer.arms[0]
    loss = losing(best.expected_loss, answer.question.margin, "")
    highest = max(answer.arms, key=lambda arm: arm.score.mean)
    reason = f"the best expected score of {len(answer.arms)} arms"
    if best is first and highest is not best:  # draws cannot tell them apart: of these it is the first to be tried
        reason = f"level with {highest.arm.words} and simpler"
    if best is not first:
        more = first.score.mean - best.score.mean
        doubt = "to be more than the margin and to pay for its pre-training"
        reason = f"{first.arm.words} may score {more:.3f} more, but that is not likely {doubt}"
    unsure = ""
    if best.expected_loss.upper > answer.question.margin:
        differ = "datasets differ in" if isinstance(answer.curve, PooledCurve) else "the runs leave open"
        unsure = f": no arm is sure within {answer.question.margin:g}, {differ} which is best"
    return (
        f"With {answer.question.n_records:,} records {best.arm.advice}: {reason}. Probability to be the best "
        f"{probability(best.p_best)}; expected loss against the best {loss}{unsure}."
    )


def records(interval: Interval, unit: str, least: float = -inf) -> str:
    """Write an interval; ``least`` is the smallest number of records that the evidence speaks of."""
    median, lower, upper = (within_reach(value, least) for value in (interval.median, interval.lower, interval.upper))
    return f"{median}{'' if interval.median is None else unit} (90 %: {lower} to {upper})"


def within_reach(value: float | None, least: float = -inf) -> str:
    """Write a number of records as far as the evidence speaks of it, from ``least`` on."""
    if value is None:
        return "out of reach"
    return f"under {least:,.0f}" if value <= least else f"{value:,.0f}"


def worth(interval: Interval) -> str:
    """Write what pre-training is worth; nobody can tell where that may be less than nothing and may be without end."""
    if interval.lower is None or interval.lower >= 0 or interval.upper is not None:
        return records(interval, " labelled records")
    return f"unclear (90 %: {interval.lower:,.0f} labelled records to out of reach)"


def signed(value: float) -> str:
    """Write a difference of scores; one that rounds to nothing has no sign."""
    written = f"{value:+.3f}"
    return "0.000" if float(written) == 0 else written


def count(number: int, noun: str) -> str:
    """Write a number of things."""
    plural = "es" if noun.endswith("s") else "s"  # one class, two classes
    return f"{number:,} {noun}{plural * (number != 1)}"


def at_sizes(sizes: Sequence[int]) -> str:
    """Write the numbers of records at each of which something is run."""
    *first, last = (f"{n:,}" for n in sizes)
    return f"at each of {', '.join(first)} and {last} records" if first else f"at {last} records"


def duration(value: float | None) -> str:
    """Write seconds in the unit that reads best."""
    if value is None or isnan(value):
        return "unknown"
    if value < 600:
        return f"{value:,.0f} s"
    if value >= 3600 * _MOST:
        return f"over {_MOST:,.0f} h"
    return f"{value / 60:,.0f} min" if value < 36_000 else f"{value / 3600:,.1f} h"


def device_in_words(device: str) -> str:
    """Name a measured device, as ``engine.compute.devices`` describes it, without its memory, threads and versions."""
    return re.sub(r"\((?:R|TM)\)", "", device.partition(",")[0])


def times_on(answer: "Recommendation") -> str:
    """Say on which device an answer's times were measured, or that they are the asker's; nothing where it is unknown.

    A speed that the asker gives says nothing of arms that take no gradient steps, so that those keep what was measured.
    """
    timed = {name: cost for name, cost in answer.cost.items() if cost.seconds is not None}
    measured = {
        name: device_in_words(cost.device) for name, cost in timed.items() if cost.device and cost.your_seconds is None
    }
    devices = list(dict.fromkeys(measured.values()))
    if len(measured) < len(timed):
        own = f"times at your {answer.question.device_speed:,g} records a second"
        arms = " and ".join(arm.words for arm in ARMS if arm.field in measured)
        return f"{own}, of {arms} on {' and on '.join(devices)}" if arms else own
    elsewhere: dict[str, list[str]] = {}
    for row in answer.networks:
        if row.device is not None and (device := device_in_words(row.device)) not in devices:
            elsewhere.setdefault(device, []).append(row.arch)
    others = "".join(f", of {' and '.join(archs)} on {device}" for device, archs in elsewhere.items())
    return f"times on {' and on '.join(devices)}{others}" if devices else ""


def money(value: float | None, currency: str | None = None) -> str:
    """Write a sum, in the currency where one was named; cents matter in small ones only."""
    if value is None or isnan(value):
        return "unknown"
    unit = "" if currency is None else f" {currency}"
    if abs(value) >= _MOST:
        return f"{'over' if value > 0 else 'under'} {'-' * (value < 0)}{_MOST:,.0f}{unit}"
    return f"{value:,.2f}{unit}" if abs(value) < 1000 else f"{value:,.0f}{unit}"
