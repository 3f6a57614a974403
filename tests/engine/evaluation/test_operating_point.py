"""Sensitivity, specificity and predictive values by pen and paper, and how often their intervals hold the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import precision_score, recall_score

from engine.evaluation.operating_point import (
    OperatingPointError,
    check_specificity,
    operating_point,
    predictive_value,
    proportion,
    stated_prevalence,
)

no_clock = settings(deadline=None)
TRUE, FALSE = True, False


def share(right: int, n: int) -> tuple[float, float, float]:
    """So many of ``n`` right decisions, each about another patient."""
    return proportion(np.arange(n) < right, np.arange(n))


def test_the_values_are_scikit_learns_at_the_records_own_prevalence():
    rng = np.random.default_rng(3)
    positive, decided = rng.random(200) < 0.3, rng.random(200) < 0.4
    found = operating_point(positive, decided, np.arange(200) // 2, 0.25)
    assert found.sensitivity == pytest.approx(recall_score(positive, decided))
    assert found.specificity == pytest.approx(recall_score(~positive, ~decided))
    assert found.ppv == pytest.approx(precision_score(positive, decided))
    assert found.npv == pytest.approx(precision_score(~positive, ~decided))
    assert (found.positives, found.negatives) == (positive.sum(), (~positive).sum())
    assert found.positive_patients == len(set((np.arange(200) // 2)[positive]))
    assert (found.prevalence, found.prevalence_stated, found.threshold) == (positive.mean(), False, 0.25)


def test_predictive_values_at_a_stated_prevalence_are_bayes():
    positive = np.repeat([TRUE, FALSE], [10, 20])
    decided = np.r_[np.arange(10) < 8, np.arange(20) < 2]
    found = operating_point(positive, decided, np.arange(30), 0.5, 0.02)
    assert found.ppv == pytest.approx(0.8 * 0.02 / (0.8 * 0.02 + 0.1 * 0.98))
    assert found.npv == pytest.approx(0.9 * 0.98 / (0.9 * 0.98 + 0.2 * 0.02))
    assert (found.prevalence, found.prevalence_stated) == (0.02, True)


@pytest.mark.parametrize(("right", "n"), [(0, 4), (4, 4), (9, 11), (11, 11), (95, 100)])
def test_with_a_record_a_patient_the_interval_is_clopper_and_pearsons(right: int, n: int):
    exact = binomtest(right, n).proportion_ci(0.9, "exact")
    assert share(right, n) == pytest.approx((right / n, exact.low, exact.high))


@pytest.mark.parametrize("right", [3, 7, 8])
def test_records_of_a_patient_that_all_say_the_same_count_once(right: int):
    outcomes, patients = np.repeat(np.arange(8) < right, 5), np.repeat(np.arange(8), 5)
    assert proportion(outcomes, patients) == pytest.approx(share(right, 8))


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
@no_clock
def test_patients_widen_an_interval_and_never_narrow_it(records):
    patients, outcomes = (np.array(values) for values in zip(*records, strict=True))
    value, lower, upper = proportion(outcomes.astype(bool), patients)
    _, low, high = proportion(outcomes.astype(bool), np.arange(len(records)))
    assert 0 <= lower <= low + 1e-12
    assert high - 1e-12 <= upper <= 1
    assert lower <= value <= upper


@pytest.mark.parametrize(("n_patients", "per_patient"), [(11, 1), (30, 1), (11, 3), (30, 3)])
@pytest.mark.parametrize("truth", [0.7, 0.9, 0.97])
def test_an_interval_holds_the_truth_as_often_as_it_says(n_patients: int, per_patient: int, truth: float):
    """Patients differ: their own shares are of a beta distribution, correlation 0.5 within a patient."""
    rng, patients = np.random.default_rng(0), np.repeat(np.arange(n_patients), per_patient)
    held = 0
    for _ in range(400):
        own = np.repeat(rng.beta(truth, 1 - truth, n_patients), per_patient)
        _, lower, upper = proportion(rng.random(len(patients)) < own, patients)
        held += lower <= truth <= upper
    assert held / 400 >= 0.88


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "positives", "negatives"), [(0.9, 0.95, 11, 61), (0.7, 0.99, 20, 200)]
)
@pytest.mark.parametrize("prevalence", [0.02, 0.2])
def test_an_interval_of_a_predictive_value_holds_the_truth(sensitivity, specificity, positives, negatives, prevalence):
    rng, held, known = np.random.default_rng(1), 0, 0
    right, wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    for _ in range(400):
        found = share(int(rng.binomial(positives, sensitivity)), positives)
        spared = share(int(rng.binomial(negatives, specificity)), negatives)
        value, lower, upper = predictive_value(found, spared, prevalence)
        known += not math.isnan(value)
        held += lower <= right / (right + wrong) <= upper
    assert known >= 398
    assert held / 400 >= 0.88


def test_perfect_decisions_leave_a_predictive_value_open_below():
    value, lower, upper = predictive_value(share(11, 11), share(61, 61), 0.02)
    assert (value, upper) == (1.0, 1.0)
    assert 0.2 < lower < 0.5, "one in 21 negatives may be decided present, at 49 negatives a positive"
    assert predictive_value(share(0, 11), share(50, 61), 0.02)[:2] == (0.0, 0.0)
    assert 0 < predictive_value(share(0, 11), share(50, 61), 0.02)[2] < 0.1


def test_the_ratio_s_interval_is_donner_and_zous():
    (p, l1, u1), (q, l2, u2) = share(9, 11), (1 - np.array(share(52, 61)))[[0, 2, 1]]
    low = (p * q - math.sqrt((p * q) ** 2 - l1 * u2 * (2 * p - l1) * (2 * q - u2))) / (u2 * (2 * q - u2))
    high = (p * q + math.sqrt((p * q) ** 2 - u1 * l2 * (2 * p - u1) * (2 * q - l2))) / (l2 * (2 * q - l2))
    expected = [0.1 * ratio / (0.1 * ratio + 0.9) for ratio in (p / q, low, high)]
    assert predictive_value(share(9, 11), share(52, 61), 0.1) == pytest.approx(expected)


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0.001, 0.998))
@no_clock
def test_a_predictive_value_lies_in_its_interval_and_rises_with_prevalence(right: int, spared: int, prevalence: float):
    found = predictive_value(share(right, 12), share(spared, 12), prevalence)
    if right == 0 and spared == 12:
        assert all(math.isnan(one) for one in found), "nobody gets the decision"
        return
    assert 0 <= found[1] <= found[0] <= found[2] <= 1
    more = predictive_value(share(right, 12), share(spared, 12), prevalence + 0.001)
    assert all(one <= other + 1e-12 for one, other in zip(found, more, strict=True))


def test_what_the_records_do_not_allow_is_nan():
    found = operating_point(np.zeros(5, bool), np.arange(5) < 2, np.arange(5), 0.5, 0.1)
    assert math.isnan(found.sensitivity)
    assert math.isnan(found.sensitivity_ci_lower)
    assert math.isnan(found.ppv)
    assert (found.specificity, found.positives, found.positive_patients) == (0.6, 0, 0)


def test_a_prevalence_is_stated_for_all_or_by_the_names_that_a_label_has():
    classes = ("AF", "LBBB", "mine")
    assert stated_prevalence(0.02, classes) == dict.fromkeys(classes, 0.02)
    assert stated_prevalence({"atrial fibrillation": 0.1, "mine": 0.3}, classes) == {"AF": 0.1, "mine": 0.3}
    both = ("AF", "AFIB")
    assert stated_prevalence({"AFIB": 0.1}, both) == {"AFIB": 0.1}, "the exact name before another of the finding"
    refused = {0.0: "0 cannot be stated", 1.0: "1 cannot", math.nan: "nan cannot"}
    for wrong, says in (*refused.items(), ({"AF": 2.0}, "2 cannot"), ({"PACE": 0.1}, "PACE, .* none of AF, LBBB")):
        with pytest.raises(OperatingPointError, match=says):
            stated_prevalence(wrong, classes)


def test_a_specificity_lies_between_0_and_1():
    assert check_specificity(0.95) == 0.95
    for wrong in (0, 1, -0.1, 95, math.nan):
        with pytest.raises(OperatingPointError, match="cannot be asked for"):
            check_specificity(wrong)
