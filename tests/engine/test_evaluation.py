"""Scores agree with scikit-learn and with pen and paper; the bootstrap resamples patients, in pairs."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from engine.evaluation import (
    auroc_macro,
    auroc_per_class,
    average_precision_macro,
    bootstrap_auroc_macro,
    brier_score,
)

no_clock = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def labels_of(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[:, None]


@st.composite
def scored_records(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (records, 1) with both outcomes, scores with many ties, whole-number weights."""
    n = draw(st.integers(2, 40))
    labels = [0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))]
    scores = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
    weights = draw(st.lists(st.integers(1, 5), min_size=n, max_size=n))
    return labels_of(*labels), column(*scores) / 7, np.array(weights, np.float64)


@given(scored_records())
@no_clock
def test_auroc_is_scikit_learns_with_ties(records):
    labels, scores, _ = records
    np.testing.assert_allclose(auroc_per_class(labels, scores), [roc_auc_score(labels[:, 0], scores[:, 0])], atol=1e-12)


@given(scored_records())
@no_clock
def test_auroc_is_scikit_learns_with_sample_weights(records):
    labels, scores, weights = records
    expected = roc_auc_score(labels[:, 0], scores[:, 0], sample_weight=weights)
    np.testing.assert_allclose(auroc_per_class(labels, scores, weights), [expected], atol=1e-12)


def test_auroc_by_hand():
    labels = labels_of(0, 0, 1, 1)
    assert auroc_macro(labels, column(0.1, 0.2, 0.3, 0.4)) == 1.0
    assert auroc_macro(labels, column(0.4, 0.3, 0.2, 0.1)) == 0.0
    assert auroc_macro(labels, column(0.1, 0.3, 0.2, 0.4)) == 0.75
    assert auroc_macro(labels, column(0.1, 0.2, 0.2, 0.4)) == 0.875, "a tie counts one half"
    assert auroc_macro(labels, column(0.5, 0.5, 0.5, 0.5)) == 0.5


def test_a_weight_counts_a_record_so_many_times_and_zero_leaves_it_out():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, (30, 3)).astype(np.uint8), rng.integers(0, 9, (30, 3)) / 8
    weights = rng.integers(0, 4, 30)
    repeated = np.repeat(np.arange(30), weights)
    np.testing.assert_allclose(
        auroc_per_class(labels, scores, weights.astype(np.float64)),
        auroc_per_class(labels[repeated], scores[repeated]),
        rtol=1e-12,
    )


def test_each_class_is_scored_from_its_own_column():
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, (50, 4)).astype(np.uint8), rng.random((50, 4), np.float32)
    expected = [roc_auc_score(labels[:, k], scores[:, k]) for k in range(4)]
    np.testing.assert_allclose(auroc_per_class(labels, scores), expected, rtol=1e-12)
    assert auroc_macro(labels, scores) == pytest.approx(np.mean(expected), rel=1e-12)


def test_a_class_with_one_outcome_has_no_auroc_and_the_macro_mean_leaves_it_out():
    labels = np.array([[0, 1, 0], [0, 1, 1], [1, 1, 0], [1, 1, 1]], np.uint8)
    scores = np.array([[0.1, 0.9, 0.4], [0.2, 0.8, 0.6], [0.3, 0.7, 0.7], [0.4, 0.6, 0.5]])
    np.testing.assert_array_equal(auroc_per_class(labels, scores), [1.0, np.nan, 0.5])
    np.testing.assert_array_equal(auroc_per_class(1 - labels, 1 - scores), [1.0, np.nan, 0.5])
    assert auroc_macro(labels, scores) == 0.75


def test_a_class_whose_positives_all_weigh_nothing_has_no_auroc():
    per_class = auroc_per_class(labels_of(0, 0, 1), column(0.1, 0.2, 0.3), np.array([1.0, 1.0, 0.0]))
    assert np.isnan(per_class).tolist() == [True]


def test_scores_are_nan_without_a_warning_when_no_class_has_both_outcomes():
    labels, scores = np.zeros((3, 2), np.uint8), np.random.default_rng(0).random((3, 2))
    assert np.isnan(auroc_macro(labels, scores))
    assert np.isnan(average_precision_macro(labels, scores))


def test_scores_that_are_nan_have_no_auroc():
    """A broken network must never look perfect: these records come with the positives last."""
    with np.errstate(all="ignore"):
        per_class = auroc_per_class(labels_of(0, 0, 1, 1), np.full((4, 1), np.nan))
    assert np.isnan(per_class).tolist() == [True]


