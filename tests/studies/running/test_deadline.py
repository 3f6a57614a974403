"""A study that has to end at a given moment: nothing is started after it, and what is in flight is ended."""

import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.corpora.corpus import Corpus
from studies.running import runner
from studies.running.jobs import Job, Outcome
from studies.running.progress import Pace
from studies.running.runner import run_study
from studies.running.workplaces import LocalExecutor, Workplace, stop_workers
from studies.runs.run_spec import RunSpec
from studies.runs.store import Store
from studies.runs.task_names import hash_task

SPECS = [
    RunSpec("ptb-xl/superclass", "gru-w4", "scratch", None, 20, k, "tuned", (5, 6, 7, 8, 9), (10,)) for k in range(6)
]


class SomeHang(LocalExecutor):
    """Answers its first ``answered`` calls at once with something made up; a worker process sleeps over the others."""

    def __init__(self, made_up: Callable[[Job], Outcome], answered: int) -> None:
        super().__init__(2)
        self.made_up = made_up
        self.left, self.given = answered, 0

    def submit(self, fn: Callable, jobs: list[Job]) -> Future:
        self.given += 1
        if not self.left:
            return super().submit(time.sleep, 600)
        self.left -= 1
        future: Future = Future()
        future.set_result([self.made_up(job) for job in jobs])
        return future


def are_gone() -> bool:
    """Whether the worker processes end; whoever waits for them first may take a moment to note it."""
    for _ in range(300):
        if not multiprocessing.active_children():
            return True
        time.sleep(0.1)
    return False


def run(store: Store, corpus: Corpus, executor: SomeHang, **options) -> runner.Progress:
    hashes = {SPECS[0].task: hash_task({"ptb-xl": corpus}, SPECS[0].task)}
    place = Workplace(executor, lambda: 2, stop=stop_workers)
    return run_study(SPECS, store, corpus.root.parent, hashes, place, **options)


def test_at_the_deadline_what_is_in_flight_is_ended_and_what_came_back_is_stored(
    corpus: Corpus, tmp_path: Path, made_up, monkeypatch: pytest.MonkeyPatch
):
    store, executor = Store(tmp_path / "s.db"), SomeHang(made_up, answered=3)
    # A clock that passes the deadline as soon as three runs are stored and two others are in flight.
    clock = lambda: 200.0 if executor.given == 5 and len(store.keys()) == 3 else 0.0  # noqa: E731
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    with executor:
        progress = run(store, corpus, executor, deadline=100.0)
        assert (progress.done, progress.failed, progress.running, progress.total) == (3, 0, 0, 6)
        assert are_gone()
    assert executor.given == 5
    assert (len(store.keys()), store.claimed(), store.failures()) == (3, set(), [])
    assert sqlite3.connect(tmp_path / "s.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with SomeHang(made_up, answered=6) as again:
        assert run(store, corpus, again).done == 6
    assert again.given == 3


def test_nothing_is_started_after_the_deadline(corpus: Corpus, tmp_path: Path, made_up):
    with SomeHang(made_up, answered=6) as executor:
        progress = run(Store(tmp_path / "s.db"), corpus, executor, deadline=time.monotonic() - 1)
    assert (progress.done, executor.given) == (0, 0)


def test_a_study_that_is_done_before_its_deadline_returns_at_once(corpus: Corpus, tmp_path: Path, made_up):
    with SomeHang(made_up, answered=6) as executor:
        assert run(Store(tmp_path / "s.db"), corpus, executor, deadline=time.monotonic() + 3600).done == 6


def test_what_would_not_end_before_the_deadline_is_not_started(
    corpus: Corpus, tmp_path: Path, made_up, monkeypatch: pytest.MonkeyPatch
):
    store, executor = Store(tmp_path / "s.db"), SomeHang(made_up, answered=6)
    clock = lambda: 10.0 * executor.given  # noqa: E731  a run takes ten seconds, the deadline leaves time for four
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    place = Workplace(executor, lambda: 1)
    hashes = {SPECS[0].task: hash_task({"ptb-xl": corpus}, SPECS[0].task)}
    with executor:
        progress = run_study(SPECS, store, corpus.root.parent, hashes, place, deadline=45.0)
    assert (progress.done, executor.given, store.claimed()) == (4, 4, set())


def test_a_pace_is_that_of_a_network_and_a_size_of_group():
    pace = Pace(lambda spec: spec.n_records)
    pace.note(SPECS[:2], 8.0)  # 40 records
    pace.note(SPECS[:2], 4.0)
    assert pace.seconds(SPECS[2:4]) == 4.0
    assert pace.seconds([replace(spec, n_records=100) for spec in SPECS[:2]]) == 20.0
    assert pace.seconds(SPECS[:1]) == pace.seconds([replace(spec, arch="lstm-w4") for spec in SPECS[:2]]) == 0.0
