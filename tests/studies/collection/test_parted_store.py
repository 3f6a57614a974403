"""Stores of several machines: one that travels in parts, and runs that two of them hold."""

import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studies.collection.collect import collect
from studies.collection.parted_store import NETWORKS, STORE, bring_together, split_store
from studies.files.curves import read_curves
from studies.running.study_networks import folder_of, read_files
from studies.runs.run import Run
from studies.runs.store import Store, StoreError

CNN, RNN = "resnet1d18-w16", "gru-w32"


def fill(path: Path, synthetic_run: Callable[..., Run], replicates: int = 12) -> Store:
    """A store with a pre-trained network and runs with probabilities of their own."""
    store, rng = Store(path), np.random.default_rng(0)
    pretraining = synthetic_run(CNN, "scratch", 8482, 0, 0.9, role="pretraining")
    runs = [synthetic_run(CNN, "scratch", 100, k, 0.7) for k in range(replicates)]
    for run in (pretraining, *runs):
        store.add(run, rng.random((500, 5)))
    network = folder_of(path) / str(pretraining.key)
    network.mkdir(parents=True)
    (network / "checkpoint.json").write_text("{}")
    (network / "weights.safetensors").write_bytes(b"weights")
    return store


def content(store: Store) -> dict[str, tuple[Run, bytes]]:
    return {str(run.key): (run, store.logits(str(run.key)).tobytes()) for run in store.runs()}


def test_a_store_in_parts_is_brought_back_whole(tmp_path: Path, synthetic_run):
    store = fill(tmp_path / "there.db", synthetic_run)  # open, and its newest runs in its log alone
    before = (tmp_path / "there.db").read_bytes()
    parts = split_store(tmp_path / "there.db", tmp_path / "parts", limit=30_000)
    assert (tmp_path / "there.db").read_bytes() == before
    assert {path.name for path in parts} == {path.name for path in (tmp_path / "parts").iterdir()}
    assert {STORE, NETWORKS, "probabilities-1.db", "probabilities-2.db"} <= {path.name for path in parts}
    assert all(path.stat().st_size <= 30_000 for path in parts if path.name.startswith("probabilities"))
    alone = Store(tmp_path / "parts" / STORE, create=False)
    assert alone.runs() == store.runs()
    assert len(alone.lacking_predictions()) == 13
    alone.close()
    runs, said = bring_together(tmp_path / "here.db", [tmp_path / "parts"])
    assert (runs, said) == ([], [f"13 runs copied from {tmp_path / 'parts'}"])
    assert content(Store(tmp_path / "here.db")) == content(store)
    (network,) = (tmp_path / "here.checkpoints").iterdir()
    assert read_files(network) == {"checkpoint.json": b"{}", "weights.safetensors": b"weights"}


def test_a_store_is_split_again_without_a_trace_of_the_last_time(tmp_path: Path, synthetic_run):
    fill(tmp_path / "there.db", synthetic_run).close()
    assert len(split_store(tmp_path / "there.db", tmp_path / "parts", limit=30_000)) > 3
    again = split_store(tmp_path / "there.db", tmp_path / "parts")
    assert {path.name for path in again} == {STORE, NETWORKS, "probabilities-1.db"}
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {path.name for path in again}


def test_runs_without_probabilities_are_taken_and_that_is_said(tmp_path: Path, synthetic_run):
    fill(tmp_path / "there.db", synthetic_run).close()
    for part in split_store(tmp_path / "there.db", tmp_path / "parts"):
        if part.name != STORE:
            part.unlink()
    _, said = bring_together(tmp_path / "here.db", [tmp_path / "parts"])
    assert said[0] == f"13 runs copied from {tmp_path / 'parts'}"
    assert "lacks 1 pre-trained networks" in said[1]
    assert "lacks the test predictions of 13 runs" in said[2]
    assert len(Store(tmp_path / "here.db").keys()) == 13


