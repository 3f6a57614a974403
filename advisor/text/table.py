"""A recommendation for a reader: at most 20 lines of 80 columns, 25 where more is asked; the verdict first."""

from collections.abc import Iterator
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.answer.arms import ArmOutlook
from advisor.answer.decision import DECISIVE, probability
from advisor.answer.recommend import Recommendation
from advisor.answer.scores import Score
from advisor.answer.words import (
    METRICS,
    VERDICTS,
    at_sizes,
    compares_more,
    count,
    duration,
    headline,
    money,
    records,
    signed,
    times_on,
    why_best,
    worth,
)
from studies.files.arms import ARMS, IN_WORDS, PAIR
from studies.files.curve import Curve, PilotCurve, PooledCurve

WIDTH, LINES = 80, 20
SCREEN = 25  # lines, however much is asked
NOTICE = "For model development and research only, not for patient care."
_MOST_NETWORKS, _MOST_LABELS = 4, 3
_ASKED_LINES = 3  # of a target, and of money


def to_table(answer: Recommendation, *, color: bool = False) -> str:
    """Return the answer; warnings that do not fit are counted in the last line but one."""
    out = console(color)
    lines = answer_lines(answer, out)
    networks = 1 + min(len(answer.networks), _MOST_NETWORKS + 1) if answer.networks else 0
    asked = _ASKED_LINES * ((answer.target is not None) + (answer.money is not None))
    most = min(LINES + networks + asked, SCREEN)
    if len(lines) > most - 2:  # long names take more lines
        lines = [*lines[: most - 3], "... the rest: see --explain"]
    for position, warning in enumerate(answer.warnings):
        out.print(f"! {warning}")
        added = take_lines(out)
        left = len(answer.warnings) - position
        if len(lines) + len(added) > most - (1 if left == 1 else 2):
            lines.append(f"! {count(left, 'more warning')}: see --explain")
            break
        lines += added
    return "\n".join([*lines, NOTICE, ""])


def answer_lines(answer: Recommendation, out: Console) -> list[str]:
    """Return the answer without its warnings."""
    question, curve = answer.question, answer.curve
    words, style = headline(answer)
    network = f"{question.arch} = {curve.arch}" if question.arch not in (None, curve.arch) else curve.arch
    out.print(Text.assemble((words, style), f"  ({network}, {question.n_records:,} records: {answer.support})"))
    if compares_more(answer):
        out.print(why_best(answer))
        if isinstance(answer.curve, PooledCurve):
            out.print(_gain_table(answer))
            out.print(_level_line(answer, answer.curve))
        else:
            out.print(_arm_table(answer))
        out.print(_pair_line(answer))
    else:
        out.print(answer.why)
        out.print(_score_table(answer))
    if answer.networks:
        out.print(_network_table(answer))
    out.print(_fact_table(answer))
    return take_lines(out)


def _pair_line(answer: Recommendation) -> str:
    """Say how fine-tuning and scratch compare, where another arm may come first."""
    said = answer.why.removeprefix(f"With {answer.question.n_records:,} records ")
    verdict = VERDICTS[answer.verdict][0].lower()
    gain = "" if isinstance(answer.curve, PooledCurve) else f", gain {_gain(answer)}"  # else its table says it
    return f"Fine-tune or scratch: {verdict}{gain}. {said[0].upper()}{said[1:]}"


def _gain(answer: Recommendation) -> str:
    gain = answer.gain
    return f"{gain.mean:+.3f} (90 %: {gain.mean_ci_lower:+.3f} to {gain.mean_ci_upper:+.3f})"


def console(color: bool) -> Console:
    """Return a console that prints text as it is into a buffer."""
    return Console(
        file=StringIO(),
        width=WIDTH,
        force_terminal=color,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
    )


def take_lines(out: Console) -> list[str]:
    """Take what was printed since the last call, without the spaces that tables end in."""
    buffer = out.file
    assert isinstance(buffer, StringIO)
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return [line.rstrip() for line in text.splitlines()]


