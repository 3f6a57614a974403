"""What a backtest is of: the tables of a store or of a runs file, with what the shipped curves know beyond the scores.

The curves that ship are fitted with the sampling covariance of their test set, and pooled by kind of upstream. A store
says both. A runs table says neither; the curves file next to it does, of the tables that it was made of, so that a
backtest of either is of the model that ships.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from studies.collection.collect import measure_runs
from studies.collection.curve_documents import NO_TEST_NOISE, NO_UPSTREAM, Measured
from studies.files.arms import FURTHER_STRATEGIES, SCRATCH
from studies.files.curve import MeasuredCurve
from studies.files.curves import CurvesFileError, read_curves
from studies.files.shipped import DEFAULT_CURVES
from studies.fitting.label_levels import ClassScores
from studies.fitting.paired_runs import PairedRuns
from studies.runs.run_tables import PatientCovariance, RunTable, tabulate
from studies.runs.tidy_runs import TidyRuns

_WITHOUT = "the sampling noise of the test patients is in neither forecasts nor truth"


def measure_evidence(runs: TidyRuns, path: Path) -> tuple[list[Measured], list[str]]:
    """Return the tables to be held out of, and what has to be said of them; ``path`` is where ``runs`` were read."""
    if runs.stored:
        measured, said = measure_runs(runs.stored, runs.metric)
        without = sum(NO_TEST_NOISE in one.warnings for one in measured)
        return measured, [*said, *([f"of {without} of {len(measured)} tables {_WITHOUT}"] if without else [])]
    tables, said = tabulate(runs)
    try:
        found = read_curves(path.with_name(DEFAULT_CURVES.name)).measured
    except CurvesFileError as error:
        return [Measured(table, runs.metric) for table in tables], [*said, f"{error}: {_WITHOUT}"]
    curves = {_place(curve): curve for curve in found if curve.metric == runs.metric}
    measured, why = [], Counter[str]()
    for table in tables:
        curve = curves.get((table.task, table.arch, table.upstream or NO_UPSTREAM, table.precision))
        one, lacking = (Measured(table, runs.metric), "has no curve") if curve is None else _complete(table, curve)
        measured.append(one)
        why.update([lacking] if lacking else [])
    name = f"{DEFAULT_CURVES.name} next to the runs"
    said += [f"{name} {lacking} of {n} of {len(tables)} tables: {_WITHOUT}" for lacking, n in why.items()]
    return measured, said


def _place(curve: MeasuredCurve) -> tuple[str, str, str, str | None]:
    return curve.task, curve.arch, curve.upstream, curve.precision


def _complete(table: RunTable, curve: MeasuredCurve) -> tuple[Measured, str | None]:
    """Return a table as its curve was fitted to it, and what is to be said of that."""
    given, table = table, table if table.n_runs == curve.runs else _keep_pairs(table)
    if table.n_runs != curve.runs:
        return Measured(given, curve.metric), "has other runs"
    runs = _with_covariance(table.runs, curve, SCRATCH)
    further = {arm: _with_covariance(pairs, curve, arm) for arm, pairs in table.further.items()}
    patients = None if curve.patients is None else PatientCovariance(*curve.patients)
    table = replace(table, runs=runs, further=further, patients=patients)
    is_known = patients is not None and curve.test_covariance.keys() >= {SCRATCH, *further}
    measured = Measured(table, curve.metric, kind=curve.kind, classes=_read_classes(curve))
    return measured, None if is_known else "lacks the test covariance"


def _read_classes(curve: MeasuredCurve) -> dict[str, ClassScores]:
    """Return what single classes scored from scratch, where the curve says it."""
    found = curve.classes
    if not found:
        return {}
    numbers = {
        name: np.array(found[name], np.float64)
        for name in ("prevalence", "positives", "sizes", "means", "variances", "replicates")
    }
    test_records, shared = int(found["test_records"]), float(found.get("shared_test", 1.0))
    names = tuple(found["names"])
    return {SCRATCH: ClassScores(curve.task, names, test_records=test_records, shared_test=shared, **numbers)}


def _with_covariance(runs: PairedRuns, curve: MeasuredCurve, arm: str) -> PairedRuns:
    known = curve.test_covariance.get(arm)
    return runs if known is None else replace(runs, test_covariance=known)


def _keep_pairs(table: RunTable) -> RunTable:
    """Keep the complete pairs at sizes that have two or more, as a curve of a store is fitted to."""
    arms = tuple(table.runs.scores)
    whole = np.all([np.isfinite(values) for values in table.runs.scores.values()], axis=0)
    kept = whole.sum(axis=1) > 1
    scores = {arm: np.where(whole, values, np.nan)[kept] for arm, values in table.runs.scores.items()}
    runs = replace(table.runs, sizes=table.runs.sizes[kept], scores=scores)
    by_replicate = tuple(
        replace(one, scores={arm: score for arm, score in one.scores.items() if arm in FURTHER_STRATEGIES})
        if not set(arms) <= set(one.scores) or one.n_records not in runs.sizes
        else one
        for one in table.by_replicate
    )
    return replace(table, runs=runs, by_replicate=by_replicate)
