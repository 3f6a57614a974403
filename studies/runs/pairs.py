"""What fine-tuning gained over scratch, run by run in pairs, and how estimates of tasks become one.

A pair is two runs of one task, network, size and replicate: the same records (``Run.subset``), the same seed, and in
one precision, in which networks are never mixed (``of_one_precision``). Estimates are made within
each task and combined as random effects (two-stage meta-analysis), because tasks, not runs, are what a new dataset is
one more of. The interval is that of Hartung and Knapp with k - 1 degrees of freedom, never narrower than the usual one
(Roever et al., BMC Med Res Methodol 15:99, 2015); with one task it knows nothing of other tasks.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from studies.files.arms import FINE_TUNE, FURTHER_STRATEGIES, RANDOM_CONVOLUTIONS, SCRATCH
from studies.files.precision import in_words, standing_order
from studies.fitting.random_effects import Combined, TaskEstimate, average_by_task, combine, mean_over_sizes
from studies.runs.run import Run, Subset
from studies.runs.task_names import parse_task


@dataclass(frozen=True)
class Pair:
    """Two runs on the same records from the same seed; ``fine_tuned`` is of the arm that was asked for."""

    scratch: Run
    fine_tuned: Run

    @property
    def gain(self) -> float:
        """Fine-tuned minus scratch."""
        return self.fine_tuned.score - self.scratch.score


@dataclass(frozen=True)
class SizeGain:
    """The gain of a family of networks at one size, over tasks."""

    family: str
    n_records: int
    gain: Combined


def pair_runs(runs: Iterable[Run], arm: str = FINE_TUNE) -> list[Pair]:
    """Match every run of an arm with the scratch run of its network, precision and records."""
    runs = list(runs)
    scratch = {_cell(run): run for run in runs if run.strategy == SCRATCH}
    return [Pair(scratch[_cell(run)], run) for run in runs if run.strategy == arm and _cell(run) in scratch]


def _cell(run: Run) -> tuple[object, ...]:
    return run.subset, run.arch, run.reading, run.precision


class Cell(NamedTuple):
    """Where arms are compared: on the same records, in a network and, of those pre-trained, from an upstream."""

    subset: Subset
    network: str
    upstream: str


def arm_scores(runs: Sequence[Run]) -> dict[Cell, dict[str, float]]:
    """Return the score of every arm by cell.

    A run from scratch counts next to every upstream of its network, one of random convolutions next to every network.
    """
    upstreams: dict[tuple[Subset, str], set[str]] = defaultdict(set)
    networks: dict[Subset, set[str]] = defaultdict(set)
    for run in runs:
        if run.strategy != RANDOM_CONVOLUTIONS:
            networks[run.subset].add(run.network)
            if run.upstream:
                upstreams[run.subset, run.network].add(run.upstream)
    scores: dict[Cell, dict[str, float]] = defaultdict(dict)
    for run in runs:
        for network in networks[run.subset] if run.strategy == RANDOM_CONVOLUTIONS else (run.network,):
            for upstream in (run.upstream,) if run.upstream else upstreams[run.subset, network] or {""}:
                scores[Cell(run.subset, network, upstream)][run.strategy] = run.score
    return dict(scores)


def estimate_cells(values: Mapping[Cell, float]) -> dict[str, TaskEstimate]:
    """Estimate the mean of a value of cells for every task, as ``estimate_by_task`` does that of a gain."""
    curves: dict[tuple[str, str, str], list[tuple[int, float]]] = defaultdict(list)
    for (subset, network, upstream), value in values.items():
        curves[subset.task, network, upstream].append((subset.n_records, value))
    return average_by_task({curve: mean_over_sizes(found) for curve, found in curves.items()})


def combine_cells(values: Mapping[Cell, float]) -> Combined | None:
    """Return the mean of a value of cells over tasks; None where no size of any task has two values."""
    by_task = estimate_cells(values)
    return combine(by_task) if by_task else None


def of_source(by_task: Mapping[str, TaskEstimate]) -> dict[str, dict[str, TaskEstimate]]:
    """Return estimates of tasks by the source of the task."""
    found: dict[str, dict[str, TaskEstimate]] = defaultdict(dict)
    for task, estimate in sorted(by_task.items()):
        found[parse_task(task).source][task] = estimate
    return dict(sorted(found.items()))


def of_one_precision(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Keep each network's runs of one precision; return them and, in words, what of others was left out.

    Kept is the precision of most of its pairs, then of most of its runs; of equals float32. A pre-training that was
    made in another precision alone is kept too, and so is every further arm, a regression in float32 wherever it ran.
    """
    n_pairs = Counter((pair.scratch.arch, pair.scratch.precision) for pair in pair_runs(runs))
    trained = [run for run in runs if run.role != "pretraining" and run.strategy not in FURTHER_STRATEGIES]
    n_runs = Counter((run.arch, run.precision) for run in trained)
    by_standing = sorted(n_runs, key=lambda one: (-n_pairs[one], -n_runs[one], standing_order(one[1])))
    chosen = dict(reversed(by_standing))  # by network, the first of its precisions
    same = {run.key for run in runs if run.precision == chosen.get(run.arch, run.precision)}
    kept, left_out = [], Counter[tuple[str, str | None]]()
    for run in runs:
        of_chosen = run.precision == chosen.get(run.arch, run.precision) or run.strategy in FURTHER_STRATEGIES
        if of_chosen or (run.role == "pretraining" and run.key not in same):
            kept.append(run)
        else:
            left_out[run.arch, run.precision] += 1
    return kept, [
        f"{n} runs of {arch} in {in_words(precision)} are left out: most pairs are in {in_words(chosen[arch])}"
        for (arch, precision), n in sorted(left_out.items(), key=str)
    ]


