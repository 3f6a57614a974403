"""From a study store to what ships: the tidy runs table and the curves file."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from engine.splits import stable_seed
from models.registry import count_parameters, create_network, find_network, list_networks
from studies.cost_curves import fit_cost
from studies.curves_file import FINE_TUNE, SCHEMA_VERSION, SCRATCH
from studies.learning_curves import FitError, PairedRuns, fit_learning_curves
from studies.store import COLUMNS, RunRecord, Store

METRIC = "auroc_macro"
_FEWEST_RESAMPLES = 50
_DIGITS = 6  # significant digits of a parameter draw: far below its uncertainty, and the file stays small


class EvidenceError(ValueError):
    """A store from which no curve can be made; one sentence says why."""


def collect(store: Store, study: str, out: Path) -> tuple[Path, Path, list[str]]:
    """Write ``runs.csv`` and ``curves.json`` into ``out``; return their paths and what could not be fitted.

    Raises EvidenceError when nothing could.

    The same store gives the same bytes: the random draws are seeded by what is fitted, and ``created`` is the time of
    the store's last run.
    """
    runs = store.runs()
    document = make_curves(runs, study)
    out.mkdir(parents=True, exist_ok=True)
    table, curves = out / "runs.csv", out / "curves.json"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(run.row for run in runs)
    curves.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    return table, curves, document["not_fitted"]


def make_curves(runs: Sequence[RunRecord], study: str) -> dict[str, Any]:
    """Fit every task, network and upstream whose both arms were run, and return the document of a curves file."""
    downstream = [run for run in _matching(runs, role="downstream") if _is_evidence(run)]
    fine_tuned = [run for run in downstream if run.row["upstream"] is not None]
    cells = sorted({tuple(run.row[name] for name in ("task", "arch", "upstream", "recipe")) for run in fine_tuned})
    curves, failures = [], []
    for task, arch, upstream, recipe in cells:
        arms = {
            SCRATCH: _matching(downstream, task=task, arch=arch, recipe=recipe, upstream=None),
            FINE_TUNE: _matching(downstream, task=task, arch=arch, recipe=recipe, upstream=upstream),
        }
        pretraining = _matching(runs, role="pretraining", task=upstream, arch=arch, recipe=recipe)
        try:
            curves.append(_make_curve(arms, pretraining))
        except FitError as error:
            failures.append(f"{task} {arch}: {error}")
    if not curves:
        reason = "; ".join(failures) or "it holds no task with both arms, from scratch and fine-tuned"
        raise EvidenceError(f"study {study} gives no curve: {reason}")
    archs = sorted({curve["arch"] for curve in curves})
    return {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "version": runs[-1].details["versions"]["ecgadvise"],
        "created": max(run.row["created"] for run in runs),
        "networks": {
            arch: {
                "family": find_network(arch).family,
                "parameters": count_parameters(create_network(arch, n_classes=len(_classes_of(downstream, arch)))),
            }
            for arch in archs
        },
        "registered": {name: find_network(name).family for name in list_networks()},
        "family_default": _family_defaults(curves),
        "upstreams": _describe_upstreams(runs),
        "not_fitted": failures,
        "curves": curves,
    }


def _matching(runs: Sequence[RunRecord], **values: object) -> list[RunRecord]:
    return [run for run in runs if all(run.row[name] == value for name, value in values.items())]


def _is_evidence(run: RunRecord) -> bool:
    """A run with a learning rate of its own belongs to a tuning, not to the evidence."""
    return "learning_rate" not in run.details["spec"]


def _make_curve(arms: Mapping[str, Sequence[RunRecord]], pretraining: Sequence[RunRecord]) -> dict[str, Any]:
    arms, warnings = _complete_pairs(arms)
    first = arms[FINE_TUNE][0]
    sizes = sorted({run.row["n_records"] for run in arms[FINE_TUNE]})
    replicates = sorted({run.row["replicate"] for run in arms[FINE_TUNE]})
    scores = {arm: np.full((len(sizes), len(replicates)), np.nan) for arm in arms}
    for arm, runs in arms.items():
        for run in runs:
            scores[arm][sizes.index(run.row["n_records"]), replicates.index(run.row["replicate"])] = run.row[METRIC]
    paired = PairedRuns(np.array(sizes, float), scores, _test_covariance(arms, sizes[-1]))
    cell = {name: first.row[name] for name in ("task", "arch", "family", "upstream")}
    fit = fit_learning_curves(paired, stable_seed(cell["task"], cell["arch"], cell["upstream"]))
    return {
        **cell,
        "metric": METRIC,
        "sizes": sizes,
        "replicates": int(np.isfinite(scores[FINE_TUNE]).sum(axis=1).min()),
        "runs": sum(len(runs) for runs in arms.values()),
        "draws": {
            arm: {name: [_round(v) for v in values] for name, values in draws.items()}
            for arm, draws in fit.draws.items()
        },
        "noise": {
            "alpha": _round(fit.noise.alpha), "gamma": _round(fit.noise.gamma),
            "correlation": _round(fit.noise.correlation), "degrees_of_freedom": fit.degrees_of_freedom,
        },
        "points": {arm: _points(runs) for arm, runs in arms.items()},
        "cost": {
            **{arm: fit_cost(runs) for arm, runs in arms.items()},
            **({"pretraining": _pretraining_cost(pretraining)} if pretraining else {}),
        },
        "provenance": _provenance(first),
        "warnings": [*warnings, *fit.warnings],
    }  # fmt: skip


def _complete_pairs(arms: Mapping[str, Sequence[RunRecord]]) -> tuple[dict[str, list[RunRecord]], list[str]]:
    """Keep the pairs: runs of both arms at one size and replicate. Sizes with fewer than two pairs are left out.

    Raises FitError when runs of an arm differ in recipe, data or folds: they belong to different studies.
    """
    by_cell: dict[str, dict[tuple[int, int], RunRecord]] = {}
    for arm, runs in arms.items():
        if len({_conditions(run) for run in runs}) > 1:
            raise FitError(f"the runs of {arm} differ in recipe, data or folds; give each kind a store of its own")
        by_cell[arm] = {(run.row["n_records"], run.row["replicate"]): run for run in runs}
    paired = set.intersection(*(set(cells) for cells in by_cell.values()))
    n_pairs = Counter(n for n, _ in paired)
    used = sorted(cell for cell in paired if n_pairs[cell[0]] > 1)
    if not used:
        raise FitError("no size has two pairs of runs")
    total = sum(len(cells) for cells in by_cell.values())
    left = total - 2 * len(used)
    warnings = [f"{left} of {total} runs have no pair yet and are left out"] if left else []
    return {arm: [cells[cell] for cell in used] for arm, cells in by_cell.items()}, warnings


def _conditions(run: RunRecord) -> str:
    """Return what all runs of an arm must share, as text."""
    spec = {name: value for name, value in run.details["spec"].items() if name.endswith(("_folds", "upstream_records"))}
    return json.dumps([run.details["recipe"], run.row["data_hash"], spec], sort_keys=True)


def _test_covariance(arms: Mapping[str, Sequence[RunRecord]], size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the covariance (arms, arms) of the mean score at a size over resamples of the test patients."""
    means = np.array([
        np.mean([np.array(run.details["bootstrap"], float) for run in runs if run.row["n_records"] == size], axis=0)
        for runs in arms.values()
    ])  # fmt: skip
    scored = np.isfinite(means).all(axis=0)  # a resample may lack an outcome of every class
    if scored.sum() < _FEWEST_RESAMPLES:
        raise FitError("the test set is too small: its resamples have no AUROC")
    return np.cov(means[:, scored])


