"""Scores agree with scikit-learn and with pen and paper; an evaluation holds them all."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from engine.evaluation.bootstrap import bootstrap_auroc_macro, bootstrap_auroc_per_class, interval
from engine.evaluation.calibration import expected_calibration_error
from engine.evaluation.evaluation import describe_averages, evaluate, floor_of
from engine.evaluation.metrics import (
    auroc_macro,
    auroc_per_class,
    average_precision_per_class,
    averaged_classes,
    brier_score,
    f1_per_class,
    f1_weighted,
)

no_clock = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is not a failure


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
    assert np.isnan(average_precision_per_class(labels, scores)).all()


def test_scores_that_are_nan_have_no_auroc():
    """A broken network must never look perfect: these records come with the positives last."""
    with np.errstate(all="ignore"):
        per_class = auroc_per_class(labels_of(0, 0, 1, 1), np.full((4, 1), np.nan))
    assert np.isnan(per_class).tolist() == [True]


def test_a_score_that_is_nan_has_no_average_precision():
    assert np.isnan(average_precision_per_class(labels_of(0, 1, 1), column(0.1, np.nan, 0.9))).tolist() == [True]


def test_average_precision_by_hand_where_a_class_has_both_outcomes():
    labels = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]], np.uint8)
    scores = np.repeat(column(0.9, 0.8, 0.7, 0.6), 3, axis=1)
    # Of the two positives the first is found with precision 1, the second with 2/3, each at half the recall.
    np.testing.assert_allclose(average_precision_per_class(labels, scores), [5 / 6, np.nan, np.nan])


def test_average_precision_of_every_class_is_scikit_learns():
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 2, (40, 3)).astype(np.uint8), rng.integers(0, 10, (40, 3)) / 10
    expected = average_precision_score(labels, scores, average=None)
    np.testing.assert_allclose(average_precision_per_class(labels, scores), expected, atol=1e-12)


def test_brier_score_by_hand():
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    assert brier_score(labels, np.array([[0.9, 0.2], [0.5, 0.5]])) == pytest.approx((0.01 + 0.04 + 0.25 + 0.25) / 4)
    assert brier_score(labels, labels.astype(np.float32)) == 0.0
    assert brier_score(labels, 1 - labels.astype(np.float32)) == 1.0


@pytest.fixture
def tested() -> dict:
    """Arguments of evaluate: 300 records of 60 patients, two classes with both outcomes and one without a positive."""
    rng = np.random.default_rng(3)
    patients, labels = rng.permutation(np.repeat(np.arange(60), 5)), rng.integers(0, 2, (300, 3)).astype(np.uint8)
    labels[:, 2] = 0
    probabilities = (0.4 * labels + 0.6 * rng.random((300, 3))).astype(np.float32)
    return {
        "labels": labels, "probabilities": probabilities, "patients": patients, "classes": ("A", "B", "C"),
        "thresholds": [0.4, 0.6, 0.5], "seed": 9, "n_resamples": 100,
    }  # fmt: skip


def test_an_evaluation_holds_every_score(tested):
    found = evaluate(**tested)
    labels, probabilities, patients = (tested[name] for name in ("labels", "probabilities", "patients"))
    assert (found.n_records, found.n_patients, found.left_out) == (300, 60, ("C",))
    both = slice(2)  # the classes with both outcomes
    assert found.auroc_macro == pytest.approx(roc_auc_score(labels[:, both], probabilities[:, both], average="macro"))
    expected = average_precision_score(labels[:, both], probabilities[:, both], average="macro")
    assert found.auprc_macro == pytest.approx(expected)
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


def test_a_perfect_class_of_three_positives_is_not_said_to_be_sure():
    labels = with_positives(3, 40)
    rng = np.random.default_rng(0)
    probabilities = np.column_stack([labels[:, 0] * 0.9, np.clip(0.3 * labels[:, 1] + rng.random(100), 0, 1)])
    arguments = (np.arange(100), ("rare", "common"), [0.5, 0.5], 0, 200)
    found = evaluate(labels, probabilities, *arguments)
    rare, common = found.classes["rare"], found.classes["common"]
    assert (rare.auroc, rare.auroc_ci_upper) == (1.0, 1.0)
    assert rare.auroc_ci_lower == pytest.approx(0.05 ** (1 / 3))
    assert (found.auroc_macro_ci_lower, found.auroc_macro_ci_upper) == (common.auroc_ci_lower, common.auroc_ci_upper)
    alone = evaluate(labels[:, :1], probabilities[:, :1], np.arange(100), ("rare",), [0.5], 0, 200)
    assert alone.auroc_macro_ci_lower == pytest.approx(0.05 ** (1 / 3))
    assert set(alone.bootstrap[np.isfinite(alone.bootstrap)]) == {1.0}, "resamples stay what they were"


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


def with_positives(*positives: int, n_records: int = 100) -> np.ndarray:
    """Labels (records, classes) with that many positive records in each class, spread over the set."""
    labels = np.zeros((n_records, len(positives)), np.uint8)
    for k, count in enumerate(positives):
        labels[np.linspace(0, n_records - 1, count).astype(int), k] = 1
    return labels


@pytest.mark.parametrize(
    ("positives", "least", "expected"),
    [
        pytest.param((10, 9, 90, 91, 0, 100), 10, (1, 0, 1, 0, 0, 0), id="ten positives and ten negatives"),
        pytest.param((9, 1, 99, 0, 100), 10, (1, 1, 1, 0, 0), id="no class has ten: all with both outcomes"),
        pytest.param((9, 1, 99, 0, 100), 1, (1, 1, 1, 0, 0), id="a floor of one is both outcomes"),
        pytest.param((20, 21, 50), 21, (0, 1, 1), id="a floor that was asked for"),
        pytest.param((0, 100), 10, (0, 0), id="no class has both outcomes"),
    ],
)
def test_macro_averages_take_classes_with_enough_records_of_both_outcomes(positives, least, expected):
    assert averaged_classes(with_positives(*positives), least).tolist() == [bool(one) for one in expected]


def test_a_floor_below_one_is_refused(tested):
    for least in (0, -3):
        with pytest.raises(ValueError, match=f"least_positives is {least}"):
            evaluate(**tested, least_positives=least)


@pytest.fixture
def rare() -> dict:
    """Arguments of evaluate: 200 records of 100 patients, classes with 60, 9, 40 and no positives."""
    rng = np.random.default_rng(4)
    labels = with_positives(60, 9, 40, 0, n_records=200)
    probabilities = np.clip(0.2 * labels + rng.random((200, 4)), 0, 1)
    return {
        "labels": labels, "probabilities": probabilities, "patients": np.repeat(np.arange(100), 2),
        "classes": ("A", "rare", "C", "none"), "thresholds": [0.5] * 4, "seed": 1, "n_resamples": 200,
    }  # fmt: skip


def test_a_rare_class_is_scored_but_not_averaged_and_named(rare):
    found, whole = evaluate(**rare), evaluate(**rare, least_positives=1)
    assert (found.left_out, found.least_positives) == (("rare", "none"), 10)
    assert (whole.left_out, whole.least_positives) == (("none",), 1)
    assert found.classes["rare"] == whole.classes["rare"]
    assert np.isfinite(found.classes["rare"].auroc)
    for macro, score in (("auroc_macro", "auroc"), ("auprc_macro", "auprc"), ("f1_macro", "f1")):
        by_class = {name: getattr(one, score) for name, one in found.classes.items()}
        assert getattr(found, macro) == pytest.approx(np.mean([by_class["A"], by_class["C"]]))
        assert getattr(whole, macro) == pytest.approx(np.mean([by_class["A"], by_class["rare"], by_class["C"]]))
    unmoved = ("brier", "ece", "f1_weighted_at_half")
    assert [getattr(found, name) for name in unmoved] == [getattr(whole, name) for name in unmoved]


def test_all_resamples_average_over_the_classes_of_the_test_set(rare):
    per_class = bootstrap_auroc_per_class(rare["labels"], rare["probabilities"], rare["patients"], 200, seed=1)
    found = evaluate(**rare).bootstrap
    np.testing.assert_allclose(found, (per_class[0] + per_class[2]) / 2)
    labels = with_positives(9, 1, n_records=200)  # no class has ten, so that both are averaged where they can be
    rare |= {"labels": labels, "probabilities": rare["probabilities"][:, :2], "classes": "AB", "thresholds": [0.5] * 2}
    per_class = bootstrap_auroc_per_class(labels, rare["probabilities"], rare["patients"], 200, seed=1)
    whole = np.isfinite(per_class).all(axis=0)
    assert 20 < whole.sum() < 180, "the record of the second class is in some resamples only"
    found = evaluate(**rare).bootstrap
    np.testing.assert_array_equal(np.isfinite(found), whole)
    np.testing.assert_allclose(found[whole], per_class.mean(axis=0)[whole])


def test_what_is_left_out_of_averages_is_said(rare):
    document = evaluate(**rare).as_dict()
    assert floor_of(document) == 10
    assert describe_averages(document) == [
        "Left out of macro averages, with fewer than 10 positive or negative test records: rare."
    ]
    assert describe_averages(evaluate(**rare, least_positives=9).as_dict()) == []
    fallen = evaluate(**rare, least_positives=70).as_dict()
    assert floor_of(fallen) == 1
    assert describe_averages(fallen) == [
        "No class has 70 positive and 70 negative test records: macro averages take all 3 with both outcomes, and are "
        "vague."
    ]
    untested = evaluate(**{**rare, "labels": np.zeros_like(rare["labels"])}).as_dict()
    assert describe_averages(untested) == [], "what has one outcome only is said elsewhere"
    before = {name: value for name, value in document.items() if name != "least_positives"} | {"left_out": ["none"]}
    assert (floor_of(before), describe_averages(before)) == (1, [])


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
    with pytest.raises(ValueError, match=r"together|probabilities"):
        evaluate(**{**tested, **change(tested)})


def test_an_evaluation_needs_nothing_but_numpy_and_scipys_functions():
    """A lent GPU machine may lack scikit-learn, and scores its runs all the same."""
    code = """
import sys
sys.modules.update(dict.fromkeys(("sklearn", "scipy.stats", "torch", "pandas", "wfdb", "typer")))  # importing one fails
import numpy as np
from engine.evaluation.evaluation import describe_averages, evaluate, floor_of
from engine.evaluation.subgroups import subgroups
labels = np.arange(120).reshape(60, 2).astype(np.uint8) % 3 % 2
scores, patients = np.linspace(0, 1, 120).reshape(60, 2), np.arange(60)
assert 0 < evaluate(labels, scores, patients, "ab", [0.5, 0.5], 0, 10).auprc_macro < 1
assert subgroups(labels, scores, patients, np.full(60, 50.0), np.full(60, "male"), 0, 10)["sex"]["male"]["n"] == 60
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
