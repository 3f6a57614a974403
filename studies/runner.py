"""Running a design: what one run does, and the order in which runs are given to workers."""

import importlib.metadata
import os
import platform
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.checkpoint import CheckpointFacts, Standardisation, save_checkpoint
from engine.corpus import Corpus, TaskData
from engine.evaluation import (
    auroc_macro,
    auroc_per_class,
    average_precision_macro,
    bootstrap_auroc_macro,
    brier_score,
)
from engine.reading import WorkerLostError
from engine.recipes import Recipe
from engine.splits import draw_records, split_validation, stable_seed
from engine.training import Examples, Training, predict_probabilities, train
from engine.transfer import from_checkpoint, new_network
from models.registry import find_network
from studies.design import RunSpec
from studies.store import RunRecord, Store

BOOTSTRAP_RESAMPLES = 400
_LOST = "a worker process was ended from outside, for want of memory perhaps; what had finished is in the store"


class MissingCheckpointError(RuntimeError):
    """The store says that a network was pre-trained, and its checkpoint is gone."""


@dataclass(frozen=True)
class Job:
    """A run and where it finds its data and leaves its checkpoint; small, so that it travels to any worker."""

    spec: RunSpec
    key: str
    role: str
    corpora: Path
    checkpoints: Path
    start_from: str | None = None  # the key of the pre-training run


@dataclass(frozen=True)
class Outcome:
    """A finished run, ready for the store."""

    record: RunRecord
    probabilities: NDArray[np.float32]


def execute(job: Job) -> Outcome:
    """Train and test one run. A pre-training also leaves its checkpoint in ``job.checkpoints / job.key``."""
    spec, recipe = job.spec, job.spec.resolve_recipe()
    corpus, task = _open_task(job.corpora, spec.task)
    training, validation = _training_rows(task, spec, recipe)
    n_leads, n_samples = corpus.signals.shape[1:]
    shape = (spec.arch, n_leads, n_samples, len(task.classes), spec.seed)
    if job.start_from is None:
        network, scaling = new_network(*shape), Standardisation.of(corpus.signals[task.rows[training]])
    else:
        network, scaling = from_checkpoint(job.checkpoints / job.start_from, *shape)

    def examples(rows: NDArray[np.int64]) -> Examples:
        return Examples.of(scaling.apply(corpus.signals[task.rows[rows]]), task.labels[rows])

    result = train(network, examples(training), examples(validation), recipe, spec.seed)
    test = task.in_folds(spec.test_folds)
    probabilities = predict_probabilities(network, examples(test).signals)
    metrics = _measure(task, test, probabilities)
    if job.role == "pretraining":
        facts = CheckpointFacts(
            spec.arch, spec.task, task.classes, corpus.leads, corpus.fs, n_samples, scaling, asdict(recipe),
            corpus.content_hash, {name: metrics[name] for name in ("auroc_macro", "auprc_macro", "brier")},
        )  # fmt: skip
        save_checkpoint(network, facts, job.checkpoints / job.key)
    gflop = _forward_gflop(network, n_leads, n_samples)
    return Outcome(_record(job, recipe, corpus, task, result, metrics, gflop), probabilities)


@dataclass
class Progress:
    """How far a study is; ``report`` is called after every change."""

    total: int
    done: int = 0
    failed: int = 0
    last: str = ""
    report: Callable[["Progress"], None] = field(default=lambda _progress: None, repr=False)

    def step(self, *, failed: bool, last: str) -> None:
        """Count one run and report."""
        self.done += not failed
        self.failed += failed
        self.last = last
        self.report(self)


def run_study(
    specs: Sequence[RunSpec],
    store: Store,
    corpora: Path,
    data_hashes: Mapping[str, str],
    executor: Executor,
    workers: int,
    report: Callable[[Progress], None] = lambda _progress: None,
) -> Progress:
    """Run every spec that the store does not hold, a pre-training before what starts from it.

    A run that fails is written to the store with its error, together with what had to start from it, and never stops
    the others. Raises StoreError when a result cannot be written, MissingCheckpointError when a pre-trained network is
    gone, and WorkerLostError when a worker process was killed.
    """
    checkpoints = store.path.with_suffix(".checkpoints")
    waiting = _missing_jobs(specs, store, corpora, data_hashes, checkpoints)
    progress = Progress(len(specs), done=len(specs) - len(waiting), report=report)
    running: dict[Future[Outcome], Job] = {}
    unfinished = {job.key for job in waiting}
    broken: set[str] = set()
    while waiting or running:
        for job in [job for job in waiting if job.start_from not in unfinished][: workers - len(running)]:
            waiting.remove(job)
            if job.start_from in broken:
                _fail(store, job, f"its pre-training {job.start_from} failed", progress)
                unfinished.discard(job.key)
            else:
                running[_submit(executor, job)] = job
        for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
            job = running.pop(future)
            unfinished.discard(job.key)
            if isinstance(error := future.exception(), BrokenExecutor):
                raise WorkerLostError(_LOST) from error
            if error is not None:
                broken.add(job.key)
                _fail(store, job, f"{type(error).__name__}: {error}", progress)
                continue
            outcome = future.result()
            store.add(outcome.record, outcome.probabilities)
            progress.step(failed=False, last=describe(job.spec))
    return progress


def _submit(executor: Executor, job: Job) -> "Future[Outcome]":
    try:
        return executor.submit(execute, job)
    except BrokenExecutor as error:
        raise WorkerLostError(_LOST) from error


