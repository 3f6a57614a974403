"""Bends are stored as packed numbers, and come back as they were."""

import json

import numpy as np
import pytest

from studies.files.draws_codec import read_draws, write_draws

RNG = np.random.default_rng(5)
DRAWS = {
    "a": RNG.uniform(0.6, 1, 40), "b": RNG.uniform(0, 3, 40), "c": RNG.uniform(0.1, 2, 40),
    "n0": RNG.uniform(0, 500, 40), "nodes": np.array([25.0, 100.0, 800.0]), "bend": RNG.normal(0, 0.2, (40, 3)),
}  # fmt: skip


def written(kept: int = 40) -> dict:
    return json.loads(json.dumps(write_draws({"scratch": DRAWS}, kept)))["scratch"]


@pytest.mark.parametrize("kept", [1, 7, 40])
def test_draws_come_back_as_they_were(kept: int):
    draws = read_draws(written(kept))
    np.testing.assert_allclose(draws["bend"], DRAWS["bend"][:kept], atol=0.5001e-4)
    np.testing.assert_array_equal(draws["nodes"], DRAWS["nodes"])
    for name in "abc":
        np.testing.assert_allclose(draws[name], DRAWS[name][:kept], rtol=1e-4)


def test_a_bend_of_more_than_a_score_is_one_of_a_score():
    draws = write_draws({"scratch": {**DRAWS, "bend": np.full((40, 3), -2.5)}}, 40)["scratch"]
    assert (read_draws(draws)["bend"] == -1).all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"bend": written()["bend"][:-8]}, "does not fit"),
        ({"bend": written()["bend"][:-7]}, None),
        ({"bend": "////" + written()["bend"][4:], "nodes": [1, 2]}, "does not fit"),
        ({"bend": 7}, None),
        ({"nodes": [25, 25, 800]}, "ascending"),
        ({"nodes": [0, 25, 800]}, "ascending"),
        ({"nodes": None}, None),
    ],
)
def test_damaged_bends_are_refused(damage: dict, message: str | None):
    with pytest.raises((ValueError, TypeError), match=message):
        read_draws({**written(), **damage})
