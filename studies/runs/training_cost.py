"""What a training costs: records seen follow from the recipe, seconds from the measured speed of a device.

Beside that, how soon a training is at its best: records seen up to the best validation epoch against n, one line on
log-log axes for each network and strategy. A run whose last epoch was its best is censored, the best lies there or
beyond (``studies.fitting.censored_regression``). A one-cycle schedule ends at a rate of zero, so that a run's best is
rarely long before its end: these are figures of the recipe as much as of the strategy.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.recipes import Recipe
from studies.fitting.censored_regression import CensoredFit, CensoredFitError, fit_censored
from studies.runs.store import RunRecord
from studies.runs.tidy_runs import RunCost, TidyRun

_NORMAL_90 = 1.6448536269514722  # the 95 % quantile of a standard normal variable
_JOULES_PER_KWH = 3.6e6
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Estimate:
    """A median and its 90 % interval."""

    median: float
    lower: float
    upper: float

    def times(self, factor: float) -> "Estimate":
        """Return the estimate in another unit."""
        return Estimate(self.median * factor, self.lower * factor, self.upper * factor)


@dataclass(frozen=True)
class CostCurve:
    """Records seen up to the best validation epoch, of one network and strategy, from runs between two sizes.

    ``records_per_second`` maps a device to the median speed of the runs on it.
    """

    arch: str
    strategy: str
    smallest: int
    largest: int
    fit: CensoredFit
    records_per_second: Mapping[str, float]

    def records_to_best(self, n_records: int) -> Estimate:
        """Return how many records a training with ``n_records`` sees until its best epoch: median over runs."""
        design = np.array([[1.0, np.log(n_records)][: len(self.fit.coefficients)]])
        centre, error = (float(values[0]) for values in self.fit.predict(design))
        return Estimate(*(float(np.exp(centre + k * error)) for k in (0.0, -_NORMAL_90, _NORMAL_90)))

    def seconds_to_best(self, n_records: int, records_per_second: float | None = None) -> Estimate:
        """Return ``records_to_best`` in seconds on a device of the given speed, by default the first measured one."""
        speed = records_per_second or next(iter(self.records_per_second.values()))
        return self.records_to_best(n_records).times(1 / speed)


@dataclass(frozen=True)
class Rates:
    """What the user pays: watts drawn while training, money a kWh, money an hour of the machine, money a label.

    An unknown rate is None.
    """

    watts: float | None = None
    per_kwh: float | None = None
    per_hour: float | None = None
    per_label: float | None = None


@dataclass(frozen=True)
class Bill:
    """What one training costs, its share of the pre-training included. What no rate was given for is None."""

    seconds: float
    energy_kwh: float | None
    money: float | None


def charge(seconds: float, rates: Rates, n_labels: int = 0, pretraining_seconds: float = 0.0, uses: int = 1) -> Bill:
    """Return the bill of one training whose pre-training is shared by ``uses`` trainings. Raises ValueError.

    Money adds up what rates were given for: energy, machine hours, ``n_labels`` labels.
    """
    if uses < 1 or min(seconds, pretraining_seconds, n_labels) < 0:
        raise ValueError("a bill needs at least one use, and times and labels that are not negative")
    total = seconds + pretraining_seconds / uses
    energy = None if rates.watts is None else rates.watts * total / _JOULES_PER_KWH
    parts = [
        None if energy is None or rates.per_kwh is None else energy * rates.per_kwh,
        None if rates.per_hour is None else rates.per_hour * total / _SECONDS_PER_HOUR,
        None if rates.per_label is None else rates.per_label * n_labels,
    ]
    known = [part for part in parts if part is not None]
    return Bill(total, energy, sum(known) if known else None)


def uses_to_pay_off(pretraining: float, scratch: float, fine_tune: float) -> float | None:
    """Return after how many trainings a pre-training has paid for itself, all three in one unit; None if never."""
    return pretraining / (scratch - fine_tune) if fine_tune < scratch else None


def fit_cost_curves(runs: Sequence[TidyRun]) -> tuple[list[CostCurve], list[str]]:
    """Fit a cost curve for every network and strategy; return those and, in words, what could not be fitted.

    Runs without costs are passed over.
    """
    groups: dict[tuple[str, str], list[tuple[int, RunCost]]] = defaultdict(list)
    for run in runs:
        if run.cost is not None:
            groups[run.arch, run.strategy].append((run.n_records, run.cost))
    curves, failures = [], []
    for (arch, strategy), measured in sorted(groups.items()):
        try:
            curves.append(_fit_group(arch, strategy, measured))
        except CensoredFitError as error:
            failures.append(f"{arch} {strategy}: {error}")
    return curves, failures


def _fit_group(arch: str, strategy: str, measured: Sequence[tuple[int, RunCost]]) -> CostCurve:
    sizes = np.array([n for n, _ in measured], np.float64)
    constant = np.ones((len(sizes), 1))
    design = constant if len(set(sizes)) == 1 else np.column_stack([constant, np.log(sizes)])
    to_best = np.log([float(cost.records_to_best) for _, cost in measured])
    fit = fit_censored(to_best, design, np.array([cost.censored for _, cost in measured]))
    speeds = speed_of_devices([cost for _, cost in measured])
    return CostCurve(arch, strategy, int(sizes.min()), int(sizes.max()), fit, speeds)


def speed_of_devices(costs: Sequence[RunCost]) -> dict[str, float]:
    """Return the median records a second of the runs on each device, the device with most runs first."""
    speeds: dict[str, list[float]] = defaultdict(list)
    for cost in costs:
        speeds[cost.device].append(cost.records_seen / cost.seconds)
    ordered = sorted(speeds.items(), key=lambda item: -len(item[1]))
    return {device: float(np.median(values)) for device, values in ordered}


def records_to_target(trajectory: Sequence[tuple[int, float]], target: float) -> tuple[int, bool]:
    """Return the records seen when a trajectory first reached ``target`` and True, or all it saw and False."""
    for records, score in trajectory:
        if score >= target:
            return records, True
    return trajectory[-1][0], False


def log_time_ratios(pairs: Sequence[tuple[TidyRun, TidyRun]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
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


def fit_cost(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return what ``studies.files.curve.TrainingCost`` holds, from the runs of one network, strategy and recipe.

    ``seconds_per_record`` is the median over the runs, validation and all, of training seconds per record seen, and
    ``share_to_best`` the median share of them at which the best validation epoch was reached.
    """
    recipe = Recipe(**runs[0].details["recipe"])
    return {
        "device": runs[0].row["device"],
        "record_passes": recipe.record_passes,
        "min_epochs": recipe.min_epochs,
        "max_epochs": recipe.max_epochs,
        "validation_fraction": recipe.validation_fraction,
        "seconds_per_record": float(np.median([run.row["seconds"] / run.row["records_seen"] for run in runs])),
        "share_to_best": float(np.median([run.row["records_to_best"] / run.row["records_seen"] for run in runs])),
    }
