"""What one run does: find its records, train, test, and give back what the store keeps.

This is all that a worker executes. It needs the prepared corpora, nothing else: a network to start from comes with the
job where the worker does not see the study's folder, and a network that was pre-trained goes back with the outcome.
"""

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.checkpoints.checkpoint import CheckpointFacts, Standardisation, save_checkpoint
from engine.compute.cuda_graphs import free_kept
from engine.compute.devices import DEVICE_ERRORS, choose_device, describe_device
from engine.compute.peak_memory import peak_memory_mb, reset_peak_memory
from engine.corpora.corpus import Corpus, CorpusError, TaskData, default_corpora
from engine.corpora.splits import draw_records, split_validation
from engine.evaluation.evaluation import Evaluation
from engine.recipes import PROBES, Recipe
from engine.records.contract import Reading, SignalContract
from engine.training.finish import Predicted, add_test_scores, calibrate, score_raw
from engine.training.lockstep import LockstepJob, runs_together, train_together
from engine.training.loop import Examples, Training, train, train_again
from engine.training.probe_arms import ProbeTraining, train_probe
from engine.training.resident import examples_on, free_corpora, signals_on
from engine.training.starting_point import new_network, starting_point
from engine.versions import training_versions
from models.registry import find_network, forward_gflop
from studies.running.jobs import Job, NetworkWanted, Outcome, Result
from studies.running.study_networks import describe_start, read_files, receive
from studies.runs.run import Run, Value, known
from studies.runs.run_spec import FROZEN, RunSpec
from studies.runs.task_names import open_task, parse_task, pick_leads

BOOTSTRAP_RESAMPLES = 400
_one_at_a_time = threading.Lock()


def execute_together(jobs: Sequence[Job]) -> list[Result]:
    """Train and test runs, several of them in lockstep; what one of them raises stands in its place.

    Raises what DEVICE_ERRORS lists, such as torch.OutOfMemoryError: then the device or its memory failed, not a run.
    """
    with _one_at_a_time:  # torch's generator, its number of threads and the memory are one for the whole process
        torch.set_num_threads(1)  # the bits of a result depend on it
        device = _device_of(jobs[0])
        reset_peak_memory(device)
        try:
            return _run(jobs, device)
        except DEVICE_ERRORS:
            free_corpora()
            free_kept()  # after what else is to be given back
            raise


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether fewer runs at a time might have fitted."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError)


def _device_of(job: Job) -> torch.device:
    """Return the job's device; ``cuda`` is the one that this process works on, where there are several."""
    device = choose_device(job.device)
    if device.type == "cuda" and job.device != "cuda":
        torch.cuda.set_device(device)
    return torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" else device


@dataclass(frozen=True)
class _Records:
    """A run's records: the corpus, the task's view of it, the leads that it uses, and positions into the view.

    Their signals are read on the ``device``.
    """

    corpus: Corpus
    task: TaskData
    leads: tuple[int, ...]
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    device: torch.device
    reading: str = ""

    @property
    def contract(self) -> SignalContract:
        """What the network takes, and how it reads it."""
        records = replace(self.corpus.contract, leads=tuple(self.corpus.leads[k] for k in self.leads))
        return Reading.parse(self.reading).of_records(records) if self.reading else records

    def signals(self, positions: NDArray[np.int64]) -> NDArray[np.float32] | Tensor:
        """Return the signals (records, leads, samples), in millivolt."""
        return signals_on(self.corpus, self.task.rows[positions], self.leads, self.device)

    def examples(self, positions: NDArray[np.int64], scaling: Standardisation) -> Examples:
        """Return records as the network takes them."""
        rows, labels = self.task.rows[positions], self.task.labels[positions]
        return examples_on(self.corpus, rows, self.leads, labels, scaling, self.device)


@dataclass(frozen=True)
class _Ready:
    """A run that can be trained: its records, and the network to train with the scaling that it expects."""

    job: Job
    records: _Records
    network: nn.Module
    scaling: Standardisation
    training: Examples
    validation: Examples
    started_from: Mapping[str, str]

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return self.job.spec.resolve_recipe()

    def test(self) -> Examples:
        """Return the test records as the network takes them."""
        return self.records.examples(self.records.test, self.scaling)

    def monitored(self) -> Examples | None:
        """Return the test records where the published recipe is followed, which reports its best epoch on them.

        They are looked at to say what that is worth, never to choose.
        """
        return self.test() if self.recipe.name == "paper" else None

    def for_lockstep(self) -> LockstepJob:
        """Return what is trained of it."""
        return LockstepJob(
            self.network, self.training, self.validation, self.recipe, self.job.spec.seed, self.monitored(),
            self.patients,
        )  # fmt: skip

    @property
    def patients(self) -> NDArray[np.int64]:
        """Those of the training records."""
        return self.records.task.patients[self.records.training]

    def renew(self, seed: int) -> nn.Module:
        """Return a network of the same kind with other random weights."""
        signal, n_classes = self.records.contract, len(self.records.task.classes)
        shape = len(signal.leads), signal.n_samples, n_classes
        return new_network(self.job.spec.arch, *shape, seed, signal.crop, signal.scaling)


