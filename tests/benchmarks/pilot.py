"""What a pilot is worth: every task held out, its smallest sizes taken for a pilot, its larger ones forecast with and
without it.

    python tests/benchmarks/pilot.py STUDY.db [STUDY.db ...] [--arch resnet1d18-w16]

A forecast is of the mean over a cell's replicates: its band has the noise of these runs in it, and leaves out that of
the test's patients, as in ``studies.backtest.hold_out``.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from advisor.own_records.pilot_update import observe, update
from engine.seeds import stable_seed
from studies.backtest.hold_out import fit_table
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.curve import PooledCurve
from studies.files.draws import Floats, chance_level, evaluate
from studies.fitting.learning_curves import LearningCurveResults
from studies.fitting.pooling import pool_tasks
from studies.runs.run import Run
from studies.runs.run_tables import RunTable, tabulate
from studies.runs.store import Store
from studies.runs.tidy_runs import TidyRuns, read_runs

METRIC = "auroc_macro"
PILOT_SIZES, REPLICATES = (100, 250), (0, 1)
ARMS = (SCRATCH, FINE_TUNE)


def main() -> None:
    """Print the error, the coverage and the width of the forecasts, for the scores and the gain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="+", type=Path)
    parser.add_argument("--arch", default="resnet1d18-w16")
    asked = parser.parse_args()
    records = [run for path in asked.stores for run in Store(path, create=False).runs()]
    tables = [table for table in tabulate(_read(asked.stores))[0] if table.arch == asked.arch and table.is_paired]
    fits = {table.task: fit_table(table) for table in tables}
    found: dict[tuple[str, str], list[tuple[float, bool, float]]] = defaultdict(list)
    for table in tables:
        for kind, what, error, held, width in _hold_out(table, fits, records):
            found[kind, what].append((error, held, width))
    _say(f"{len(tables)} tasks, pilot at {PILOT_SIZES} records, {len(REPLICATES)} pairs each")
    for (kind, what), rows in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        error, held, width = np.mean(np.array(rows, float), axis=0)
        numbers = f"error {error:.3f}, 90 % bands that held {held:.0%}, width {width:.3f}, {len(rows)} cells"
        _say(f"{what:10} {kind:14} {numbers}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _read(paths: Sequence[Path]) -> TidyRuns:
    first, *others = (read_runs(path, METRIC) for path in paths)
    runs = (*first.runs, *(run for other in others for run in other.runs))
    return TidyRuns(first.name, METRIC, runs, first.pretrainings)


def _hold_out(
    table: RunTable, fits: Mapping[str, LearningCurveResults], records: Sequence[Run]
) -> Iterator[tuple[str, str, float, bool, float]]:
    others = {task: fit for task, fit in fits.items() if task != table.task}
    curve = _as_curve(pool_tasks(others, stable_seed(table.name)), table)
    seen = observe([run for run in records if _is_pilot(run, table)], curve)
    forecasts = {"pool": curve.draws, "pool and pilot": update(curve, seen, stable_seed(table.name))}
    rng = np.random.default_rng(stable_seed("noise", table.name))
    for position, n in enumerate(table.runs.sizes):
        measured = {arm: table.runs.scores[arm][position] for arm in ARMS}
        pairs = int(np.isfinite(measured[SCRATCH] + measured[FINE_TUNE]).sum())
        if n <= max(PILOT_SIZES) or pairs < 2:
            continue
        truth = {arm: float(np.nanmean(values)) for arm, values in measured.items()}
        sd, correlation = curve.run_sd(n) / pairs**0.5, curve.noise["correlation"]
        noise = rng.multivariate_normal([0, 0], sd**2 * np.array([[1, correlation], [correlation, 1]]), 4000)
        for kind, draws in forecasts.items():
            scores = [evaluate(draws[arm], n, chance_level(METRIC))[:, 0] for arm in ARMS]
            noisy = [np.resize(values, 4000) + noise[:, k] for k, values in enumerate(scores)]
            for what, values, true in (
                (SCRATCH, noisy[0], truth[SCRATCH]),
                (FINE_TUNE, noisy[1], truth[FINE_TUNE]),
                ("gain", noisy[1] - noisy[0], truth[FINE_TUNE] - truth[SCRATCH]),
            ):
                yield kind, what, *_judge(values, true)


def _judge(values: Floats, truth: float) -> tuple[float, bool, float]:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return abs(float(middle) - truth), bool(low <= truth <= high), float(high - low)


def _is_pilot(run: Run, table: RunTable) -> bool:
    is_arm = run.strategy == SCRATCH or (run.strategy == FINE_TUNE and run.upstream == table.upstream)
    in_size = run.n_records in PILOT_SIZES and run.replicate in REPLICATES
    is_evidence = run.role == "downstream" and run.spec.learning_rate is None
    return is_evidence and in_size and is_arm and (run.task, run.arch) == (table.task, table.arch)


def _as_curve(fit: LearningCurveResults, table: RunTable) -> PooledCurve:
    return PooledCurve(
        task="a new task",
        arch=table.arch,
        family=table.family,
        upstream="",
        metric=METRIC,
        sizes=tuple(int(n) for n in fit.sizes),
        replicates=2,
        runs=1,
        draws=fit.draws,
        noise={name: float(getattr(fit.noise, name)) for name in ("alpha", "gamma", "correlation")},
        points={},
        cost={},
        pretraining=None,
        sources=(),
        test_records=None,
        warnings=(),
        tasks=fit.tasks,
    )


if __name__ == "__main__":
    main()
