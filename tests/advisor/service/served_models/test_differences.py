"""Tests of counts: known values, and how often they cry wolf."""

import numpy as np
import pytest
from scipy.stats import binomtest, chi2_contingency

from advisor.service.served_models.differences import (
    LEVEL,
    compare_histograms,
    holm,
    shares_differ,
    wilson_interval,
)

EVEN, SKEWED = np.full(10, 0.1), np.array([0.6, 0.15, 0.1, 0.05, 0.03, 0.02, 0.02, 0.01, 0.01, 0.01])


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (3, 10), (10, 10), (120, 900)])
def test_wilsons_interval_is_scipys(successes: int, trials: int):
    expected = binomtest(successes, trials).proportion_ci(0.9, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_without_a_trial_a_share_may_be_anything():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_holm_multiplies_and_keeps_the_order_and_what_is_not_known():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_histograms_p_value_is_that_of_pearsons_statistic_where_no_bin_is_put_together():
    one, other = [20, 30, 40, 30, 20, 25, 35, 20, 30, 40], [35, 30, 20, 30, 45, 25, 30, 25, 40, 20]
    found = compare_histograms(one, other)
    assert found is not None
    assert found.bins == 10
    assert found.p_value == pytest.approx(chi2_contingency([one, other])[1])


def test_bins_are_put_together_until_the_smaller_sample_may_expect_five():
    found = compare_histograms([10, 1, 1, 1, 1, 1, 1, 1, 1, 12], [100, 10, 10, 10, 10, 10, 10, 10, 10, 120])
    assert found is not None
    assert found.bins == 3
    assert found.psi == pytest.approx(0.0, abs=0.01)


def test_an_empty_bin_makes_no_infinite_index():
    found = compare_histograms([50, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 50])
    assert found is not None
    assert 1 < found.psi < 20
    assert found.p_value < 1e-9


@pytest.mark.parametrize("counts", [[0] * 10, [3] + [0] * 9, [500] + [0] * 9])
def test_what_lies_in_one_bin_is_not_compared(counts: list[int]):
    assert compare_histograms(counts, [500] + [0] * 9) is None


@pytest.mark.parametrize("shape", [EVEN, SKEWED], ids=["even", "skewed"])
@pytest.mark.parametrize(("n", "n_test"), [(30, 60), (100, 200), (400, 2000)])
def test_equal_distributions_are_told_apart_no_more_often_than_the_level(shape: np.ndarray, n: int, n_test: int):
    rng, draws = np.random.default_rng(n), 1000
    found = [compare_histograms(rng.multinomial(n, shape), rng.multinomial(n_test, shape)) for _ in range(draws)]
    tolerance = 3 * (LEVEL * (1 - LEVEL) / draws) ** 0.5
    assert np.mean([one is not None and one.p_value <= LEVEL for one in found]) <= LEVEL + tolerance
    assert np.mean([one is not None and one.psi > one.usual_psi for one in found]) <= LEVEL + tolerance


def test_a_shift_is_found_nearly_always_with_enough_records():
    rng = np.random.default_rng(2)
    found = [compare_histograms(rng.multinomial(300, SKEWED), rng.multinomial(500, EVEN)) for _ in range(50)]
    assert all(one is not None and one.p_value < 0.001 and one.psi > one.usual_psi for one in found)


def test_shares_are_compared_by_fishers_test():
    assert shares_differ((8, 10), (1, 6)) == pytest.approx(0.03496503496503495)
    assert shares_differ((5, 50), (10, 100)) == pytest.approx(1.0)
