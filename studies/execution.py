"""What one run does: find its records, train, test, and give back what the store keeps.

This is all that a worker executes. It needs the prepared corpora, nothing else: a network to start from comes with the
job where the worker does not see the study's folder, and a network that was pre-trained goes back with the outcome.
"""

import importlib.metadata
import os
import platform
import resource
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.calibration import calibrated_probabilities, choose_thresholds, fit_temperature
from engine.checkpoint import CheckpointFacts, Standardisation, save_checkpoint
from engine.corpus import Corpus, CorpusError, TaskData, default_corpora
from engine.evaluation import Evaluation, evaluate
from engine.recipes import Recipe
from engine.splits import draw_records, split_validation, stable_seed
from engine.training import Examples, Training, predict_logits, predict_probabilities, train
from engine.transfer import from_checkpoint, new_network
from models.registry import find_network, forward_gflop
from studies.checkpoints import read_files, received
from studies.expansion import open_task, pick_leads
from studies.spec import RunSpec
from studies.store import RunRecord

BOOTSTRAP_RESAMPLES = 400
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Job:
    """A run and where it finds its data; small, so that it travels to any worker.

    ``start_from`` is the key of the pre-training run; its network lies in ``checkpoints``, or is ``sent`` along, file
    by file, to a worker that does not see that folder. ``keeps_network``: another run starts from this one.
    """

    spec: RunSpec
    key: str
    role: str
    data_hash: str
    corpora: Path
    checkpoints: Path
    keeps_network: bool = False
    start_from: str | None = None
    start_digest: str = ""
    device: str = "cpu"
    sent: Mapping[str, bytes] | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished run, ready for the store; ``network`` holds the files of a checkpoint that others start from."""

    record: RunRecord
    probabilities: NDArray[np.float32]
    network: Mapping[str, bytes] | None = None


@dataclass(frozen=True)
class NetworkWanted:
    """The worker does not see the network that the run starts from: the job is to be given again with it."""

    key: str


def execute(job: Job) -> Outcome | NetworkWanted:
    """Train and test one run. Raises CorpusError when this machine does not hold the records that the study means."""
    with _one_at_a_time:  # torch's generator, which new weights are drawn from, is one for the whole process
        torch.set_num_threads(1)  # the bits of a result depend on it
        _reset_peak_memory()
        return _run(job)


def _run(job: Job) -> Outcome | NetworkWanted:
    spec, recipe = job.spec, job.spec.resolve_recipe()
    corpus, task = _open(job)
    leads = pick_leads(corpus, spec.leads)
    training, validation = training_rows(task, spec, recipe)

    def signals(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        drawn = corpus.signals[task.rows[rows]]
        return np.ascontiguousarray(drawn[:, leads]) if spec.leads else drawn

    n_samples = corpus.signals.shape[2]
    shape = (spec.arch, len(leads), n_samples, len(task.classes), spec.seed)
    if job.start_from is None:
        network, scaling = new_network(*shape), Standardisation.of(signals(training))
    else:
        start = received(job.checkpoints, job.start_from, job.start_digest, job.sent)
        if start is None:
            return NetworkWanted(job.start_from)
        network, scaling = from_checkpoint(start, *shape)

    def examples(rows: NDArray[np.int64]) -> Examples:
        return Examples.of(scaling.apply(signals(rows)), task.labels[rows])

    validating = examples(validation)
    result = train(network, examples(training), validating, recipe, spec.seed)
    test = task.in_folds(spec.test_folds)
    probabilities = predict_probabilities(network, examples(test).signals)
    logits = predict_logits(network, validating.signals).numpy()
    thresholds = choose_thresholds(task.labels[validation], calibrated_probabilities(logits, 1.0))
    scores = evaluate(
        task.labels[test], probabilities, task.patients[test], task.classes, thresholds,
        seed=stable_seed(task.name), n_resamples=BOOTSTRAP_RESAMPLES,
    )  # fmt: skip
    record = _record(job, recipe, corpus, task, result, scores, 3 * forward_gflop(network, len(leads), n_samples))
    if not job.keeps_network:
        return Outcome(record, probabilities)
    facts = CheckpointFacts(
        spec.arch, spec.task, task.classes, tuple(corpus.leads[k] for k in leads), corpus.fs, n_samples, scaling,
        asdict(recipe), corpus.content_hash, {name: record.row[name] for name in ("auroc_macro", "auprc_macro", "brier")},
        thresholds=tuple(thresholds.tolist()), temperature=fit_temperature(task.labels[validation], logits),
        n_records=spec.n_records, source=corpus.manifest["source"], evaluation=scores.as_dict(bootstrap=False),
        versions=record.details["versions"], created=record.row["created"],
    )  # fmt: skip
    return Outcome(record, probabilities, _files(network, facts))


def training_rows(task: TaskData, spec: RunSpec, recipe: Recipe) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions (training, validation) of the run's ``n_records`` records.

    Raises ValueError where one of them would be empty.
    """
    pool = task.in_folds(spec.pool_folds)
    drawn = pool[draw_records(task.patients[pool], spec.n_records, spec.seed)]
    if not spec.validation_folds:
        training, validation = split_validation(task.patients[drawn], recipe.validation_fraction, spec.seed)
        return drawn[training], drawn[validation]
    validates = np.isin(task.folds[drawn], spec.validation_folds)
    if validates.all() or not validates.any():
        raise ValueError(f"{spec.n_records} records have none to train on, or none in validation_folds")
    return np.sort(drawn[~validates]), np.sort(drawn[validates])


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def device_name() -> str:
    """Return what the run ran on, in words."""
    threads = torch.get_num_threads()
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return f"CPU {processor}, {threads} thread{'s' * (threads > 1)} of {os.cpu_count()}"


