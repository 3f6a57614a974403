"""Does the probe gap help to predict the gain at sites that were held out? The test that METHODS.md registers.

    ecgadvise study transferability --store STORE --store OTHER --corpora CORPORA --out OUT
    python tests/benchmarks/probe_gap.py OUT/transferability.json CORPORA STORE OTHER [--into transferability.json]

``--into`` writes what came out next to the correlation of the network, where ``recommend --data`` reads it.
A site is a corpus. Each site but those that the definition goes back to (``USED``) is held out in turn; the model of
the gain in METHODS.md is fitted to the cells of all other sites, with the gap and without, and predicts the measured
gains of the site. Priors: k 0.6 +- 0.5; b0, bK and bG 0 +- 0.1, 0.03 and 0.5; the deviation of a task 0.03 and of a
cell 0.01, each times or divided by e. Predictions are Student's t with as many degrees of freedom as tasks less
coefficients. The noise of a measured gain is that of its pairs, moderated with 4 degrees of freedom towards cells of
that size, and that of the test patients.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import t as student

from engine.corpora.corpus import Corpus
from studies.collection.patient_sampling import shared_test
from studies.collection.probe_gap import counted_classes
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.running.one_run import training_rows
from studies.runs.run import Run
from studies.runs.store import Store
from studies.runs.task_names import open_task, parse_task

ARCH, RECIPE = "resnet1d18-w16", "tuned-2"
USED = ("ptb-xl", "ludb", "challenge-2017")
PRIOR_SDS = (0.1, 0.03, 0.5)  # of b0, bK and bG
DRAWS, RESAMPLES = 20_000, 4_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """A task, upstream and size: what is known of it before a training, and its measured gain with its variance."""

    task: str
    n_records: int
    n_classes: int
    gap: float
    shrunk_gap: float
    gain: float
    variance: float

    @property
    def site(self) -> str:
        """The corpus."""
        return parse_task(self.task).source


@dataclass(frozen=True)
class Prediction:
    """Student's t of each measured gain, its noise included: ``mean`` and ``scale`` (cells,)."""

    mean: Floats
    scale: Floats
    freedom: int

    def log_scores(self, gains: Floats) -> Floats:
        """Return the log density of each measured gain; higher is better."""
        return np.asarray(student.logpdf(gains, self.freedom, self.mean, self.scale))

    def crps(self, gains: Floats) -> Floats:
        """Return the continuous ranked probability score of each measured gain; lower is better."""
        one, other = student.rvs(self.freedom, size=(2, DRAWS, 1), random_state=0)
        spread = np.abs(one - other).mean() / 2
        return np.asarray(np.abs(self.mean + self.scale * one - gains).mean(axis=0) - self.scale * spread)

    def covers(self, gains: Floats) -> NDArray[np.bool_]:
        """Return whether the 90 % band holds each measured gain."""
        return np.asarray(np.abs(gains - self.mean) <= student.ppf(0.95, self.freedom) * self.scale)


