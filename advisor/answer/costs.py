"""What the answer costs: seconds of both arms and of the pre-training, and money where prices are given.

Training seconds follow from the records that the recipe sees and a speed: that of the device the evidence was made on,
or of the asker's (``ecgadvise doctor`` measures it). Times of a processor and of a GPU are both given where both were
measured, of the same network if not of the same runs. Money is what the prices say; no currency is assumed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from advisor.answer.question import Question
from studies.files.arms import ARMS, PAIR, arms_in
from studies.files.curve import Curve, PretrainingCost, TrainingCost
from studies.files.curves import CurvesFile
from studies.files.draws import BAND, Floats, Interval, quantiles

_SECONDS_PER_HOUR = 3600.0
_PRETRAINED = {arm.field for arm in ARMS if arm.is_pretrained}
PRETRAINING = "pretraining"


@dataclass(frozen=True)
class Cost:
    """What one training costs on the measured devices; None where it was not measured.

    ``device`` is what most of the runs were made on, ``cpu_device`` and ``gpu_device`` are what the seconds are of.
    ``your_seconds`` is what it takes on a device of the speed that the question gives, None when it gives none.
    """

    device: str | None
    records_seen: int | None
    cpu_seconds: float | None
    gpu_seconds: float | None
    share_to_best: float | None = None
    your_seconds: float | None = None
    cpu_device: str | None = None
    gpu_device: str | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds on the asker's device where its speed is known, else on ``device``."""
        if self.your_seconds is not None or self.device is None:
            return self.your_seconds
        return self.cpu_seconds if self.device == self.cpu_device else self.gpu_seconds


UNKNOWN = Cost(None, None, None, None)


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
    ``p_pays_off`` is the probability that the labels saved are worth more than fine-tuning costs over scratch, and
    ``expected_saving`` by how much on average, counted as far as the evidence reaches.
    """

    scratch: Bill
    fine_tune: Bill
    label_saving: Interval | None
    p_pays_off: float | None
    expected_saving: float | None = None


@dataclass(frozen=True)
class Saving:
    """What a pre-training saves in labels, less what the arm that needs it costs over the other.

    ``expected`` counts no more records than the evidence reaches, or as many again as there are where that is more;
    ``p_pays_off`` is the share of draws above zero.
    """

    expected: float
    p_pays_off: float


def cost_curve(curve: Curve, curves: CurvesFile) -> Curve:
    """Return the curve that says what a training costs: the same network's with most runs where this one does not.

    Of a kind of device that its own runs were not made on, processor or GPU, the times are those of the network's curve
    with most runs there, whatever its precision: that is what the network takes on such a device.
    """
    others = [other for other in curves.curves if other.arch == curve.arch and other.cost]
    others.sort(key=lambda other: (other.precision == curve.precision, other.runs), reverse=True)
    if not others:
        return curve
    priced = curve if curve.cost else others[0]
    known = {arm: [one.cost[arm] for one in (priced, *others) if arm in one.cost] for arm in curve.draws}
    cost = {arm: _timed(fits[0], fits[1:]) for arm, fits in known.items() if fits}
    pretraining = priced.pretraining and _timed_pretraining(priced.pretraining, others)
    return replace(priced, cost=cost, pretraining=pretraining)


def _timed(fit: TrainingCost, others: Sequence[TrainingCost]) -> TrainingCost:
    """Add the first time per record that another curve has of a kind of device that the fit has none of."""
    speeds = _of_both_kinds([fit.speeds, *(other.speeds for other in others)])
    return replace(fit, other_devices={device: time for device, time in speeds.items() if device != fit.device})


def _timed_pretraining(cost: PretrainingCost, others: Sequence[Curve]) -> PretrainingCost:
    speeds = _of_both_kinds([cost.speeds, *(other.pretraining.speeds for other in others if other.pretraining)])
    elsewhere = {device: time * cost.records_seen for device, time in speeds.items() if device != cost.device}
    return replace(cost, other_devices=elsewhere)


def _of_both_kinds(speeds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the first device of each kind, processor and GPU, with its seconds per record."""
    found: dict[bool, tuple[str, float]] = {}
    for device, time in (item for of_curve in speeds for item in of_curve.items()):
        found.setdefault(is_processor(device), (device, time))
    return dict(found.values())


def is_processor(device: str) -> bool:
    """Say whether a measured device, as ``engine.compute.devices`` describes it, is a processor."""
    return device.startswith("CPU")


