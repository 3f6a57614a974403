"""What labels say, as a curves file keeps it, and what a new dataset's curve makes of it."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from studies.files.curve import Curve, PooledCurve
from studies.files.curves import CurvesFileError, parse_curves, read_curves
from studies.files.draws import bent
from studies.files.label_levels import LEVELS, Label, LabelLevels, read_levels, write_levels

DRAWS = 200
NODES = np.array([25.0, 100, 500, 2000, 8000, 32000])


def levels_with(effects: dict[str, float], spread: float = 0.02) -> LabelLevels:
    """Levels that are all but certain."""
    rng = np.random.default_rng(0)
    fixed = np.array([1.5, 0.3, 0.1]) + 0.01 * rng.standard_normal((DRAWS, 3))
    of_labels = np.array(list(effects.values())) + 0.01 * rng.standard_normal((DRAWS, len(effects)))
    return LabelLevels(tuple(effects), ("a", "b"), fixed, of_labels, np.full((DRAWS, len(LEVELS)), spread))


@pytest.fixture
def pool(curves_path: Path) -> PooledCurve:
    """A new dataset's curve: .8 from scratch, .05 more fine-tuned and .1 with a probe, whatever the size."""
    measured = read_curves(curves_path).measured[0]
    law = {"a": np.full(DRAWS, 0.9), "b": np.zeros(DRAWS), "c": np.ones(DRAWS), "n0": np.zeros(DRAWS)}
    over = {"scratch": 0.0, "fine-tune": 0.05, "linear-probe": 0.1}
    draws = {arm: bent(law, NODES, np.full((DRAWS, len(NODES)), 0.8 + more), 0.5) for arm, more in over.items()}
    shared = {one.name: getattr(measured, one.name) for one in fields(Curve)} | {"draws": draws}
    return PooledCurve(**shared, tasks=("x", "y", "z"), levels=levels_with({"AF": 1.5, "MI": -1.6}))


def test_what_is_written_is_read_back_to_a_thousandth_of_a_logit():
    levels = levels_with({"AF": 1.5, "MI": -0.6})
    read = read_levels(json.loads(json.dumps(write_levels(levels, 150))))
    assert (read.labels, read.sites) == (levels.labels, levels.sites)
    np.testing.assert_allclose(read.fixed, levels.fixed[:150], atol=6e-4)
    np.testing.assert_allclose(read.effects, levels.effects[:150], atol=6e-4)
    np.testing.assert_allclose(read.spreads, levels.spreads[:150], rtol=6e-4)


def test_labels_move_the_scores_and_what_an_arm_gains_follows_the_room_above_them(pool: PooledCurve):
    easy, hard = (pool.given((Label(name, 0.2),)) for name in ("AF", "MI"))
    before = {arm: pool.scores(arm, 2000).mean() for arm in pool.draws}
    for given, is_higher in ((easy, True), (hard, False)):
        after = {arm: given.scores(arm, 2000).mean() for arm in given.draws}
        assert (after["scratch"] > before["scratch"]) == is_higher
        room = (1 - after["scratch"]) / (1 - before["scratch"])
        for arm in ("fine-tune", "linear-probe"):
            expected = room * (before[arm] - before["scratch"])
            assert after[arm] - after["scratch"] == pytest.approx(expected, abs=2e-3)
    assert easy.labels == (Label("AF", 0.2),)


def test_a_single_run_scatters_by_its_positives_and_many_classes_average_it_out(pool: PooledCurve):
    law = (-3.0, -1.0, -1.0)  # of each arm; a tenth of the variance with a probe
    less = (-3.0 - np.log(10), -1.0, -1.0 - np.log(10))
    noise = {"scratch": law, "fine-tune": law, "linear-probe": less}
    known = replace(pool, levels=replace(pool.levels, noise=noise))
    rare, frequent = (known.given((Label("AF", share),)) for share in (0.02, 0.3))
    many = known.given(tuple(Label("AF", 0.02) for _ in range(9)))
    for n in (100, 1000):
        assert rare.run_sd(n) > 1.5 * frequent.run_sd(n)
        assert many.run_sd(n) < 0.6 * rare.run_sd(n)
        assert rare.run_sd(n, "linear-probe") < 0.5 * rare.run_sd(n)
    assert rare.run_sd(1000) < rare.run_sd(100)
    assert pool.given((Label("AF", 0.02),)).run_sd(100) == pool.run_sd(100), "nothing is known of it"


def test_a_small_test_set_and_a_handful_of_records_scatter_more_but_never_more_than_an_auroc_can(pool: PooledCurve):
    law = (-3.0, -1.0, 0.0)
    known = replace(pool, levels=replace(pool.levels, noise={"scratch": law}))
    labels = (Label("AF", 0.2),)
    assert known.given(labels, 60).run_sd(1000) > 1.3 * known.given(labels, 5000).run_sd(1000)
    assert known.given((Label("AF", 1e-9),)).run_sd(100) <= 0.2 + 1e-9


def test_a_measured_label_is_found_in_upper_and_lower_case(pool: PooledCurve):
    assert [pool.levels.find(Label(name, 0.1)) for name in ("AF", "af", "MI", "brugada", None)] == [0, 0, 1, None, None]


def test_without_labels_or_without_knowing_what_they_say_nothing_moves(pool: PooledCurve):
    assert pool.given(()) is pool
    without = replace(pool, levels=None)
    assert without.given((Label("AF", 0.2),)) is without


def test_no_arm_is_better_with_fewer_records_than_were_measured(pool: PooledCurve):
    given = pool.given((Label("AF", 0.2),))
    least = min(given.sizes)
    for arm in given.draws:
        few, more = given.scores(arm, least / 4), given.scores(arm, least)
        assert (few <= more + 1e-9).all()


@pytest.mark.parametrize("damage", ["draws", "labels", "missing", "count"])
def test_damage_is_refused_in_one_sentence(damage: str, curves_path: Path, tmp_path: Path):
    document = json.loads(curves_path.read_text())
    curve = document["curves"][0]
    n_draws = len(read_curves(curves_path).curves[0].draws["scratch"]["a"])
    rows = LabelLevels(("AF",), ("a",), np.zeros((n_draws, 3)), np.zeros((n_draws, 1)), np.ones((n_draws, len(LEVELS))))
    written = write_levels(rows, n_draws - (damage == "count"))
    if damage == "draws":
        written["draws"] = "!"
    elif damage == "labels":
        written["labels"] = ["AF", "MI"]
    elif damage == "missing":
        del written["sites"]
    pooled = {**curve, "pooled": True, "tasks": ["a", "b", "c"], "points": {}, "label_levels": written}
    document["curves"].append(pooled)
    (tmp_path / "curves.json").write_text(json.dumps(document))
    with pytest.raises(CurvesFileError, match="damaged"):
        read_curves(tmp_path / "curves.json")
    pooled["label_levels"] = write_levels(rows, n_draws)
    assert isinstance(parse_curves(document).curves[-1], PooledCurve), "undamaged, it is read"