def describe(spec: RunSpec) -> str:
    """Return a run in a few words."""
    rate = "" if spec.learning_rate is None else f" learning rate {spec.learning_rate:g}"
    return f"{spec.task} {spec.arch} {spec.strategy} n={spec.n_records} replicate {spec.replicate}{rate}"


def _fail(store: Store, job: Job, error: str, progress: Progress) -> None:
    store.add_failure(job.key, asdict(job.spec), error, _now())
    progress.step(failed=True, last=f"failed: {describe(job.spec)}: {error}")


def _missing_jobs(
    specs: Sequence[RunSpec], store: Store, corpora: Path, data_hashes: Mapping[str, str], checkpoints: Path
) -> list[Job]:
    pretraining = {spec.pretraining() for spec in specs} - {None}
    stored = store.keys()
    jobs = []
    for spec in specs:
        upstream = spec.pretraining()
        role = "pretraining" if spec in pretraining else "downstream"
        start_from = upstream.key(data_hashes) if upstream else None
        jobs.append(Job(spec, spec.key(data_hashes), role, corpora, checkpoints, start_from))
    needed = {job.start_from for job in jobs if job.key not in stored}
    # A stored pre-training whose checkpoint is gone is needed again for the runs that start from it.
    lost = sorted(job.key for job in jobs if job.key in needed & stored and not (checkpoints / job.key).is_dir())
    if lost:
        raise MissingCheckpointError(
            f"{checkpoints} lacks the pre-trained network {lost[0]}, which the store says was trained; put it back, or "
            f"run the design into a new store"
        )
    return [job for job in jobs if job.key not in stored]


@lru_cache(maxsize=4)
def _open_task(corpora: Path, name: str) -> tuple[Corpus, TaskData]:
    source, _, task = name.partition("/")
    corpus = Corpus(corpora / source)
    return corpus, corpus.task(task)


def _training_rows(task: TaskData, spec: RunSpec, recipe: Recipe) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions (training, validation) of the run's ``n_records`` records."""
    pool = task.in_folds(spec.pool_folds)
    drawn = pool[draw_records(task.patients[pool], spec.n_records, spec.seed)]
    training, validation = split_validation(task.patients[drawn], recipe.validation_fraction, spec.seed)
    return drawn[training], drawn[validation]


def _measure(task: TaskData, test: NDArray[np.int64], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    labels, patients = task.labels[test], task.patients[test]
    per_class = auroc_per_class(labels, probabilities)
    resamples = bootstrap_auroc_macro(labels, probabilities, patients, BOOTSTRAP_RESAMPLES, stable_seed(task.name))
    return {
        "auroc_macro": auroc_macro(labels, probabilities),
        "auprc_macro": average_precision_macro(labels, probabilities),
        "brier": brier_score(labels, probabilities),
        "auroc": {name: None if np.isnan(v) else round(v, 6) for name, v in zip(task.classes, per_class, strict=True)},
        "bootstrap": [_finite(round(value, 5)) for value in resamples.tolist()],
        "test_records": len(test),
        "test_patients": len(np.unique(patients)),
    }


def _record(
    job: Job, recipe: Recipe, corpus: Corpus, task: TaskData, result: Training, metrics: dict[str, Any], gflop: float
) -> RunRecord:
    spec = job.spec
    row = {
        "key": job.key,
        "family": find_network(spec.arch).family,
        "role": job.role,
        **{name: getattr(spec, name) for name in ("task", "arch", "strategy", "upstream", "n_records", "replicate")},
        "recipe": spec.recipe,
        **{name: _finite(metrics.pop(name)) for name in ("auroc_macro", "auprc_macro", "brier")},
        "validation_auroc": _finite(result.best.auroc),
        "seconds": round(result.seconds, 3),
        "seconds_to_best": round(result.best.seconds, 3),
        "epochs": result.epochs,
        "best_epoch": result.best.epoch,
        "records_seen": result.records_seen,
        "records_to_best": result.best.records_seen,
        "gflop": round(3 * gflop * result.records_seen, 1),  # a backward pass costs about two forward passes
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "device": device_name(),
        "data_hash": corpus.task_hash(spec.task.partition("/")[2]),
        "created": _now(),
    }
    details = {
        "spec": spec.canonical(),
        "recipe": asdict(recipe),
        "versions": _versions(),
        "source": corpus.manifest["source"],
        "task": corpus.describe_task(spec.task.partition("/")[2]),
        "classes": task.classes,
        "wall_seconds": round(result.wall_seconds, 3),
        **metrics,
        "validations": [
            {name: _finite(value) for name, value in asdict(replace(v, seconds=round(v.seconds, 3))).items()}
            for v in result.validations
        ],
    }
    return RunRecord(row, details)


def device_name() -> str:
    """Return what the run ran on, in words."""
    threads = torch.get_num_threads()
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return f"CPU {processor}, {threads} thread{'s' * (threads > 1)} of {os.cpu_count()}"


def _forward_gflop(network: nn.Module, n_leads: int, n_samples: int) -> float:
    """Count the forward pass of one record, in 1e9 floating point operations."""
    from torch.utils.flop_counter import FlopCounterMode

    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, n_leads, n_samples))
    return float(counter.get_total_flops()) / 1e9


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0], "torch": str(torch.__version__), "numpy": np.__version__}
    try:
        return {**versions, "ecgadvise": importlib.metadata.version("ecgadvise")}
    except importlib.metadata.PackageNotFoundError:  # run from a source tree, as on a lent machine
        return {**versions, "ecgadvise": "source tree"}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
