"""Somebody else's network as upstream: what it gains over scratch, and against this project's own upstream.

    ecgadvise study run studies/designs/foreign.toml --store foreign.db
    python tests/benchmarks/foreign.py foreign.db studies/evidence/atlas/study.db.xz

Differences are of two runs on the same records from the same seed: in one store, or across both, whose tasks, subsets
and folds are the same ones.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from studies.files.arms import FINE_TUNE, LINEAR_PROBE, SCRATCH
from studies.fitting.random_effects import combine, mean_over_sizes
from studies.runs.run import Run, Subset, known
from studies.runs.store import Store

OWN_NETWORK, OWN_UPSTREAM = "resnet1d18-w16", "ptb-xl/all"


class Arm(NamedTuple):
    """Runs of one strategy, theirs or of this project's network and upstream."""

    whose: str
    strategy: str


ARMS = tuple(Arm(whose, strategy) for whose, strategy in product(("theirs", "own"), (SCRATCH, FINE_TUNE, LINEAR_PROBE)))
COMPARED = (
    ("LP-FT from theirs less their network from scratch", Arm("theirs", FINE_TUNE), Arm("theirs", SCRATCH)),
    ("linear probe of theirs less their network from scratch", Arm("theirs", LINEAR_PROBE), Arm("theirs", SCRATCH)),
    ("LP-FT from theirs less LP-FT from ours", Arm("theirs", FINE_TUNE), Arm("own", FINE_TUNE)),
    ("linear probe of theirs less that of ours", Arm("theirs", LINEAR_PROBE), Arm("own", LINEAR_PROBE)),
    ("LP-FT from theirs less our network from scratch", Arm("theirs", FINE_TUNE), Arm("own", SCRATCH)),
    ("linear probe of theirs less our network from scratch", Arm("theirs", LINEAR_PROBE), Arm("own", SCRATCH)),
    ("their network from scratch less ours", Arm("theirs", SCRATCH), Arm("own", SCRATCH)),
    ("LP-FT from ours less our network from scratch", Arm("own", FINE_TUNE), Arm("own", SCRATCH)),
)  # fmt: skip
Scores = Mapping[Subset, Mapping[Arm, float]]


def read(path: Path) -> list[Run]:
    """Return the runs of a store."""
    store = Store(path, create=False)
    runs = [run for run in store.runs() if run.role == "downstream" and run.has_score]
    store.close()
    return runs


def scores(theirs: Sequence[Run], own: Sequence[Run]) -> Scores:
    """Return the scores of all arms by subset, of subsets that their network was run on."""
    found: dict[Subset, dict[Arm, float]] = defaultdict(dict)
    wanted = {run.subset for run in theirs}
    averaged = {run.subset: run.averaged or () for run in own if run.subset in wanted}
    for run in theirs:
        if run.subset in averaged:
            found[run.subset][Arm("theirs", run.strategy)] = _macro(run, averaged[run.subset])
    for run in own:
        from_ours = run.upstream == OWN_UPSTREAM or run.strategy == SCRATCH
        if run.network == OWN_NETWORK and from_ours and run.subset in wanted:
            found[run.subset][Arm("own", run.strategy)] = _macro(run, averaged[run.subset])
    return found


def _macro(run: Run, classes: Sequence[str]) -> float:
    """Return the mean AUROC over the classes that this project's runs average there: two stores may count otherwise."""
    return float(np.mean([known(run.class_auroc[name]) for name in classes]))


def main() -> None:
    """Print scores by task and size, and paired differences by size and over tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("theirs", type=Path)
    parser.add_argument("own", type=Path)
    parser.add_argument("--upstream", help="of their store, where it has several")
    asked = parser.parse_args()
    runs = [run for run in read(asked.theirs) if asked.upstream is None or run.upstream in (None, asked.upstream)]
    by_subset, out = scores(runs, read(asked.own)), sys.stdout.write
    cells: dict[tuple[str, int], list[Mapping[Arm, float]]] = defaultdict(list)
    for subset, of_arms in sorted(by_subset.items()):
        cells[subset.task, subset.n_records].append(of_arms)
    out("| task | n | pairs | " + " | ".join(f"{arm.whose} {arm.strategy}" for arm in ARMS) + " |\n")
    for (task, n), here in cells.items():
        means = [np.mean([one[arm] for one in here if arm in one] or [np.nan]) for arm in ARMS]
        out(f"| {task} | {n} | {len(here)} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |\n")
    sizes = sorted({n for _, n in cells})
    out("\n| difference | " + " | ".join(f"{n}" for n in sizes) + " | all sizes | tasks above 0 |\n")
    for said, one, other in COMPARED:
        parts = [_over_tasks(by_subset, one, other, (n,))[0] for n in sizes]
        whole, positive = _over_tasks(by_subset, one, other, sizes)
        out(f"| {said} | " + " | ".join([*parts, whole, positive]) + " |\n")


def _over_tasks(by_subset: Scores, one: Arm, other: Arm, sizes: Sequence[int]) -> tuple[str, str]:
    """Return the mean difference over tasks with its 90 % interval, and how many tasks have it above 0."""
    of_task: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for subset, arms in by_subset.items():
        if one in arms and other in arms and subset.n_records in sizes:
            of_task[subset.task].append((subset.n_records, arms[one] - arms[other]))
    estimates = {task: found for task, values in of_task.items() if (found := mean_over_sizes(values)) is not None}
    if not estimates:
        return "", ""
    pooled = combine(estimates)
    above = sum(estimate.effect > 0 for estimate in estimates.values())
    interval = f"{pooled.effect:+.3f} ({pooled.ci_lower:+.3f} to {pooled.ci_upper:+.3f})"
    return f"{interval}, {len(estimates)}", f"{above} of {len(estimates)}"


if __name__ == "__main__":
    main()
