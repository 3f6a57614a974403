"""The bootstrap resamples patients, in pairs, and its values stay what they were."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

import engine.evaluation.bootstrap
from engine.evaluation.bootstrap import (
    auroc_intervals,
    bootstrap_auroc_macro,
    bootstrap_auroc_per_class,
    exact_interval,
    interval,
    macro_interval,
)
from engine.evaluation.metrics import auroc_per_class


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def labels_of(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[:, None]


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


def test_what_two_networks_both_find_hard_does_not_blur_their_difference(patient_test_set):
    labels, scores, patients = patient_test_set
    other = scores + np.random.default_rng(8).normal(0, 0.3, scores.shape)
    one, paired = (bootstrap_auroc_macro(labels, x, patients, 300, seed=4) for x in (scores, other))
    unpaired = bootstrap_auroc_macro(labels, other, patients, 300, seed=5)
    assert np.std(one - paired) < np.std(one - unpaired) / 2


def test_the_bootstrap_depends_on_its_seed(patient_test_set):
    once, again, other = (bootstrap_auroc_macro(*patient_test_set, 50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert not np.any(once == other)


def test_the_bootstrap_draws_whole_patients(patient_test_set):
    """A second copy of each record, under its patient, is not new information: nothing changes."""
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


def test_the_values_of_the_bootstrap_are_those_of_the_stored_runs():
    """Curves rest on resamples of earlier versions: the stream of patients and the score of a resample must stay."""
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(0, 2, (30, 2)).astype(np.uint8), rng.integers(0, 9, (30, 2)) / 8
    values = bootstrap_auroc_macro(labels, scores, rng.integers(0, 12, 30), 4, seed=5)
    assert values.tolist() == [0.618150398484968, 0.30830627705627706, 0.3658008658008658, 0.5270737986270022]


@pytest.mark.parametrize("records_at_a_time", [1, 1000, 300 * 7 + 1])
def test_the_bootstrap_does_not_depend_on_how_much_is_held_at_a_time(patient_test_set, monkeypatch, records_at_a_time):
    whole = bootstrap_auroc_per_class(*patient_test_set, 50, seed=1)
    monkeypatch.setattr(engine.evaluation.bootstrap, "_BLOCK", records_at_a_time)
    np.testing.assert_array_equal(bootstrap_auroc_per_class(*patient_test_set, 50, seed=1), whole)


def test_a_resample_scores_as_its_records_do(patient_test_set):
    """Every patient once is the test set itself; the mean over classes is the macro value."""
    labels, scores, patients = patient_test_set
    per_class = bootstrap_auroc_per_class(labels, scores, patients, 30, seed=2)
    assert per_class.shape == (2, 30)
    macro = bootstrap_auroc_macro(labels, scores, patients, 30, seed=2)
    np.testing.assert_allclose(per_class.mean(axis=0), macro, rtol=1e-14)
    alone = bootstrap_auroc_per_class(labels, scores, np.zeros(len(labels), np.int64), 3, seed=2)
    np.testing.assert_array_equal(alone, np.repeat(auroc_per_class(labels, scores)[:, None], 3, axis=1))


def test_an_interval_leaves_out_what_is_nan():
    assert interval(np.array([np.nan, *np.linspace(0, 1, 101)])) == (pytest.approx(0.05), pytest.approx(0.95))
    assert np.isnan(interval(np.array([np.nan]))).all()


@pytest.mark.parametrize("patients", [1, 2, 3, 10, 58, 1000])
def test_the_interval_of_a_perfect_area_is_clopper_and_pearsons_of_as_many_pairs(patients: int):
    exact = binomtest(patients, patients).proportion_ci(0.9, "exact")
    assert exact_interval(1.0, patients) == pytest.approx((exact.low, 1.0))
    assert exact_interval(0.0, patients) == pytest.approx((0.0, 1 - exact.low))


@pytest.mark.parametrize(("patients", "lower"), [(1, 0.05), (3, 0.368), (10, 0.741)])
def test_a_handful_of_positives_leaves_a_perfect_area_open_below(patients: int, lower: float):
    assert exact_interval(1.0, patients)[0] == pytest.approx(lower, abs=5e-4)


@pytest.mark.parametrize("share", [0.9, 0.75, 0.5])
def test_the_interval_of_a_perfect_area_misses_no_more_than_it_says_where_positives_are_of_two_kinds(share: float):
    """So much of the positives lies above all negatives, the rest below: the area is ``share``."""
    rng = np.random.default_rng(0)
    perfect = (rng.random((20_000, 3)) < share).all(axis=1)  # three positives, any number of negatives
    missed = perfect & (share < exact_interval(1.0, 3)[0])
    assert missed.mean() <= 0.05


def perfect_set(n_positive: int, n_negative: int, per_patient: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and patients of one class that is told apart perfectly."""
    labels = np.repeat(np.r_[np.ones(n_positive), np.zeros(n_negative)], per_patient).astype(np.uint8)[:, None]
    return labels, np.linspace(1, 0, len(labels))[:, None], np.repeat(np.arange(n_positive + n_negative), per_patient)


