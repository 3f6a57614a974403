"""Runs of further arms: their curves in a file, alone and pooled, what they cost, and what they leave alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studies.backtest.hold_out import hold_out
from studies.collection.collect import collect, make_curves
from studies.collection.curve_documents import Measured, fit_runs
from studies.files.curves import CurvesFile, CurvesFileError, parse_curves, read_curves
from studies.runs.pairs import of_one_precision
from studies.runs.run import Run
from studies.runs.run_tables import tabulate
from studies.runs.store import Store
from studies.runs.tidy_runs import TidyRuns, of_one_recipe, read_columns, tidy_records

FURTHER = ("linear-probe", "random-convolutions")
SIZES = np.array([100.0, 250, 500, 1000, 2000])


@pytest.fixture(scope="module")
def four(four_arms_path: Path) -> CurvesFile:
    return read_curves(four_arms_path)


def test_further_arms_leave_the_two_arms_as_they_are(four: CurvesFile, curves_path: Path):
    before = read_curves(curves_path)
    assert [curve.arch for curve in four.curves] == [curve.arch for curve in before.curves]
    for new, old in zip(four.curves, before.curves, strict=True):
        assert set(old.draws) == {"scratch", "fine-tune"} and set(new.draws) == {*old.draws, *FURTHER}
        for arm in old.draws:
            for name, values in old.draws[arm].items():
                np.testing.assert_array_equal(new.draws[arm][name], values[: len(new.draws[arm][name])])
        assert (new.runs, new.replicates, new.noise, new.sizes) == (old.runs, old.replicates, old.noise, old.sizes)


def test_the_draws_of_a_further_arm_hold_its_truth_and_its_difference(four: CurvesFile):
    held = []
    for curve in four.curves:
        for arm, difference in (("linear-probe", 1.6 * SIZES**-0.5), ("random-convolutions", np.full(5, 0.05))):
            truth = 0.93 - 2.2 * SIZES**-0.5 + difference
            drawn = curve.scores(arm, SIZES)
            for draws, true in ((drawn, truth), (drawn - curve.scores("scratch", SIZES), difference)):
                low, high = np.quantile(draws, (0.05, 0.95), axis=0)
                held.append((low <= true) & (true <= high))
            measured = [np.mean(curve.points[arm][int(n)]) for n in SIZES]
            assert drawn.mean(axis=0) == pytest.approx(measured, abs=0.006)
            assert drawn.mean(axis=0) == pytest.approx(truth, abs=0.012)
    assert np.mean(held) > 0.7, "90 % bands, of a few curves with the same runs from scratch"


def test_the_error_of_scratch_does_not_count_twice(four: CurvesFile):
    """A further arm that varies less than scratch is known better than its difference to scratch is."""
    for curve in four.curves:
        probe, scratch = curve.scores("linear-probe", 250)[:, 0], curve.scores("scratch", 250)[:, 0]
        assert probe.std() < (scratch.std() ** 2 + (probe - scratch).std() ** 2) ** 0.5
        assert curve.run_sd(250, "linear-probe") < 0.7 * curve.run_sd(250)


def test_older_readers_find_the_two_arms_where_they_were(four_arms_path: Path):
    document = json.loads(four_arms_path.read_text())
    assert document["schema_version"] == 3
    for curve in document["curves"]:
        assert set(curve["draws"]) == set(curve["points"]) == {"scratch", "fine-tune"}
        assert set(curve["cost"]) == {"scratch", "fine-tune", "pretraining"}
        assert set(curve["further_arms"]) == {*FURTHER}
    document["curves"][0]["further_arms"]["an arm of later"] = {}
    assert set(parse_curves(document).curves[0].draws) == {"scratch", "fine-tune", *FURTHER}


def test_random_convolutions_stand_next_to_every_network_and_a_probe_next_to_its_own(four: CurvesFile):
    one, other = four.curves
    assert one.points["random-convolutions"] == other.points["random-convolutions"]
    assert one.points["linear-probe"] != other.points["linear-probe"]
    assert set(four.networks) == {"resnet1d18-w16", "gru-w32"}


def test_a_further_arm_costs_seconds_a_record_that_it_is_given(four: CurvesFile):
    for curve in four.curves:
        for arm in FURTHER:
            cost = curve.cost[arm]
            assert cost.records_seen(700) == 700
            assert cost.seconds_per_record == pytest.approx(1 / 1000)
            assert not cost.has_epochs and curve.cost["scratch"].has_epochs


def test_the_two_arms_are_forecast_as_without_further_ones(four_arms_store: Store, curves_path: Path):
    runs = tidy_records(four_arms_store.runs(), Path("four.db"))
    two = replace(runs, runs=tuple(run for run in runs.runs if run.strategy not in FURTHER))
    tables, plain = (tabulate(one)[0][:1] for one in (runs, two))
    assert tables[0].further and not plain[0].further
    cells, without = (hold_out([Measured(table, runs.metric) for table in some])[0] for some in (tables, plain))
    for cell, same in zip(cells, without, strict=True):
        assert set(cell.measured) == {"scratch", "fine-tune"}
        np.testing.assert_array_equal(cell.gain_draws, same.gain_draws)


def test_an_arm_that_cannot_be_fitted_is_named_and_the_others_are_there(four_arms_store: Store, tmp_path: Path):
    runs = [run for run in four_arms_store.runs() if run.strategy != "linear-probe" or run.n_records == 500]
    document = make_curves(runs, "s")
    assert [set(curve["further_arms"]) for curve in document["curves"]] == [{"random-convolutions"}] * 2
    said = "scratch was measured at one size only; a curve needs 2 sizes, better six"  # of the pairs
    assert sorted(document["not_fitted"]) == [
        f"ptb-xl/superclass {arch} from ptb-xl/non-diagnostic, linear-probe: {said}"
        for arch in ("gru-w32", "resnet1d18-w16")
    ]


def table_of(tasks: int, probed: int, sd: float = 0.004) -> TidyRuns:
    """Runs of anybody's: every task has random convolutions at +.03, the first ``probed`` a linear probe at +.05."""
    rows = []
    for task in range(tasks):
        level = np.random.default_rng([5, task]).normal(0, 0.01)
        for arm, gain in (("scratch", 0.0), ("fine-tune", 0.01), ("linear-probe", 0.05), ("random-convolutions", 0.03)):
            if arm == "linear-probe" and task >= probed:
                continue
            rng = np.random.default_rng([task, *arm.encode()])
            arch = arm if arm == "random-convolutions" else "net"
            upstream = "up" if arm in ("fine-tune", "linear-probe") else ""
            for n in SIZES:
                for replicate in range(3):
                    score = 0.88 + level - 1.5 * n**-0.5 + gain + sd * rng.normal()
                    rows.append((f"ward/{task}", arch, arm, upstream, int(n), replicate, score))
    names = ("task", "arch", "strategy", "upstream", "n_records", "replicate", "auroc_macro")
    return read_columns(dict(zip(names, zip(*rows, strict=True), strict=True)))


