"""From a task to a checkpoint: what is in it, what a stop leaves, what going on gives."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints.checkpoint import (
    CheckpointError,
    CheckpointFacts,
    Standardisation,
    load_checkpoint,
    load_network,
)
from engine.checkpoints.snapshot import Snapshot, load_snapshot
from engine.compute.devices import DeviceFailureError
from engine.corpora.corpus import Corpus
from engine.corpora.partition import PartitionError, divide
from engine.evaluation.calibration import calibrated_probabilities, choose_thresholds, fit_temperature
from engine.evaluation.evaluation import evaluate
from engine.recipes import find_recipe
from engine.seeds import stable_seed
from engine.training.fit import Fit, Fitted, fit, forewarn
from engine.training.loop import predict_logits

ARCH = "resnet1d18-w2"
QUICK = replace(find_recipe("tuned", "cnn", "scratch"), min_epochs=4, max_epochs=4, validations=4)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads of a network as small as this wait for each other more than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def job(corpus: Corpus, task: str = "superclass", n_records: int = 80, **changes) -> Fit:
    data = corpus.task(task)
    partition = divide(corpus, data, n_records, 0, QUICK.validation_fraction)
    return replace(Fit(corpus, data, partition, ARCH, "scratch", None, QUICK, "cpu", "for the test"), **changes)


def stop_after(epochs: int) -> Callable[[], bool]:
    asked = iter(range(1, 100))
    return lambda: next(asked) >= epochs


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fitted, Path]:
    out = tmp_path_factory.mktemp("fitted") / "out"
    return fit(job(corpus), out), out


def test_the_checkpoint_says_how_the_test_scores_and_the_signals_of_the_corpus_are_distributed(
    corpus: Corpus, trained: tuple[Fitted, Path]
):
    facts, evaluation = trained[0].facts, trained[0].evaluation
    assert evaluation is not None
    tested, kept = job(corpus).partition.test, load_checkpoint(trained[1]).facts.record
    assert {name: sum(counts) for name, counts in kept["score_histogram"].items()} == dict.fromkeys(
        facts.classes, len(tested)
    )
    for name, threshold in zip(facts.classes, facts.thresholds, strict=True):
        one = evaluation.classes[name]
        decided = round(one.sensitivity * one.positives + (1 - one.specificity) * one.negatives)
        surely, perhaps = (
            sum(kept["score_histogram"][name][k:]) for k in (int(10 * threshold) + 1, int(10 * threshold))
        )
        assert surely <= decided <= perhaps
    remarks = corpus.manifest["remarks"]
    assert kept["signals"]["usable"] == len(corpus)
    assert kept["signals"]["unusable"] == corpus.unusable
    assert kept["signals"]["remarked"] == remarks["remarked"]
    assert kept["signals"]["kinds"] == {kind["words"]: kind["records"] for kind in remarks["kinds"]}


def test_the_checkpoint_holds_the_network_that_was_tested(corpus: Corpus, trained: tuple[Fitted, Path]):
    fitted, out = trained
    network, facts = load_network(out)
    task, rows = job(corpus).data, job(corpus).partition

    def logits(positions):
        signals = facts.standardisation.apply(corpus.signals[task.rows[positions]])
        return predict_logits(network, torch.from_numpy(signals)).numpy()

    labels = task.labels[rows.validation]
    assert facts.temperature == pytest.approx(fit_temperature(labels, logits(rows.validation)), rel=1e-6)
    chosen = choose_thresholds(labels, calibrated_probabilities(logits(rows.validation), facts.temperature))
    assert facts.thresholds == pytest.approx(chosen.tolist(), rel=1e-6)
    probabilities = calibrated_probabilities(logits(rows.test), facts.temperature)
    again = evaluate(
        task.labels[rows.test], probabilities, task.patients[rows.test], task.classes, facts.thresholds,
        stable_seed(task.name),
    )  # fmt: skip
    assert fitted.evaluation == again
    assert facts.evaluation == again.as_dict(bootstrap=False)


def test_a_specificity_and_a_prevalence_change_thresholds_and_predictive_values_and_no_weight(
    corpus: Corpus, trained: tuple[Fitted, Path], tmp_path: Path
):
    asked = job(corpus, at_specificity=0.8, prevalence={"MI": 0.02})
    fitted, whole = fit(asked, tmp_path / "out"), trained[0]
    weights = "weights.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (trained[1] / weights).read_bytes()
    assert fitted.facts.record["threshold_rule"] == {"rule": "specificity", "specificity": 0.8}
    assert whole.facts.record["threshold_rule"] == {"rule": "highest-f1"}
    assert fitted.facts.thresholds != whole.facts.thresholds
    assert fitted.evaluation.auroc_macro == whole.evaluation.auroc_macro
    assert (fitted.evaluation.classes["MI"].prevalence, whole.evaluation.classes["MI"].prevalence_stated) == (
        0.02,
        False,
    )
    assert asked.identity() != job(corpus).identity()


def test_classes_without_enough_negatives_for_a_specificity_are_warned_of(corpus: Corpus):
    asked = job(corpus, at_specificity=0.99)
    (said,) = [sentence for sentence in forewarn(asked) if "a specificity of 0.99" in sentence]
    assert "at least 99 records without the label" in said
    assert not any("a specificity of" in sentence for sentence in forewarn(job(corpus, at_specificity=0.5)))


def test_a_label_that_few_of_all_patients_have_is_warned_of_and_kept(corpus: Corpus, trained: tuple[Fitted, Path]):
    started = job(corpus)
    rows = np.concatenate([started.partition.training, started.partition.test])
    labels, patients = np.tile([[1, 0, 1, 0, 1]], (len(started.data.labels), 1)).astype(np.uint8), started.data.patients
    labels[::2] = 1 - labels[::2]
    labels[:, 0] = np.isin(patients, [*patients[started.partition.training[:3]], patients[started.partition.test[0]]])
    few = replace(started, data=replace(started.data, labels=labels))
    (said,) = [sentence for sentence in forewarn(few) if "the rarest label" in sentence]
    n_few = len({*patients[started.partition.training[:3]], patients[started.partition.test[0]]} & set(patients[rows]))
    assert said.startswith(f"{n_few} of ")
    assert f"have {started.data.classes[0]}, the rarest label: few to learn it from, and the 1 of them" in said
    kept = trained[0].facts.record["rare_label"]
    assert kept["label"] in started.data.classes
    assert 0 < kept["tested"] <= kept["few"] <= kept["patients"]


def test_the_facts_are_complete(corpus: Corpus, trained: tuple[Fitted, Path]):
    facts = load_checkpoint(trained[1]).facts
    defaults = CheckpointFacts.__dataclass_fields__
    left = [name for name in defaults if getattr(facts, name) in ("", (), {}, None)]
    assert left == ["upstream", "crop"]
    assert facts.source == corpus.manifest["source"]
    assert facts.codes["NORM"] == "SCP-ECG NORM"
    assert set(facts.subgroups) == {"sex", "age"}
    record = facts.record
    assert record["training_records"] + record["validation_records"] == facts.n_records == 80
    assert record["preparation"] == corpus.manifest["preparation"]
    assert (record["interrupted"], record["why"], record["epochs"]) == (False, "for the test", 4)
    assert set(facts.versions) == {"python", "torch", "numpy", "ecgadvise"}


def test_the_same_job_gives_the_same_weights(corpus: Corpus, trained: tuple[Fitted, Path], tmp_path: Path):
    fit(job(corpus), tmp_path / "again")
    weights = "weights.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (trained[1] / weights).read_bytes()


def test_a_stopped_training_leaves_a_checkpoint_and_goes_on_as_if_nothing_had_happened(
    corpus: Corpus, trained: tuple[Fitted, Path], tmp_path: Path
):
    out = tmp_path / "out"
    stopped = fit(job(corpus), out, should_stop=stop_after(2))
    facts = load_network(out)[1]
    assert stopped.evaluation is None
    assert facts.evaluation == {}
    assert set(facts.metrics) == {"validation_auroc"}
    assert (facts.record["interrupted"], facts.record["epochs"]) == (True, 2)
    assert len(facts.thresholds) == 5
    resumed = fit(job(corpus), out, resume=load_snapshot(out, job(corpus).identity()))
    whole, path = trained
    assert resumed.evaluation == whole.evaluation
    assert (out / "weights.safetensors").read_bytes() == (path / "weights.safetensors").read_bytes()
    assert sorted(file.name for file in out.iterdir()) == ["checkpoint.json", "split.csv", "weights.safetensors"]


@pytest.fixture
def always_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a training after every epoch, however long that takes."""
    monkeypatch.setattr("engine.training.keeping._REST", 0.0)


