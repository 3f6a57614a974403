"""Temperature and thresholds are the optimum, by brute force; the calibration error is its definition."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, log_loss

from engine.evaluation.calibration import (
    TEMPERATURE_BOUNDS,
    calibrated_probabilities,
    choose_thresholds,
    describe_few_negatives,
    describe_rule,
    expected_calibration_error,
    fit_temperature,
)
from engine.evaluation.metrics import auroc_per_class, f1_weighted

no_clock = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def labels_of(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[:, None]


@st.composite
def records_with(draw: st.DrawFn, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and values (records, classes), values with many ties."""
    shape = (draw(st.integers(1, 30)), draw(st.integers(1, 3)))
    labels = draw(arrays(np.uint8, shape, elements=st.integers(0, 1)))
    values = draw(arrays(np.int64, shape, elements=st.integers(0, 12)))
    return labels, low + (high - low) * values / 12


logits_of_records, probabilities_of_records = records_with(-3, 3), records_with(0, 1)


def overconfident(temperature: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of known probability, two classes, and logits that are ``temperature`` times too large."""
    rng = np.random.default_rng(0)
    truth = rng.normal(-1, 1.5, (n, 2))
    labels = (rng.random((n, 2)) < 1 / (1 + np.exp(-truth))).astype(np.uint8)
    return labels, (temperature * truth).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_logits_too_large_or_small_is_found(temperature):
    assert fit_temperature(*overconfident(temperature)) == pytest.approx(temperature, rel=0.03)


def test_calibration_lowers_the_calibration_error_of_an_overconfident_network():
    labels, logits = overconfident(3.0)
    before, after = (
        expected_calibration_error(labels, calibrated_probabilities(logits, temperature))
        for temperature in (1.0, fit_temperature(labels, logits))
    )
    assert before > 0.05
    assert after < 0.01


@given(logits_of_records, st.floats(*TEMPERATURE_BOUNDS))
@no_clock
def test_no_other_temperature_has_a_lower_cross_entropy(records, other):
    labels, logits = records

    def loss(temperature: float) -> float:
        probabilities = calibrated_probabilities(logits, temperature).ravel()
        return log_loss(labels.ravel(), probabilities, labels=[0, 1])

    found = fit_temperature(labels, logits)
    assert TEMPERATURE_BOUNDS[0] - 1e-9 <= found <= TEMPERATURE_BOUNDS[1] + 1e-9
    assert loss(found) <= loss(other) + 1e-9


@given(logits_of_records, st.floats(0.5, 2.0))
@no_clock
def test_logits_so_many_times_as_large_get_a_temperature_so_many_times_as_high(records, factor):
    labels, logits = records
    found = fit_temperature(labels, logits)
    if 0.21 < found < 4.9 and logits.any():  # away from the bounds
        assert fit_temperature(labels, factor * logits) == pytest.approx(factor * found, rel=1e-3)


def test_records_told_apart_perfectly_or_the_wrong_way_round_get_the_bounds():
    labels, logits = labels_of(0, 0, 1, 1), column(-2.0, -1.0, 1.0, 2.0)
    assert fit_temperature(labels, logits) == pytest.approx(TEMPERATURE_BOUNDS[0])
    assert fit_temperature(1 - labels, logits) == pytest.approx(TEMPERATURE_BOUNDS[1])


def test_logits_that_leave_the_choice_free_keep_temperature_one():
    assert fit_temperature(labels_of(0, 1, 1), np.zeros((3, 1))) == 1.0
    assert fit_temperature(labels_of(0, 1), column(-1e6, 1e6)) == 1.0, "no loss at any temperature, and no overflow"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_temperature_is_not_fitted_on_broken_logits(bad):
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(labels_of(0, 1), column(0.0, bad))


def test_a_temperature_is_not_fitted_on_nothing():
    with pytest.raises(ValueError, match="no validation records"):
        fit_temperature(np.zeros((0, 3), np.uint8), np.zeros((0, 3)))


def test_the_reported_probability_is_the_sigmoid_of_the_scaled_logit():
    found = calibrated_probabilities(np.array([[0.0, 2.0, -2.0, 2000.0, -2000.0]], np.float32), 2.0)
    np.testing.assert_allclose(found, [[0.5, 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), 1.0, 0.0]], rtol=1e-12)


@given(logits_of_records, st.floats(*TEMPERATURE_BOUNDS))
@no_clock
def test_a_temperature_changes_neither_ranking_nor_what_is_decided_at_one_half(records, temperature):
    labels, logits = records
    plain, scaled = calibrated_probabilities(logits, 1.0), calibrated_probabilities(logits, temperature)
    np.testing.assert_array_equal(auroc_per_class(labels, plain), auroc_per_class(labels, scaled))
    np.testing.assert_array_equal(plain >= 0.5, scaled >= 0.5)
    assert f1_weighted(labels, plain) == pytest.approx(f1_weighted(labels, scaled), nan_ok=True)


@given(probabilities_of_records)
@no_clock
def test_no_other_threshold_has_a_higher_f1(records):
    labels, probabilities = records
    thresholds = choose_thresholds(labels, probabilities)
    assert thresholds.shape == (labels.shape[1],)
    for k, threshold in enumerate(thresholds):
        truth = labels[:, k]
        if not 0 < truth.sum() < len(truth):
            assert threshold == 0.5
            continue
        tried = [f1_score(truth, probabilities[:, k] >= cut) for cut in np.unique(probabilities[:, k])]
        assert f1_score(truth, probabilities[:, k] >= threshold) == max(tried)


def test_a_threshold_lies_midway_between_what_it_accepts_and_what_it_rejects():
    assert choose_thresholds(labels_of(0, 0, 1, 1), column(0.1, 0.3, 0.7, 0.8)).tolist() == [0.5]
    assert choose_thresholds(labels_of(1, 0, 1), column(0.2, 0.3, 0.4)).tolist() == [0.1], "all accepted: midway to 0"
    assert choose_thresholds(labels_of(0, 1, 1), column(0.0, 0.0, 0.0)).tolist() == [0.0]


def test_of_equally_good_thresholds_the_highest_is_taken():
    # Accepting the first alone: precision 1, recall 1/2; accepting all four: precision 1/2, recall 1: F1 2/3 each.
    assert choose_thresholds(labels_of(1, 0, 0, 1), column(0.9, 0.7, 0.5, 0.3)).tolist() == [pytest.approx(0.8)]


def test_a_threshold_between_neighbouring_numbers_still_tells_them_apart():
    low = 0.5
    high = np.nextafter(low, 1)
    (threshold,) = choose_thresholds(labels_of(0, 1), column(low, high))
    assert low < threshold <= high


def test_a_threshold_of_single_precision_probabilities_is_no_probability_of_a_record():
    """The same network gives another last digit on another machine: that must not turn a decision."""
    rng = np.random.default_rng(0)
    probabilities = rng.random((200, 3), np.float32)
    labels = (rng.random((200, 3)) < probabilities).astype(np.uint8)
    thresholds = choose_thresholds(labels, probabilities)
    assert np.abs(probabilities - thresholds).min() > 1e-6


@pytest.mark.parametrize("bad", [np.nan, -0.01, 1.01])
def test_what_is_no_probability_is_refused(bad):
    values = column(0.5, bad)
    with pytest.raises(ValueError, match="not probabilities"):
        choose_thresholds(labels_of(0, 1), values)
    with pytest.raises(ValueError, match="not probabilities"):
        expected_calibration_error(labels_of(0, 1), values)


def ece_by_definition(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Guo et al. 2017, equation 3, for one class: sum over bins of |B| / n * |accuracy - confidence|."""
    total = 0.0
    for b in range(bins):
        inside = (probabilities >= b / bins) & (probabilities < (b + 1) / bins)
        if b == bins - 1:
            inside |= probabilities == 1
        if inside.any():
            total += inside.mean() * abs(labels[inside].mean() - probabilities[inside].mean())
    return total


@given(probabilities_of_records)
@no_clock
def test_the_calibration_error_is_the_mean_of_its_definition_over_classes(records):
    labels, probabilities = records
    by_hand = np.mean([ece_by_definition(labels[:, k], probabilities[:, k]) for k in range(labels.shape[1])])
    found = expected_calibration_error(labels, probabilities)
    assert 0 <= found <= 1
    assert found == pytest.approx(by_hand, abs=1e-12)


def test_the_calibration_error_by_hand():
    labels = labels_of(0, 1, 1, 1)
    assert expected_calibration_error(labels, labels.astype(np.float32)) == 0
    assert expected_calibration_error(labels, 1.0 - labels) == 1
    assert expected_calibration_error(labels, np.full((4, 1), 0.75)) == pytest.approx(0)
    assert expected_calibration_error(labels, np.full((4, 1), 0.25)) == pytest.approx(0.5)
    assert expected_calibration_error(labels, column(0.9, 0.9, 0.1, 0.1)) == pytest.approx((0.4 + 0.9) / 2)


def test_certain_and_wrong_in_one_class_each_way_is_the_worst():
    assert expected_calibration_error(np.array([[0, 1]], np.uint8), np.array([[1.0, 0.0]])) == 1


def test_one_class_too_high_does_not_make_up_for_another_too_low():
    labels = np.array([[0, 1], [1, 0]], np.uint8)
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2]])
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0.3)


