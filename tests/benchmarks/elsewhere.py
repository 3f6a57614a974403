"""How far learning curves from elsewhere are forecast: sizes above a limit are held back, however large.

    python tests/benchmarks/elsewhere.py RUNS.csv LIMIT           a runs file as `ecgadvise curves fit` takes
    python tests/benchmarks/elsewhere.py database-auc.csv LIMIT   of LCDB (MIT; `pip download --no-deps lcdb==0.1.0`)
    python tests/benchmarks/elsewhere.py simulated LIMIT          shapes that are not a power law, see below
    python tests/benchmarks/elsewhere.py steep 900                steep curves next to a plain power law, see below

Of LCDB (Mohr et al., ECML PKDD 2022: 20 learners on 246 data sets, up to 125 replicates) 80 curves are drawn with a
fixed seed out of those that reach eight times the limit, with their sizes 64, 128, ... up to the limit;
database-accuracy.csv and database-f1.csv are read too.

Simulated: 40 curves, a fifth of each of power law, stretched exponential, sigmoid in log n and MMF and again power law;
asymptotes .62 to .995, 20 to 40 replicates at 14 sizes from 100 to 300,000, whose noise falls to a floor of its own.

Steep: power laws of exponents .7 to 4 from scores of .62 to .78 at 250 records to asymptotes of .93 to .995, measured
at six sizes from 250 to 900 with five replicates each, whose standard deviation is about .008 at 250. Root mean square
errors of the expected score at 2,000, 3,600 and 9,000 records, next to those of a power law by least squares.
"""

import csv
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from studies.backtest.hold_out import HeldOut, forecast_sizes
from studies.backtest.scorecard import score_forecasts
from studies.backtest.truth import estimate_replicate_noise
from studies.files.arms import SCRATCH
from studies.files.draws import BAND
from studies.fitting.learning_curves import FitError, PairedRuns, fit_learning_curves
from studies.runs.run import Run
from studies.runs.run_tables import RunTable, tabulate
from studies.runs.tidy_runs import TidyRuns, read_runs

_LCDB = "openmlid"
_STEEP_CURVES = 20
_CURVES = 80
_SIZES = (100, 180, 320, 560, 1000, 1800, 3200, 5600, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000)
_SHAPES = (  # what is left of the way from the first score to the asymptote, at x times the first size
    lambda x, c, middle: x**-c,
    lambda x, c, middle: np.exp(-0.5 * (x - 1) ** 0.45),
    lambda x, c, middle: 1 - 1 / (1 + (middle / x) ** 1.2),
    lambda x, c, middle: 1 / (1 + 0.3 * (x - 1) ** 0.7),
    lambda x, c, middle: x**-c,
)
_BINS = ((2.0, "to 2x"), (4.0, "to 4x"), (8.0, "to 8x"), (np.inf, "beyond"))


def main() -> None:
    """Print error, coverage and width of the forecasts, by how far beyond the limit they lie."""
    path, limit = Path(sys.argv[1]), int(sys.argv[2])
    if path.name == "steep":
        _steep()
        return
    runs = _simulate() if path.name == "simulated" else _read(path, limit)
    cells: dict[str, list[HeldOut]] = defaultdict(list)
    failed = 0
    tables = tabulate(runs)[0]
    for table in tables:
        try:
            noise = estimate_replicate_noise([table])
            for cell in forecast_sizes("", table, _up_to(table, limit), noise):
                cells[next(name for factor, name in _BINS if cell.n_records <= factor * limit)].append(cell)
        except (FitError, IndexError):
            failed += 1
    sys.stdout.write(f"{len(tables) - failed} curves from sizes up to {limit:,} ({failed} could not be fitted)\n")
    sys.stdout.write("          cells  error  last value  90 % band holds  width  single runs\n")
    for _, name in _BINS:
        if name in cells:
            card = score_forecasts(cells[name], lambda _draws, _margin: "scratch", 0.01)
            sys.stdout.write(
                f"{name:8} {card.bands.cells:6}  {card.error['advice']:.4f} {card.error['last_value']:.4f}"
                f"      {card.bands.coverage['scratch']:.2f}             {card.bands.width['scratch']:.4f}"
                f" {card.bands.coverage['scratch_run']:.2f}\n"
            )