def main() -> None:
    """Print every cell of the sites held out, and the differences by site."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--into", type=Path, help="a transferability.json to write the result into")
    asked = parser.parse_args()
    gaps = {tuple(cell[:3]): cell[3] for cell in json.loads(asked.measured.read_text())["networks"][ARCH]["cells"]}
    cells = make_cells(asked.stores, asked.corpora, gaps)
    differences, held = [], []
    for site in sorted({cell.site for cell in cells} - set(USED)):
        new = [cell for cell in cells if cell.site == site]
        gains = np.array([cell.gain for cell in new])
        without, with_gap = (predict([c for c in cells if c.site != site], new, gap=gap) for gap in (False, True))
        logs, ranked = (
            with_gap.log_scores(gains) - without.log_scores(gains),
            without.crps(gains) - with_gap.crps(gains),
        )
        differences.append((logs.mean(), ranked.mean()))
        held += list(zip(without.covers(gains), with_gap.covers(gains), strict=True))
        say(f"{site}: log score {logs.mean():+.3f}, CRPS better by {ranked.mean():+.4f}")
        for cell, a, b in zip(new, without.mean, with_gap.mean, strict=True):
            measured = f"{cell.gain:+.3f} (se {cell.variance**0.5:.3f})"
            say(f"  {cell.n_records:5} gap {cell.gap:+.3f} gain {measured}, predicted {a:+.3f}, with the gap {b:+.3f}")
    shares = np.mean(held, axis=0)
    found: dict[str, Any] = {"sites": len(differences), "cover": round(float(shares[1]), 3)}
    for name, by_site in zip(("log_score", "crps"), np.array(differences).T, strict=True):
        low, high = np.quantile(resampled_means(by_site), (0.05, 0.95))
        say(f"{name}, better by {by_site.mean():+.4f} (90 % over {len(by_site)} sites: {low:+.4f} to {high:+.4f})")
        found[name] = [round(float(low), 4), round(float(high), 4)]
    say(f"90 % bands hold {shares[0]:.2f} of {len(held)} gains, with the gap {shares[1]:.2f}")
    if asked.into is not None:
        document = json.loads(asked.into.read_text())
        document["networks"][ARCH]["held_out_sites"] = found
        asked.into.write_text(json.dumps(document, indent=1) + "\n")


def resampled_means(by_site: Floats) -> Floats:
    """Return the mean over sites of every resample of them."""
    rng = np.random.default_rng(0)
    return np.asarray(by_site[rng.integers(len(by_site), size=(RESAMPLES, len(by_site)))].mean(axis=1))


def make_cells(stores: Sequence[Path], corpora: Path, gaps: Mapping[tuple[str, str, int], float]) -> list[Cell]:
    """Return the cells whose gap was measured."""
    pairs: dict[tuple[str, str, int], dict[int, tuple[Run, Run]]] = defaultdict(dict)
    for path in stores:
        runs = [run for run in Store(path, create=False).runs() if (run.arch, run.recipe) == (ARCH, RECIPE)]
        runs = [run for run in runs if run.role == "downstream"]
        scratch = {(r.task, r.n_records, r.replicate): r for r in runs if r.strategy == SCRATCH}
        for run in runs:
            other = scratch.get((run.task, run.n_records, run.replicate))
            if run.strategy == FINE_TUNE and other is not None:
                pairs[run.task, str(run.upstream), run.n_records].setdefault(run.replicate, (run, other))
    found = {where: list(by_replicate.values()) for where, by_replicate in pairs.items() if where in gaps}
    spread: dict[int, list[Floats]] = defaultdict(list)
    for (_, _, n), of_cell in found.items():
        spread[n].append(_gains(of_cell) - _gains(of_cell).mean())
    pooled = {n: sum(float((d**2).sum()) for d in all_) / sum(len(d) - 1 for d in all_) for n, all_ in spread.items()}
    opened = {site: Corpus(corpora / site) for site in {parse_task(task).source for task, _, _ in found}}
    cells = []
    for (task, upstream, n), of_cell in found.items():
        gains, gap = _gains(of_cell), gaps[task, upstream, n]
        freedom = len(gains) - 1
        noise = (4 * pooled[n] + freedom * (gains.var(ddof=1) if freedom else 0.0)) / (4 + freedom) / len(gains)
        events, n_classes = _events(opened[parse_task(task).source], [run for run, _ in of_cell])
        if share := shared_test([tuned for tuned, _ in of_cell]):  # else the test patients' noise is in the gains' own
            tested = np.mean([tuned.bootstrap - scratch.bootstrap for tuned, scratch in of_cell], axis=0)
            noise += share * np.nanvar(tested)
        variance = float(noise)
        cells.append(Cell(task, n, n_classes, gap, gap * events / (events + 10), float(gains.mean()), variance))
    return cells


def _gains(pairs: Sequence[tuple[Run, Run]]) -> Floats:
    return np.array([tuned.score - scratch.score for tuned, scratch in pairs])


def _events(corpus: Corpus, runs: Sequence[Run]) -> tuple[float, int]:
    """Return the median positive records of the classes that count, a mean over runs, and the number of all classes."""
    counts = []
    for run in runs:
        data = open_task(corpus, run.task)
        rows = np.concatenate(training_rows(data, run.spec, run.spec.resolve_recipe()))
        counted = counted_classes(data.labels[rows], data.patients[rows])
        if counted.any():
            counts.append(float(np.median(data.labels[rows][:, counted].sum(axis=0))))
    return float(np.mean(counts)), len(data.classes)


def predict(known: Sequence[Cell], new: Sequence[Cell], *, gap: bool) -> Prediction:
    """Predict the measured gains of ``new`` cells, of other tasks, by the model fitted to the ``known`` ones."""
    gains, tasks = np.array([c.gain for c in known]), np.array([c.task for c in known])
    noise = np.diag([c.variance for c in known])
    prior = np.diag(np.square(PRIOR_SDS[: 2 + gap]))

    def covariance(at: Floats) -> tuple[Floats, Floats]:
        decay, design = _design(known, at[0], gap)
        shared = np.exp(2 * at[1]) * (tasks[:, None] == tasks) + np.exp(2 * at[2]) * np.eye(len(known))
        return design, np.outer(decay, decay) * shared + noise + design @ prior @ design.T

    def loss(at: Floats) -> float:
        factor = np.linalg.cholesky(covariance(at)[1])
        white = np.linalg.solve(factor, gains)
        away = ((at - [0.6, np.log(0.03), np.log(0.01)]) / [0.5, 1, 1]) ** 2
        return float(white @ white / 2 + np.log(np.diag(factor)).sum() + away.sum() / 2)

    best = minimize(loss, [0.6, np.log(0.03), np.log(0.01)], method="Nelder-Mead").x
    design, of_known = covariance(best)
    decay, of_new = _design(new, best[0], gap)
    shared = of_new @ prior @ design.T
    mean = shared @ np.linalg.solve(of_known, gains)
    own = np.diag(of_new @ prior @ of_new.T - shared @ np.linalg.solve(of_known, shared.T))
    variance = own + decay**2 * np.exp(2 * best[1:]).sum() + np.array([c.variance for c in new])
    return Prediction(mean, np.sqrt(variance), max(len(set(tasks)) - 3 - gap, 3))


def _design(cells: Sequence[Cell], decay_by: float, gap: bool) -> tuple[Floats, Floats]:
    """Return what the sizes leave of a gain (cells,), and the columns of b0, bK and, with the gap, bG."""
    decay = np.array([(c.n_records / 500) ** -decay_by for c in cells])
    columns: list[Any] = [decay, decay * np.array([np.log(c.n_classes) / 2 for c in cells])]
    return decay, np.column_stack([*columns, *([[c.shrunk_gap for c in cells]] if gap else [])])


def say(line: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