def _run(jobs: Sequence[Job], device: torch.device) -> list[Result]:
    """Find the records of the runs, train them, test one after the other."""
    prepared = [_try(_prepare, job, device) for job in jobs]
    trained = iter(_train([one for one in prepared if isinstance(one, _Ready)], device))
    return [_try(_finish, one, next(trained)) if isinstance(one, _Ready) else one for one in prepared]


def _try(step: Callable[..., Value], *arguments: Any) -> Value | Exception:
    """Return what a step of one run gives, or the error that it raises, unless the device failed."""
    try:
        return step(*arguments)
    except DEVICE_ERRORS:
        raise
    except Exception as error:  # noqa: BLE001  the runner says which run it was; the others go on
        return error


def _prepare(job: Job, device: torch.device) -> _Ready | NetworkWanted:
    """Find the records, and the network that the run starts from where there is one.

    Raises CorpusError when this machine does not hold the records that the study means.
    """
    records, checkpoint = _find_records(job, device), None
    if job.start_from is not None:
        checkpoint = receive(job.checkpoints, job.start_from, job.start_digest, job.sent)
        if checkpoint is None:
            return NetworkWanted(job.start_from)
    spec, n_classes = job.spec, len(records.task.classes)
    start = starting_point(spec.strategy, spec.arch, records.contract, n_classes, spec.seed, checkpoint)
    scaling = start.scaling(spec.resolve_recipe(), records.signals(records.training))
    training, validation = (records.examples(part, scaling) for part in (records.training, records.validation))
    described = describe_start(spec, checkpoint, job.start_digest)
    return _Ready(job, records, start.network, scaling, training, validation, described)


def _finish(run: _Ready, trained: Training | ProbeTraining | Exception) -> Outcome:
    """Test a trained network and write down what it did."""
    if isinstance(trained, Exception):
        raise trained
    job, records, details = run.job, run.records, {}
    if isinstance(trained, ProbeTraining):
        run, details = replace(run, network=trained.network), {"probe": trained.as_dict()}
        task, rows = records.task, records.training
        validation = Predicted(trained.probe.out_of_fold, task.labels[rows], task.patients[rows])
        trained = trained.training
    else:
        validation = Predicted.by(run.network, run.validation, records.task, records.validation)
    test = Predicted.by(run.network, run.test(), records.task, records.test)
    scores = score_raw(records.task, validation, test, BOOTSTRAP_RESAMPLES)
    record = _finished_run(run, trained, scores, details)
    if not job.keeps_network:
        return Outcome(record, test.logits)
    facts = calibrate(_facts(job.spec, records, run.scaling, record), validation)
    facts, _ = add_test_scores(facts, records.task, test, BOOTSTRAP_RESAMPLES)
    return Outcome(record, test.logits, _files(run.network.to("cpu"), facts))


def _find_records(job: Job, device: torch.device) -> _Records:
    corpus, task = _open(job)
    training, validation = training_rows(task, job.spec, job.spec.resolve_recipe())
    leads, test = tuple(pick_leads(corpus, job.spec.read_task)), task.in_folds(job.spec.test_folds)
    return _Records(corpus, task, leads, training, validation, test, device, job.spec.reading)


def _train(ready: Sequence[_Ready], device: torch.device) -> list[Training | ProbeTraining | Exception]:
    """Train the networks in place, several of them together, as many at a time as the device's memory takes."""
    if len(ready) < 2:
        return [_try(_train_alone, run, device) for run in ready]
    first, most = ready[0], len(ready)
    if device.type == "cuda":
        most = runs_together(first.network, device, (first.recipe.batch_size, *first.training.signals.shape[1:]))
    trained: list[Training | ProbeTraining | Exception] = []
    for start in range(0, len(ready), most):
        jobs = [run.for_lockstep() for run in ready[start : start + most]]
        trained += [one for one in train_together(jobs, device=device) if one is not None]  # None would be stopped
    return [_try(_again, run, one, device) if isinstance(one, Training) else one
            for run, one in zip(ready, trained, strict=True)]  # fmt: skip


def _train_alone(run: _Ready, device: torch.device) -> Training | ProbeTraining:
    spec = run.job.spec
    if spec.strategy in PROBES:
        return train_probe(spec.strategy, run.network, spec.arch, run.training, run.patients, spec.seed, device=device)
    first = train(
        run.network, run.training, run.validation, run.recipe, spec.seed,
        device=device, monitor=run.monitored(), patients=run.patients,
    )  # fmt: skip
    return _again(run, first, device)


def _again(run: _Ready, first: Training, device: torch.device) -> Training:
    """Begin a training that failed again from other random weights, as its recipe says."""
    return train_again(
        first, run.network, run.renew, run.training, run.validation, run.recipe, run.job.spec.seed,
        device=device, monitor=run.monitored(),
    )  # fmt: skip


