import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studies.runs.claim_owners import Owner, is_alive, this_process
from studies.runs.run import row_of
from studies.runs.store import MIGRATIONS, CellCount, Claim, Store, StoreError

SPEC = {"task": "ptb-xl/superclass", "arch": "gru-w32", "strategy": "scratch", "n_records": 100}


def test_a_run_comes_back_as_it_was_written(tmp_path: Path, synthetic_run):
    store, run = Store(tmp_path / "s.db"), synthetic_run("gru-w32", "scratch", 100, 0, 0.7)
    logits = np.random.default_rng(0).normal(0, 30, (30, 5)).astype(np.float32)
    store.add(run, logits)
    store.close()
    again = Store(tmp_path / "s.db", create=False)
    assert again.keys() == {run.key}
    assert again.runs() == [run]
    np.testing.assert_array_equal(again.logits(run.key), logits)
    assert again.logits(run.key).dtype == np.float32
    np.testing.assert_allclose(again.probabilities(run.key), 1 / (1 + np.exp(-logits.astype(float))), rtol=1e-12)


def test_a_run_is_written_once_and_whole(tmp_path: Path, synthetic_run):
    store, run = Store(tmp_path / "s.db"), synthetic_run("gru-w32", "scratch", 100, 0, 0.7)
    store.add(run, np.zeros((2, 5)))
    with pytest.raises(StoreError, match="UNIQUE"):
        store.add(run, np.zeros((2, 5)))
    broken = replace(synthetic_run("gru-w32", "scratch", 250, 0, 0.7), seconds=None)  # a row that the schema refuses
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
    (tmp_path / "text.db").write_text("this is not a database, whatever its name says" * 30)
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


@pytest.fixture
def other_runner() -> Iterator[tuple[Owner, subprocess.Popen]]:
    """Another process that is alive, as the owner of a claim."""
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    yield Owner(this_process().host, process.pid, fields[19]), process
    process.kill()
    process.communicate()


def test_a_run_in_the_hands_of_a_live_runner_is_left_to_it(tmp_path: Path, other_runner):
    store, (other, process) = Store(tmp_path / "s.db"), other_runner
    assert store.claim("a", SPEC, other) is Claim.OURS
    assert store.claim("a", SPEC, this_process()) is Claim.ELSEWHERE
    assert store.claimed() == {"a"}
    process.kill()
    process.wait()
    assert store.claimed() == set()
    assert store.claim("a", SPEC, this_process()) is Claim.OURS, "the claim of a dead runner is taken over"
    assert store.claimed() == {"a"}
    store.release(this_process())
    assert store.claimed() == set()


def test_of_two_runners_that_want_the_same_run_one_gets_it(tmp_path: Path, other_runner):
    Store(tmp_path / "s.db").close()
    answers: list[Claim] = []
    start = threading.Barrier(2)

    def want(owner: Owner) -> None:
        store = Store(tmp_path / "s.db")
        for k in range(50):
            start.wait()
            answers.append(store.claim(str(k), SPEC, owner))

    threads = [threading.Thread(target=want, args=(owner,)) for owner in (this_process(), other_runner[0])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.value for answer in answers) == ["elsewhere"] * 50 + ["ours"] * 50


def test_a_finished_run_is_not_claimed_and_writing_it_ends_its_claim(tmp_path: Path, synthetic_run):
    store, run = Store(tmp_path / "s.db"), synthetic_run("gru-w32", "scratch", 100, 0, 0.7)
    assert store.claim(run.key, SPEC, this_process()) is Claim.OURS
    store.add(run, np.zeros((2, 5)))
    assert store.claimed() == set()
    assert store.claim(run.key, SPEC, this_process()) is Claim.DONE


def test_a_runner_on_another_host_is_alive_as_long_as_it_is_heard_of(monkeypatch):
    other = Owner("elsewhere", 1, "1")
    monkeypatch.setattr("studies.runs.claim_owners.time.time", lambda: 1000.0)
    assert is_alive(other, heartbeat=990.0)
    assert not is_alive(other, heartbeat=100.0)
    assert not is_alive(Owner(this_process().host, this_process().pid, "0"), heartbeat=1000.0), "a number given anew"


