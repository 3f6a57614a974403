"""Numbers of an answer in words, as its table and its explanation say them."""

from math import inf

from studies.curve_draws import Interval

METRICS = {"auroc_macro": "macro AUROC"}
ARMS = {"fine_tune": "fine-tuned", "scratch": "from scratch", "fine-tune": "fine-tuned"}
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

    return f"{word(interval.median)}{unit} (90 %: {word(interval.lower)} to {word(interval.upper)})"


def worth(interval: Interval) -> str:
    """Write what pre-training is worth; nobody can tell where that may be less than nothing and may be without end."""
    if interval.lower is None or interval.lower >= 0 or interval.upper is not None:
        return records(interval, " labelled records")
    return f"unclear (90 %: {interval.lower:,.0f} labelled records to out of reach)"


def duration(value: float | None) -> str:
    """Write seconds in the unit that reads best."""
    if value is None:
        return "unknown"
    if value < 600:
        return f"{value:,.0f} s"
    return f"{value / 60:,.0f} min" if value < 36_000 else f"{value / 3600:,.1f} h"


def money(value: float | None) -> str:
    """Write a sum; cents matter in small ones only."""
    if value is None:
        return "unknown"
    return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"