@pytest.mark.parametrize("auroc", [1.0, 0.0])
def test_the_interval_of_a_perfect_class_counts_patients_of_the_rarer_outcome_not_records(auroc: float):
    labels, scores, patients = perfect_set(3, 40)
    scores = scores if auroc else -scores
    per_class, found = bootstrap_auroc_per_class(labels, scores, patients, 200, seed=0), auroc_per_class(labels, scores)
    assert found == auroc
    assert interval(per_class[0]) == (auroc, auroc), "what the resamples alone would say"
    ends = auroc_intervals(per_class, found, labels, patients)
    np.testing.assert_array_equal(ends, [exact_interval(auroc, 3)])
    turned = auroc_intervals(per_class, found, 1 - labels, patients)
    np.testing.assert_array_equal(turned, [exact_interval(auroc, 3)])


def test_one_pair_in_the_wrong_order_does_not_make_a_handful_of_positives_sure():
    labels, scores, patients = perfect_set(3, 197, per_patient=1)
    scores[2], scores[3] = scores[3].copy(), scores[2].copy()
    per_class, found = bootstrap_auroc_per_class(labels, scores, patients, 200, seed=0), auroc_per_class(labels, scores)
    assert 0.99 < found[0] < 1
    (lower, upper), *_ = auroc_intervals(per_class, found, labels, patients)
    assert lower == pytest.approx(exact_interval(float(found[0]), 3)[0]) and lower < 0.4
    assert upper == pytest.approx(1, abs=0.01)


def test_an_interval_stays_that_of_the_resamples_where_they_differ(patient_test_set):
    labels, scores, patients = patient_test_set
    per_class, auroc = bootstrap_auroc_per_class(labels, scores, patients, 100, 0), auroc_per_class(labels, scores)
    ends = auroc_intervals(per_class, auroc, labels, patients)
    np.testing.assert_array_equal(ends, [interval(values) for values in per_class])
    both = np.array([True, True])
    assert macro_interval(per_class, both, ends) == interval(per_class.mean(axis=0))


def test_a_perfect_class_widens_the_interval_of_the_mean_by_its_own_share(patient_test_set):
    labels, scores, patients = patient_test_set
    scores = np.column_stack([scores[:, 0], labels[:, 1] + 0.1 * scores[:, 1] / np.abs(scores).max()])
    per_class, auroc = bootstrap_auroc_per_class(labels, scores, patients, 100, 0), auroc_per_class(labels, scores)
    assert auroc[1] == 1 > auroc[0]
    ends = auroc_intervals(per_class, auroc, labels, patients)
    rarer = min(len(np.unique(patients[labels[:, 1] == outcome])) for outcome in (0, 1))
    found = macro_interval(per_class, np.array([True, True]), ends)
    lower, upper = interval(per_class.mean(axis=0))
    assert found == pytest.approx((lower - (1 - 0.05 ** (1 / rarer)) / 2, upper))
    alone = macro_interval(per_class, np.array([False, True]), ends)
    assert alone == pytest.approx(exact_interval(1.0, rarer))
    assert macro_interval(per_class, np.array([True, False]), ends) == interval(per_class[0])


def test_a_perfect_class_without_resamples_has_no_interval():
    labels, _, patients = perfect_set(3, 40)
    ends = auroc_intervals(np.empty((1, 0)), np.ones(1), labels, patients)
    assert np.isnan(ends).all()
    assert np.isnan(macro_interval(np.empty((1, 0)), np.array([True]), ends)).all()
    assert np.isnan(macro_interval(np.empty((1, 0)), np.array([False]), ends)).all()