def _facts(spec: RunSpec, records: _Records, scaling: Standardisation, run: Run) -> CheckpointFacts:
    """Return what is known of a network before it is calibrated."""
    return CheckpointFacts(
        arch=spec.arch,
        task=spec.task,
        classes=records.task.classes,
        **asdict(records.contract),
        standardisation=scaling,
        recipe=asdict(spec.resolve_recipe()),
        data_hash=records.corpus.content_hash,
        metrics={},
        n_records=spec.n_records,
        source=records.corpus.manifest["source"],
        versions=run.versions,
        created=known(run.created),
    )


def training_rows(task: TaskData, spec: RunSpec, recipe: Recipe) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions (training, validation) of the run's ``n_records`` records; a probe trains on all of them.

    Raises ValueError where one of them would be empty.
    """
    pool = task.in_folds(spec.pool_folds)
    drawn = pool[draw_records(task.patients[pool], spec.n_records, spec.seed)]
    if spec.strategy in PROBES:
        return np.sort(drawn), drawn[:0]
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
    source, name, _ = parse_task(job.spec.read_task)
    folder = job.corpora if (job.corpora / source).is_dir() else default_corpora()
    corpus, task = _open_task(folder / source, job.spec.read_task)
    if corpus.task_hash(name) != job.data_hash:
        raise CorpusError(f"{corpus.root} holds other records than the study's; prepare the same ones on every machine")
    return corpus, task


@lru_cache(maxsize=64)  # a group may be of as many tasks as runs
def _open_task(root: Path, name: str) -> tuple[Corpus, TaskData]:
    corpus = _open_corpus(root)
    return corpus, open_task(corpus, name)


@lru_cache(maxsize=4)
def _open_corpus(root: Path) -> Corpus:
    return Corpus(root)


def _files(network: nn.Module, facts: CheckpointFacts) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="ecgadvise-") as folder:
        save_checkpoint(network, facts, Path(folder) / "network")
        return read_files(Path(folder) / "network")


def _finished_run(ready: _Ready, result: Training, scores: Evaluation, details: Mapping[str, Any]) -> Run:
    job, records, spec = ready.job, ready.records, ready.job.spec
    return Run(
        key=job.key,
        task=spec.task,
        arch=spec.arch,
        family=find_network(spec.arch).family,
        strategy=spec.strategy,
        upstream=spec.upstream,
        n_records=spec.n_records,
        replicate=spec.replicate,
        recipe=spec.recipe,
        role=job.role,
        auroc_macro=_finite(scores.auroc_macro),
        auprc_macro=_finite(scores.auprc_macro),
        brier=_finite(scores.brier),
        validation_auroc=_finite(result.best.auroc),
        seconds=round(result.seconds, 3),
        seconds_to_best=round(result.best.seconds, 3),
        epochs=result.epochs,
        best_epoch=result.best.epoch,
        records_seen=result.records_seen,
        records_to_best=result.best.records_seen,
        gflop=round(_gflop(ready, result), 1),
        peak_memory_mb=peak_memory_mb(records.device),
        device=describe_device(records.device),
        data_hash=job.data_hash,
        created=now(),
        f1_macro=_finite(scores.f1_macro),
        f1_weighted=_finite(scores.f1_weighted_at_half),
        ece=_finite(scores.ece),
        precision=result.precision,
        details={**_details(job, records, result, scores), **details, **ready.started_from},
    )


def _details(job: Job, records: _Records, result: Training, scores: Evaluation) -> dict[str, Any]:
    spec, corpus, task = job.spec, records.corpus, records.task
    evaluation = scores.as_dict(operating_points=False)
    details = {
        "spec": spec.canonical(),
        "start_from": job.start_from,
        "recipe": asdict(spec.resolve_recipe()),
        "versions": training_versions(str(torch.__version__)),
        "source": corpus.manifest["source"],
        "task": corpus.describe_task(parse_task(spec.task).task),
        "classes": task.classes,
        "way": result.way,
        "wall_seconds": round(result.wall_seconds, 3),
        "auroc": {name: _rounded(scores.classes[name].auroc) for name in task.classes},
        "bootstrap": evaluation.pop("bootstrap"),
        "test_records": evaluation.pop("n_records"),
        "test_patients": evaluation.pop("n_patients"),
        "least_positives": evaluation.pop("least_positives"),
        "left_out": evaluation.pop("left_out"),
        "evaluation": evaluation,
        "validations": [
            {name: _finite(value) for name, value in asdict(replace(v, seconds=round(v.seconds, 3))).items()}
            for v in result.validations
        ],
    }
    if result.restarts:
        details["restarts"] = result.restarts
    if result.lockstep is not None:
        details["lockstep"] = result.lockstep
    if result.optimism is not None:
        details["test_maximum"] = {name: _rounded(value) for name, value in asdict(result.optimism).items()}
    return details


def _gflop(run: _Ready, result: Training) -> float:
    """Return the arithmetic of learning: a backward pass costs about two forward passes, a body that is not trained one
    in all.
    """
    records, contract = run.records, run.records.contract
    if run.job.spec.strategy in (*FROZEN, *PROBES):
        return forward_gflop(run.network, len(records.leads), contract.n_samples) * len(records.training)
    learnt = contract.crop or contract.n_samples  # one crop a record is trained on
    return forward_gflop(run.network, len(records.leads), learnt) * 3 * result.records_seen


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _rounded(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
