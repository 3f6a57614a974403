"""Tidy runs as tables of scores: what curves are fitted to and held out of.

There is one for each task, network, precision and upstream.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.checkpoints.zoo_index import PRETRAINED_HERE
from studies.files.arms import FINE_TUNE, FURTHER_STRATEGIES, LINEAR_PROBE, RANDOM_CONVOLUTIONS, SCRATCH
from studies.files.curves import is_released
from studies.files.draws import chance_level
from studies.files.precision import standing_order, with_precision
from studies.fitting.paired_runs import PairedRuns, ScoredRun, arrange
from studies.runs.run import Run
from studies.runs.tidy_runs import TidyRuns

_ALSO = {LINEAR_PROBE: ", and fine-tuned ones of its network and upstream"}

Floats = NDArray[np.float64]
Cell = tuple[str, str, str | None]  # task, network and precision


@dataclass(frozen=True)
class Replicate:
    """What was trained on the same records from the same seed: the score of each arm.

    ``validation`` has the AUROC on validation records of the arms for which it is known.
    """

    n_records: int
    number: int
    scores: Mapping[str, float]
    validation: Mapping[str, float]


@dataclass(frozen=True)
class PatientCovariance:
    """The sampling covariance (arms, arms) that the finite test set gives to the scores of all arms of a table."""

    arms: tuple[str, ...]
    values: Floats


@dataclass(frozen=True)
class RunTable:
    """The runs of one task and network from scratch and, where there are any, fine-tuned from ``upstream``.

    All are of one ``precision``, None where it is not known. ``further`` has the runs of every other arm, with those
    from scratch of the same sizes and replicates. ``by_replicate`` has all of them by what was trained together, in
    order of size. ``patients`` is None where nobody kept resamples of the test patients.
    """

    task: str
    arch: str
    family: str
    upstream: str | None
    runs: PairedRuns
    precision: str | None = None
    further: Mapping[str, PairedRuns] = field(default_factory=dict)
    by_replicate: tuple[Replicate, ...] = ()
    patients: PatientCovariance | None = None

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
        """The number of runs from scratch and fine-tuned."""
        return sum(int(np.isfinite(values).sum()) for values in self.runs.scores.values())

    def points(self) -> dict[str, dict[int, list[float]]]:
        """Return the scores of the replicates, by strategy and size."""
        found = {arm: _by_size(self.runs, arm) for arm in self.runs.scores}
        return found | {arm: _by_size(pairs, arm) for arm, pairs in self.further.items()}

    def without_largest(self, n_sizes: int) -> "RunTable":
        """Return the table without its ``n_sizes`` largest sizes, and without further arms."""
        kept = slice(0, len(self.runs.sizes) - n_sizes)
        scores = {arm: values[kept] for arm, values in self.runs.scores.items()}
        return replace(self, runs=replace(self.runs, sizes=self.runs.sizes[kept], scores=scores), further={})


def _by_size(runs: PairedRuns, arm: str) -> dict[int, list[float]]:
    return {
        int(n): row[np.isfinite(row)].tolist()
        for n, row in zip(runs.sizes, runs.scores[arm], strict=True)
        if np.isfinite(row).any()
    }


def tabulate(runs: TidyRuns) -> tuple[list[RunTable], list[str]]:
    """Arrange the runs by arm; return the tables and, in words, what was left out of them."""
    scratch: dict[Cell, list[Run]] = defaultdict(list)
    fine_tuned: dict[Cell, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    other: dict[str, int] = defaultdict(int)
    for run in runs.runs:
        if run.strategy == SCRATCH:
            scratch[run.task, run.arch, run.precision].append(run)
        elif run.strategy == FINE_TUNE and run.upstream is not None:
            fine_tuned[run.task, run.arch, run.precision][run.upstream].append(run)
        elif run.strategy not in FURTHER_STRATEGIES:
            other[run.strategy] += 1
    left_out = [f"{n} {strategy} runs: curves are of scratch and fine-tune" for strategy, n in sorted(other.items())]
    left_out += [
        f"{task} {with_precision(arch, precision)}: fine-tuned only, without a run from scratch to compare with"
        for task, arch, precision in sorted(fine_tuned.keys() - scratch.keys(), key=_in_order)
    ]
    further = [run for run in runs.runs if run.strategy in FURTHER_STRATEGIES]
    tables = [
        make_table(
            [*of_cell, *(by_upstream.get(upstream, []) if upstream else [])], upstream,
            further=_pair_each(of_cell, others), beside=others,
        )
        for cell, of_cell in sorted(scratch.items(), key=lambda item: _in_order(item[0]))
        for by_upstream in [fine_tuned.get(cell, {})]
        for upstream in (*sorted(by_upstream),) or (None,)
        for others in [further_of(further, *cell[:2], upstream)]
    ]  # fmt: skip
    left_out += [
        f"{arm}: none of its runs stands next to a curve, which takes runs from scratch of the same task, size and "
        f"replicate{_ALSO.get(arm, '')}"
        for arm in sorted({run.strategy for run in further} - {arm for table in tables for arm in table.further})
    ]
    return tables, left_out


def further_of(runs: Iterable[Run], task: str, arch: str, upstream: str | None) -> dict[str, list[Run]]:
    """Return those of the further arms' runs that belong to a task, network and upstream, by arm.

    A linear probe is one of its network and upstream. Random convolutions are a network of their own, which stands next
    to every network and upstream of its task; runs that name this very network go before them. Both are regressions
    in float32, next to networks that were trained in any precision.
    """
    of_task = [run for run in runs if run.task == task]
    probes = [run for run in of_task if run.strategy == LINEAR_PROBE and (run.arch, run.upstream) == (arch, upstream)]
    kernels = {
        name: [run for run in of_task if run.strategy == RANDOM_CONVOLUTIONS and run.arch == name]
        for name in (arch, RANDOM_CONVOLUTIONS)
    }
    found = {LINEAR_PROBE: probes, RANDOM_CONVOLUTIONS: kernels[arch] or kernels[RANDOM_CONVOLUTIONS]}
    return {arm: of_arm for arm, of_arm in found.items() if of_arm}


def _pair_each(scratch: Sequence[Run], further: Mapping[str, Sequence[Run]]) -> dict[str, PairedRuns]:
    """Arrange the runs of each arm with those from scratch of the same sizes and replicates, where there are any."""
    found = {}
    for arm, of_arm in further.items():
        cells = [{(run.n_records, run.replicate): run for run in runs} for runs in (scratch, of_arm)]
        if paired := sorted(set.intersection(*map(set, cells))):
            found[arm] = arrange_runs([runs[cell] for runs in cells for cell in paired])
    return found


def arrange_runs(runs: Sequence[Run], test_covariance: Floats | None = None) -> PairedRuns:
    """Arrange runs of one arm or of two for a fit. Raises FitError."""
    scored = [ScoredRun(run.strategy, run.n_records, run.replicate, run.score, run.name) for run in runs]
    arranged = arrange(scored, test_covariance, chance_level(runs[0].metric))
    # A run with a key is one of this tool's studies, which draw records and seed anew at every size.
    controlled = not any(map(is_from_other_team, runs))
    return replace(arranged, sizes_apart=all(run.key is not None for run in runs), is_controlled=controlled)


def is_from_other_team(run: Run) -> bool:
    """Whether a run starts from a network that another team pre-trained, or of which nobody here knows who did."""
    return is_released(run.upstream or "") and PRETRAINED_HERE not in (run.started_from or "")


def _in_order(cell: Cell) -> tuple[str, str, int]:
    task, arch, precision = cell
    return task, arch, standing_order(precision)


def make_table(
    runs: Sequence[Run], upstream: str | None, test_covariance: Floats | None = None,
    further: Mapping[str, PairedRuns] | None = None, beside: Mapping[str, Sequence[Run]] | None = None,
) -> RunTable:  # fmt: skip
    """Arrange the runs of one task, network, precision and upstream, from scratch and fine-tuned. Raises FitError.

    ``further`` has the runs of every other arm, arranged with those from scratch, of which ``beside`` has the runs.
    """
    first, arranged = runs[0], arrange_runs(runs, test_covariance)
    others = [run for arm in further or {} for run in (beside or {}).get(arm, ())]
    return RunTable(
        first.task, first.arch, first.family, upstream, arranged, first.precision, further or {},
        _by_replicate([*runs, *others]),
    )  # fmt: skip


def _by_replicate(runs: Iterable[Run]) -> tuple[Replicate, ...]:
    """Put together what was trained on the same records from the same seed: the runs of one size and replicate."""
    together: dict[tuple[int, int], list[Run]] = defaultdict(list)
    for run in runs:
        together[run.n_records, run.replicate].append(run)
    return tuple(
        Replicate(
            n, number, {run.strategy: run.score for run in of_it if run.has_score},
            {run.strategy: run.validation_auroc for run in of_it if run.validation_auroc is not None},
        )
        for (n, number), of_it in sorted(together.items())
    )  # fmt: skip


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
