"""What the shipped curves predict of tasks of other sites, without their labels and given them.

    python tests/benchmarks/other_sites.py STORE

STORE holds runs of recipe tuned-2 of ``studies/designs/arms.toml``. Its tasks of corpora that the shipped evidence does
not have are what a user with records of another hospital asks about: each is forecast from the pool that answers for a
new dataset, at the sizes that the pool reaches, and held against the measured means as ``ecgadvise backtest`` does.
"""

import sys
from contextlib import closing
from pathlib import Path

from advisor.answer.curve_choice import choose_curve
from advisor.answer.question import Question
from studies.backtest.bands import judge_bands, summarise_bands
from studies.backtest.hold_out import Forecast, HeldOut
from studies.backtest.truth import estimate_replicate_noise, find_measured, measure_truth, patient_covariance
from studies.collection.collect import measure_runs
from studies.files.arms import ARMS, SCRATCH, arms_in
from studies.files.curve import PooledCurve
from studies.files.curves import corpus_of, read_curves
from studies.files.label_levels import Label
from studies.files.shipped import DEFAULT_CURVES
from studies.runs.store import Store

ARCH = "resnet1d18-w16"
NAMES = (*(arm.field for arm in ARMS), "gain", "scratch_run", "fine_tune_run")


def mean_excess(cells: list[HeldOut], arm: str) -> float:
    """Return by how much an arm's forecasts are above what was measured, on average."""
    measured = [cell for cell in cells if arm in cell.measured]
    return sum(float(cell.forecast.scores[arm].mean()) - cell.truth.of({arm: 1.0})[0] for cell in measured) / len(
        measured
    )


def main(path: Path) -> None:
    """Print how the forecasts did, arm by arm."""
    curves = read_curves(DEFAULT_CURVES)
    pool = choose_curve(Question(500, ARCH), ARCH, curves)
    assert isinstance(pool, PooledCurve)
    known = {corpus_of(task) for task in pool.tasks}
    with closing(Store(path, create=False)) as store:
        runs = store.runs()
    others = [run for run in runs if run.role == "pretraining" or corpus_of(run.task) not in known]
    measured, _ = measure_runs(others)
    noise = estimate_replicate_noise([one.table for one in measured])
    cells: dict[bool, list[HeldOut]] = {False: [], True: []}
    for one in measured:
        table, own = one.table, one.classes[SCRATCH]
        labels = tuple(Label(name, float(share)) for name, share in zip(own.findings, own.prevalence, strict=True))
        for n in table.runs.sizes:
            if table.arch != ARCH or pool.support(float(n)) == "beyond":
                continue
            scores = find_measured(table, n)
            arms = tuple(arm.strategy for arm in arms_in(scores))
            truth = measure_truth(table, n, noise, arms, with_patients=True)
            sd = dict(zip(arms, patient_covariance(table, arms).diagonal() ** 0.5, strict=True))
            for given, curve in ((False, pool), (True, pool.given(labels))):
                drawn = {arm: curve.scores(arm, float(n))[:, 0] for arm in curve.draws}
                forecast = Forecast(drawn, {arm: curve.run_sd(float(n), arm) for arm in drawn}, {})
                cells[given].append(HeldOut("site", table, float(n), scores, forecast, truth, sd, given))
    for given, found in cells.items():
        judged = summarise_bands(found, [judge_bands(cell) for cell in found], NAMES)
        bias = {arm.field: mean_excess(found, arm.strategy) for arm in ARMS}
        tasks = len({cell.table.task for cell in found})
        sys.stdout.write(f"labels {'given' if given else 'not given'}: {judged.cells} cells of {tasks} tasks\n")
        heads = ("cover", "width", "CRPS", "log score", "too high")
        sys.stdout.write(f"  {'':22}{''.join(f'{head:>10}' for head in heads)}\n")
        for name in NAMES:
            parts = (judged.coverage, judged.width, judged.crps, judged.log_score)
            figures = [f"{part[name]:10.4f}" if part.get(name) is not None else f"{'-':>10}" for part in parts]
            off = f"{bias[name]:+10.4f}" if name in bias else ""
            sys.stdout.write(f"  {name:22}{''.join(figures)}{off}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
