"""Runs of recurrent networks in groups: what they give, which go together, and what a failure does to the others."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.corpora.corpus import Corpus
from studies.running import one_run
from studies.running.design import Design, Grid
from studies.running.expansion import expand, hash_tasks
from studies.running.jobs import Job, Outcome
from studies.running.lockstep_groups import Groups, Kind, Kinds
from studies.running.progress import Progress
from studies.running.runner import run_study
from studies.running.workload import Workload
from studies.running.workplaces import Workplace
from studies.runs.run_spec import RunSpec
from studies.runs.store import Claim, Store

CPU = torch.device("cpu")


@pytest.fixture
def specs(corpus: Corpus) -> list[RunSpec]:
    grid = Grid(
        ("ptb-xl/superclass",), ("gru-w4",), ("scratch", "fine-tune"), (20, 30), 2, "tuned",
        (5, 6, 7, 8, 9), (10,), ("ptb-xl/non-diagnostic",), (1, 2, 3, 4),
    )  # fmt: skip
    return expand(Design("tiny", (grid,)), {"ptb-xl": corpus})


@pytest.fixture
def kinds(corpus: Corpus) -> Kinds:
    """Those of a GPU, trained here on a processor."""
    return Kinds(Workload({"ptb-xl": corpus}), "cuda")


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    resolve = RunSpec.resolve_recipe
    monkeypatch.setattr(RunSpec, "resolve_recipe", lambda self: replace(resolve(self), max_epochs=2, min_epochs=1))


@pytest.fixture
def thread() -> Iterator[Executor]:
    """Runs everything in this process."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def run(specs: list[RunSpec], store: Store, corpus: Corpus, workplace: Workplace, **options) -> Progress:
    hashes = hash_tasks(specs, {"ptb-xl": corpus})
    return run_study(specs, store, corpus.root.parent, hashes, workplace, **options)


def assert_close(one: Store, other: Store) -> None:
    runs, others = ({run.key: run for run in store.runs()} for store in (one, other))
    assert runs.keys() == others.keys()
    for key, record in runs.items():
        same = ("epochs", "records_seen", "gflop", "n_records", "data_hash", "attempts", "precision")
        assert [getattr(record, name) for name in same] == [getattr(others[key], name) for name in same]
        assert record.auroc_macro == pytest.approx(others[key].auroc_macro, abs=1e-3)
        np.testing.assert_allclose(one.probabilities(key), other.probabilities(key), atol=2e-3)


def test_a_study_in_groups_gives_what_its_runs_give_one_by_one(
    specs, corpus: Corpus, tmp_path: Path, thread: Executor, kinds: Kinds
):
    alone, grouped = Store(tmp_path / "alone.db"), Store(tmp_path / "grouped.db")
    run(specs, alone, corpus, Workplace(thread, lambda: 1))
    progress = run(specs, grouped, corpus, Workplace(thread, lambda: 1, kind=kinds))
    assert (progress.done, progress.failed) == (9, 0)
    assert_close(alone, grouped)
    ways = {(record.n_records, record.role): record.details["way"] for record in grouped.runs()}
    assert {ways[20, "downstream"], ways[30, "downstream"]} == {"lockstep of 4"}
    facts = [r.details["lockstep"] for r in grouped.runs() if r.role == "downstream"]
    assert all(one["runs"] == 4 and one["alone_over_together"] > 0 for one in facts)
    assert {record.details["way"] for record in alone.runs()} == {"eager"}


def test_a_study_in_groups_that_was_stopped_goes_on_to_the_same(
    specs, corpus: Corpus, tmp_path: Path, thread: Executor, kinds: Kinds
):
    whole, pieces = Store(tmp_path / "whole.db"), Store(tmp_path / "pieces.db")
    place = Workplace(thread, lambda: 1, kind=kinds)
    run(specs, whole, corpus, place)
    run(specs[:6], pieces, corpus, place)
    assert run(specs, pieces, corpus, place).done == 9
    assert_close(whole, pieces)


