from dataclasses import replace

import numpy as np
import pytest

from studies.fitting.censored_regression import CensoredFitError, fit_censored
from studies.runs.run import Run
from studies.runs.training_cost import fit_cost, log_time_ratios, pretraining_cost, records_to_target, uses_to_pay_off


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


CPU, GPU = "CPU test, 1 thread of 2", "GPU test, 80 GiB, CUDA 13.0"


def timed(synthetic_run, device: str, seconds_per_record: float, replicate: int, day: int = 1) -> Run:
    run = synthetic_run("gru-w32", "scratch", 100, replicate, 0.7)
    return replace(
        run, device=device, seconds=seconds_per_record * run.records_seen, created=f"2026-11-{day:02}T20:00:00+00:00"
    )


def test_times_of_two_devices_are_apart_and_the_one_with_most_runs_comes_first(synthetic_run):
    runs = [timed(synthetic_run, GPU, speed, k) for k, speed in enumerate((0.001, 0.002, 0.003))]
    runs += [timed(synthetic_run, CPU, 0.5, k) for k in range(3, 5)]
    cost = fit_cost([*runs[3:], *runs[:3]])
    assert (cost["device"], cost["seconds_per_record"]) == (GPU, pytest.approx(0.002))
    assert cost["other_devices"] == {CPU: pytest.approx(0.5)}


def test_of_two_devices_with_as_many_runs_the_one_last_run_on_comes_first(synthetic_run):
    for newest, oldest in ((CPU, GPU), (GPU, CPU)):
        runs = [timed(synthetic_run, oldest, 0.1, 0, day=2), timed(synthetic_run, newest, 0.2, 1, day=3)]
        assert fit_cost(runs)["device"] == newest


def test_one_device_has_no_others(synthetic_run):
    cost = fit_cost([timed(synthetic_run, CPU, 0.5, k) for k in range(2)])
    assert "other_devices" not in cost
    assert cost["device"] == CPU


def test_a_pretraining_is_timed_by_device_too(synthetic_run):
    """Ten times as many records on the GPU: the seconds beside the processor's are of as many as there."""
    on_cpu = [timed(synthetic_run, CPU, 0.5, k) for k in range(2)]
    on_gpu = timed(synthetic_run, GPU, 0.001, 2)
    on_gpu = replace(on_gpu, records_seen=10 * on_gpu.records_seen, seconds=10 * on_gpu.seconds)
    cost = pretraining_cost([on_gpu, *on_cpu])
    assert (cost["device"], cost["seconds"]) == (CPU, on_cpu[0].seconds)
    assert cost["other_devices"] == {GPU: pytest.approx(0.001 * on_cpu[0].records_seen)}
