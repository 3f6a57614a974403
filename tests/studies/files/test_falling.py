"""A metric's name says whether it falls with more records."""

import pytest

from studies.files.falling import falls, why_it_falls

RATES = (
    "error",
    "err",
    "eer",
    "brier",
    "ece",
    "hamming",
    "test_error_rate",
    "ErrorRate",
    "testerror",
    "fpr",
    "miss_rate",
)
UNBOUNDED = (
    "loss", "mae", "mse", "rmse", "log_loss", "logloss", "perplexity", "val_loss", "valLoss", "MSELoss", "Log Loss",
    "hamming_loss", "cross-entropy", "NLL", "f1_loss",
)  # fmt: skip
COMPLEMENTS = {
    "1-auc": "auc", "1 - auc": "auc", "one_minus_auc": "auc", "1\N{MINUS SIGN}auc": "auc", "X1.auc": "auc",
    "X1...test_auc": "test_auc", "1-macro-f1": "macro-f1",
}  # fmt: skip
RISING = (
    "auroc_macro", "auprc_macro", "accuracy", "f1", "kappa", "mAP", "1-error", "1 - brier", "one_minus_error_rate",
    "neg_log_loss", "neg_mean_squared_error", "sensitivity_at_fpr_0.05", "TPR@FPR=5%", "1-lead-auroc", "12-lead_auc",
    "negative_predictive_value", "lossless", "mirror", "score", "",
)  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_an_error_rate_falls_and_one_minus_it_is_asked_for(name: str):
    assert why_it_falls(name) == f"{name} falls with more records: give 1 - {name}, which rises"


@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_loss_falls_and_another_score_is_asked_for(name: str):
    assert why_it_falls(name) == f"{name} falls with more records: give a score that rises, such as auroc_macro"


@pytest.mark.parametrize(("name", "score"), COMPLEMENTS.items())
def test_one_minus_a_score_falls_and_the_score_itself_is_asked_for(name: str, score: str):
    assert why_it_falls(name) == f"{name} falls with more records: give {score} itself, which rises"


@pytest.mark.parametrize("name", RISING)
def test_a_score_and_a_negated_error_rise(name: str):
    assert not falls(name)
