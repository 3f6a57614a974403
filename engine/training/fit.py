"""Training one network for use: a task of a corpus in, a checkpoint with everything that is known about it out.

The test records are predicted once, after temperature and thresholds have been chosen on the validation records. A
study's run (``studies.running.one_run``) ends the same way (``engine.training.finish``), but its record has the scores
of probabilities that are not calibrated, and its network is kept only where others start from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointFacts,
    Standardisation,
    save_checkpoint,
)  # fmt: skip
from engine.checkpoints.snapshot import Snapshot, save_snapshot
from engine.compute.devices import DEVICE_ERRORS, DeviceFailureError, choose_device, describe_device
from engine.corpora.corpus import Corpus, TaskData
from engine.corpora.excluded import Exclusion, exclusion
from engine.corpora.held_out import PUBLISHED, together
from engine.corpora.partition import Partition, lacking_classes, split_table
from engine.corpora.remarks import left_out, remarks
from engine.evaluation.calibration import calibrated_probabilities, describe_few_negatives
from engine.evaluation.evaluation import Evaluation, describe_averages
from engine.evaluation.metrics import LEAST_POSITIVES
from engine.evaluation.precision import FEW_PATIENTS, PLANNED, RareLabel, rare_label, rarest_label
from engine.evaluation.score_histogram import score_histogram
from engine.evaluation.subgroups import subgroups
from engine.recipes import PROBES, Recipe, Strategy
from engine.records.contract import SignalContract
from engine.training.finish import Predicted, add_test_scores, calibrate, resampling_seed
from engine.training.keeping import Keeping
from engine.training.loop import Examples, Training, Validation, train, train_again
from engine.training.probe_arms import train_probe
from engine.training.starting_point import Start, starting_point
from engine.versions import training_versions

LISTED = " (ecgadvise data check lists them)"
NOT_CONTROLLED = "pretraining_not_controlled"  # in the record of what was trained from another team's network
_UNKNOWN_SOURCES = "upstream_sources_unknown"
_SCP_SOURCES = ("ptb-xl",)
_KINDS_KEPT = 30  # of remarks, the most frequent
_BADLY_KNOWN = 0.1  # half-width of a 90 % interval, beyond which a score hardly tells networks apart


@dataclass(frozen=True)
class Fit:
    """What is to be trained. ``upstream`` is the checkpoint to start from, if any; ``why`` is kept with it.

    ``least_positives`` says which classes the macro averages of the test take (``averaged_classes``). Thresholds are
    chosen for the specificity ``at_specificity`` (None: highest F1); predictive values are stated at the ``prevalence``
    of a class (not in it: that of the test records). ``differences`` are sentences about how its records are unlike
    those that the choice of the strategy rests on. ``reads`` is how a network from scratch reads records (None: as they
    are): as the one does with which it was compared.
    """

    corpus: Corpus
    data: TaskData
    partition: Partition
    arch: str
    strategy: Strategy
    upstream: Checkpoint | None
    recipe: Recipe
    device: str = "auto"
    why: str = ""
    least_positives: int = LEAST_POSITIVES
    at_specificity: float | None = None
    prevalence: Mapping[str, float] = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    reads: SignalContract | None = None

    @property
    def contract(self) -> SignalContract:
        """What the network takes of the records, and how it reads it: as its ``upstream`` does, where there is one."""
        records = self.corpus.contract
        reads = self.reads if self.upstream is None else self.upstream.facts.contract
        return records if reads is None else reads.of_records(records)

    def signals(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the signals (records, leads, samples), in millivolt, at positions of ``data``."""
        drawn, leads = self.corpus.signals[self.data.rows[positions]], self.contract.leads
        if leads == self.corpus.leads:
            return drawn
        return np.ascontiguousarray(drawn[:, [self.corpus.leads.index(lead) for lead in leads]])

    def examples(self, positions: NDArray[np.int64], scaling: Standardisation) -> Examples:
        """Return the records at positions of ``data`` as a network takes them."""
        return Examples.of(scaling.apply(self.signals(positions)), self.data.labels[positions])

    def remarks(self) -> tuple[str, ...]:
        """Say what was odd about the records when they were prepared."""
        return remarks(self.corpus, self.data.rows[self.partition.test])

    def rare_label(self) -> RareLabel | None:
        """Return the rarest label of all records that are used."""
        parts = (self.partition.training, self.partition.validation, self.partition.test)
        rows, is_test = np.concatenate(parts), np.repeat((False, False, True), [len(part) for part in parts])
        return rare_label(self.data.labels[rows], self.data.patients[rows], self.data.classes, is_test)

    def excluded(self) -> Exclusion | None:
        """Return how the records are labelled that could not be used."""
        return exclusion(self.corpus, self.data)

    def identity(self) -> dict[str, Any]:
        """Return what two trainings must share for one to be the other's continuation, as JSON values."""
        task = self.data.name.partition("/")[2]
        return {
            "task": self.data.name,
            "data": self.corpus.task_hash(task),
            "arch": self.arch,
            "strategy": self.strategy,
            "upstream": None if self.upstream is None else self.upstream.facts.task,
            "n_records": self.partition.n_records,
            "seed": self.partition.asked,
            "recipe": self.recipe.digest(),
            "test_sha256": self.partition.held.test_sha256,
            "at_specificity": self.at_specificity,
        }

    def split(self) -> str:
        """Return the table of who trains, validates and tests (``split_table``)."""
        return split_table(self.corpus, self.data, self.partition)


