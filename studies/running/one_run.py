"""What one run does: find its records, train, test, and give back what the store keeps.

This is all that a worker executes. It needs the prepared corpora, nothing else: a network to start from comes with the
job where the worker does not see the study's folder, and a network that was pre-trained goes back with the outcome.
"""

import resource
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.checkpoints.checkpoint import CheckpointFacts, save_checkpoint
from engine.compute.devices import choose_device, describe_device
from engine.corpora.corpus import Corpus, CorpusError, TaskData, default_corpora
from engine.corpora.splits import draw_records, split_validation
from engine.evaluation.calibration import calibrated_probabilities, choose_thresholds, fit_temperature
from engine.evaluation.evaluation import Evaluation, evaluate
from engine.recipes import Recipe
from engine.seeds import stable_seed
from engine.training.loop import Examples, Training, predict_logits, predict_probabilities, train
from engine.training.starting_point import starting_point
from engine.versions import training_versions
from models.registry import find_network, forward_gflop
from studies.running.study_networks import read_files, receive
from studies.runs.run_spec import FROZEN, RunSpec
from studies.runs.store import RunRecord
from studies.runs.task_names import open_task, parse_task, pick_leads

BOOTSTRAP_RESAMPLES = 400
_one_at_a_time = threading.Lock()
ending = threading.Event()  # asks the runs in this process to end without a result


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


class EndedError(RuntimeError):
    """The run was told to end before it had a result."""


def execute(job: Job) -> Outcome | NetworkWanted:
    """Train and test one run. Raises CorpusError when this machine does not hold the records that the study means."""
    device = choose_device(job.device)
    if device.type == "cuda":  # "cuda" is the device that this thread works on, where there are several
        return _run(job, torch.device("cuda", torch.cuda.current_device()) if ":" not in job.device else device)
    with _one_at_a_time:  # torch's generator, its number of threads and the memory are one for the whole process
        torch.set_num_threads(1)  # the bits of a result depend on it
        _reset_peak_memory()
        return _run(job, device)