def _open(job: Job) -> tuple[Corpus, TaskData]:
    source, _, name = job.spec.task.partition("/")
    folder = job.corpora if (job.corpora / source).is_dir() else default_corpora()
    corpus, task = _open_task(folder, source, name)
    if corpus.task_hash(name) != job.data_hash:
        raise CorpusError(f"{corpus.root} holds other records than the study's; prepare the same ones on every machine")
    return corpus, task


@lru_cache(maxsize=4)
def _open_task(corpora: Path, source: str, name: str) -> tuple[Corpus, TaskData]:
    corpus = Corpus(corpora / source)
    return corpus, open_task(corpus, name)


def _files(network: nn.Module, facts: CheckpointFacts) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="ecgadvise-") as folder:
        save_checkpoint(network, facts, Path(folder) / "network")
        return read_files(Path(folder) / "network")


def _record(
    job: Job, recipe: Recipe, corpus: Corpus, task: TaskData, result: Training, scores: Evaluation, gflop: float
) -> RunRecord:
    spec, name = job.spec, job.spec.task.partition("/")[2]
    row = {
        "key": job.key,
        "family": find_network(spec.arch).family,
        "role": job.role,
        **{name: getattr(spec, name) for name in ("task", "arch", "strategy", "upstream", "n_records", "replicate")},
        "recipe": spec.recipe,
        **{name: _finite(getattr(scores, name)) for name in ("auroc_macro", "auprc_macro", "brier", "f1_macro", "ece")},
        "f1_weighted": _finite(scores.f1_weighted_at_half),
        "validation_auroc": _finite(result.best.auroc),
        "seconds": round(result.seconds, 3),
        "seconds_to_best": round(result.best.seconds, 3),
        "epochs": result.epochs,
        "best_epoch": result.best.epoch,
        "records_seen": result.records_seen,
        "records_to_best": result.best.records_seen,
        "gflop": round(gflop * result.records_seen, 1),
        "peak_memory_mb": _peak_memory_mb(),
        "device": device_name(),
        "data_hash": job.data_hash,
        "created": now(),
    }
    evaluation = scores.as_dict()
    details = {
        "spec": spec.canonical(),
        "start_from": job.start_from,
        "recipe": asdict(recipe),
        "versions": _versions(),
        "source": corpus.manifest["source"],
        "task": corpus.describe_task(name),
        "classes": task.classes,
        "wall_seconds": round(result.wall_seconds, 3),
        "auroc": {name: _rounded(scores.classes[name].auroc) for name in task.classes},
        "bootstrap": evaluation.pop("bootstrap"),
        "test_records": evaluation.pop("n_records"),
        "test_patients": evaluation.pop("n_patients"),
        "evaluation": evaluation,
        "validations": [
            {name: _finite(value) for name, value in asdict(replace(v, seconds=round(v.seconds, 3))).items()}
            for v in result.validations
        ],
    }
    return RunRecord(row, details)


def _reset_peak_memory() -> None:
    """Forget the largest memory so far, so that a worker's later runs are not charged for an earlier one."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the process's peak is reported
        return


def _peak_memory_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        peak = next((line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")), None)
        if peak is not None:
            return round(int(peak) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0], "torch": str(torch.__version__), "numpy": np.__version__}
    try:
        return {**versions, "ecgadvise": importlib.metadata.version("ecgadvise")}
    except importlib.metadata.PackageNotFoundError:  # run from a source tree, as on a lent machine
        return {**versions, "ecgadvise": "source tree"}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _rounded(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
