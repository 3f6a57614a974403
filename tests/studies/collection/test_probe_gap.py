"""The probe gap against regressions made again for every patient, and where it is known what it must be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from engine.checkpoints.checkpoint import load_network
from engine.training.probe import PENALTIES
from studies.collection import probe_gap
from studies.collection.probe_gap import (
    counted_classes,
    kernel_features,
    left_out_auroc,
    measure_gap,
    network_features,
)

ARCH = "resnet1d18-w2"


def drawn(n: int, width: int, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels of two classes that the first two tell by ``strength``, and patients of one to four records."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, width)).astype(np.float32)
    labels = (strength * features[:, :2] + rng.normal(size=(n, 2)) > 0.7).astype(np.uint8)
    return features, labels, np.sort(rng.integers(0, n // 2, n))


def refitted(features: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> float:
    """The same AUROC by its definition: every patient's scores by regressions fitted again to the others' records."""
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    best = np.inf, 0.0
    for penalty in PENALTIES:
        scores = np.empty(labels.shape)
        for patient in np.unique(patients):
            own = patients == patient
            model = Ridge(alpha=penalty, solver="cholesky").fit(scaled[~own], labels[~own].astype(float))
            scores[own] = model.predict(scaled[own])
            scores[own] -= labels[~own].mean(axis=0)  # the mean label of the others tells the own one
        means = np.array([labels[patients != patient].mean(axis=0) for patient in patients])
        loss = (((labels - scores - means) ** 2).mean(axis=0) / labels.var(axis=0)).mean()
        best = min(best, (loss, float(np.mean([roc_auc_score(labels[:, k], scores[:, k]) for k in (0, 1)]))))
    return best[1]


@pytest.mark.parametrize(("n", "width"), [(60, 5), (40, 70)])
def test_patients_are_left_out_as_if_each_regression_were_fitted_again(n: int, width: int):
    features, labels, patients = drawn(n, width, 1.0)
    assert np.bincount(patients).max() >= 3
    assert left_out_auroc(features, labels, patients) == pytest.approx(refitted(features, labels, patients), abs=1e-9)


def test_a_patient_whom_the_features_give_away_is_not_ranked_by_records_of_the_same_patient():
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(40), 3)
    features = (rng.normal(size=(40, 60))[patients] + 0.01 * rng.normal(size=(120, 60))).astype(np.float32)
    labels = np.repeat(rng.permutation(np.repeat([0, 1], 20)), 3)[:, None].astype(np.uint8)
    assert left_out_auroc(features, labels, np.arange(120)) > 0.95
    assert left_out_auroc(features, labels, patients) < 0.65


def measured(monkeypatch: pytest.MonkeyPatch, network: np.ndarray, kernels: np.ndarray, labels: np.ndarray) -> float:
    """The gap of records of one patient each, whose features are given."""
    monkeypatch.setattr(probe_gap, "network_features", lambda *_: network)
    monkeypatch.setattr(probe_gap, "kernel_features", lambda *_: kernels)
    gap = measure_gap(Path("nowhere"), np.zeros((len(labels), 1, 1), np.float32), labels, np.arange(len(labels)), 0)
    assert gap is not None
    return gap.value


def test_the_gap_is_positive_where_the_network_tells_more_and_about_zero_where_both_are_noise(
    monkeypatch: pytest.MonkeyPatch,
):
    telling, labels, _ = drawn(400, 8, 2.0)
    noise = [np.random.default_rng(seed).normal(size=(400, 8)).astype(np.float32) for seed in (1, 2)]
    assert measured(monkeypatch, telling, noise[0], labels) > 0.3
    assert measured(monkeypatch, noise[0], telling, labels) < -0.3
    assert abs(measured(monkeypatch, noise[0], noise[1], labels)) < 0.1
    assert measured(monkeypatch, telling, telling, labels) == 0


def test_features_that_never_change_tell_nothing():
    _, labels, patients = drawn(60, 3, 1.0)
    assert left_out_auroc(np.ones((60, 4), np.float32), labels, patients) == pytest.approx(0.5, abs=1e-3)


def test_classes_of_fewer_than_three_records_or_of_one_patient_do_not_count():
    labels, patients = np.zeros((12, 6), np.uint8), np.arange(12) // 3
    labels[[0, 4, 8], 0] = 1
    labels[[0, 4], 1] = 1  # two records
    labels[:3, 2] = 1  # three of one patient
    labels[:10, 3] = 1  # two without it
    labels[:9, 4] = 1  # three without it, of one patient
    labels[2:, 5], labels[11, 5] = 1, 0  # and of two
    assert counted_classes(labels, patients).tolist() == [True, False, False, False, False, True]


def test_the_gap_is_that_of_the_classes_which_count(made_up_signals, checkpoint_writer, tmp_path: Path):
    signals, labels, patients = made_up_signals
    rare = np.zeros((len(labels), 1), np.uint8)
    rare[:2] = 1
    network = checkpoint_writer(tmp_path / "network", ARCH)
    gap = measure_gap(network, signals, labels, patients, 7)
    assert gap is not None
    assert measure_gap(network, signals, np.hstack([rare, labels, 0 * rare]), patients, 7) == gap
    assert measure_gap(network, signals, rare, patients, 7) is None
    assert measure_gap(network, signals, labels, 0 * patients, 7) is None  # all of one patient


@pytest.fixture
def made_up_signals() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Records of 12 leads whose class is how fast they oscillate, their labels, and patients of two records."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, (60, 1)).astype(np.uint8)
    waves = np.sin(2 * np.pi * (3 + 9 * labels) * np.arange(1000) / 100)
    signals = waves[:, None] + 0.5 * rng.normal(size=(60, 12, 1000))
    return signals.astype(np.float32), labels, np.arange(60) // 2


def test_both_probes_are_of_the_records_given(made_up_signals, checkpoint_writer, tmp_path: Path):
    signals, labels, patients = made_up_signals
    network = checkpoint_writer(tmp_path / "network", ARCH)
    gap = measure_gap(network, signals, labels, patients, 7)
    assert gap is not None
    assert gap.random_convolutions > 0.95
    assert gap.random_convolutions == left_out_auroc(kernel_features(signals, 7), labels, patients)
    assert gap.features == left_out_auroc(network_features(network, signals), labels, patients)
    loaded, facts = load_network(network)
    taken = []
    loaded.get_submodule("head").register_forward_pre_hook(lambda _head, inputs: taken.append(inputs[0]))
    with torch.no_grad():
        loaded.eval()(torch.from_numpy(facts.standardisation.apply(signals)))
    np.testing.assert_allclose(network_features(network, signals), taken[0].numpy(), rtol=1e-4, atol=1e-5)


def test_random_convolutions_do_not_depend_on_the_unit_of_the_signals(made_up_signals):
    signals, labels, patients = made_up_signals
    scaled = left_out_auroc(kernel_features(100 * signals, 7), labels, patients)
    assert scaled == pytest.approx(left_out_auroc(kernel_features(signals, 7), labels, patients), abs=0.01)


def test_features_that_are_not_finite_do_not_count_and_without_any_other_there_is_no_gap(
    made_up_signals, checkpoint_writer, tmp_path: Path
):
    features, labels, patients = drawn(50, 4, 1.0)
    broken = np.hstack([features, np.full((50, 1), np.nan, np.float32), features[:, :1]])
    broken[3, 5] = np.inf
    assert left_out_auroc(broken, labels, patients) == left_out_auroc(features, labels, patients)
    assert np.isnan(left_out_auroc(np.full((50, 2), np.nan, np.float32), labels, patients))
    signals, labels, patients = made_up_signals
    signals[4, 2, 100] = np.nan
    assert measure_gap(checkpoint_writer(tmp_path / "network", ARCH), signals, labels, patients, 7) is None


def test_the_number_of_threads_is_left_as_it_was(made_up_signals):
    before = torch.get_num_threads()
    kernel_features(made_up_signals[0], 7)
    assert torch.get_num_threads() == before
