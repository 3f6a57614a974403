"""The end of a training: what is chosen on validation records, and what is then said of the test records."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.checkpoints.checkpoint import CheckpointFacts, Standardisation
from engine.corpora.corpus import TaskData
from engine.evaluation.calibration import calibrated_probabilities, choose_thresholds, fit_temperature
from engine.evaluation.evaluation import evaluate
from engine.seeds import stable_seed
from engine.training.finish import Predicted, add_test_scores, calibrate, score_raw
from engine.training.loop import Examples, predict_logits
from engine.training.starting_point import new_network

CLASSES = ("A", "B")
FACTS = CheckpointFacts(
    "gru-w4", "made/up", CLASSES, ("I", "II"), 100.0, 64, Standardisation((0.0, 0.0), (1.0, 1.0)), {}, "d",
    {"validation_auroc": 0.9},
)  # fmt: skip


def predicted(seed: int, n_records: int = 60) -> Predicted:
    """Logits that tell the classes apart, and are three times too sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (n_records, 2))
    labels = (rng.random((n_records, 2)) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    return Predicted((3 * logits).astype(np.float32), labels, np.arange(n_records))


VALIDATION, TEST = predicted(1), predicted(2)
DATA = TaskData("made/up", CLASSES, np.arange(60), TEST.labels, TEST.patients, np.zeros(60, np.int64))


def test_temperature_and_thresholds_are_those_of_the_validation_records():
    facts = calibrate(FACTS, VALIDATION)
    assert facts.temperature == fit_temperature(VALIDATION.labels, VALIDATION.logits) > 1.5
    probabilities = calibrated_probabilities(VALIDATION.logits, facts.temperature)
    assert facts.thresholds == tuple(choose_thresholds(VALIDATION.labels, probabilities).tolist())
    assert facts.record == {"threshold_rule": {"rule": "highest-f1"}}
    assert replace(facts, temperature=1.0, thresholds=(), record={}) == FACTS


def test_thresholds_for_a_specificity_are_chosen_on_validation_records_and_the_rule_is_kept():
    facts = calibrate(FACTS, VALIDATION, 0.9)
    probabilities = calibrated_probabilities(VALIDATION.logits, facts.temperature)
    assert facts.thresholds == tuple(choose_thresholds(VALIDATION.labels, probabilities, 0.9).tolist())
    assert facts.record == {"threshold_rule": {"rule": "specificity", "specificity": 0.9}}
    for k in range(2):
        negatives = probabilities[VALIDATION.labels[:, k] == 0, k]
        assert (negatives < facts.thresholds[k]).mean() >= 0.9
    tested, scores = add_test_scores(facts, DATA, TEST, n_resamples=50, prevalence={"A": 0.02})
    one, other = (scores.classes[name] for name in CLASSES)
    assert (one.prevalence, one.prevalence_stated, other.prevalence_stated) == (0.02, True, False)
    decided = calibrated_probabilities(TEST.logits[:, 0], facts.temperature) >= facts.thresholds[0]
    assert one.specificity == pytest.approx((~decided[TEST.labels[:, 0] == 0]).mean())
    assert tested.evaluation["classes"]["A"]["specificity"] == one.specificity


def test_the_test_scores_are_those_of_calibrated_probabilities_and_change_nothing_that_was_chosen():
    calibrated = calibrate(FACTS, VALIDATION)
    facts, scores = add_test_scores(calibrated, DATA, TEST, n_resamples=50)
    probabilities = calibrated_probabilities(TEST.logits, calibrated.temperature)
    assert scores == evaluate(
        TEST.labels, probabilities, TEST.patients, CLASSES, calibrated.thresholds, stable_seed("made/up"), 50
    )
    assert facts.evaluation == scores.as_dict(bootstrap=False)
    assert facts.metrics == {
        "validation_auroc": 0.9, "auroc_macro": scores.auroc_macro, "auprc_macro": scores.auprc_macro,
        "brier": scores.brier,
    }  # fmt: skip
    assert (facts.temperature, facts.thresholds) == (calibrated.temperature, calibrated.thresholds)


def test_raw_scores_are_less_calibrated_but_rank_the_same():
    raw = score_raw(DATA, VALIDATION, TEST, n_resamples=50)
    _, calibrated = add_test_scores(calibrate(FACTS, VALIDATION), DATA, TEST, n_resamples=50)
    assert raw.auroc_macro == pytest.approx(calibrated.auroc_macro)
    assert raw.brier > calibrated.brier
    thresholds = choose_thresholds(VALIDATION.labels, calibrated_probabilities(VALIDATION.logits, 1.0))
    assert [raw.classes[name].threshold for name in CLASSES] == thresholds.tolist()


def test_records_are_predicted_with_their_own_labels_and_patients():
    network = new_network("gru-w4", 2, 64, 2, seed=0)
    signals = np.random.default_rng(0).normal(0, 1, (60, 2, 64)).astype(np.float32)
    rows = np.array([5, 3, 40])
    found = Predicted.by(network, Examples.of(signals[rows], DATA.labels[rows]), DATA, rows)
    logits = predict_logits(network, torch.from_numpy(signals[rows]))
    np.testing.assert_array_equal(found.logits, logits.numpy())
    np.testing.assert_array_equal(found.labels, TEST.labels[rows])
    np.testing.assert_array_equal(found.patients, rows)
