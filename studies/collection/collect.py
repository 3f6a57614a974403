"""From a study store to what ships: the tidy runs table and the curves file."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.checkpoints.zoo_index import describe_network, find_zoo_document
from models.errors import ExitCode, UserError
from models.registry import count_parameters, create_network
from studies.collection.class_scores import class_scores
from studies.collection.curve_documents import NO_TEST_NOISE, Header, Measured, make_document
from studies.collection.patient_sampling import covariance_of_all, describe_test, sampling_covariance, share_no_fold
from studies.collection.summary import SUMMARY, summarise
from studies.files.arms import FINE_TUNE, FURTHER_STRATEGIES, PAIR, SCRATCH
from studies.files.curves import RELEASED, UNPRINTABLE, corpus_of, is_released
from studies.files.precision import standing_order, with_precision
from studies.fitting.learning_curves import FitError
from studies.fitting.paired_runs import PairedRuns
from studies.runs.run import COLUMNS, METRIC, Run, known, row_of
from studies.runs.run_tables import arrange_runs, further_of, make_table
from studies.runs.store import Store
from studies.runs.tidy_runs import (
    APART,
    RunsFileError,
    check_averages,
    comparable_runs,
    of_one_recipe,
    pretraining_runs,
)
from studies.runs.training_cost import fit_cost, fit_cost_once, made_on, pretraining_cost

_NO_COMPARISON = "it holds no task with both arms, from scratch and fine-tuned"
_CLASSES = 5  # that a network's parameters are counted for, as in the table of networks, whatever its tasks have

Report = Callable[[int, int], None]  # (done, total)
# task, network, upstream ("" for none), recipe, precision ("" for unknown), how it reads the records ("": as they are)
Cell = tuple[str, str, str, str, str, str]


class EvidenceError(UserError, ValueError):
    """A store from which no curve can be made; one sentence says why."""

    exit_code = ExitCode.DATA


def collect(store: Store, study: str, out: Path, others: Sequence[Run] = ()) -> tuple[Path, Path, list[str]]:
    """Write ``runs.csv``, ``curves.json`` and ``SUMMARY.md`` into ``out``; return the first two and what has no curve.

    ``others`` are runs that count and are not in the store (``studies.collection.parted_store``). Raises EvidenceError
    when nothing could.

    The same store gives the same bytes: the random draws are seeded by what is fitted, and ``created`` is the time of
    the store's last run.
    """
    runs = sorted([*store.runs(), *others], key=_place) if others else store.runs()
    if not compares_arms(runs):
        raise EvidenceError(f"study {study} gives no curve: {_NO_COMPARISON}")
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


def _place(run: Run) -> tuple[object, ...]:
    """Return where a run stands among others, as a store sorts them."""
    where = run.task, run.arch, run.strategy, run.upstream or "", run.n_records, run.replicate
    return *where, known(run.recipe), known(run.key), standing_order(run.precision)


def table_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the rows of a runs table; runs that belong to no comparison of the arms have the role ``apart``."""
    kept = {run.key for run in comparable_runs(runs)}
    return [row_of(run) | ({} if run.key in kept else {"role": APART}) for run in runs]


def make_curves(
    runs: Sequence[Run], study: str, metric: str = METRIC, report: Report = lambda _done, _total: None
) -> dict[str, Any]:
    """Fit the runs of a store and return the document of a curves file. Raises EvidenceError when it has no curve.

    That are curves of every task, network and upstream whose both arms were run, or, where no arms can be compared, of
    every task and network from scratch; each with the further arms that were run there. Runs that average over
    different classes are refused too.
    """
    try:
        check_averages(runs)
    except RunsFileError as error:
        raise EvidenceError(f"study {study}: {error}") from None
    runs = [replace(run, metric=metric) for run in runs]
    downstream = _compared(runs)
    measured, failures = _measure_cells(runs, downstream)
    document = make_document(_header(study, runs, downstream), measured, report) if measured else None
    failures += document["not_fitted"] if document else []
    if document is None or not document["curves"]:
        reason = "; ".join(failures) or _NO_COMPARISON
        raise EvidenceError(f"study {study} gives no curve: {reason}")
    return {**document, "not_fitted": failures}


