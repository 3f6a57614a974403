"""``ecgadvise study`` as its users meet it: planned, run by two at once, killed, spread over a cluster, merged."""

import io
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from advisor.terminal.progress.study import _Screen, in_words
from engine.corpora.corpus import Corpus
from studies.running.progress import Progress
from studies.runs.run import row_of
from studies.runs.store import Store

REPOSITORY = Path(__file__).parents[3]
DESIGNS = REPOSITORY / "studies" / "designs"
MICRO = """
name = "micro"
tasks = ["ptb-xl/superclass"]
archs = ["resnet1d18-w2"]
strategies = ["scratch", "frozen"]
upstream = "ptb-xl/non-diagnostic"
upstream_folds = [1, 2, 3, 4]
pool_folds = [5, 6, 7, 8, 9]
test_folds = [10]
sizes = [20]
replicates = 2
recipe = "tuned"
"""


def ecgadvise(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ecgadvise", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def refused(result: subprocess.CompletedProcess[str], code: int) -> str:
    """Assert that the command ended with one sentence on stderr, nothing on stdout, and this exit code."""
    assert result.returncode == code, result
    assert result.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


@pytest.fixture
def place(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a design that takes seconds, where the small corpus is known."""
    monkeypatch.setenv("ECGADVISE_CORPORA", str(corpus.root.parent))
    (tmp_path / "micro.toml").write_text(MICRO)
    return tmp_path


def contents(store: Path) -> dict[str, tuple]:
    """What a store holds of every run, but for what the machine took."""
    opened = Store(store, create=False)
    measured = ("seconds", "seconds_to_best", "peak_memory_mb", "created")
    return {
        run.key: ({**row_of(run), **dict.fromkeys(measured)}, opened.probabilities(run.key).tobytes())
        for run in opened.runs()
    }


@pytest.fixture(scope="module")
def undisturbed(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    """What one runner gives that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "micro.toml").write_text(MICRO)
    words = ["study", "run", "micro.toml", "--corpora", str(corpus.root.parent), "--workers", "1"]
    assert ecgadvise(*words, cwd=folder).stdout == "5 of 5 runs done, 0 failed: micro.db\n"
    return contents(folder / "micro.db")


def started(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ecgadvise", *arguments], stdout=-1, stderr=-1, text=True, cwd=cwd
    )  # -1: a pipe


def test_two_runners_on_one_store_share_the_runs_and_give_what_one_gives(place: Path, undisturbed):
    words = ["study", "run", "micro.toml", "--workers", "1", "--log-dir", "logs"]
    runners = [started(*words, cwd=place) for _ in range(2)]
    said = [runner.communicate(timeout=300) for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], said
    assert all("5 of 5 runs done, 0 failed" in out for out, _ in said)
    lines = [line for _, errors in said for line in errors.splitlines()]
    assert sum("(another runner)" not in line for line in lines) == 5, "each run was run by one of them"
    assert contents(place / "micro.db") == undisturbed
    assert {path.stem for path in (place / "logs").iterdir()} == undisturbed.keys()
    status = ecgadvise("study", "status", "--store", "micro.db", cwd=place).stdout
    assert "5 runs done, 0 running, 0 failed" in status
    assert re.search(r"superclass +resnet1d18-w2 +scratch +n = 20 +2 done, 0 running, 0 failed, recipe tuned\n", status)


def test_a_study_that_is_killed_at_random_moments_and_resumed_gives_the_same(place: Path, corpus: Corpus):
    script = str(REPOSITORY / "tests" / "benchmarks" / "kills.py")
    options = ["3", "micro.toml", "--corpora", str(corpus.root.parent), "--workers", "1"]
    result = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, cwd=place, timeout=900)
    assert "of 5 runs: no difference" in result.stdout, result.stderr


def test_a_plan_predicts_time_and_price_for_what_is_left(place: Path):
    planned = ecgadvise("study", "plan", "micro.toml", "--gpu-cost", "2", "--device", "cpu", cwd=place)
    assert planned.returncode == 0, planned.stderr
    last = planned.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"left: 5 runs, [\d,]+ GFLOP, about [\d.]+ (s|min) on this machine, \d+ at a time, [\d.]+ at 2 an hour", last
    )
    bare = ecgadvise("study", "plan", "micro.toml", "--no-probe", cwd=place).stdout.splitlines()[-1]
    assert re.fullmatch(r"left: 5 runs, [\d,]+ GFLOP", bare)


def test_every_corpus_that_a_shipped_design_lacks_is_named_at_once(place: Path):
    said = refused(ecgadvise("study", "run", str(DESIGNS / "paper.toml"), cwd=place), 3)
    for corpus in ("ptb-xl-paper", "cpsc2018-paper", "georgia-paper", "ptb-paper", "code-test-paper"):
        assert f"no prepared corpus {corpus}" in said
        assert f"--data {corpus}=DIR" in said


