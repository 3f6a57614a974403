"""The first training of a fresh install: synthetic records, the default network, 500 records; how long, and how good.

    python tests/benchmarks/first_training.py

The corpus is made anew in a temporary folder, as on a machine that never ran it. Exits with 1 when the promise of
README, two minutes and a macro AUROC of 0.9 on the test records, is not kept.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ARGUMENTS = ["train", "--task", "synthetic", "--arch", "cnn", "--n-records", "500", "--out", "trained", "--json"]
LONGEST_SECONDS, LEAST_AUROC = 120.0, 0.9


def main() -> None:
    """Train once and print what it took and what came of it."""
    command = [sys.executable, "-m", "ecgadvise", *ARGUMENTS]
    with tempfile.TemporaryDirectory() as folder:
        # "-m ecgadvise" in another folder finds an installed package; from a source tree it needs to be told where.
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"ECGADVISE_CORPORA": folder, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        started = time.perf_counter()
        ended = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE)
        seconds = time.perf_counter() - started
    report = json.loads(ended.stdout)
    auroc = report["evaluation"]["auroc_macro"]
    words = f"macro AUROC {auroc:.3f} after {seconds:.0f} s, {report['seconds']:.0f} s of them training"
    sys.stdout.write(f"{report['arch']}, {report['n_records']} records, {report['device']}: {words}\n")
    sys.exit(0 if auroc > LEAST_AUROC and seconds < LONGEST_SECONDS else 1)


if __name__ == "__main__":
    main()
