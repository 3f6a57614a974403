"""How often the 90 % bands hold a known truth: simulated paired runs of six sizes and five replicates.

    python tests/benchmarks/coverage.py [FITS]

Truths: scratch a - b n^-c, fine-tuned a + d - b (n + n0)^-c (METHODS.md, Curves), a from .87 to .95, score at n = 100
from .70 to .80, c log-normal about 0.5 with sd 0.3, n0 of 0, 100 or 500 records, d about 0 with sd 0.005 (half of the
truths with n0 = 0 have d = 0). The noise of a run is log-normal about 0.03 at n = 100 with sd 0.4, falls as n^-0.55 and
is correlated 0.4 within a pair; the test set adds sd 0.004 to both arms. FITS fits, a third of them for each n0.

Then: how n0 is recovered, how often the verdict is fine-tune where nothing is transferred, and how often
curves raise the warning that rise, that are set back but mostly rise on, and that truly end lower.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from studies.fitting.learning_curves import FitError, LearningCurveResults, PairedRuns, fit_learning_curves

SIZES = np.array([100.0, 250, 500, 1000, 2000, 4000])
AHEAD = np.array([8000.0, 16000.0])
TEST_COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.0]]) * 0.004**2
N0 = (0.0, 100.0, 500.0)
ARMS = ("scratch", "fine-tune")

Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Truth:
    """True curves of both arms."""

    scratch: Curve
    fine_tune: Curve


def draw_truth(rng: np.random.Generator, n0: float, d: float | None = None) -> Truth:
    """Draw a truth with this n0, and with d drawn too unless it is given."""
    a, c = rng.uniform(0.87, 0.95), np.exp(rng.normal(np.log(0.5), 0.3))
    b = (a - rng.uniform(0.7, 0.8)) * 100**c
    if d is None:
        d = rng.normal(0, 0.005) if n0 or rng.random() < 0.5 else 0.0
    return Truth(lambda n: a - b * n**-c, lambda n: np.minimum(a + d, 1.0) - b * (n + n0) ** -c)


def simulate(rng: np.random.Generator, truth: Truth, noise: float | None = None, replicates: int = 5) -> PairedRuns:
    """Simulate paired runs about a truth; ``noise`` is the sd of a run at n = 100, drawn when it is not given."""
    noise = np.exp(rng.normal(np.log(0.03), 0.4)) if noise is None else noise
    sd = noise * (SIZES / 100) ** -0.55
    own = rng.standard_normal((2, len(SIZES), replicates))
    own[1] = 0.4 * own[0] + np.sqrt(1 - 0.4**2) * own[1]
    shift = rng.multivariate_normal([0, 0], TEST_COVARIANCE)
    curves = (truth.scratch, truth.fine_tune)
    scores = [np.clip(curve(SIZES)[:, None] + sd[:, None] * own[k] + shift[k], 0, 1) for k, curve in enumerate(curves)]
    return PairedRuns(SIZES, dict(zip(ARMS, scores, strict=True)), TEST_COVARIANCE)


def hits(fit: LearningCurveResults, truth: Truth, at: np.ndarray) -> np.ndarray:
    """Return whether each band (scratch, fine-tuned, gain) holds the truth at each size."""
    scratch, fine_tuned = (fit.scores(arm, at) for arm in ARMS)
    true = truth.scratch(at), truth.fine_tune(at)
    pairs = ((scratch, true[0]), (fine_tuned, true[1]), (fine_tuned - scratch, true[1] - true[0]))
    bands = [(np.quantile(drawn, (0.05, 0.95), axis=0), value) for drawn, value in pairs]
    return np.array([(low <= value) & (value <= high) for (low, high), value in bands])


def main() -> None:
    """Print the tables."""
    fits = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    _print_coverage(np.random.default_rng(0), fits)
    _print_shifts(np.random.default_rng(1), max(fits // 3, 1))
    _print_verdicts(np.random.default_rng(2), fits)
    _print_warnings(np.random.default_rng(3), max(fits // 3, 1))


def _print_coverage(rng: np.random.Generator, fits: int) -> None:
    at = np.concatenate([SIZES, AHEAD])
    found, seconds = [], 0.0
    for number in range(fits):
        truth = draw_truth(rng, N0[number % len(N0)])
        runs = simulate(rng, truth)
        started = time.process_time()
        fit = fit_learning_curves(runs, number)
        seconds += time.process_time() - started
        found.append(hits(fit, truth, at))
    _write(f"share of {fits} fits whose 90 % band holds the truth; sizes beyond {SIZES[-1]:,.0f} are extrapolated")
    _write(f"{'n':10} " + " ".join(f"{n:>6,.0f}" for n in at))
    for name, row in zip(("scratch", "fine-tuned", "gain"), np.mean(found, axis=0), strict=True):
        _write(f"{name:10} " + " ".join(f"{share:6.2f}" for share in row))
    _write(f"processor time of a fit: {seconds / fits:.2f} s")


def _print_shifts(rng: np.random.Generator, fits: int) -> None:
    _write(
        f"n0 recovered, {fits} fits each: mean and median of the estimates over the truth, 90 % intervals that hold it"
    )
    for n0 in (100.0, 250.0, 500.0, 1000.0, 2000.0):
        runs = [simulate(rng, draw_truth(rng, n0)) for _ in range(fits)]
        results = [fit_learning_curves(one, number) for number, one in enumerate(runs)]
        ratio = np.array([fit.params["n0"] for fit in results]) / n0
        held = np.mean([fit.conf_int()["n0"][0] <= n0 <= fit.conf_int()["n0"][1] for fit in results])
        _write(f"n0 = {n0:5,.0f}: {ratio.mean():.2f}  {np.median(ratio):.2f}  {held:.2f}")


def _print_verdicts(rng: np.random.Generator, fits: int) -> None:
    at = np.concatenate([SIZES, AHEAD])
    asked = []
    for number in range(fits):
        fit = fit_learning_curves(simulate(rng, draw_truth(rng, 0.0, 0.0)), number)
        asked.append([fit.gain(n).p_above_margin >= 0.8 for n in at])
    _write(f"no transfer at all: share of {fits} fits whose verdict would be fine-tune")
    _write(f"{'n':10} " + " ".join(f"{n:>6,.0f}" for n in at))
    _write(f"{'':10} " + " ".join(f"{share:6.3f}" for share in np.mean(asked, axis=0)) + f"  all: {np.mean(asked):.3f}")


def _print_warnings(rng: np.random.Generator, fits: int) -> None:
    cases: dict[str, Callable[[Curve, np.ndarray], np.ndarray]] = {
        "rise": lambda rising, n: rising(n),
        "are set back by 0.02 from 2,000 on": lambda rising, n: rising(n) - 0.02 * (n > 1500),
        **{
            f"end {fall} lower than at 2,000": lambda rising, n, x=fall: np.where(
                n > 3000, rising(2000.0) - x, rising(n)
            )
            for fall in (0.01, 0.02, 0.04)
        },
    }
    for name, shape in cases.items():
        warned = []
        for number in range(fits):
            truth = draw_truth(rng, 100.0)
            scratch = partial(shape, truth.scratch)
            fit = fit_learning_curves(simulate(rng, Truth(scratch, truth.fine_tune), noise=0.03), number)
            warned.append(any("not monotone" in warning and "scratch" in warning for warning in fit.warnings))
        _write(f"curves that {name}: warned in {np.mean(warned):.2f} of {fits} fits")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    try:
        main()
    except FitError as error:
        sys.exit(str(error))
