"""What a pilot is worth: every task held out, its smallest sizes taken for a pilot, its larger ones forecast with and
without it, without the labels and given them.

    python tests/benchmarks/pilot.py STUDY.db [--arch resnet1d18-w16] [--pairs 2] [--sizes 100 250]

A pilot's runs are of all arms that were measured there. Forecasts are of the scores on the test set that the pilot has
too; they are judged as ``ecgadvise backtest`` judges them, with the noise of the cell's own runs.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from advisor.own_records.pilots.update import observe, update
from engine.seeds import stable_seed
from studies.backtest.bands import judge_bands, summarise_bands
from studies.backtest.hold_out import Forecast, HeldOut, answering_pool, predict_new_task
from studies.backtest.truth import ReplicateNoise, estimate_replicate_noise, find_measured, measure_truth
from studies.collection.collect import measure_runs
from studies.collection.curve_documents import Fitted, fit_levels_of_pool, fit_measured, seed_of_pool
from studies.files.arms import SCRATCH
from studies.files.curve import PooledCurve
from studies.files.draws import Floats, chance_level, evaluate
from studies.files.label_levels import Label
from studies.fitting.learning_curves import N_DRAWS, LearningCurveResults
from studies.runs.run import METRIC, Run
from studies.runs.store import Store

NAMES = ("scratch", "fine_tune", "linear_probe", "random_convolutions", "gain")


def main() -> None:
    """Print the coverage, the width and the CRPS of the forecasts, for the scores and the gain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--arch", default="resnet1d18-w16")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 250])
    asked = parser.parse_args()
    with closing(Store(asked.store, create=False)) as store:
        runs = store.runs()
    measured = [one for one in measure_runs(runs)[0] if one.table.arch == asked.arch]
    fitted, noise = fit_measured(measured)[0], estimate_replicate_noise([one.table for one in measured])
    found: dict[str, list[HeldOut]] = defaultdict(list)
    for held in fitted:
        others = [one for one in fitted if one.measured.table.task != held.measured.table.task]
        pilot = [run for run in runs if run.n_records in asked.sizes and run.replicate < asked.pairs]
        for kind, cell in _hold_out(held, others, pilot, max(asked.sizes), noise):
            found[kind].append(cell)
    _say(f"pilot at {asked.sizes} records, {asked.pairs} pairs each")
    _say(f"  {'':22}{''.join(f'{head:>11}' for head in ('cells', 'cover', 'width', 'CRPS', 'log score'))}")
    for kind, cells in found.items():
        figures = summarise_bands(cells, [judge_bands(cell) for cell in cells], NAMES)
        _say(kind)
        for name in NAMES:
            parts = (figures.coverage, figures.width, figures.crps, figures.log_score)
            _say(f"  {name:22}{len(cells):11}" + "".join(f"{part[name]:11.4f}" for part in parts))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _hold_out(
    held: Fitted, others: Sequence[Fitted], runs: Sequence[Run], largest: int, noise: ReplicateNoise
) -> Iterator[tuple[str, HeldOut]]:
    pool, table = answering_pool(held, others), held.measured.table
    if pool is None or SCRATCH not in held.measured.classes:
        return
    of, group = pool
    seed = seed_of_pool(of, group)
    curve = _as_curve(predict_new_task(group, table, seed), group, seed)
    own = held.measured.classes[SCRATCH]
    given = curve.given(
        tuple(Label(name, float(share)) for name, share in zip(own.findings, own.prevalence, strict=True))
    )
    recipe = (held.measured.provenance or {}).get("recipe")
    pilot = [run for run in runs if _is_of(run, held, recipe)]
    forecasts: dict[str, tuple[PooledCurve, Mapping[str, Mapping[str, Floats]]]] = {}
    for kind, before in (("pool", curve), ("labels", given)):
        forecasts[kind] = before, before.draws
        if pilot:
            forecasts[f"{kind} and pilot"] = before, update(before, observe(pilot, before), stable_seed(table.name))
    for n in table.runs.sizes[table.runs.sizes > largest]:
        scores = find_measured(table, n)
        truth = measure_truth(table, n, noise, tuple(scores), with_patients=False)
        for kind, (before, draws) in forecasts.items():
            drawn = {arm: evaluate(its, n, chance_level(METRIC))[:, 0] for arm, its in draws.items()}
            forecast = Forecast(drawn, {arm: before.run_sd(float(n), arm) for arm in drawn}, {})
            yield kind, HeldOut("task", table, float(n), scores, forecast, truth)


def _is_of(run: Run, held: Fitted, recipe: str | None) -> bool:
    """Say whether a run is of the held-out table: its network and upstream, or random convolutions on its records."""
    table = held.measured.table
    if run.role != "downstream" or run.task != table.task or run.spec.learning_rate is not None:
        return False
    if run.strategy == "random-convolutions":
        return True
    is_ours = run.arch == table.arch and run.upstream in (None, table.upstream)
    return is_ours and (run.strategy == "linear-probe" or (run.strategy in table.runs.scores and run.recipe == recipe))


def _as_curve(fit: LearningCurveResults, group: Mapping[str, Fitted], seed: int) -> PooledCurve:
    first = next(iter(group.values())).measured.table
    return PooledCurve(
        task="a new task",
        arch=first.arch,
        family=first.family,
        upstream="",
        metric=METRIC,
        sizes=tuple(int(n) for n in fit.sizes),
        replicates=2,
        runs=1,
        draws=fit.draws,
        noise={name: float(getattr(fit.noise, name)) for name in ("alpha", "gamma", "correlation")},
        further_noise={arm: {"alpha": one.alpha, "gamma": one.gamma} for arm, one in fit.further_noise.items()},
        points={},
        cost={},
        pretraining=None,
        sources=(),
        test_records=None,
        warnings=(),
        tasks=tuple(group),
        levels=fit_levels_of_pool(group, N_DRAWS, seed),
    )


if __name__ == "__main__":
    main()
