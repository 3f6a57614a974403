import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import Ridge
from torch import nn

from engine.evaluation.calibration import fit_temperature
from engine.evaluation.metrics import auroc_macro
from engine.training.course import Examples
from engine.training.loop import predict_logits
from engine.training.probe import PENALTIES, Probe, fit_probe, start_from_probe
from models.registry import create_network


def made(n_records: int = 120, n_features: int = 10, n_classes: int = 3, seed: int = 0):
    """Correlated features on scales far apart, labels that follow some of them, two records a patient."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_records, n_features)) @ rng.normal(size=(n_features, n_features))
    weights = rng.normal(size=(n_features, n_classes)) / np.linalg.norm(features.std(axis=0))
    labels = (features @ weights + rng.logistic(size=(n_records, n_classes)) > 0.3).astype(np.uint8)
    return features * 10.0 ** rng.integers(-2, 3, n_features) + 5, labels, np.arange(n_records) // 2


def logits(probe: Probe, features: np.ndarray) -> np.ndarray:
    return features @ probe.weight.T + probe.bias


def standardised(features: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Return features of unit variance, each group of total variance (all features / groups)."""
    sd = features.std(axis=0) * np.repeat(np.sqrt(np.array(sizes) * len(sizes) / sum(sizes)), sizes)
    return (features - features.mean(axis=0)) / sd


@pytest.mark.parametrize("sizes", [(10,), (300,), (20, 280)])
def test_the_scores_behind_the_logits_are_those_of_ridge_regression(sizes):
    features, labels, patients = made(n_features=sum(sizes))
    probe = fit_probe(features, labels, patients, sizes)
    scaled = standardised(features, sizes)
    expected = Ridge(alpha=probe.penalty, solver="cholesky").fit(scaled, labels.astype(float)).predict(scaled)
    for k, score in enumerate(logits(probe, features).T):
        slope, intercept = np.polyfit(expected[:, k], score, 1)
        assert slope > 0
        np.testing.assert_allclose(score, slope * expected[:, k] + intercept, atol=1e-6)


@pytest.mark.parametrize("n_features", [10, 300])
def test_logits_out_of_fold_are_those_of_ridge_regressions_without_the_patient(n_features):
    features, labels, _ = made(n_features=n_features, n_classes=1)
    patients = np.random.default_rng(3).integers(0, 40, len(labels))  # one to seven records each
    probe = fit_probe(features, labels, patients)
    scaled = standardised(features, (n_features,))
    expected, mean_of_others = np.empty(len(labels)), np.empty(len(labels))
    for patient in np.unique(patients):
        own = patients == patient
        model = Ridge(alpha=probe.penalty, solver="cholesky").fit(scaled[~own], labels[~own, 0].astype(float))
        expected[own], mean_of_others[own] = model.predict(scaled[own]), labels[~own].mean()
    assert probe.loss == pytest.approx(np.mean((labels[:, 0] - expected) ** 2) / labels.var())
    expected += labels.mean() - mean_of_others
    slope, intercept = np.polyfit(expected, probe.out_of_fold[:, 0], 1)
    np.testing.assert_allclose(probe.out_of_fold[:, 0], slope * expected + intercept, atol=1e-4)


def test_the_penalty_has_the_least_loss_of_all():
    features, labels, patients = made(n_features=300)
    rows = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    scaled = standardised(features, (300,))

    def loss(penalty: float) -> float:
        left_out = np.empty(labels.shape)
        for own in rows:
            others = np.setdiff1d(np.arange(len(labels)), own)
            model = Ridge(alpha=penalty, solver="cholesky").fit(scaled[others], labels[others].astype(float))
            left_out[own] = model.predict(scaled[own])
        return float(np.mean(np.mean((labels - left_out) ** 2, axis=0) / labels.var(axis=0)))

    probe = fit_probe(features, labels, patients)
    assert probe.penalty == min((*PENALTIES[::3], probe.penalty), key=loss)


def test_logits_out_of_fold_are_calibrated():
    features, labels, patients = made(n_records=600, n_classes=2)
    probe = fit_probe(features, labels, patients)
    assert fit_temperature(labels, probe.out_of_fold) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(expit(probe.out_of_fold).mean(axis=0), labels.mean(axis=0), atol=0.01)


def test_labels_by_chance_leave_a_validation_score_about_chance_even_of_a_rare_class():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(200, 50)), (rng.random((200, 40)) < 0.04).astype(np.uint8)
    assert fit_probe(features, labels, np.arange(200)).auroc == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("n_features", [10, 300])