def plain_table(*header: str) -> Table:
    """Return a table without lines; its columns have names where a header is given."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim", show_header=bool(header))
    for name in header:
        table.add_column(name)
    return table


def _score_table(answer: Recommendation) -> Table:
    metric = answer.question.metric
    table = plain_table(METRICS.get(metric, metric), "expected", "90 % band", "90 % of single runs")
    for arm in PAIR:
        score = getattr(answer, arm.field)
        run = f"{score.obs_ci_lower:.3f} to {score.obs_ci_upper:.3f}"
        table.add_row(arm.words, f"{score.mean:.3f}", band(score), run)
    gain = answer.gain
    table.add_row("gain", f"{gain.mean:+.3f}", f"{gain.mean_ci_lower:+.3f} to {gain.mean_ci_upper:+.3f}")
    return table


def _arm_table(answer: Recommendation) -> Table:
    metric = answer.question.metric
    table = plain_table(METRICS.get(metric, metric), "expected", "90 % band", "gain", "loss (90 %)", "training")
    table.padding = (0, 2, 0, 0)  # for the longest name
    for one in answer.arms:
        table.add_row(one.arm.words, *_arm_row(one))
    return table


def _gain_table(answer: Recommendation) -> Table:
    """Return what the arms differ by in a dataset that nobody has measured."""
    metric = answer.question.metric
    table = plain_table(METRICS.get(metric, metric), "over scratch", "90 % band", "loss (90 %)", "training")
    table.padding = (0, 2, 0, 0)
    for one in answer.arms:
        table.add_row(one.arm.words, *over_scratch(one), _loss(one), duration(one.cost.seconds))
    return table


def over_scratch(one: ArmOutlook) -> tuple[str, str]:
    """Write what an arm scores over scratch, and its band; nothing of scratch itself."""
    more = one.difference
    if more is None:
        return "", ""
    return f"{more.mean:+.3f}", f"{more.mean_ci_lower:+.3f} to {more.mean_ci_upper:+.3f}"


def _level_line(answer: Recommendation, curve: PooledCurve) -> str:
    """Say how high the best arm scores, which in a dataset that nobody has measured is its labels' doing."""
    score = answer.best.score
    expected = f"{score.mean:.2f} (90 %: {score.mean_ci_lower:.2f} to {score.mean_ci_upper:.2f})"
    named = labels_in_words(curve, answer.question.task_like)
    return f"Expected of {answer.best.arm.words}: {expected}{f' {named}' if named else ', your labels decide'}."


def labels_in_words(curve: PooledCurve, task_like: str | None) -> str:
    """Name the labels that a curve is given, or count them; nothing where it is given none."""
    if not curve.labels:
        return ""
    if task_like is not None:
        return f"with the labels of {task_like}"
    named = [label.finding for label in curve.labels if label.finding is not None]
    if len(named) == len(curve.labels) <= _MOST_LABELS:
        return f"with {' and '.join(named)}"
    return "with your label" if len(curve.labels) == 1 else f"with your {len(curve.labels)} labels"


def _arm_row(one: ArmOutlook) -> tuple[str, ...]:
    """Return an arm's cells: its gain is over scratch, its loss against the best arm."""
    return f"{one.score.mean:.3f}", band(one.score), over_scratch(one)[0], _loss(one), duration(one.cost.seconds)


def _loss(one: ArmOutlook) -> str:
    return f"{one.expected_loss.mean:.3f} ({one.expected_loss.upper:.3f})"


def _network_table(answer: Recommendation) -> Table:
    table = plain_table("network", best_of(answer), "expected", "90 % band", "training")
    for row in answer.networks[:_MOST_NETWORKS]:
        arm, score = IN_WORDS[row.arm], row.score
        table.add_row(row.arch, arm, f"{score.mean:.3f}", band(score), duration(row.seconds))
    if (left := len(answer.networks) - _MOST_NETWORKS) > 0:
        table.add_row(f"{left} more: see --json")
    return table


def best_of(answer: Recommendation) -> str:
    """Return what heads the column of each network's arm."""
    return "best arm" if compares_more(answer) else "better arm"


def band(score: Score) -> str:
    """Write the band of the mean."""
    return f"{score.mean_ci_lower:.3f} to {score.mean_ci_upper:.3f}"


def _fact_table(answer: Recommendation) -> Table:
    table, curve = plain_table(), answer.curve
    if not compares_more(answer):
        for row in pair_rows(answer):
            table.add_row(*row)
    table.add_row("pre-training", f"worth {worth(answer.worth_in_records)}{_pretraining_time(answer)}")
    costs = () if compares_more(answer) else _cost_rows(answer)
    for row in (*change_rows(answer), *target_rows(answer), *costs, *money_rows(answer)):
        table.add_row(*row)
    of_tasks = f"{len(curve.tasks)} tasks" if isinstance(curve, PooledCurve) else curve.task
    table.add_row("evidence", f"{answer.curves.study}: {_runs(curve)} of {of_tasks}, {answer.curves.created[:10]}")
    return table


