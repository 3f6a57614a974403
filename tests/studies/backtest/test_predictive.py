"""Scores of a mixture of normals: against what many random numbers say, and against the textbook's normal."""

import numpy as np
import pytest
from scipy.stats import norm

from studies.backtest.predictive import crps, log_score, probability_below, quantile

DRAWS = np.random.default_rng(3).normal(0.8, 0.03, 1000)
SD = 0.02
NOISY = (DRAWS[:, None] + SD * np.random.default_rng(4).standard_normal((1000, 400))).ravel()


@pytest.mark.parametrize("value", [0.72, 0.8, 0.84])
def test_probabilities_and_crps_are_those_of_draws_with_their_noise(value: float):
    assert probability_below(value, DRAWS, SD) == pytest.approx((value > NOISY).mean(), abs=2e-3)
    half = np.abs(NOISY - np.random.default_rng(5).permutation(NOISY)).mean() / 2
    assert crps(value, DRAWS, SD) == pytest.approx(np.abs(NOISY - value).mean() - half, rel=0.01)


def test_of_one_normal_all_is_known_in_closed_form():
    draws, z = np.full(1000, 0.8), (0.85 - 0.8) / SD
    assert log_score(0.85, draws, SD) == pytest.approx(norm(0.8, SD).logpdf(0.85))
    known = SD * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5)  # Gneiting and Raftery 2007
    assert crps(0.85, draws, SD) == pytest.approx(known)
    assert quantile(0.95, draws, SD) == pytest.approx(norm(0.8, SD).ppf(0.95), abs=1e-9)


def test_a_forecast_that_is_far_off_has_a_finite_score():
    assert -1e8 < log_score(0.1, DRAWS, 1e-4) < -1e4


def test_quantiles_are_where_the_distribution_function_says():
    for level in (0.05, 0.5, 0.95):
        assert probability_below(quantile(level, DRAWS, SD), DRAWS, SD) == pytest.approx(level, abs=1e-6)