@pytest.fixture(scope="module")
def pooled() -> dict[int, dict]:
    """The pooled curve's description by the number of tasks, of three, that have a linear probe."""
    documents = {probed: fit_runs(table_of(3, probed), "now") for probed in (0, 1, 3)}
    return {probed: next(c for c in document["curves"] if c.get("pooled")) for probed, document in documents.items()}


def test_a_pool_has_a_further_arm_where_two_tasks_have_it(pooled: dict[int, dict]):
    assert [set(pooled[k]["further_arms"]) for k in (0, 1, 3)] == [
        {"random-convolutions"}, {"random-convolutions"}, {*FURTHER},
    ]  # fmt: skip


def test_a_pool_of_three_arms_has_the_draws_that_it_has_with_four(pooled: dict[int, dict]):
    for other in (pooled[1], pooled[0]):
        kept = min(len(one["draws"]["scratch"]["a"]) for one in (pooled[3], other)) // 4 * 4
        for arm in ("scratch", "fine-tune"):
            assert pooled[3]["draws"][arm]["a"][:kept] == other["draws"][arm]["a"][:kept]
        assert (
            other["further_arms"]["random-convolutions"]["nodes"]
            == (pooled[3]["further_arms"]["random-convolutions"]["nodes"])
        )


def test_a_pools_further_arm_has_the_difference_that_the_tasks_share(tmp_path: Path):
    document = fit_runs(table_of(5, 4), "now")
    (tmp_path / "curves.json").write_text(json.dumps(document))
    curve = next(c for c in read_curves(tmp_path / "curves.json").curves if c.task == "a new task")
    for arm, gain in (("linear-probe", 0.05), ("random-convolutions", 0.03)):
        drawn = curve.scores(arm, SIZES) - curve.scores("scratch", SIZES)
        assert np.median(drawn, axis=0) == pytest.approx(np.full(5, gain), abs=0.01)
        low, high = np.quantile(drawn, (0.05, 0.95), axis=0)
        assert ((low < gain) & (gain < high)).all()


