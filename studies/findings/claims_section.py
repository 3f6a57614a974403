"""The sections of the findings on the four claims, and on the gain by number of records and by task."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import get_args

import numpy as np

from engine.deploy.markdown import table
from studies.figure_style import to_svg
from studies.files.precision import with_precision
from studies.findings.claims import SMALL, STATEMENTS, ClaimResult, Verdict, judge_claims, rule, scope_of
from studies.findings.figures import draw_gains, draw_tasks
from studies.fitting.random_effects import Combined, OverSources, TaskEstimate, combine
from studies.runs.pairs import Pair, SizeGain, estimate_by_task, gains_by_size, mean_gain, pair_runs
from studies.runs.task_names import parse_task
from studies.runs.tidy_runs import TidyRuns

GAINS, TASKS = "gains.svg", "tasks.svg"
_READING = (
    "Grey: single tasks. Orange: over tasks with the 90 % interval, hollow at sizes that fewer than half of the tasks "
    "were run at. Band: differences that do not matter."
)


def effect(found: Combined | OverSources | None) -> str:
    """Return an effect with its interval in brackets."""
    return "" if found is None else f"{found.effect:+.3f} ({found.ci_lower:+.3f} to {found.ci_upper:+.3f})"


def claim_lines(runs: TidyRuns, margin: float) -> list[str]:
    """Return every claim with its verdict, effect and interval, and the rule that gave it."""
    results = judge_claims(runs, margin)
    heads = ("claim", "where", "verdict", "effect (90 %)", "unit", "pairs", "tasks")
    rows = [
        (
            f"{one.claim}: {STATEMENTS[one.claim]}", one.scope, f"**{one.verdict}**",
            "" if one.effect is None else f"{one.effect:+.3f} ({one.ci_lower:+.3f} to {one.ci_upper:+.3f})",
            one.unit, str(one.n_pairs), str(len(one.tasks)),
        )
        for one in results
    ]  # fmt: skip
    said = [f"- {one.claim} ({one.scope}). {one.sentence}" for one in results]
    opening = [*_verdicts(results), "", rule(margin), "", *_scopes(runs), ""]
    return [*opening, *table(heads, rows), "", "In words:", "", *said]


def _verdicts(results: Sequence[ClaimResult]) -> list[str]:
    """Return which claims were confirmed, refuted and left open, and where."""
    lines = []
    for verdict in get_args(Verdict):
        named = [f"{one.claim} ({one.scope})" for one in results if one.verdict == verdict]
        lines.append(f"- **{verdict}**: {', '.join(named) or 'none'}")
    return lines


def _scopes(runs: TidyRuns) -> list[str]:
    """Say which networks stand for a family, and how far apart the tasks are."""
    archs: dict[str, set[str]] = defaultdict(set)
    tasks: dict[str, set[str]] = defaultdict(set)
    for pair in pair_runs(runs.runs):
        recipe = f" by recipe `{pair.scratch.recipe}`" if pair.scratch.recipe else ""
        archs[scope_of(pair.scratch)].add(with_precision(f"`{pair.scratch.arch}`", pair.scratch.precision) + recipe)
        tasks[parse_task(pair.scratch.task).source].add(pair.scratch.task)
    networks = "; ".join(f"{scope} is {' and '.join(sorted(names))}" for scope, names in sorted(archs.items()))
    sources = ", ".join(f"{source} {len(names)}" for source, names in sorted(tasks.items()))
    return [
        f"Small is at most {SMALL} records. Here {networks or 'no network was run in pairs'}; networks of a family "
        f"that were run on one task are averaged. Tasks of each source: {sources or 'none'}. Tasks of one source share "
        "records and labels: an interval over tasks is too narrow for another hospital's wherever one source has most "
        "of them. Claims by source follow below. Claim 3 is judged for these recipes only: their one-cycle schedule "
        "brings a training to its best near the end; in `tuned` both arms train for the same number of epochs, in "
        "`tuned-2`, whose fine-tuning of convolutional networks starts as a linear probe (LP-FT), fine-tuning for "
        "fewer. Claim 4 compares networks in one recipe that both families were run in."
    ]


def gain_lines(pairs: Sequence[Pair], margin: float) -> tuple[list[str], dict[str, str]]:
    """Return the gain over tasks at every size, then task by task, and the figures: SVG by file name."""
    gains = gains_by_size(pairs, scope_of)
    if not gains:
        return [], {}
    small = _small_by_task(pairs)
    figures = {GAINS: to_svg(draw_gains(gains, _means(pairs), margin))}
    lines = [
        "Over tasks, with the spread of tasks about it (between-task standard deviation) and that of single pairs:",
        "",
    ]
    lines += [
        *_over_tasks(gains, pairs),
        "",
        f"![The gain by number of records](FIGURES/{GAINS})",
        "",
        _READING,
        "",
        *_by_source(pairs),
    ]
    if small:
        title = f"Mean gain with at most {SMALL} records"
        figures[TASKS] = to_svg(draw_tasks(small, margin, title))
        lines += ["", f"![{title}, task by task](FIGURES/{TASKS})"]
    return lines, figures


def _by_source(pairs: Sequence[Pair]) -> list[str]:
    """Return the table of the mean gain by source and number of records, of the family with most pairs."""
    (family, _), *_ = Counter(scope_of(pair.scratch) for pair in pairs).most_common(1)
    of_source: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for task, means in _means(pairs)[family].items():
        for n, mean in means.items():
            of_source[parse_task(task).source][n].append(mean)
    sizes = sorted({n for found in of_source.values() for n in found})
    rows = [
        (source, *(f"{np.mean(found[n]):+.3f} ({len(found[n])})" if n in found else "" for n in sizes))
        for source, found in sorted(of_source.items())
    ]
    return [
        f"Mean gain of {family} by source, in brackets the number of tasks that it is the mean of; the gains of every "
        "task and network are in the SUMMARY.md next to a store:",
        "",
        *table(("source", *(f"{n:,}" for n in sizes)), rows),
    ]


def _over_tasks(gains: Sequence[SizeGain], pairs: Sequence[Pair]) -> list[str]:
    """Return a row for every size of a family; of one task only where the family has no other sizes."""
    several = {one.family for one in gains if len(one.gain.tasks) > 1}
    gains = [one for one in gains if len(one.gain.tasks) > 1 or one.family not in several]
    rows = [
        (
            one.family, f"{one.n_records:,}", effect(one.gain), predicted(one.gain),
            "one task" if one.gain.between_sd is None else f"{one.gain.between_sd:.3f}",
            f"{_within(one, pairs):.3f}", str(one.gain.n_pairs), str(len(one.gain.tasks)),
        )
        for one in gains
    ]  # fmt: skip
    heads = (
        "family",
        "n",
        "gain (90 %)",
        "of one more task (90 %)",
        "between tasks",
        "between pairs",
        "pairs",
        "tasks",
    )
    return table(heads, rows)


def predicted(found: Combined | OverSources) -> str:
    """Return the interval of one more task."""
    return "-" if found.prediction is None else f"{found.prediction[0]:+.3f} to {found.prediction[1]:+.3f}"


def _within(gain: SizeGain, pairs: Sequence[Pair]) -> float:
    """Return the standard deviation of a pair's gain about the mean of its task, network and upstream."""
    cells = defaultdict(list)
    for pair in pairs:
        if (scope_of(pair.scratch), pair.scratch.n_records) == (gain.family, gain.n_records):
            cells[pair.scratch.task, pair.scratch.arch, pair.fine_tuned.upstream].append(pair.gain)
    kept = [np.array(values) for values in cells.values() if len(values) > 1]
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in kept)
    return float((squares / sum(len(values) - 1 for values in kept)) ** 0.5)


def _means(pairs: Sequence[Pair]) -> dict[str, dict[str, dict[int, float]]]:
    values: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for pair in pairs:
        values[scope_of(pair.scratch), pair.scratch.task, pair.scratch.n_records].append(pair.gain)
    means: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for (family, task, n), gains in sorted(values.items()):
        means[family][task][n] = float(np.mean(gains))
    return means


def _small_by_task(pairs: Sequence[Pair]) -> dict[str, dict[str, Combined]]:
    """Return every task's mean gain with few records, by family; with its own interval, as that of one task."""
    by_family: dict[str, dict[str, Combined]] = {}
    for family in sorted({scope_of(pair.scratch) for pair in pairs}):
        here = [pair for pair in pairs if scope_of(pair.scratch) == family and pair.scratch.n_records <= SMALL]
        found: dict[str, TaskEstimate] = estimate_by_task(here, mean_gain)
        if found:
            by_family[family] = {task: combine({task: one}) for task, one in found.items()}
    return by_family
