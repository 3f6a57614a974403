"""Does the probe gap of a pre-trained network, measured without a training, rank tasks by what fine-tuning gains?

It is measured here over the cells (task, n) of a study's runs: the gap (``studies.collection.probe_gap``) on the
records of each run against the gain of its pair. ``at_equal_n`` ranks within each size, which is what an asker with one
n can use.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.corpora.corpus import Corpus
from engine.seeds import stable_seed
from models.errors import ExitCode, UserError
from studies.collection.probe_gap import counted_classes, kernel_features, left_out_auroc, network_features
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.draws import BAND, Floats
from studies.files.transferability import SCHEMA_VERSION, SCORE, TaskFacts
from studies.running.one_run import training_rows
from studies.running.study_networks import MissingCheckpointError, folder_of
from studies.runs.pairs import of_one_precision
from studies.runs.run import Run, known
from studies.runs.store import Store
from studies.runs.store_files import distinct_runs, name_stores
from studies.runs.task_names import open_task, parse_task, pick_leads
from studies.runs.tidy_runs import of_one_recipe, pretraining_runs

_RESAMPLES = 2000
_FEWEST_CELLS = 3  # at one size, for ranks to say anything
_FEWEST_TASKS = 5  # for an interval: resamples of three tasks are ten

Report = Callable[[int, int], None]  # (done, total)


class NoPairsError(UserError, ValueError):
    """Stores without a fine-tuned run that has a run from scratch next to it."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class Cell:
    """One task, network and size of the evidence: mean probe gap, and mean gain of the pairs."""

    task: str
    arch: str
    upstream: str
    n_records: int
    score: float
    gain: float
    pairs: int


def measure(
    stores: Sequence[Store], corpora: Mapping[str, Corpus], report: Report = lambda _done, _total: None
) -> dict[str, Any]:
    """Measure over the runs of study stores and return the document of ``transferability.json``.

    Runs of a tuning are left out, and of each network those of another precision than most of its pairs have
    (``of_one_precision``) and those of another recipe than its curves are of (``of_one_recipe``). Raises
    MissingCheckpointError where a pre-trained network is gone, CheckpointError for one that is damaged, NoPairsError
    where there is nothing to measure.
    """
    pairs = list(_pairs(stores))
    if not pairs:
        raise NoPairsError(f"{stores[0].path} holds no pair of runs, from scratch and fine-tuned")
    found: dict[tuple[str, str, str, int], list[tuple[float, float]]] = defaultdict(list)
    gaps = _Gaps(corpora)
    for done, (checkpoint, tuned, gain) in enumerate(pairs, start=1):
        score = gaps.of(checkpoint, tuned)
        if np.isfinite(score):  # else its few records have no class that counts, or no feature to tell it by
            found[tuned.task, tuned.arch, known(tuned.upstream), tuned.n_records].append((score, gain))
        report(done, len(pairs))
    means = {cell: np.mean(np.array(values), axis=0).tolist() for cell, values in sorted(found.items())}
    cells = [
        Cell(task, arch, upstream, n, score, gain, len(found[task, arch, upstream, n]))
        for (task, arch, upstream, n), (score, gain) in means.items()
    ]
    tasks, archs = (sorted({getattr(cell, name) for cell in cells}) for name in ("task", "arch"))
    by_path = {store.path: store for store in stores}
    return {
        "schema_version": SCHEMA_VERSION,
        "score": SCORE,
        "tasks": {task: describe_task(corpora[parse_task(task).source], task) for task in tasks},
        "networks": {arch: correlate(arch, [c for c in cells if c.arch == arch]) for arch in archs},
        "provenance": {
            "stores": {name: len(by_path[path].keys()) for name, path in name_stores(list(by_path)).items()},
            "newest_run": max(known(run.created) for store in stores for run in store.runs()),
            "precision": {run.arch: run.precision for _, run, _ in pairs},
            "data": {name: corpus.content_hash for name, corpus in sorted(corpora.items())},
            "intervals": f"90 %, {_RESAMPLES} resamples of whole tasks",
        },
    }  # fmt: skip


