"""Signals are scaled lead by lead with what was measured on the training records."""

import numpy as np
import pytest

from engine.checkpoints.checkpoint import Standardisation


@pytest.fixture
def signals() -> np.ndarray:
    """Three leads of different level and size in millivolt; the second never changes."""
    rng = np.random.default_rng(0)
    level, size = np.array([[5.0], [0.1], [-1.0]]), np.array([[0.3], [0.0], [2.0]])
    return (level + size * rng.normal(size=(20, 3, 100))).astype(np.float32)


def test_standardised_signals_have_zero_mean_and_unit_standard_deviation_in_each_lead(signals):
    standardised = Standardisation.of(signals).apply(signals)
    assert standardised.dtype == np.float32
    assert standardised.shape == signals.shape
    np.testing.assert_allclose(standardised.mean(axis=(0, 2), dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(axis=(0, 2), dtype=np.float64), [1, 0, 1], atol=1e-5)


def test_a_lead_that_never_changes_becomes_zero_and_keeps_the_divisor_one(signals):
    standardisation = Standardisation.of(signals)
    assert standardisation.std[1] == 1.0
    assert np.all(standardisation.apply(signals)[:, 1] == 0)


def test_the_scaling_of_the_training_records_is_applied_to_others_and_leaves_them_unchanged():
    standardisation = Standardisation(mean=(1.0, -2.0), std=(0.5, 4.0))
    others = np.array([[[1.0, 2.0], [2.0, -6.0]]], np.float32)
    before = others.copy()
    np.testing.assert_array_equal(standardisation.apply(others), [[[0.0, 2.0], [1.0, -1.0]]])
    np.testing.assert_array_equal(others, before)


def test_the_scaling_is_that_of_all_samples_of_all_records_together():
    signals = np.array([[[0.0, 0.0]], [[2.0, 2.0]]], np.float32)  # each record on its own never changes
    assert Standardisation.of(signals) == Standardisation(mean=(1.0,), std=(1.0,))
