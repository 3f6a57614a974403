"""``ecgadvise study`` as its users meet it: planned, run by two at once, killed, spread over a cluster, merged."""

import csv
import io
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from advisor.study_progress import _Screen, in_words
from engine.corpus import Corpus
from studies.runner import Progress
from studies.store import Store

REPOSITORY = Path(__file__).parents[2]
DESIGNS = REPOSITORY / "studies" / "designs"


def ecgadvise(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "advisor", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
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
    shutil.copy(Path(__file__).with_name("tiny.toml"), tmp_path)
    return tmp_path


def table(store: Path, out: Path) -> list[dict[str, str]]:
    """The collected table of a store without the columns that say what the machine took."""
    collected = ecgadvise("study", "collect", "--store", str(store), "--out", str(out))
    assert collected.returncode == 0, collected.stderr
    with (out / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    measured = ("seconds", "seconds_to_best", "peak_memory_mb", "created")
    return [{name: value for name, value in row.items() if name not in measured} for row in rows]


def started(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "advisor", *arguments], stdout=-1, stderr=-1, text=True, cwd=cwd
    )  # -1: a pipe


def test_two_runners_on_one_store_share_the_runs_and_give_what_one_gives(place: Path):
    runners = [started("study", "run", "tiny.toml", "--workers", "1", cwd=place) for _ in range(2)]
    said = [runner.communicate(timeout=300) for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], said
    assert all("13 of 13 runs done, 0 failed" in out for out, _ in said)
    lines = [line for _, errors in said for line in errors.splitlines()]
    assert sum("(another runner)" not in line for line in lines) == 13, "each run was run by one of them"
    assert Store(place / "tiny.db", create=False).failures() == []
    shutil.copy(place / "tiny.toml", place / "alone.toml")
    assert ecgadvise("study", "run", "alone.toml", "--store", "alone.db", cwd=place).returncode == 0
    assert table(place / "tiny.db", place / "a") == table(place / "alone.db", place / "b")
    status = ecgadvise("study", "status", "--store", "tiny.db", cwd=place).stdout
    assert "13 runs done, 0 running, 0 failed" in status
    assert re.search(r"superclass +resnet1d18-w2 +scratch +n = 20 +2 done, 0 running, 0 failed\n", status)


def test_a_study_that_is_killed_at_random_moments_and_resumed_gives_the_same(place: Path, corpus: Corpus):
    script = str(REPOSITORY / "tests" / "benchmarks" / "kills.py")
    options = ["3", "tiny.toml", "--corpora", str(corpus.root.parent)]
    result = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, cwd=place, timeout=900)
    assert "of 13 runs: no difference" in result.stdout, result.stderr


def test_a_plan_predicts_time_and_price_for_what_is_left(place: Path):
    planned = ecgadvise("study", "plan", "tiny.toml", "--gpu-cost", "2", "--device", "cpu", cwd=place)
    assert planned.returncode == 0, planned.stderr
    last = planned.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"left: 13 runs, [\d,]+ GFLOP, about [\d.]+ (s|min) on this machine, \d+ at a time, [\d.]+ at 2 an hour", last
    )
    bare = ecgadvise("study", "plan", "tiny.toml", "--no-probe", cwd=place).stdout.splitlines()[-1]
    assert re.fullmatch(r"left: 13 runs, [\d,]+ GFLOP", bare)


def test_every_corpus_that_a_shipped_design_lacks_is_named_at_once(place: Path):
    said = refused(ecgadvise("study", "run", str(DESIGNS / "paper.toml"), cwd=place), 3)
    for corpus in ("ptb-xl-paper", "cpsc2018-paper", "georgia-paper", "ptb-paper", "code-test-paper"):
        assert f"no prepared corpus {corpus}" in said
        assert f"--data {corpus}=DIR" in said


def test_a_corpus_is_prepared_from_the_directory_that_is_given(place: Path, ptbxl_tree: Path):
    text = (place / "tiny.toml").read_text().replace("ptb-xl/", "ptb-xl-paper/")
    (place / "tiny.toml").write_text(text)
    words = ["study", "plan", "tiny.toml", "--corpora", "new", "--no-probe"]
    planned = ecgadvise(*words, "--data", f"ptb-xl-paper={ptbxl_tree}", cwd=place)
    assert "0 of 13 runs done" in planned.stdout, planned.stderr
    assert planned.stderr == f"preparing {ptbxl_tree} into new/ptb-xl-paper, once\n"
    assert Corpus(place / "new" / "ptb-xl-paper").manifest["preparation"] == {"anti_alias": False, "min_max": True}
    assert ecgadvise(*words, cwd=place).stderr == "", "it is there now"
    assert "as cpsc2018=DIR" in refused(ecgadvise(*words, "--data", "ptb-xl-paper", cwd=place), 2)


def test_the_smoke_design_needs_nothing(place: Path):
    words = ["study", "plan", str(DESIGNS / "smoke.toml"), "--corpora", "new", "--no-probe"]
    planned = ecgadvise(*words, cwd=place)
    assert "0 of 13 runs done" in planned.stdout, planned.stderr


