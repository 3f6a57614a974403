"""How far learning curves from elsewhere are forecast: sizes above a limit are held back, however large.

    python tests/benchmarks/elsewhere.py RUNS.csv LIMIT           a runs file as `ecgadvise curves fit` takes
    python tests/benchmarks/elsewhere.py database-auc.csv LIMIT   of LCDB (MIT; `pip download --no-deps lcdb==0.1.0`)

Of LCDB (Mohr et al., ECML PKDD 2022: 20 learners on 246 data sets, up to 125 replicates) 80 curves are drawn with a
fixed seed out of those that reach eight times the limit, with their sizes 64, 128, ... up to the limit.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from studies.backtest import HeldOut, forecast_sizes
from studies.learning_curves import FitError
from studies.run_tables import RunTable, tabulate
from studies.scorecard import score_forecasts
from studies.tidy import TidyRun, TidyRuns, read_runs

_LCDB = "openmlid"
_CURVES = 80
_BINS = ((2.0, "to 2x"), (4.0, "to 4x"), (8.0, "to 8x"), (np.inf, "beyond"))


def main() -> None:
    """Print error, coverage and width of the forecasts, by how far beyond the limit they lie."""
    path, limit = Path(sys.argv[1]), int(sys.argv[2])
    with path.open(encoding="utf-8") as file:
        is_lcdb = file.readline().startswith(_LCDB)
    runs = _read_lcdb(path, limit) if is_lcdb else read_runs(path)
    cells: dict[str, list[HeldOut]] = defaultdict(list)
    failed = 0
    tables = tabulate(runs)[0]
    for table in tables:
        try:
            for cell in forecast_sizes("", table, _up_to(table, limit)):
                cells[next(name for factor, name in _BINS if cell.n_records <= factor * limit)].append(cell)
        except (FitError, IndexError):
            failed += 1
    sys.stdout.write(f"{len(tables) - failed} curves from sizes up to {limit:,} ({failed} could not be fitted)\n")
    sys.stdout.write("          cells  error  last value  90 % band holds  width  single runs\n")
    for _, name in _BINS:
        if name in cells:
            card = score_forecasts(cells[name], lambda _draws, _margin: "scratch", 0.01)
            sys.stdout.write(
                f"{name:8} {card.cells:6}  {card.error['advice']:.4f} {card.error['last_value']:.4f}"
                f"      {card.coverage['scratch']:.2f}             {card.width['scratch']:.4f}"
                f" {card.coverage['scratch_run']:.2f}\n"
            )


def _up_to(table: RunTable, limit: int) -> RunTable:
    return table.without_largest(int((table.runs.sizes > limit).sum()))


def _read_lcdb(path: Path, limit: int) -> TidyRuns:
    found: dict[tuple[str, str], dict[tuple[int, int], float]] = defaultdict(dict)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            n, score = int(row["size_train"]), row["score_test"]
            if score and 0 < float(score) <= 1 and (n > limit or n in {64 * 2**k for k in range(20)}):
                replicate = 100 * int(row["outer_seed"]) + int(row["inner_seed"])
                found[row["openmlid"], row["learner"]][n, replicate] = float(score)
    long = sorted(cell for cell, scores in found.items() if max(n for n, _ in scores) >= 8 * limit)
    chosen = np.random.default_rng(0).permutation(len(long))[:_CURVES]
    runs = [
        TidyRun(f"openml-{task}", arch, "other", "scratch", None, n, replicate, score, "")
        for task, arch in (long[k] for k in sorted(chosen))
        for (n, replicate), score in found[task, arch].items()
    ]
    return TidyRuns("lcdb", "auroc_macro", tuple(runs), {})


if __name__ == "__main__":
    main()