def describe_task(corpus: Corpus, name: str) -> dict[str, Any]:
    """Return what a task's records are: what an asker's own are compared with."""
    data = open_task(corpus, name)
    leads = [corpus.leads[k] for k in pick_leads(corpus, name)]
    prevalence = dict(zip(data.classes, (round(float(share), 4) for share in data.labels.mean(axis=0)), strict=True))
    seconds = corpus.contract.seconds
    length = {} if seconds == TaskFacts.seconds else {"seconds": seconds}
    return {"source": corpus.manifest["source"]["name"], "records": len(data.rows), "leads": leads, "fs": corpus.fs,
            **length, "prevalence": prevalence}  # fmt: skip


class _Gaps:
    """Probe gaps of runs: the network's features are computed once a record, the other probe once a pair's records.

    Random convolutions are fitted to the records of a run, and so are not known record by record.
    """

    def __init__(self, corpora: Mapping[str, Corpus]) -> None:
        self._corpora = corpora
        self._features: dict[tuple[Path, str], dict[int, NDArray[np.float32]]] = defaultdict(dict)
        self._by_kernels: dict[tuple[str, tuple[int, ...], int, int], float] = {}

    def of(self, checkpoint: Path, run: Run) -> float:
        """Return the gap, on the run's own records, of the network that it started from; NaN where there is none."""
        spec = run.spec
        corpus = self._corpora[parse_task(spec.read_task).source]
        data = open_task(corpus, spec.read_task)
        rows = np.sort(np.concatenate(training_rows(data, spec, spec.resolve_recipe())))
        patients = data.patients[rows]
        labels = data.labels[rows][:, counted_classes(data.labels[rows], patients)]
        if not labels.shape[1]:
            return float("nan")
        records, drawn = data.rows[rows].tolist(), (spec.read_task, spec.pool_folds, spec.n_records, spec.replicate)
        if drawn not in self._by_kernels:
            features = kernel_features(_signals(corpus, spec.read_task, records), spec.seed)
            self._by_kernels[drawn] = left_out_auroc(features, labels, patients)
        known = self._features[checkpoint, spec.read_task]
        if wanted := [row for row in records if row not in known]:
            found = network_features(checkpoint, _signals(corpus, spec.read_task, wanted))
            known.update(zip(wanted, found, strict=True))
        of_network = left_out_auroc(np.stack([known[row] for row in records]), labels, patients)
        return of_network - self._by_kernels[drawn]


def _signals(corpus: Corpus, task: str, records: Sequence[int]) -> NDArray[np.float32]:
    return np.ascontiguousarray(corpus.signals[list(records)][:, pick_leads(corpus, task)])


def _pairs(stores: Sequence[Store]) -> Iterator[tuple[Path, Run, float]]:
    """Give each fine-tuned run that has a run from scratch next to it, the network it started from, and its gain."""
    of_stores = {store.path: store.runs() for store in stores}
    runs = distinct_runs(of_stores)
    pretrainings = _pretrainings(of_stores)
    by_key = {run.key: network for network, run in pretrainings}
    by_key_and_precision = {(run.key, run.precision): network for network, run in pretrainings}
    networks = {(run.task, run.arch, run.recipe): network for network, run in pretrainings}
    scored, _ = of_one_recipe(of_one_precision([run for _, run in runs if _counts(run)])[0])
    scratch = {_records_of(run): run.score for run in scored if run.strategy == SCRATCH}
    for run in scored:
        if run.strategy == FINE_TUNE and (cell := _records_of(run)) in scratch:
            start = known(run.upstream), run.arch, run.spec.upstream_recipe or run.recipe
            key = run.start_from  # runs of an early store do not say
            named = by_key_and_precision.get((key, run.precision)) or by_key.get(key) if key else networks.get(start)
            if named is None:
                raise MissingCheckpointError(f"no store given holds the pre-training of {start[1]} on {start[0]}")
            yield named, run, run.score - scratch[cell]


