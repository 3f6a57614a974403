"""``ecgadvise backtest``: how good is the advice, on runs that it has not seen?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advisor.terminal.lines import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from studies.backtest.hold_out import HeldOut
    from studies.backtest.scorecard import ArmsCard, ByLabels, Scorecard, Scores
    from studies.runs.tidy_runs import TidyRuns

EXAMPLE = "Example: ecgadvise backtest --json"
_ROWS = (
    ("regrets", "regret", "advice", "regret of the advice"),
    ("regrets", "regret", "always_fine_tune", " always fine-tuning"),
    ("regrets", "regret", "always_scratch", " always scratch"),
    ("regrets", "regret", "below_5000", " fine-tuning under 5,000"),
    ("regrets", "regret", "last_value", " arm ahead at largest n"),
    ("regrets", "regret", "keep_on_validation", " best of both on validation"),
    ("regrets", "above_floor", "advice", "advice above the floor"),
    ("bands", "coverage", "scratch", "90 % bands hold: scratch"),
    ("bands", "coverage", "fine_tune", " fine-tuned"),
    ("bands", "coverage", "gain", " gain"),
    ("bands", "coverage_se", "gain", "  its standard error"),
    ("from_500", "coverage", "gain", " gain, 500 records or more"),
    ("bands", "width", "gain", "width of the gain's band"),
    ("from_500", "width", "gain", " 500 records or more"),
    ("bands", "log_score", "gain", "log score of the gain"),
    ("bands", "crps", "gain", "CRPS of the gain"),
    ("bands", "crps", "scratch", " scratch"),
    ("bands", "crps", "fine_tune", " fine-tuned"),
)

_LABEL_ROWS = (
    ("coverage", "scratch", "90 % bands hold: scratch"),
    ("coverage", "fine_tune", " fine-tuned"),
    ("coverage", "gain", " gain"),
    ("coverage", "scratch_run", " single runs from scratch"),
    ("coverage", "fine_tune_run", " single runs fine-tuned"),
    ("width", "scratch", "width: scratch"),
    ("width", "fine_tune", " fine-tuned"),
    ("width", "gain", " gain"),
    ("crps", "scratch", "CRPS: scratch"),
    ("crps", "fine_tune", " fine-tuned"),
    ("crps", "gain", " gain"),
    ("log_score", "scratch", "log score: scratch"),
    ("log_score", "fine_tune", " fine-tuned"),
    ("log_score", "gain", " gain"),
)


def backtest(
    runs: Annotated[
        Path | None, typer.Option(help="A CSV file of runs or a study store. [default: the evidence that ships]")
    ] = None,
    metric: Annotated[str, typer.Option(help="The score to forecast.")] = "auroc_macro",
    margin: Annotated[float, typer.Option(help="The smallest difference of the metric that matters.")] = 0.01,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hold out the largest sizes of every curve, whole tasks and whole sites; ask the adviser; compare."""
    from advisor.answer.recommend import judge
    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.bar import progress_bar
    from models.errors import ExitCode
    from studies.backtest.evidence import measure_evidence
    from studies.backtest.hold_out import hold_out
    from studies.backtest.scorecard import score_all
    from studies.files.shipped import DEFAULT_RUNS
    from studies.runs.tidy_runs import read_runs

    if not 0 < margin < 1:
        raise Failure(f"--margin is {margin:g}: give a difference of the metric between 0 and 1", ExitCode.USAGE)
    path = runs or DEFAULT_RUNS
    found = read_runs(path, metric)
    measured, said = measure_evidence(found, path)
    with progress_bar("fits") as report:
        cells, problems = hold_out(measured, report)
    if not cells:
        reason = "; ".join(problems[:3]) or "no size has two replicates of every strategy"
        raise Failure(f"{path} has nothing that can be held out: {reason}", ExitCode.NO_EVIDENCE)
    scores = score_all(cells, judge, margin)
    warnings = [*found.warnings, *said, *problems]
    if json:
        typer.echo(_to_json(found, margin, cells, scores, warnings))
        return
    for warning in warnings:
        say(f"note: {warning}")
    typer.echo(_to_table(found, margin, scores))
    if scores.arms.bands.cells:
        typer.echo("\n".join(_arm_lines(scores.arms, margin)))
    if scores.by_labels:
        typer.echo("\n".join(_label_lines(scores.by_labels)))