def test_cells_are_counted_with_what_runs_and_what_failed(tmp_path: Path, synthetic_run):
    store = Store(tmp_path / "s.db")
    for replicate in range(3):
        store.add(synthetic_run("gru-w32", "scratch", 100, replicate, 0.7), np.zeros((2, 5)))
    store.add(synthetic_run("gru-w32", "fine-tune", 100, 0, 0.7), np.zeros((2, 5)))
    store.claim("d", SPEC, this_process())
    for _ in range(2):
        store.add_failure("e", {**SPEC, "recipe": "tuned"}, "no luck", "2026-11-22")
    store.add_failure("f", {**SPEC, "n_records": 250, "recipe": "paper"}, "no luck", "2026-11-22")
    cell = ("ptb-xl/superclass", "gru-w32")
    for opened in (store, Store(store.path, create=False)):
        assert opened.cells() == [
            CellCount(*cell, "fine-tune", "ptb-xl/non-diagnostic", 100, "tuned", 1, 0, 0),
            CellCount(*cell, "scratch", None, 100, "tuned", 3, 1, 1),
            CellCount(*cell, "scratch", None, 250, "paper", 0, 0, 1),
        ]


def test_runs_of_two_recipes_are_counted_apart(tmp_path: Path, synthetic_run):
    store = Store(tmp_path / "s.db")
    run = synthetic_run("gru-w32", "scratch", 100, 0, 0.7)
    store.add(run, np.zeros((2, 5)))
    for replicate in range(2):
        other = replace(run, key=f"other-{replicate}", replicate=replicate, recipe="paper")
        store.add(other, np.zeros((2, 5)))
    store.claim("d", SPEC, this_process())
    counts = [(cell.recipe, cell.done, cell.running) for cell in store.cells()]
    assert counts == [(None, 0, 1), ("paper", 2, 0), ("tuned", 1, 0)]


def old_probabilities() -> np.ndarray:
    """What the run of an old store said of two test records."""
    return np.linspace(0, 1, 10).reshape(2, 5).astype("<f2")


@pytest.fixture
def old_store(tmp_path: Path, synthetic_run) -> Path:
    """A store of schema 1, as the first evidence was shipped, with one run."""
    path, run = tmp_path / "old.db", synthetic_run("gru-w32", "scratch", 100, 0, 0.7)
    connection = sqlite3.connect(path)
    connection.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
    values = {**row_of(run), "details": "{}"}
    connection.execute(f"INSERT INTO runs VALUES ({', '.join('?' * len(columns))})", [values[c] for c in columns])
    blob = zlib.compress(old_probabilities().tobytes())
    connection.execute("INSERT INTO probabilities VALUES (?, 2, 5, ?)", [run.key, blob])
    connection.commit()
    connection.close()
    return path


def test_an_old_store_is_read_as_it_is_and_brought_up_to_date_when_written(old_store: Path):
    before = old_store.read_bytes()
    reader = Store(old_store, create=False)
    (run,) = reader.runs()
    assert (run.f1_macro, run.attempts, run.auroc_macro) == (None, None, 0.7)
    assert reader.cells()[0].done == 1
    assert reader.claimed() == set()
    reader.close()
    assert old_store.read_bytes() == before
    assert sorted(path.name for path in old_store.parent.iterdir()) == ["old.db"]
    writer = Store(old_store)
    assert writer.runs() == [run]
    writer.close()
    assert sqlite3.connect(old_store).execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_what_an_old_store_says_of_the_test_records_is_read_as_it_is_and_stays_when_it_is_brought_up_to_date(
    old_store: Path,
):
    for create in (False, True, False):
        store = Store(old_store, create=create)
        (key,) = store.keys()
        assert store.logits(key) is None
        assert store.probabilities(key).dtype == np.float16
        assert store.probabilities(key).tolist() == old_probabilities().tolist()
        assert [(row.key, row.kind) for row in store.predictions()] == [(key, "probabilities")]
        assert store.lacking_predictions() == []
        store.close()


