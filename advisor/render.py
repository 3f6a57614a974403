"""A recommendation in words and numbers: a table for people, JSON for programs."""

import json
from dataclasses import asdict
from io import StringIO
from math import inf
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.advice import Cost, Recommendation, Score, probability
from studies.curve_draws import REACH, Interval

SCHEMA_VERSION = 1
_DIGITS = 4
_WIDTH = 80
_LINES = 25
_WORDS = {
    "fine-tune": ("FINE-TUNE", "bold green"),
    "scratch": ("TRAIN FROM SCRATCH", "bold green"),
    "no-material-difference": ("NO MATERIAL DIFFERENCE", "bold cyan"),
    "not-enough-evidence": ("NOT ENOUGH EVIDENCE", "bold yellow"),
}
_METRIC_WORDS = {"auroc_macro": "macro AUROC"}


def to_json(answer: Recommendation) -> str:
    """Return the answer as the JSON document of DESIGN.md, scores rounded to 4 decimals."""
    question, curve = answer.question, answer.curve
    document = {
        "schema_version": SCHEMA_VERSION,
        "question": {
            "n_records": question.n_records,
            "arch": curve.arch,
            "family": curve.family,
            "metric": question.metric,
            "margin": question.margin,
            "upstream": curve.upstream,
        },
        "verdict": answer.verdict,
        "why": answer.why,
        "scratch": rounded(asdict(answer.scratch)),
        "fine_tune": rounded(asdict(answer.fine_tune)),
        "gain": rounded(asdict(answer.gain)),
        "worth_in_records": asdict(answer.worth_in_records),
        "break_even": asdict(answer.break_even),
        "cost": {name: rounded(asdict(cost), digits=2) for name, cost in answer.cost.items()},
        "support": answer.support,
        "evidence": {
            "study": answer.curves.study,
            "runs": curve.runs,
            "tasks": [curve.task],
            "replicates": curve.replicates,
            "sizes": list(curve.sizes),
            "test_records": curve.test_records,
            "source": dict(curve.source),
            "created": answer.curves.created,
            "version": answer.curves.version,
        },
        "warnings": list(answer.warnings),
    }
    return json.dumps(document, indent=2, allow_nan=False)


def to_table(answer: Recommendation, *, color: bool = False) -> str:
    """Return the answer for a reader: at most 25 lines of 80 columns, the verdict first."""
    out = Console(
        file=StringIO(),
        width=_WIDTH,
        force_terminal=color,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    question, curve = answer.question, answer.curve
    words, style = _WORDS[answer.verdict]
    network = curve.arch if curve.arch == question.arch else f"{question.arch} = {curve.arch}"
    out.print(Text.assemble((words, style), f"  ({network}, {question.n_records:,} records: {answer.support})"))
    out.print(answer.why)
    out.print(_score_table(answer))
    out.print(_fact_table(answer))
    lines = _lines(out)
    for position, warning in enumerate(answer.warnings):
        out.print(f"! {warning}")
        if len(added := _lines(out)) + len(lines) >= _LINES:
            left = len(answer.warnings) - position
            return "\n".join([*lines, f"! {left} more warning{'s' * (left > 1)}: see --json", ""])
        lines += added
    return "\n".join([*lines, ""])


def _lines(out: Console) -> list[str]:
    """Take what was printed since the last call, without the spaces that tables end in."""
    buffer = out.file
    assert isinstance(buffer, StringIO)
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return [line.rstrip() for line in text.splitlines()]


def _score_table(answer: Recommendation) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    metric = answer.question.metric
    for name in (_METRIC_WORDS.get(metric, metric), "expected", "90 % band", "90 % of single runs"):
        table.add_column(name)
    for name, score in (("fine-tuned", answer.fine_tune), ("from scratch", answer.scratch)):
        table.add_row(name, f"{score.mean:.3f}", *_bands(score))
    gain = answer.gain
    table.add_row("gain", f"{gain.mean:+.3f}", f"{gain.mean_ci_lower:+.3f} to {gain.mean_ci_upper:+.3f}")
    return table


def _bands(score: Score) -> tuple[str, str]:
    return (
        f"{score.mean_ci_lower:.3f} to {score.mean_ci_upper:.3f}",
        f"{score.obs_ci_lower:.3f} to {score.obs_ci_upper:.3f}",
    )


def _fact_table(answer: Recommendation) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    gain, margin, curve = answer.gain, answer.question.margin, answer.curve
    table.add_row(
        "probability",
        f"gain > {margin:g}: {probability(gain.p_above_margin)}   in between: {probability(gain.p_within_margin)}   "
        f"loss > {margin:g}: {probability(gain.p_below_margin)}",
    )
    table.add_row("pre-training", f"worth {_records(answer.worth_in_records, ' labelled records')}")
    table.add_row("break-even", _records(answer.break_even, " records", least=min(curve.sizes) / REACH))
    table.add_row("one training", _cost_words(answer))
    table.add_row(
        "evidence",
        f"{answer.curves.study}: {curve.runs} runs of {curve.task}, {curve.replicates} paired replicates, "
        f"{answer.curves.created[:10]}",
    )
    return table


def _records(interval: Interval, unit: str, least: float = -inf) -> str:
    """Write an interval; ``least`` is the smallest number of records that the evidence speaks of."""

    def word(value: float | None) -> str:
        if value is None:
            return "out of reach"
        return f"under {least:,.0f}" if value <= least else f"{value:,.0f}"

    return f"{word(interval.median)}{unit} (90 %: {word(interval.lower)} to {word(interval.upper)})"


def _cost_words(answer: Recommendation) -> str:
    words = [
        f"{_seconds(answer.cost[name])} {what}"
        for name, what in (("fine_tune", "fine-tuned"), ("scratch", "from scratch"), ("pretraining", "pre-training"))
        if name in answer.cost
    ]
    return ", ".join(words)


def _seconds(cost: Cost) -> str:
    seconds = cost.gpu_seconds if cost.cpu_seconds is None else cost.cpu_seconds
    return "unknown" if seconds is None else f"{seconds:,.0f} s"


def rounded(values: dict[str, Any], digits: int = _DIGITS) -> dict[str, Any]:
    """Return the values with their floats rounded."""
    return {name: round(value, digits) if isinstance(value, float) else value for name, value in values.items()}