def test_the_calibration_error_of_nothing_is_nan():
    assert np.isnan(expected_calibration_error(np.zeros((0, 2), np.uint8), np.zeros((0, 2))))


# A specificity


@pytest.mark.parametrize("specificity", [0.5, 0.8, 0.95])
def test_a_threshold_for_a_specificity_is_the_lowest_that_reaches_it(specificity: float):
    rng = np.random.default_rng(4)
    labels = (rng.random((80, 1)) < 0.3).astype(np.uint8)
    probabilities = np.clip(0.3 * labels + 0.7 * rng.random((80, 1)), 0, 1).round(2)
    (threshold,) = choose_thresholds(labels, probabilities, specificity)
    negatives = probabilities[labels == 0]
    below = int((negatives < threshold).sum())
    assert below / (len(negatives) + 1) >= specificity
    lower = max(negatives[negatives < threshold])  # a threshold that accepts it too
    assert (negatives < lower).sum() / (len(negatives) + 1) < specificity
    assert not ((probabilities >= lower) & (probabilities <= threshold) & (probabilities != lower)).any()


def test_the_specificity_asked_for_is_what_new_records_have_on_average():
    """A threshold just above the 18th of 20 negatives, nine tenths of them, would reject 18/21 = 0.857 of new ones."""
    rng, reached = np.random.default_rng(5), []
    for _ in range(2000):
        negatives = rng.random(20)
        probabilities = np.r_[negatives, 1.0][:, None]  # and a positive far above
        (threshold,) = choose_thresholds(labels_of(*[0] * 20, 1), probabilities, 0.9)
        reached.append(negatives[negatives < threshold].max())  # the specificity of the lowest such threshold
    assert np.mean(reached) == pytest.approx(19 / 21, abs=0.005)


