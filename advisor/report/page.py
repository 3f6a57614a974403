"""An answer as one page that stands alone: no request leaves it, and it is complete without a script.

The page's frame, style and script are in ``report.html.template``. A content security policy allows that one script, by
its hash, and nothing from anywhere else.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from advisor.answer.recommend import Recommendation
from advisor.answer.words import VERDICTS, compares_more, headline, why_best
from advisor.report import sections
from advisor.report.facts_label import facts_label
from advisor.report.figure import arms_of_rows, figure, gain_figure, nearest, read_out
from advisor.report.html import bullets, facts, paragraph, section, text
from advisor.text.answer_json import to_json
from advisor.text.curve_lines import trace, with_points
from advisor.text.explanation import Explanation
from advisor.text.table import NOTICE
from engine.json_values import finite
from studies.files.curves import start_in_words

if TYPE_CHECKING:
    from advisor.own_records.answer import OwnAnswer

_TEMPLATE = Path(__file__).with_name("page.html.template")
_POINTS = 120
MAKER = " (ecgadvise)"  # the end of its title
_SUPPORT = {
    "measured": "runs were made within 10 % of this number of records",
    "interpolated": "runs were made with fewer and with more records",
    "extrapolated": "no runs were made out here: the curves were carried on",
}


@dataclass(frozen=True)
class Origin:
    """Where a page comes from: the command line, the time, the curves file and its SHA-256, versions by name."""

    command: str
    created: str
    curves: str
    curves_sha256: str
    versions: Mapping[str, str]


def to_page(answer: Recommendation, explanation: Explanation, origin: Origin, own: "OwnAnswer | None" = None) -> str:
    """Return the page; ``own`` is what was found of the asker's own records, where they were read."""
    n = answer.question.n_records
    lines = trace(with_points(answer.curve, answer.curves), answer.question.margin, _POINTS, (n,))
    rows = read_out(answer, lines)
    yours = nearest(rows, n)
    figures = gain_figure(answer, lines), figure(answer, lines, rows, yours)
    template = _TEMPLATE.read_text(encoding="utf-8")
    return Template(template).substitute(
        policy=_policy(template),
        title=text(f"{n:,} records: {headline(answer)[0].lower()}{MAKER}"),
        header="".join(_header(answer)),
        sections="".join(_sections(answer, explanation, origin, figures, own)),
        notice=text(NOTICE),
        answer=_data(json.loads(to_json(answer, explanation.as_dict(), None if own is None else own.as_dict()))),
        rows=_data({"yours": yours, "arms": arms_of_rows(lines), "rows": rows}),
    )


def _header(answer: Recommendation) -> Iterator[str]:
    n, curve = answer.question.n_records, answer.curve
    yield paragraph("ecgadvise: advice on model development", "eyebrow")
    asked = "what to train?" if compares_more(answer) else "fine-tune a pre-trained network, or train from scratch?"
    yield f"<h1>{n:,} labelled ECG records: {asked}</h1>"
    stands_for = f"{answer.question.arch} = " if answer.question.arch not in (None, curve.arch) else ""
    yield paragraph(f"{stands_for}{curve.arch}, {start_in_words(curve.upstream)}")
    words = f'<p class="words">{VERDICTS[answer.verdict][0]}</p>{paragraph(answer.why)}'
    if compares_more(answer):
        best = f'<p class="words">{headline(answer)[0]}</p>{paragraph(why_best(answer))}'
        yield f'<div class="verdict best" id="best">{best}</div>'
        words = f"{paragraph('Fine-tune or scratch', 'eyebrow')}{words}"
    yield f'<div class="verdict {answer.verdict}" id="verdict">{words}</div>'
    yield f'<p><span class="support">{answer.support}</span> {text(_SUPPORT[answer.support])}</p>'


def _sections(
    answer: Recommendation, explanation: Explanation, origin: Origin, figures: tuple[str, str], own: "OwnAnswer | None"
) -> Iterator[str]:
    gain, drawn = figures
    yield section("What each arm gains", gain, name="gain")
    yield section("Expected scores", *sections.scores(answer), name="scores")
    yield section("The curves" if compares_more(answer) else "The two curves", drawn, name="curves")
    yield section("What would change the answer", facts(sections.changes(answer)), name="changes")
    if answer.networks:
        yield section("Which network", *sections.networks(answer), name="networks")
    yield section("What it costs", *sections.costs(answer), name="cost")
    if own is not None:
        from advisor.report import own_records_section  # loads the engine, which an answer for a number does without

        yield from own_records_section.sections(own)
    warnings = answer.warnings if own is None else own.answer.warnings  # how the records differ is said with them
    yield section("What to keep in mind", bullets(warnings), name="warnings")
    yield section("The question", facts(sections.question(answer)), name="question")
    label = f'<div class="label">{facts_label(answer, explanation, own is not None)}</div>'
    yield section("Facts about this advice", label, name="facts")
    yield section("How good such advice was", *sections.backtest(answer, explanation), name="backtest")
    yield section("Evidence and fit", *sections.evidence(answer, explanation), name="evidence")
    yield section("Limits", bullets(explanation.limits), name="limits")
    yield section("Provenance", *_provenance(answer, origin), name="provenance")


def _provenance(answer: Recommendation, origin: Origin) -> Iterator[str]:
    curves = answer.curves
    yield facts([
        ("this page", f"{origin.created}, {', '.join(f'{name} {number}' for name, number in origin.versions.items())}"),
        ("evidence", f"{curves.study}, {curves.created}, ecgadvise {curves.version}"),
        ("curves file", origin.curves),
        ("its SHA-256", origin.curves_sha256),
    ])  # fmt: skip
    yield paragraph("Made by")
    yield f"<pre><code>{text(origin.command)}</code></pre>"
    yield paragraph("The whole answer as JSON is in this page, in the element with the id answer.", "note")


def _data(document: object) -> str:
    """Write JSON that no text in it can end: a browser looks for ``</script`` whatever the quotes are."""
    return json.dumps(finite(document), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def page_style() -> str:
    """Return the page's style sheet, for other pages that show the same pieces."""
    template = _TEMPLATE.read_text(encoding="utf-8")
    return template[template.index("<style>") + len("<style>") : template.index("</style>")]


def page_script() -> str:
    """Return the page's script: it needs the chart, the slider and, with the id ``rows``, what is read out."""
    return _script(_TEMPLATE.read_text(encoding="utf-8"))


def page_policy() -> str:
    """Return the page's content security policy, for a server that says it in a header as well."""
    return _policy(_TEMPLATE.read_text(encoding="utf-8"))


def _policy(template: str) -> str:
    script_hash = f"sha256-{b64encode(sha256(_script(template).encode()).digest()).decode()}"
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src '{script_hash}'"


def _script(template: str) -> str:
    return template[template.rindex("<script>") + len("<script>") : template.rindex("</script>")]
