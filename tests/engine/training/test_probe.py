import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

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


@pytest.mark.parametrize("n_features", [10, 300])
def test_a_probe_is_the_logistic_regression_of_standardised_features_penalised_by_the_variance_of_the_labels(
    n_features,
):
    features, labels, patients = made(n_features=n_features)
    probe = fit_probe(features, labels, patients)
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    for k in range(labels.shape[1]):
        variance = labels[:, k].mean() * (1 - labels[:, k].mean())
        reference = LogisticRegression(C=1 / (probe.penalty * variance), tol=1e-10, max_iter=10_000).fit(
            standardised, labels[:, k]
        )
        expected = reference.decision_function(standardised)
        np.testing.assert_allclose(logits(probe, features)[:, k], expected, atol=1e-3)


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


def test_logits_out_of_fold_come_from_regressions_without_any_record_of_the_patient():
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
    assert probe.loss == pytest.approx(1, abs=0.1)
    assert logits(probe, rng.normal(size=(50, 400))).std() < 0.3


def test_a_class_with_one_outcome_gets_the_logit_of_its_prevalence():
    features, labels, patients = made()
    labels[:, 1], labels[:, 2] = 0, 1
    probe = fit_probe(features, labels, patients)
    assert not probe.weight[1:].any()
    np.testing.assert_allclose(probe.bias[1:], [np.log(0.5 / 120.5), np.log(120.5 / 0.5)])
    np.testing.assert_allclose(probe.out_of_fold[:, 1], np.log(0.5 / 120.5), rtol=1e-6)
    assert probe.weight[0].any()


def test_two_positives_of_the_only_class_are_too_few_to_compare_penalties_and_still_rank():
    features, labels, patients = made(n_classes=1)
    labels[:] = 0
    labels[[5, 70]] = 1
    features[[5, 70]] += 4 * features.std(axis=0)
    probe = fit_probe(features, labels, patients)
    assert probe.penalty == PENALTIES[0]
    assert np.isnan(probe.loss)
    assert auroc_macro(labels, logits(probe, features)) == 1


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