def test_networks_and_probabilities_that_come_later_are_taken_for_the_run_that_they_are_of(
    tmp_path: Path, synthetic_run
):
    store = fill(tmp_path / "there.db", synthetic_run)
    for part in split_store(tmp_path / "there.db", tmp_path / "parts"):
        if part.name != STORE:
            part.unlink()
    bring_together(tmp_path / "here.db", [tmp_path / "parts"])
    split_store(tmp_path / "there.db", tmp_path / "parts")
    _, said = bring_together(tmp_path / "here.db", [tmp_path / "parts"])
    assert said == [f"0 runs copied from {tmp_path / 'parts'}, 13 that {tmp_path / 'here.db'} has already left out"]
    assert content(Store(tmp_path / "here.db")) == content(store)
    assert len(list((tmp_path / "here.checkpoints").iterdir())) == 1

    bring_together(tmp_path / "again.db", [tmp_path / "there.db"])
    again = Store(tmp_path / "again.db")
    again.rewrite([replace(run, auroc_macro=0.5) for run in again.runs()])  # scored by another rule
    again._connection.execute("DELETE FROM predictions")
    again.close()
    bring_together(tmp_path / "again.db", [tmp_path / "there.db"])
    assert Store(tmp_path / "again.db").lacking_predictions() == []

    made_anew = Store(tmp_path / "anew.db")  # the same keys, trained at another time
    for run in store.runs():
        made_anew.add(replace(run, created="2030-01-01T00:00:00"), np.zeros((1, 5)))
    made_anew.close()
    split_store(tmp_path / "anew.db", tmp_path / "others")
    (tmp_path / "others" / "probabilities-1.db").unlink()
    bring_together(tmp_path / "mixed.db", [tmp_path / "others", tmp_path / "there.db"])
    assert len(Store(tmp_path / "mixed.db").lacking_predictions()) == 13


def test_a_folder_without_a_store_is_said(tmp_path: Path):
    with pytest.raises(StoreError, match=r"holds no study\.db: bring it again"):
        bring_together(tmp_path / "here.db", [tmp_path])


def test_a_run_that_stays_apart_counts_once_however_often_its_store_is_named(tmp_path: Path, synthetic_run):
    run = synthetic_run(CNN, "scratch", 100, 0, 0.7)
    for name, precision in (("here", "float32"), ("there", "bf16"), ("again", "bf16")):
        with closing(Store(tmp_path / f"{name}.db")) as store:
            store.add(replace(run, precision=precision), np.zeros((1, 5)))
    apart, _ = bring_together(tmp_path / "here.db", [tmp_path / "there.db", tmp_path / "again.db"])
    assert [(one.key, one.precision) for one in apart] == [(run.key, "bf16")]


@pytest.mark.parametrize("name", [NETWORKS, "probabilities-1.db"])
def test_a_damaged_part_is_said_and_nothing_is_copied(tmp_path: Path, synthetic_run, name: str):
    fill(tmp_path / "there.db", synthetic_run).close()
    split_store(tmp_path / "there.db", tmp_path / "parts")
    (tmp_path / "parts" / name).write_bytes(b"no" * 1000)
    with pytest.raises(StoreError, match=f"{name} is damaged"):
        bring_together(tmp_path / "here.db", [tmp_path / "parts"])
    assert Store(tmp_path / "here.db").keys() == set()


def test_a_run_that_both_hold_stays_as_it_is_and_that_is_said(tmp_path: Path, synthetic_run):
    run, other = synthetic_run(RNN, "scratch", 100, 0, 0.7), synthetic_run(RNN, "scratch", 100, 1, 0.7)
    here, there = Store(tmp_path / "here.db"), Store(tmp_path / "there.db")
    here.add(run, np.zeros((2, 5)))
    for one in (run, other):
        there.add(replace(one, device="GPU test", auroc_macro=0.6), np.zeros((2, 5)))
    runs, said = bring_together(tmp_path / "here.db", [tmp_path / "there.db"])
    assert runs == []
    assert said[0] == f"1 runs copied from {there.path}, 1 that {here.path} has already left out"
    assert {found.replicate: found.auroc_macro for found in here.runs()} == {0: 0.7, 1: 0.6}


def start_from(run: Run, key: str) -> Run:
    return replace(run, details={**run.details, "start_from": key})