@dataclass(frozen=True)
class Fitted:
    """What came of it; a training that was stopped has no evaluation, for its test records were not looked at."""

    facts: CheckpointFacts
    training: Training
    evaluation: Evaluation | None
    warnings: tuple[str, ...]


def forewarn(job: Fit) -> tuple[str, ...]:
    """Return sentences about what is odd about its records, and what this training cannot learn or show.

    An upstream of the same records may have seen the test records, unless it is known to have held out the same ones.
    Raises PartitionError where nothing can be learnt or tested, CheckpointError for an upstream that does not fit.
    """
    excluded = job.excluded()
    unusual = () if excluded is None else (excluded.warning(),)
    odd = (f"{said}{LISTED}" for said in (*unusual, *job.remarks()) if said is not None)
    badly_known = (*_rare(job), *_vague(job), *_unspecific(job))
    sentences = (*job.differences, *odd, *lacking_classes(job.data, job.partition), *badly_known)
    _start(job)
    if job.upstream is None:
        return sentences
    facts, seconds = job.upstream.facts, job.corpus.contract.seconds
    if facts.contract.seconds != seconds and not facts.contract.reads_any_length:
        sentences = (
            *sentences,
            f"{job.upstream.folder.name} was pre-trained on records of {facts.contract.seconds:g} s, and these are of "
            f"{seconds:g} s: what it gains at another length was not measured",
        )
    if _says_nothing(facts):
        unknown = f"{job.upstream.folder.name} does not say what it was pre-trained on"
        return (*sentences, f"{unknown}: whether the test records were among it is not known")
    if facts.data_hash != job.corpus.content_hash and not has_seen(facts, job.corpus.manifest["source"]):
        return sentences
    seen = f"{job.upstream.folder.name} was pre-trained on {facts.task}, records of the same source"
    if not _held_out_the_same(facts.record, job.partition):
        return (*sentences, f"{seen}: whether the test records were among them is not known")
    spared = (
        f"the test records ({job.partition.held_out}) were held out then too, but those that validate here were not"
    )
    return (*sentences, f"{seen}: {spared}, so that validation scores are too high")


def _rare(job: Fit) -> tuple[str, ...]:
    """Say what few patients will know of the rarest label of all records, where these are few."""
    rare = job.rare_label()
    return () if rare is None or rare.few >= FEW_PATIENTS else (rare.in_words(),)


def _unspecific(job: Fit) -> tuple[str, ...]:
    """Say which classes have too few records without them to choose a threshold for the specificity asked for."""
    if job.at_specificity is None:
        return ()
    rows = job.partition.training if job.strategy in PROBES else job.partition.validation
    return tuple(describe_few_negatives(job.data.labels[rows], job.data.classes, job.at_specificity))


