"""What the arms of recipe tuned-2 score next to the two of recipe tuned, and what the advice of other tasks would lose.

    python tests/benchmarks/arms.py STORE [--advice]

STORE holds runs of ``studies/designs/arms.toml``, with those of recipe tuned of the same cells. A cell is a task, an
upstream and a number of records; its score is the mean macro AUROC over the first three replicates. Cells in which an
arm has fewer are left out, and counted. ``--advice`` holds every task out in turn: curves are fitted to the tuned-2
runs of all others, asked about a new task at each of the task's sizes, and the arm that is named is compared with the
best mean of all arms. Where a task is of PTB-XL, its cells from the main upstream count.
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advisor.answer.question import Question
from advisor.answer.recommend import recommend
from engine.recipes import PROBES
from studies.collection.collect import make_curves
from studies.files.curves import read_curves
from studies.runs.run import Run
from studies.runs.store import Store

ARCH, REPLICATES = "resnet1d18-w16", range(3)
BINS = ((100, "50 to 100"), (500, "200 to 500"), (1000, "900 to 1,000"), (2000, "2,000"), (10**9, "4,000, 8,000"))
ARMS = {  # in the table, by recipe and strategy
    "S": ("tuned", "scratch"),
    "F": ("tuned", "fine-tune"),
    "scratch": ("tuned-2", "scratch"),
    "LP-FT": ("tuned-2", "fine-tune"),
    "linear-probe": ("tuned-2", "linear-probe"),
    "random-convolutions": ("tuned-2", "random-convolutions"),
}
STRATEGIES = tuple(name for name, (recipe, _) in ARMS.items() if recipe == "tuned-2")


class Cell(NamedTuple):
    """Where arms are compared."""

    task: str
    upstream: str
    n_records: int


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--advice", action="store_true", help="hold tasks out and ask the others (minutes)")
    asked = parser.parse_args()
    with closing(Store(asked.store, create=False)) as store:
        runs = [run for run in store.runs() if run.role == "pretraining" or run.arch in (ARCH, "random-convolutions")]
    scores = mean_scores([run for run in runs if run.role != "pretraining"])
    whole = {cell: arms for cell, arms in scores.items() if arms.keys() >= set(ARMS) and "rhythm" not in cell.task}
    say(f"{len(whole)} of {sum('rhythm' not in cell.task for cell in scores)} cells are whole")
    for line in (*by_size(whole), *by_task(whole), *targets(whole), *gain_at_rhythm(runs)):
        say(line)
    if asked.advice:
        for line in advice(runs, {cell: arms for cell, arms in scores.items() if arms.keys() >= set(STRATEGIES)}):
            say(line)


def mean_scores(runs: Sequence[Run]) -> dict[Cell, dict[str, float]]:
    """Return the mean score of every arm that has all replicates, by cell; arms without an upstream are in each."""
    found: dict[tuple[str, str, str | None, int], list[float]] = defaultdict(list)
    names = {facts: name for name, facts in ARMS.items()}
    for run in runs:
        name = names.get((str(run.recipe), run.strategy))
        if name is not None and run.replicate in REPLICATES and run.auroc_macro is not None:
            found[name, run.task, run.upstream, run.n_records].append(run.auroc_macro)
    means = {where: float(np.mean(values)) for where, values in found.items() if len(values) == len(REPLICATES)}
    cells = {Cell(task, upstream, n) for _, task, upstream, n in found if upstream is not None}
    return {
        cell: {
            name: means[where]
            for name in ARMS
            for where in ((name, cell.task, cell.upstream, cell.n_records), (name, cell.task, None, cell.n_records))
            if where in means
        }
        for cell in sorted(cells)
    }


def by_size(scores: Mapping[Cell, Mapping[str, float]]) -> Iterator[str]:
    """Give the table of means by number of records."""
    yield ""
    yield f"{'records':14} {'cells':>5} " + " ".join(f"{name:>19}" for name in ARMS)
    least = 0
    for most, words in BINS:
        of_bin = [arms for cell, arms in scores.items() if least < cell.n_records <= most]
        least = most
        if of_bin:
            yield f"{words:14} {len(of_bin):5} " + _means(of_bin)
    if scores:
        yield f"{'all':14} {len(scores):5} " + _means(list(scores.values()))


def by_task(scores: Mapping[Cell, Mapping[str, float]]) -> Iterator[str]:
    """Give a row for every cell."""
    yield ""
    for cell, arms in scores.items():
        yield f"{cell.task:24} {cell.upstream:22} {cell.n_records:5} " + " ".join(f"{arms[a]:.3f}" for a in ARMS)


def targets(scores: Mapping[Cell, Mapping[str, float]]) -> Iterator[str]:
    """Give what the arms are to reach, and what they do."""
    if not scores:
        return
    mean = {name: np.mean([arms[name] for arms in scores.values()]) for name in ARMS}
    small = [arms["scratch"] - arms["S"] for cell, arms in scores.items() if cell.n_records <= 500]
    yield ""
    yield f"LP-FT - F: {mean['LP-FT'] - mean['F']:+.4f} (to be +.02)"
    yield f"scratch - S up to 500 records: {np.mean(small):+.4f} (to be +.03)"
    best = np.mean([max(arms[name] for name in STRATEGIES) for arms in scores.values()])
    yield "loss to the best of the four in each cell: " + ", ".join(f"{n} {best - mean[n]:.4f}" for n in STRATEGIES)


def gain_at_rhythm(runs: Sequence[Run]) -> Iterator[str]:
    """Give the paired gain of LP-FT over scratch at 1,000 records of rhythm, with its t interval."""
    arms: dict[str, dict[int, float]] = defaultdict(dict)
    for run in runs:
        if (run.task, run.recipe, run.n_records) == ("ptb-xl/rhythm", "tuned-2", 1000) and run.auroc_macro is not None:
            arms[run.strategy][run.replicate] = run.auroc_macro
    both = sorted(arms["scratch"].keys() & arms["fine-tune"].keys())
    gains = np.array([arms["fine-tune"][k] - arms["scratch"][k] for k in both])
    if len(gains) > 1:
        from scipy import stats

        half = stats.t.ppf(0.95, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5
        yield ""
        yield f"rhythm, 1,000 records, {len(gains)} pairs: LP-FT - scratch {gains.mean():+.4f}, 90 % +-{half:.4f}"


def advice(runs: Sequence[Run], scores: Mapping[Cell, Mapping[str, float]]) -> Iterator[str]:
    """Give the arm that the other tasks name for each cell, and its loss to the best of all."""
    losses: dict[str, list[float]] = defaultdict(list)
    fields: dict[str, str] = {"scratch": "scratch", "fine-tune": "LP-FT"} | {name: name for name in PROBES}
    yield ""
    for task in sorted({cell.task for cell in scores}):
        others = [run for run in runs if run.role == "pretraining" or (run.task != task and run.recipe == "tuned-2")]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "curves.json"
            path.write_text(json.dumps(make_curves(others, "others")))
            curves = read_curves(path)
        for cell in (cell for cell in scores if cell.task == task and is_main(cell)):
            answer = recommend(Question(cell.n_records, ARCH), curves)
            named, arms = fields[answer.best.arm.strategy], scores[cell]
            best = max(arms[name] for name in STRATEGIES)
            for name in STRATEGIES:
                losses[f"always {name}"].append(best - arms[name])
            losses["the arm named"].append(best - arms[named])
            yield f"{task:24} {cell.n_records:5}  named {named:20} {best - arms[named]:.4f} from the best"
    for name, of_cells in losses.items():
        yield f"{name:28} loses {np.mean(of_cells):.4f} on average over {len(of_cells)} cells"


def is_main(cell: Cell) -> bool:
    """Whether a cell's upstream is the one that stands for its task."""
    return not (cell.task.startswith("ptb-xl/") and cell.upstream == "ptb-xl/all")


def _means(scores: Sequence[Mapping[str, float]]) -> str:
    return " ".join(f"{np.mean([arms[name] for arms in scores]):19.3f}" for name in ARMS)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
