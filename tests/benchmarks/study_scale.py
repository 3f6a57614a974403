"""How long it takes to plan 10,000 runs, and to ask the store of a study of 10,000 runs how far it is.

    python tests/benchmarks/study_scale.py [REPEATS]

Both on synthetic records; the store is filled without training. ``plan`` is timed in this process, from the design's
file and the prepared corpus to the last line, without the probe; ``status`` as what the store does, and as a command
with its start. Medians are printed.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from advisor.commands.study import plan
from engine.corpora.synthetic import prepared_synthetic
from studies.running.design import read_design
from studies.running.expansion import expand, hash_tasks
from studies.runs.claim_owners import this_process
from studies.runs.run import COLUMNS, Run
from studies.runs.run_spec import find_keys
from studies.runs.store import Store

DESIGN = """
name = "scale"
tasks = ["synthetic/diagnosis"]
archs = [{archs}]
strategies = ["scratch", "fine-tune"]
upstream = "synthetic/morphology"
upstream_folds = [1, 2]
pool_folds = [3, 4, 5, 6, 7, 8, 9]
test_folds = [10]
sizes = [{sizes}]
replicates = 20
recipe = "tuned"
"""
ARCHS = ", ".join(f'"resnet1d18-w{width}"' for width in range(4, 14))
SIZES = ", ".join(map(str, range(50, 1300, 50)))


def main() -> None:
    """Time both and print the medians."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory(prefix="ecgadvise-scale-") as name:
        folder = Path(name)
        (folder / "scale.toml").write_text(DESIGN.format(archs=ARCHS, sizes=SIZES))
        n_runs = fill(folder)

        def planned() -> None:
            plan(folder / "scale.toml", folder / "scale.db", folder / "corpora", None, None, "cpu", False, None)

        def asked() -> None:
            store = Store(folder / "scale.db", create=False)
            store.cells()
            store.failures()
            store.close()

        status = [sys.executable, "-m", "ecgadvise", "study", "status", "--store", str(folder / "scale.db")]
        figures = {
            f"plan {n_runs:,} runs": median(planned, repeats),
            f"the store of {n_runs:,} runs answers": median(asked, repeats),
            "study status, the whole command": median(lambda: run(status), repeats),
            "study --help, for comparison": median(lambda: run([*status[:4], "--help"]), repeats),
        }
    for what, seconds in figures.items():
        sys.stderr.write(f"{what:36} {seconds * 1000:7.0f} ms (median of {repeats})\n")


def fill(folder: Path) -> int:
    """Write a store that holds every run of the design, some claims and failures; return how many runs it has."""
    corpora = {"synthetic": prepared_synthetic(folder / "corpora")}
    specs = expand(read_design(folder / "scale.toml"), corpora)
    keys = find_keys(specs, hash_tasks(specs, corpora))
    store = Store(folder / "scale.db")
    bootstrap = np.random.default_rng(0).random(400).round(5).tolist()
    counts = dict.fromkeys(("seconds", "seconds_to_best", "epochs", "best_epoch", "records_seen", "records_to_best"), 1)
    source = Store(folder / "filled.db")
    source._connection.execute("PRAGMA synchronous = OFF")  # speed: this store is thrown away
    for spec, key in keys.items():
        facts = {"key": key, "family": "cnn", "role": "downstream", "device": "none", "data_hash": "", "created": ""}
        row = {name: value for name, value in spec.canonical().items() if name in COLUMNS}
        details = {"spec": spec.canonical(), "bootstrap": bootstrap}
        source.add(Run(**row, **facts, **counts, details=details), np.zeros((200, 5)))
    store.merge(source, list(keys.values()))
    for spec, key in list(keys.items())[:8]:
        store.add_failure(f"f{key}", spec.canonical(), "made up", "")
        store.claim(f"c{key}", spec.canonical(), this_process())
    store.close()
    return len(keys)


def median(call: Callable[[], None], repeats: int) -> float:
    """Return the median seconds of a call."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def run(command: list[str]) -> None:
    """Run a command, its output to nowhere."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
