"""Counts of probabilities in bins, and what of a model's facts can be used as such."""

from typing import Any

import numpy as np
import pytest

from engine.evaluation.score_histogram import bins_of, known_histogram, score_histogram


def test_a_probability_lies_in_the_bin_that_begins_with_it_and_one_in_the_last():
    probabilities = np.array([0.0, 0.0999, 0.1, 0.55, 0.8999, 0.9, 0.999, 1.0])
    assert bins_of(probabilities).tolist() == [0, 0, 1, 5, 8, 9, 9, 9]


def test_the_histogram_counts_every_record_of_every_class():
    probabilities = np.random.default_rng(0).random((200, 3))
    found = score_histogram(probabilities, ("A", "B", "C"))
    for k, name in enumerate("ABC"):
        assert found[name] == np.histogram(probabilities[:, k], bins=10, range=(0, 1))[0].tolist()


def test_a_kept_histogram_is_found_again():
    record = {"score_histogram": score_histogram(np.array([[0.5], [1.0]]), ("A",))}
    assert known_histogram(record, "A") == (0, 0, 0, 0, 0, 1, 0, 0, 0, 1)
    assert known_histogram(record, "B") is None


@pytest.mark.parametrize("histogram", [None, [], {}, {"A": [1] * 9}, {"A": [True] * 10}, {"A": [0] * 10}])
def test_what_is_no_histogram_is_none(histogram: Any):
    assert known_histogram({"score_histogram": histogram}, "A") is None
    assert known_histogram(histogram, "A") is None
