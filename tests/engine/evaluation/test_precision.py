"""The width of Hanley and McNeil against simulation, and what follows from it."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from engine.evaluation.precision import (
    auroc_half_width,
    proportion_half_width,
    rare_label,
    rarest_label,
    records_for_half_width,
)


@pytest.mark.parametrize(("positives", "negatives", "auroc"), [(10, 90, 0.8), (40, 200, 0.9), (100, 100, 0.7)])
def test_the_width_is_that_of_simulated_test_sets(positives: int, negatives: int, auroc: float):
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [positives, negatives])
    scales = np.where(labels == 1, auroc / (1 - auroc), 1.0)
    found = [roc_auc_score(labels, rng.exponential(scales)) for _ in range(2000)]
    assert auroc_half_width(auroc, positives, negatives) == pytest.approx(norm.ppf(0.95) * np.std(found), rel=0.08)


@pytest.mark.parametrize("prevalence", [0.5, 0.05, 0.002])
def test_the_records_needed_are_the_fewest_that_suffice(prevalence: float):
    needed = records_for_half_width(0.85, prevalence, 0.05)
    assert needed is not None
    positives = needed * prevalence
    assert auroc_half_width(0.85, round(positives), round(needed - positives)) == pytest.approx(0.05, rel=0.03)
    assert records_for_half_width(0.85, prevalence, 0.1) < needed / 3


def test_what_no_number_of_records_gives_is_none():
    assert records_for_half_width(0.85, 0.5, 1e-9) is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: auroc_half_width(1.2, 5, 5),
        lambda: auroc_half_width(0.8, 0, 5),
        lambda: records_for_half_width(0.8, 0.0, 0.1),
        lambda: records_for_half_width(0.8, 0.1, 0.0),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"AUROC|told apart|half-width"):
        wrong()


def test_patients_are_counted_not_records_and_labels_without_two_sides_are_passed_over():
    labels = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1], [0, 1, 0, 0], [0, 1, 0, 1]], np.uint8)
    patients = np.array([7, 7, 8, 9, 10])
    found = rarest_label(labels, patients, ("a", "all", "none", "b"))
    assert (found.label, found.positives, found.negatives) == ("a", 1, 3)
    assert found.half_width(0.8) == auroc_half_width(0.8, 1, 3)
    assert rarest_label(labels[:, 1:3], patients, ("all", "none")) is None
    assert rarest_label(labels[:0], patients[:0], ("a", "all", "none", "b")) is None


def test_the_rarest_label_of_all_records_says_what_its_test_patients_will_know():
    labels = np.zeros((363, 2), np.uint8)
    labels[:11, 0], labels[:100, 1] = 1, 1
    found = rare_label(labels, np.arange(363), ("LBBB", "AF"), np.arange(363) % 5 == 0)
    assert (found.label, found.is_missing, found.few, found.patients, found.tested) == ("LBBB", False, 11, 363, 3)
    width = proportion_half_width(0.85, 3)
    assert found.in_words() == (
        "11 of 363 patients have LBBB, the rarest label: few to learn it from, and the 3 of them in the test will know "
        f"a sensitivity of 0.85 to +-{width:.2f} (90 %)"
    )
    untested = rare_label(labels, np.arange(363), ("LBBB", "AF"), np.arange(363) > 300)
    assert untested.in_words().endswith("none of them is in the test: its sensitivity will not be known")


def test_a_label_that_nearly_all_patients_have_is_rare_too_and_its_patients_are_counted_once():
    labels, patients = np.ones((40, 1), np.uint8), np.repeat(np.arange(20), 2)
    labels[:4], labels[5] = 0, 0  # two patients lack it, a third has it in one of two records
    found = rare_label(labels, patients, ("SR",), patients < 1)
    assert (found.is_missing, found.few, found.patients, found.tested) == (True, 2, 20, 1)
    assert found.in_words().startswith("2 of 20 patients lack SR, the rarest label")
    assert "a specificity of 0.85" in found.in_words()
    assert rare_label(np.ones((4, 1), np.uint8), np.arange(4), ("SR",), np.arange(4) < 1) is None


@pytest.mark.parametrize("trials", [20, 100])
def test_half_the_width_of_a_proportion_is_that_of_its_exact_interval(trials: int):
    exact = binomtest(round(0.85 * trials), trials).proportion_ci(0.9, "exact")
    assert proportion_half_width(0.85, trials) == pytest.approx((exact.high - exact.low) / 2)
