"""What the two probes score on the subsets, seeds and test records of stored studies.

    python tests/benchmarks/probes.py CORPORA CHECKPOINTS OUT.jsonl [sites | ptb-xl | seconds]

A: features of the pre-trained network (resnet1d18-w16); B: random convolutions; A+B: both; probe: what
``linear-probe`` chooses of A and A+B. Each by ``fit_probe``, and in brackets by ridge regression as the trials had it:
features of one weight, the penalty by single records left out. Kernels and constants are drawn once for a corpus, so
that features are computed once. A run that is in OUT is not made again; the table is of all that is in it.

``sites`` are five sources that the first edition did not have, ``ptb-xl`` the superclasses and five single statements.
CHECKPOINTS is the folder of pre-trained networks that design ptbxl-cpu makes. ``seconds`` times each arm on 500
records of PTB-XL, features included.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from engine.checkpoints.checkpoint import load_network
from engine.corpora.corpus import Corpus
from engine.evaluation.metrics import auroc_per_class
from engine.recipes import Strategy
from engine.training.course import Examples
from engine.training.probe import fit_probe
from engine.training.probe_arms import KERNELS, train_probe
from engine.training.starting_point import head_inputs, new_network
from models.networks.random_convolutions import RandomConvolutions
from studies.running.one_run import training_rows
from studies.runs.run_spec import RunSpec
from studies.runs.task_names import open_task

_ALL, _ALL_I, _ALL_HALF = "5d45ed946713f3a559d64d2f", "f860d6f11d2c5499f067f93c", "4ed3e4bf6bd42e658526c8aa"
_NON_DIAGNOSTIC, _DIAGNOSTIC = "db99741f928c31cb41d372f5", "32ab2aac80f144fc415617e1"
_SITES = (
    ("brugada-huca/labels", _ALL, (50, 100, 200)),
    ("cpsc2018-150/labels", _ALL, (50, 100)),
    ("challenge-2011/labels", _ALL, (50, 100, 250, 500)),
    ("cpsc2018-lead-i/labels", _ALL_I, (100, 250, 500, 900)),
    ("ptb-lead-i/labels", _ALL_I, (50, 100, 250)),
)
_PTB_XL = (
    ("ptb-xl/superclass", _NON_DIAGNOSTIC, (100, 250, 500, 1000, 2000, 4000, 8000)),
    ("ptb-xl/superclass", _ALL_HALF, (100, 250, 500, 1000, 2000)),
    *((f"ptb-xl/{name}", _NON_DIAGNOSTIC, (100, 250, 500, 1000, 2000)) for name in ("LVH", "IMI", "CLBBB", "1AVB")),
    ("ptb-xl/AFIB", _DIAGNOSTIC, (100, 250, 500, 1000, 2000)),
)
_FEWEST = {"sites": 1, "ptb-xl": 10}  # positive test records of a class that is scored, as in the trials
_FOLDS = {"sites": ((1, 2, 3, 4, 5, 6, 7), (8, 9, 10)), "ptb-xl": ((5, 6, 7, 8, 9), (10,))}
_REPLICATES = 3
_BINS = ((100, "50 to 100"), (500, "200 to 500"), (1000, "900 to 1,000"), (2000, "2,000"), (10**9, "4,000, 8,000"))
_NAMES = ("A", "B", "A+B")
Floats = NDArray[np.float64]


class Cell(NamedTuple):
    """The runs of one task, upstream and size, of which each replicate has its records."""

    task: str
    upstream: str
    n_records: int


def main() -> None:
    """Make the runs that are missing and print the table."""
    corpora, checkpoints, out = map(Path, sys.argv[1:4])
    torch.set_num_threads(1)
    if "seconds" in sys.argv[4:]:
        _time(Corpus(corpora / "ptb-xl"), checkpoints / _NON_DIAGNOSTIC)
        return
    for which in sys.argv[4:] or list(_FOLDS):
        done = {(*Cell(*run["cell"]), run["replicate"]) for run in _read(out)}
        wanted: dict[str, list[tuple[Cell, int]]] = defaultdict(list)
        for task, upstream, sizes in _SITES if which == "sites" else _PTB_XL:
            cells = [(Cell(task, upstream, n), replicate) for n in sizes for replicate in range(_REPLICATES)]
            wanted[task.partition("/")[0]] += [one for one in cells if (*one[0], one[1]) not in done]
        for source, missing in wanted.items():
            for run in _runs(which, Corpus(corpora / source), checkpoints, missing) if missing else ():
                with out.open("a") as file:
                    file.write(json.dumps(run) + "\n")
    sys.stdout.write(_table(_read(out)))


def _time(corpus: Corpus, checkpoint: Path) -> None:
    """Print the processor seconds of both arms on 500 records, the signals in memory."""
    data, (network, facts) = corpus.task("superclass"), load_network(checkpoint)
    signals = torch.from_numpy(facts.standardisation.apply(corpus.signals[data.rows[:500]]))
    examples = Examples(signals, torch.from_numpy(data.labels[:500]).float())
    kernels = new_network(KERNELS, signals.shape[1], signals.shape[2], len(data.classes), 0)
    named: tuple[tuple[Strategy, torch.nn.Module, str], ...] = (
        ("random-convolutions", kernels, KERNELS),
        ("linear-probe", network, facts.arch),
    )
    for strategy, start, arch in named:
        found = train_probe(strategy, start, arch, examples, data.patients[:500], 0)
        sys.stdout.write(f"{strategy}: {found.training.seconds:.1f} s of one thread ({found.arch})\n")


def _read(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def _runs(
    which: str, corpus: Corpus, checkpoints: Path, wanted: Sequence[tuple[Cell, int]]
) -> Iterator[dict[str, Any]]:
    """Score every wanted run of one corpus, small ones first."""
    pool, test = _FOLDS[which]
    tasks = {cell.task: open_task(corpus, cell.task) for cell, _ in wanted}
    drawn: dict[tuple[Cell, int], NDArray[np.int64]] = {}
    for cell, replicate in sorted(wanted, key=lambda one: one[0].n_records):
        spec = RunSpec(
            cell.task, "resnet1d18-w16", "linear-probe", "any", cell.n_records, replicate, "tuned", pool, test
        )  # fmt: skip
        drawn[cell, replicate] = training_rows(tasks[cell.task], spec, spec.resolve_recipe())[0]
    trained = [tasks[cell.task].rows[rows] for (cell, _), rows in drawn.items()]
    used = np.unique(np.concatenate([*trained, *(data.rows[data.in_folds(test)] for data in tasks.values())]))
    features = _Features(corpus, used, checkpoints)
    for (cell, replicate), rows in drawn.items():
        data, tested = tasks[cell.task], tasks[cell.task].in_folds(test)
        at, there = np.searchsorted(used, data.rows[rows]), np.searchsorted(used, data.rows[tested])
        labels, truth = data.labels[rows], data.labels[tested]
        groups = features.own(cell.upstream), features.kernels(cell.upstream)
        scored = np.minimum(truth.sum(axis=0), len(truth) - truth.sum(axis=0)) >= _FEWEST[which]
        run: dict[str, Any] = {"cell": cell, "replicate": replicate, "set": which}
        for name, group in zip(_NAMES, (*groups, np.concatenate(groups, axis=1)), strict=True):
            sizes = [part.shape[1] for part in groups] if name == "A+B" else None
            started = time.thread_time()
            probe = fit_probe(group[at], labels, data.patients[rows], sizes)
            seconds = time.thread_time() - started
            logits = group[there] @ probe.weight.T + probe.bias
            plain = _ridge(group[at].astype(float), labels.astype(float), group[there].astype(float))
            run[name] = {
                "auroc": float(auroc_per_class(truth, logits)[scored].mean()),
                "ridge": float(auroc_per_class(truth, plain)[scored].mean()),
                "out_of_fold": probe.auroc,
                "seconds": round(seconds, 3),
            }
        yield run


class _Features:
    """Features of the records ``used`` of a corpus, each kind computed once."""

    def __init__(self, corpus: Corpus, used: NDArray[np.int64], checkpoints: Path) -> None:
        self._signals, self._checkpoints = corpus.signals[used], checkpoints
        self._own: dict[str, NDArray[np.float32]] = {}
        self._kernels: NDArray[np.float32] | None = None

    def own(self, upstream: str) -> NDArray[np.float32]:
        """Return those of a pre-trained network."""
        if upstream not in self._own:
            network, facts = load_network(self._checkpoints / upstream)
            standardised = torch.from_numpy(facts.standardisation.apply(self._signals))
            self._own[upstream] = head_inputs(network, standardised).numpy()
        return self._own[upstream]

    def kernels(self, upstream: str) -> NDArray[np.float32]:
        """Return those of random convolutions; signals are scaled as for the first upstream that is asked for."""
        if self._kernels is None:
            facts = load_network(self._checkpoints / upstream)[1]
            _, n_leads, n_samples = self._signals.shape
            network = new_network(KERNELS, n_leads, n_samples, 1, 0)
            assert isinstance(network, RandomConvolutions)
            standardised = torch.from_numpy(facts.standardisation.apply(self._signals))
            self._kernels = network.fit_constants(standardised).numpy()
        return self._kernels


def _ridge(features: Floats, labels: Floats, others: Floats) -> Floats:
    """Return scores of others by ridge regression on standardised features, the penalty by single records left out."""
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    features, others = (np.clip((part - mean) / spread, -8, 8) for part in (features, others))
    means, centre = labels.mean(axis=0), features.mean(axis=0)
    left, lengths, right = np.linalg.svd(features - centre, full_matrices=False)
    projected = left.T @ (labels - means)
    variance, best = np.maximum(means * (1 - means), 1e-6), (np.inf, projected)
    for penalty in np.geomspace(1, 3e5, 14):
        shrunk = lengths**2 / (lengths**2 + penalty)
        leverage = (left**2 * shrunk).sum(axis=1) + 1 / len(labels)
        residuals = labels - means - left @ (shrunk[:, None] * projected)
        errors = (residuals / (1 - np.minimum(leverage, 0.999))[:, None]) ** 2 / variance
        error = float(errors.mean(axis=0)[means > 0].mean())
        if error < best[0]:
            best = error, right.T @ ((lengths / (lengths**2 + penalty))[:, None] * projected)
    return np.asarray((others - centre) @ best[1] + means, np.float64)


def _table(runs: Sequence[dict[str, Any]]) -> str:
    """Return means over cells by number of records, and every cell."""
    cells: dict[Cell, list[list[float]]] = defaultdict(list)
    for run in runs:
        scores = [run[name][how] for how in ("auroc", "ridge") for name in _NAMES]
        chooses_own = run["A"]["out_of_fold"] - run["A+B"]["out_of_fold"] > 0.03
        cells[Cell(*run["cell"])].append([*scores, run["A" if chooses_own else "A+B"]["auroc"]])
    means = {cell: np.mean(values, axis=0) for cell, values in cells.items()}
    lines, rest = ["records        cells  A     B     A+B   probe  (ridge: A     B     A+B)"], dict(means)
    for most, words in _BINS:
        inside = [rest.pop(cell) for cell in list(rest) if cell.n_records <= most]
        if inside:
            lines.append(f"{words:14} {len(inside):5}  {_row(np.mean(inside, axis=0))}")
    lines.append(f"{'all':14} {len(means):5}  {_row(np.mean(list(means.values()), axis=0))}")
    for cell, values in sorted(means.items()):
        lines.append(f"{cell.task} from {cell.upstream[:4]} {cell.n_records}: {_row(values)}")
    return "\n".join(lines) + "\n"


def _row(values: Floats) -> str:
    a, b, both, *ridge, probe = (f"{value:.3f}".removeprefix("0") for value in values)
    return f"{a}  {b}  {both}  {probe}   ({ridge[0]}  {ridge[1]}  {ridge[2]})"


if __name__ == "__main__":
    main()
