"""Tidy runs as tables of scores: what curves are fitted to and held out of.

There is one for each task, network, precision and upstream.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.draws import chance_level
from studies.files.precision import standing_order, with_precision
from studies.fitting.paired_runs import PairedRuns, ScoredRun, arrange
from studies.runs.run import Run
from studies.runs.tidy_runs import TidyRuns

Floats = NDArray[np.float64]
Cell = tuple[str, str, str | None]  # task, network and precision


@dataclass(frozen=True)
class RunTable:
    """The runs of one task and network from scratch and, where there are any, fine-tuned from ``upstream``.

    All are of one ``precision``, None where it is not known.
    """

    task: str
    arch: str
    family: str
    upstream: str | None
    runs: PairedRuns
    precision: str | None = None

    @property
    def name(self) -> str:
        """The table in words."""
        name = f"{self.task} {self.arch}" + (f" from {self.upstream}" if self.upstream else "")
        return with_precision(name, self.precision)

    @property
    def is_paired(self) -> bool:
        """Whether both strategies were run."""
        return FINE_TUNE in self.runs.scores

    @property
    def replicates(self) -> int:
        """The smallest number of replicates, of pairs where there are two strategies, at a size."""
        present = np.all([np.isfinite(values) for values in self.runs.scores.values()], axis=0)
        return int(present.sum(axis=1).min())

    @property
    def n_runs(self) -> int:
        """The number of runs."""
        return sum(int(np.isfinite(values).sum()) for values in self.runs.scores.values())

    def points(self) -> dict[str, dict[int, list[float]]]:
        """Return the scores of the replicates, by strategy and size."""
        return {
            arm: {
                int(n): row[np.isfinite(row)].tolist()
                for n, row in zip(self.runs.sizes, values, strict=True)
                if np.isfinite(row).any()
            }
            for arm, values in self.runs.scores.items()
        }

    def without_largest(self, n_sizes: int) -> "RunTable":
        """Return the table without its ``n_sizes`` largest sizes."""
        kept = slice(0, len(self.runs.sizes) - n_sizes)
        scores = {arm: values[kept] for arm, values in self.runs.scores.items()}
        return replace(self, runs=replace(self.runs, sizes=self.runs.sizes[kept], scores=scores))


def tabulate(runs: TidyRuns) -> tuple[list[RunTable], list[str]]:
    """Arrange the runs from scratch and fine-tuned; return the tables and, in words, what was left out of them."""
    scratch: dict[Cell, list[Run]] = defaultdict(list)
    fine_tuned: dict[Cell, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    other: dict[str, int] = defaultdict(int)
    for run in runs.runs:
        if run.strategy == SCRATCH:
            scratch[run.task, run.arch, run.precision].append(run)
        elif run.strategy == FINE_TUNE and run.upstream is not None:
            fine_tuned[run.task, run.arch, run.precision][run.upstream].append(run)
        else:
            other[run.strategy] += 1
    left_out = [f"{n} {strategy} runs: curves are of scratch and fine-tune" for strategy, n in sorted(other.items())]
    left_out += [
        f"{task} {with_precision(arch, precision)}: fine-tuned only, without a run from scratch to compare with"
        for task, arch, precision in sorted(fine_tuned.keys() - scratch.keys(), key=_in_order)
    ]
    tables = [
        make_table([*of_cell, *(by_upstream.get(upstream, []) if upstream else [])], upstream)
        for cell, of_cell in sorted(scratch.items(), key=lambda item: _in_order(item[0]))
        for by_upstream in [fine_tuned.get(cell, {})]
        for upstream in (*sorted(by_upstream),) or (None,)
    ]
    return tables, left_out


def _in_order(cell: Cell) -> tuple[str, str, int]:
    task, arch, precision = cell
    return task, arch, standing_order(precision)


def make_table(runs: Sequence[Run], upstream: str | None, test_covariance: Floats | None = None) -> RunTable:
    """Arrange the runs of one task, network, precision and upstream, from scratch and fine-tuned. Raises FitError."""
    scored = [ScoredRun(run.strategy, run.n_records, run.replicate, run.score, run.name) for run in runs]
    first = runs[0]
    arranged = arrange(scored, test_covariance, chance_level(first.metric))
    return RunTable(first.task, first.arch, first.family, upstream, arranged, first.precision)


def mean_and_error(values: Floats) -> tuple[float, float]:
    """Return the mean of the finite values and its standard error, NaN from fewer than two of them."""
    finite = values[np.isfinite(values)]
    error = finite.std(ddof=1) / len(finite) ** 0.5 if len(finite) > 1 else np.nan
    return float(finite.mean()) if len(finite) else np.nan, float(error)


def gain_and_error(scores: Mapping[str, Floats]) -> tuple[float, float]:
    """Return fine-tuned minus scratch of one size, from its pairs where there are two or more, else from the means."""
    difference = scores[FINE_TUNE] - scores[SCRATCH]
    if np.isfinite(difference).sum() > 1:
        return mean_and_error(difference)
    (one, one_error), (other, other_error) = (mean_and_error(scores[arm]) for arm in (FINE_TUNE, SCRATCH))
    return one - other, float(np.hypot(one_error, other_error))
