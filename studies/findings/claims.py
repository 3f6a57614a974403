"""The four claims of Nguyen and Do (PLOS ONE 20(5): e0316043, 2025) as tests on paired runs.

Every claim becomes one number, oriented so that it is positive when the claim holds, with a 90 % interval over tasks.
The claim is confirmed when the whole interval is above zero, refuted when the interval excludes an effect as large as
one that would matter, open otherwise. So a confirmed effect may still be too small to matter: the sentence says so.
A claim is about downstream sets in general: tested on fewer than two tasks it stays open, whatever the one shows.

    python -m studies.findings.claims STORE.db
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import log, log2
from pathlib import Path
from typing import Literal

import numpy as np

from engine.recipes import NAMES
from studies.fitting.censored_regression import CensoredFitError, fit_censored
from studies.fitting.random_effects import Combined, TaskEstimate, average_by_task, combine, mean_over_sizes
from studies.runs.pairs import Pair, estimate_by_task, mean_gain, of_one_precision, pair_runs, slope_per_doubling
from studies.runs.run import Run, Subset, known
from studies.runs.tidy_runs import RunsFileError, TidyRuns, comparable_runs, read_runs
from studies.runs.training_cost import log_time_ratios, uses_to_pay_off

Verdict = Literal["confirmed", "refuted", "open"]

SMALL, LARGE = 500, 2000  # records: a small downstream set, and one that may be enough
SHORTER = 0.1  # a training that is shorter by less than this share is not shorter in any way that matters
LEAST_SOONER = -log(1 - SHORTER)
FLATTEN = "-flatten"
FEWEST_TASKS = 2
RULE = (
    "Each claim is one number, positive when the claim holds, with a 90 % interval over tasks (random effects, Hartung "
    "and Knapp). Confirmed: the whole interval is above zero. Refuted: the interval excludes an effect as large as the "
    "smallest that matters ({margin:g} of the score; for the decline of claim 2 so much over the widest range of "
    "records that a task was run at, which its sentence gives per doubling; for claim 3 a training shorter by "
    "{shorter:.0%}). "
    "Comparable, the second part of claim 2, is confirmed when the whole interval of the gain lies within {margin:g} "
    "either way, and refuted when none of it does. Open otherwise, and whenever fewer than {tasks} tasks were run."
)
STATEMENTS = {
    "1": "fine-tuning is preferable on small downstream sets",
    "2 decline": "the gain declines as the downstream set grows",
    "2 comparable": "with enough data, training from scratch is comparable",
    "3": "fine-tuning reaches what scratch reaches sooner",
    "4 pooled head": "transfer suits convolutional networks better than recurrent ones with a pooled head",
    "4 flatten head": "transfer suits convolutional networks better than recurrent ones with a flatten head",
}


@dataclass(frozen=True)
class ClaimResult:
    """One claim, tested. ``scope`` is the family it was tested in (with its head), or the two that were compared.

    ``effect`` is in ``unit`` with a 90 % interval; None, with an open verdict, where there are no runs to test it on.
    """

    claim: str
    scope: str
    verdict: Verdict
    effect: float | None
    ci_lower: float | None
    ci_upper: float | None
    unit: str
    n_pairs: int
    tasks: tuple[str, ...]
    sentence: str


def judge_claims(runs: TidyRuns, margin: float = 0.01) -> list[ClaimResult]:
    """Test claims 1 to 3 in every family, and claim 4 between the families.

    ``margin`` is the smallest difference of the metric that matters. Each network is judged by its runs of one
    precision (``of_one_precision``), and families are compared in one recipe.
    """
    pairs = pair_runs(of_one_precision(runs.runs)[0])
    results = []
    for family in sorted({scope_of(pair.scratch) for pair in pairs}):
        of_family = [pair for pair in pairs if scope_of(pair.scratch) == family]
        results += [
            _small_sets(of_family, family, margin),
            _decline(of_family, family, margin),
            _comparable(of_family, family, margin),
            _sooner(of_family, family, runs),
        ]
    results += [_contrast(runs, margin, flatten=False), _contrast(runs, margin, flatten=True)]
    return sorted(results, key=lambda result: (result.claim, result.scope))


def rule(margin: float = 0.01) -> str:
    """Return in words how a claim is judged."""
    return RULE.format(margin=margin, shorter=SHORTER, tasks=FEWEST_TASKS)


def scope_of(run: Run) -> str:
    """Name the family that a network is tested in: a flatten head, an ablation, is one of its own."""
    return f"{run.family}, flatten head" if FLATTEN in run.arch else run.family


def estimate_claim(claim: str, pairs: Sequence[Pair]) -> dict[str, TaskEstimate]:
    """Return what each task's pairs say of claim 1, 2 or 3 in a family, positive where the claim holds."""
    if claim == "1":
        return estimate_by_task([pair for pair in pairs if pair.scratch.n_records <= SMALL], mean_gain)
    if claim == "2 comparable":
        largest = _largest(pairs)
        at_end = [pair for pair in pairs if pair.scratch.n_records == largest[pair.scratch.task] >= LARGE]
        return estimate_by_task(at_end, mean_gain)
    by_task = estimate_by_task(pairs, {"2 decline": slope_per_doubling, "3": _mean_log_ratio}[claim])
    return {task: replace(one, effect=-one.effect) for task, one in by_task.items()}


