"""How much the scores of a cell owe to the patients that happened to be tested.

Where all replicates are tested on the same records, that is a noise that they share, and their scatter has nothing of
it. Where each is tested on records of its own, as sources of a few hundred records are, it is in their scatter, all of
it. Between the two, of the sampling variance of one test set the scatter lacks the share of pairs of replicates that
are tested on the same records: the mean of m replicates, m_g of them on test set g, has sum (m_g / m)^2 of it, and of
replicates that are taken for independent 1 / m of what scatters is found again. One share counts for a curve, the mean
over its sizes.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.fitting.learning_curves import FitError
from studies.runs.run import Run
from studies.runs.run_tables import PatientCovariance

_FEWEST_RESAMPLES = 50

Floats = NDArray[np.float64]


def share_no_fold(tests: Collection[Sequence[int]]) -> bool:
    """Say whether sets of test folds have no fold in common."""
    return sum(map(len, tests)) == len({fold for folds in tests for fold in folds})


def shared_test(runs: Sequence[Run]) -> float:
    """Return the share of pairs of replicates that are tested on the same records, the mean over sizes.

    One for runs that all are, zero where every replicate has a test set of its own; one too where no size has a pair.
    """
    shares = []
    for size in {run.n_records for run in runs}:
        sets = Counter(run.spec.test_folds for run in runs if run.n_records == size)
        total = sum(sets.values())
        if total > 1:
            shares.append(sum(count * (count - 1) for count in sets.values()) / (total * (total - 1)))
    return float(np.mean(shares)) if shares else 1.0


def sampling_covariance(arms: Mapping[str, Sequence[Run]]) -> Floats:
    """Return the covariance (arms, arms) of mean scores from the test patients that is not in the replicates' scatter.

    From resamples of these patients at the largest size; the arms have the same replicates. Raises FitError where the
    patients are too few.
    """
    share = shared_test(next(iter(arms.values())))
    if share == 0:
        return np.zeros((len(arms), len(arms)))
    n = max(run.n_records for runs in arms.values() for run in runs)
    at = {arm: [run for run in runs if run.n_records == n] for arm, runs in arms.items()}
    sets = Counter(run.spec.test_folds for run in next(iter(at.values())))
    several = {folds: count for folds, count in sets.items() if count > 1} or sets
    covariances = [_of_one_set(at, folds) for folds in several]
    return np.asarray(share * np.average(covariances, axis=0, weights=list(several.values())), np.float64)


def _of_one_set(arms: Mapping[str, Sequence[Run]], folds: tuple[int, ...]) -> Floats:
    means = np.array([
        np.mean([run.bootstrap for run in runs if run.spec.test_folds == folds], axis=0) for runs in arms.values()
    ])  # fmt: skip
    scored = np.isfinite(means).all(axis=0)  # a resample may lack an outcome of every class
    if scored.sum() < _FEWEST_RESAMPLES:
        raise FitError("the test set is too small: its resamples have no AUROC")
    return np.atleast_2d(np.cov(means[:, scored]))


def covariance_of_all(arms: Mapping[str, Sequence[Run]]) -> PatientCovariance | None:
    """Return the covariance of all arms from what all of them ran, None where that is nothing."""
    scored = {arm: {(run.n_records, run.replicate): run for run in runs if run.has_score} for arm, runs in arms.items()}
    shared = sorted(set.intersection(*map(set, scored.values())))
    if not shared:
        return None
    both = {arm: [runs[cell] for cell in shared] for arm, runs in scored.items()}
    return PatientCovariance(tuple(arms), sampling_covariance(both))


def describe_test(runs: Sequence[Run]) -> dict[str, Any]:
    """Say what the runs were trained out of and tested on: folds, and the test records of all replicates together."""
    tests = {run.spec.test_folds: run for run in runs}
    return {
        "pool_folds": sorted({fold for run in runs for fold in run.spec.pool_folds}),
        "test_folds": sorted({fold for folds in tests for fold in folds}),
        "test_records": sum(run.test_records for run in tests.values()),
        "test_patients": sum(run.test_patients for run in tests.values()),
        **({"test_sets": len(tests)} if len(tests) > 1 else {}),
    }
