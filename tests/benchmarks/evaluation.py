"""How long the patient bootstrap takes on a test set of the size of PTB-XL's fold 10: no records are needed.

    python tests/benchmarks/evaluation.py [CLASSES]

Labels, scores and patients are drawn at random (2,158 records of 1,877 patients; prevalences of the superclasses, or so
many CLASSES of 25 %). Times are processor time and wall time, the median of five.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from engine.evaluation.bootstrap import bootstrap_auroc_macro
from engine.evaluation.evaluation import evaluate

RECORDS, PATIENTS, RESAMPLES = 2158, 1877, 1000
SUPERCLASS_PREVALENCES = (0.446, 0.255, 0.241, 0.230, 0.121)


def main() -> None:
    """Print the time of one bootstrap and of a whole evaluation."""
    prevalences = np.full(int(sys.argv[1]), 0.25) if len(sys.argv) > 1 else np.array(SUPERCLASS_PREVALENCES)
    rng = np.random.default_rng(0)
    patients = np.r_[np.arange(PATIENTS), rng.integers(0, PATIENTS, RECORDS - PATIENTS)]
    labels = (rng.random((RECORDS, len(prevalences))) < prevalences).astype(np.uint8)
    scores = (rng.random(labels.shape) + labels).astype(np.float32) / 2
    classes, thresholds = [f"class {k}" for k in range(len(prevalences))], [0.5] * len(prevalences)
    sys.stdout.write(
        f"{RECORDS:,} records, {PATIENTS:,} patients, {len(prevalences)} classes, {RESAMPLES:,} resamples\n"
    )
    _report("bootstrap_auroc_macro", lambda: bootstrap_auroc_macro(labels, scores, patients, RESAMPLES, 0))
    _report("evaluate", lambda: evaluate(labels, scores, patients, classes, thresholds, 0, RESAMPLES))


def _report(name: str, work: Callable[[], object]) -> None:
    processor, wall = [], []
    for _ in range(5):
        started, wall_started = time.process_time(), time.perf_counter()
        work()
        processor.append(time.process_time() - started)
        wall.append(time.perf_counter() - wall_started)
    sys.stdout.write(
        f"{name:24} {statistics.median(processor):6.2f} s processor {statistics.median(wall):6.2f} s wall\n"
    )


if __name__ == "__main__":
    main()