def _pretraining_time(answer: Recommendation) -> str:
    """Say how long a pre-training takes, and on what, where the arms' own times are in their table."""
    if not compares_more(answer):
        return ""
    cost, times = answer.cost.get("pretraining"), times_on(answer)
    took = "" if cost is None or cost.seconds is None else f", takes {duration(cost.seconds)}"
    return f"{took}; training {times}" if times else took


Row = tuple[str, str]


def _runs(curve: Curve) -> str:
    first, *added = reversed(curve.rests_on)
    return count(first.runs, "paired run") + "".join(f", and {part.runs:,}" for part in added)


def pair_rows(answer: Recommendation) -> Iterator[Row]:
    """Say where the gain of fine-tuning over scratch lies against the margin, and until when there is one."""
    gain, margin = answer.gain, answer.question.margin
    yield (
        "probability",
        f"gain > {margin:g}: {probability(gain.p_above_margin)}   in between: {probability(gain.p_within_margin)}   "
        f"loss > {margin:g}: {probability(gain.p_below_margin)}",
    )
    yield "break-even", records(answer.break_even, " records", least=answer.curve.reach[0])


def change_rows(answer: Recommendation) -> Iterator[Row]:
    """Say what would change the answer: other numbers of records, and what more labels add."""
    flips = [f"{f.n_records:,} records: {VERDICTS[f.verdict][0].lower()}" for f in answer.flips if f is not None]
    yield "changes at", "; ".join(flips) or "no number of records that the evidence reaches"
    if (pilot := answer.pilot_value) is not None:
        took = "" if pilot.seconds is None else f" ({duration(pilot.seconds)})"
        wins = f"{at_sizes(pilot.sizes)}{took} can win at most {pilot.at_most:.3f}"
        if isinstance(answer.curve, PilotCurve):
            yield "more pairs", f"{pilot.pairs} {wins}"
        else:
            yield "a pilot", f"of {pilot.pairs} pairs {wins}"
    if (more := answer.more_records) is not None:
        added, price = more.n_records - answer.question.n_records, answer.question.label_cost
        cost = "" if price is None else f" for {money(price * added, answer.question.currency)}"
        interval = f"90 %: {signed(more.added_ci_lower)} to {signed(more.added_ci_upper)}"
        yield "more labels", f"{added:,} more: {signed(more.added)} {IN_WORDS[more.arm]} ({interval}){cost}"


def target_rows(answer: Recommendation) -> Iterator[Row]:
    """Say how many records the asked score takes, if one was asked for, and of which arms no number is enough."""
    if answer.target is None:
        return
    least, most = answer.curve.reach
    enough, missed = [], []
    for arm in ARMS:
        if (reach := answer.target.get(arm.field)) is None:
            continue
        if reach.records is None:
            missed.append(f"{probability(reach.p_unreachable)} ({arm.words})")
            continue
        fewest = "at most " if reach.records <= least else ""
        cost = "" if reach.total_cost is None else f" for {money(reach.total_cost, answer.question.currency)}"
        enough.append(f"{arm.words} {fewest}{count(reach.records, 'record')}{cost}")
    said = [", ".join(enough)] if enough else []
    if missed:
        said.append(
            f"no number up to {most:,} is enough with probability {DECISIVE:g}: none reaches it with probability "
            f"{', '.join(missed)}"
        )
    yield f"target {answer.question.target:g}", "; ".join(said)


def _cost_rows(answer: Recommendation) -> Iterator[Row]:
    words = [
        f"{duration(answer.cost[name].seconds)} {what}"
        for name, what in (*((arm.field, arm.words) for arm in ARMS), ("pretraining", "pre-training"))
        if name in answer.cost
    ]
    times = times_on(answer)
    yield "one training", ", ".join(words) + (f"; {times}" if times else "")


def money_rows(answer: Recommendation) -> Iterator[Row]:
    """Say what both arms cost in money, where prices were given."""
    if answer.money is None:
        return
    tuned, scratch, saving = answer.money.fine_tune, answer.money.scratch, answer.money.label_saving
    shared, unit = answer.question.uses or 1, answer.question.currency
    paid = (
        tuned.pretraining is not None
        and f" (pre-training{f' / {shared:,}' * (shared > 1)}: {money(tuned.pretraining, unit)})"
    )
    yield "total cost", f"{money(tuned.total, unit)} fine-tuned{paid or ''}, {money(scratch.total, unit)} from scratch"
    if saving is not None:
        words = ["out of reach" if v is None else money(v, unit) for v in (saving.median, saving.lower, saving.upper)]
        yield "labels saved", f"worth {words[0]} (90 %: {words[1]} to {words[2]})"