def test_options_that_do_not_go_together_are_refused(place: Path):
    words = ["study", "run", "tiny.toml"]
    assert "go together" in refused(ecgadvise(*words, "--scheduler", "tcp://127.0.0.1:9", cwd=place), 2)
    assert "go together" in refused(ecgadvise(*words, "--executor", "dask", cwd=place), 2)
    assert "no device" in refused(ecgadvise(*words, "--device", "abacus", cwd=place), 2)


def test_stores_are_brought_together_with_their_networks(place: Path):
    half = (place / "tiny.toml").read_text().replace("[20, 40, 60]", "[20]")
    (place / "half.toml").write_text(half)
    for design, store in (("half.toml", "here.db"), ("tiny.toml", "there.db")):
        assert ecgadvise("study", "run", design, "--store", store, "--log-dir", "logs", cwd=place).returncode == 0
    assert len(list((place / "logs").iterdir())) == 13, "a log a run"
    shutil.rmtree(place / "here.checkpoints")
    words = ["study", "collect", "--store", "here.db", "--out", "evidence", "--from", "there.db"]
    collected = ecgadvise(*words, cwd=place)
    assert collected.returncode == 0, collected.stderr
    assert "8 runs copied from there.db" in collected.stderr
    assert "here.checkpoints lacks 1 pre-trained networks" in collected.stderr, "the run was there, its network was not"
    assert len((place / "evidence" / "runs.csv").read_text().splitlines()) == 14
    assert "0 runs copied" in ecgadvise(*words, cwd=place).stderr
    new = ["study", "collect", "--store", "new.db", "--out", "evidence", "--from", "there.db"]
    assert ecgadvise(*new, cwd=place).stderr == "13 runs copied from there.db\n"
    assert "13 of 13 runs done" in ecgadvise("study", "run", "tiny.toml", "--store", "new.db", cwd=place).stdout
    assert "no tuning" in refused(ecgadvise("study", "tuning", "--store", "new.db", cwd=place), 3)


def test_the_screen_says_cells_runs_and_the_time_left():
    screen = _Screen()
    progress = Progress(100, done=40, running=2, failed=1, cells=20, cells_done=8, work_total=10.0, work_done=5.0)
    progress.started = time.monotonic() - 600
    progress.last = "ptb-xl/superclass gru scratch n=100 replicate 0"
    screen.report(progress)
    console = Console(file=io.StringIO(), width=120)
    console.print(screen.draw())
    said = console.file.getvalue()
    assert "cells 8 of 20, runs 40 of 100 done, 2 running, 1 failed, about 10 min left" in said
    assert "gru scratch n=100" in said
    assert [in_words(seconds) for seconds in (5, 600, 9000)] == ["5 s", "10 min", "2.5 h"]


@contextmanager
def cluster(n_workers: int) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A Dask scheduler and worker processes; its address, and all processes, the scheduler first."""
    with ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[str]:
            process = subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]],
                                       stdout=subprocess.DEVNULL, stderr=-1, text=True)  # fmt: skip
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        assert scheduler.stderr is not None
        address = next(match[0] for line in scheduler.stderr if (match := re.search(r"tcp://127\.0\.0\.1:\d+", line)))
        worker = ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        yield address, [scheduler, *(start(*worker) for _ in range(n_workers))]


def test_a_cluster_runs_a_study_to_its_end_though_a_worker_is_killed_and_resumes_though_the_scheduler_is(place: Path):
    with cluster(2) as (address, (scheduler, worker, _)):
        words = ["study", "run", "tiny.toml", "--executor", "dask", "--scheduler", address]
        runner = started(*words, cwd=place)
        assert runner.stderr is not None
        assert runner.stderr.readline().startswith("1 of 13")
        worker.kill()
        out, errors = runner.communicate(timeout=300)
        assert "13 of 13 runs done, 0 failed" in out, errors
        assert Store(place / "tiny.db", create=False).failures() == []

        again = started(*words, "--store", "again.db", cwd=place)
        assert again.stderr is not None
        assert again.stderr.readline().startswith("1 of 13")
        scheduler.kill()
        out, errors = again.communicate(timeout=300)
        last = errors.splitlines()[-1]
        assert (again.returncode, out) == (1, "")
        assert last.startswith(
            f"error: the Dask scheduler at {address} is gone; what had finished is in the store; go on"
        )
        assert all(re.match(r"\d+ of 13  ", line) for line in errors.splitlines()[:-1]), errors
    command = shlex.split(last.partition("go on with: ecgadvise ")[2])
    assert command[-2:] == ["--executor", "dask"]
    assert "no Dask scheduler answers" in refused(ecgadvise(*command, cwd=place), 1)
    local = [word for word in command if word not in ("--executor", "dask", "--scheduler", address)]
    assert "13 of 13 runs done, 0 failed" in ecgadvise(*local, cwd=place).stdout
    assert table(place / "tiny.db", place / "a") == table(place / "again.db", place / "b")