def judge(claim: str, ends: tuple[float, float], matters: float) -> Verdict:
    """Return the verdict on an interval of claim 1, 2 or 3; ``matters`` is the smallest effect that does."""
    low, high = ends
    if claim == "2 comparable":
        return judge_equal(ends, matters)
    return "confirmed" if low > 0 else "refuted" if high < matters else "open"


def judge_equal(ends: tuple[float, float], margin: float) -> Verdict:
    """Return whether a difference is too small to matter: confirmed where the interval is within the margin."""
    low, high = ends
    return "confirmed" if low >= -margin and high <= margin else "refuted" if low > margin or high < -margin else "open"


def smallest_effect(claim: str, pairs: Sequence[Pair], margin: float) -> float:
    """Return the smallest effect that matters, in the unit of the claim; ``pairs`` are those that it rests on."""
    if claim == "3":
        return LEAST_SOONER
    if claim == "2 decline":
        low, high = _ranges(pairs)[-1]
        return margin / log2(high / low)
    return margin


def _largest(pairs: Sequence[Pair]) -> dict[str, int]:
    """Return the largest number of records of every task."""
    largest: dict[str, int] = defaultdict(int)
    for pair in pairs:
        largest[pair.scratch.task] = max(largest[pair.scratch.task], pair.scratch.n_records)
    return largest


def _small_sets(pairs: Sequence[Pair], family: str, margin: float) -> ClaimResult:
    found = _over_tasks("1", pairs)
    if found is None:
        return _untested("1", family, f"no size of at most {SMALL} records has two pairs in a task")
    said = f"with at most {SMALL} records fine-tuning gains {_signed(found)}{_small_print(found, margin)}"
    return _result("1", family, found, margin, "score", said)


def _decline(pairs: Sequence[Pair], family: str, margin: float) -> ClaimResult:
    found = _over_tasks("2 decline", pairs)
    if found is None:
        return _untested("2 decline", family, "no task has pairs at three sizes")
    judged = [pair for pair in pairs if pair.scratch.task in found.tasks]
    ranges, matters = _ranges(judged), smallest_effect("2 decline", judged, margin)
    narrowest, widest = (f"{low:,} to {high:,}" for low, high in (ranges[0], ranges[-1]))
    within = f"from {widest}"
    if len(ranges) > 1:
        within = f"within the range of each task, {narrowest} at the narrowest and {widest} at the widest,"
    said = (
        f"with every doubling of the records {within} the gain changes by {_signed(_opposite(found))}; a decline by "
        f"less than {matters:.2g} does not matter"
    )
    return _result("2 decline", family, found, matters, "score per doubling", said)


