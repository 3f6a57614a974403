"""How long ``ecgadvise recommend`` takes against the bare imports that it cannot do without.

    python tests/benchmarks/startup.py [REPEATS [RECOMMEND OPTIONS ...]]

Both commands run in turn, so that a busy moment of the machine meets both, with compiled modules available, as after an
installation. Medians of the clock and their ratio are printed. Processor time is not a measure here: numpy's BLAS
threads spin for as long as the process lives.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYTHON = Path(sys.executable)
QUESTION = ["--n-records", "5000", "--arch", "cnn"]


def measure(command: list[str], environment: dict[str, str]) -> float:
    """Run a command; return its seconds by the clock."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def main() -> None:
    """Time both commands and print the medians."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    commands = {
        "bare imports": [str(PYTHON), "-c", "import typer, rich.table, numpy"],
        "recommend": [str(PYTHON.with_name("ecgadvise")), "recommend", *(sys.argv[2:] or QUESTION)],
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as compiled:
        environment["PYTHONPYCACHEPREFIX"] = compiled
        for command in commands.values():
            measure(command, environment)
        for _ in range(repeats):
            for name, command in commands.items():
                seconds[name].append(measure(command, environment))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        sys.stdout.write(f"{name:14} {median * 1000:6.0f} ms (median of {repeats})\n")
    sys.stdout.write(f"ratio          {medians['recommend'] / medians['bare imports']:6.2f}\n")


if __name__ == "__main__":
    main()
