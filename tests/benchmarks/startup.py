"""How long ``ecgadvise recommend`` takes against the bare imports that it cannot do without.

    python tests/benchmarks/startup.py [REPEATS [RECOMMEND OPTIONS ...]]

Both commands run in turn, so that a busy moment of the machine meets both, with compiled modules at hand, as after an
installation. Medians and their ratio are printed, of the clock and of processor time, which other work disturbs less.
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


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run a command; return its seconds by the clock and of processor time."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Time both commands and print the medians."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    commands = {
        "bare imports": [str(PYTHON), "-c", "import typer, rich.table, numpy"],
        "recommend": [str(PYTHON.with_name("ecgadvise")), "recommend", *(sys.argv[2:] or QUESTION)],
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as compiled:
        environment["PYTHONPYCACHEPREFIX"] = compiled
        for command in commands.values():
            measure(command, environment)
        for _ in range(repeats):
            for name, command in commands.items():
                seconds[name].append(measure(command, environment))
    medians = {name: [statistics.median(one) for one in zip(*values, strict=True)] for name, values in seconds.items()}
    sys.stdout.write(f"{'':14} {'clock':>9} {'processor':>10} (medians of {repeats})\n")
    for name, (clock, processor) in medians.items():
        sys.stdout.write(f"{name:14} {clock * 1000:6.0f} ms {processor * 1000:7.0f} ms\n")
    ratios = [one / bare for one, bare in zip(medians["recommend"], medians["bare imports"], strict=True)]
    sys.stdout.write(f"{'ratio':14} {ratios[0]:9.2f} {ratios[1]:10.2f}\n")


if __name__ == "__main__":
    main()
