import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints.checkpoint import load_network
from engine.corpora.corpus import Corpus
from engine.evaluation.calibration import calibrated_probabilities, choose_thresholds, fit_temperature
from engine.evaluation.evaluation import evaluate
from engine.evaluation.metrics import LEAST_POSITIVES
from engine.seeds import stable_seed
from engine.training.loop import predict_logits
from studies.running import runner
from studies.running.design import Design, Grid
from studies.running.expansion import expand, hash_tasks
from studies.running.jobs import Job, Outcome, Result
from studies.running.one_run import BOOTSTRAP_RESAMPLES, execute_together, training_rows
from studies.running.runner import FailedFastError, WorkersGoneError, run_study
from studies.running.study_networks import MissingCheckpointError
from studies.running.workplaces import Workplace, local_workplace
from studies.runs.run_spec import RunSpec
from studies.runs.store import Store, StoreError
from studies.runs.task_names import hash_task


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
    return {r.key: (r.auroc_macro, r.best_epoch, store.probabilities(r.key).tobytes()) for r in store.runs()}


def test_every_spec_is_run_once_and_a_second_call_has_nothing_to_do(specs, corpus: Corpus, tmp_path: Path, monkeypatch):
    store = Store(tmp_path / "s.db")
    progress = run(specs, store, corpus)
    assert (progress.done, progress.failed, progress.total) == (9, 0, 9)
    assert len(store.keys()) == 9
    monkeypatch.setattr(runner, "execute_together", lambda jobs: pytest.fail(f"{jobs} were run again"))
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
    record = next(r for r in store.runs() if r.strategy == "fine-tune" and r.n_records == 30)
    n_test = len(corpus.task("superclass").in_folds([10]))
    assert record.records_seen == 2 * (30 - round(0.2 * 30)) or record.records_seen < 60
    assert record.test_records == n_test
    assert store.logits(record.key).shape == (n_test, 5)
    assert (record.least_positives, record.averaged) == (LEAST_POSITIVES, record.classes), "no class has that many"
    assert record.details["left_out"] == []
    assert len(record.bootstrap) == BOOTSTRAP_RESAMPLES
    assert record.gflop > 0
    assert record.source["licence"] == "CC BY 4.0"
    assert [v["epoch"] for v in record.validations] == [1, 2]


def test_a_run_s_scores_are_those_of_its_stored_logits_to_the_last_digit(specs, corpus: Corpus, tmp_path: Path):
    store = Store(tmp_path / "s.db")
    run(specs[:2], store, corpus)
    for record in store.runs():
        task = corpus.task(record.task.partition("/")[2])
        rows = task.in_folds(record.spec.test_folds)
        thresholds = [one["threshold"] for one in record.details["evaluation"]["classes"].values()]
        again = evaluate(
            task.labels[rows], store.probabilities(record.key), task.patients[rows], task.classes, thresholds,
            stable_seed(record.task), BOOTSTRAP_RESAMPLES,
        )  # fmt: skip
        kept = (record.auroc_macro, record.auprc_macro, record.f1_macro, record.brier, record.ece)
        assert kept == (again.auroc_macro, again.auprc_macro, again.f1_macro, again.brier, again.ece)
        assert record.details["bootstrap"] == again.as_dict()["bootstrap"]


def test_a_failed_pretraining_fails_what_starts_from_it_and_nothing_else(
    specs, corpus: Corpus, tmp_path: Path, monkeypatch
):
    def fails(jobs: list[Job]) -> list[Result]:
        return [RuntimeError("out of luck")] if jobs[0].role == "pretraining" else execute_together(jobs)

    monkeypatch.setattr(runner, "execute_together", fails)
    store = Store(tmp_path / "s.db")
    progress = run(specs, store, corpus)
    assert (progress.done, progress.failed) == (4, 5)
    assert {record.strategy for record in store.runs()} == {"scratch"}
    assert sorted({error.split()[0] for _, error in store.failures()}) == ["RuntimeError:", "its"]
    monkeypatch.setattr(runner, "execute_together", execute_together)
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
        "import engine.corpora.corpus, studies.running.design, studies.running.workplaces, studies.running.runner\n"
        "import studies.runs.store"
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


