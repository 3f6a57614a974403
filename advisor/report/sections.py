"""What the sections of a report say, in pieces of HTML."""

from collections.abc import Iterator, Mapping

from advisor.answer.arms import ArmOutlook
from advisor.answer.costs import PRETRAINING, Bill
from advisor.answer.decision import probability
from advisor.answer.recommend import Recommendation
from advisor.answer.scores import Score
from advisor.answer.words import METRICS, compares_more, duration, money, records, times_on, worth
from advisor.report.html import bullets, facts, paragraph, table, text
from advisor.text.explanation import Explanation
from advisor.text.explanation_text import (
    backtest_rows,
    backtest_sentence,
    evidence_sentences,
    fit_sentence,
    measured_columns,
    parameter_rows,
    point_rows,
    scatter_sentence,
    task_rows,
)
from advisor.text.table import band, best_of, change_rows, money_rows, over_scratch, target_rows
from studies.files.arms import ARMS, IN_WORDS, PAIR, Arm
from studies.files.curve import PooledCurve

_COSTS = {**{arm.field: arm.words for arm in ARMS}, PRETRAINING: "pre-training"}


def scores(answer: Recommendation) -> Iterator[str]:
    """All expected scores, the gain and its three probabilities."""
    gain, margin, metric = answer.gain, answer.question.margin, answer.question.metric
    pool = answer.curve.rests_on[-1]
    if isinstance(pool, PooledCurve) and pool.labels:
        named = ", ".join(f"{label.finding or 'a label'} {100 * label.prevalence:.2g} %" for label in pool.labels)
        yield paragraph(f"Scores are of records with these labels: {named}.", "note")
    rows = [
        (arm.words, f"{score.mean:.3f}", band(score), f"{score.obs_ci_lower:.3f} to {score.obs_ci_upper:.3f}")
        for arm, score in _scores(answer)
    ]
    gains = (
        "gain of fine-tuning" if compares_more(answer) else "gain",
        f"{gain.mean:+.3f}",
        f"{gain.mean_ci_lower:+.3f} to {gain.mean_ci_upper:+.3f}",
        "",
    )
    yield table((METRICS.get(metric, metric), "expected", "90 % band", "90 % of single runs"), [*rows, gains])
    if compares_more(answer):
        choosing = [(one.arm.words, *_choice_row(one)) for one in answer.arms]
        columns = ("gain over scratch", "90 % band", "P(best)", "expected loss", "loss in 90 % at most")
        yield table(("choosing", *columns), choosing, "Losses are against the arm that is the best")
    odds = {
        "above": (f"fine-tuning gains more than {margin:g}", gain.p_above_margin),
        "within": (f"the two differ by at most {margin:g}", gain.p_within_margin),
        "below": (f"fine-tuning loses more than {margin:g}", gain.p_below_margin),
    }
    parts = "".join(f'<i class="{kind}" style="flex-grow:{p:.4f}"></i>' for kind, (_, p) in odds.items())
    yield f'<div class="odds" aria-hidden="true">{parts}</div>'
    yield table(("how probable is it that", ""), [(words, probability(p)) for words, p in odds.values()])


def _scores(answer: Recommendation) -> list[tuple[Arm, Score]]:
    """Return the score of every arm: best first where more than two were measured."""
    if compares_more(answer):
        return [(one.arm, one.score) for one in answer.arms]
    return [(arm, getattr(answer, arm.field)) for arm in PAIR]


def _choice_row(one: ArmOutlook) -> tuple[str, ...]:
    loss = one.expected_loss
    return *over_scratch(one), probability(one.p_best), f"{loss.mean:.3f}", f"{loss.upper:.3f}"


def changes(answer: Recommendation) -> Iterator[tuple[str, str]]:
    """What the answer turns on, each with its number."""
    yield "pre-training is worth", worth(answer.worth_in_records)
    yield "break-even", records(answer.break_even, " records", least=answer.curve.reach[0])
    yield from change_rows(answer)
    yield from target_rows(answer)


def networks(answer: Recommendation) -> Iterator[str]:
    """Every measured network that was compared, and on what its time was measured."""
    rows = [
        (row.arch, IN_WORDS[row.arm], f"{row.score.mean:.3f}", band(row.score), duration(row.seconds))
        for row in answer.networks
    ]
    yield table(("network", best_of(answer), "expected", "90 % band", "one training"), rows)
    if times := times_on(answer):
        yield paragraph(f"{times[0].upper()}{times[1:]}.", "note")