class KilledError(BaseException):
    """What ends a training without a word to it."""


def killed_after(epochs: int) -> Callable[[], bool]:
    """Kill the training after so many epochs, or rather before it is asked whether to keep the last of them."""
    asked = iter(range(1, 100))

    def ask() -> bool:
        if next(asked) >= epochs:
            raise KilledError
        return False

    return ask


@pytest.mark.parametrize("strategy", ["scratch", "frozen"])
def test_a_training_that_is_killed_goes_on_from_what_it_kept_as_if_nothing_had_happened(
    corpus: Corpus, trained: tuple[Fitted, Path], tmp_path: Path, strategy: str, always_kept
):
    upstream = load_checkpoint(trained[1]) if strategy == "frozen" else None
    asked = job(corpus, strategy=strategy, upstream=upstream)
    whole = fit(asked, tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(KilledError):
        fit(asked, out, should_stop=killed_after(3), keep_every=0)
    kept = load_network(out)[1]
    assert (kept.record["interrupted"], kept.record["epochs"], kept.evaluation) == (True, 2, {})
    resumed = fit(asked, out, resume=load_snapshot(out, asked.identity()))
    assert resumed.evaluation == whole.evaluation
    assert resumed.training.epochs == whole.training.epochs
    weights = "weights.safetensors"
    assert (out / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    assert sorted(file.name for file in out.iterdir()) == ["checkpoint.json", "split.csv", weights]


def test_keeping_a_training_changes_nothing_of_it(
    corpus: Corpus, trained: tuple[Fitted, Path], tmp_path: Path, always_kept
):
    fitted = fit(job(corpus), tmp_path / "out", keep_every=0)
    weights = "weights.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (trained[1] / weights).read_bytes()
    assert fitted.evaluation == trained[0].evaluation


def test_a_full_disk_in_between_ends_no_training_and_leaves_what_was_kept(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always_kept
):
    out, write = tmp_path / "out", Path.write_bytes
    with pytest.raises(KilledError):
        fit(job(corpus), out, should_stop=killed_after(2), keep_every=0)

    def full(_path: Path, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(KilledError):
        fit(job(corpus), out, should_stop=killed_after(3), keep_every=0)
    monkeypatch.setattr(Path, "write_bytes", write)
    assert load_snapshot(out, job(corpus).identity()).epoch == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("strategy", ["fine-tune", "frozen"])
def test_a_pre_trained_network_is_started_from(
    corpus: Corpus, trained: tuple[Fitted, Path], tmp_path: Path, strategy: str
):
    upstream = load_checkpoint(trained[1])
    fit(job(corpus, "rhythm", strategy=strategy, upstream=upstream), tmp_path / "out")
    tuned = load_checkpoint(tmp_path / "out")
    weights, facts, before = tuned.weights, tuned.facts, upstream.weights
    assert (facts.strategy, facts.upstream, facts.task) == (strategy, "ptb-xl/superclass", "ptb-xl/rhythm")
    assert facts.standardisation == upstream.facts.standardisation
    body = [name for name in weights if not name.startswith("head.")]
    same = all(torch.equal(weights[name], before[name]) for name in body)
    assert same == (strategy == "frozen")


def test_an_upstream_that_may_have_seen_the_test_is_warned_of(
    corpus: Corpus, trained: tuple[Fitted, Path], tmp_path: Path
):
    started = job(corpus, "rhythm", strategy="fine-tune", upstream=load_checkpoint(trained[1]))
    (said,) = [sentence for sentence in forewarn(started) if "pre-trained on" in sentence]
    assert "the test records (fold 10 of the publisher's 10) were held out then too" in said
    assert "validation scores are too high" in said
    otherwise = replace(
        started, partition=replace(started.partition, held=replace(started.partition.held, test_sha256="of others"))
    )
    assert any("whether the test records were among them is not known" in s for s in forewarn(otherwise))


def test_an_upstream_of_another_network_is_refused_beforehand(corpus: Corpus, trained: tuple[Fitted, Path]):
    with pytest.raises(CheckpointError, match="holds resnet1d18-w2, not resnet1d18-w4"):
        forewarn(job(corpus, strategy="fine-tune", upstream=load_checkpoint(trained[1]), arch="resnet1d18-w4"))


def test_records_of_one_outcome_are_refused_beforehand(corpus: Corpus):
    started = job(corpus)
    only = np.flatnonzero((started.data.labels == [1, 0, 0, 0, 0]).all(axis=1))
    with pytest.raises(PartitionError, match="no class of ptb-xl/superclass"):
        forewarn(replace(started, partition=replace(started.partition, training=only)))


def test_a_network_keeps_whose_records_every_network_before_it_was_trained_on(
    corpus: Corpus, trained: tuple[Fitted, Path], tmp_path: Path
):
    assert "upstream_sources" not in trained[0].facts.record
    assert trained[0].facts.record["patients_told_apart"] is corpus.tells_patients_apart
    before = load_checkpoint(trained[1])
    elsewhere = {"name": "elsewhere", "licence": "ODbL 1.0", "citation": "Somebody"}
    older = replace(before.facts, record={**before.facts.record, "upstream_sources": [elsewhere]})
    probe = job(corpus, strategy="linear-probe", upstream=replace(before, facts=older))
    fit(probe, tmp_path / "probe")
    kept = load_checkpoint(tmp_path / "probe").facts.record["upstream_sources"]
    assert kept == [elsewhere, dict(corpus.manifest["source"])]


def test_a_test_that_will_hardly_know_its_rarest_label_is_warned_of(corpus: Corpus):
    started = job(corpus)
    rows, labels, patients = started.partition.test, started.data.labels.copy(), started.data.patients
    labels[rows, 0] = patients[rows] == patients[rows[0]]
    few = replace(started, data=replace(started.data, labels=labels))
    (said,) = [sentence for sentence in forewarn(few) if "test patients have" in sentence]
    assert said.startswith(f"1 of {len(np.unique(patients[rows]))} test patients have {started.data.classes[0]}: ")
    even = replace(started.data, labels=np.tile([[1, 0], [0, 1]], (len(labels) // 2, 3))[:, :5])
    everyone = replace(started.partition, test=np.arange(len(even.rows)))
    assert not any("will be known" in said for said in forewarn(replace(started, data=even, partition=everyone)))


def test_a_training_is_its_own_continuation_only(corpus: Corpus, trained: tuple[Fitted, Path]):
    identity = job(corpus).identity()
    assert job(corpus).identity() == identity
    others = [job(corpus, n_records=60), job(corpus, "rhythm"), job(corpus, arch="resnet1d18-w4"),
              job(corpus, strategy="fine-tune", upstream=load_checkpoint(trained[1]))]  # fmt: skip
    assert all(other.identity() != identity for other in others)


def test_a_full_disk_ends_in_an_os_error(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_path: Path, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        fit(job(corpus), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_goes_on_on_another_kind_of_device_says_what_is_not_as_it_would_have_been(
    corpus: Corpus, tmp_path: Path
):
    out = tmp_path / "out"
    first = fit(job(corpus), out, should_stop=stop_after(2)).warnings
    assert not any("resumed" in sentence for sentence in first)
    begun = load_snapshot(out, job(corpus).identity())
    of_a_gpu = Snapshot(begun.epoch, begun.tensors, {**begun.numbers, "device": "cuda"})
    assert begun.device == "cpu"
    said = fit(job(corpus), out, resume=of_a_gpu).warnings
    assert sum("begun on CUDA and resumed on CPU" in sentence for sentence in said) == 1


def test_the_record_says_precision_and_way_of_the_steps(trained: tuple[Fitted, Path]):
    record = load_network(trained[1])[1].record
    assert (record["precision"], record["way"]) == ("float32", "eager")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError("CUDA error")])
def test_a_device_that_fails_ends_a_training_in_a_sentence(corpus: Corpus, tmp_path: Path, monkeypatch, error):
    def train(*_what, **_how):
        raise error

    monkeypatch.setattr("engine.training.fit.train", train)
    with pytest.raises(DeviceFailureError, match="use --device cpu"):
        fit(job(corpus), tmp_path / "out")


def test_what_is_odd_about_the_records_is_said_before_and_kept_with_the_network(corpus: Corpus, tmp_path: Path):
    odd = job(corpus)
    of_test, of_training = odd.data.rows[odd.partition.test[0]], odd.data.rows[odd.partition.training[0]]
    kept = {"kinds": [{"words": "lead V1 is flat", "records": 3, "alike": True}]}
    groups = [[int(of_test), int(of_training)]]
    corpus.manifest["remarks"] = {**kept, "equal_signals": groups}
    try:
        fitted = fit(odd, tmp_path / "out")
    finally:
        del corpus.manifest["remarks"]
    flat = "3 of 240 records kept with a remark: lead V1 is flat"
    equal = "1 group of equal signals, 1 of several patients, 1 with a copy in the test and one outside it"
    for said in (
        fitted.warnings,
        fitted.facts.record["remarks"],
        load_checkpoint(tmp_path / "out").facts.record["remarks"],
    ):
        assert said[0].startswith(flat)
        assert equal in said[1]


def test_records_that_are_not_left_out_at_random_are_a_warning_and_kept_with_the_network(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(corpus.manifest, "unusable", 60)
    monkeypatch.setitem(corpus.manifest, "unusable_labels", [[["NORM"], 60]])
    one = job(corpus)
    said = "60 of 300 records cannot be used; all 60 have NORM"
    assert forewarn(one)[0].startswith(said)
    record = fit(one, tmp_path / "out").facts.record
    assert record["remarks"][0].startswith(said)
    assert record["excluded"]["classes"]["NORM"]["records"] == 60
    monkeypatch.setitem(corpus.manifest, "unusable_labels", [[None, 60]])
    assert not [sentence for sentence in forewarn(one) if "cannot be used" in sentence]
    record = fit(one, tmp_path / "other").facts.record
    assert record["remarks"] == ["60 of 300 records cannot be used and were left out"]
    assert record["excluded"]["labels_known"] == 0


def test_how_records_are_unlike_the_evidence_is_said_first_and_kept(corpus: Corpus, tmp_path: Path):
    fitted = fit(job(corpus, differences=("These records have one lead (I).",)), tmp_path / "out")
    assert fitted.warnings[0] == "These records have one lead (I)."
    assert load_checkpoint(tmp_path / "out").facts.record["differences"] == ["These records have one lead (I)."]


EIGHT = ("aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.fixture
def foreign(tmp_path: Path, checkpoint_writer) -> Path:
    """A network of eight leads that reads crops of 2 s, each lead scaled by itself."""
    return checkpoint_writer(
        tmp_path / "theirs", ARCH, leads=EIGHT, n_samples=200, crop=200, scaling="lead", source={"name": "theirs"},
        standardisation=Standardisation((0.0,) * 8, (1.0,) * 8), classes=("chagas",), thresholds=(),
    )  # fmt: skip


@pytest.mark.parametrize("strategy", ["fine-tune", "linear-probe"])
def test_what_starts_from_a_network_that_reads_crops_reads_them_too(
    corpus: Corpus, foreign: Path, tmp_path: Path, strategy: str
):
    upstream = load_checkpoint(foreign)
    started = job(corpus, strategy=strategy, upstream=upstream)
    assert not [said for said in forewarn(started) if "was pre-trained on records of" in said], "any length fits"
    fit(started, tmp_path / "out")
    network, facts = load_network(tmp_path / "out")
    assert (facts.leads, facts.fs, facts.n_samples) == (EIGHT, 100.0, 1000)
    assert (facts.crop, facts.scaling) == (200, "lead")
    rows = started.data.rows[started.partition.test]
    signals = corpus.signals[rows][:, [corpus.leads.index(lead) for lead in EIGHT]]
    logits = predict_logits(network, torch.from_numpy(facts.standardisation.apply(signals)))
    probabilities = calibrated_probabilities(logits.numpy(), facts.temperature)
    labels = started.data.labels[started.partition.test]
    assert facts.evaluation["auroc_macro"] == pytest.approx(
        evaluate(labels, probabilities, started.data.patients[started.partition.test], facts.classes,
                 facts.thresholds, stable_seed(started.data.name)).auroc_macro
    )  # fmt: skip


def test_records_at_another_rate_than_its_own_are_refused_beforehand(corpus: Corpus, foreign: Path, checkpoint_writer):
    at_400 = checkpoint_writer(
        foreign.parent / "at-400", ARCH, leads=EIGHT, fs=400.0, n_samples=800, crop=800, scaling="lead",
        standardisation=Standardisation((0.0,) * 8, (1.0,) * 8),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="takes signals at 400 Hz, not at 100 Hz"):
        forewarn(job(corpus, strategy="linear-probe", upstream=load_checkpoint(at_400)))


def test_records_shorter_than_a_crop_are_refused_beforehand(corpus: Corpus, foreign: Path, checkpoint_writer):
    longer = checkpoint_writer(
        foreign.parent / "longer", ARCH, leads=EIGHT, n_samples=1200, crop=1200, scaling="lead",
        standardisation=Standardisation((0.0,) * 8, (1.0,) * 8),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="takes records of 12 s, not of 10 s"):
        forewarn(job(corpus, strategy="linear-probe", upstream=load_checkpoint(longer)))


def test_what_was_trained_from_another_team_s_network_says_so_ever_after(corpus, foreign, tmp_path, checkpoint_writer):
    theirs = checkpoint_writer(
        foreign.parent / "added", ARCH, leads=EIGHT, n_samples=200, crop=200, scaling="lead",
        record={"imported": {"file": "weights.pt"}}, standardisation=Standardisation((0.0,) * 8, (1.0,) * 8),
    )  # fmt: skip
    fit(job(corpus, strategy="linear-probe", upstream=load_checkpoint(theirs)), tmp_path / "child")
    child = load_checkpoint(tmp_path / "child")
    assert child.facts.record["pretraining_not_controlled"] is True
    started = job(corpus, strategy="linear-probe", upstream=child, arch=child.facts.arch)
    assert any("does not say what it was pre-trained on" in said for said in forewarn(started))


def test_a_network_from_scratch_reads_as_the_one_that_it_was_compared_with(corpus: Corpus, foreign: Path):
    reads = load_checkpoint(foreign).facts.contract
    assert job(corpus, reads=reads).contract == reads.of_records(corpus.contract)
    assert job(corpus).contract == corpus.contract
