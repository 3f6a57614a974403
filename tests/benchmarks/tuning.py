"""The one tuning protocol for both trained arms: variants of their recipes, the same cells, replicates and budget.

    python tests/benchmarks/tuning.py scratch|fine-tune CORPORA CHECKPOINTS OUT.jsonl [--replicates 2] [--show]

``CORPORA`` holds prepared corpora, ``CHECKPOINTS`` the networks that design ptbxl-cpu makes. Subsets and seeds are
those of replicates from 100, which no study reports; scored are records that no study tested on then: fold 9 of
PTB-XL, fold 8 of Challenge 2017, and Challenge 2015, which is in the evidence since. A variant is chosen by its mean
macro AUROC over the cells,
of classes with ten positive and ten negative records. What OUT.jsonl holds is not run again.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from engine.checkpoints.checkpoint import load_checkpoint
from engine.corpora.corpus import Corpus, TaskData
from engine.corpora.splits import draw_records, split_validation
from engine.evaluation.metrics import auroc_per_class
from engine.recipes import Augmentation, Recipe, find_recipe
from engine.seeds import stable_seed
from engine.training.loop import Examples, Training, predict_logits, train, train_again
from engine.training.starting_point import new_network, starting_point
from studies.runs.task_names import open_task, pick_leads

ARCH, FIRST_REPLICATE, LEAST = "resnet1d18-w16", 100, 10
_PTBXL, _SITE, _C2017 = ((5, 6, 7, 8), (9,)), ((1, 2, 3, 4, 5, 6, 7), (8, 9, 10)), ((1, 2, 3, 4, 5, 6, 7), (8,))


@dataclass(frozen=True)
class Cell:
    """A task, the pre-trained network that its fine-tuned arm starts from, folds to learn from and to score, n."""

    task: str
    upstream: str
    folds: tuple[tuple[int, ...], tuple[int, ...]]
    n_records: int


_ALL, _DIAGNOSTIC, _OTHER = "f860d6f11d2c5499f067f93c", "32ab2aac80f144fc415617e1", "db99741f928c31cb41d372f5"
CELLS = {
    "superclass 100": Cell("ptb-xl/superclass", _OTHER, _PTBXL, 100),
    "alarm 100": Cell("challenge-2015/labels", _ALL, _SITE, 100),  # lead II, taken for the lead I of the upstream
    "2017 100": Cell("challenge-2017/rhythm", _ALL, _C2017, 100),
    "1AVB 250": Cell("ptb-xl/1AVB", _OTHER, _PTBXL, 250),
    "superclass 500": Cell("ptb-xl/superclass", _OTHER, _PTBXL, 500),
    "2017 500": Cell("challenge-2017/rhythm", _ALL, _C2017, 500),
    "rhythm 1000": Cell("ptb-xl/rhythm", _DIAGNOSTIC, _PTBXL, 1000),
}
_AUGMENTATION = Augmentation(shift=0.1, scale=0.1, lead_dropout=0.1, noise=0.05)
_SHORT = {"record_passes": 8_000, "min_epochs": 8, "max_epochs": 40}
_LONG = {"max_epochs": 200}


def variants(arm: str) -> dict[str, Recipe]:
    """Return the recipes of an arm that are compared, as many for each."""
    tuned = find_recipe("tuned", "cnn", "scratch" if arm == "scratch" else "fine-tune")
    last = replace(tuned, selection="last")
    if arm == "scratch":
        augmented = replace(last, **_LONG, augmentation=_AUGMENTATION)
        chosen = replace(augmented, learning_rate=3e-3)
        return {
            "tuned": tuned,
            "last epoch": last,
            "augmented": augmented,
            "augmented .003": chosen,
            "augmented .001": replace(augmented, learning_rate=1e-3),
            "augmented .003, batch 16": replace(chosen, batch_size=16),
            "augmented .003, decay .02": replace(chosen, weight_decay=0.02),
            "augmented .003, best validation": replace(chosen, selection="validation"),
        }
    probe = replace(last, **_SHORT, head="probe", learning_rate=3e-3)
    running = replace(probe, normalisation="running")
    augmented = replace(running, augmentation=_AUGMENTATION)
    return {
        "tuned": tuned,
        "probe .003": probe,
        "probe .003, running": running,
        "probe .003, running, augmented": augmented,
        "probe .001, running, augmented": replace(augmented, learning_rate=1e-3),
        "probe .01, running, augmented": replace(augmented, learning_rate=1e-2),
        "probe .003, running, augmented, 20,000 passes": replace(augmented, record_passes=20_000, max_epochs=100),
        "probe .003, running, augmented, best validation": replace(augmented, selection="validation"),
    }


def main() -> None:
    """Run what is missing, replicate by replicate, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=("scratch", "fine-tune"))
    parser.add_argument("corpora", type=Path)
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--replicates", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print what there is, and run nothing")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.exists() else []
    done = {(row["variant"], row["cell"], row["replicate"]) for row in rows}
    recipes = variants(asked.arm)
    for replicate in range(FIRST_REPLICATE, FIRST_REPLICATE + (0 if asked.show else asked.replicates)):
        for variant, recipe in recipes.items():
            for cell in CELLS:
                if (variant, cell, replicate) not in done:
                    scored = run(asked.arm, CELLS[cell], replicate, recipe, asked.corpora, asked.checkpoints)
                    rows.append({"variant": variant, "cell": cell, "replicate": replicate, **scored})
                    with asked.out.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    show(rows)