def costs(answer: Recommendation) -> Iterator[str]:
    """What one training of each arm takes, and the bill where prices were given."""
    charged = {_COSTS[name]: answer.cost[name] for name in _COSTS if name in answer.cost}
    columns = {
        "records passed": [
            None if cost.records_seen is None else f"{cost.records_seen:,}" for cost in charged.values()
        ],
        "time on a processor": [_time(cost.cpu_seconds) for cost in charged.values()],
        "time on a GPU": [_time(cost.gpu_seconds) for cost in charged.values()],
        "time on your device": [_time(cost.your_seconds) for cost in charged.values()],
        "best epoch after": [
            None if cost.share_to_best is None else f"{cost.share_to_best:.0%} of it" for cost in charged.values()
        ],
        "measured on": [cost.device for cost in charged.values()],
    }
    known = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    rows = [
        (name, *("-" if values[k] is None else str(values[k]) for values in known.values()))
        for k, name in enumerate(charged)
    ]
    yield table(("one training", *known), rows) if known else paragraph("The runs say nothing of what they cost.")
    if answer.money is None:
        yield paragraph("No price was given: --label-cost and --gpu-cost add both bills.", "note")
        return
    unit = answer.question.currency
    bills = {arm.words: getattr(answer.money, arm.field) for arm in PAIR}
    if compares_more(answer):
        bills = {one.arm.words: one.bill for one in answer.arms if one.bill is not None}
    bought = [_bill_row(name, bill, unit) for name, bill in bills.items()]
    yield table(("money", "labels", "machine", "pre-training", "total"), bought)
    yield facts(money_rows(answer))
    if (paid := answer.money.p_pays_off) is not None:
        saved = _expected(answer.money.expected_saving or 0.0, unit)
        yield paragraph(
            f"Probability that the labels saved are worth more than fine-tuning costs: {probability(paid)}. {saved}"
        )


def _expected(saving: float, currency: str | None) -> str:
    """Say what a pre-training is expected to save, or to cost."""
    if saving > 0:
        return f"It is expected to save {money(saving, currency)} more in labels than it costs."
    return f"It is expected to cost {money(-saving, currency)} more than it saves in labels."


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else duration(seconds)


def _bill_row(name: str, bill: Bill, currency: str | None) -> tuple[str, ...]:
    parts = (bill.labels, bill.machine, bill.pretraining)
    return name, *("-" if part is None else money(part, currency) for part in parts), money(bill.total, currency)


def question(answer: Recommendation) -> Iterator[tuple[str, str]]:
    """What was asked, and what stands for it in the evidence."""
    asked, curve = answer.question, answer.curve
    parameters = answer.curves.networks[curve.arch].parameters
    size = "" if parameters is None else f", {parameters:,} parameters"
    unit = "" if asked.currency is None else f" {asked.currency}"
    given: Mapping[str, str | None] = {
        "labelled records": f"{asked.n_records:,}, for training and validation together",
        "network": f"{asked.arch or 'the best that was measured'}: {curve.arch} ({curve.family}{size})",
        "pre-trained on": curve.upstream if asked.upstream != "none" else f"nothing yet; judged by {curve.upstream}",
        "task": asked.task
        or ("any: all tasks that were measured" if isinstance(curve, PooledCurve) else f"any: {curve.task}"),
        "score": METRICS.get(asked.metric, asked.metric),
        "difference that matters": f"{asked.margin:g}",
        "score to reach": None if asked.target is None else f"{asked.target:g}",
        "price of a labelled record": None if asked.label_cost is None else f"{asked.label_cost:,g}{unit}",
        "price of a machine hour": None if asked.gpu_cost is None else f"{asked.gpu_cost:,g}{unit}",
        "trainings that share the pre-training": None if asked.uses is None else f"{asked.uses:,}",
        "records a second on your device": None if asked.device_speed is None else f"{asked.device_speed:,g}",
    }
    return ((name, value) for name, value in given.items() if value is not None)


def backtest(answer: Recommendation, explanation: Explanation) -> Iterator[str]:
    """How good such advice was on what was held out."""
    if explanation.backtest is None:
        yield paragraph(f"Not measured: {explanation.no_backtest}.")
        return
    yield paragraph(backtest_sentence(answer, explanation.backtest))
    yield table(("", "measured"), backtest_rows(explanation.backtest))


def evidence(answer: Recommendation, explanation: Explanation) -> Iterator[str]:
    """The runs, their scores, and the fit."""
    yield bullets(evidence_sentences(answer, explanation))
    columns = measured_columns(explanation)
    if explanation.tasks:
        yield table((f"expected at {answer.question.n_records:,} records", *columns), task_rows(explanation))
    if explanation.points:
        yield table(("records", *columns), point_rows(explanation), "Measured: the mean of the runs at each size")
    yield f"<h3>Fit</h3><p>{text(fit_sentence(answer, explanation))}</p>"
    if explanation.parameters:
        yield table(("", *(IN_WORDS[arm] for arm in explanation.parameters)), parameter_rows(explanation))
    yield paragraph(scatter_sentence(answer, explanation))
