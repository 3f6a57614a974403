"""What the three curves say they rest on."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from studies.files.curve import Curve, MeasuredCurve, PilotCurve, PooledCurve
from studies.files.curves import read_curves
from studies.files.shipped import DEFAULT_CURVES

TASKS = ("ptb-xl/form", "ludb", "ward/rhythm")


@pytest.fixture
def measured(curves_path: Path) -> MeasuredCurve:
    (curve,) = (one for one in read_curves(curves_path).measured if one.arch == "gru-w32")
    return curve


def held_by(curve: Curve) -> dict[str, object]:
    return {field.name: getattr(curve, field.name) for field in fields(Curve)}


@pytest.fixture
def pool(measured: MeasuredCurve) -> PooledCurve:
    return PooledCurve(**held_by(measured), tasks=TASKS)


def pilot_on(measured: MeasuredCurve, predicted_by: PooledCurve | None) -> PilotCurve:
    points = {arm: {30: (0.7, 0.8), 60: (0.8, 0.9)} for arm in measured.draws}
    own = held_by(measured) | {"task": "ward/rhythm", "points": points, "runs": 8}
    sizes = (30, 60) if predicted_by is None else (30, 60, *predicted_by.sizes)
    return PilotCurve(**own | {"sizes": sizes}, predicted_by=predicted_by)


def test_a_file_s_curves_are_of_tasks_that_were_run_or_of_a_new_one(curves_path: Path, tmp_path: Path):
    document = json.loads(curves_path.read_text())
    document["curves"].append({**document["curves"][0], "pooled": True, "tasks": list(TASKS), "points": {}})
    (tmp_path / "curves.json").write_text(json.dumps(document))
    opened = read_curves(tmp_path / "curves.json")
    assert [type(curve) for curve in opened.curves] == [MeasuredCurve, MeasuredCurve, PooledCurve]
    assert opened.measured == opened.curves[:2]
    assert [curve.measured_tasks for curve in opened.curves] == [("ptb-xl/superclass",), ("ptb-xl/superclass",), TASKS]


def test_a_pool_is_made_of_its_tasks_curves_of_the_same_network_and_metric(measured, pool: PooledCurve):
    assert pool.is_made_of(replace(measured, task="ludb"))
    others = ({"task": "chapman"}, {"task": "ludb", "arch": "gru-w64"}, {"task": "ludb", "metric": "f1"})
    assert not any(pool.is_made_of(replace(measured, **other)) for other in others)


def test_a_pilot_rests_on_its_runs_and_on_the_tasks_that_predicted_it(measured, pool: PooledCurve):
    pilot = pilot_on(measured, pool)
    assert pilot.rests_on == (pilot, pool)
    assert pilot.is_updated
    assert pilot.measured_tasks == ("ptb-xl/form", "ludb", "ward/rhythm")  # the user's own once, and last
    assert pilot.measured_sizes == (30, 60)
    assert pilot.support(31) == "measured"
    assert pilot.support(max(pool.sizes)) == "extrapolated"  # the pilot did not run there, and others reach it


def test_a_pilot_alone_rests_on_nothing_else(measured: MeasuredCurve):
    pilot = pilot_on(measured, None)
    assert pilot.rests_on == (pilot,)
    assert not pilot.is_updated
    assert pilot.measured_tasks == ("ward/rhythm",)
    assert pilot.support(1000) == "beyond"


def test_a_run_s_spread_falls_slower_only_beyond_the_sizes_that_it_was_fitted_to(measured, pool: PooledCurve):
    small = replace(pool, sizes=(100, 250))
    for n in (60, 200, 2000):
        assert pilot_on(measured, small).run_sd(n) == small.run_sd(n)
    assert small.run_sd(2000) > pool.run_sd(2000)


def test_the_parts_of_a_pool_are_one_a_task_and_their_runs_are_the_pool_s():
    curves = read_curves(DEFAULT_CURVES)
    pools = [curve for curve in curves.curves if isinstance(curve, PooledCurve)]
    for pool in pools:
        parts = curves.parts_of(pool)
        assert sorted(one.task for one in parts) == sorted(pool.tasks)
        assert sum(one.runs for one in parts) == pool.runs
    assert pools