@cache
def _open(root: Path, task: str) -> tuple[Corpus, TaskData, tuple[int, ...]]:
    corpus = Corpus(root / task.partition("/")[0])
    return corpus, open_task(corpus, task), tuple(pick_leads(corpus, task))


def run(
    arm: str, cell: Cell, replicate: int, recipe: Recipe, corpora: Path, checkpoints: Path
) -> dict[str, float | int]:
    """Train one variant in one cell; return its score on the held-out folds and what it took."""
    corpus, data, leads = _open(corpora, cell.task)
    seed = stable_seed(cell.task, cell.n_records, replicate)
    pool, scored = (data.in_folds(folds) for folds in cell.folds)
    drawn = pool[draw_records(data.patients[pool], cell.n_records, seed)]
    training, validation = (drawn[part] for part in split_validation(data.patients[drawn], 0.2, seed))
    checkpoint = load_checkpoint(checkpoints / cell.upstream) if arm == "fine-tune" else None
    names = tuple(corpus.leads[k] for k in leads) if checkpoint is None else checkpoint.facts.leads
    contract = replace(corpus.contract, leads=names)
    strategy = "fine-tune" if arm == "fine-tune" else "scratch"
    start = starting_point(strategy, ARCH, contract, len(data.classes), seed, checkpoint)
    signals = {
        rows.tobytes(): corpus.signals[data.rows[rows]][:, list(leads)] for rows in (training, validation, scored)
    }
    scaling = start.scaling(recipe, signals[training.tobytes()])
    known = [Examples.of(scaling.apply(signals[rows.tobytes()]), data.labels[rows]) for rows in (training, validation)]

    def renew(other: int) -> nn.Module:
        return new_network(ARCH, len(names), corpus.signals.shape[2], len(data.classes), other)

    result = train(start.network, *known, recipe, seed, patients=data.patients[training])
    result = train_again(result, start.network, renew, *known, recipe, seed)
    logits = predict_logits(start.network, torch.from_numpy(scaling.apply(signals[scored.tobytes()]))).numpy()
    return {"auroc": _score(data, scored, logits), **_took(result)}


def _score(data: TaskData, rows: np.ndarray, logits: np.ndarray) -> float:
    labels = data.labels[rows]
    counted = (labels.sum(axis=0) >= LEAST) & ((1 - labels).sum(axis=0) >= LEAST)
    return round(float(np.mean(auroc_per_class(labels, logits)[counted])), 5)


def _took(result: Training) -> dict[str, float | int]:
    return {"seconds": round(result.seconds, 1), "best_epoch": result.best.epoch, "restarts": result.restarts,
            "validation": round(result.best.auroc, 4)}  # fmt: skip


def show(rows: list[Mapping[str, float | int | str]]) -> None:
    """Print each variant's mean over the cells and replicates that all of them have, and cell by cell."""
    scores: dict[str, dict[tuple[str, int], Mapping[str, float | int | str]]] = defaultdict(dict)
    for row in rows:
        scores[str(row["variant"])][str(row["cell"]), int(row["replicate"])] = row
    shared = set.intersection(*(set(one) for one in scores.values())) if scores else set()
    cells = [cell for cell in CELLS if any(cell == where[0] for where in shared)]
    lines = [f"{len(shared)} runs of each; mean, " + ", ".join(cells) + "; seconds a run"]
    for variant, one in scores.items():
        means = [np.mean([float(one[w]["auroc"]) for w in shared if w[0] == cell]) for cell in cells]
        seconds = np.mean([float(one[where]["seconds"]) for where in shared])
        lines.append(f"{variant:48} {np.mean(means):.4f}  " + " ".join(f"{m:.3f}" for m in means) + f"  {seconds:.0f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