def test_runs_that_pair_with_nothing_from_scratch_are_said(tmp_path: Path):
    runs = table_of(1, 1)
    moved = tuple(
        replace(run, replicate=run.replicate + 10) if run.strategy == FURTHER[0] else run for run in runs.runs
    )
    tables, left_out = tabulate(replace(runs, runs=moved))
    assert set(tables[0].further) == {"random-convolutions"}
    assert len(left_out) == 1 and left_out[0].startswith("linear-probe: none of its runs stands next to a curve")


def test_random_convolutions_of_a_network_go_before_those_of_all(synthetic_run: Callable[..., Run]):
    runs = table_of(1, 0)
    named = [replace(run, arch="net", auroc_macro=0.6) for run in runs.runs if run.strategy == FURTHER[1]]
    (table,) = tabulate(replace(runs, runs=(*runs.runs, *named)))[0]
    assert set(np.unique(table.further[FURTHER[1]].scores[FURTHER[1]])) == {0.6}


def test_collecting_further_arms_writes_a_summary_of_them(four_arms_store: Store, tmp_path: Path):
    collect(four_arms_store, "four", tmp_path)
    summary = (tmp_path / "SUMMARY.md").read_text()
    for arm in FURTHER:
        assert f"| {arm} |" in summary


@pytest.mark.parametrize(
    "damage", [{"bend": "AAAA"}, {"noise": {}}, {"nodes": [100.0, 50.0]}, {"points": {"100": [2.0]}}]
)
def test_a_damaged_further_arm_is_damage_of_the_file(damage: dict, four_arms_path: Path, tmp_path: Path):
    document = json.loads(four_arms_path.read_text())
    document["curves"][0]["further_arms"]["linear-probe"] |= damage
    (tmp_path / "curves.json").write_text(json.dumps(document))
    with pytest.raises(CurvesFileError, match="is damaged"):
        read_curves(tmp_path / "curves.json")


def test_a_regression_counts_under_any_recipe_s_name_and_once(four_arms_store: Store):
    """Networks of one recipe stay apart from those of another; a linear probe has none."""
    runs = four_arms_store.runs()
    kept, said = of_one_recipe(runs)
    assert (kept, said) == (runs, [])
    renamed = [replace(run, recipe="tuned-2") for run in runs if run.strategy in FURTHER]
    for others in ([run for run in runs if run.strategy not in FURTHER] + renamed, runs + renamed):
        kept, said = of_one_recipe(others)
        assert len(kept) == len(runs) and said == []
    scratch = [replace(run, recipe="paper") for run in runs if run.strategy == "scratch"]
    kept, said = of_one_recipe(runs + scratch)
    assert kept == runs and said == [f"{len(scratch)} runs of other recipes than tuned are left out"]


def test_of_each_network_the_newest_recipe_with_both_arms_counts(four_arms_store: Store):
    runs = [run for run in four_arms_store.runs() if run.strategy not in FURTHER]
    arch = next(run.arch for run in runs if run.strategy == "fine-tune")
    newer = [replace(run, recipe="tuned-2") for run in runs if run.arch == arch]
    kept, said = of_one_recipe(runs + newer)
    assert {run.recipe for run in kept if run.arch == arch} == {"tuned-2"}
    assert [run for run in kept if run.arch != arch] == [run for run in runs if run.arch != arch]
    assert said == [f"{len(newer)} runs of other recipes than tuned-2 are left out"]
    alone = [run for run in newer if run.strategy == "scratch"]
    kept, said = of_one_recipe(runs + alone)
    assert (kept, said) == (runs, [f"{len(alone)} runs of other recipes than tuned are left out"])


def test_a_regression_stands_next_to_pairs_of_any_precision(four_arms_store: Store):
    """On a GPU networks train in bf16, while a regression is one in float32 there, too."""
    runs = [
        run if run.strategy in FURTHER else replace(run, precision="bf16")
        for run in four_arms_store.runs()
    ]  # fmt: skip
    assert {run.precision for run in runs if run.strategy in FURTHER} == {"float32"}
    curves = parse_curves(make_curves(runs, "gpu")).curves
    assert {curve.precision for curve in curves} == {"bf16"}
    assert all(set(FURTHER) <= set(curve.draws) for curve in curves)
    kept, said = of_one_precision(runs)
    assert (kept, said) == (runs, [])