def test_too_few_negatives_put_the_threshold_above_them_all():
    labels, probabilities = labels_of(0, 0, 0, 1), column(0.1, 0.2, 0.3, 0.7)
    assert choose_thresholds(labels, probabilities, 0.95).tolist() == [pytest.approx(0.5)]
    assert choose_thresholds(labels, column(0.1, 0.2, 0.8, 0.7), 0.95).tolist() == [pytest.approx(0.9)]
    assert choose_thresholds(labels, column(0.1, 0.2, 1.0, 0.7), 0.95).tolist() == [1.0]
    assert choose_thresholds(labels_of(0, 0, 0, 0), probabilities, 0.95).tolist() == [0.5], "one outcome only"


def test_classes_with_too_few_negatives_are_named_with_what_may_be_expected():
    enough = np.r_[np.zeros(19), np.ones(21)]
    few = np.r_[np.zeros(12), np.ones(28)]
    labels = np.stack([enough, few, np.ones(40), np.zeros(40)], axis=1).astype(np.uint8)
    (said,) = describe_few_negatives(labels, ("enough", "few", "all", "none"), 0.95)
    assert said.startswith("few: a specificity of 0.95 is chosen by at least 19 records without the label, and 12 are ")
    assert said.endswith("from which 0.923 may be expected")
    assert describe_few_negatives(labels, ("enough", "few", "all", "none"), 0.9) == []


def test_the_rule_is_told_from_the_record():
    assert describe_rule({"threshold_rule": {"rule": "highest-f1"}}) == "the highest F1 on validation records"
    specific = {"threshold_rule": {"rule": "specificity", "specificity": 0.95}, "probe": {}}
    assert describe_rule(specific) == "a specificity of 0.95 in cross-validation"
    assert describe_rule({}) is None
