"""What ``ecgadvise doctor`` and ``study plan`` say of time, and what the runs of a small study then take.

    python tests/benchmarks/estimates.py                                    # synthetic records, in a minute or two
    python tests/benchmarks/estimates.py --task ptb-xl/superclass --corpora DIR --archs resnet1d18-w16 --sizes 100 500

Prints, for each cell, the seconds of a run on its worker, predicted and taken, and what doctor's speed gives for those
that a run is charged for training; then the study's. Ratios are taken by predicted. What doctor says is measured
alone and, as what a run is charged, in processor time; a plan is measured as its runs run, by the clock on the wall, so
that on a machine whose load changes meanwhile it cannot be right.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import NAME, prepared_synthetic
from studies.running.design import Design, Grid
from studies.running.expansion import expand, hash_tasks
from studies.running.jobs import Job, make_jobs
from studies.running.lockstep_groups import Forecast, Kinds
from studies.running.runner import run_study
from studies.running.workload import Speed, Workload, measure_speed
from studies.running.workplaces import local_workplace, measure_side_by_side
from studies.runs.run_spec import RunSpec
from studies.runs.store import Store
from studies.runs.task_names import parse_task

_WARM_UP = ("resnet1d18-w1", "tuned", 1, 64, torch.device("cpu"))


class TimedExecutor(Executor):
    """Passes calls on and keeps what each group of runs took."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.taken: list[tuple[list[Job], float]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Give a call on, and note when it ends."""
        began = time.monotonic()
        future = self._executor.submit(fn, *args, **kwargs)
        future.add_done_callback(lambda _future: self.taken.append((args[0], time.monotonic() - began)))
        return future


def main() -> None:
    """Predict, run, and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="synthetic/diagnosis")
    parser.add_argument("--corpora", type=Path, help="folder of prepared corpora (a temporary one)")
    parser.add_argument("--archs", nargs="+", default=["resnet1d18-w4", "resnet1d18-w16"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 500])
    parser.add_argument("--strategies", nargs="+", default=["scratch", "random-frozen"])
    parser.add_argument("--replicates", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _compare(asked, asked.corpora or Path(folder), Path(folder) / "study.db")


def _compare(asked: argparse.Namespace, folder: Path, path: Path) -> None:
    source = parse_task(asked.task).source
    corpus = prepared_synthetic(folder) if source == NAME else Corpus(folder / source)
    grid = Grid(
        (asked.task,), tuple(asked.archs), tuple(asked.strategies), tuple(asked.sizes), asked.replicates, "tuned",
        (1, 2, 3, 4, 5, 6, 7, 8), (10,), (), (),
    )  # fmt: skip
    specs = expand(Design("estimates", (grid,)), {source: corpus})
    hashes, load = hash_tasks(specs, {source: corpus}), Workload({source: corpus})
    forecast = Forecast(load, Kinds(load, "cpu"), asked.workers)
    began = time.monotonic()
    forecast.speeds, forecast.start = measure_side_by_side(forecast.probes(specs), asked.workers)
    _say(f"measured in {time.monotonic() - began:.0f} s; a worker starts in {forecast.start:.1f} s\n")
    predicted = forecast.seconds(make_jobs(specs, folder, hashes, path.parent, "cpu"))
    alone = {arch: measure_speed(arch, "tuned", load.signal(specs[0]), torch.device("cpu")) for arch in asked.archs}
    store, began = Store(path), time.monotonic()
    with local_workplace(asked.workers, load=load) as place:
        for start in [place.executor.submit(measure_speed, *_WARM_UP) for _ in range(asked.workers)]:
            start.result()  # before the first runs, which are timed without it
        started, timed = time.monotonic() - began, TimedExecutor(place.executor)
        run_study(specs, store, folder, hashes, replace(place, executor=timed))
    taken = time.monotonic() - began
    charged = {str(run.key): float(run.seconds or 0.0) for run in store.runs()}
    store.close()
    _print_cells(timed.taken, forecast, charged, alone, load)
    _say(f"\nstudy: {predicted:.1f} s predicted, {taken:.1f} s taken, ratio {taken / predicted:.2f}")
    _say(f"of which starting the workers: {forecast.start:.1f} s and {started:.1f} s")


def _print_cells(
    taken: Sequence[tuple[list[Job], float]], forecast: Forecast, charged: dict[str, float], alone: dict[str, Speed],
    load: Workload,
) -> None:  # fmt: skip
    cells: dict[tuple[str, str, int], list[tuple[float, ...]]] = defaultdict(list)
    for jobs, seconds in taken:
        spec, count = jobs[0].spec, len(jobs)
        of_plan = forecast.group_seconds([job.spec for job in jobs]) / count
        of_doctor = _charge(spec, alone[spec.arch], load)
        cells[spec.arch, spec.strategy, spec.n_records].append(
            (of_plan, seconds / count, of_doctor, statistics.mean(charged[job.key] for job in jobs))
        )
    _say("| cell | a run on its worker, s | taken | ratio | charged by doctor's speed, s | charged | ratio |")
    _say("| --- | --- | --- | --- | --- | --- | --- |")
    for (arch, strategy, n), rows in sorted(cells.items()):
        one, other, doctor, charge = (statistics.median(column) for column in zip(*rows, strict=True))
        figures = f"{one:.2f} | {other:.2f} | {other / one:.2f} | {doctor:.2f} | {charge:.2f} | {charge / doctor:.2f}"
        _say(f"| {arch} {strategy} n = {n:,} | {figures} |")


def _charge(spec: RunSpec, speed: Speed, load: Workload) -> float:
    """Return what a run is charged by doctor's records a second alone."""
    passes = load.passes(spec)
    return passes.training * speed.training or spec.n_records * speed.forward + passes.head_steps * speed.head


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