class Answers(Inline):
    """Answers every call at once with something made up, but those on some keys fail first, as often as told."""

    def __init__(self, made_up: Callable[[Job], Outcome], failures: dict[str, list[Exception]] | None = None) -> None:
        self.made_up, self.failures = made_up, failures or {}
        self.given: list[str] = []

    def submit(self, fn: Callable, jobs: list[Job]) -> Future:
        (job,) = jobs
        self.given.append(job.key)
        future: Future = Future()
        if self.failures.get(job.key):
            future.set_exception(self.failures[job.key].pop(0))
        else:
            future.set_result([self.made_up(job)])
        return future


def keys_of(specs: list[RunSpec], corpus: Corpus) -> list[str]:
    hashes = hash_tasks(specs, {"ptb-xl": corpus})
    return [spec.key(hashes) for spec in specs]


@pytest.mark.parametrize("error", [RuntimeError("out of luck"), BrokenProcessPool("killed")])
def test_a_run_that_fails_or_kills_its_worker_once_is_tried_again(
    specs, corpus: Corpus, tmp_path: Path, made_up, error
):
    specs = specs[:3]
    key = keys_of(specs, corpus)[1]
    store, executor = Store(tmp_path / "s.db"), Answers(made_up, {key: [error]})
    said: list[str] = []
    progress = run(specs, store, corpus, Workplace(executor, lambda: 1), report=lambda p: said.append(p.last))
    assert (progress.done, progress.failed) == (3, 0)
    assert executor.given.count(key) == 2
    assert {r.key: r.attempts for r in store.runs()}[key] == 2
    assert store.failures() == []
    assert any(line.startswith("trying again: ptb-xl/superclass") for line in said)


def test_a_run_that_kills_its_worker_twice_is_written_down_and_stops_no_other(
    specs, corpus: Corpus, tmp_path: Path, made_up
):
    key = keys_of(specs, corpus)[1]
    executor = Answers(made_up, {key: [BrokenProcessPool("killed"), BrokenProcessPool("killed")]})
    store = Store(tmp_path / "s.db")
    progress = run(specs, store, corpus, Workplace(executor, lambda: 2))
    assert (progress.done, progress.failed, progress.total) == (8, 1, 9)
    assert [k for k, _ in store.failures()] == [key, key]
    assert all("ended from outside" in error for _, error in store.failures())
    assert (progress.cells_done, progress.cells) == (5, 5)


def test_fail_fast_stops_at_the_first_failure_and_keeps_what_was_finished(
    specs, corpus: Corpus, tmp_path: Path, made_up
):
    keys = keys_of(specs, corpus)
    executor = Answers(made_up, {keys[3]: [RuntimeError("out of luck")]})
    store = Store(tmp_path / "s.db")
    with pytest.raises(FailedFastError, match="RuntimeError: out of luck"):
        run(specs, store, corpus, Workplace(executor, lambda: 1), fail_fast=True)
    assert store.keys() == set(keys[:3])
    assert store.claimed() == set()


class Interrupts(Answers):
    """Sends Ctrl-C to this process with the third of its calls."""

    def submit(self, fn: Callable, jobs: list[Job]) -> Future:
        if len(self.given) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return super().submit(fn, jobs)


