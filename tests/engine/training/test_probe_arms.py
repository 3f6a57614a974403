"""The two arms that are a regression, from records to a network, a checkpoint and an ONNX file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints.checkpoint import Checkpoint, load_checkpoint, load_network
from engine.corpora.corpus import Corpus
from engine.corpora.partition import divide
from engine.deploy.export import export_checkpoint
from engine.deploy.inference import open_session
from engine.evaluation.calibration import choose_thresholds, fit_temperature
from engine.recipes import PROBES, find_recipe
from engine.training import probe_arms
from engine.training.course import Examples
from engine.training.fit import Fit, fit, forewarn
from engine.training.loop import predict_logits
from engine.training.probe_arms import KERNELS, train_probe
from engine.training.starting_point import head_inputs, new_network
from models.composed import Composed
from models.networks.random_convolutions import RandomConvolutions

ARCH = "resnet1d18-w2"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def job(corpus: Corpus, strategy: str, upstream: Checkpoint | None = None, n_records: int = 60) -> Fit:
    recipe, data = find_recipe("tuned", "cnn", strategy), corpus.task("superclass")
    partition = divide(corpus, data, n_records, 0, recipe.validation_fraction)
    arch = ARCH if strategy == "linear-probe" else KERNELS
    return Fit(corpus, data, partition, arch, strategy, upstream, recipe, "cpu", "for the test")


@pytest.fixture(scope="module")
def upstream(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    out, quick = tmp_path_factory.mktemp("upstream") / "out", find_recipe("tuned", "cnn", "scratch")
    data = corpus.task("rhythm")
    partition = divide(corpus, data, 60, 1, 0.2)
    quick = replace(quick, min_epochs=1, max_epochs=1)
    fit(Fit(corpus, data, partition, ARCH, "scratch", None, quick, "cpu"), out)
    return load_checkpoint(out)


def made_up(n_records: int = 80, n_leads: int = 2) -> tuple[Examples, np.ndarray]:
    """Records whose class is how fast they oscillate."""
    generator = torch.Generator().manual_seed(0)
    label = (torch.rand(n_records, 2, generator=generator) < 0.4).float()
    time = torch.arange(250) / 100
    waves = torch.sin(2 * torch.pi * (3 + 9 * label[:, :1]) * time) + label[:, 1:] * (time > 1)
    noise = torch.randn(n_records, n_leads, 250, generator=generator)
    return Examples(waves[:, None] + 0.5 * noise, label), np.arange(n_records)


def test_all_records_of_the_arm_train_and_none_is_kept_back(corpus: Corpus):
    for strategy in PROBES:
        rows = job(corpus, strategy).partition
        assert len(rows.training) == 60
        assert len(rows.validation) == 0


def test_a_probe_of_random_convolutions_learns_what_they_show():
    examples, patients = made_up()
    network = new_network(KERNELS, 2, 250, 2, seed=3)
    found = train_probe("random-convolutions", network, KERNELS, examples, patients, seed=3)
    assert found.arch == KERNELS
    assert found.probe.auroc > 0.95
    training = found.training
    assert (training.epochs, training.best.epoch, training.records_seen) == (1, 1, 80)
    assert training.best.auroc == found.probe.auroc
    assert training.seconds > 0


@pytest.mark.parametrize(("margin", "arch"), [(1.0, f"{ARCH}+{KERNELS}"), (-1.0, ARCH)])
def test_a_linear_probe_reads_both_kinds_of_features_unless_its_own_are_clearly_better(
    monkeypatch: pytest.MonkeyPatch, margin: float, arch: str
):
    monkeypatch.setattr(probe_arms, "_MARGIN", margin)
    examples, patients = made_up()
    network = new_network(ARCH, 2, 250, 2, seed=3)
    own = head_inputs(network, examples.signals).clone()
    found = train_probe("linear-probe", network, ARCH, examples, patients, seed=3)
    assert found.arch == arch
    assert set(found.as_dict()["cross_validated_auroc"]) == {ARCH, f"{ARCH}+{KERNELS}"}
    read = head_inputs(found.network, examples.signals)
    torch.testing.assert_close(read[:, : own.shape[1]], own)
    assert isinstance(found.network, Composed) == (arch != ARCH)
    expected = read.numpy() @ found.probe.weight.T + found.probe.bias
    np.testing.assert_allclose(predict_logits(found.network, examples.signals).numpy(), expected, atol=1e-3)


def test_the_kernels_taken_along_are_those_of_the_other_arm():
    examples, patients = made_up()
    alone = train_probe("random-convolutions", new_network(KERNELS, 2, 250, 2, 3), KERNELS, examples, patients, 3)
    both = train_probe("linear-probe", new_network(ARCH, 2, 250, 2, 3), ARCH, examples, patients, 3)
    torch.testing.assert_close(
        head_inputs(both.network, examples.signals)[:, 16:], head_inputs(alone.network, examples.signals)
    )


@pytest.mark.parametrize("strategy", PROBES)
def test_the_checkpoint_exports_and_predicts_what_torch_does(
    corpus: Corpus, upstream: Checkpoint, tmp_path: Path, strategy: str
):
    asked = job(corpus, strategy, upstream if strategy == "linear-probe" else None)
    fitted = fit(asked, tmp_path / "out")
    network, facts = load_network(tmp_path / "out")
    assert facts.strategy == strategy
    assert facts.record["probe"]["features"] == facts.arch
    assert facts.record["validation_records"] == 0
    assert (facts.record["epochs"], facts.record["best_epoch"]) == (1, 1)
    assert fitted.evaluation is not None
    export_checkpoint(tmp_path / "out", tmp_path / "model" / "model.onnx")
    records = corpus.signals[asked.data.rows[asked.partition.test]]
    logits = predict_logits(network, torch.from_numpy(facts.standardisation.apply(records))).numpy()
    probabilities = 1 / (1 + np.exp(-logits / facts.temperature))
    session = open_session(str(tmp_path / "model" / "model.onnx"))
    given = session.run(["logits", "probability"], {"ecg": records})
    np.testing.assert_allclose(given[0], logits, atol=1e-4)
    np.testing.assert_allclose(given[1], probabilities, atol=1e-4)


def test_calibration_and_thresholds_come_from_logits_out_of_fold(corpus: Corpus, tmp_path: Path):
    asked = job(corpus, "random-convolutions")
    fitted = fit(asked, tmp_path / "out")
    rows = asked.partition.training
    network = new_network(KERNELS, 12, 1000, len(asked.data.classes), asked.partition.seed)
    examples = asked.examples(rows, fitted.facts.standardisation)
    patients = asked.data.patients[rows]
    again = train_probe(asked.strategy, network, KERNELS, examples, patients, asked.partition.seed).probe
    labels = asked.data.labels[rows]
    temperature = fit_temperature(labels, again.out_of_fold)
    assert fitted.facts.temperature == pytest.approx(temperature, rel=1e-4)
    thresholds = choose_thresholds(labels, 1 / (1 + np.exp(-again.out_of_fold.astype(np.float64) / temperature)))
    assert fitted.facts.thresholds == pytest.approx(thresholds.tolist(), rel=1e-4)
    assert fitted.facts.metrics["validation_auroc"] == pytest.approx(again.auroc, abs=1e-6)


def test_the_same_job_gives_the_same_weights(corpus: Corpus, upstream: Checkpoint, tmp_path: Path):
    for name in ("one", "other"):
        fit(job(corpus, "linear-probe", upstream), tmp_path / name)
    one, other = (load_checkpoint(tmp_path / name).weights for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_nothing_is_said_of_validation_records_that_a_probe_does_not_have(corpus: Corpus):
    assert not [sentence for sentence in forewarn(job(corpus, "random-convolutions")) if "validation" in sentence]


def test_constants_are_those_of_the_training_records():
    examples, _ = made_up()
    torch.manual_seed(0)
    network = new_network(f"{KERNELS}-w8", 2, 250, 2, 0)
    assert isinstance(network, RandomConvolutions)
    read = network.fit_constants(examples.signals)
    torch.testing.assert_close(read, head_inputs(network, examples.signals))
    inside = read.abs().amax(dim=0) < 8
    torch.testing.assert_close(read.mean(dim=0)[inside], torch.zeros(int(inside.sum())), atol=1e-4, rtol=0)
    assert (network.thresholds != 0).all()
