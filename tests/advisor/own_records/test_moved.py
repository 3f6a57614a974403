"""What a pilot measured and the bands that it leads to: where they differ, the answer says why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from advisor.answer.recommend import Question, recommend
from advisor.own_records.moved import Moved
from advisor.text.own_records_text import measured_rows
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.curve import Curve, PilotCurve, PooledCurve
from studies.files.curves import CurvesFile, read_curves
from studies.files.shipped import DEFAULT_CURVES


@pytest.fixture(scope="module")
def curves() -> CurvesFile:
    return read_curves(DEFAULT_CURVES)


def moved(curves: CurvesFile, gains: dict[int, float], *, alone: bool = False, n: int = 500) -> Moved:
    """An answer after a pilot whose one pair at each size gained ``gains``, and whose bands are those of the pool."""
    before = recommend(Question(n, "cnn"), curves)
    pool = before.curve
    assert isinstance(pool, PooledCurve)
    shared = {name: getattr(pool, name) for name in Curve.__dataclass_fields__}
    points = {SCRATCH: dict.fromkeys(gains, (0.8,)), FINE_TUNE: {size: (0.8 + g,) for size, g in gains.items()}}
    shared |= {"task": "mine", "runs": 2 * len(gains), "points": points}
    curve = PilotCurve(**shared, predicted_by=None if alone else pool)
    after = recommend(Question(n, "cnn"), replace(curves, curves=(curve,)))
    return Moved(before, after, "net", Path("pilot.db"), 10.0, False)


def band_at(found: Moved, n: int) -> tuple[float, float]:
    curve = found.after.curve
    gain = np.sort((curve.scores(FINE_TUNE, n) - curve.scores(SCRATCH, n))[:, 0])
    return float(gain[round(0.05 * (len(gain) - 1))]), float(gain[round(0.95 * (len(gain) - 1))])


def test_measured_gains_inside_their_bands_need_no_reason(curves: CurvesFile):
    found = moved(curves, {250: 0.01, 500: 0.01})
    assert (found.off_band, found.why_off_band) == ({}, None)
    assert "expected there" not in dict(measured_rows(found))
    document = found.as_dict()
    assert (document["off_band"], document["why_off_band"]) == ([], None)


@pytest.mark.parametrize(("gain", "alone"), [(0.19, False), (0.19, True), (-0.15, False)])
def test_gains_outside_the_bands_are_explained_by_noise_and_pooling(curves: CurvesFile, gain: float, alone: bool):
    found = moved(curves, {250: 0.01, 500: gain}, alone=alone)
    low, high = band_at(found, 500)
    assert not low <= gain <= high
    assert list(found.off_band) == [500]
    why = "the curve draws on all sizes together" if alone else "what the other tasks gained draws it towards them"
    said = dict(measured_rows(found))["expected there"]
    assert said == found.why_off_band
    assert said.startswith(f"{low:+.3f} to {high:+.3f} at 500 records (90 %): a few pairs are noisy, and {why}")
    (one,) = found.as_dict()["off_band"]
    assert (one["n_records"], one["gain"]) == (500, pytest.approx(gain))
    assert one["expected"]["mean_ci_upper"] == pytest.approx(high, abs=1e-4)


def test_a_gain_that_fits_its_own_number_of_records_is_said_to_change_with_it(curves: CurvesFile):
    found = moved(curves, {100: 0.1, 2000: 0.005}, n=2000)
    assert band_at(found, 2000)[1] < 0.1 < band_at(found, 100)[1]
    assert list(found.off_band) == [100]
    assert found.why_off_band is not None
    assert found.why_off_band.endswith("at 100 records (90 %): the gain changes with the number of records")


@pytest.mark.parametrize(
    ("seeds", "pairs", "says"),
    [
        ({0: 1}, 2, "--pilot again"),
        ({0: 4}, 1, "--pilot again"),
        ({0: 5}, 2, "--pilot --seed 1"),
        ({1: 5}, 2, "--pilot --seed 0"),
        ({0: 3, 1: 5}, 2, "--pilot --seed 0"),
        ({0: 5, 1: 4}, 1, "--pilot --seed 1"),
        ({0: 5, 1: 5}, 2, "--pilot --seed 2"),
    ],
)
def test_where_more_pairs_can_win_something_it_is_said_how_to_add_them(
    curves: CurvesFile, seeds: dict[int, int], pairs: int, says: str
):
    found = moved(curves, {60: 0.02, 180: 0.01})
    curve = replace(found.after.curve, seeds=seeds, replicates=sum(seeds.values()))
    after = recommend(found.after.question, replace(found.after.curves, curves=(curve,)))
    found = replace(found, after=after)
    assert found.after.pilot_value is not None
    assert found.after.pilot_value.pairs == pairs
    assert dict(measured_rows(found))["more pairs"] == f"{says} adds them"
    settled = replace(found, after=replace(found.after, pilot_value=None))
    assert "more pairs" not in dict(measured_rows(settled))
