"""From a study store to what ships: the tidy runs table and the curves file."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.recipes import Recipe
from models.registry import count_parameters, create_network
from studies.collection.curve_documents import NO_TEST_NOISE, Header, Measured, make_document
from studies.collection.summary import SUMMARY, summarise
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.curves import corpus_of
from studies.files.draws import chance_level
from studies.fitting.learning_curves import FitError, ScoredRun, arrange
from studies.runs.run_tables import RunTable
from studies.runs.store import COLUMNS, RunRecord, Store
from studies.runs.tidy_runs import APART, RunsFileError, comparable_runs, preferred_recipe, pretraining_runs
from studies.runs.training_cost import fit_cost

METRIC = "auroc_macro"
_FEWEST_RESAMPLES = 50
_CLASSES = 5  # that a network's parameters are counted for, as in the table of networks, whatever its tasks have

Report = Callable[[int, int], None]  # (done, total)


class EvidenceError(ValueError):
    """A store from which no curve can be made; one sentence says why."""


def collect(store: Store, study: str, out: Path) -> tuple[Path, Path, list[str]]:
    """Write ``runs.csv``, ``curves.json`` and ``SUMMARY.md`` into ``out``; return the first two and what has no curve.

    Raises EvidenceError when nothing could.

    The same store gives the same bytes: the random draws are seeded by what is fitted, and ``created`` is the time of
    the store's last run.
    """
    runs = store.runs()
    document = make_curves(runs, study)
    try:
        summary = summarise(study, runs, document["not_fitted"])
    except RunsFileError as error:
        raise EvidenceError(f"study {study}: {error}") from None
    out.mkdir(parents=True, exist_ok=True)
    table, curves = out / "runs.csv", out / "curves.json"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table_rows(runs))
    curves.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    (out / SUMMARY).write_text(summary, encoding="utf-8")
    return table, curves, document["not_fitted"]


def table_rows(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return the rows of a runs table; runs that belong to no comparison of the arms have the role ``apart``."""
    kept = {run.key for run in comparable_runs(runs)}
    return [dict(run.row) | ({} if run.key in kept else {"role": APART}) for run in runs]


def make_curves(
    runs: Sequence[RunRecord], study: str, metric: str = METRIC, report: Report = lambda _done, _total: None
) -> dict[str, Any]:
    """Fit every task, network and upstream whose both arms were run, and return the document of a curves file.

    Raises EvidenceError when there is none.
    """
    downstream = _of_one_recipe(_matching(comparable_runs(runs), role="downstream"))
    fine_tuned = _matching(downstream, strategy=FINE_TUNE)
    cells = sorted({tuple(run.row[name] for name in ("task", "arch", "upstream", "recipe")) for run in fine_tuned})
    measured, failures = [], []
    for task, arch, upstream, recipe in cells:
        of_cell = {"task": task, "arch": arch, "recipe": recipe}
        of_upstream = _matching(fine_tuned, **of_cell, upstream=upstream)
        scratch = _matching(downstream, **of_cell, strategy=SCRATCH)
        pretraining = _matching(pretraining_runs(runs), task=upstream, arch=arch, recipe=recipe)
        try:
            arms = {SCRATCH: scratch, FINE_TUNE: of_upstream}
            measured.append(measure(arms, _started_from(of_upstream, pretraining), metric))
        except FitError as error:
            failures.append(f"{task} {arch}: {error}")
    document = make_document(_header(study, runs, downstream), measured, report) if measured else None
    failures += document["not_fitted"] if document else []
    if document is None or not document["curves"]:
        reason = "; ".join(failures) or "it holds no task with both arms, from scratch and fine-tuned"
        raise EvidenceError(f"study {study} gives no curve: {reason}")
    return {**document, "not_fitted": failures}


def _header(study: str, runs: Sequence[RunRecord], downstream: Sequence[RunRecord]) -> Header:
    archs = sorted({run.row["arch"] for run in downstream})
    parameters = {arch: count_parameters(create_network(arch, n_classes=_CLASSES)) for arch in archs}
    newest = max(run.row["created"] for run in runs)
    return Header(study, runs[-1].details["versions"]["ecgadvise"], newest, parameters, _describe_upstreams(runs))


def _matching(runs: Sequence[RunRecord], **values: object) -> list[RunRecord]:
    return [run for run in runs if all(run.row[name] == value for name, value in values.items())]


