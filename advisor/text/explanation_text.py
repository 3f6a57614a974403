"""What an answer rests on, for a reader: the text of ``recommend --explain``."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from advisor.answer.recommend import Recommendation
from advisor.answer.words import compares_more, count
from advisor.text.explanation import Explanation
from advisor.text.table import NOTICE, answer_lines, console, pair_rows, plain_table, take_lines
from studies.files.arms import FURTHER, IN_WORDS, Arm
from studies.files.backtest import ARM_POLICIES, POLICIES, Backtest
from studies.files.curve import Curve, PilotCurve, PooledCurve
from studies.files.curves import start_in_words
from studies.files.precision import in_words

_SYMBOLS = {"a": "a (with endless records)", "b": "b", "c": "c (steepness)", "n0": "n0 (records, head start)"}
_BANDS = {name: IN_WORDS.get(name, name) for name in ("scratch", "fine_tune", "gain")}


def to_text(answer: Recommendation, explanation: Explanation, *, color: bool = False) -> str:
    """Return the answer with all its warnings and what it rests on; as long as that takes."""
    out = console(color)
    lines = answer_lines(answer, out)
    for warning in answer.warnings:
        out.print(f"! {warning}")
    for title, rows in _sections(answer, explanation):
        out.print(f"\n{title}", style="bold")
        for row in rows:
            out.print(row)
    return "\n".join([*lines, *take_lines(out), "", NOTICE, ""])


def _sections(answer: Recommendation, explanation: Explanation) -> Iterator[tuple[str, Iterable[RenderableType]]]:
    if compares_more(answer):
        yield "Fine-tuning against scratch", _pair(answer)
    yield "Evidence", _evidence(answer, explanation)
    yield "Fit", _fit(answer, explanation)
    yield "Backtest", _backtest(answer, explanation)
    yield "Limits", (f"- {limit}" for limit in explanation.limits)


def _pair(answer: Recommendation) -> Iterator[RenderableType]:
    table = plain_table()
    for row in pair_rows(answer):
        table.add_row(*row)
    yield table


def evidence_sentences(answer: Recommendation, explanation: Explanation) -> Iterator[str]:
    """Say where the runs behind an answer come from."""
    curve = answer.curve
    yield f"Study {answer.curves.study}, {answer.curves.created[:10]}, made with ecgadvise {answer.curves.version}."
    yield from map(runs_in_words, curve.rests_on)
    for source in explanation.sources:
        if {"name", "version", "licence"} <= set(source):
            url = f", {source['url']}" if "url" in source else ""
            yield f"Records: {source['name']} {source['version']} ({source['licence']}){url}"
    if curve.test_records is not None:
        whose = "Every run of the pilot" if isinstance(curve, PilotCurve) else "Every run"
        yield f"{whose} was tested on {count(curve.test_records, 'record')} of other patients."
    if explanation.upstream is not None:
        start = start_in_words(curve.upstream)
        yield f"{start[0].upper()}{start[1:]}: {explanation.upstream}."


def runs_in_words(curve: Curve) -> str:
    """Say how many runs of which tasks a curve has of its own, without those of what predicted it."""
    pairs = f"{count(curve.replicates, 'pair')} or more at each size"
    of = f"a pilot on {curve.task}" if isinstance(curve, PilotCurve) else ", ".join(curve.measured_tasks)
    on = f" on {' and '.join(curve.devices)}" if curve.devices else ""
    return f"{count(curve.runs, 'run')} of {of}; {pairs}. Trained in {in_words(curve.precision)}{on}."


def _evidence(answer: Recommendation, explanation: Explanation) -> Iterator[RenderableType]:
    yield from evidence_sentences(answer, explanation)
    if explanation.tasks:
        yield _table(f"at {answer.question.n_records:,} records", explanation, task_rows(explanation))
    if explanation.points:
        yield _table("records", explanation, point_rows(explanation))


def measured_columns(explanation: Explanation) -> tuple[str, ...]:
    """Return what heads the cells of ``task_rows`` and ``point_rows`` but for the first."""
    return "from scratch", "fine-tuned", "gain", *(arm.words for arm in _further(explanation)), "runs"


def _further(explanation: Explanation) -> tuple[Arm, ...]:
    """Return the further arms that any task or size has."""
    known = {name for one in explanation.tasks for name in one.further}
    known |= {name for point in explanation.points for name in point.further}
    return tuple(arm for arm in FURTHER if arm.field in known)


def _table(first: str, explanation: Explanation, rows: Iterable[Sequence[str]]) -> Table:
    columns = measured_columns(explanation)
    if narrow := bool(_further(explanation)):
        columns = tuple(name.replace(" ", "\n") for name in columns)
    table = plain_table(first, *columns)
    if narrow:
        table.padding = (0, 2, 0, 0)
    table.columns[0].overflow = "fold"  # a long name goes on in the next line
    for row in rows:
        table.add_row(*row)
    return table


def task_rows(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    """Give of each pooled task its name, scores, gain and runs, under ``measured_columns``."""
    for one in explanation.tasks:
        others = (_score(one.further.get(arm.field)) for arm in _further(explanation))
        yield one.task, *_scores_and_gain(one.scratch, one.fine_tune), *others, f"{one.runs}"


def point_rows(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    """Give of each measured size its number of records, mean scores, gain and runs, under ``measured_columns``."""
    for point in explanation.points:
        others = (_score(point.further.get(arm.field)) for arm in _further(explanation))
        yield f"{point.n_records:,}", *_scores_and_gain(point.scratch, point.fine_tune), *others, f"{point.runs}"


def _scores_and_gain(scratch: float | None, fine_tune: float | None) -> tuple[str, str, str]:
    gain = "-" if scratch is None or fine_tune is None else f"{fine_tune - scratch:+.3f}"
    return _score(scratch), _score(fine_tune), gain


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def fit_sentence(answer: Recommendation, explanation: Explanation) -> str:
    """Say what the draws are that every number of an answer comes from."""
    if isinstance(answer.curve, PooledCurve):
        return f"{explanation.draws:,} draws of a task that nobody has measured, by random effects over those measured."
    if answer.curve.is_updated:
        return (
            f"{explanation.draws:,} draws of what the other tasks predict of these records by random effects, given "
            "what the pilot measured."
        )
    return f"score(n) = a - b (n + n0) ^ -c + bend(n), {explanation.draws:,} draws; median (90 % interval):"


def scatter_sentence(answer: Recommendation, explanation: Explanation) -> str:
    """Say how far a single run lies from its expectation."""
    return (
        f"A single run at {answer.question.n_records:,} records scatters with standard deviation "
        f"{explanation.run_sd:.4f}; the arms of a pair correlate with {explanation.pair_correlation:.2f}."
    )


def parameter_rows(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    """Give of each parameter of the law its name and, for each arm, its median and interval."""
    for name, words in _SYMBOLS.items():
        estimates = [parameters.get(name) for parameters in explanation.parameters.values()]
        yield words, *("-" if e is None else f"{e.median:g} ({e.lower:g} to {e.upper:g})" for e in estimates)


def _fit(answer: Recommendation, explanation: Explanation) -> Iterator[RenderableType]:
    yield fit_sentence(answer, explanation)
    if explanation.parameters:
        table = plain_table("", *(IN_WORDS[arm] for arm in explanation.parameters))
        for row in parameter_rows(explanation):
            table.add_row(*row)
        yield table
    yield scatter_sentence(answer, explanation)


def backtest_sentence(answer: Recommendation, found: Backtest) -> str:
    """Say what the backtest was about: all runs of the evidence, whichever network answers."""
    without = ", without a pilot" if isinstance(answer.curve, PilotCurve) else ""
    cells = f"{count(found.cells, 'held-out cell')} of {count(found.tasks, 'task')} of all networks"
    return f"Asked about {cells}{without} (ecgadvise backtest):"


def backtest_rows(found: Backtest) -> Iterator[tuple[str, str]]:
    """Give the figures of a backtest that are known, each with its name."""
    for policy, words in POLICIES.items():
        if (regret := found.regret.get(policy)) is not None:
            yield f"regret of {words}", f"{regret:.4f}"
    for name, words in _BANDS.items():
        if (coverage := found.coverage.get(name)) is not None:
            yield f"90 % bands that held: {words}", f"{coverage:.0%}"
    if found.arm_cells:
        for policy, words in ARM_POLICIES.items():
            if (regret := found.arm_regret.get(policy)) is not None:
                yield f"of all arms, {count(found.arm_cells, 'cell')}: regret of {words}", f"{regret:.4f}"
    if found.abstention is not None:
        yield "answered with not enough evidence", f"{found.abstention:.0%}"
    if found.brier is not None:
        yield "Brier score of P(gain > margin)", f"{found.brier:.3f}"


def _backtest(answer: Recommendation, explanation: Explanation) -> Iterator[RenderableType]:
    found = explanation.backtest
    if found is None:
        yield f"Not measured: {explanation.no_backtest}."
        return
    yield backtest_sentence(answer, found)
    table = plain_table()
    for row in backtest_rows(found):
        table.add_row(*row)
    yield table