def test_a_run_that_is_written_anew_keeps_its_predictions(tmp_path: Path, synthetic_run):
    store = filled(tmp_path / "s.db", synthetic_run)
    run, *others = store.runs()
    logits = store.logits(run.key)
    anew = replace(run, auroc_macro=0.5, details={**run.details, "least_positives": 10})
    store.rewrite([anew])
    assert store.runs() == [anew, *others]
    np.testing.assert_array_equal(store.logits(run.key), logits)
    with pytest.raises(StoreError, match="seconds"):
        store.rewrite([run, replace(run, seconds=None)])
    assert store.runs() == [anew, *others], "all of them or none"


def test_runs_stored_before_precision_was_are_of_float32_where_that_can_be_told(tmp_path: Path, synthetic_run):
    """On a processor all, on a GPU the recurrent ones; read as it is, brought up to date, and copied elsewhere."""
    path, gpu = tmp_path / "old.db", "GPU test, 80 GiB, CUDA 13.0"
    runs = [
        replace(synthetic_run(arch, "scratch", n, 0, 0.7), device=device)
        for arch, device, n in (
            ("resnet1d18-w16", "CPU test", 100), ("gru-w32", gpu, 250), ("resnet1d18-w16", gpu, 500),
        )
    ]  # fmt: skip
    connection = sqlite3.connect(path)
    connection.executescript(f"{MIGRATIONS[0]} {MIGRATIONS[1]} PRAGMA user_version = 2;")
    for run in runs:
        values = {name: value for name, value in row_of(run).items() if name != "precision"} | {"details": "{}"}
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO runs ({', '.join(values)}) VALUES ({marks})", list(values.values()))
    connection.commit()
    connection.close()
    expected = {100: "float32", 250: "float32", 500: None}
    before = path.read_bytes()
    reader, copy = Store(path, create=False), Store(tmp_path / "copy.db")
    assert {run.n_records: run.precision for run in reader.runs()} == expected
    assert reader.precisions() == {run.key: expected[run.n_records] for run in runs}
    copy.merge(reader, copy.missing_from(reader))
    reader.close()
    assert path.read_bytes() == before
    for store in (copy, Store(path)):
        assert {run.n_records: run.precision for run in store.runs()} == expected


def test_the_precision_and_the_way_of_a_run_are_kept(tmp_path: Path, synthetic_run):
    store, run = Store(tmp_path / "s.db"), synthetic_run("gru-w32", "scratch", 100, 0, 0.7)
    assert run.way is None
    store.add(replace(run, precision="bf16", details={**run.details, "way": "lockstep of 8"}), np.zeros((2, 5)))
    (found,) = store.runs()
    assert (found.precision, found.way, found.network) == ("bf16", "lockstep of 8", "gru-w32, bf16")


def test_stores_are_merged_whole_and_a_run_that_both_hold_stays_as_it_is(
    tmp_path: Path, old_store: Path, synthetic_run
):
    store, other = Store(tmp_path / "s.db"), Store(tmp_path / "other.db")
    shared, own = (synthetic_run("gru-w32", "scratch", n, 0, 0.7) for n in (250, 500))
    store.add(shared, np.zeros((2, 5)))
    for run in (shared, own):
        other.add(run, np.ones((3, 5)))
    for source, n_new in ((other, 1), (Store(old_store, create=False), 1), (other, 0)):
        keys = store.missing_from(source)
        assert len(keys) == n_new
        store.merge(source, keys)
    assert len(store.keys()) == 3
    assert store.logits(shared.key).shape == (2, 5)
    assert store.logits(own.key).shape == (3, 5)
    (old,) = store.keys() - {shared.key, own.key}
    assert store.logits(old) is None
    assert store.probabilities(old).tolist() == old_probabilities().tolist()
    assert own in store.runs()


