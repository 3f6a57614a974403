"""What the answer costs: seconds of both arms and of the pre-training, and money where prices are given.

Training seconds follow from the records that the recipe sees and a speed: that of the device the evidence was made on,
or of the asker's (``ecgadvise doctor`` measures it). Money is what the prices say; no currency is assumed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advisor.answer.question import Question
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.curve import Curve, PretrainingCost, TrainingCost
from studies.files.curves import CurvesFile
from studies.files.draws import BAND, Floats, Interval, quantiles

_SECONDS_PER_HOUR = 3600.0
PRETRAINING = "pretraining"


@dataclass(frozen=True)
class Cost:
    """What one training costs on the measured device; None where it was not measured.

    ``your_seconds`` is what it takes on a device of the speed that the question gives, None when it gives none.
    """

    device: str | None
    records_seen: int | None
    cpu_seconds: float | None
    gpu_seconds: float | None
    share_to_best: float | None = None
    your_seconds: float | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds on the asker's device where its speed is known, else on the measured one."""
        measured = self.gpu_seconds if self.cpu_seconds is None else self.cpu_seconds
        return measured if self.your_seconds is None else self.your_seconds


@dataclass(frozen=True)
class Bill:
    """What one arm costs in money; a part without a price, or without a measured time, is None and not in the total.

    ``total`` is None when a part that has a price has no measured time.
    """

    labels: float | None
    machine: float | None
    pretraining: float | None
    total: float | None


@dataclass(frozen=True)
class Money:
    """Both bills. ``label_saving`` needs a label's price, ``p_pays_off`` the device's price as well.

    ``label_saving`` is what pre-training saves in labels at equal performance.
    ``p_pays_off`` is the probability that the labels saved are worth more than fine-tuning costs over scratch.
    """

    scratch: Bill
    fine_tune: Bill
    label_saving: Interval | None
    p_pays_off: float | None


def cost_curve(curve: Curve, curves: CurvesFile) -> Curve:
    """Return the curve that says what a training costs: the same network's with most runs where this one does not."""
    others = [other for other in curves.curves if other.arch == curve.arch and other.cost]
    if curve.cost or not others:
        return curve
    return max(others, key=lambda other: other.runs)


def charge(curve: Curve, n_records: int, speed: float | None) -> dict[str, Cost]:
    """Return what a training of each arm with that many records costs, and the pre-training.

    ``speed`` is how many records a second the asker's device trains with, None where that is not known.
    """
    cost = {}
    for key, arm in (("scratch", SCRATCH), ("fine_tune", FINE_TUNE)):
        fit = curve.cost.get(arm)
        cost[key] = Cost(None, None, None, None) if fit is None else _training(fit, n_records, speed)
    if curve.pretraining is not None:
        cost[PRETRAINING] = _pretraining(curve.pretraining, speed)
    return cost


def _training(fit: TrainingCost, n_records: int, speed: float | None) -> Cost:
    seen = fit.records_seen(n_records)
    return _on_device(fit.device, seen, seen * fit.seconds_per_record, fit.share_to_best, speed)


def _pretraining(cost: PretrainingCost, speed: float | None) -> Cost:
    return _on_device(cost.device, cost.records_seen, cost.seconds, None, speed)


def _on_device(device: str, seen: int, seconds: float, share_to_best: float | None, speed: float | None) -> Cost:
    on_cpu = device.startswith("CPU")
    yours = None if speed is None else seen / speed
    return Cost(device, seen, seconds if on_cpu else None, None if on_cpu else seconds, share_to_best, yours)


def bill(arm: str, cost: Mapping[str, Cost], question: Question, n_labels: int) -> Bill:
    """Return the bill of one training with that many labels, its share of the pre-training included if that is paid."""
    labels = None if question.label_cost is None else question.label_cost * n_labels
    rate = None if question.gpu_cost is None else question.gpu_cost / _SECONDS_PER_HOUR
    machine = _priced(cost[arm], rate)
    shared = arm == "fine_tune" and question.pays_pretraining
    share = _priced(cost.get(PRETRAINING), rate) if shared else None
    if share is not None:
        share /= question.uses or 1
    due: list[float | None] = [] if labels is None else [labels]
    if rate is not None:
        due += [machine, share] if shared else [machine]
    known = [part for part in due if part is not None]
    return Bill(labels, machine, share, sum(known) if due and len(known) == len(due) else None)


def _priced(cost: Cost | None, rate: float | None) -> float | None:
    return None if cost is None or rate is None or cost.seconds is None else cost.seconds * rate


def count_money(question: Question, cost: Mapping[str, Cost], worth: Floats) -> Money | None:
    """Return both arms' bills and what pre-training saves; None without a price. ``worth`` as ``worth_in_records``."""
    if not question.is_priced:
        return None
    paid = is_worth_paying(question, cost, worth)
    return Money(
        bill("scratch", cost, question, question.n_records),
        bill("fine_tune", cost, question, question.n_records),
        None if question.label_cost is None else _save(worth, question.label_cost),
        None if paid is None else float(paid.mean()),
    )


def is_worth_paying(question: Question, cost: Mapping[str, Cost], worth: Floats) -> NDArray[np.bool_] | None:
    """Say of each draw whether the labels saved are worth more than what fine-tuning costs over scratch.

    ``worth`` is what pre-training is worth in records; infinite, scratch never gets there at any price. That scratch
    with more labels would also train longer is left out. None when a price or a time is not known.
    """
    if question.label_cost is None or question.gpu_cost is None:
        return None
    scratch, fine_tune = (bill(arm, cost, question, 0).total for arm in ("scratch", "fine_tune"))
    if scratch is None or fine_tune is None:
        return None
    return np.asarray(_in_money(worth, question.label_cost) > fine_tune - scratch, np.bool_)


def _in_money(worth: Floats, label_cost: float) -> Floats:
    known = np.isfinite(worth)
    return np.where(known, np.where(known, worth, 0.0) * label_cost, worth)


def _save(worth: Floats, label_cost: float) -> Interval:
    lower, median, upper = quantiles(_in_money(worth, label_cost), (BAND[0], 0.5, BAND[1]))
    return Interval(*(float(v) if np.isfinite(v) else None for v in (median, lower, upper)))