def test_ctrl_c_writes_what_came_back_and_gives_up_its_claims(specs, corpus: Corpus, tmp_path: Path, made_up):
    before = signal.getsignal(signal.SIGINT)
    scratch = [spec for spec in specs if spec.strategy == "scratch"]
    store = Store(tmp_path / "s.db")
    with pytest.raises(KeyboardInterrupt):
        run(scratch, store, corpus, Workplace(Interrupts(made_up), lambda: 4))
    assert len(store.keys()) == 4, "those that were given out together came back"
    assert store.claimed() == set()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_lost_workplace_ends_the_study_and_not_its_runs(specs, corpus: Corpus, tmp_path: Path, made_up):
    keys = keys_of(specs, corpus)
    executor = Answers(made_up, {keys[2]: [ConnectionError("no route")]})
    store = Store(tmp_path / "s.db")
    place = Workplace(executor, lambda: 1, lambda: "the scheduler is gone" if len(executor.given) > 2 else None)
    with pytest.raises(WorkersGoneError, match="the scheduler is gone"):
        run(specs, store, corpus, place)
    assert store.keys() == set(keys[:2])
    assert store.failures() == []
    assert run(specs, store, corpus, Workplace(Answers(made_up), lambda: 2)).done == 9


class Remote(Inline):
    """Runs every call as a worker elsewhere would: it does not see the runner's folder of networks."""

    def __init__(self) -> None:
        self.sent: list[bool] = []

    def submit(self, fn: Callable, jobs: list[Job]) -> Future:
        self.sent += [job.sent is not None for job in jobs]
        return super().submit(fn, [replace(job, checkpoints=Path("not/here"), corpora=job.corpora) for job in jobs])