def _steep() -> None:
    sizes, ahead = np.array([250.0, 350, 450, 600, 750, 900]), np.array([2000.0, 3600, 9000])
    sys.stdout.write("exponent  error  of a power law  90 % band holds  width\n")
    for exponent in (0.7, 1.0, 1.5, 2.5, 4.0):
        rng = np.random.default_rng(7)
        ours, plain, held, widths = [], [], [], []
        for seed in range(_STEEP_CURVES):
            a, first, sd = rng.uniform(0.93, 0.995), rng.uniform(0.62, 0.78), np.exp(rng.normal(np.log(0.008), 0.4))
            truth = partial(_law, a=a, b=a - first, c=exponent)
            spread = sd * (sizes / 250) ** -0.5
            scores = truth(sizes)[:, None] + spread[:, None] * rng.standard_normal((len(sizes), 5))
            fit = fit_learning_curves(PairedRuns(sizes, {SCRATCH: scores}, np.zeros((1, 1))), seed)
            draws = fit.scores(SCRATCH, ahead)
            bounds = ([0, 0, 0.02], [1, 1, 6])
            found, _ = curve_fit(_law, sizes, scores.mean(axis=1), [0.95, 0.2, 1.0], bounds=bounds, max_nfev=10_000)
            low, high = np.quantile(draws, BAND, axis=0)
            ours.append(draws.mean(axis=0) - truth(ahead))
            plain.append(_law(ahead, *found) - truth(ahead))
            held.append((low <= truth(ahead)) & (truth(ahead) <= high))
            widths.append(high - low)
        error, other = (float(np.sqrt(np.mean(np.square(errors)))) for errors in (ours, plain))
        sys.stdout.write(
            f"{exponent:8}  {error:.4f} {other:.4f}          {np.mean(held):.2f}             {np.mean(widths):.4f}\n"
        )


def _law(n: NDArray[np.float64], a: float, b: float, c: float) -> NDArray[np.float64]:
    return np.asarray(a - b * (n / 250) ** -c, np.float64)


def _up_to(table: RunTable, limit: int) -> RunTable:
    return table.without_largest(int((table.runs.sizes > limit).sum()))


def _read(path: Path, limit: int) -> TidyRuns:
    with path.open(encoding="utf-8") as file:
        is_lcdb = file.readline().startswith(_LCDB)
    return _read_lcdb(path, limit) if is_lcdb else read_runs(path)


def _simulate() -> TidyRuns:
    rng = np.random.default_rng(12)
    runs = []
    for number in range(40):
        shape = _SHAPES[number % len(_SHAPES)]
        a, c, middle = rng.uniform(0.62, 0.995), np.exp(rng.normal(np.log(0.5), 0.5)), np.exp(rng.uniform(5.3, 8.5))
        lift = a - rng.uniform(0.5, a - 0.05)
        sd, floor, replicates = np.exp(rng.normal(np.log(0.02), 0.5)), rng.uniform(0.0005, 0.004), rng.integers(20, 41)
        for n in _SIZES:
            spread = np.hypot(sd * (n / 100) ** -0.5, floor)
            scores = a - lift * shape(n / 100, c, middle / 100) + spread * rng.standard_normal(replicates)
            runs += [
                _run(f"made-{number}", "net", n, k, "auroc", float(np.clip(score, 0.3, 1)))
                for k, score in enumerate(scores)
            ]
    return TidyRuns("simulated", "auroc", tuple(runs), {})


def _read_lcdb(path: Path, limit: int) -> TidyRuns:
    found: dict[tuple[str, str], dict[tuple[int, int], float]] = defaultdict(dict)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            n, score = int(row["size_train"]), row["score_test"]
            if score and 0 < float(score) <= 1 and (n > limit or n in {64 * 2**k for k in range(20)}):
                replicate = 100 * int(row["outer_seed"]) + int(row["inner_seed"])
                found[row["openmlid"], row["learner"]][n, replicate] = float(score)
    metric = path.stem.split("-")[-1]
    long = sorted(cell for cell, scores in found.items() if max(n for n, _ in scores) >= 8 * limit)
    chosen = np.random.default_rng(0).permutation(len(long))[:_CURVES]
    runs = [
        _run(f"openml-{task}", arch, n, replicate, metric, score)
        for task, arch in (long[k] for k in sorted(chosen))
        for (n, replicate), score in found[task, arch].items()
    ]
    return TidyRuns("lcdb", metric, tuple(runs), {})


def _run(task: str, arch: str, n_records: int, replicate: int, metric: str, score: float) -> Run:
    return Run(
        task=task, arch=arch, family="other", strategy="scratch", n_records=n_records, replicate=replicate,
        metric=metric, other_scores={metric: score},
    )  # fmt: skip


if __name__ == "__main__":
    main()