def test_a_merge_that_fails_leaves_the_store_as_it_was(tmp_path: Path, synthetic_run):
    store, other = Store(tmp_path / "s.db"), Store(tmp_path / "other.db")
    runs = [synthetic_run("gru-w32", "scratch", n, 0, 0.7) for n in (250, 500)]
    for run in runs:
        other.add(run, np.ones((3, 5)))
    store.add(runs[1], np.zeros((2, 5)))
    with pytest.raises(StoreError, match="UNIQUE"):
        store.merge(other, [run.key for run in runs])
    assert store.keys() == {runs[1].key}


def filled(path: Path, synthetic_run) -> Store:
    store = Store(path)
    for replicate in range(20):
        store.add(synthetic_run("gru-w32", "scratch", 100, replicate, 0.7), np.random.default_rng(0).random((200, 5)))
    return store


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, synthetic_run):
    store = filled(tmp_path / "s.db", synthetic_run)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite calls a full disk
    with pytest.raises(StoreError, match="no space is left") as error:
        for replicate in range(20, 60):
            store.add(synthetic_run("gru-w32", "scratch", 100, replicate, 0.7), np.zeros((200, 5)))
    assert "\n" not in str(error.value)
    written = store.keys()
    assert len(written) >= 20
    store.close()
    again = Store(tmp_path / "s.db")
    again.check()
    assert again.keys() == written
    assert all(again.probabilities(key).shape == (200, 5) for key in written)


@pytest.mark.parametrize("kind", ["cut off", "overwritten"])
def test_a_damaged_file_is_said(tmp_path: Path, synthetic_run, kind: str):
    filled(tmp_path / "s.db", synthetic_run).close()
    content = bytearray((tmp_path / "s.db").read_bytes())
    half = len(content) // 2
    if kind == "cut off":
        del content[half:]
    else:
        content[4096 : half + 4096] = b"x" * half
    (tmp_path / "s.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged .*recover") as error:
        Store(tmp_path / "s.db").check()
    assert "\n" not in str(error.value)


def test_damaged_predictions_are_said(tmp_path: Path, synthetic_run):
    store = filled(tmp_path / "s.db", synthetic_run)
    key = min(store.keys())
    store._connection.execute("UPDATE predictions SET zlib = x'00' WHERE key = ?", [key])
    for read in (store.probabilities, store.logits):
        with pytest.raises(StoreError, match="damaged"):
            read(key)


def test_a_database_of_something_else_is_left_alone(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / "mail.db")
    connection.execute("CREATE TABLE letters (words TEXT)")
    connection.close()
    for create in (True, False):
        with pytest.raises(StoreError, match="not a study store"):
            Store(tmp_path / "mail.db", create=create)
    tables = sqlite3.connect(tmp_path / "mail.db").execute("SELECT name FROM sqlite_schema").fetchall()
    assert tables == [("letters",)]


def test_a_store_that_may_only_be_read_is_read_and_writing_it_is_refused_in_one_sentence(tmp_path: Path, synthetic_run):
    """In a process without the privileges that let root write everywhere."""
    filled(tmp_path / "s.db", synthetic_run).close()
    script = (
        "import sys, os; from pathlib import Path; from studies.runs.store import Store, StoreError\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "print(len(Store(Path(sys.argv[1]), create=False).keys()))\n"
        "try: Store(Path(sys.argv[1])).release(None)\n"
        "except StoreError as error: print(error)"
    )
    for path, mode in ((tmp_path / "s.db", 0o444), (tmp_path, 0o555)):
        path.chmod(mode)
    parents = [parent for parent in tmp_path.parents if parent.owner() == tmp_path.owner()][:3]
    modes = [parent.stat().st_mode for parent in parents]
    for parent, mode in zip(parents, modes, strict=True):
        parent.chmod(mode | 0o055)
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path / "s.db")], capture_output=True, text=True)
    for parent, mode in zip(parents, modes, strict=True):
        parent.chmod(mode)
    tmp_path.chmod(0o755)
    read, refused = result.stdout.splitlines()
    assert read == "20", result.stderr
    assert "cannot be written here" in refused