def _run(job: Job, device: torch.device) -> Outcome | NetworkWanted:
    spec, recipe = job.spec, job.spec.resolve_recipe()
    corpus, task = _open(job)
    leads = pick_leads(corpus, spec.task)
    checkpoint = None
    if job.start_from is not None:
        checkpoint = receive(job.checkpoints, job.start_from, job.start_digest, job.sent)
        if checkpoint is None:
            return NetworkWanted(job.start_from)
    training, validation = training_rows(task, spec, recipe)
    test = task.in_folds(spec.test_folds)

    def signals(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        drawn = corpus.signals[task.rows[rows]]
        return np.ascontiguousarray(drawn[:, leads]) if parse_task(spec.task).leads else drawn

    contract = replace(corpus.contract, leads=tuple(corpus.leads[k] for k in leads))
    start = starting_point(spec.strategy, spec.arch, contract, len(task.classes), spec.seed, checkpoint)
    network, raw = start.network, signals(training)
    scaling = start.scaling(recipe, raw)

    def examples(rows: NDArray[np.int64]) -> Examples:
        return Examples.of(scaling.apply(raw if rows is training else signals(rows)), task.labels[rows])

    validating, testing = examples(validation), examples(test)
    # The published recipe reports its best epoch on the test records: looked at here to say what that is worth, never
    # to choose.
    monitor = testing if recipe.name == "paper" else None
    result = train(
        network, examples(training), validating, recipe, spec.seed,
        device=device, monitor=monitor, should_stop=ending.is_set,
    )  # fmt: skip
    if result.stopped:
        raise EndedError(f"ended in epoch {result.epochs}")
    probabilities = predict_probabilities(network, testing.signals)
    logits = predict_logits(network, validating.signals).numpy()
    thresholds = choose_thresholds(task.labels[validation], calibrated_probabilities(logits, 1.0))
    scores = _score(task, test, probabilities, thresholds)
    forward = forward_gflop(network, len(leads), contract.n_samples)
    record = _record(job, recipe, corpus, task, result, scores, _gflop(spec, result, len(training), forward), device)
    if not job.keeps_network:
        return Outcome(record, probabilities)
    facts = CheckpointFacts(
        spec.arch, spec.task, task.classes, contract.leads, contract.fs, contract.n_samples, scaling, asdict(recipe),
        corpus.content_hash, {}, n_records=spec.n_records, source=corpus.manifest["source"],
        versions=record.details["versions"], created=record.row["created"],
    )  # fmt: skip
    on_test = predict_logits(network, testing.signals).numpy()
    facts = _calibrated(facts, task, (validation, logits), (test, on_test))
    return Outcome(record, probabilities, _files(network.to("cpu"), facts))


def _calibrated(
    facts: CheckpointFacts, task: TaskData, validation: tuple[NDArray[np.int64], NDArray[np.float32]],
    test: tuple[NDArray[np.int64], NDArray[np.float32]],
) -> CheckpointFacts:  # fmt: skip
    """Add what a deployed network needs: thresholds and scores of calibrated probabilities. A run's are of raw ones."""
    (chosen_on, logits), (tested_on, test_logits) = validation, test
    temperature = fit_temperature(task.labels[chosen_on], logits)
    thresholds = choose_thresholds(task.labels[chosen_on], calibrated_probabilities(logits, temperature))
    scores = _score(task, tested_on, calibrated_probabilities(test_logits, temperature), thresholds)
    return replace(
        facts,
        temperature=temperature,
        thresholds=tuple(thresholds.tolist()),
        metrics={name: getattr(scores, name) for name in ("auroc_macro", "auprc_macro", "brier")},
        evaluation=scores.as_dict(bootstrap=False),
    )


def _score(
    task: TaskData, test: NDArray[np.int64], probabilities: NDArray[np.floating], thresholds: NDArray[np.float64]
) -> Evaluation:
    """Score the test records, on the same resamples of their patients for every run of a task."""
    return evaluate(
        task.labels[test], probabilities, task.patients[test], task.classes, thresholds,
        seed=stable_seed(task.name), n_resamples=BOOTSTRAP_RESAMPLES,
    )  # fmt: skip


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


def _open(job: Job) -> tuple[Corpus, TaskData]:
    source, name, _ = parse_task(job.spec.task)
    folder = job.corpora if (job.corpora / source).is_dir() else default_corpora()
    corpus, task = _open_task(folder / source, job.spec.task)
    if corpus.task_hash(name) != job.data_hash:
        raise CorpusError(f"{corpus.root} holds other records than the study's; prepare the same ones on every machine")
    return corpus, task


@lru_cache(maxsize=4)
def _open_task(root: Path, name: str) -> tuple[Corpus, TaskData]:
    corpus = Corpus(root)
    return corpus, open_task(corpus, name)


def _files(network: nn.Module, facts: CheckpointFacts) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="ecgadvise-") as folder:
        save_checkpoint(network, facts, Path(folder) / "network")
        return read_files(Path(folder) / "network")


def _record(
    job: Job, recipe: Recipe, corpus: Corpus, task: TaskData, result: Training, scores: Evaluation, gflop: float,
    device: torch.device,
) -> RunRecord:  # fmt: skip
    spec, name = job.spec, parse_task(job.spec.task).task
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
        "gflop": round(gflop, 1),
        "peak_memory_mb": _peak_memory_mb(device),
        "device": describe_device(device),
        "data_hash": job.data_hash,
        "created": now(),
    }
    evaluation = scores.as_dict()
    details = {
        "spec": spec.canonical(),
        "start_from": job.start_from,
        "recipe": asdict(recipe),
        "versions": training_versions(str(torch.__version__)),
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
    if result.optimism is not None:
        details["test_maximum"] = {name: _rounded(value) for name, value in asdict(result.optimism).items()}
    return RunRecord(row, details)


def _gflop(spec: RunSpec, result: Training, n_training: int, forward: float) -> float:
    """Return the arithmetic of learning: a backward pass costs about two forward passes, a frozen body one in all."""
    return forward * (n_training if spec.strategy in FROZEN else 3 * result.records_seen)


def _reset_peak_memory() -> None:
    """Forget the largest memory so far, so that a worker's later runs are not charged for an earlier one."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the process's peak is reported
        return


def _peak_memory_mb(device: torch.device) -> float:
    """Return the most memory held so far, on a GPU by all runs that share it."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    status = Path("/proc/self/status")
    if status.exists():
        peak = next((line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")), None)
        if peak is not None:
            return round(int(peak) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _rounded(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
