"""How often the 90 % bands hold a known truth: simulated paired runs at the sizes of ptbxl-cpu.

    python tests/benchmarks/coverage.py [FITS]

Truths: scratch a - b n^-c, fine-tuned a + d - b (n + n0)^-c, the form of STUDY.md section 4 with n0 of 0, 100 or 500
records, a from .87 to .95, score at n = 100 from .70 to .80, c log-normal about 0.5, d about 0 with sd 0.005; noise of
a run 0.04 at n = 100 falling as n^-0.55, correlated 0.4 within a pair; the test set adds sd 0.004 to both arms.
"""

import sys

import numpy as np

from studies.learning_curves import PairedRuns, fit_learning_curves

SIZES = np.array([100.0, 250, 500, 1000, 2000])
TEST_COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.0]]) * 0.004**2
AT = (500.0, 2000.0, 5000.0, 8000.0)


def main() -> None:
    """Print, for each n0, the coverage of scratch, fine-tuned and gain at sizes inside and beyond the measured ones."""
    fits = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rng = np.random.default_rng(0)
    sys.stdout.write(f"{'n0':>4} {'band of':10} " + " ".join(f"n = {n:<6.0f}" for n in AT) + f" ({fits} fits each)\n")
    for n0 in (0.0, 100.0, 500.0):
        hits = np.mean([_hits(rng, n0, fit) for fit in range(fits)], axis=0)
        for name, row in zip(("scratch", "fine-tuned", "gain"), hits, strict=True):
            sys.stdout.write(f"{n0:4.0f} {name:10} " + " ".join(f"{share:<10.2f}" for share in row) + "\n")


def _hits(rng: np.random.Generator, n0: float, seed: int) -> np.ndarray:
    """Simulate and fit once; return whether each band (scratch, fine-tuned, gain) holds the truth at each size."""
    a, c, d = rng.uniform(0.87, 0.95), np.exp(rng.normal(np.log(0.5), 0.3)), rng.normal(0, 0.005)
    b = (a - rng.uniform(0.7, 0.8)) * 100**c
    at = np.array(AT)
    truth = [lambda n: a - b * n**-c, lambda n: min(a + d, 1.0) - b * (n + n0) ** -c]
    sd = 0.04 * (SIZES / 100) ** -0.55
    own = rng.standard_normal((2, len(SIZES), 5))
    own[1] = 0.4 * own[0] + np.sqrt(1 - 0.4**2) * own[1]
    shift = rng.multivariate_normal([0, 0], TEST_COVARIANCE)
    runs = [truth[k](SIZES)[:, None] + sd[:, None] * own[k] + shift[k] for k in range(2)]
    fit = fit_learning_curves(
        PairedRuns(SIZES, dict(zip(("scratch", "fine-tune"), runs, strict=True)), TEST_COVARIANCE), seed
    )
    drawn = [p["a"][:, None] - p["b"][:, None] * at ** -p["c"][:, None] for p in fit.draws.values()]
    curves, truths = [*drawn, drawn[1] - drawn[0]], [truth[0](at), truth[1](at), truth[1](at) - truth[0](at)]
    bands = [np.quantile(curve, (0.05, 0.95), axis=0) for curve in curves]
    return np.array([(low <= value) & (value <= high) for (low, high), value in zip(bands, truths, strict=True)])


if __name__ == "__main__":
    main()