def test_a_corpus_is_prepared_from_the_directory_that_is_given(place: Path, ptbxl_tree: Path):
    text = (place / "micro.toml").read_text().replace("ptb-xl/", "ptb-xl-paper/")
    (place / "micro.toml").write_text(text)
    words = ["study", "plan", "micro.toml", "--corpora", "new", "--no-probe"]
    planned = ecgadvise(*words, "--data", f"ptb-xl-paper={ptbxl_tree}", cwd=place)
    assert "0 of 5 runs done" in planned.stdout, planned.stderr
    assert planned.stderr == f"preparing {ptbxl_tree} into new/ptb-xl-paper, once\n"
    assert Corpus(place / "new" / "ptb-xl-paper").manifest["preparation"] == {"anti_alias": False, "min_max": True}
    assert ecgadvise(*words, cwd=place).stderr == "", "it is there now"
    assert "as cpsc2018=DIR" in refused(ecgadvise(*words, "--data", "ptb-xl-paper", cwd=place), 2)


def test_the_smoke_design_needs_nothing(place: Path):
    words = ["study", "plan", str(DESIGNS / "smoke.toml"), "--corpora", "new", "--no-probe"]
    planned = ecgadvise(*words, cwd=place)
    assert "0 of 13 runs done" in planned.stdout, planned.stderr


def test_options_that_do_not_go_together_are_refused(place: Path):
    words = ["study", "run", "micro.toml"]
    assert "go together" in refused(ecgadvise(*words, "--scheduler", "tcp://127.0.0.1:9", cwd=place), 2)
    assert "go together" in refused(ecgadvise(*words, "--executor", "dask", cwd=place), 2)
    assert "not a device" in refused(ecgadvise(*words, "--device", "abacus", cwd=place), 2)


def test_stores_are_brought_together_with_their_networks(tmp_path: Path, synthetic_store):
    there = synthetic_store(tmp_path / "there.db", lambda n: 0.9 - n**-0.5, lambda n: 0.91 - n**-0.5)
    here, keys, networks = Store(tmp_path / "here.db"), sorted(there.keys()), there.pretrainings()
    here.merge(there, [*keys[:40], *set(networks) - set(keys[:40])])
    for store in (here, there):
        store.close()
    for key in networks[1:]:
        (tmp_path / "there.checkpoints" / key).mkdir(parents=True)
        (tmp_path / "there.checkpoints" / key / "weights.safetensors").write_bytes(b"weights")
    words = ["study", "collect", "--store", "new.db", "--out", "evidence", "--from", "here.db", "--from", "there.db"]
    collected = ecgadvise(*words, cwd=tmp_path)
    assert collected.returncode == 0, collected.stderr
    n_here = len(set(keys[:40]) | set(networks))
    assert collected.stderr.splitlines() == [
        f"{n_here} runs copied from here.db",
        f"{len(keys) - n_here} runs copied from there.db, {n_here} that new.db has already left out",
        "new.checkpoints lacks 1 pre-trained networks, pretraining-gru-w32-scratch-8482-0 first",
    ]
    assert [one.name for one in (tmp_path / "new.checkpoints").iterdir()] == networks[1:], "of the very run, from there"
    assert len((tmp_path / "evidence" / "runs.csv").read_text().splitlines()) == len(keys) + 1
    again = ecgadvise(*words[:-2], "--from", "none.db", cwd=tmp_path)
    assert "no study store at none.db" in refused(again, 3)
    assert "no tuning" in refused(ecgadvise("study", "tuning", "--store", "new.db", cwd=tmp_path), 3)


def test_tuning_compares_rates_on_validation_records_alone(tmp_path: Path, synthetic_run):
    store = Store(tmp_path / "tuning.db")
    for k, (rate, score, precision) in enumerate([
        (0.001, 0.8, "float32"), (0.001, 0.82, "float32"), (0.01, 0.9, "float32"), (0.01, 0.7, "bf16"),
    ]):  # fmt: skip
        run = replace(synthetic_run("gru-w32", "scratch", 500, 100 + k, 0.1234), precision=precision)
        details = {**run.details, "spec": {**run.details["spec"], "learning_rate": rate}}
        store.add(replace(run, validation_auroc=score, details=details), np.zeros((2, 5)))
    store.add(synthetic_run("gru-w32", "scratch", 500, 0, 0.1234), np.zeros((2, 5)))
    store.close()
    said = ecgadvise("study", "tuning", "--store", "tuning.db", cwd=tmp_path).stdout
    assert [" ".join(line.split()[1:]) for line in said.splitlines()] == [
        "gru-w32 scratch rate 0.001 validation AUROC 0.8100, 2 runs",
        "gru-w32 scratch rate 0.01 validation AUROC 0.9000, 1 runs",
        "gru-w32, bf16 scratch rate 0.01 validation AUROC 0.7000, 1 runs",
    ]
    assert "0.1234" not in said