def test_a_member_that_fails_fails_alone_and_is_tried_again_alone(
    specs, corpus: Corpus, tmp_path: Path, thread: Executor, kinds: Kinds, monkeypatch
):
    scratch = [spec for spec in specs[1:] if spec.strategy == "scratch" and spec.n_records == 20]
    start = one_run.starting_point

    def fails(strategy, arch, contract, n_classes, seed, checkpoint):
        if seed == scratch[0].seed:
            raise RuntimeError("out of luck")
        return start(strategy, arch, contract, n_classes, seed, checkpoint)

    monkeypatch.setattr(one_run, "starting_point", fails)
    store = Store(tmp_path / "s.db")
    others = [replace(scratch[0], replicate=k) for k in (2, 3)]
    progress = run([*scratch, *others], store, corpus, Workplace(thread, lambda: 1, kind=kinds))
    assert (progress.done, progress.failed) == (3, 1)
    assert {record.attempts for record in store.runs()} == {1}
    assert [error for _, error in store.failures()] == ["RuntimeError: out of luck"] * 2


class Answers(Executor):
    """Answers every group at once with something made up, unless ``fails`` gives an error for it."""

    def __init__(
        self, made_up: Callable[[Job], Outcome], fails: Callable[[list[Job]], Exception | None] = lambda _jobs: None
    ) -> None:
        self.made_up, self.fails = made_up, fails
        self.given: list[list[Job]] = []

    def submit(self, fn: Callable, jobs: list[Job]) -> Future:
        self.given.append(jobs)
        future: Future = Future()
        if error := self.fails(jobs):
            future.set_exception(error)
        else:
            future.set_result([self.made_up(job) for job in jobs])
        return future

    @property
    def sizes(self) -> list[int]:
        return [len(jobs) for jobs in self.given]


def alike(spec: RunSpec) -> Kind:
    return Kind((spec.arch, spec.n_records), 8)


@pytest.fixture
def eight(specs) -> list[RunSpec]:
    """Eight runs of one kind that start from nothing."""
    return [replace(specs[1], replicate=k) for k in range(8)]


@pytest.mark.parametrize("error", [BrokenProcessPool("killed"), torch.OutOfMemoryError("full")])
def test_a_group_that_is_lost_as_a_whole_is_tried_again_in_halves_until_the_run_at_fault_is_alone(
    eight, corpus: Corpus, tmp_path: Path, made_up, error
):
    executor = Answers(made_up, lambda jobs: error if any(job.spec.replicate == 5 for job in jobs) else None)
    store = Store(tmp_path / "s.db")
    said: list[str] = []
    place = Workplace(executor, lambda: 1, kind=alike)
    progress = run(eight, store, corpus, place, report=lambda p: said.append(p.last))
    assert (progress.done, progress.failed) == (7, 1)
    assert executor.sizes[:7] == [8, 4, 4, 2, 1, 1, 1]
    assert {record.attempts for record in store.runs()} == {1}
    assert len(store.failures()) == 2, "the run at fault was tried twice, alone"
    assert any(line.startswith("trying 8 runs again, in halves") for line in said)
    assert store.claimed() == set()


def test_a_kind_that_does_not_fit_the_memory_trains_in_smaller_groups_from_then_on(
    eight, corpus: Corpus, tmp_path: Path, made_up
):
    executor = Answers(made_up, lambda jobs: torch.OutOfMemoryError("full") if len(jobs) > 4 else None)
    many = [*eight, *(replace(eight[0], replicate=k) for k in range(8, 16))]
    progress = run(many, Store(tmp_path / "s.db"), corpus, Workplace(executor, lambda: 1, kind=alike))
    assert (progress.done, progress.failed) == (16, 0)
    assert executor.sizes == [8, 4, 4, 4, 4]


