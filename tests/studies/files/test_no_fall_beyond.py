"""Beyond what was measured no expected score falls; what was measured stays as it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.files.arms import FINE_TUNE, LINEAR_PROBE, SCRATCH
from studies.files.draws import Draws, evaluate, no_fall_beyond

NODES = np.array([25.0, 100.0, 500.0, 1000.0, 2000.0, 4000.0, 16000.0])
LARGEST = 1000.0


def arm(means: list[float], seed: int, spread: float = 0.02) -> Draws:
    """Draws through scores that scatter about means (nodes,), on a law that rises."""
    rng = np.random.default_rng(seed)
    scores = np.clip(np.array(means) + rng.normal(0, spread, (200, len(means))), 0.5, 0.9995)
    law = {"a": np.full(200, 0.95), "b": np.full(200, 1.0), "c": np.full(200, 0.5), "n0": np.zeros(200)}
    return {**law, "nodes": NODES, "bend": scores - evaluate(law, NODES, 0.5)}


def mean_at(draws: Draws, sizes: np.ndarray) -> np.ndarray:
    return evaluate(draws, sizes, 0.5).mean(axis=0)


beyond = st.lists(st.floats(0.6, 0.995), min_size=3, max_size=3)


@given(tuned=beyond, scratch=beyond, probe=beyond, spread=st.sampled_from((0.0, 0.02, 0.1)))
def test_no_mean_falls_beyond_and_nothing_measured_moves(tuned, scratch, probe, spread: float):
    measured = [0.6, 0.7, 0.85, 0.83]  # a fall that was measured is kept
    arms = {
        name: arm([*measured, *ends], k, spread)
        for k, (name, ends) in enumerate(((SCRATCH, scratch), (FINE_TUNE, tuned), (LINEAR_PROBE, probe)))
    }
    found = no_fall_beyond(arms, LARGEST, 0.5)
    assert list(found) == list(arms)
    sizes = np.geomspace(LARGEST, 4 * LARGEST, 40)
    for name in arms:
        before, after = mean_at(arms[name], sizes), mean_at(found[name], sizes)
        assert (np.diff(after) > -5e-4).all()
        assert (after > before - 1e-9).all()
        inside = np.geomspace(25, LARGEST, 30)
        assert np.array_equal(evaluate(arms[name], inside, 0.5), evaluate(found[name], inside, 0.5))
    gains = [(evaluate(of[FINE_TUNE], 4000.0, 0.5) - evaluate(of[SCRATCH], 4000.0, 0.5))[:, 0] for of in (arms, found)]
    assert (np.sign(np.round(gains[1], 9)) * np.sign(np.round(gains[0], 9)) >= 0).all(), "no draw turns over"


def test_an_arm_that_does_not_fall_is_left_alone():
    rises, falls = arm([0.6, 0.7, 0.8, 0.85, 0.88, 0.9, 0.9], 0), arm([0.6, 0.7, 0.8, 0.85, 0.83, 0.8, 0.8], 1)
    found = no_fall_beyond({SCRATCH: rises, LINEAR_PROBE: falls}, LARGEST, 0.5)
    assert found[SCRATCH] is rises
    assert mean_at(found[LINEAR_PROBE], np.array([4000.0])) >= 0.85 - 2e-3


def test_fine_tuning_and_scratch_are_raised_by_the_same_share():
    rises, falls = arm([0.6, 0.7, 0.8, 0.85, 0.88, 0.9, 0.9], 0, 0.0), arm([0.6, 0.7, 0.8, 0.85, 0.8, 0.8, 0.8], 1, 0.0)
    found = no_fall_beyond({SCRATCH: rises, FINE_TUNE: falls}, LARGEST, 0.5)
    left = [(1 - mean_at(after, NODES[4:6])) / (1 - mean_at(before, NODES[4:6])) for before, after in (
        (rises, found[SCRATCH]), (falls, found[FINE_TUNE]))]  # fmt: skip
    assert left[0] == pytest.approx(left[1])


def test_a_law_without_a_bend_is_not_touched():
    law = {"a": np.full(5, 0.9), "b": np.ones(5), "c": np.full(5, 0.5)}
    assert no_fall_beyond({SCRATCH: law}, LARGEST, 0.5) == {SCRATCH: law}
