"""What a study loses when it is killed: nothing that was finished, and its results stay the same to the bit.

    python tests/benchmarks/kills.py [KILLS] [DESIGN.toml] [--corpora DIR] [--seed N]

Runs the design once undisturbed. Then runs it again, and kills the runner with SIGKILL at a moment drawn by chance from
the time that the undisturbed run took, as often as told; after every kill the store is checked, and the same command
goes on. A study that is done before all kills were made is begun anew in another store. In the end every store must
hold every run exactly once, and its table and test probabilities must equal those of the undisturbed run, but for the
columns that say what the machine took. The table is the one that ``study collect`` writes, where a curve can be fitted
to it, else the runs it would write. Exit status 1 when anything differs.
"""

import argparse
import csv
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from studies.collection.collect import EvidenceError, collect
from studies.runs.run import row_of
from studies.runs.store import Store

STUDIES = Path(__file__).parents[2] / "studies"
MEASURED = {"seconds", "seconds_to_best", "peak_memory_mb", "created"}


def main() -> int:
    """Run the comparison and say what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kills", type=int, nargs="?", default=20)
    parser.add_argument("design", type=Path, nargs="?", default=STUDIES / "designs" / "smoke.toml")
    parser.add_argument("--corpora", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="ecgadvise-kills-") as folder:
        corpora = options.corpora or Path(folder) / "corpora"
        study = [sys.executable, "-m", "ecgadvise", "study", "run", str(options.design), "--device", "cpu"]
        study += ["--corpora", str(corpora), "--workers", str(options.workers)]
        whole = Path(folder) / "whole.db"
        if options.corpora is None:  # the time that is drawn from shall not hold their preparation
            finish(study, Path(folder) / "first.db")
        started = time.monotonic()
        finish(study, whole)
        length = time.monotonic() - started
        kills = round_ = 0
        while kills < options.kills:
            store = Path(folder) / f"killed-{(round_ := round_ + 1)}.db"
            kills += kill_until_done(study, store, options.kills - kills, length, rng)
            finish(study, store)
            if differences := compare(whole, store):
                sys.stderr.write("\n".join(differences) + "\n")
                return 1
        sys.stdout.write(f"{kills} kills over {round_} studies of {len(read(whole))} runs: no difference\n")
    return 0


def finish(study: list[str], store: Path) -> None:
    """Run the study to its end."""
    result = subprocess.run([*study, "--store", str(store)], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)


def kill_until_done(study: list[str], store: Path, most: int, length: float, rng: random.Random) -> int:
    """Start and kill the study until it is done or ``most`` kills are made; return how many were made."""
    finished: set[str] = set()
    for kills in range(most):
        runner = subprocess.Popen([*study, "--store", str(store)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        moment = rng.uniform(0, length)
        try:
            runner.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            runner.send_signal(signal.SIGKILL)
        if runner.wait() == 0:
            return kills
        now = check(store)
        if lost := finished - now:
            raise AssertionError(f"after the kill at {moment:.2f} s the store has lost {sorted(lost)}")
        finished = now
        sys.stderr.write(f"killed after {moment:.2f} s: {len(now)} runs in the store\n")
    return most


def check(store: Path) -> set[str]:
    """Return the keys of a store, its file read whole; no run may lack its test predictions."""
    if not store.exists():
        return set()
    connection = sqlite3.connect(store)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    if not connection.execute("PRAGMA user_version").fetchone()[0]:
        return set()
    keys = [key for (key,) in connection.execute("SELECT key FROM runs")]
    stored = {key for (key,) in connection.execute("SELECT key FROM predictions")}
    connection.close()
    assert set(keys) == stored, "a run and its predictions are written together"
    assert len(keys) == len(set(keys))
    return stored


def compare(whole: Path, pieces: Path) -> list[str]:
    """Return in words how two studies differ, the collected tables and the probabilities."""
    one, other = read(whole), read(pieces)
    differences = [f"{key} is in one store alone" for key in one.keys() ^ other.keys()]
    for key in one.keys() & other.keys():
        differences += [
            f"{key}: {name} is {one[key][name]} and {other[key][name]}"
            for name in one[key]
            if name not in MEASURED and one[key][name] != other[key][name]
        ]
    return differences


def read(store: Path) -> dict[str, dict[str, str]]:
    """Return the table of a store by key, and every run's probabilities."""
    opened = Store(store, create=False)
    with tempfile.TemporaryDirectory() as out:
        try:
            with collect(opened, store.stem, Path(out))[0].open(newline="") as file:
                rows = {row["key"]: row for row in csv.DictReader(file)}
        except EvidenceError:
            rows = {run.key: {name: repr(value) for name, value in row_of(run).items()} for run in opened.runs()}
    for key, row in rows.items():
        row["probabilities"] = opened.probabilities(key).tobytes().hex()
    return rows


if __name__ == "__main__":
    sys.exit(main())
