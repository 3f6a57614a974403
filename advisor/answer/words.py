"""Numbers of an answer in words, as its table and its explanation say them."""

from math import inf, isnan

from studies.files.draws import Interval

METRICS = {"auroc_macro": "macro AUROC"}
_MOST = 1e11  # hours, or a sum of money: beyond it a number of 12 digits and more tells nobody anything
VERDICTS = {
    "fine-tune": ("FINE-TUNE", "bold green"),
    "scratch": ("TRAIN FROM SCRATCH", "bold green"),
    "no-material-difference": ("NO MATERIAL DIFFERENCE", "bold cyan"),
    "not-enough-evidence": ("NOT ENOUGH EVIDENCE", "bold yellow"),
}


def records(interval: Interval, unit: str, least: float = -inf) -> str:
    """Write an interval; ``least`` is the smallest number of records that the evidence speaks of."""

    def word(value: float | None) -> str:
        if value is None:
            return "out of reach"
        return f"under {least:,.0f}" if value <= least else f"{value:,.0f}"

    unit = "" if interval.median is None else unit
    return f"{word(interval.median)}{unit} (90 %: {word(interval.lower)} to {word(interval.upper)})"


def worth(interval: Interval) -> str:
    """Write what pre-training is worth; nobody can tell where that may be less than nothing and may be without end."""
    if interval.lower is None or interval.lower >= 0 or interval.upper is not None:
        return records(interval, " labelled records")
    return f"unclear (90 %: {interval.lower:,.0f} labelled records to out of reach)"


def count(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def duration(value: float | None) -> str:
    """Write seconds in the unit that reads best."""
    if value is None or isnan(value):
        return "unknown"
    if value < 600:
        return f"{value:,.0f} s"
    if value >= 3600 * _MOST:
        return f"over {_MOST:,.0f} h"
    return f"{value / 60:,.0f} min" if value < 36_000 else f"{value / 3600:,.1f} h"


def money(value: float | None) -> str:
    """Write a sum; cents matter in small ones only."""
    if value is None or isnan(value):
        return "unknown"
    if abs(value) >= _MOST:
        return f"{'over' if value > 0 else 'under'} {'-' * (value < 0)}{_MOST:,.0f}"
    return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"