def test_a_run_for_which_the_memory_is_short_the_first_time_is_tried_again_with_what_was_kept_dropped(
    specs, corpus: Corpus, tmp_path: Path, thread: Executor, monkeypatch
):
    train, calls, freed = one_run.train, [], []

    def short_of_memory(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("full")
        return train(*arguments, **options)

    monkeypatch.setattr(one_run, "train", short_of_memory)
    monkeypatch.setattr(one_run, "free_kept", lambda: freed.append(len(calls)))
    store = Store(tmp_path / "s.db")
    progress = run(specs[1:2], store, corpus, Workplace(thread, lambda: 1))
    assert (progress.done, progress.failed) == (1, 0)
    assert freed == [1]
    assert [record.attempts for record in store.runs()] == [2]


def test_a_run_that_another_runner_holds_is_left_out_of_the_group(
    eight, corpus: Corpus, tmp_path: Path, made_up, monkeypatch
):
    claim, asked = Store.claim, []

    def held(self: Store, key: str, spec, owner) -> Claim:
        if spec["replicate"] == 3 and not asked:
            asked.append(key)
            return Claim.ELSEWHERE
        return claim(self, key, spec, owner)

    monkeypatch.setattr(Store, "claim", held)
    executor = Answers(made_up)
    progress = run(eight, Store(tmp_path / "s.db"), corpus, Workplace(executor, lambda: 1, kind=alike))
    assert progress.done == 8
    assert executor.sizes == [7, 1]
    assert [job.spec.replicate for job in executor.given[1]] == [3]


def test_two_runners_on_one_store_share_the_runs_of_a_group(
    eight, corpus: Corpus, tmp_path: Path, made_up, monkeypatch
):
    first, second, path = Answers(made_up), Answers(made_up), tmp_path / "s.db"
    other = Store(path)
    claim = Store.claim

    def meanwhile(self: Store, key: str, spec, owner) -> Claim:
        if spec["replicate"] == 4 and not second.given:  # the other runner does three of them in this moment
            run(eight[4:7], other, corpus, Workplace(second, lambda: 1, kind=alike))
        return claim(self, key, spec, owner)

    store = Store(path)
    monkeypatch.setattr(Store, "claim", lambda self, *told: (meanwhile if self is store else claim)(self, *told))
    progress = run(eight, store, corpus, Workplace(first, lambda: 1, kind=alike))
    assert progress.done == 8
    assert (first.sizes, second.sizes) == ([5], [3])


def jobs_of(specs: list[RunSpec]) -> list[Job]:
    return [Job(spec, str(k), "downstream", "", Path(), Path()) for k, spec in enumerate(specs)]


@pytest.mark.parametrize(("workers", "expected"), [(1, 8), (2, 4), (3, 3), (8, 1)])
def test_the_last_runs_are_shared_out_evenly_among_the_workers(eight, workers: int, expected: int):
    assert len(Groups(alike).choose(jobs_of(eight), workers)) == expected


def test_a_group_is_made_of_one_kind_in_the_order_of_the_design(eight):
    other = [replace(spec, n_records=30) for spec in eight]
    mixed = jobs_of([spec for pair in zip(eight, other, strict=True) for spec in pair])
    group = Groups(alike).choose(mixed, 1)
    assert [job.spec for job in group] == eight
    assert Groups(lambda _spec: None).choose(mixed, 1) == mixed[:1]


def test_what_trains_together_is_alike_in_network_size_and_signal_and_is_trained_as_a_whole(specs, kinds: Kinds):
    spec = specs[1]
    same = [
        replace(spec, replicate=7), replace(spec, task="ptb-xl/rhythm"), replace(spec, learning_rate=1e-4), specs[2]
    ]  # fmt: skip
    other = [
        replace(spec, n_records=30), replace(spec, task="ptb-xl/superclass@I"), replace(spec, arch="gru-w8"),
        replace(spec, arch="lstm-w4"), replace(spec, recipe="paper"),
    ]  # fmt: skip
    assert {kinds(one) for one in same} == {kinds(spec)}
    assert kinds(spec) not in {kinds(one) for one in other}
    alone = [
        replace(spec, strategy="frozen"),
        replace(spec, strategy="random-frozen"),
        replace(spec, strategy="linear-probe"),
        replace(spec, strategy="random-convolutions", arch="random-convolutions"),
        replace(spec, arch="resnet1d18-w2"),
    ]
    assert {kinds(one) for one in alone} == {None}


def test_on_a_processor_every_run_trains_alone(specs, corpus: Corpus):
    assert Kinds(Workload({"ptb-xl": corpus}), "cpu")(specs[1]) is None


def test_a_group_holds_no_more_records_than_the_memory_is_good_for(specs, kinds: Kinds):
    assert kinds(replace(specs[1], n_records=100_000)).most == 5  # 4.8 GB of signals each
    assert kinds(replace(specs[1], n_records=1_000_000)) is None
