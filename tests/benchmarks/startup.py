"""How long ``ecgadvise recommend`` takes against the bare imports that it cannot do without.

    python tests/benchmarks/startup.py [REPEATS]

Both commands run in turn, so that a busy moment of the machine meets both; medians and their ratio are printed.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

PYTHON = Path(sys.executable)
COMMANDS = {
    "bare imports": [str(PYTHON), "-c", "import typer, rich.table, numpy"],
    "recommend": [str(PYTHON.with_name("ecgadvise")), "recommend", "--n-records", "5000", "--arch", "cnn"],
}


def main() -> None:
    """Time both commands and print the medians."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        sys.stdout.write(f"{name:14} {median * 1000:6.0f} ms (median of {repeats})\n")
    sys.stdout.write(f"ratio          {medians['recommend'] / medians['bare imports']:6.2f}\n")


if __name__ == "__main__":
    main()