def charge(curve: Curve, n_records: int, speed: float | None) -> dict[str, Cost]:
    """Return what a training of each arm with that many records costs, and the pre-training.

    All in the time of one kind of device, the one that scratch was trained on; None where it was not measured there.
    ``speed`` is how many records a second the asker's device trains with, None where that is not known; it says
    nothing of an arm that takes no gradient steps. A further arm is there where its cost is known.
    """
    cost = {arm.field: UNKNOWN for arm in reversed(PAIR)}
    for arm in arms_in(curve.cost):
        cost[arm.field] = _training(curve.cost[arm.strategy], n_records, speed)
    if curve.pretraining is not None:
        cost[PRETRAINING] = _pretraining(curve.pretraining, speed)
    device = cost["scratch"].device or cost["fine_tune"].device
    return cost if device is None else {key: _in_time_of(device, one) for key, one in cost.items()}


def _in_time_of(device: str, cost: Cost) -> Cost:
    """Return the cost in the time of the same kind of device: an hour of a processor is not one of a GPU."""
    if cost.device is None or is_processor(cost.device) == is_processor(device):
        return cost
    return replace(cost, device=cost.cpu_device if is_processor(device) else cost.gpu_device)


def _training(fit: TrainingCost, n_records: int, speed: float | None) -> Cost:
    seen = fit.records_seen(n_records)
    seconds = {device: seen * time for device, time in fit.speeds.items()}
    return _on_devices(fit.device, seen, seconds, fit.share_to_best, speed if fit.has_epochs else None)


def _pretraining(cost: PretrainingCost, speed: float | None) -> Cost:
    seconds = {cost.device: cost.seconds, **cost.other_devices}
    return _on_devices(cost.device, cost.records_seen, seconds, None, speed)


def _on_devices(
    device: str, seen: int, seconds: Mapping[str, float], share_to_best: float | None, speed: float | None
) -> Cost:
    """Return the cost with the seconds of the first processor and the first GPU of ``seconds``, by device."""
    cpu, gpu = (next((name for name in seconds if is_processor(name) == wanted), None) for wanted in (True, False))
    return Cost(
        device=device,
        records_seen=seen,
        cpu_seconds=None if cpu is None else seconds[cpu],
        gpu_seconds=None if gpu is None else seconds[gpu],
        share_to_best=share_to_best,
        your_seconds=None if speed is None else seen / speed,
        cpu_device=cpu,
        gpu_device=gpu,
    )


def bill(arm: str, cost: Mapping[str, Cost], question: Question, n_labels: int) -> Bill:
    """Return the bill of one training with that many labels, its share of the pre-training included if that is paid."""
    labels = None if question.label_cost is None else question.label_cost * n_labels
    rate = None if question.gpu_cost is None else question.gpu_cost / _SECONDS_PER_HOUR
    machine = _priced(cost.get(arm), rate)
    shared = arm in _PRETRAINED and question.pays_pretraining
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


def count_money(question: Question, cost: Mapping[str, Cost], worth: Floats, saving: Saving | None) -> Money | None:
    """Return both arms' bills and what pre-training saves; None without a price. ``worth`` as ``worth_in_records``."""
    if not question.is_priced:
        return None
    return Money(
        bill("scratch", cost, question, question.n_records),
        bill("fine_tune", cost, question, question.n_records),
        None if question.label_cost is None else _save(worth, question.label_cost),
        None if saving is None else saving.p_pays_off,
        None if saving is None else saving.expected,
    )


def weigh_saving(
    question: Question, cost: Mapping[str, Cost], worth: Floats, most: float, arm: str = "fine_tune",
    other: str = "scratch",
) -> Saving | None:  # fmt: skip
    """Weigh the labels that ``arm`` saves against what it costs over the ``other``; None without a price or a time.

    ``worth`` is what ``arm`` is worth in records; infinite, the other does not get there within the evidence's reach,
    at no price, and ``most`` records are counted. That the other with more labels would also train longer is left out.
    """
    if question.label_cost is None or question.gpu_cost is None:
        return None
    more, less = (bill(one, cost, question, 0).total for one in (arm, other))
    if more is None or less is None:
        return None
    within = np.where(np.isfinite(worth), worth, most) * question.label_cost
    pays_off = np.isinf(worth) | (within > more - less)
    return Saving(float((within - (more - less)).mean()), float(pays_off.mean()))


def _in_money(worth: Floats, label_cost: float) -> Floats:
    known = np.isfinite(worth)
    return np.where(known, np.where(known, worth, 0.0) * label_cost, worth)


def _save(worth: Floats, label_cost: float) -> Interval:
    lower, median, upper = quantiles(_in_money(worth, label_cost), (BAND[0], 0.5, BAND[1]))
    return Interval(*(float(v) if np.isfinite(v) else None for v in (median, lower, upper)))
