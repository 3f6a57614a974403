"""The figure of a report: the chart, its key, what a reader reads out of it at a number of records, and all as a table.

Without a script the read-out is that of the asker's number of records. With one, a pointer or the slider moves it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from advisor.answer.decision import probability
from advisor.answer.recommend import Recommendation
from advisor.answer.words import METRICS
from advisor.report.chart import CLASSES, banded_arm, chart, gain_chart
from advisor.report.html import table, text
from advisor.text.curve_lines import CurveLines, Line
from studies.files.arms import IN_WORDS
from studies.files.curve import PooledCurve

_N, _GAIN, _GAIN_BAND, _ODDS, _SUPPORT = 0, -4, -3, -2, -1  # positions among the words of a row; arms are between
_LINES = {kind: f'<path class="line {kind}" d="M0 6H30"/>' for kind in ("tuned", "scratch", "probe", "kernels")}
_KEY = {
    "tuned": f'{_LINES["tuned"]}<path class="points tuned" d="M15 2.5l3.5 7h-7z"/>',
    "scratch": f'{_LINES["scratch"]}<path class="points scratch" d="M12 3h6v6h-6z"/>',
    "probe": f'{_LINES["probe"]}<circle class="points probe" cx="15" cy="6" r="3.4"/>',
    "kernels": f'{_LINES["kernels"]}<path class="points kernels" d="M15 2l4 4-4 4-4-4z"/>',
    "band": '<rect class="even-interval" style="opacity:.2" width="30" height="12"/>',
    "beyond": '<path class="line beyond" style="--tone:var(--faint)" d="M0 6H30"/>',
    "even": '<path class="even" d="M15 0V12"/><rect class="even-interval" x="4" y="8" width="22" height="4"/>',
}


def read_out(answer: Recommendation, lines: CurveLines) -> list[dict[str, Any]]:
    """Return what is said at each number of records: the words, and the scores as numbers for the dots."""
    assert lines.gain is not None and lines.p_above_margin is not None, "a recommendation has both arms"
    return [
        {
            "n": int(n),
            **{CLASSES[arm]: round(float(line.mean[k]), 5) for arm, line in lines.arms.items()},
            "words": [
                f"{n:,.0f}", *(word for line in lines.arms.values() for word in _words(line, k, "")),
                *_words(lines.gain, k, "+"),
                probability(float(lines.p_above_margin[k])), answer.curve.support(float(n)),
            ],
        }
        for k, n in enumerate(lines.n) if answer.curve.support(float(n)) != "beyond"
    ]  # fmt: skip


def _words(line: Line, k: int, sign: str) -> tuple[str, str]:
    return f"{line.mean[k]:{sign}.3f}", f"{line.lower[k]:{sign}.3f} to {line.upper[k]:{sign}.3f}"


def arms_of_rows(lines: CurveLines) -> list[dict[str, str]]:
    """Return what the page's script has to know of the arms, in the order of a row's words."""
    return [{"kind": CLASSES[arm], "name": IN_WORDS[arm]} for arm in lines.arms]


def figure(answer: Recommendation, lines: CurveLines, rows: Sequence[dict[str, Any]], yours: int) -> str:
    """Return the figure as HTML; ``yours`` is the position of the asker's number of records among the rows."""
    question = answer.question
    metric = f"{METRICS.get(question.metric, question.metric)} on the test set"
    here = rows[yours]["words"]
    scores = ", ".join(f"{IN_WORDS[arm]} {here[at]} ({here[at + 1]})" for arm, at in _positions(lines))
    described = (
        f"What {'both' if len(lines.arms) == 2 else 'all'} strategies are expected to score with "
        f"{rows[0]['words'][_N]} to {rows[-1]['words'][_N]} labelled records. At {here[_N]} records {scores}, gain "
        f"{here[_GAIN]} ({here[_GAIN_BAND]}). All numbers are in the table below the chart."
    )
    return (
        f'<figure><div class="surface" id="surface">{chart(answer, lines, metric, described)}</div>'
        f"{_key(answer, lines)}</figure>{_readout(here, lines, question.margin)}{_slider(rows, yours)}"
        f"{_numbers(answer, lines, rows)}"
    )


