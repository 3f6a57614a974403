import sqlite3
from pathlib import Path

import numpy as np
import pytest

from studies.store import MIGRATIONS, Store, StoreError


def test_a_run_comes_back_as_it_was_written(tmp_path: Path, synthetic_run):
    store, run = Store(tmp_path / "s.db"), synthetic_run("gru-w32", "scratch", 100, 0, 0.7)
    probabilities = np.random.default_rng(0).random((30, 5)).astype(np.float32)
    store.add(run, probabilities)
    store.close()
    again = Store(tmp_path / "s.db", create=False)
    assert again.keys() == {run.key}
    assert again.runs() == [run]
    np.testing.assert_allclose(again.probabilities(run.key), probabilities, atol=5e-4)


def test_a_run_is_written_once_and_whole(tmp_path: Path, synthetic_run):
    store, run = Store(tmp_path / "s.db"), synthetic_run("gru-w32", "scratch", 100, 0, 0.7)
    store.add(run, np.zeros((2, 5)))
    with pytest.raises(StoreError, match="UNIQUE"):
        store.add(run, np.zeros((2, 5)))
    broken = synthetic_run("gru-w32", "scratch", 250, 0, 0.7)
    broken.row["seconds"] = None  # type: ignore[index]  # a row that the schema refuses
    with pytest.raises(StoreError, match="seconds"):
        store.add(broken, np.zeros((2, 5)))
    with pytest.raises(KeyError):
        store.probabilities(broken.key)
    assert store.keys() == {run.key}


def test_runs_come_in_an_order_that_does_not_depend_on_when_they_ended(tmp_path: Path, synthetic_run):
    runs = [
        synthetic_run("gru-w32", s, n, r, 0.7) for s in ("scratch", "fine-tune") for n in (100, 2000) for r in (0, 1)
    ]
    orders = []
    for name, ordered in (("a", runs), ("b", runs[::-1])):
        store = Store(tmp_path / name)
        for run in ordered:
            store.add(run, np.zeros((1, 5)))
        orders.append([run.key for run in store.runs()])
    assert orders[0] == orders[1]


def test_a_failure_is_listed_until_its_run_is_finished(tmp_path: Path, synthetic_run):
    store, run = Store(tmp_path / "s.db"), synthetic_run("gru-w32", "scratch", 100, 0, 0.7)
    store.add_failure(run.key, {}, "DivergedError: loss", "2026-11-22")
    assert store.failures() == [(run.key, "DivergedError: loss")]
    store.add(run, np.zeros((2, 5)))
    assert store.failures() == []


def test_stores_that_cannot_be_read_are_named(tmp_path: Path):
    with pytest.raises(StoreError, match="no study store"):
        Store(tmp_path / "none.db", create=False)
    (tmp_path / "text.db").write_text("this is no database, whatever its name says" * 30)
    with pytest.raises(StoreError, match="not a database"):
        Store(tmp_path / "text.db")
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    with pytest.raises(StoreError, match="update ecgadvise"):
        Store(tmp_path / "newer.db")


def test_reading_never_writes(tmp_path: Path, synthetic_run):
    store = Store(tmp_path / "s.db")
    store.close()
    reader = Store(tmp_path / "s.db", create=False)
    with pytest.raises(StoreError, match="readonly"):
        reader.add(synthetic_run("gru-w32", "scratch", 100, 0, 0.7), np.zeros((2, 5)))