def _points(runs: Sequence[RunRecord]) -> dict[str, list[float]]:
    ordered = sorted(runs, key=lambda run: (run.row["n_records"], run.row["replicate"]))
    return {
        str(n): [round(run.row[METRIC], _DIGITS) for run in cell]
        for n, cell in groupby(ordered, key=lambda run: run.row["n_records"])
    }


def _pretraining_cost(runs: Sequence[RunRecord]) -> dict[str, Any]:
    names = ("device", "seconds", "records_seen", "n_records", "epochs", METRIC)
    return {name: runs[0].row[name] for name in names}


def _classes_of(runs: Sequence[RunRecord], arch: str) -> list[str]:
    return next(list(run.details["classes"]) for run in runs if run.row["arch"] == arch)


def _family_defaults(curves: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Name, for each family, the network with the most runs behind it."""
    runs: dict[str, Counter[str]] = defaultdict(Counter)
    for curve in curves:
        runs[curve["family"]][curve["arch"]] += curve["runs"]
    return {family: counts.most_common(1)[0][0] for family, counts in sorted(runs.items())}


def _describe_upstreams(runs: Sequence[RunRecord]) -> dict[str, str]:
    described = {}
    for run in runs:
        if run.row["role"] == "pretraining":
            folds = ", ".join(map(str, run.details["spec"]["pool_folds"]))
            n_classes = len(run.details["classes"])
            described[run.row["task"]] = (
                f"{run.details['task']} ({n_classes} classes) of {run.row['n_records']} records, folds {folds}"
            )
    return described


def _provenance(run: RunRecord) -> dict[str, Any]:
    """Say where the records of a run's task come from, and what it was tested on."""
    return {
        "source": run.details["source"],
        "task": run.details["task"],
        "data_hash": run.row["data_hash"],
        "torch": run.details["versions"]["torch"],
        "pool_folds": run.details["spec"]["pool_folds"],
        "test_folds": run.details["spec"]["test_folds"],
        "test_records": run.details["test_records"],
        "test_patients": run.details["test_patients"],
    }


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
