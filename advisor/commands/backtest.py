"""``ecgadvise backtest``: how good is the advice, on runs that it has not seen?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studies.collection.backtest import HeldOut
    from studies.collection.scorecard import ArmsCard, Scorecard
    from studies.runs.tidy_runs import TidyRuns

EXAMPLE = "Example: ecgadvise backtest --json"
_ROWS = (
    ("regret", "advice", "regret of the advice"),
    ("regret", "always_fine_tune", "  of always fine-tuning"),
    ("regret", "always_scratch", "  of always scratch"),
    ("regret", "below_5000", "  of fine-tuning under 5,000"),
    ("regret", "last_value", "  of the arm ahead at largest n"),
    ("coverage", "scratch", "90 % bands hold: scratch"),
    ("coverage", "fine_tune", "  fine-tuned"),
    ("coverage", "gain", "  gain"),
    ("coverage", "scratch_run", "  single runs from scratch"),
    ("coverage", "fine_tune_run", "  single runs fine-tuned"),
    ("width", "gain", "width of the band of the gain"),
    ("error", "advice", "error of the expected score"),
    ("error", "last_value", "  of the last value"),
    ("brier", "advice", "Brier score of P(gain > margin)"),
    ("brier", "base_rate", "  of the share of gains above"),
)


def backtest(
    runs: Annotated[
        Path | None, typer.Option(help="A CSV file of runs or a study store. [default: the evidence that ships]")
    ] = None,
    metric: Annotated[str, typer.Option(help="The score to forecast.")] = "auroc_macro",
    margin: Annotated[float, typer.Option(help="The smallest difference of the metric that matters.")] = 0.01,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hold out the largest sizes of every curve, and whole tasks; ask the adviser; compare with what was measured."""
    from advisor.answer.recommend import judge
    from advisor.terminal.failures import Failure
    from advisor.terminal.progress import progress_bar
    from models.errors import ExitCode
    from studies.collection.backtest import SCHEMES, hold_out
    from studies.collection.scorecard import score_arms, score_forecasts
    from studies.files.shipped import DEFAULT_RUNS
    from studies.runs.run_tables import tabulate
    from studies.runs.tidy_runs import read_runs

    if not 0 < margin < 1:
        raise Failure(f"--margin is {margin:g}: give a difference of the metric between 0 and 1", ExitCode.USAGE)
    found = read_runs(runs or DEFAULT_RUNS, metric)
    tables, left_out = tabulate(found)
    with progress_bar("curves") as report:
        cells, problems = hold_out(tables, report)
    if not cells:
        reason = "; ".join(problems[:3]) or "no size has two replicates of every strategy"
        raise Failure(f"{runs or DEFAULT_RUNS} has nothing that can be held out: {reason}", ExitCode.NO_EVIDENCE)
    by_scheme = {scheme: [cell for cell in cells if cell.scheme == scheme] for scheme in SCHEMES}
    cards = {name: score_forecasts(of_scheme, judge, margin) for name, of_scheme in by_scheme.items() if of_scheme}
    overall, arms = score_forecasts(cells, judge, margin), score_arms(cells, margin)
    warnings = [*found.warnings, *left_out, *problems]
    if json:
        tasks = sorted({cell.table.task for cell in cells})
        typer.echo(_to_json(found, margin, tasks, _by_precision(cells), overall, cards, arms, warnings))
        return
    for warning in warnings:
        typer.echo(f"left out: {warning}", err=True)
    typer.echo(_to_table(found, margin, {**cards, "all": overall}))
    if arms.cells:
        typer.echo("\n".join(_arm_lines(arms, margin)))


def _by_precision(cells: "Sequence[HeldOut]") -> dict[str, int]:
    """Count the held-out cells of each precision: none is forecast from runs of another."""
    from collections import Counter

    return dict(sorted(Counter(cell.table.precision or "unknown" for cell in cells).items()))


def _to_json(
    runs: "TidyRuns", margin: float, tasks: list[str], precisions: dict[str, int], overall: "Scorecard",
    cards: "Mapping[str, Scorecard]", arms: "ArmsCard", warnings: list[str],
) -> str:  # fmt: skip
    from dataclasses import asdict
    from json import dumps

    document = {
        "schema_version": 1, "runs": runs.name, "metric": runs.metric, "margin": margin, "tasks": tasks,
        "precisions": precisions,
        **_rounded(asdict(overall)),
        "by_scheme": {name: _rounded(asdict(card)) for name, card in cards.items()},
        "arms": _rounded(asdict(arms)),
        "warnings": warnings,
    }  # fmt: skip
    return dumps(document, indent=1, allow_nan=False)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_rounded(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value


def _to_table(runs: "TidyRuns", margin: float, cards: "Mapping[str, Scorecard]") -> str:
    """Return the scorecards side by side, at most 80 columns."""
    lines = [f"{runs.name}, {runs.metric}, margin {margin:g}; held out:"]
    lines.append(f"{'':31}" + "".join(f"{name:>12}" for name in cards))
    lines.append(f"{'cells':31}" + "".join(f"{card.cells:12,}" for card in cards.values()))
    for group, name, words in _ROWS:
        lines.append(f"{words:31}" + "".join(_cell(getattr(card, group)[name]) for card in cards.values()))
    lines.append(f"{'not enough evidence':31}" + "".join(_cell(card.abstention) for card in cards.values()))
    lines.append(f"{'standard error of a gain':31}" + "".join(_cell(card.noise) for card in cards.values()))
    return "\n".join(lines)


def _arm_lines(arms: "ArmsCard", margin: float) -> list[str]:
    """Return what naming one of all arms lost in held-out tasks."""
    from studies.files.backtest import ARM_POLICIES

    words = {**ARM_POLICIES, "bound": "its 90 % bound of the loss", "bounded": f"  share at most {margin:g}"}
    words["beyond"] = "  share that lost more"
    lines = [f"of all four arms, in {arms.cells} cells of held-out tasks, regret of:"]
    lines += [f"{words[name]:31}{_cell(regret)}" for name, regret in arms.regret.items()]
    return lines + [f"{words[name]:31}{_cell(getattr(arms, name))}" for name in ("bound", "bounded", "beyond")]


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.4f}':>12}"
