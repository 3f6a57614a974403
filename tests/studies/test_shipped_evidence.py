"""The evidence that ships: its curves come from its store, and its runs are what they say."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from studies.curves_file import read_curves
from studies.evidence import collect
from studies.evidence_files import DEFAULT_CURVES, EVIDENCE
from studies.store import Store

PACKS = sorted(path.parent for path in EVIDENCE.glob("*/study.db"))


@pytest.fixture(params=PACKS, ids=lambda path: path.name)
def pack(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_the_default_evidence_ships():
    assert DEFAULT_CURVES.parent in PACKS


def test_collecting_the_store_gives_the_shipped_files(pack: Path, tmp_path: Path):
    table, curves, not_fitted = collect(Store(pack / "study.db", create=False), pack.name, tmp_path)
    assert not_fitted == []
    for name in (table.name, "SUMMARY.md"):
        assert (tmp_path / name).read_bytes() == (pack / name).read_bytes()
    made, shipped = json.loads(curves.read_text()), json.loads((pack / "curves.json").read_text())
    one, other = made.pop("curves"), shipped.pop("curves")
    assert made == shipped
    for fitted, published in zip(one, other, strict=True):
        a, b = fitted.pop("draws"), published.pop("draws")
        assert fitted == published
        for arm, name in itertools.product(("scratch", "fine-tune"), "abc"):
            # another BLAS may round the last digit of a draw differently
            np.testing.assert_allclose(a[arm][name], b[arm][name], rtol=1e-4)


def test_runs_are_paired_and_complete(pack: Path):
    for curve in read_curves(pack / "curves.json").curves:
        assert curve.replicates >= 3
        assert set(curve.points["scratch"]) == set(curve.points["fine-tune"]) == set(curve.sizes)
        for size in curve.sizes:
            assert len(curve.points["scratch"][size]) == len(curve.points["fine-tune"][size]) >= 3


def test_every_run_names_its_data_and_device(pack: Path):
    store = Store(pack / "study.db", create=False)
    runs = store.runs()
    assert {run.details["source"]["name"] for run in runs} == {"ptb-xl"}
    assert all(run.details["source"]["licence"] == "CC BY 4.0" for run in runs)
    assert all(run.row["device"] and run.row["seconds"] > 0 for run in runs)
    for run in runs:
        assert store.probabilities(run.key).shape == (run.details["test_records"], len(run.details["classes"]))
        assert 0.5 < run.row["auroc_macro"] < 1
    with (pack / "runs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(runs)


def test_the_shipped_backtest_is_of_the_shipped_curves(pack: Path):
    backtest = json.loads((pack / "backtest.json").read_text())
    curves = read_curves(pack / "curves.json").curves
    assert set(backtest["tasks"]) == {curve.task for curve in curves if not curve.pooled}
    assert backtest["cells"] > 0
    assert backtest["regret"]["advice"] is not None


def test_evidence_is_small(pack: Path):
    assert (pack / "curves.json").stat().st_size < 2_000_000
    assert (pack / "study.db").stat().st_size < 20_000_000
