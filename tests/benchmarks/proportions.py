"""How often the 90 % intervals of sensitivities and predictive values hold a known truth: no records are needed.

    python tests/benchmarks/proportions.py [SETS]

So many simulated test SETS a line. Sensitivities: patients have their own share of right decisions, of a beta
distribution about the truth (correlation 0, .1, .5 or .95 of two records of a patient), and one record, a geometric
number (mean 2.5) or a skewed one (most have one, some up to 60). Next to it the percentiles of 400 resamples of whole
patients. Predictive values: one record a patient.
"""

import sys
from collections.abc import Callable

import numpy as np

from engine.evaluation.operating_point import predictive_value, proportion

RESAMPLES, TRUTHS, PATIENTS = 400, (0.7, 0.9, 0.97), (3, 6, 11, 30, 100)
Sizes = Callable[[np.random.Generator, int], np.ndarray]
KINDS: dict[str, tuple[Sizes, float]] = {
    "one": (lambda rng, k: np.ones(k, int), 0.0),
    "geometric": (lambda rng, k: rng.geometric(0.4, k), 0.1),
    "geometric ": (lambda rng, k: rng.geometric(0.4, k), 0.5),
    "geometric  ": (lambda rng, k: rng.geometric(0.4, k), 0.95),
    "skewed": (lambda rng, k: np.minimum(1 + rng.negative_binomial(0.5, 0.05, k), 60), 0.5),
}
POINTS = ((0.9, 0.95, 11, 61), (0.9, 0.95, 30, 300), (0.7, 0.99, 20, 200), (0.97, 0.9, 50, 500), (0.5, 0.98, 8, 60))


def main() -> None:
    """Print the share of intervals that hold the truth."""
    sets = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rng = np.random.default_rng(0)
    sys.stdout.write("records, correlation, patients: cover at .7 .9 .97 (percentiles of resamples), mean width\n")
    for kind, (sizes, correlation) in KINDS.items():
        for n_patients in PATIENTS:
            found = [_cover(rng, sizes, correlation, n_patients, truth, sets) for truth in TRUTHS]
            cells = "  ".join(f"{ours:.2f} ({resampled:.2f}) {width:.2f}" for ours, resampled, width in found)
            sys.stdout.write(f"{kind.strip():9} {correlation:4} {n_patients:4}: {cells}\n")
    sys.stdout.write("sensitivity, specificity, positives, negatives, prevalence: cover of PPV and NPV\n")
    for point in POINTS:
        for prevalence in (0.02, 0.2):
            ppv, npv = _cover_predictive(rng, *point, prevalence, sets)
            sys.stdout.write(f"{' '.join(map(str, point))} {prevalence}: {ppv:.3f} {npv:.3f}\n")


def _cover(
    rng: np.random.Generator, sizes: Sizes, correlation: float, n_patients: int, truth: float, sets: int
) -> tuple[float, float, float]:
    held, resampled, width = 0, 0, 0.0
    for _ in range(sets):
        patients = np.repeat(np.arange(n_patients), sizes(rng, n_patients))
        own = np.full(n_patients, truth)
        if correlation:
            scale = (1 - correlation) / correlation
            own = rng.beta(truth * scale, (1 - truth) * scale, n_patients)
        outcomes = rng.random(len(patients)) < own[patients]
        _, lower, upper = proportion(outcomes, patients)
        held, width = held + (lower <= truth <= upper), width + upper - lower
        true, of = (np.bincount(patients, weights, n_patients) for weights in (outcomes, None))
        draws = rng.multinomial(n_patients, np.full(n_patients, 1 / n_patients), RESAMPLES)
        low, high = np.quantile((draws @ true) / (draws @ of), [0.05, 0.95])
        resampled += low <= truth <= high
    return held / sets, resampled / sets, width / sets


def _cover_predictive(
    rng: np.random.Generator, sensitivity: float, specificity: float, positives: int, negatives: int,
    prevalence: float, sets: int,
) -> tuple[float, float]:  # fmt: skip
    right, wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    spared, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    truths, held = (right / (right + wrong), spared / (spared + missed)), np.zeros(2)
    for _ in range(sets):
        found = proportion(rng.random(positives) < sensitivity, np.arange(positives))
        left = proportion(rng.random(negatives) < specificity, np.arange(negatives))
        bands = predictive_value(found, left, prevalence), predictive_value(left, found, 1 - prevalence)
        held += [lower <= truth <= upper for truth, (_, lower, upper) in zip(truths, bands, strict=True)]
    return float(held[0] / sets), float(held[1] / sets)


if __name__ == "__main__":
    main()
