"""How fast records become a corpus, how fast it opens, and how much memory that takes.

    python tests/benchmarks/preparation.py PTB_XL_TREE [WORKERS]

Reading alone with wfdb, as a naive preparation does it, is timed on the same records in the same run.
"""

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from engine.corpora.corpus import Corpus, prepare
from engine.sources.ptbxl import PtbXl

_NAIVE_RECORDS, _OPENINGS = 1000, 20


def main() -> None:
    """Print records/s of both, their ratio, peak memory, and the median time of opening."""
    import wfdb

    source, workers = PtbXl(Path(sys.argv[1])), int(sys.argv[2]) if len(sys.argv) > 2 else 2
    started = time.perf_counter()
    for entry in source.entries()[:_NAIVE_RECORDS]:
        wfdb.rdrecord(str(entry.path))
    naive = _NAIVE_RECORDS / (time.perf_counter() - started)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "ptb-xl"
        started = time.perf_counter()
        corpus, _ = prepare(source, target, workers=workers)
        prepared = len(corpus) / (time.perf_counter() - started)
        seconds = []
        for _ in range(_OPENINGS):
            started = time.perf_counter()
            Corpus(target)
            seconds.append(time.perf_counter() - started)
    parent, children = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    write = sys.stdout.write
    write(f"wfdb.rdrecord alone, one process   {naive:8,.0f} records/s (first {_NAIVE_RECORDS:,})\n")
    write(f"prepare, {workers} workers                 {prepared:8,.0f} records/s ({len(corpus):,})\n")
    write(f"ratio                              {prepared / naive:8.1f}\n")
    write(f"peak memory                        {parent:8,.0f} MB parent, {children:,.0f} MB the largest worker\n")
    write(f"opening                            {statistics.median(seconds) * 1000:8.1f} ms (median of {_OPENINGS})\n")


if __name__ == "__main__":
    main()