def test_a_run_that_another_machine_made_in_another_precision_is_neither_lost_nor_pooled(
    tmp_path: Path, synthetic_store
):
    """Both machines ran one design: the recurrent runs are the same, the convolutional ones have the same keys."""
    made = synthetic_store(tmp_path / "made.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    here, there = Store(tmp_path / "here.db"), Store(tmp_path / "there.db")
    for run in made.runs():
        here.add(run, np.zeros((2, 5)))
        bf16 = run.arch == CNN
        score = run.auroc_macro - 0.05 * bf16
        facts = {"device": "GPU test", "precision": "bf16" if bf16 else "float32", "auroc_macro": score}
        there.add(replace(run, **facts), np.zeros((2, 5)))
    for store in (here, there):
        store.close()
    apart, said = bring_together(tmp_path / "here.db", [tmp_path / "there.db"])
    assert {(run.arch, run.precision) for run in apart} == {(CNN, "bf16")}
    assert len(apart) == 51
    assert said[0] == f"0 runs copied from {there.path}, 51 that {here.path} has already left out"
    assert f"51 runs of {there.path} count but are not copied" in said[1]
    store = Store(tmp_path / "here.db")
    assert store.runs() == made.runs(), "within a store a key stays unique"
    _, path, not_fitted = collect(store, "both", tmp_path / "both", apart)
    assert not_fitted == []
    curves = {(curve.arch, curve.precision): curve for curve in read_curves(path).curves}
    assert set(curves) == {(CNN, "float32"), (CNN, "bf16"), (RNN, "float32")}
    for (arch, precision), curve in curves.items():
        expected = [
            run.auroc_macro for run in made.runs() if (run.arch, run.strategy, run.n_records) == (arch, "scratch", 500)
        ]
        assert curve.points["scratch"][500] == pytest.approx(
            [e - 0.05 * (precision == "bf16") for e in expected], abs=1e-6
        )
    assert len((tmp_path / "both" / "runs.csv").read_text().splitlines()) == 1 + 102 + 51


def test_a_run_from_a_network_that_is_here_in_another_precision_stays_with_that_network(tmp_path: Path, synthetic_run):
    """It would be taken for one that started from the network that is here."""
    pretraining = synthetic_run(CNN, "scratch", 8482, 0, 0.9, role="pretraining")
    tuned = start_from(synthetic_run(CNN, "fine-tune", 100, 0, 0.7), pretraining.key)
    scratch = synthetic_run(CNN, "scratch", 100, 0, 0.7)
    here, there = Store(tmp_path / "here.db"), Store(tmp_path / "there.db")
    here.add(pretraining, np.zeros((2, 5)))
    for run in (pretraining, tuned, scratch):
        there.add(replace(run, precision="bf16"), np.zeros((2, 5)))
    apart, _ = bring_together(tmp_path / "here.db", [tmp_path / "there.db"])
    assert {run.key for run in apart} == {pretraining.key, tuned.key}
    assert here.precisions() == {pretraining.key: "float32", scratch.key: "bf16"}


OLD = np.linspace(0, 1, 10).reshape(2, 5).astype("<f2")
OLD_TABLE = "CREATE TABLE probabilities (key TEXT, records INTEGER, classes INTEGER, float16_zlib BLOB)"


def add_old_probabilities(path: Path, keys: list[str]) -> None:
    """Write probabilities as they were stored before there were logits."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(OLD_TABLE)
        rows = [(key, 2, 5, zlib.compress(OLD.tobytes())) for key in keys]
        connection.executemany("INSERT INTO probabilities VALUES (?, ?, ?, ?)", rows)


def test_a_folder_that_an_older_version_split_is_taken(tmp_path: Path, synthetic_run):
    keys = sorted(fill(tmp_path / "there.db", synthetic_run).keys())
    split_store(tmp_path / "there.db", tmp_path / "parts")
    (tmp_path / "parts" / "probabilities-1.db").unlink()
    add_old_probabilities(tmp_path / "parts" / "probabilities-1.db", keys)
    assert bring_together(tmp_path / "here.db", [tmp_path / "parts"])[1] == [
        f"13 runs copied from {tmp_path / 'parts'}"
    ]
    store = Store(tmp_path / "here.db")
    for key in keys:
        assert store.logits(key) is None
        assert store.probabilities(key).tolist() == OLD.tolist()


def test_a_store_of_an_older_version_is_split_and_brought_up_to_date(tmp_path: Path, synthetic_run):
    store = fill(tmp_path / "old.db", synthetic_run)
    keys = sorted(store.keys())
    store.close()
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection, connection:
        connection.executescript(
            "DROP TABLE predictions; ALTER TABLE runs DROP COLUMN precision; PRAGMA user_version = 2;"
        )
    add_old_probabilities(tmp_path / "old.db", keys)
    before = (tmp_path / "old.db").read_bytes()
    split_store(tmp_path / "old.db", tmp_path / "parts")
    assert (tmp_path / "old.db").read_bytes() == before
    bring_together(tmp_path / "here.db", [tmp_path / "parts"])
    store = Store(tmp_path / "here.db")
    assert set(store.precisions().values()) == {"float32"}
    assert {tuple(store.probabilities(key).ravel()) for key in keys} == {tuple(OLD.ravel())}