def test_the_order_the_signs_and_the_units_of_the_features_do_not_matter(n_features):
    features, labels, patients = made(n_features=n_features)
    rng = np.random.default_rng(1)
    order, factor = rng.permutation(n_features), rng.choice([-3.0, 0.5], n_features)
    first, other = (fit_probe(one, labels, patients) for one in (features, features[:, order] * factor - 1))
    assert first.penalty == other.penalty
    moved = other.weight * factor  # per unit of the features as they were
    spread = features.std(axis=0)[order]
    np.testing.assert_allclose(moved * spread, first.weight[:, order] * spread, atol=1e-3)
    np.testing.assert_allclose(first.out_of_fold, other.out_of_fold, atol=1e-3)


def test_a_patient_on_both_sides_would_tell_the_label():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 4)
    of_patient = rng.normal(size=(30, 200))  # every record of a patient is the same, and their label is chance
    labels = rng.integers(0, 2, (30, 1)).astype(np.uint8)[patients]
    probe = fit_probe(of_patient[patients], labels, patients)
    apart = fit_probe(of_patient[patients], labels, np.arange(120))
    assert apart.auroc > 0.95, "records of a patient on both sides tell their label"
    assert probe.auroc < 0.8
    assert probe.loss > 0.9
    assert apart.penalty < probe.penalty


def test_features_that_say_nothing_get_the_strongest_penalties_and_almost_no_weight():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(100, 400)), rng.integers(0, 2, (100, 2)).astype(np.uint8)
    probe = fit_probe(features, labels, np.arange(100))
    assert probe.penalty >= 1e3
    assert probe.loss == pytest.approx(1, abs=0.05)
    assert logits(probe, rng.normal(size=(50, 400))).std() < 0.3


def test_a_class_with_one_outcome_gets_the_logit_of_its_prevalence():
    features, labels, patients = made()
    labels[:, 1], labels[:, 2] = 0, 1
    probe = fit_probe(features, labels, patients)
    assert not probe.weight[1:].any()
    np.testing.assert_allclose(probe.bias[1:], [np.log(0.5 / 120.5), np.log(120.5 / 0.5)])
    np.testing.assert_allclose(probe.out_of_fold[:, 1], np.log(0.5 / 120.5), rtol=1e-6)
    assert probe.weight[0].any()


def test_a_class_of_two_positives_is_ranked_and_its_logits_are_of_its_prevalence():
    features, labels, patients = made(n_classes=1)
    labels[:] = 0
    labels[[5, 70]] = 1
    features[[5, 70]] += 4 * features.std(axis=0)
    probe = fit_probe(features, labels, patients)
    assert auroc_macro(labels, logits(probe, features)) == 1
    assert expit(np.median(logits(probe, features))) < 0.1


def test_a_feature_that_never_changes_gets_no_weight():
    features, labels, patients = made()
    features[:, 3] = 7
    probe = fit_probe(features, labels, patients)
    assert not probe.weight[:, 3].any()
    assert np.isfinite(probe.bias).all()


def test_records_of_one_patient_are_fitted_without_a_choice():
    features, labels, _ = made()
    probe = fit_probe(features, labels, np.zeros(len(labels), np.int64))
    assert probe.penalty == PENALTIES[0]
    assert np.isfinite(logits(probe, features)).all()


def test_a_feature_that_is_not_finite_raises():
    features, labels, patients = made()
    features[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fit_probe(features, labels, patients)


def test_a_network_that_starts_from_its_probe_gives_the_probes_logits():
    torch.manual_seed(0)
    network = create_network("resnet1d18-w4", n_leads=2, n_classes=3, n_samples=200)
    signals = torch.randn(60, 2, 200) * torch.linspace(0.5, 3, 60)[:, None, None]
    labels = (torch.arange(60)[:, None] > torch.tensor([20, 30, 50])).float()
    body = {name: value.clone() for name, value in network.state_dict().items() if not name.startswith("head.")}
    probe = start_from_probe(network, Examples(signals, labels), np.arange(60))
    taken: list[torch.Tensor] = []
    assert isinstance(network.head, nn.Linear)
    network.head.register_forward_pre_hook(lambda _head, inputs: taken.append(inputs[0]))
    given = predict_logits(network, signals).numpy()
    np.testing.assert_allclose(given, logits(probe, torch.cat(taken).numpy()), atol=1e-4)
    assert auroc_macro(labels.numpy().astype(np.uint8), given) > 0.9
    assert all(torch.equal(value, body[name]) for name, value in network.state_dict().items() if name in body)
