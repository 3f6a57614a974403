"""What a training costs, in records seen and seconds, and what fine-tuning saves of it.

Records seen follow from the recipe, seconds from the measured speed of a device: times of two devices are never one
figure. A one-cycle schedule ends at a rate of
zero, so that a run's best is rarely long before its end: how soon a training is at its best is a figure of the recipe
as much as of the strategy.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.files.curve import TrainingCost
from studies.runs.run import METRIC, Run, known


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

    ``seconds_per_record`` is the median over the runs of a device, validation and all, of training seconds per record
    seen: of that with most runs (``by_device``), and in ``other_devices`` of any other. ``share_to_best`` is the median
    share of the records, over all runs, at which the best validation epoch was reached.
    """
    recipe = runs[0].training_recipe
    seen = [known(run.records_seen) for run in runs]
    to_best = [known(run.records_to_best) for run in runs]
    (device, seconds), *others = ((name, _seconds_per_record(of_device)) for name, of_device in by_device(runs))
    return {
        "device": device,
        "record_passes": recipe.record_passes,
        "min_epochs": recipe.min_epochs,
        "max_epochs": recipe.max_epochs,
        "validation_fraction": recipe.validation_fraction,
        "seconds_per_record": seconds,
        "share_to_best": float(np.median(np.divide(to_best, seen))),
        **({"other_devices": dict(others)} if others else {}),
    }


def fit_cost_once(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the same of an arm without epochs: seconds are those of features and regression, a record of the run's n.

    ``seconds_per_record`` is the median over the runs of a device, as in ``fit_cost``.
    """
    of_n = {name: _median_ratio(of_device, lambda run: run.n_records) for name, of_device in by_device(runs)}
    (device, seconds), *others = of_n.items()
    return asdict(TrainingCost.passing_once(device, seconds, dict(others)))


def pretraining_cost(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what ``studies.files.curve.PretrainingCost`` holds, and the score, from pre-trainings of one network.

    It is the first one of the device that most were made on, and in ``other_devices`` what it would take elsewhere by
    the seconds per record there.
    """
    (device, (first, *_)), *others = by_device(runs)
    seen = known(first.records_seen)
    elsewhere = {name: _seconds_per_record(of_device) * seen for name, of_device in others}
    return {
        "device": device, "seconds": first.seconds, "records_seen": seen, "n_records": first.n_records,
        "epochs": first.epochs, METRIC: first.auroc_macro,
        **({"other_devices": elsewhere} if elsewhere else {}),
    }  # fmt: skip


def made_on(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the devices that runs were made on, by name."""
    return tuple(sorted({known(run.device) for run in runs}))


def by_device(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Return the runs of each device, the device with most runs first, of equals the one that was last run on."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[known(run.device)].append(run)
    newest = {device: max(known(run.created) for run in of_device) for device, of_device in found.items()}
    return sorted(found.items(), key=lambda item: (len(item[1]), newest[item[0]], item[0]), reverse=True)


def _seconds_per_record(runs: Sequence[Run]) -> float:
    return _median_ratio(runs, lambda run: known(run.records_seen))


def _median_ratio(runs: Sequence[Run], records: Callable[[Run], int]) -> float:
    return float(np.median(np.divide([known(run.seconds) for run in runs], [records(run) for run in runs])))