def _ranges(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Return the smallest and the largest size of every task, each such range once, the widest in doublings last."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for pair in pairs:
        sizes[pair.scratch.task].append(pair.scratch.n_records)
    return sorted(
        {(min(of_task), max(of_task)) for of_task in sizes.values()}, key=lambda ends: (ends[1] / ends[0], ends)
    )


def _comparable(pairs: Sequence[Pair], family: str, margin: float) -> ClaimResult:
    """Two one-sided tests: comparable when the whole interval of the gain at the largest size is within the margin."""
    found = _over_tasks("2 comparable", pairs)
    if found is None:
        return _untested("2 comparable", family, f"no task has two pairs at {LARGE:,} records or more")
    largest = _largest(pairs)
    sizes = sorted({largest[task] for task in found.tasks})
    at = " to ".join(f"{n:,}" for n in dict.fromkeys((sizes[0], sizes[-1])))
    said = f"at {at} records fine-tuning gains {_signed(found)}; comparable means within {margin:g} either way"
    return _result("2 comparable", family, found, margin, "score", said)


def _sooner(pairs: Sequence[Pair], family: str, runs: TidyRuns) -> ClaimResult:
    found = _over_tasks("3", pairs)
    if found is None:
        return _untested("3", family, "too few runs hold their course on the validation records")
    ratio, low, high = (float(np.exp(-value)) for value in (found.effect, found.ci_upper, found.ci_lower))
    _, censored = log_time_ratios([(pair.scratch, pair.fine_tuned) for pair in pairs])
    said = (
        f"fine-tuning reaches scratch's best validation score after {ratio:.2f} times the records that scratch sees "
        f"until then (90 %: {low:.2f} to {high:.2f}); it never does in {censored.sum()} of {len(censored)} pairs"
        f"{_left_out(len(pairs), len(censored), found)}{_pay_off(pairs, runs, ratio)}"
    )
    return _result("3", family, found, LEAST_SOONER, "log ratio of records seen", said)


def _left_out(n_pairs: int, n_followed: int, found: Combined) -> str:
    """Say how many pairs are not in claim 3, because nothing or too little is known of their course."""
    parts = []
    if unknown := n_pairs - n_followed:
        parts.append(
            f"the other {unknown} of {n_pairs} are left out, with no AUROC on the validation records to follow"
        )
    if alone := n_followed - found.n_pairs:
        parts.append(f"{alone} are not in the ratio, as too few pairs of their task and network get there")
    return "".join(f"; {part}" for part in parts)


def _mean_log_ratio(pairs: Sequence[Pair]) -> TaskEstimate | None:
    ratios, censored = log_time_ratios([(pair.scratch, pair.fine_tuned) for pair in pairs])
    try:
        fit = fit_censored(ratios, np.ones((len(ratios), 1)), censored)
    except CensoredFitError:
        return None
    return TaskEstimate(
        float(fit.coefficients[0]), float(fit.covariance[0, 0]), fit.n_observed - 1, len(ratios), 1 / len(ratios)
    )


def _pay_off(pairs: Sequence[Pair], runs: TidyRuns, ratio: float) -> str:
    """Say after how many trainings a pre-training has paid for itself in records seen."""
    networks = sorted({(pair.fine_tuned.upstream or "", pair.fine_tuned.arch) for pair in pairs})
    pretraining = [runs.pretrainings[network] for network in networks if network in runs.pretrainings]
    scratch = [known(pair.scratch.records_to_best) for pair in pairs if pair.scratch.has_cost]
    if not pretraining or not scratch:
        return ""
    paid, needed = float(np.mean(pretraining)), float(np.mean(scratch))
    uses = uses_to_pay_off(paid, needed, needed * ratio)
    after = f"pays for itself after {uses:,.0f} such trainings" if uses is not None else "never pays for itself"
    return f"; a pre-training of {paid:,.0f} records seen {after}"


def _in_one_recipe(runs: TidyRuns, *, flatten: bool) -> list[Run]:
    """Return the runs of the newest recipe that both families were run in, of the transfers that are judged.

    The recurrent networks are those with a flatten head or without. All ``runs``, where that is the recipe of each or
    where no recipe is known of several.
    """
    recurrent = {run.recipe for run in runs.stored if run.family == "rnn" and (FLATTEN in run.arch) is flatten}
    recipes = [{run.recipe for run in runs.stored if run.family == "cnn"}, recurrent]
    shared = [name for name in NAMES if all(name in of_family for of_family in recipes)]
    if not shared or {run.recipe for run in runs.runs} == {shared[-1]}:
        return list(runs.runs)
    judged = {(run.task, run.upstream) for run in runs.runs}
    stored = (run for run in comparable_runs(runs.stored) if (run.task, run.upstream) in judged)
    return [
        replace(run, metric=runs.metric)
        for run in stored
        if run.recipe == shared[-1] and run.role == "downstream" and run.value(runs.metric) is not None
    ]


def _contrast(runs: TidyRuns, margin: float, *, flatten: bool) -> ClaimResult:
    """Compare the families' gains at the same task, upstream, size and replicate: the same records and seed."""
    claim = "4 flatten head" if flatten else "4 pooled head"
    pairs = pair_runs(of_one_precision(_in_one_recipe(runs, flatten=flatten))[0])
    recurrent = [pair for pair in pairs if pair.scratch.family == "rnn" and (FLATTEN in pair.scratch.arch) is flatten]
    cnn, rnn = (_mean_gains([pair for pair in pairs if pair.scratch.family == "cnn"]), _mean_gains(recurrent))
    shared = sorted(cnn.keys() & rnn.keys(), key=lambda cell: (cell[0].task, cell[1], cell[0]))
    differences = {
        curve: [(subset.n_records, cnn[subset, upstream] - rnn[subset, upstream]) for subset, upstream in cells]
        for curve, cells in groupby(shared, key=lambda cell: (cell[0].task, cell[1]))
    }
    by_task = average_by_task({curve: mean_over_sizes(values) for curve, values in differences.items()})
    if not by_task:
        return _untested(claim, "cnn - rnn", "no task has two pairs of both at one size, replicate and upstream")
    found = combine(by_task)
    said = f"convolutional networks gain {_signed(found)} more than recurrent ones{_small_print(found, margin)}"
    return _result(claim, "cnn - rnn", found, margin, "score", said)


def _mean_gains(pairs: Sequence[Pair]) -> dict[tuple[Subset, str], float]:
    """Return the mean gain over networks on the same records, by upstream."""
    gains: dict[tuple[Subset, str], list[float]] = defaultdict(list)
    for pair in pairs:
        gains[pair.scratch.subset, pair.fine_tuned.upstream or ""].append(pair.gain)
    return {cell: float(np.mean(values)) for cell, values in gains.items()}


def _over_tasks(claim: str, pairs: Sequence[Pair]) -> Combined | None:
    by_task = estimate_claim(claim, pairs)
    return combine(by_task) if by_task else None


def _opposite(found: Combined) -> Combined:
    return replace(found, effect=-found.effect, ci_lower=-found.ci_upper, ci_upper=-found.ci_lower)


def _signed(found: Combined) -> str:
    return f"{found.effect:+.3f} (90 %: {found.ci_lower:+.3f} to {found.ci_upper:+.3f})"


def _small_print(found: Combined, margin: float) -> str:
    small = found.ci_lower > 0 and found.effect < margin
    return f", less than the {margin:g} that matters" if small else ""


def _result(claim: str, scope: str, found: Combined, matters: float, unit: str, said: str) -> ClaimResult:
    n, verdict = len(found.tasks), judge(claim, (found.ci_lower, found.ci_upper), matters)
    over = f"over {n} tasks" if n > 1 else f"on one task, {found.tasks[0]}, which says nothing of others"
    if n < FEWEST_TASKS and verdict != "open":
        over, verdict = f"{over} (there alone it would be {verdict})", "open"
    sentence = f"{verdict.capitalize()}: {said}, {over}."
    numbers = (found.effect, found.ci_lower, found.ci_upper)
    return ClaimResult(claim, scope, verdict, *numbers, unit, found.n_pairs, found.tasks, sentence)


def _untested(claim: str, scope: str, reason: str) -> ClaimResult:
    return ClaimResult(claim, scope, "open", None, None, None, "", 0, (), f"Open: {reason}.")


def main() -> None:
    """Print the claims of a store or runs file."""
    try:
        results = judge_claims(read_runs(Path(sys.argv[1])))
    except (IndexError, RunsFileError) as error:
        sys.exit(
            f"error: {error}"
            if isinstance(error, RunsFileError)
            else "usage: python -m studies.findings.claims STORE.db"
        )
    for result in results:
        sys.stdout.write(f"{result.claim} ({result.scope}): {STATEMENTS[result.claim]}\n    {result.sentence}\n")


if __name__ == "__main__":
    main()