def test_average_precision_by_hand_over_the_classes_with_both_outcomes():
    labels = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]], np.uint8)
    scores = np.repeat(column(0.9, 0.8, 0.7, 0.6), 3, axis=1)
    # Of the two positives the first is found with precision 1, the second with 2/3, each at half the recall.
    assert average_precision_macro(labels, scores) == pytest.approx(5 / 6)


def test_average_precision_is_scikit_learns_mean_over_classes():
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 2, (40, 3)).astype(np.uint8), rng.integers(0, 10, (40, 3)) / 10
    expected = average_precision_score(labels, scores, average="macro")
    assert average_precision_macro(labels, scores) == pytest.approx(expected)


def test_brier_score_by_hand():
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    assert brier_score(labels, np.array([[0.9, 0.2], [0.5, 0.5]])) == pytest.approx((0.01 + 0.04 + 0.25 + 0.25) / 4)
    assert brier_score(labels, labels.astype(np.float32)) == 0.0
    assert brier_score(labels, 1 - labels.astype(np.float32)) == 1.0


@pytest.fixture
def patient_test_set() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and scores of 60 patients with 5 records each that are nearly copies of one another; 2 classes."""
    rng = np.random.default_rng(3)
    patients = rng.permutation(np.repeat(np.arange(1000, 1060), 5))
    label_of = rng.integers(0, 2, (60, 2))
    score_of = label_of + rng.normal(0, 1.2, (60, 2))
    labels = label_of[patients - 1000].astype(np.uint8)
    return labels, score_of[patients - 1000] + rng.normal(0, 0.01, labels.shape), patients


def test_the_bootstrap_is_paired_two_networks_get_the_same_resamples(patient_test_set):
    labels, scores, patients = patient_test_set
    values = bootstrap_auroc_macro(labels, scores, patients, 200, seed=5)
    same_order = bootstrap_auroc_macro(labels, np.exp(3 * scores - 1), patients, 200, seed=5)
    reverse_order = bootstrap_auroc_macro(labels, -scores, patients, 200, seed=5)
    np.testing.assert_array_equal(values, same_order)
    np.testing.assert_allclose(values, 1 - reverse_order, atol=1e-12)
    assert len(set(values.tolist())) > 100, "the resamples differ from each other"


def test_the_bootstrap_depends_on_its_seed(patient_test_set):
    once, again, other = (bootstrap_auroc_macro(*patient_test_set, 50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert not np.any(once == other)


def test_the_bootstrap_draws_whole_patients(patient_test_set):
    """A second copy of each record, under its patient, is no new information: nothing changes."""
    labels, scores, patients = patient_test_set
    twice = np.tile(np.arange(len(labels)), 2)
    np.testing.assert_allclose(
        bootstrap_auroc_macro(labels, scores, patients, 100, seed=7),
        bootstrap_auroc_macro(labels[twice], scores[twice], patients[twice], 100, seed=7),
        rtol=1e-12,
    )


def test_the_bootstrap_keeps_the_records_of_a_patient_together():
    """Each patient has one positive above one negative record, and a distance from all others: AUROC shows who came."""
    labels = np.tile(np.array([[0], [1]], np.uint8), (2, 1))
    scores, patients = column(0.0, 1.0, 2.0, 3.0), np.array([4, 4, 9, 9])
    values = bootstrap_auroc_macro(labels, scores, patients, 400, seed=0)
    # One patient twice scores 1; both once score 3 of 4 pairs. A record-wise draw would give other values too.
    assert set(values.tolist()) == {1.0, 0.75}
    assert np.mean(values == 1.0) == pytest.approx(0.5, abs=0.1)  # 4 standard errors


def test_the_bootstrap_spreads_as_a_plain_loop_over_patients_does(patient_test_set):
    labels, scores, patients = patient_test_set
    rng = np.random.default_rng(11)
    rows_of = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    by_hand = []
    for _ in range(400):
        rows = np.concatenate([rows_of[i] for i in rng.choice(60, 60)])
        by_hand.append(roc_auc_score(labels[rows], scores[rows], average="macro"))
    values = bootstrap_auroc_macro(labels, scores, patients, 2000, seed=0)
    assert values.shape == (2000,)
    # Drawn record by record the spread would be less than half of this.
    assert np.std(values) == pytest.approx(np.std(by_hand), rel=0.2)
    assert np.mean(values) == pytest.approx(np.mean(by_hand), abs=4 * np.std(by_hand) / 20)


def test_a_resample_without_both_outcomes_in_any_class_is_nan_without_a_warning():
    """Of three patients one is positive: three draws in ten miss it."""
    values = bootstrap_auroc_macro(labels_of(0, 0, 1), column(0.1, 0.2, 0.3), np.arange(3), 200, seed=0)
    assert np.isnan(values).any()
    assert set(values[np.isfinite(values)].tolist()) == {1.0}
