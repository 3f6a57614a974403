"""What a training costs, in records seen and seconds, and what fine-tuning saves of it.

Records seen follow from the recipe, seconds from the measured speed of a device. A one-cycle schedule ends at a rate of
zero, so that a run's best is rarely long before its end: how soon a training is at its best is a figure of the recipe
as much as of the strategy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.runs.run import Run, known


def uses_to_pay_off(pretraining: float, scratch: float, fine_tune: float) -> float | None:
    """Return after how many trainings a pre-training has paid for itself, all three in one unit; None if never."""
    return pretraining / (scratch - fine_tune) if fine_tune < scratch else None


def records_to_target(trajectory: Sequence[tuple[int, float]], target: float) -> tuple[int, bool]:
    """Return the records seen when a trajectory first reached ``target`` and True, or all it saw and False."""
    for records, score in trajectory:
        if score >= target:
            return records, True
    return trajectory[-1][0], False


def log_time_ratios(pairs: Sequence[tuple[Run, Run]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return, for each pair (scratch, fine-tuned), the log ratio of records seen until scratch's best was reached.

    Below zero where fine-tuning was sooner. The second array marks the pairs in which it never got there: their ratio
    is at least what is given. Pairs without trajectories are passed over.
    """
    ratios, censored = [], []
    for scratch, fine_tuned in pairs:
        if not (scratch.trajectory and fine_tuned.trajectory):
            continue
        target = max(score for _, score in scratch.trajectory)
        needed, _ = records_to_target(scratch.trajectory, target)
        records, reached = records_to_target(fine_tuned.trajectory, target)
        ratios.append(np.log(records / needed))
        censored.append(not reached)
    return np.array(ratios, np.float64), np.array(censored, np.bool_)


def fit_cost(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what ``studies.files.curve.TrainingCost`` holds, from the runs of one network, strategy and recipe.

    ``seconds_per_record`` is the median over the runs, validation and all, of training seconds per record seen, and
    ``share_to_best`` the median share of them at which the best validation epoch was reached.
    """
    recipe = runs[0].training_recipe
    seen = [known(run.records_seen) for run in runs]
    seconds = [known(run.seconds) for run in runs]
    to_best = [known(run.records_to_best) for run in runs]
    return {
        "device": runs[0].device,
        "record_passes": recipe.record_passes,
        "min_epochs": recipe.min_epochs,
        "max_epochs": recipe.max_epochs,
        "validation_fraction": recipe.validation_fraction,
        "seconds_per_record": float(np.median(np.divide(seconds, seen))),
        "share_to_best": float(np.median(np.divide(to_best, seen))),
    }
