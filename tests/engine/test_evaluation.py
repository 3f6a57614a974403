"""Scores agree with scikit-learn and with pen and paper; the bootstrap resamples patients, in pairs."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

import engine.evaluation
from engine.calibration import expected_calibration_error
from engine.evaluation import (
    auroc_macro,
    auroc_per_class,
    average_precision_macro,
    average_precision_per_class,
    bootstrap_auroc_macro,
    bootstrap_auroc_per_class,
    brier_score,
    compare,
    evaluate,
    f1_per_class,
    f1_weighted,
    interval,
    paired_bootstrap,
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


@given(scored_records())
@no_clock
def test_average_precision_is_scikit_learns_with_ties(records):
    labels, scores, _ = records
    if labels.all() or not labels.any():
        assert np.isnan(average_precision_per_class(labels, scores)).all()
    else:
        expected = average_precision_score(labels[:, 0], scores[:, 0])
        np.testing.assert_allclose(average_precision_per_class(labels, scores), [expected], atol=1e-12)


@given(scored_records(), st.sampled_from([np.exp, np.cbrt, lambda x: 7 * x - 3]))
@no_clock
def test_a_monotone_map_of_the_scores_changes_neither_area(records, increasing):
    labels, scores, _ = records
    np.testing.assert_array_equal(auroc_per_class(labels, scores), auroc_per_class(labels, increasing(scores)))
    one, other = (average_precision_per_class(labels, x) for x in (scores, increasing(scores)))
    np.testing.assert_array_equal(one, other)


@given(scored_records())
@no_clock
def test_reversed_scores_have_the_complement_of_the_auroc(records):
    labels, scores, _ = records
    np.testing.assert_allclose(auroc_per_class(labels, scores) + auroc_per_class(labels, -scores), 1, atol=1e-12)


@given(scored_records(), st.floats(-0.5, 0.5))
@no_clock
def test_f1_is_scikit_learns(records, threshold):
    labels, scores, _ = records
    expected = f1_score(labels[:, 0], scores[:, 0] >= threshold, zero_division=0)
    np.testing.assert_allclose(f1_per_class(labels, scores, threshold), [expected])


def test_each_class_has_its_own_threshold():
    labels = np.array([[1, 1], [0, 0]], np.uint8)
    scores = np.array([[0.6, 0.6], [0.4, 0.4]])
    np.testing.assert_allclose(f1_per_class(labels, scores, np.array([0.5, 0.3])), [1, 2 / 3])
    assert f1_per_class(labels, scores, np.array([0.6, 0.7])).tolist() == [1, 0], "the threshold itself is accepted"


def test_the_weighted_f1_is_scikit_learns():
    rng = np.random.default_rng(5)
    labels, scores = (rng.random((60, 4)) < [0.1, 0.4, 0.8, 0.0]).astype(np.uint8), rng.random((60, 4))
    expected = f1_score(labels, scores >= 0.5, average="weighted", zero_division=0)
    assert f1_weighted(labels, scores) == pytest.approx(expected)


def test_f1_is_nan_without_a_positive_or_with_a_broken_score():
    assert np.isnan(f1_per_class(labels_of(0, 0), column(0.1, 0.9), 0.5)).all()
    assert np.isnan(f1_per_class(labels_of(0, 1), column(np.nan, 0.9), 0.5)).all()
    assert np.isnan(f1_weighted(labels_of(0, 0), column(0.1, 0.9)))


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


def test_a_score_that_is_nan_has_no_average_precision():
    assert np.isnan(average_precision_macro(labels_of(0, 1, 1), column(0.1, np.nan, 0.9)))


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


def test_the_values_of_the_bootstrap_are_those_of_the_stored_runs():
    """Curves rest on resamples of earlier versions: the stream of patients and the score of a resample must stay."""
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(0, 2, (30, 2)).astype(np.uint8), rng.integers(0, 9, (30, 2)) / 8
    values = bootstrap_auroc_macro(labels, scores, rng.integers(0, 12, 30), 4, seed=5)
    assert values.tolist() == [0.618150398484968, 0.30830627705627706, 0.3658008658008658, 0.5270737986270022]


@pytest.mark.parametrize("records_at_a_time", [1, 1000, 300 * 7 + 1])
def test_the_bootstrap_does_not_depend_on_how_much_is_held_at_a_time(patient_test_set, monkeypatch, records_at_a_time):
    whole = bootstrap_auroc_per_class(*patient_test_set, 50, seed=1)
    monkeypatch.setattr(engine.evaluation, "_BLOCK", records_at_a_time)
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


def test_two_equal_networks_differ_by_exactly_nothing(patient_test_set):
    labels, scores, patients = patient_test_set
    assert paired_bootstrap(labels, scores, scores.copy(), patients, 50, seed=0).tolist() == [0.0] * 50


def test_the_paired_bootstrap_is_the_difference_on_the_same_resamples(patient_test_set):
    labels, scores, patients = patient_test_set
    other = scores + np.random.default_rng(8).normal(0, 0.3, scores.shape)
    differences = paired_bootstrap(labels, scores, other, patients, 300, seed=4)
    one, two = (bootstrap_auroc_macro(labels, x, patients, 300, seed=4) for x in (scores, other))
    np.testing.assert_array_equal(differences, one - two)
    np.testing.assert_array_equal(differences, -paired_bootstrap(labels, other, scores, patients, 300, seed=4))
    unpaired = one - bootstrap_auroc_macro(labels, other, patients, 300, seed=5)
    assert np.std(differences) < np.std(unpaired) / 2, "what both networks find hard does not blur the difference"


def test_a_comparison_holds_the_observed_difference_and_its_interval(patient_test_set):
    labels, scores, patients = patient_test_set
    worse = np.random.default_rng(8).random(scores.shape)
    found = compare(labels, scores, worse, patients, 300, seed=4)
    assert found.difference == auroc_macro(labels, scores) - auroc_macro(labels, worse)
    resampled = paired_bootstrap(labels, scores, worse, patients, 300, seed=4)
    assert np.mean(resampled < found.difference_ci_lower) == pytest.approx(0.05, abs=0.005)
    assert np.mean(resampled > found.difference_ci_upper) == pytest.approx(0.05, abs=0.005)


def test_an_interval_leaves_out_what_is_nan():
    assert interval(np.array([np.nan, *np.linspace(0, 1, 101)])) == (pytest.approx(0.05), pytest.approx(0.95))
    assert np.isnan(interval(np.array([np.nan]))).all()


@pytest.fixture
def tested(patient_test_set) -> dict:
    """Arguments of evaluate: probabilities of two classes with both outcomes and one without a positive."""
    labels, scores, patients = patient_test_set
    probabilities = np.column_stack([1 / (1 + np.exp(0.5 - scores)), np.full(len(labels), 0.2)]).astype(np.float32)
    labels = np.column_stack([labels, np.zeros(len(labels), np.uint8)])
    return {
        "labels": labels, "probabilities": probabilities, "patients": patients, "classes": ("A", "B", "C"),
        "thresholds": [0.4, 0.6, 0.5], "seed": 9, "n_resamples": 100,
    }  # fmt: skip


def test_an_evaluation_holds_every_score(tested):
    found = evaluate(**tested)
    labels, probabilities, patients = (tested[name] for name in ("labels", "probabilities", "patients"))
    assert (found.n_records, found.n_patients, found.left_out) == (300, 60, ("C",))
    assert found.auroc_macro == auroc_macro(labels, probabilities)
    assert found.auprc_macro == average_precision_macro(labels, probabilities)
    assert found.brier == brier_score(labels, probabilities)
    assert found.ece == expected_calibration_error(labels, probabilities)
    by_class = [f1_score(labels[:, k], probabilities[:, k] >= (0.4, 0.6)[k]) for k in range(2)]
    assert found.f1_macro == pytest.approx(np.mean(by_class))
    weighted = f1_score(labels, probabilities >= 0.5, average="weighted", zero_division=0)
    assert found.f1_weighted_at_half == pytest.approx(weighted)
    np.testing.assert_array_equal(found.bootstrap, bootstrap_auroc_macro(labels, probabilities, patients, 100, seed=9))
    assert (found.auroc_macro_ci_lower, found.auroc_macro_ci_upper) == interval(found.bootstrap)


def test_an_evaluation_holds_every_class(tested):
    found = evaluate(**tested)
    labels, probabilities, patients = (tested[name] for name in ("labels", "probabilities", "patients"))
    per_class = bootstrap_auroc_per_class(labels, probabilities, patients, 100, seed=9)
    assert list(found.classes) == ["A", "B", "C"]
    for k, name in enumerate("AB"):
        one = found.classes[name]
        assert one.auroc == auroc_per_class(labels, probabilities)[k]
        assert (one.auroc_ci_lower, one.auroc_ci_upper) == interval(per_class[k])
        assert one.auprc == pytest.approx(average_precision_score(labels[:, k], probabilities[:, k]))
        assert one.f1 == pytest.approx(f1_score(labels[:, k], probabilities[:, k] >= one.threshold))
        assert (one.threshold, one.positives) == (tested["thresholds"][k], labels[:, k].sum())
    without = found.classes["C"]
    assert np.isnan([without.auroc, without.auroc_ci_lower, without.auprc, without.f1]).all()
    assert (without.threshold, without.positives) == (0.5, 0)


def test_an_evaluation_as_json_has_null_for_what_cannot_be_given(tested):
    document = evaluate(**tested).as_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["classes"]["C"]["auroc"] is None
    assert document["left_out"] == ["C"]
    assert len(document["bootstrap"]) == 100
    assert evaluate(**tested).as_dict(bootstrap=False) == {k: v for k, v in document.items() if k != "bootstrap"}


def test_an_evaluation_without_resamples_has_no_interval(tested):
    found = evaluate(**{**tested, "n_resamples": 0})
    assert np.isnan([found.auroc_macro_ci_lower, found.classes["A"].auroc_ci_upper]).all()
    assert np.isfinite(found.auroc_macro)
    assert found.as_dict()["bootstrap"] == []


def test_an_evaluation_of_a_single_outcome_leaves_every_class_out_without_a_warning(tested):
    found = evaluate(**{**tested, "labels": np.zeros_like(tested["labels"])})
    assert found.left_out == ("A", "B", "C")
    assert np.isnan([found.auroc_macro, found.auprc_macro, found.f1_macro, found.f1_weighted_at_half]).all()
    assert np.isfinite([found.brier, found.ece]).all()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda t: {"thresholds": t["thresholds"][:2]}, id="a threshold too few"),
        pytest.param(lambda t: {"classes": ("A",)}, id="a class name too few"),
        pytest.param(lambda t: {"patients": t["patients"][1:]}, id="a patient too few"),
        pytest.param(lambda t: {"probabilities": t["probabilities"][1:]}, id="a record too few"),
        pytest.param(
            lambda t: {name: t[name][:0] for name in ("labels", "probabilities", "patients")}, id="no record at all"
        ),
        pytest.param(lambda t: {"probabilities": t["probabilities"] * np.nan}, id="probabilities that are NaN"),
        pytest.param(lambda t: {"probabilities": 9 * t["probabilities"] - 4}, id="logits in place of probabilities"),
    ],
)
def test_an_evaluation_of_what_does_not_go_together_is_refused(tested, change):
    with pytest.raises(ValueError, match="together|probabilities"):
        evaluate(**{**tested, **change(tested)})
