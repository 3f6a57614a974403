"""How fast recordings of each format are opened and read, and what the extra ``formats`` costs.

    python tests/benchmarks/formats.py [--number 200] [--real FOLDER]

Files are those of ``tests/engine/records/formats/mixed_folder.py``: 12 leads (8 where a format leaves out what
follows), 10 s at 500 Hz, and with ``--real`` those of a folder. Each file is opened and read ``--number`` times in one
process, then in two. Sizes are of installed files, import times medians of new processes less one that imports numpy.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

from engine.processes import run_chunks
from engine.records.folders import walk
from engine.records.formats.recordings import Recording, find_recordings
from engine.records.record import RecordError
from tests.engine.records.formats.mixed_folder import write_mixed

EXTRA = ("pydicom", "edfio")
_TIMES = 7


def read_all(_start: int, recordings: Sequence[Recording]) -> int:
    """Read each recording; what two processes do."""
    for recording in recordings:
        recording.read()
    return len(recordings)


def by_format(folder: Path) -> dict[str, list[Recording]]:
    """Return the recordings of a folder that can be read, by their format."""
    found: dict[str, list[Recording]] = defaultdict(list)
    for recording in find_recordings(walk(folder)).recordings:
        try:
            recording.read()
        except RecordError:
            continue
        suffix = recording.path.suffix
        found[f"{recording.format} ({suffix})" if suffix else recording.format].append(recording)
    return found


def print_speeds(folder: Path, number: int) -> None:
    """Print records a second: opened, and read by one process and by two."""
    print(f"{'format':32}{'opened/s':>10}{'read/s':>10}{'read/s, two':>13}")  # noqa: T201
    for name, recordings in sorted(by_format(folder).items()):
        many = (recordings * number)[:number]
        began = time.perf_counter()
        for recording in many:
            recording.glance()
        opened = time.perf_counter()
        read_all(0, many)
        read = time.perf_counter()
        chunks = [(k, many[k : k + 10]) for k in range(0, number, 10)]
        list(run_chunks(read_all, chunks[:2], 2))
        warm = time.perf_counter()
        list(run_chunks(read_all, [(k, many * 4) for k in range(2)], 2))
        both = time.perf_counter()
        start_up = warm - read
        rates = number / (opened - began), number / (read - opened), 8 * number / max(both - warm - start_up, 1e-9)
        print(f"{name:32}" + f"{rates[0]:>10,.0f}{rates[1]:>10,.0f}{rates[2]:>13,.0f}")  # noqa: T201


def print_extra() -> None:
    """Print what each package of the extra takes on disk and in time to import."""
    base = seconds("import numpy")
    for name in EXTRA:
        installed = distribution(name)
        size = sum(Path(str(installed.locate_file(file))).stat().st_size for file in installed.files or ()
                   if Path(str(installed.locate_file(file))).is_file())  # fmt: skip
        cost = seconds(f"import numpy, {name}") - base
        print(f"{name} {installed.version}: {size / 1e6:.1f} MB, imported in {cost:.2f} s")  # noqa: T201


def seconds(code: str) -> float:
    """Return the median time of a new process that runs some code."""
    taken = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--real", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_mixed(Path(folder), 1)
        print_speeds(Path(folder), chosen.number)
    if chosen.real is not None:
        print_speeds(chosen.real, chosen.number)
    print_extra()


if __name__ == "__main__":
    main()
