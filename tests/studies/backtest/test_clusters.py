"""Means over cells that belong together."""

import numpy as np
import pytest

from studies.backtest.clusters import Sample


def test_a_cell_that_several_schemes_predict_counts_once():
    sample = Sample.of([("a 100", "x/a"), ("a 100", "x/a"), ("b 100", "x/b")])
    assert sample.distinct == 2
    assert sample.mean([1.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert sample.mean([]) is None


def test_intervals_resample_whole_tasks_and_whole_sites():
    cells = [(f"{task} {n}", task) for task in ("x/a", "y/a", "z/a") for n in range(50)]
    sample = Sample.of(cells)
    values = [float(task == "x/a") for _, task in cells]  # fifty cells of a task are one piece of news
    low, high = sample.over_tasks(values)
    assert low == 0 and high >= 2 / 3
    assert sample.over_sites(values) == (low, high)
    assert sample.error(values) == pytest.approx(1 / 3)


def test_too_few_tasks_and_sites_have_no_interval():
    one = Sample.of([("a 1", "x/a"), ("a 2", "x/a")])
    assert (one.over_tasks([0.0, 1.0]), one.error([0.0, 1.0])) == (None, None)
    two_sites = Sample.of([("a 1", "x/a"), ("b 1", "x/b"), ("c 1", "y/c")])
    assert two_sites.over_tasks([0.0, 1.0, 1.0]) is not None
    assert two_sites.over_sites([0.0, 1.0, 1.0]) is None


def test_independent_cells_have_the_usual_standard_error():
    values = np.random.default_rng(0).random(200)
    sample = Sample.of([(k, f"task-{k}") for k in range(200)])
    assert sample.error(values) == pytest.approx(values.std(ddof=1) / 200**0.5)
