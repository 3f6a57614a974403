"""A backtest is of the model that ships, whether it reads a store or the runs table that was made of it."""

import csv
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from studies.backtest.evidence import measure_evidence
from studies.backtest.hold_out import hold_out
from studies.backtest.scorecard import score_all
from studies.collection.collect import collect
from studies.collection.curve_documents import Measured
from studies.files.shipped import EVIDENCE
from studies.runs.store import Store
from studies.runs.store_files import store_in
from studies.runs.tidy_runs import read_runs


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory, four_arms_store: Store) -> Path:
    out = tmp_path_factory.mktemp("collected")
    collect(four_arms_store, "four", out)
    return out


def measure(path: Path) -> tuple[list[Measured], list[str]]:
    return measure_evidence(read_runs(path), path)


def test_a_runs_table_next_to_its_curves_is_what_its_store_is(collected: Path, four_arms_store: Store):
    of_store, said = measure(four_arms_store.path)
    of_table, also_said = measure(collected / "runs.csv")
    assert said == also_said == []
    by_name = {one.table.name: one for one in of_table}
    assert by_name.keys() == {one.table.name for one in of_store}
    for one in of_store:
        other = by_name[one.table.name]
        assert (one.kind, one.table.n_runs) == (other.kind, other.table.n_runs)
        assert one.table.runs.test_covariance.any()
        np.testing.assert_allclose(one.table.runs.test_covariance, other.table.runs.test_covariance, rtol=2e-5)
        assert one.table.further.keys() == other.table.further.keys() == {"linear-probe", "random-convolutions"}
        for arm, pairs in one.table.further.items():
            np.testing.assert_allclose(pairs.test_covariance, other.table.further[arm].test_covariance, rtol=2e-5)
        assert one.table.patients.arms == other.table.patients.arms
        np.testing.assert_allclose(one.table.patients.values, other.table.patients.values, rtol=2e-5)


def test_the_two_have_the_same_figures(collected: Path, four_arms_store: Store):
    def figures(path: Path) -> list[float]:
        scores = score_all(hold_out(measure(path)[0])[0], lambda _draws, _margin: "fine-tune", 0.01)
        bands = scores.overall.bands
        return [*bands.crps.values(), *bands.width.values(), scores.overall.noise]

    assert figures(collected / "runs.csv") == pytest.approx(figures(four_arms_store.path), rel=1e-3)


def copy_of(collected: Path, out: Path, change: Callable[[dict], object]) -> Path:
    document = json.loads((collected / "curves.json").read_text())
    change(document)
    (out / "curves.json").write_text(json.dumps(document))
    (out / "runs.csv").write_bytes((collected / "runs.csv").read_bytes())
    return out / "runs.csv"


def test_what_the_curves_do_not_say_is_said(collected: Path, tmp_path: Path):
    runs = copy_of(collected, tmp_path, lambda document: document["curves"][0].pop("test_covariance"))
    found, said = measure(runs)
    n = len(found)
    assert said == [
        f"curves.json next to the runs lacks the test covariance of 1 of {n} tables: the sampling noise of the test "
        "patients is in neither forecasts nor truth"
    ]
    (tmp_path / "curves.json").unlink()
    found, said = measure(runs)
    assert len(said) == 1 and "no curves file at" in said[0]
    assert not any(one.table.runs.test_covariance.any() for one in found)


def test_curves_of_other_runs_are_not_taken_for_those_of_the_table(collected: Path, tmp_path: Path):
    runs = copy_of(collected, tmp_path, lambda document: None)
    with runs.open(newline="") as file:
        rows = list(csv.reader(file))
    columns = {name: k for k, name in enumerate(rows[0])}
    largest = max(int(row[columns["n_records"]]) for row in rows[1:] if row[columns["role"]] == "downstream")
    kept = [row for row in rows if row[columns["n_records"]] != str(largest) or row[columns["role"]] != "downstream"]
    with runs.open("w", newline="") as file:
        csv.writer(file).writerows(kept)
    found, said = measure(runs)
    assert len(said) == 1 and f"has other runs of {len(found)} of {len(found)} tables" in said[0]
    assert all(one.table.patients is None and one.kind is None for one in found)


def test_runs_without_a_pair_are_left_out_as_the_curves_leave_them_out(
    synthetic_run: Callable[..., object], four_arms_store: Store, tmp_path: Path
):
    store = Store(tmp_path / "study.db")
    for run in four_arms_store.runs():
        store.add(run, np.zeros((2, 5)))
    store.add(synthetic_run("resnet1d18-w16", "scratch", 9000, 0, 0.9), np.zeros((2, 5)))
    collect(store, "more", tmp_path)
    found, said = measure(tmp_path / "runs.csv")
    assert said == []
    assert all(one.table.runs.sizes.max() < 9000 for one in found if one.table.arch == "resnet1d18-w16")
    assert all(each.n_records < 9000 for one in found for each in one.table.by_replicate if each.scores)


def test_a_scorecard_has_no_figure_that_json_cannot_hold(collected: Path):
    scores = score_all(hold_out(measure(collected / "runs.csv")[0])[0], lambda _draws, _margin: "fine-tune", 0.01)
    json.dumps(asdict(scores), allow_nan=False)


def test_of_a_score_without_resamples_it_is_said_that_the_patients_noise_is_missing(
    four_arms_store: Store, tmp_path: Path
):
    store = Store(tmp_path / "study.db")
    for run in four_arms_store.runs():
        store.add(replace(run, auprc_macro=run.auroc_macro), np.zeros((2, 5)))
    found, said = measure_evidence(read_runs(store.path, "auprc_macro"), store.path)
    n = len(found)
    assert f"of {n} of {n} tables the sampling noise of the test patients is in neither forecasts nor truth" in said


def test_what_single_classes_scored_is_read_from_the_curves_of_a_table_too(tmp_path: Path):
    """The shipped evidence knows it of the convolutional network; from its store and from its table it is the same."""
    (pack,) = filter(None, map(store_in, EVIDENCE.glob("*/")))
    copy = tmp_path / pack.name
    copy.write_bytes(pack.read_bytes())
    stored, tabled = (
        {one.table.name: one.classes["scratch"] for one in measure(path)[0] if "scratch" in one.classes}
        for path in (copy, pack.with_name("runs.csv"))
    )
    assert len(stored) > 10
    assert stored.keys() == tabled.keys()
    for name, ours in stored.items():
        theirs = tabled[name]
        assert (ours.classes, ours.test_records) == (theirs.classes, theirs.test_records)
        np.testing.assert_allclose(ours.means, theirs.means, rtol=1e-3)
        np.testing.assert_allclose(ours.prevalence, theirs.prevalence, rtol=1e-3)
        np.testing.assert_array_equal(ours.sizes, theirs.sizes)