def _pretrainings(runs: Mapping[Path, Sequence[Run]]) -> list[tuple[Path, Run]]:
    """Return where every pre-trained network lies; those that are there come last, so that they are the ones taken."""
    found = [
        (folder_of(path) / known(run.key), run) for path, of_store in runs.items() for run in pretraining_runs(of_store)
    ]
    return sorted(found, key=lambda network: network[0].is_dir())


def _counts(run: Run) -> bool:
    return run.role == "downstream" and run.has_score and run.spec.learning_rate is None


def _records_of(run: Run) -> tuple[object, ...]:
    """Return what the runs of a pair share: the records that they train on, network, recipe and precision."""
    return run.task, run.arch, run.reading, run.n_records, run.replicate, run.recipe, run.precision


def correlate(arch: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """Return what the file says of a network: rank correlations, their intervals over tasks, and its cells."""
    tasks = sorted({cell.task for cell in cells})
    rng = np.random.default_rng(stable_seed("transferability", arch))
    resamples = [rng.choice(len(tasks), len(tasks)) for _ in range(_RESAMPLES if len(tasks) >= _FEWEST_TASKS else 0)]
    by_task = {task: [cell for cell in cells if cell.task == task] for task in tasks}
    drawn = [[cell for number in picked for cell in by_task[tasks[number]]] for picked in resamples]
    return {
        "over_all_cells": _estimate(spearman, cells, drawn),
        "at_equal_n": _estimate(spearman_at_equal_n, cells, drawn),
        "by_n": {str(n): _estimate(partial(spearman_of_size, n=n), cells, drawn) for n in _sizes(cells)},
        "tasks": len(tasks),
        "cells": [[c.task, c.upstream, c.n_records, round(c.score, 5), round(c.gain, 5), c.pairs] for c in cells],
    }


def _estimate(
    statistic: Callable[[Sequence[Cell]], float], cells: Sequence[Cell], drawn: Sequence[Sequence[Cell]]
) -> dict[str, float | None]:
    values = np.array([statistic(sample) for sample in drawn])
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, BAND) if len(values) else (np.nan, np.nan)
    numbers = {"spearman": statistic(cells), "ci_lower": float(low), "ci_upper": float(high)}
    return {name: round(value, 3) if np.isfinite(value) else None for name, value in numbers.items()}


def spearman(cells: Sequence[Cell]) -> float:
    """Return the rank correlation of score and gain; NaN where one of them never differs."""
    return _correlation(_ranks([c.score for c in cells]), _ranks([c.gain for c in cells]))


def spearman_at_equal_n(cells: Sequence[Cell]) -> float:
    """Return the correlation of the ranks that score and gain have among the cells of the same size."""
    groups = [[cell for cell in cells if cell.n_records == n] for n in _sizes(cells)]
    if not groups:
        return float("nan")
    scores = np.concatenate([_standing([cell.score for cell in group]) for group in groups])
    return _correlation(scores, np.concatenate([_standing([cell.gain for cell in group]) for group in groups]))


def spearman_of_size(cells: Sequence[Cell], n: int) -> float:
    """Return the rank correlation among the cells of one size."""
    return spearman([cell for cell in cells if cell.n_records == n])


def _sizes(cells: Sequence[Cell]) -> list[int]:
    """Return the sizes that have cells enough for ranks to say anything."""
    counts = Counter(cell.n_records for cell in cells)
    return sorted(n for n, count in counts.items() if count >= _FEWEST_CELLS)


def _standing(values: Sequence[float]) -> Floats:
    """Return the ranks about their mean, in units of how many there are."""
    return np.asarray((_ranks(values) - (len(values) + 1) / 2) / len(values), np.float64)


def _ranks(values: Sequence[float]) -> Floats:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), np.float64)


def _correlation(one: Floats, other: Floats) -> float:
    if len(one) < 2 or not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