def _to_json(runs: "TidyRuns", margin: float, cells: "Sequence[HeldOut]", scores: "Scores", warnings: list[str]) -> str:
    from collections import Counter
    from json import dumps

    # Of each precision, because none is forecast from runs of another.
    precisions = Counter(cell.table.precision or "unknown" for cell in cells)
    document = {
        "schema_version": 1, "runs": runs.name, "metric": runs.metric, "margin": margin,
        "tasks": sorted({cell.table.task for cell in cells}), "precisions": dict(sorted(precisions.items())),
        **_card(scores.overall),
        "by_scheme": {name: _card(card) for name, card in scores.by_scheme.items()},
        "arms": _card(scores.arms),
        "by_labels": {
            name: {"not_given": _card(cards.not_given), "given": _card(cards.given)}
            for name, cards in scores.by_labels.items()
        },
        "warnings": warnings,
    }  # fmt: skip
    return dumps(document, indent=1, allow_nan=False)


def _card(card: "Scorecard | ArmsCard") -> dict[str, Any]:
    """Return the figures of a card, those of its parts next to each other, as readers of older files know them."""
    from dataclasses import asdict

    parts = asdict(card)
    flat = {name: value for part in ("bands", "regrets", "bounds") for name, value in parts.pop(part).items()}
    rounded: dict[str, Any] = _rounded({**flat, **parts})
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_rounded(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value


def _to_table(runs: "TidyRuns", margin: float, scores: "Scores") -> str:
    """Return the scorecards side by side, at most 80 columns."""
    cards = {**scores.by_scheme, "all": scores.overall}
    lines = [f"{runs.name}, {runs.metric}, margin {margin:g}; held out ({_all_of(scores.by_scheme)}):"]
    lines.append(_row("", [name.replace("two_largest", "2 largest") for name in cards]))
    lines.append(_row("forecasts", [f"{card.bands.cells:,}" for card in cards.values()]))
    lines.append(_row("distinct cells", [f"{card.bands.distinct_cells:,}" for card in cards.values()]))
    for part, group, name, words in _ROWS:
        lines.append(_row(words, [_figure(getattr(getattr(card, part), group)[name]) for card in cards.values()]))
        if name == "keep_on_validation":
            lines.append(_row(" floor: an oracle's regret", [_figure(card.regrets.floor) for card in cards.values()]))
    lines += [
        _row("Brier of P(gain > margin)", [_figure(card.brier["advice"]) for card in cards.values()]),
        _row(" of the share above", [_figure(card.brier["base_rate"]) for card in cards.values()]),
        _row("not enough evidence", [_figure(card.abstention) for card in cards.values()]),
        _row(f"bound of loss at most {margin:g}", [_figure(card.bounds.bounded) for card in cards.values()]),
        _row(" measured loss beyond bound", [_figure(card.bounds.beyond) for card in cards.values()]),
        _row("  to be expected", [_figure(card.bounds.beyond_expected) for card in cards.values()]),
        _row("standard error of a gain", [_figure(card.noise) for card in cards.values()]),
    ]
    return "\n".join(lines)


def _all_of(cards: "Mapping[str, Scorecard]") -> str:
    return "all: without site" if "site" in cards else "all together"


def _arm_lines(arms: "ArmsCard", margin: float) -> list[str]:
    """Return what naming one of all arms lost in held-out tasks."""
    from studies.files.backtest import ARM_POLICIES

    lines = [f"of all four arms, in {arms.bands.cells} cells of held-out tasks, regret of:"]
    lines += [f" {ARM_POLICIES[name]:47}{_figure(regret)}" for name, regret in arms.regrets.regret.items()]
    figures = {
        "floor: an oracle's regret": arms.regrets.floor,
        "its 90 % bound of the loss": arms.bounds.bound,
        f"share of bounds at most {margin:g}": arms.bounds.bounded,
        "share of measured losses beyond it": arms.bounds.beyond,
        "to be expected": arms.bounds.beyond_expected,
    }
    return lines + [f" {words:47}{_figure(value)}" for words, value in figures.items()]


def _label_lines(by_labels: "Mapping[str, ByLabels]") -> list[str]:
    """Return what knowing the labels of a held-out task does to its forecast."""
    cards = {
        f"{name}{sign}": card
        for name, both in by_labels.items()
        for sign, card in ((" -", both.not_given), (" +", both.given))
    }
    lines = ["labels of the held-out task not given (-) and given (+):", _row("", list(cards))]
    for part, name, words in _LABEL_ROWS:
        lines.append(_row(words, [_figure(getattr(card.bands, part)[name]) for card in cards.values()]))
    lines.append(_row("regret of the advice", [_figure(card.regrets.regret["advice"]) for card in cards.values()]))
    lines.append(_row("not enough evidence", [_figure(card.abstention) for card in cards.values()]))
    return lines


def _row(words: str, values: "Iterable[str]") -> str:
    return f"{words:28}" + "".join(f"{value:>10}" for value in values)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