def _of_one_recipe(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Keep the runs of recipe ``tuned`` where several recipes were run: curves of different recipes do not mix."""
    kept = preferred_recipe({run.row["recipe"] for run in runs})
    return [run for run in runs if kept in (None, run.row["recipe"])]


def _started_from(runs: Sequence[RunRecord], pretrainings: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the pre-trainings that the runs say they started from; all, where runs of an early store do not say."""
    named = {run.details.get("start_from") for run in runs}
    return [run for run in pretrainings if run.key in named] or list(pretrainings)


def measure(arms: Mapping[str, Sequence[RunRecord]], pretraining: Sequence[RunRecord], metric: str) -> Measured:
    """Return the complete pairs of a task, network and upstream, ready to be fitted, with their cost and provenance.

    Raises FitError where the runs differ in recipe, data or folds, or no size has two pairs.
    """
    arms, warnings = _complete_pairs(arms, metric)
    first = arms[FINE_TUNE][0]
    covariance = _test_covariance(arms) if metric == METRIC else None
    if covariance is None:
        warnings.append(NO_TEST_NOISE)  # the store keeps resamples of the macro AUROC alone
    scored = [
        ScoredRun(arm, run.row["n_records"], run.row["replicate"], run.row[metric], f"run {run.key}")
        for arm, runs in arms.items()
        for run in runs
    ]
    table = RunTable(
        **{name: first.row[name] for name in ("task", "arch", "family", "upstream")},
        runs=arrange(scored, covariance, chance_level(metric)),
    )
    cost = {
        **{arm: fit_cost(runs) for arm, runs in arms.items()},
        **({"pretraining": _pretraining_cost(pretraining)} if pretraining else {}),
    }
    return Measured(table, metric, tuple(warnings), cost, _provenance(first), _kind(first, pretraining))


def _kind(run: RunRecord, pretraining: Sequence[RunRecord]) -> str | None:
    """Say whose records the upstream's are, and whether the task's labels are among its own, None where nobody knows.

    Two sources may call one finding by two names (AFIB, Atrial fibrillation): then names that differ say nothing.
    """
    if not pretraining:
        return None
    source = corpus_of(run.row["upstream"])
    if set(run.details["classes"]) & set(pretraining[0].details["classes"]):
        return f"{source}/shared"
    return f"{source}/disjoint" if corpus_of(run.row["task"]) == source else None


def _complete_pairs(
    arms: Mapping[str, Sequence[RunRecord]], metric: str
) -> tuple[dict[str, list[RunRecord]], list[str]]:
    """Keep the pairs: runs of both arms at one size and replicate. Sizes with fewer than two pairs are left out.

    Raises FitError when runs of an arm differ in recipe, data or folds: they belong to different studies.
    """
    by_cell: dict[str, dict[tuple[int, int], RunRecord]] = {}
    for arm, runs in arms.items():
        if len({_conditions(run) for run in runs}) > 1:
            raise FitError(f"the runs of {arm} differ in recipe, data or folds; give each kind a store of its own")
        scored = [run for run in runs if run.row[metric] is not None]
        by_cell[arm] = {(run.row["n_records"], run.row["replicate"]): run for run in scored}
    paired = set.intersection(*(set(cells) for cells in by_cell.values()))
    n_pairs = Counter(n for n, _ in paired)
    used = sorted(cell for cell in paired if n_pairs[cell[0]] > 1)
    if not used:
        raise FitError("no size has two pairs of runs")
    total = sum(len(runs) for runs in arms.values())
    left = total - 2 * len(used)
    warnings = [f"{left} of {total} runs have no pair yet and are left out"] if left else []
    return {arm: [cells[cell] for cell in used] for arm, cells in by_cell.items()}, warnings


def _conditions(run: RunRecord) -> str:
    """Return what all runs of an arm must share, as text.

    The recipe by its digest: runs stored before a field existed are the same as runs with its default.
    """
    spec = {name: value for name, value in run.details["spec"].items() if name.endswith(("_folds", "upstream_records"))}
    return json.dumps([Recipe(**run.details["recipe"]).digest(), run.row["data_hash"], spec], sort_keys=True)


def _test_covariance(arms: Mapping[str, Sequence[RunRecord]]) -> NDArray[np.float64]:
    """Return the covariance (arms, arms) of the mean score at the largest size over resamples of the test patients."""
    size = max(run.row["n_records"] for run in arms[FINE_TUNE])
    means = np.array([
        np.mean([np.array(run.details["bootstrap"], float) for run in runs if run.row["n_records"] == size], axis=0)
        for runs in arms.values()
    ])  # fmt: skip
    scored = np.isfinite(means).all(axis=0)  # a resample may lack an outcome of every class
    if scored.sum() < _FEWEST_RESAMPLES:
        raise FitError("the test set is too small: its resamples have no AUROC")
    return np.asarray(np.cov(means[:, scored]), np.float64)


def _pretraining_cost(runs: Sequence[RunRecord]) -> dict[str, Any]:
    names = ("device", "seconds", "records_seen", "n_records", "epochs", METRIC)
    return {name: runs[0].row[name] for name in names}


def _describe_upstreams(runs: Sequence[RunRecord]) -> dict[str, str]:
    described = {}
    for run in pretraining_runs(runs):
        folds = ", ".join(map(str, run.details["spec"]["pool_folds"]))
        n_classes = len(run.details["classes"])
        described[run.row["task"]] = (
            f"{run.details['task']} ({n_classes} classes) of {run.row['n_records']} records, folds {folds}"
        )
    return described


def _provenance(run: RunRecord) -> dict[str, Any]:
    """Say where the records of a run's task come from, and what it was tested on."""
    return {
        "source": {
            name: value for name, value in run.details["source"].items() if value
        },  # an own directory has no url
        "task": run.details["task"],
        "data_hash": run.row["data_hash"],
        "torch": run.details["versions"]["torch"],
        "pool_folds": run.details["spec"]["pool_folds"],
        "test_folds": run.details["spec"]["test_folds"],
        "test_records": run.details["test_records"],
        "test_patients": run.details["test_patients"],
    }
