"""The oracle's regret against what simulation says of known truths."""

import numpy as np
import pytest

from studies.backtest.floor import charge_oracle, fit_reference
from studies.backtest.truth import Truth

ARMS = ("scratch", "fine-tune", "linear-probe")


def make_cells(
    mean: tuple[float, ...], spread: float, error: float, n_cells: int = 400, falling: float = 0.0
) -> tuple[list[tuple[float, Truth]], np.ndarray]:
    """Cells with true differences about ``mean``, and noise of ``error`` on every arm; and their true scores."""
    rng = np.random.default_rng(2)
    sizes = rng.choice([125.0, 500.0, 2000.0], n_cells)
    arms = ARMS[: len(mean) + 1]
    scale = (sizes / 500)[:, None] ** -falling
    differences = scale * (np.array(mean) + spread * rng.standard_normal((n_cells, len(mean))))
    true = 0.8 + np.concatenate([np.zeros((n_cells, 1)), differences], axis=1)
    noisy = true + error * rng.standard_normal(true.shape)
    cells = [(n, Truth(arms, means, error**2 * np.eye(len(arms)))) for n, means in zip(sizes, noisy, strict=True)]
    return cells, true


def charged(cells: list[tuple[float, Truth]], arms: tuple[str, ...]) -> float:
    reference = fit_reference(arms, cells)
    return float(np.mean([charge_oracle(truth.means, reference.draw_scores(n, truth)) for n, truth in cells]))


def oracle(cells: list[tuple[float, Truth]], true: np.ndarray) -> float:
    """What who knows the truth is charged by the measured means."""
    means = np.array([truth.means for _, truth in cells])
    return float((means.max(axis=1) - means[np.arange(len(means)), true.argmax(axis=1)]).mean())


@pytest.mark.parametrize("mean", [(0.0,), (0.02,), (0.005, 0.01)])
@pytest.mark.parametrize("falling", [0.0, 0.6])
def test_the_floor_is_what_an_oracle_is_charged(mean: tuple[float, ...], falling: float):
    cells, true = make_cells(mean, 0.02, 0.02, n_cells=1500, falling=falling)
    assert charged(cells, ARMS[: len(mean) + 1]) == pytest.approx(oracle(cells, true), rel=0.15)


def test_without_noise_there_is_no_floor():
    cells, _ = make_cells((0.01,), 0.02, 1e-5)
    assert charged(cells, ARMS[:2]) == pytest.approx(0, abs=1e-5)


def test_of_arms_that_are_equal_the_floor_is_what_the_noise_alone_makes():
    """E max(e, 0) of a difference is its standard error / sqrt(2 pi), and either arm is as good as the other."""
    cells, _ = make_cells((0.0,), 0.0, 0.02, n_cells=1000)
    assert charged(cells, ARMS[:2]) == pytest.approx(2**0.5 * 0.02 / (2 * np.pi) ** 0.5, rel=0.15)


def test_the_reference_finds_where_the_differences_lie():
    cells, _ = make_cells((0.03,), 0.02, 0.01, falling=0.5)
    reference = fit_reference(ARMS[:2], cells)
    assert reference.exponent == pytest.approx(0.5, abs=0.1)
    assert reference.mean[0] == pytest.approx(0.03, abs=0.004)
    assert reference.covariance[0, 0] ** 0.5 == pytest.approx(0.02, rel=0.15)


def test_two_cells_say_nothing_of_where_the_differences_lie():
    cells, _ = make_cells((0.0,), 0.02, 0.02, n_cells=2)
    assert fit_reference(ARMS[:2], cells) is None