def _held_out_the_same(record: Mapping[str, Any], partition: Partition) -> bool:
    """Whether an upstream's test records are known to be those of a partition: by name, or as one publisher's fold."""
    known = record.get("division", {}).get("test_sha256")
    if known is not None:
        return bool(known == partition.held.test_sha256)
    return partition.held.rule == PUBLISHED and record.get("held_out") == partition.held_out


def _vague(job: Fit) -> tuple[str, ...]:
    """Say how well the test will know its rarest label, where that is badly."""
    rows = job.partition.test
    rarest = rarest_label(job.data.labels[rows], job.data.patients[rows], job.data.classes)
    if rarest is None or (width := rarest.half_width(PLANNED)) <= _BADLY_KNOWN:
        return ()
    patients = rarest.positives + rarest.negatives
    return (
        f"{rarest.positives:,} of {patients:,} test patients have {rarest.label}: an AUROC of {PLANNED:g} will be "
        f"known to +-{width:.2f} (90 %)",
    )


def is_same_publisher(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two sources are one published set; what has no address, as a directory of one's own, is none."""
    return bool(one.get("url")) and one.get("url") == other.get("url")


def is_not_controlled(facts: CheckpointFacts) -> bool:
    """Whether a network, or one that it started from, was pre-trained elsewhere and added from a file."""
    return bool(facts.record.get("imported") or facts.record.get(NOT_CONTROLLED))


def _says_nothing(facts: CheckpointFacts) -> bool:
    """Whether nobody wrote down on whose records a network, or one that it started from, was pre-trained."""
    record = facts.record
    return bool(record.get(_UNKNOWN_SOURCES) or (record.get("imported") and not record.get("upstream_sources")))


def has_seen(facts: CheckpointFacts, source: Mapping[str, str]) -> bool:
    """Whether records of a published set were among those that a network, or what it started from, was trained on."""
    return any(is_same_publisher(one, source) for one in (facts.source, *facts.record.get("upstream_sources", ())))


def fit(
    job: Fit,
    out: Path,
    report: Callable[[Validation], None] = lambda _validation: None,
    should_stop: Callable[[], bool] = lambda: False,
    resume: Snapshot | None = None,
    keep_every: float = inf,
) -> Fitted:
    """Train, calibrate on the validation records, test once, and write the checkpoint to ``out``.

    When ``should_stop`` says so the training ends after the epoch in hand: the checkpoint then holds the best weights
    so far, its record says ``interrupted``, there is no test, and next to it lies what a later ``resume`` needs. The
    same is written every ``keep_every`` seconds, for a process that is killed; not by an attempt that is begun again
    (``train_again``), so that what goes on comes to the same end. Raises PartitionError, CheckpointError for an
    upstream that does not fit, DeviceError, DeviceFailureError, DivergedError, and OSError when the checkpoint cannot
    be written.
    """
    device = choose_device(job.device)
    try:
        return _fit(job, out, device, report, should_stop, resume, keep_every)
    except DEVICE_ERRORS as error:
        raise DeviceFailureError.of(error, device) from error


def _fit(
    job: Fit, out: Path, device: torch.device, report: Callable[[Validation], None], should_stop: Callable[[], bool],
    resume: Snapshot | None, keep_every: float,
) -> Fitted:  # fmt: skip
    warnings, start = (*forewarn(job), *_moved(resume, device)), _start(job)
    rows, scaling = job.partition, start.scaling(job.recipe, job.signals(job.partition.training))
    if job.strategy in PROBES:
        return _fit_probe(job, out, device, report, start, scaling, warnings)
    training, validation = job.examples(rows.training, scaling), job.examples(rows.validation, scaling)

    def calibrated(network: nn.Module, result: Training) -> CheckpointFacts:
        on_validation = Predicted.by(network, validation, job.data, rows.validation)
        return calibrate(_facts(job, scaling, result, device), on_validation, job.at_specificity)

    keeping = Keeping(keep_every, lambda network, result: _save(job, out, network, calibrated(network, result), result))
    result = train(
        start.network, training, validation, job.recipe, rows.seed, report, device=device, should_stop=should_stop,
        resume=resume, patients=job.data.patients[rows.training], keep=keeping.keep,
    )  # fmt: skip
    result = train_again(
        result, start.network, lambda seed: _start(job, seed).network, training, validation, job.recipe, rows.seed,
        report, device=device, should_stop=should_stop,
    )  # fmt: skip
    facts, evaluation = calibrated(start.network, result), None
    if not result.stopped:
        test = Predicted.by(start.network, job.examples(rows.test, scaling), job.data, rows.test)
        facts, evaluation = _tested(job, facts, test)
        warnings = (*warnings, *describe_averages(facts.evaluation))
    _save(job, out, start.network, facts, result)
    return Fitted(facts, result, evaluation, warnings)


def _save(job: Fit, out: Path, network: nn.Module, facts: CheckpointFacts, result: Training) -> None:
    """Write the checkpoint, and with it what a training goes on from that was stopped: both or none."""

    def beside(folder: Path) -> None:
        if result.snapshot is not None:
            save_snapshot(result.snapshot, job.identity(), folder)

    save_checkpoint(network, facts, out, job.split(), beside)


def _fit_probe(
    job: Fit, out: Path, device: torch.device, report: Callable[[Validation], None], start: Start,
    scaling: Standardisation, warnings: tuple[str, ...],
) -> Fitted:  # fmt: skip
    """Fit a probe to all records, calibrate on its logits out of fold, test once, and write the checkpoint."""
    rows = job.partition.training
    patients, examples = job.data.patients[rows], job.examples(rows, scaling)
    owners = together(job.corpus)[job.data.rows[rows]]  # who is left out together
    found = train_probe(job.strategy, start.network, job.arch, examples, owners, job.partition.seed, device=device)
    report(found.training.best)
    job = replace(job, arch=found.arch)
    facts = _facts(job, scaling, found.training, device)
    facts = replace(facts, record={**facts.record, "probe": found.as_dict()})
    facts = calibrate(facts, Predicted(found.probe.out_of_fold, job.data.labels[rows], patients), job.at_specificity)
    test = Predicted.by(found.network, job.examples(job.partition.test, scaling), job.data, job.partition.test)
    facts, evaluation = _tested(job, facts, test)
    save_checkpoint(found.network, facts, out, job.split())
    return Fitted(facts, found.training, evaluation, (*warnings, *describe_averages(facts.evaluation)))


def _moved(resume: Snapshot | None, device: torch.device) -> tuple[str, ...]:
    """Say what a training that goes on on another kind of device does not take along."""
    if resume is None or resume.device == device.type:
        return ()
    was, now = resume.device.upper(), device.type.upper()
    return (f"begun on {was} and resumed on {now}: the rest is trained in another order than it would have been",)


def _start(job: Fit, seed: int | None = None) -> Start:
    n_classes, seed = len(job.data.classes), job.partition.seed if seed is None else seed
    if job.upstream is not None:
        facts, contract = job.upstream.facts, job.contract
        taken = facts.contract if facts.crop is not None else contract  # one without crops may have had another length
        if unlike := taken.unlike(job.corpus.contract):
            raise CheckpointError(f"{job.upstream.folder} takes {unlike}")
    return starting_point(job.strategy, job.arch, job.contract, n_classes, seed, job.upstream, any_length=True)


def _tested(job: Fit, facts: CheckpointFacts, test: Predicted) -> tuple[CheckpointFacts, Evaluation]:
    """Score the test records, as a whole and by sex and age, and keep how their scores are distributed."""
    facts, evaluation = add_test_scores(
        facts, job.data, test, least_positives=job.least_positives, prevalence=job.prevalence
    )
    rows, probabilities = job.data.rows[job.partition.test], calibrated_probabilities(test.logits, facts.temperature)
    groups = subgroups(
        test.labels, probabilities, test.patients, job.corpus.ages[rows], job.corpus.sexes[rows],
        resampling_seed(job.data), least_positives=job.least_positives,
    )  # fmt: skip
    record = {**facts.record, "score_histogram": score_histogram(probabilities, job.data.classes)}
    metrics = {**facts.metrics, "ece": evaluation.ece}
    return replace(facts, metrics=metrics, subgroups=groups, record=record), evaluation


def _facts(job: Fit, scaling: Standardisation, result: Training, device: torch.device) -> CheckpointFacts:
    """Return everything that is known before the test."""
    corpus = job.corpus
    return CheckpointFacts(
        arch=job.arch,
        task=job.data.name,
        classes=job.data.classes,
        **asdict(job.contract),
        standardisation=scaling,
        recipe=asdict(job.recipe),
        data_hash=corpus.content_hash,
        metrics={"validation_auroc": result.best.auroc},
        strategy=job.strategy,
        upstream=None if job.upstream is None else job.upstream.facts.task,
        n_records=job.partition.n_records,
        source=corpus.manifest["source"],
        codes=_codes(corpus, job.data),
        versions=training_versions(str(torch.__version__)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        record=_training_record(job, result, device),
    )


def _training_record(job: Fit, result: Training, device: torch.device) -> dict[str, Any]:
    """Return how many records there were for what, and what the training took."""
    rows, patients = job.partition, job.data.patients
    parts = {"training": rows.training, "validation": rows.validation, "test": rows.test}
    return {
        **{f"{part}_records": len(positions) for part, positions in parts.items()},
        **{f"{part}_patients": len(np.unique(patients[positions])) for part, positions in parts.items()},
        "held_out": rows.held_out,
        "division": {**rows.held.as_dict(), "validation_share": rows.validation_fraction},
        "patients_told_apart": job.corpus.tells_patients_apart,
        **_upstream_seconds(job),
        **_upstream_sources(job),
        "seed": rows.asked,
        "preparation": job.corpus.manifest["preparation"],
        "device": describe_device(device),
        "precision": result.precision,
        "way": result.way,
        "seconds": round(result.seconds, 3),
        "wall_seconds": round(result.wall_seconds, 3),
        "epochs": result.epochs,
        "best_epoch": result.best.epoch,
        "restarts": result.restarts,
        "interrupted": result.stopped,
        "why": job.why,
        "remarks": [*left_out(job.corpus, job.data), *job.remarks()],
        "differences": list(job.differences),
        **_signals(job.corpus),
        **_excluded(job),
        "rare_label": None if (rare := job.rare_label()) is None else asdict(rare),
    }


def _signals(corpus: Corpus) -> dict[str, Any]:
    """Return how many records of the corpus were unusable or had remarks, and which, where that was kept."""
    kept = corpus.manifest.get("remarks")
    if kept is None:
        return {}
    kinds = sorted(kept["kinds"], key=lambda kind: -kind["records"])[:_KINDS_KEPT]
    found = {kind["words"]: kind["records"] for kind in kinds}
    return {
        "signals": {
            "usable": len(corpus),
            "unusable": corpus.unusable,
            "remarked": kept.get("remarked"),
            "kinds": found,
        }
    }


def _excluded(job: Fit) -> dict[str, Any]:
    """Return the labels of the records that could not be used, where there are such and their labels were kept."""
    excluded = job.excluded()
    return {} if excluded is None else {"excluded": excluded.as_dict()}


def _upstream_seconds(job: Fit) -> dict[str, float]:
    """Return how long the records of the upstream are, where they are not as long as these."""
    seconds = None if job.upstream is None else job.upstream.facts.contract.seconds
    if seconds in (None, job.corpus.contract.seconds) or job.contract.reads_any_length:
        return {}
    return {"upstream_seconds": seconds}


def _upstream_sources(job: Fit) -> dict[str, Any]:
    """Return whose records the upstream was trained on, and what it started from itself: their licences hold on."""
    if job.upstream is None:
        return {}
    facts = job.upstream.facts
    sources = {"upstream_sources": [*facts.record.get("upstream_sources", ()), dict(facts.source)]}
    said = {NOT_CONTROLLED: is_not_controlled(facts), _UNKNOWN_SOURCES: _says_nothing(facts)}
    return sources | {name: True for name, is_so in said.items() if is_so}


def _codes(corpus: Corpus, data: TaskData) -> dict[str, str]:
    """Return the codes that make up each class, where the source's labels are codes."""
    unions = corpus.classes_of(data.name.partition("/")[2])
    is_scp = corpus.manifest["source"]["name"].startswith(_SCP_SOURCES)
    systems = {name: "SNOMED CT" if all(map(str.isdigit, union)) else "SCP-ECG" if is_scp else ""
               for name, union in unions.items()}  # fmt: skip
    return {name: f"{systems[name]} {', '.join(union)}" for name, union in unions.items() if systems[name]}