def measure_runs(runs: Sequence[Run], metric: str = METRIC) -> tuple[list[Measured], list[str]]:
    """Return what curves are fitted to, of the runs of a store by a metric, and in words what cannot be."""
    runs = [replace(run, metric=metric) for run in runs]
    return _measure_cells(runs, _compared(runs))


def _measure_cells(runs: Sequence[Run], downstream: Sequence[Run]) -> tuple[list[Measured], list[str]]:
    pretrainings = pretraining_runs(runs)
    measured, failures = [], []
    further = [run for run in downstream if run.strategy in FURTHER_STRATEGIES]
    for (task, arch, upstream, recipe, precision, _), arms in sorted(_arms_by_cell(downstream).items(), key=_in_order):
        of = {run.spec.upstream_recipe or recipe for run in arms.get(FINE_TUNE, [])}
        started_from = [run for run in pretrainings if (run.task, run.arch) == (upstream, arch) and run.recipe in of]
        try:
            others = further_of(further, task, arch, upstream or None)
            measured.append(measure(arms, _started_from(arms.get(FINE_TUNE, []), started_from), others))
        except FitError as error:
            failures.append(f"{with_precision(f'{task} {arch}', precision or None)}: {error}")
    return measured, failures


def compares_arms(runs: Sequence[Run]) -> bool:
    """Say whether a store has a fine-tuned run with a score, to be compared with those from scratch."""
    return _has_fine_tuned(_compared(runs))