def gains_by_size(pairs: Sequence[Pair], scope_of: Callable[[Run], str]) -> list[SizeGain]:
    """Return the mean gain of every family at every size that has two pairs or more in a task.

    ``scope_of`` names what a network is taken together with, its family.
    """
    found = []
    cells: dict[tuple[str, int], list[Pair]] = defaultdict(list)
    for pair in pairs:
        cells[scope_of(pair.scratch), pair.scratch.n_records].append(pair)
    for (scope, n), here in sorted(cells.items()):
        if by_task := estimate_by_task(here, mean_gain):
            found.append(SizeGain(scope, n, combine(by_task)))
    return found


def estimate_by_task(
    pairs: Sequence[Pair], estimate: Callable[[Sequence[Pair]], TaskEstimate | None]
) -> dict[str, TaskEstimate]:
    """TaskEstimate for every network and upstream of a task, and average over these.

    The networks of a task share records, so that their errors are taken as fully correlated: the variance of the
    average is the average variance. Tasks for which ``estimate`` gives None are left out.
    """
    curves: dict[tuple[str, str, str | None], list[Pair]] = defaultdict(list)
    for pair in pairs:
        curves[pair.scratch.task, pair.scratch.network, pair.fine_tuned.upstream].append(pair)
    return average_by_task({curve: estimate(of_curve) for curve, of_curve in curves.items()})


def mean_gain(pairs: Sequence[Pair]) -> TaskEstimate | None:
    """Return the mean gain, every size with the same weight; None where no size has two pairs."""
    return mean_over_sizes([(pair.scratch.n_records, pair.gain) for pair in pairs])


def slope_per_doubling(pairs: Sequence[Pair]) -> TaskEstimate | None:
    """Return by how much the gain changes when n doubles: least squares on log2 n with robust (HC3) errors.

    None where fewer than three sizes were run.
    """
    from statsmodels.api import OLS

    n = np.array([pair.scratch.n_records for pair in pairs], np.float64)
    if len(set(n)) < 3 or len(n) < 5:
        return None
    design = np.column_stack([np.ones(len(n)), np.log2(n)])
    fit = OLS(np.array([pair.gain for pair in pairs]), design).fit(cov_type="HC3")
    spread = float(((design[:, 1] - design[:, 1].mean()) ** 2).sum())
    return TaskEstimate(float(fit.params[1]), float(fit.cov_params()[1, 1]), len(n) - 2, len(n), 1 / spread)
