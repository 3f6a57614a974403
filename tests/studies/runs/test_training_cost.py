import numpy as np
import pytest

from studies.fitting.censored_regression import CensoredFitError, fit_censored
from studies.runs.run import Run
from studies.runs.training_cost import log_time_ratios, records_to_target, uses_to_pay_off


def test_censored_regression_recovers_the_truth_where_plain_regression_does_not():
    rng = np.random.default_rng(0)
    kept, naive, inside = [], [], []
    for _ in range(100):
        design = np.column_stack([np.ones(60), rng.normal(size=60)])
        outcome = design @ [1.0, 2.0] + 0.7 * rng.normal(size=60)
        limit = rng.normal(1.5, 1.5, 60)
        seen = np.minimum(outcome, limit)
        fit = fit_censored(seen, design, outcome > limit)
        kept.append([*fit.coefficients, fit.sigma])
        naive.append(np.linalg.lstsq(design, seen, rcond=None)[0])
        inside.append(np.abs(fit.coefficients - [1, 2]) < 1.645 * np.sqrt(np.diag(fit.covariance)))
    np.testing.assert_allclose(np.mean(kept, axis=0), [1, 2, 0.7], atol=0.04)
    assert np.abs(np.mean(naive, axis=0) - [1, 2]).max() > 0.3
    assert np.all(np.mean(inside, axis=0) > 0.82) and np.all(np.mean(inside, axis=0) < 0.97)


def test_without_censoring_it_is_least_squares():
    rng = np.random.default_rng(1)
    design = np.column_stack([np.ones(30), rng.normal(size=30)])
    outcome = design @ [3.0, -1.0] + rng.normal(size=30)
    fit = fit_censored(outcome, design, np.zeros(30, bool))
    best, residual, *_ = np.linalg.lstsq(design, outcome, rcond=None)
    np.testing.assert_allclose(fit.coefficients, best, atol=1e-8)
    assert fit.sigma == pytest.approx((residual[0] / 30) ** 0.5)
    np.testing.assert_allclose(fit.covariance, fit.sigma**2 * np.linalg.inv(design.T @ design), rtol=1e-5)


def test_outcomes_that_say_too_little_are_refused():
    design = np.column_stack([np.ones(6), [1.0, 1, 1, 2, 2, 2]])
    outcome = np.array([1.0, 1.1, 1.2, 2.0, 2.1, 2.2])
    with pytest.raises(CensoredFitError, match="0 of 6 outcomes"):
        fit_censored(outcome, design, np.ones(6, bool))
    with pytest.raises(CensoredFitError, match="3 of 6 outcomes"):  # only one of the two sizes was observed
        fit_censored(outcome, design, design[:, 1] == 2)


def test_outcomes_without_spread_give_no_spread():
    fit = fit_censored(np.ones(5), np.ones((5, 1)), np.zeros(5, bool))
    assert fit.coefficients == pytest.approx([1.0])
    assert fit.sigma == 0
    assert fit.covariance == pytest.approx(np.zeros((1, 1)))


def test_a_pretraining_pays_off_when_fine_tuning_is_cheaper():
    assert uses_to_pay_off(1000, scratch=50, fine_tune=30) == 50
    assert uses_to_pay_off(1000, scratch=30, fine_tune=30) is None


def test_time_to_target_is_censored_where_the_target_was_never_reached():
    course = ((80, 0.6), (160, 0.7), (400, 0.72))
    assert records_to_target(course, 0.65) == (160, True)
    assert records_to_target(course, 0.9) == (400, False)

    def run(trajectory):
        validations = [{"records_seen": seen, "auroc": auroc} for seen, auroc in trajectory]
        return Run(
            task="t", arch="a", family="cnn", strategy="scratch", n_records=100, replicate=0,
            details={"validations": validations},
        )  # fmt: skip

    scratch = run(course)
    pairs = [
        (scratch, run(((100, 0.71), (200, 0.72)))),
        (scratch, run(((100, 0.71), (800, 0.71)))),
        (scratch, run(())),
    ]
    ratios, censored = log_time_ratios(pairs)
    np.testing.assert_allclose(ratios, np.log([0.5, 2.0]))
    assert censored.tolist() == [False, True]
