import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.corpus import Corpus
from studies import runner
from studies.checkpoints import MissingCheckpointError
from studies.design import Design, Grid
from studies.execution import BOOTSTRAP_RESAMPLES, Job, Outcome, training_rows
from studies.executors import Workplace, local_workplace
from studies.expansion import expand, hash_tasks
from studies.runner import run_study
from studies.spec import RunSpec
from studies.store import Store


class Inline(Executor):
    """Runs every call at once in this process."""

    def submit(self, fn: Callable, /, *args, **kwargs) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  a future carries whatever was raised
            future.set_exception(error)
        return future


@pytest.fixture
def specs(corpus: Corpus) -> list[RunSpec]:
    grid = Grid(
        ("ptb-xl/superclass",), ("resnet1d18-w2",), ("scratch", "fine-tune"), (20, 30), 2, "tuned",
        (5, 6, 7, 8, 9), (10,), ("ptb-xl/non-diagnostic",), (1, 2, 3, 4),
    )  # fmt: skip
    return expand(Design("tiny", (grid,)), {"ptb-xl": corpus})


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    resolve = RunSpec.resolve_recipe
    monkeypatch.setattr(RunSpec, "resolve_recipe", lambda self: replace(resolve(self), max_epochs=2, min_epochs=1))


def run(
    specs: list[RunSpec], store: Store, corpus: Corpus, workplace: Workplace | None = None, **options
) -> runner.Progress:
    hashes = hash_tasks(specs, {"ptb-xl": corpus})
    return run_study(specs, store, corpus.root.parent, hashes, workplace or Workplace(Inline(), lambda: 2), **options)


def results(store: Store) -> dict[str, tuple]:
    return {
        r.key: (r.row["auroc_macro"], r.row["best_epoch"], store.probabilities(r.key).tobytes()) for r in store.runs()
    }


def test_every_spec_is_run_once_and_a_second_call_has_nothing_to_do(specs, corpus: Corpus, tmp_path: Path, monkeypatch):
    store = Store(tmp_path / "s.db")
    progress = run(specs, store, corpus)
    assert (progress.done, progress.failed, progress.total) == (9, 0, 9)
    assert len(store.keys()) == 9
    monkeypatch.setattr(runner, "execute", lambda job: pytest.fail(f"{job} was run again"))
    assert run(specs, store, corpus).done == 9


def test_a_stopped_study_goes_on_to_the_same_results(specs, corpus: Corpus, tmp_path: Path):
    whole, pieces = Store(tmp_path / "whole.db"), Store(tmp_path / "pieces.db")
    run(specs, whole, corpus)
    run(specs[:4], pieces, corpus)
    run(specs, pieces, corpus)
    assert results(whole) == results(pieces)


def test_arms_are_paired_and_test_records_are_never_trained_on(specs, corpus: Corpus):
    task = corpus.task("superclass")
    for spec in specs[1:]:
        training, validation = training_rows(task, spec, spec.resolve_recipe())
        assert len(training) + len(validation) == spec.n_records
        assert not set(task.patients[training]) & set(task.patients[validation])
        assert set(task.folds[np.r_[training, validation]]) <= set(spec.pool_folds)
    scratch, tuned = specs[1], specs[2]
    assert {scratch.strategy, tuned.strategy} == {"scratch", "fine-tune"}
    for one, other in zip(*(training_rows(task, s, s.resolve_recipe()) for s in (scratch, tuned)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_record_says_what_was_done(specs, corpus: Corpus, tmp_path: Path):
    store = Store(tmp_path / "s.db")
    run(specs, store, corpus)
    record = next(r for r in store.runs() if r.row["strategy"] == "fine-tune" and r.row["n_records"] == 30)
    n_test = len(corpus.task("superclass").in_folds([10]))
    assert record.row["records_seen"] == 2 * (30 - round(0.2 * 30)) or record.row["records_seen"] < 60
    assert record.details["test_records"] == n_test
    assert store.probabilities(record.key).shape == (n_test, 5)
    assert len(record.details["bootstrap"]) == BOOTSTRAP_RESAMPLES
    assert record.row["gflop"] > 0
    assert record.details["source"]["licence"] == "CC BY 4.0"
    assert [v["epoch"] for v in record.details["validations"]] == [1, 2]


def test_a_failed_pretraining_fails_what_starts_from_it_and_nothing_else(
    specs, corpus: Corpus, tmp_path: Path, monkeypatch
):
    execute = runner.execute

    def fails(job: Job) -> Outcome:
        if job.role == "pretraining":
            raise RuntimeError("out of luck")
        return execute(job)

    monkeypatch.setattr(runner, "execute", fails)
    store = Store(tmp_path / "s.db")
    progress = run(specs, store, corpus)
    assert (progress.done, progress.failed) == (4, 5)
    assert {record.row["strategy"] for record in store.runs()} == {"scratch"}
    assert sorted({error.split()[0] for _, error in store.failures()}) == ["RuntimeError:", "its"]
    monkeypatch.setattr(runner, "execute", execute)
    assert run(specs, store, corpus).failed == 0
    assert store.failures() == []


def test_a_lost_checkpoint_is_named(specs, corpus: Corpus, tmp_path: Path):
    store = Store(tmp_path / "s.db")
    run(specs[:3], store, corpus)
    next((tmp_path / "s.checkpoints").iterdir()).rename(tmp_path / "gone")
    with pytest.raises(MissingCheckpointError, match=r"s\.checkpoints lacks"):
        run(specs, store, corpus)


def test_the_runner_imports_from_a_source_tree_with_little_installed():
    script = (
        "import sys\n"
        "absent = 'wfdb', 'typer', 'rich', 'pandas', 'h5py', 'requests', 'platformdirs'\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "import engine.corpus, studies.design, studies.executors, studies.runner, studies.store"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_worker_processes_give_what_this_process_gives(specs, corpus: Corpus, tmp_path: Path, monkeypatch):
    monkeypatch.undo()  # the recipe as it is: a patch would not reach the workers
    here, there = Store(tmp_path / "here.db"), Store(tmp_path / "there.db")
    few = [spec for spec in specs if spec.strategy == "scratch" and spec.n_records == 20 and spec.replicate == 0]
    few = [spec for spec in few if spec.task == "ptb-xl/superclass"]
    run(few, here, corpus)
    with local_workplace(1) as workplace:
        run(few, there, corpus, workplace)
    assert results(here) == results(there)
    assert sqlite3.connect(tmp_path / "there.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
