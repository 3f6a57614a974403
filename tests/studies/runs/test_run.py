"""A run and its columns: one table of them for the store, the runs table and its reader."""

import csv
import pickle
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studies.collection.collect import collect
from studies.runs.run import COLUMN_KINDS, COLUMNS, Run, known, read_row, row_of
from studies.runs.run_spec import RunSpec, read_spec
from studies.runs.store import Store

EMPTY = Run(task="ward", arch="net", family="other", strategy="scratch", n_records=100, replicate=0)


def test_a_store_has_the_columns_of_a_run_and_its_details(tmp_path: Path):
    Store(tmp_path / "s.db").close()
    table = sqlite3.connect(tmp_path / "s.db").execute("PRAGMA table_info(runs)")
    assert {name: kind for _, name, kind, *_ in table} == {
        "details": "TEXT", **{name: kind.sql for name, kind in COLUMN_KINDS.items()},
    }  # fmt: skip


def test_a_table_of_runs_is_read_back_as_what_was_stored(tmp_path: Path, synthetic_store):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    with collect(store, "s", tmp_path)[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    stored = store.runs()
    assert [read_row(row) for row in rows] == [row_of(run) for run in stored]
    assert [Run(**read_row(row)) for row in rows] == [replace(run, details={}) for run in stored]


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("device", "", None), ("device", "CPU", "CPU"), ("upstream", "None", None), ("upstream", "-", None),
        ("upstream", "ptb-xl/all", "ptb-xl/all"), ("recipe", "none", "none"), ("epochs", "12", 12),
        ("epochs", "12.0", 12), ("epochs", "12.5", None), ("epochs", "many", None), ("epochs", "1e15", None),
        ("seconds", "1.5", 1.5), ("seconds", "inf", None), ("seconds", "nan", None), ("ece", "", None),
        ("precision", "bf16", "bf16"), ("precision", "", None), ("precision", "0.8", None),
    ],
)  # fmt: skip
def test_a_cell_is_read_as_its_column_says(column: str, cell: str, value: object):
    assert read_row({column: cell}) == dict.fromkeys(COLUMNS) | {column: value}


def test_what_a_table_does_not_say_is_none_and_not_taken_for_known():
    assert (EMPTY.seconds, EMPTY.device, EMPTY.key, EMPTY.test_maximum) == (None, None, None, None)
    assert not EMPTY.has_cost and not EMPTY.has_score and EMPTY.trajectory == () and not len(EMPTY.bootstrap)
    with pytest.raises(ValueError, match="does not say"):
        known(EMPTY.seconds)
    with pytest.raises(ValueError, match="does not say"):
        EMPTY.score  # noqa: B018
    with pytest.raises(KeyError):
        EMPTY.spec  # noqa: B018


def test_a_run_is_compared_by_the_metric_that_was_asked_for():
    run = replace(EMPTY, auroc_macro=0.8, f1_macro=0.5, other_scores={"kappa": 0.3})
    assert [replace(run, metric=metric).score for metric in ("auroc_macro", "f1_macro", "kappa")] == [0.8, 0.5, 0.3]
    assert run.value("loudness") is None


def test_a_cost_is_known_where_the_best_epoch_is_one_of_those_that_were_run():
    cost = {"device": "CPU", "seconds": 2.0, "seconds_to_best": 1.0, "epochs": 10, "best_epoch": 10,
            "records_seen": 100, "records_to_best": 50}  # fmt: skip
    assert replace(EMPTY, **cost).has_cost
    for name, wrong in (("device", None), ("best_epoch", 11), ("records_to_best", 0), ("seconds_to_best", None)):
        assert not replace(EMPTY, **{**cost, name: wrong}).has_cost
    assert replace(EMPTY, **{**cost, "best_epoch": 0, "records_to_best": 0}).has_cost  # a probe that stayed the best


def test_a_trajectory_begins_with_the_first_epoch_although_a_probe_was_validated_before_it():
    looks = [
        {"records_seen": 0, "auroc": 0.8},
        {"records_seen": 80, "auroc": 0.82},
        {"records_seen": 160, "auroc": None},
    ]
    assert replace(EMPTY, details={"validations": looks}).trajectory == ((80, 0.82),)


def test_details_are_read_by_their_types(synthetic_run):
    run = synthetic_run("gru-w32", "fine-tune", 100, 0, 0.7)
    run = replace(run, details={**run.details, "bootstrap": [0.5, None], "validations": [
        {"records_seen": 80, "auroc": 0.6}, {"records_seen": 160, "auroc": None}]})  # fmt: skip
    np.testing.assert_array_equal(run.bootstrap, [0.5, np.nan])
    assert run.trajectory == ((80, 0.6),)
    assert (run.spec.pool_folds, run.spec.learning_rate) == ((5, 6, 7, 8, 9), None)
    assert run.training_recipe.patience is None  # not thought of when the run was stored
    assert run.training_records == 80
    assert pickle.loads(pickle.dumps(run)) == run  # noqa: S301  # as it comes from a worker


def test_a_spec_is_read_back_from_its_values():
    spec = RunSpec("a/b", "gru", "fine-tune", "a/c", 100, 1, "tuned", (1, 2), (10,), (3,), 50, 0.01, (2,), (9,))
    assert read_spec(spec.canonical()) == spec


def test_reading_a_store_takes_neither_torch_nor_numpy():
    code = "import sys; import studies.runs.store; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