def _compared(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that curves are fitted to."""
    return of_one_recipe([run for run in comparable_runs(runs) if run.role == "downstream"])[0]


def _has_fine_tuned(downstream: Sequence[Run]) -> bool:
    return any(run.strategy == FINE_TUNE and run.has_score for run in downstream)


def _arms_by_cell(downstream: Sequence[Run]) -> dict[Cell, dict[str, list[Run]]]:
    """Return the runs of each cell by arm: both arms where any run was fine-tuned, else from scratch alone."""
    scratch = _by_cell(downstream, SCRATCH)
    if not _has_fine_tuned(downstream):
        return {cell: {SCRATCH: runs} for cell, runs in scratch.items()}
    return {
        cell: {SCRATCH: scratch.get((*cell[:2], "", *cell[3:]), []), FINE_TUNE: runs}
        for cell, runs in _by_cell(downstream, FINE_TUNE).items()
    }


def _in_order(item: tuple[Cell, object]) -> tuple[object, ...]:
    *cell, precision, reading = item[0]
    return *cell, standing_order(precision), reading


def _by_cell(runs: Sequence[Run], arm: str) -> dict[Cell, list[Run]]:
    """Return the runs of an arm by task, network, upstream, recipe, precision and way of reading."""
    cells: dict[Cell, list[Run]] = defaultdict(list)
    for run in runs:
        if run.strategy == arm:
            upstream, recipe, precision = run.upstream or "", known(run.recipe), run.precision or ""
            cells[run.task, run.arch, upstream, recipe, precision, run.spec.reading].append(run)
    return cells


def _header(study: str, runs: Sequence[Run], downstream: Sequence[Run]) -> Header:
    archs = sorted({run.arch for run in downstream if run.strategy in {arm.strategy for arm in PAIR}})
    parameters = {arch: count_parameters(create_network(arch, n_classes=_CLASSES)) for arch in archs}
    newest = max(known(run.created) for run in runs)
    return Header(study, runs[-1].versions["ecgadvise"], newest, parameters, _describe_upstreams(runs))


def _started_from(runs: Sequence[Run], pretrainings: Sequence[Run]) -> list[Run]:
    """Return the pre-trainings that the runs say they started from; all, where runs of an early store do not say.

    Of one that was made in several precisions, in several stores, that in the runs' own.
    """
    named = {run.start_from for run in runs}
    found = [run for run in pretrainings if run.key in named] or list(pretrainings)
    return [one for one in found if runs and one.precision == runs[0].precision] or found


def measure(
    arms: Mapping[str, Sequence[Run]],
    pretraining: Sequence[Run],
    further: Mapping[str, Sequence[Run]] | None = None,
) -> Measured:
    """Return the complete pairs of a task, network and upstream, of one precision, with their cost and provenance.

    Of runs from scratch alone, all that have a score. The runs of ``further`` arms are paired with those from scratch
    one arm at a time. Raises FitError where the runs differ in recipe, data or folds, or no size has two pairs; for a
    further arm that is said, and leaves it out.
    """
    pairs, left_out = _pair_further(arms.get(SCRATCH, ()), further or {})
    arms, warnings = _complete_pairs(arms) if FINE_TUNE in arms else _scored(arms)
    first = [runs[0] for runs in arms.values()][-1]
    covariance = sampling_covariance(arms) if first.metric == METRIC else None
    if covariance is None:
        warnings.append(NO_TEST_NOISE)  # the store keeps resamples of the macro AUROC alone
    cost = {
        **{arm: fit_cost(runs) for arm, runs in arms.items()},
        **{arm: fit_cost_once(runs) for arm, runs in (further or {}).items() if arm in pairs},
        **({"pretraining": pretraining_cost(pretraining)} if pretraining else {}),
    }
    used = [run for runs in arms.values() for run in runs]
    every = {**arms, **{arm: runs for arm, runs in (further or {}).items() if arm in pairs}}
    patients = None if covariance is None else covariance_of_all(every)
    table = replace(make_table(used, first.upstream, covariance, pairs, further), patients=patients)
    kind = _kind(first, pretraining)
    by_arm = {arm: class_scores(runs) for arm, runs in every.items() if first.metric == METRIC and runs}
    classes = {arm: scores for arm, scores in by_arm.items() if scores is not None}
    return Measured(table, first.metric, tuple(warnings), cost, _provenance(first, used), kind, left_out, classes)


def _pair_further(
    scratch: Sequence[Run], further: Mapping[str, Sequence[Run]]
) -> tuple[dict[str, PairedRuns], dict[str, str]]:
    """Return the complete pairs of each further arm with the runs from scratch, and why an arm has none."""
    pairs, left_out = {}, {}
    for arm, runs in further.items():
        try:
            both, _ = _complete_pairs({SCRATCH: scratch, arm: runs})
            covariance = sampling_covariance(both) if runs[0].metric == METRIC else None
            pairs[arm] = arrange_runs([run for of_arm in both.values() for run in of_arm], covariance)
        except FitError as error:
            left_out[arm] = str(error)
    return pairs, left_out


def _kind(run: Run, pretraining: Sequence[Run]) -> str | None:
    """Say whose records the upstream's are, and whether the task's labels are among its own, None where nobody knows.

    Two sources may call one finding by two names (AFIB, Atrial fibrillation): then names that differ say nothing.
    """
    if not pretraining or run.upstream is None:
        return None
    source = corpus_of(run.upstream)
    if set(run.classes) & set(pretraining[0].classes):
        return f"{source}/shared"
    return f"{source}/disjoint" if corpus_of(run.task) == source else None


def _scored(arms: Mapping[str, Sequence[Run]]) -> tuple[dict[str, list[Run]], list[str]]:
    """Keep the runs of each arm that have a score. Raises FitError where none has, and as ``_check_conditions``."""
    _check_conditions(arms)
    scored = {arm: [run for run in runs if run.has_score] for arm, runs in arms.items()}
    if not all(scored.values()):
        raise FitError("no run has a score")
    return scored, []


def _complete_pairs(arms: Mapping[str, Sequence[Run]]) -> tuple[dict[str, list[Run]], list[str]]:
    """Keep the pairs: runs of both arms at one size and replicate. Sizes with fewer than two pairs are left out.

    Raises FitError where there are none, and as ``_check_conditions``.
    """
    _check_conditions(arms)
    by_cell = {
        arm: {(run.n_records, run.replicate): run for run in runs if run.has_score} for arm, runs in arms.items()
    }
    paired = set.intersection(*(set(cells) for cells in by_cell.values()))
    n_pairs = Counter(n for n, _ in paired)
    used = sorted(cell for cell in paired if n_pairs[cell[0]] > 1)
    if not used:
        raise FitError("no size has two pairs of runs")
    total = sum(len(runs) for runs in arms.values())
    left = total - 2 * len(used)
    warnings = [f"{left} of {total} runs have no pair yet and are left out"] if left else []
    return {arm: [cells[cell] for cell in used] for arm, cells in by_cell.items()}, warnings


def _check_conditions(arms: Mapping[str, Sequence[Run]]) -> None:
    """Raise FitError when runs belong to different studies.

    Those of an arm share recipe, data and upstream, and the folds that they are trained out of where they are tested on
    the same. Replicates may each be tested on folds of their own, scored by one rule; the arms of a pair on the same.
    """
    every = [run for runs in arms.values() for run in runs]
    for arm, runs in arms.items():
        folds = {(run.spec.pool_folds, run.spec.test_folds) for run in runs}
        if len({_conditions(run) for run in runs}) > 1 or len(folds) > len({test for _, test in folds}):
            raise FitError(f"the runs of {arm} differ in recipe, data or folds; give each kind a store of its own")
    tests = {run.spec.test_folds for run in every}
    if not share_no_fold(tests):
        raise FitError("the replicates' test folds overlap, and they must be the same or have none in common")
    if len({run.subset for run in every}) > len({(run.n_records, run.replicate) for run in every}):
        raise FitError("the arms of a pair are tested on different folds; give each kind a store of its own")
    if len(tests) > 1 and len({run.averaged for run in every}) > 1:
        raise FitError(
            "replicates on test folds of their own average their scores over different classes; score all runs by one "
            "rule with ecgadvise study rescore"
        )


def _conditions(run: Run) -> tuple[object, ...]:
    """Return what all runs of an arm must share.

    The recipe by its digest: runs stored before a field existed are the same as runs with its default.
    """
    spec = run.spec
    upstream = (spec.upstream_records, spec.upstream_folds, spec.upstream_test_folds)
    return run.training_recipe.digest(), run.data_hash, spec.validation_folds, upstream


def _describe_upstreams(runs: Sequence[Run]) -> dict[str, str]:
    """Say what each upstream is; of a network that was there before, what its runs say of it or, of runs from before
    they did, the zoo.
    """
    described: dict[str, str] = {}
    for upstream in sorted({run.upstream for run in runs if run.upstream and is_released(run.upstream)}):
        said = next((run.started_from for run in runs if run.upstream == upstream and run.started_from), None)
        if said is None and (found := find_zoo_document(upstream.removeprefix(RELEASED))) is not None:
            said = describe_network(found[1])
        described |= {} if said is None else {upstream: UNPRINTABLE.sub(" ", said)}
    for run in pretraining_runs(runs):
        folds = ", ".join(map(str, run.spec.pool_folds))
        described[run.task] = (
            f"{run.task_description} ({len(run.classes)} classes) of {run.n_records} records, folds {folds}"
        )
    return described


def _provenance(run: Run, runs: Sequence[Run]) -> dict[str, Any]:
    """Say where the records of a run's task come from, what tested it, and on what devices ``runs`` were made."""
    return {
        "source": {name: value for name, value in run.source.items() if value},  # an own directory has no url
        "task": run.task_description,
        "data_hash": run.data_hash,
        "devices": list(made_on(runs)),
        **({} if run.recipe is None else {"recipe": run.recipe}),
        "torch": run.versions["torch"],
        **describe_test(runs),
    }