def gain_figure(answer: Recommendation, lines: CurveLines) -> str:
    """Return the figure of what every arm has over scratch, as HTML."""
    metric = METRICS.get(answer.question.metric, answer.question.metric)
    words = f"{metric} over training from scratch"
    at = int(np.flatnonzero(lines.n == answer.question.n_records)[0])
    said = "; ".join(
        f"{IN_WORDS[arm]} {line.mean[at]:+.3f} ({line.lower[at]:+.3f} to {line.upper[at]:+.3f})"
        for arm, line in lines.differences.items()
    )
    described = f"What each arm scores over training from scratch. At {answer.question.n_records:,} records: {said}."
    shown = {CLASSES[arm]: IN_WORDS[arm] for arm in lines.differences}
    shown[CLASSES[banded_arm(answer, lines)]] += ", with its 90 % band"
    keys = {**{words: _LINES[kind] for kind, words in shown.items()}, **_margin_key(answer)}
    items = "".join(
        f'<li><svg viewBox="0 0 30 12" aria-hidden="true">{drawn}</svg>{text(said)}</li>'
        for said, drawn in keys.items()
    )
    return f'<figure>{gain_chart(answer, lines, words, described)}<ul class="key">{items}</ul></figure>'


def _margin_key(answer: Recommendation) -> dict[str, str]:
    words = f"differences of at most {answer.question.margin:g}, which do not matter"
    return {words: '<rect class="margin" width="30" height="12"/>'}


def _positions(lines: CurveLines) -> list[tuple[str, int]]:
    """Return where among a row's words each arm's score is, its band behind it."""
    return [(arm, 1 + 2 * k) for k, arm in enumerate(lines.arms)]


def _key(answer: Recommendation, lines: CurveLines) -> str:
    point = "mean of one task" if isinstance(answer.curve, PooledCurve) else "single runs"
    margin = f"{answer.question.margin:g}"
    words = {
        **{CLASSES[arm]: f"{IN_WORDS[arm]}: expected, {point}" for arm in lines.arms},
        "band": "90 % band of the expected score",
        "beyond": "beyond what was measured (shaded)",
        "even": f"break-even: the gain stays under {margin} beyond; its 90 % interval",
    }
    items = "".join(
        f'<li><svg viewBox="0 0 30 12" aria-hidden="true">{_KEY[name]}</svg>{text(said)}</li>'
        for name, said in words.items()
    )
    return f'<ul class="key">{items}</ul>'


def _readout(here: Sequence[str], lines: CurveLines, margin: float) -> str:
    def word(k: int) -> str:
        return f'<span data-word="{k % len(here)}">{text(here[k])}</span>'

    arms = (*((CLASSES[arm], IN_WORDS[arm], at) for arm, at in _positions(lines)), ("", "gain", _GAIN))
    body = "".join(
        f'<tr><th scope="row" class="{kind}">{name}</th><td>{word(k)}</td><td>{word(k + 1)}</td></tr>'
        for kind, name, k in arms
    )
    return (
        f'<div class="readout" id="readout"><p>At <strong>{word(_N)}</strong> records ({word(_SUPPORT)})</p>'
        f'<table><thead><tr><td></td><th scope="col">expected</th><th scope="col">90 % band</th></tr></thead>'
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
    arms = (words for arm in lines.arms for words in (IN_WORDS[arm], "90 % band"))
    header = ("records", *arms, "gain", "90 % band", f"P(gain > {answer.question.margin:g})", "support")
    return f"<details><summary>The chart as a table</summary>{table(header, picked)}</details>"


def nearest(rows: Sequence[dict[str, Any]], n: int) -> int:
    """Return the position of the row nearest to a number of records."""
    return int(np.argmin(np.abs(np.log([row["n"] / n for row in rows]))))
