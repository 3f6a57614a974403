"""Does the number of classes decide what an arm gains? The test that METHODS.md registers, on a store of its design.

    ecgadvise study run studies/designs/label-sets.toml --store label-sets.db
    python tests/benchmarks/label_sets.py label-sets.db

Each statement that was learnt alone, with two others and with seven is compared with itself.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from studies.files.arms import FINE_TUNE, IN_WORDS, LINEAR_PROBE, SCRATCH
from studies.runs.run import Run
from studies.runs.store import Store

NUMBERS = (1, 3, 8)  # of classes
MATTERS = 0.01 / 3  # a doubling: the margin over the three doublings from one class to eight
LEVEL = 0.9

Gains = dict[tuple[str, int], dict[int, list[float]]]  # by statement and number of records, by number of classes


def gains(runs: Sequence[Run], arm: str) -> tuple[Gains, dict[tuple[int, int], list[float]]]:
    """Return what an arm gained: by statement, and of macro averages by number of classes and of records."""
    scratch = {(run.task, run.n_records, run.replicate): run for run in runs if run.strategy == SCRATCH}
    by_class: Gains = defaultdict(lambda: defaultdict(list))
    macro = defaultdict(list)
    for run in runs:
        base = scratch.get((run.task, run.n_records, run.replicate))
        if run.strategy == arm and base is not None:
            macro[len(run.classes), run.n_records].append(run.score - base.score)
            for name in run.classes:
                by_class[name, run.n_records][len(run.classes)].append(run.class_auroc[name] - base.class_auroc[name])
    return by_class, macro


def slopes(by_class: Gains) -> dict[str, dict[int, float]]:
    """Return the slope of the gain on log2 of the number of classes, by statement and number of records."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for (name, n), cells in sorted(by_class.items()):
        if set(cells) == set(NUMBERS):
            means = [float(np.mean(cells[number])) for number in NUMBERS]
            found[name][n] = float(np.polyfit(np.log2(NUMBERS), means, 1)[0])
    return found


def verdict(lower: float, upper: float) -> str:
    """Return what the interval says, as registered."""
    if lower > 0 or upper < 0:
        return "matters"
    return "does not matter" if max(-lower, upper) <= MATTERS else "open"


def main() -> None:
    """Print the slopes, their mean and what that says, for both arms that start from a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    runs = [run for run in Store(parser.parse_args().store, create=False).runs() if run.role == "downstream"]
    out = sys.stdout.write
    for arm in (FINE_TUNE, LINEAR_PROBE):
        by_class, macro = gains(runs, arm)
        found = slopes(by_class)
        out(f"{IN_WORDS[arm]}: slope of the gain a doubling of the classes\n")
        for name, by_size in found.items():
            out(f"  {name:8}" + "".join(f" {slope:+.4f} at {n:,}" for n, slope in by_size.items()) + "\n")
        values = np.array([np.mean(list(by_size.values())) for by_size in found.values()])
        if len(values) > 1:
            reach = student.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
            lower, upper = values.mean() - reach, values.mean() + reach
            out(f"  mean of {len(values)} {values.mean():+.4f} (90 %: {lower:+.4f} to {upper:+.4f}): ")
            out(f"{verdict(lower, upper)}\n")
        for (number, n), values_of in sorted(macro.items()):
            error = np.std(values_of, ddof=1) / len(values_of) ** 0.5 if len(values_of) > 1 else np.nan
            out(f"  {number} classes, {n:,} records: macro gain {np.mean(values_of):+.3f} (se {error:.3f}, ")
            out(f"{len(values_of)} pairs)\n")


if __name__ == "__main__":
    main()