def test_the_screen_says_cells_runs_and_the_time_left():
    screen = _Screen()
    progress = Progress(100, done=40, running=2, failed=1, cells=20, cells_done=8, work_total=10.0, work_done=5.0)
    progress.started = time.monotonic() - 600
    progress.last = "ptb-xl/superclass gru scratch n=100 replicate 0"
    screen.report(progress)
    console = Console(file=io.StringIO(), width=120)
    console.print(screen.draw())
    _bar, counts, last = console.file.getvalue().splitlines()
    assert counts.strip() == "cells 8 of 20, runs 40 of 100 done, 2 running, 1 failed, about 10 min left"
    assert "gru scratch n=100" in last
    assert [in_words(seconds) for seconds in (5, 600, 9000)] == ["5 s", "10 min", "2.5 h"]


@contextmanager
def cluster(n_workers: int, folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A Dask scheduler and worker processes that run in a folder; its address, and all, the scheduler first."""
    with ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[str]:
            process = subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]],
                                       stdout=subprocess.DEVNULL, stderr=-1, text=True, cwd=folder)  # fmt: skip
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        assert scheduler.stderr is not None
        address = next(match[0] for line in scheduler.stderr if (match := re.search(r"tcp://127\.0\.0\.1:\d+", line)))
        worker = ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        yield address, [scheduler, *(start(*worker) for _ in range(n_workers))]


def test_a_cluster_runs_a_study_to_its_end_though_a_worker_is_killed_and_resumes_though_the_scheduler_is(
    place: Path, undisturbed, research_code: Path
):
    with cluster(2, research_code) as (address, (scheduler, worker, _)):
        words = ["study", "run", "micro.toml", "--executor", "dask", "--scheduler", address]
        runner = started(*words, cwd=place)
        assert runner.stderr is not None
        assert runner.stderr.readline().startswith("1 of 5")
        worker.kill()
        out, errors = runner.communicate(timeout=300)
        assert "5 of 5 runs done, 0 failed" in out, errors
        assert contents(place / "micro.db") == undisturbed

        again = started(*words, "--store", "again.db", cwd=place)
        assert again.stderr is not None
        assert again.stderr.readline().startswith("1 of 5")
        scheduler.kill()
        out, errors = again.communicate(timeout=300)
        last = errors.splitlines()[-1]
        assert (again.returncode, out) == (1, "")
        assert last.startswith(
            f"error: the Dask scheduler at {address} is gone; what had finished is in the store; go on"
        )
        assert all(re.match(r"\d of 5  ", line) for line in errors.splitlines()[:-1]), errors
    command = shlex.split(last.partition("go on with: ecgadvise ")[2])
    assert command[-2:] == ["--executor", "dask"]
    assert "no Dask scheduler answers" in refused(ecgadvise(*command, cwd=place), 1)
    local = [word for word in command if word not in ("--executor", "dask", "--scheduler", address)]
    assert "5 of 5 runs done, 0 failed" in ecgadvise(*local, cwd=place).stdout
    assert contents(place / "again.db") == undisturbed


def test_findings_are_written_with_their_figures_and_what_is_wrong_is_said(command, tmp_path: Path, synthetic_store):
    synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5).close()
    out = tmp_path / "new" / "FINDINGS.md"
    ended = command("study", "findings", "--store", tmp_path / "s.db", "--out", out)
    assert (ended.code, ended.err) == (0, "")
    assert [Path(line) for line in ended.out.split()] == [
        out, out.parent / "findings" / "gains.svg", out.parent / "findings" / "tasks.svg"
    ]  # fmt: skip
    assert "## The four claims" in out.read_text()
    for arguments, code, says in (
        (("--store", tmp_path / "none.db", "--out", out), 3, "no study store at"),
        (("--store", tmp_path / "s.db", "--published", tmp_path / "none.csv", "--out", out), 3, "cannot read"),
        (("--margin", "2", "--out", out), 2, "--margin is 2"),
        (("--store", tmp_path / "s.db", "--out", tmp_path), 1, "cannot write"),
    ):
        ended = command("study", "findings", *arguments)
        assert ended.code == code
        assert ended.err.startswith("error: ") and says in ended.err and ended.err.count("\n") == 1
