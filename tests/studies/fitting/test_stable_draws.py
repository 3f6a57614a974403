"""What rounds otherwise on another processor changes the last digits of a draw, and never turns it over."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from studies.fitting.learning_curves import LearningCurveResults, PairedRuns, fit_learning_curves
from studies.fitting.pooling import pool_tasks
from studies.fitting.stable_draws import between_own_points, between_points, covariance_root, draw_positions

SIZES = np.array([100.0, 250, 500, 1000, 2000])
ROUNDING = 1e-13


def runs_of(level: float, worth: float, seed: int) -> PairedRuns:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.01, (2, len(SIZES), 4))
    scores = [(level - 2 * (SIZES + n0) ** -0.5)[:, None] + one for n0, one in zip((0, worth), noise, strict=True)]
    return PairedRuns(SIZES, dict(zip(("scratch", "fine-tune"), scores, strict=True)), np.eye(2) * 1e-5)


def rounded_otherwise(runs: PairedRuns) -> PairedRuns:
    rng = np.random.default_rng(1)
    scores = {arm: values * (1 + ROUNDING * rng.standard_normal(values.shape)) for arm, values in runs.scores.items()}
    return replace(runs, scores=scores)


def assert_same_draws(one: Mapping[str, Mapping[str, np.ndarray]], other: Mapping[str, Mapping[str, np.ndarray]]):
    for arm, draws in one.items():
        for name, values in draws.items():
            np.testing.assert_allclose(other[arm][name], values, rtol=1e-6, atol=1e-7, err_msg=f"{arm} {name}")


def fitted(count: int = 6, change=lambda runs: runs) -> dict[str, LearningCurveResults]:
    runs = {f"task {k}": change(runs_of(0.88 + 0.015 * k, 40.0 * k, k)) for k in range(count)}
    return {name: fit_learning_curves(one, seed=3) for name, one in runs.items()}


def test_a_fit_whose_scores_are_rounded_otherwise_has_the_same_draws():
    for name, fit in fitted(change=rounded_otherwise).items():
        assert_same_draws(fitted()[name].draws, fit.draws)


def test_a_fit_to_runs_that_fall_and_miss_has_the_same_draws():
    runs = runs_of(0.9, 100.0, 7)
    runs.scores["fine-tune"][-1] -= 0.05
    runs.scores["scratch"][1, 2:] = np.nan
    assert_same_draws(*(fit_learning_curves(one, 0).draws for one in (runs, rounded_otherwise(runs))))


def test_a_fit_to_runs_of_which_hardly_any_law_is_a_learning_curve_has_the_same_draws():
    runs = runs_of(0.9, 100.0, 7)
    runs = replace(runs, scores={arm: 1.6 - values for arm, values in runs.scores.items()})
    assert_same_draws(*(fit_learning_curves(one, 0).draws for one in (runs, rounded_otherwise(runs))))


def test_a_pool_whose_tasks_are_rounded_otherwise_has_the_same_draws():
    one, other = (pool_tasks(fitted(change=change), seed=3) for change in (lambda runs: runs, rounded_otherwise))
    assert_same_draws(one.draws, other.draws)


def test_tasks_that_do_not_differ_have_a_pool_without_a_direction_of_their_rounding():
    fit = fitted(1)["task 0"]
    almost = {arm: {**draws, "bend": draws["bend"] * (1 + ROUNDING)} for arm, draws in fit.draws.items()}
    alike = {"one": fit, "two": fit, "three": fit}
    one, other = (pool_tasks({**alike, "three": third}, seed=3) for third in (fit, replace(fit, draws=almost)))
    assert_same_draws(one.draws, other.draws)


@pytest.mark.parametrize("rank", [4, 2, 0])
def test_the_root_of_a_covariance_gives_it_back_singular_or_not(rank: int):
    factor = np.random.default_rng(0).standard_normal((4, rank))
    covariance = factor @ factor.T
    root = covariance_root(covariance)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-8)
    assert (np.triu(root, 1) == 0).all()


def test_positions_fall_on_points_as_often_as_these_weigh():
    weights = np.array([0.0, 3.0, 1.0, 0.0, 4.0])
    levels = (np.arange(8000) + 0.5) / 8000
    positions = draw_positions(np.broadcast_to(weights, (8000, 5)), levels)
    assert (np.diff(positions) > 0).all()
    shares = np.bincount(np.rint(positions).astype(int), minlength=5) / 8000
    np.testing.assert_allclose(shares, weights / 8, atol=1e-3)


def test_positions_do_not_jump_at_the_border_between_two_points():
    weights = np.broadcast_to(np.array([1.0, 2.0, 5.0]), (2, 3))
    border = 1 / 8
    below, above = draw_positions(weights, np.array([border - 1e-12, border + 1e-12]))
    assert below == pytest.approx(0.5) and above == pytest.approx(0.5)
    assert above - below < 1e-10


def test_values_between_points_are_linear_and_end_at_the_ends():
    values = np.array([[1.0, 10.0], [3.0, 20.0], [4.0, 0.0]])
    found = between_points(values, np.array([-0.5, 0.25, 1.5, 2.5]))
    np.testing.assert_allclose(found, [[1, 10], [1.5, 12.5], [3.5, 10], [4, 0]])
    own = between_own_points(np.stack([values, 2 * values]), np.array([0.25, 1.5]))
    np.testing.assert_allclose(own, [[1.5, 12.5], [7, 20]])
