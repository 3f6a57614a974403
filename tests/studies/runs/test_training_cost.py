import numpy as np
import pytest

from studies.fitting.censored_regression import CensoredFitError, fit_censored
from studies.runs.run import Run
from studies.runs.training_cost import (
    Bill,
    Rates,
    charge,
    fit_cost_curves,
    log_time_ratios,
    records_to_target,
    uses_to_pay_off,
)


def run_with(n: int, replicate: int, strategy: str = "scratch", arch: str = "gru", **cost: float) -> Run:
    facts = {"device": "CPU", "seconds": 10.0, "records_seen": 1000, "records_to_best": 500, "seconds_to_best": 5.0,
             "epochs": 10, "best_epoch": 5} | cost  # fmt: skip
    return Run(task="task", arch=arch, family="rnn", strategy=strategy, n_records=n, replicate=replicate, **facts)


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
    assert fit.predict(np.ones((1, 1)))[1] == pytest.approx(0)


def test_cost_curve_recovers_records_to_best_from_runs_that_ended_too_early():
    rng = np.random.default_rng(2)
    runs = []
    for n in (100, 300, 1000, 3000):
        for replicate in range(40):
            needed = 200 * n**0.5 * np.exp(0.4 * rng.normal())
            limit = 260 * n**0.5
            best = int(min(needed, limit))
            runs.append(
                run_with(n, replicate, records_seen=int(limit) + 1, records_to_best=best, seconds=limit / 50,
                         seconds_to_best=best / 50, best_epoch=10 if needed > limit else 5)
            )  # fmt: skip
    (curve,), failures = fit_cost_curves(runs)
    assert failures == []
    assert (curve.arch, curve.strategy, curve.smallest, curve.largest) == ("gru", "scratch", 100, 3000)
    estimate = curve.records_to_best(1000)
    assert estimate.median == pytest.approx(200 * 1000**0.5, rel=0.1)
    assert estimate.lower < 200 * 1000**0.5 < estimate.upper
    assert estimate.upper / estimate.lower < 1.4
    assert curve.seconds_to_best(1000).median == pytest.approx(estimate.median / curve.records_per_second["CPU"])
    assert curve.seconds_to_best(1000, records_per_second=2000).median == pytest.approx(estimate.median / 2000)


def test_every_network_and_strategy_has_a_curve_or_a_reason():
    runs = [run_with(n, r, strategy) for n in (100, 200) for r in range(3) for strategy in ("scratch", "fine-tune")]
    runs += [run_with(100, r, arch="lstm", best_epoch=10) for r in range(3)]
    runs += [run_with(100, r, arch="bilstm", records_to_best=500 + r) for r in range(3)]
    curves, failures = fit_cost_curves(runs)
    assert [(curve.arch, curve.strategy) for curve in curves] == [
        ("bilstm", "scratch"), ("gru", "fine-tune"), ("gru", "scratch"),
    ]  # fmt: skip
    assert failures == ["lstm scratch: 0 of 3 outcomes were observed to their end, too few for 1 coefficient"]
    assert curves[0].records_to_best(100).median == pytest.approx(501, abs=1)


def test_the_fastest_device_is_not_taken_for_the_usual_one():
    runs = [run_with(100, r, records_to_best=400 + r) for r in range(5)]
    runs += [run_with(100, 10 + r, device="GPU", seconds=1.0, seconds_to_best=0.5) for r in range(3)]
    (curve,), _ = fit_cost_curves(runs)
    assert list(curve.records_per_second) == ["CPU", "GPU"]
    assert curve.records_per_second == {"CPU": 100.0, "GPU": 1000.0}


def test_a_bill_adds_up_what_rates_were_given_for():
    assert charge(3600, Rates()) == Bill(3600, None, None)
    assert charge(3600, Rates(watts=500)) == Bill(3600, 0.5, None)
    assert charge(3600, Rates(watts=500, per_kwh=0.4)).money == pytest.approx(0.2)
    assert charge(3600, Rates(watts=500, per_kwh=0.4, per_hour=2, per_label=3), n_labels=10).money == pytest.approx(
        32.2
    )
    assert charge(1000, Rates(per_hour=3.6), pretraining_seconds=9000, uses=3).seconds == 4000
    assert charge(1000, Rates(per_hour=3.6), pretraining_seconds=9000, uses=3).money == pytest.approx(4)
    with pytest.raises(ValueError, match="at least one use"):
        charge(1, Rates(), uses=0)


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