def test_networks_travel_once_to_a_worker_that_does_not_see_them(specs, corpus: Corpus, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here, there, executor = Store(tmp_path / "here.db"), Store(tmp_path / "there.db"), Remote()
    run(specs, here, corpus)
    run(specs, there, corpus, Workplace(executor, lambda: 2))
    assert results(here) == results(there)
    assert executor.sent.count(True) == 1
    name = keys_of(specs, corpus)[0]
    one, other = (tmp_path / f"{which}.checkpoints" / name / "weights.safetensors" for which in ("here", "there"))
    assert one.read_bytes() == other.read_bytes()


def test_a_worker_with_other_records_is_refused(specs, corpus: Corpus, tmp_path: Path):
    hashes = dict.fromkeys(hash_tasks(specs, {"ptb-xl": corpus}), "0" * 64)
    store = Store(tmp_path / "s.db")
    progress = run_study(specs[1:2], store, corpus.root.parent, hashes, Workplace(Inline(), lambda: 1))
    assert progress.failed == 1
    assert "holds other records than the study's" in store.failures()[0][1]


def test_validation_folds_and_leads_are_those_of_the_spec(specs, corpus: Corpus, tmp_path: Path):
    task = corpus.task("superclass")
    spec = replace(specs[1], task="ptb-xl/superclass@I+V2", n_records=60, validation_folds=(9,))
    training, validation = training_rows(task, spec, spec.resolve_recipe())
    assert len(training) + len(validation) == 60
    assert set(task.folds[validation]) == {9}
    assert set(task.folds[training]) == {5, 6, 7, 8}
    data_hash = hash_task({"ptb-xl": corpus}, spec.task)
    job = Job(spec, "k", "pretraining", data_hash, corpus.root.parent, tmp_path, keeps_network=True)
    (outcome,) = execute_together([job])
    assert isinstance(outcome, Outcome)
    assert outcome.network is not None
    assert json.loads(outcome.network["checkpoint.json"])["leads"] == ["I", "V2"]
    assert outcome.run.task == "ptb-xl/superclass@I+V2"
    assert outcome.run.spec.validation_folds == (9,)
    assert outcome.run.records_seen == 2 * len(training)


def test_every_strategy_runs_and_a_control_arm_starts_from_nothing(specs, corpus: Corpus, tmp_path: Path):
    spec = next(s for s in specs if s.strategy == "fine-tune" and s.n_records == 30)
    bare = replace(spec, upstream=None, upstream_folds=(), upstream_records=0)
    arms = [
        replace(spec, strategy="frozen"),
        replace(bare, strategy="random-frozen"),
        replace(bare, strategy="scratch"),
    ]
    store = Store(tmp_path / "s.db")
    run([specs[0], spec, *arms], store, corpus)
    runs = {r.strategy: r for r in store.runs() if r.role == "downstream"}
    assert set(runs) == {"scratch", "fine-tune", "frozen", "random-frozen"}
    assert runs["frozen"].gflop < runs["fine-tune"].gflop
    assert runs["frozen"].start_from == runs["fine-tune"].start_from is not None
    assert runs["random-frozen"].start_from is None
    for record in runs.values():
        assert all(getattr(record, name) is not None for name in ("f1_macro", "f1_weighted", "ece", "auroc_macro"))


def test_probes_train_on_all_records_of_the_pair_and_say_what_they_used(specs, corpus: Corpus, tmp_path: Path):
    spec = next(s for s in specs if s.strategy == "fine-tune" and s.n_records == 30)
    bare = replace(spec, upstream=None, upstream_folds=(), upstream_records=0)
    probe = replace(spec, strategy="linear-probe")
    kernels = replace(bare, strategy="random-convolutions", arch="random-convolutions")
    store = Store(tmp_path / "s.db")
    run([specs[0], spec, probe, kernels], store, corpus)
    runs = {r.strategy: r for r in store.runs() if r.role == "downstream"}
    assert runs["linear-probe"].start_from == runs["fine-tune"].start_from is not None
    assert runs["random-convolutions"].start_from is None
    assert (runs["random-convolutions"].family, runs["linear-probe"].family) == ("kernel", "cnn")
    task = corpus.task("superclass")
    pair = np.sort(np.concatenate(training_rows(task, spec, spec.resolve_recipe())))
    for strategy, one in (("linear-probe", probe), ("random-convolutions", kernels)):
        training, validation = training_rows(task, one, one.resolve_recipe())
        np.testing.assert_array_equal(training, pair)
        assert len(validation) == 0
        record = runs[strategy]
        assert (record.epochs, record.best_epoch, record.records_seen, record.records_to_best) == (1, 1, 30, 30)
        assert record.details["probe"]["cross_validated_auroc"][record.details["probe"]["features"]] == pytest.approx(
            record.validation_auroc, abs=1e-4
        )
        assert all(getattr(record, name) is not None for name in ("f1_macro", "ece", "auroc_macro", "seconds", "gflop"))
    assert runs["linear-probe"].details["probe"]["features"].startswith("resnet1d18-w2")


def test_the_published_recipe_says_what_its_test_maximum_was_worth(specs, corpus: Corpus, tmp_path: Path, monkeypatch):
    resolve = RunSpec.resolve_recipe
    monkeypatch.setattr(RunSpec, "resolve_recipe", lambda self: replace(resolve(self), validations=2))
    store = Store(tmp_path / "s.db")
    run([replace(specs[1], recipe="paper")], store, corpus)
    (record,) = store.runs()
    maximum = record.test_maximum
    assert maximum["auroc_chosen"] == round(record.auroc_macro, 6)
    assert maximum["f1_weighted_chosen"] == round(record.f1_weighted, 6)
    assert maximum["auroc_maximum"] >= maximum["auroc_chosen"]


def test_a_network_that_others_start_from_may_be_a_run_of_its_own_task(specs, corpus: Corpus, tmp_path: Path):
    scratch = replace(specs[1], n_records=50)
    both = replace(
        specs[2], task="ptb-xl/rhythm", upstream=scratch.task, upstream_folds=scratch.pool_folds, upstream_records=50
    )
    assert both.pretraining() == scratch
    pair = replace(specs[2], n_records=50)
    store = Store(tmp_path / "s.db")
    run([specs[0], scratch, pair, both], store, corpus)
    roles = {(r.task, r.strategy): r.role for r in store.runs()}
    assert roles["ptb-xl/superclass", "scratch"] == "downstream"
    assert roles["ptb-xl/non-diagnostic", "scratch"] == "pretraining"
    assert len(roles) == 4


def test_a_fine_tuned_run_reads_its_network_once(specs, corpus: Corpus, tmp_path: Path, read_weights: list[Path]):
    store = Store(tmp_path / "s.db")
    run(specs[:3], store, corpus)
    (key,) = store.pretrainings()
    another = next(spec for spec in specs[3:] if spec.strategy == "fine-tune")
    read_weights.clear()
    run([*specs[:3], another], store, corpus)
    assert len(store.keys()) == 4
    assert read_weights == [tmp_path / "s.checkpoints" / key / "weights.safetensors"]


def test_a_log_is_written_for_every_run(specs, corpus: Corpus, tmp_path: Path):
    store = Store(tmp_path / "s.db")
    run(specs[1:2], store, corpus, log_dir=tmp_path / "logs")
    (path,) = (tmp_path / "logs").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.stem == store.runs()[0].key == lines[0]["run"]
    assert (lines[0]["task"], lines[0]["strategy"]) == ("ptb-xl/superclass", "scratch")
    assert [line["epoch"] for line in lines[1:]] == [1, 2]
    assert {"auroc", "loss", "training_loss"} <= lines[1].keys()


def test_a_pretraining_learns_the_upstreams_own_labels(specs, corpus: Corpus, tmp_path: Path):
    store = Store(tmp_path / "s.db")
    run(specs[:2], store, corpus)
    classes = {r.task: tuple(r.classes) for r in store.runs()}
    assert classes == {
        name: corpus.task(name.partition("/")[2]).classes for name in ("ptb-xl/non-diagnostic", "ptb-xl/superclass")
    }


def test_a_kept_network_has_the_thresholds_of_its_calibrated_probabilities(specs, corpus: Corpus, tmp_path: Path):
    store = Store(tmp_path / "s.db")
    run(specs[:3], store, corpus)
    (key,) = store.pretrainings()
    network, facts = load_network(tmp_path / "s.checkpoints" / key)
    task = corpus.task("non-diagnostic")
    validation = training_rows(task, specs[0], specs[0].resolve_recipe())[1]
    signals = facts.standardisation.apply(corpus.signals[task.rows[validation]])
    logits = predict_logits(network, torch.from_numpy(signals)).numpy()
    assert facts.temperature == fit_temperature(task.labels[validation], logits) != 1.0
    chosen = choose_thresholds(task.labels[validation], calibrated_probabilities(logits, facts.temperature))
    np.testing.assert_array_equal(facts.thresholds, chosen)
    assert [scores["threshold"] for scores in facts.evaluation["classes"].values()] == list(facts.thresholds)


def test_a_run_predicts_its_test_records_once(specs, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    predicted = []
    monkeypatch.setattr(
        "engine.training.finish.predict_logits",
        lambda network, signals: [predict_logits(network, signals), predicted.append(len(signals))][0],
    )
    data_hash = hash_task({"ptb-xl": corpus}, specs[0].task)
    job = Job(specs[0], "k", "pretraining", data_hash, corpus.root.parent, tmp_path, keeps_network=True)
    (outcome,) = execute_together([job])  # scored twice, for the network has scores of calibrated probabilities
    validation = training_rows(corpus.task("non-diagnostic"), specs[0], specs[0].resolve_recipe())[1]
    assert outcome.network
    assert predicted == [len(validation), len(outcome.logits)]


def test_a_network_that_cannot_be_written_is_said_and_its_run_not_stored(
    specs, corpus: Corpus, tmp_path: Path, made_up
):
    (tmp_path / "s.checkpoints").write_text("in the way")
    store = Store(tmp_path / "s.db")
    with pytest.raises(StoreError, match=r"cannot write the pre-trained network .*s\.checkpoints"):
        run(specs, store, corpus, Workplace(Answers(made_up), lambda: 1))
    assert store.keys() == set()
    assert store.claimed() == set()
