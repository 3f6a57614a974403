"""The figure of a report: the chart, its key, what a reader reads out of it at a number of records, and all as a table.

Without a script the read-out is that of the asker's number of records. With one, a pointer or the slider moves it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from advisor.answer.decision import probability
from advisor.answer.recommend import Recommendation
from advisor.answer.words import METRICS
from advisor.report.chart import chart
from advisor.report.html import table, text
from advisor.text.curve_lines import CurveLines, Line
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.curve import PooledCurve

# Positions among the words of a row.
_N, _TUNED, _TUNED_BAND, _SCRATCH, _SCRATCH_BAND, _GAIN, _GAIN_BAND, _ODDS, _SUPPORT = range(9)
_KEY = {
    "tuned": '<path class="line tuned" d="M0 6H30"/><path class="points tuned" d="M15 2.5l3.5 7h-7z"/>',
    "scratch": '<path class="line scratch" d="M0 6H30"/><path class="points scratch" d="M12 3h6v6h-6z"/>',
    "band": '<rect class="even-interval" style="opacity:.2" width="30" height="12"/>',
    "beyond": '<path class="line beyond" style="--tone:var(--faint)" d="M0 6H30"/>',
    "even": '<path class="even" d="M15 0V12"/><rect class="even-interval" x="4" y="8" width="22" height="4"/>',
}


def read_out(answer: Recommendation, lines: CurveLines) -> list[dict[str, Any]]:
    """Return what is said at each number of records: the words, and both scores as numbers for the dots."""
    assert lines.gain is not None and lines.p_above_margin is not None, "a recommendation has both arms"
    tuned, scratch = lines.arms[FINE_TUNE], lines.arms[SCRATCH]
    return [
        {
            "n": int(n),
            "tuned": round(float(tuned.mean[k]), 5),
            "scratch": round(float(scratch.mean[k]), 5),
            "words": [
                f"{n:,.0f}", *_words(tuned, k, ""), *_words(scratch, k, ""), *_words(lines.gain, k, "+"),
                probability(float(lines.p_above_margin[k])), answer.curve.support(float(n)),
            ],
        }
        for k, n in enumerate(lines.n) if answer.curve.support(float(n)) != "beyond"
    ]  # fmt: skip


def _words(line: Line, k: int, sign: str) -> tuple[str, str]:
    return f"{line.mean[k]:{sign}.3f}", f"{line.lower[k]:{sign}.3f} to {line.upper[k]:{sign}.3f}"


def figure(answer: Recommendation, lines: CurveLines, rows: Sequence[dict[str, Any]], yours: int) -> str:
    """Return the figure as HTML; ``yours`` is the position of the asker's number of records among the rows."""
    question = answer.question
    metric = f"{METRICS.get(question.metric, question.metric)} on the test set"
    here = rows[yours]["words"]
    described = (
        f"What both strategies are expected to score with {rows[0]['words'][_N]} to {rows[-1]['words'][_N]} labelled "
        f"records. At {here[_N]} records fine-tuned {here[_TUNED]} "
        f"({here[_TUNED_BAND]}), from scratch {here[_SCRATCH]} ({here[_SCRATCH_BAND]}), gain {here[_GAIN]} "
        f"({here[_GAIN_BAND]}). All numbers are in the table below the chart."
    )
    return (
        f'<figure><div class="surface" id="surface">{chart(answer, lines, metric, described)}</div>'
        f"{_key(answer)}</figure>{_readout(here, question.margin)}{_slider(rows, yours)}{_numbers(answer, lines, rows)}"
    )


def _key(answer: Recommendation) -> str:
    point = "mean of one task" if isinstance(answer.curve, PooledCurve) else "single runs"
    margin = f"{answer.question.margin:g}"
    words = {
        "tuned": f"fine-tuned: expected, {point}",
        "scratch": f"from scratch: expected, {point}",
        "band": "90 % band of the expected score",
        "beyond": "beyond what was measured (shaded)",
        "even": f"break-even: the gain stays under {margin} beyond; its 90 % interval",
    }
    items = "".join(
        f'<li><svg viewBox="0 0 30 12" aria-hidden="true">{_KEY[name]}</svg>{text(said)}</li>'
        for name, said in words.items()
    )
    return f'<ul class="key">{items}</ul>'


def _readout(here: Sequence[str], margin: float) -> str:
    def word(k: int) -> str:
        return f'<span data-word="{k}">{text(here[k])}</span>'

    arms = (("tuned", "fine-tuned", _TUNED), ("scratch", "from scratch", _SCRATCH), ("", "gain", _GAIN))
    body = "".join(
        f'<tr><th scope="row" class="{kind}">{name}</th><td>{word(k)}</td><td>{word(k + 1)}</td></tr>'
        for kind, name, k in arms
    )
    return (
        f'<div class="readout" id="readout"><p>At <strong>{word(_N)}</strong> records ({word(_SUPPORT)})</p>'
        f'<table><thead><tr><th></th><th scope="col">expected</th><th scope="col">90 % band</th></tr></thead>'
        f"<tbody>{body}</tbody></table><p>Probability of a gain over {margin:g}: {word(_ODDS)}</p></div>"
    )


def _slider(rows: Sequence[dict[str, Any]], yours: int) -> str:
    """Return what moves the read-out; hidden where no script runs."""
    return (
        '<div class="slider" id="slider" hidden><label for="records">Read out at another number of records</label>'
        f'<input type="range" id="records" min="0" max="{len(rows) - 1}" step="1" value="{yours}">'
        f'<button type="button" id="yours">back to {text(rows[yours]["words"][_N])}</button></div>'
    )


def _numbers(answer: Recommendation, lines: CurveLines, rows: Sequence[dict[str, Any]]) -> str:
    picked = [row["words"] for row in rows if row["n"] in lines.exact]
    header = ("records", "fine-tuned", "90 % band", "from scratch", "90 % band", "gain", "90 % band",
              f"P(gain > {answer.question.margin:g})", "support")  # fmt: skip
    return f"<details><summary>The chart as a table</summary>{table(header, picked)}</details>"


def nearest(rows: Sequence[dict[str, Any]], n: int) -> int:
    """Return the position of the row nearest to a number of records."""
    return int(np.argmin(np.abs(np.log([row["n"] / n for row in rows]))))
