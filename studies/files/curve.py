"""One learning curve of the evidence: of a task that was measured, of a new task, or of the user's own after a pilot.

The three share what a ``Curve`` holds and answers; what they rest on differs. Numpy alone, as an answer needs no more.
A curve equals itself alone: draws do not compare, and every start would wait for the methods that compare them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from studies.files.arms import SCRATCH
from studies.files.draws import REACH, Floats, chance_level, evaluate, no_fall_beyond, run_sd
from studies.files.label_levels import Label, LabelLevels, draws_given
from studies.files.precision import FLOAT32

_MEASURED_WITHIN = 0.10

Support = Literal["measured", "interpolated", "extrapolated", "beyond"]


@dataclass(frozen=True)
class TrainingCost:
    """What a training costs: records seen follow from the recipe, seconds from the speed of the measured device.

    ``device`` is the one that most runs were made on; ``other_devices`` has the seconds per record of others.
    ``share_to_best`` is the median share of a training at which its best validation epoch was reached, None of an arm
    that has no epochs: it sees every record once (``passing_once``).
    """

    device: str
    record_passes: int
    min_epochs: int
    max_epochs: int
    validation_fraction: float
    seconds_per_record: float
    share_to_best: float | None
    other_devices: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def passing_once(cls, device: str, seconds_per_record: float, other_devices: Mapping[str, float]) -> "TrainingCost":
        """Return the cost of an arm without epochs: features of every record once, and a regression on them."""
        return cls(device, 1, 1, 1, 0.0, seconds_per_record, None, other_devices)

    @property
    def has_epochs(self) -> bool:
        """Whether it trains by gradient steps, at a speed that a device's training speed says."""
        return self.share_to_best is not None

    @property
    def speeds(self) -> Mapping[str, float]:
        """Seconds per record by device, ``device`` first."""
        return {self.device: self.seconds_per_record, **self.other_devices}

    def records_seen(self, n_records: int) -> int:
        """Return how many records pass through a training with ``n_records``, validation share included in them."""
        training = max(1, round(n_records * (1 - self.validation_fraction)))
        return min(max(self.record_passes // training, self.min_epochs), self.max_epochs) * training


@dataclass(frozen=True)
class PretrainingCost:
    """What the one pre-training cost that all fine-tuned runs start from; ``other_devices``: seconds elsewhere."""

    device: str
    records_seen: int
    seconds: float
    other_devices: Mapping[str, float] = field(default_factory=dict)

    @property
    def speeds(self) -> Mapping[str, float]:
        """Seconds per record by device, ``device`` first."""
        seconds = {self.device: self.seconds, **self.other_devices}
        return {device: took / self.records_seen for device, took in seconds.items()}


@dataclass(frozen=True, kw_only=True, eq=False, init=False, repr=False)
class Curve:
    """The arms of one task, network, upstream and precision: draws, the measured points, and what a run costs.

    ``draws[strategy]`` is what ``studies.files.draws`` evaluates; draw i of one strategy belongs to draw i of every
    other. A curve of anybody's runs may have ``scratch`` alone, no ``cost`` and no ``sources``. ``noise`` is that of
    runs from scratch and fine-tuned, ``further_noise[strategy]`` that of another arm; ``runs`` and ``replicates``
    count those of the two.
    ``points[strategy]`` maps a size to the scores of its replicates. ``sources`` are the publishers of the tasks'
    records, as far as they are known, ``replicates`` the smallest number of pairs at a size. ``precision`` is what its
    runs were trained in and ``recipe`` how, None where nobody said, and ``devices`` what on.
    """

    task: str
    arch: str
    family: str
    upstream: str
    metric: str
    sizes: tuple[int, ...]
    replicates: int
    runs: int
    draws: Mapping[str, Mapping[str, Floats]]
    noise: Mapping[str, float]
    points: Mapping[str, Mapping[int, tuple[float, ...]]]
    cost: Mapping[str, TrainingCost]
    pretraining: PretrainingCost | None
    sources: tuple[Mapping[str, str], ...]
    test_records: int | None
    warnings: tuple[str, ...]
    precision: str | None = FLOAT32
    devices: tuple[str, ...] = ()
    recipe: str | None = None
    further_noise: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def measured_tasks(self) -> tuple[str, ...]:
        """The tasks whose runs it rests on."""
        return (self.task,)

    @property
    def measured_sizes(self) -> tuple[int, ...]:
        """The numbers of records with which runs were made."""
        return self.sizes

    @property
    def reach(self) -> tuple[int, int]:
        """The smallest and the largest number of records that it speaks of."""
        return ceil(min(self.sizes) / REACH), int(max(self.sizes) * REACH)

    @property
    def rests_on(self) -> "tuple[Curve, ...]":
        """The curves with the runs that it rests on: itself first, then what predicted it."""
        return (self,)

    @property
    def is_updated(self) -> bool:
        """Whether it is what other tasks predicted, given the runs of a pilot."""
        return False

    def scores(self, strategy: str, n_records: NDArray[Any] | float) -> Floats:
        """Return the expected score of each draw, shape (draws, sizes), at the given numbers of records.

        Not under chance level: a power law falls without end towards few records, a network does not.
        """
        return evaluate(self.draws[strategy], n_records, chance_level(self.metric))

    def run_sd(self, n_records: float, strategy: str = SCRATCH) -> float:
        """Return the standard deviation of a single run's score about its expectation."""
        largest = max(self.rests_on[-1].sizes)  # of the runs that its dependence on size was fitted to
        noise = self.further_noise.get(strategy, self.noise)
        return float(run_sd(noise["alpha"], noise["gamma"], largest, n_records))

    def support(self, n_records: float) -> Support:
        """Say how near to measured sizes ``n_records`` lies."""
        measured = self.measured_sizes
        if any(abs(n_records - size) <= _MEASURED_WITHIN * size for size in measured):
            return "measured"
        if min(measured) <= n_records <= max(measured):
            return "interpolated"
        least, most = self.reach
        return "extrapolated" if least <= n_records <= most else "beyond"


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredCurve(Curve):
    """The curve of a task, network and upstream that were run.

    ``kind`` says, where it is known, whose records the upstream's are and whether the task's labels are among its own.
    ``classes`` is what single classes scored from scratch, as the file has it, empty where that is not known.
    ``test_covariance`` is the sampling covariance that the finite test set gives to the arms' scores: under ``scratch``
    that of the two arms, under a further arm that of scratch and this arm. An arm of which it is unknown is not in it.
    ``patients`` has that of all arms together, with their names, None where it is unknown.
    """

    kind: str | None = None
    classes: Mapping[str, Any] = field(default_factory=dict)
    test_covariance: Mapping[str, Floats] = field(default_factory=dict)
    patients: tuple[tuple[str, ...], Floats] | None = None

    @property
    def prevalence(self) -> dict[str, float]:
        """The share of the test records that has each class, where that is known."""
        return dict(zip(self.classes.get("names", ()), self.classes.get("prevalence", ()), strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledCurve(Curve):
    """The curve of a task that nobody has measured, predicted from the ``tasks`` that were.

    Its draws carry the variance between tasks. It has no ``test_records``, and no ``points`` but where a figure is to
    show the mean scores of its tasks. ``levels`` is what labels say of its scores, None where that is not known, and
    ``labels`` are those that its draws are given.
    """

    tasks: tuple[str, ...]
    levels: LabelLevels | None = None
    labels: tuple[Label, ...] = ()

    @property
    def measured_tasks(self) -> tuple[str, ...]:
        """The tasks whose runs it rests on."""
        return self.tasks

    def is_made_of(self, one: MeasuredCurve) -> bool:
        """Say whether a curve is of one of its tasks and its network, in its precision."""
        mine = self.arch, self.metric, self.precision
        return (one.arch, one.metric, one.precision) == mine and one.task in self.tasks

    def given(self, labels: tuple[Label, ...], test_records: int | None = None) -> "PooledCurve":
        """Return the curve of a new dataset with these labels; itself where nothing is known of what labels say.

        Single runs are tested on ``test_records``, by default a thousand.
        """
        if self.levels is None or not labels:
            return self
        chance = chance_level(self.metric)
        draws = draws_given(self.draws, self.levels, labels, min(self.sizes), chance)
        given = replace(self, draws=no_fall_beyond(draws, max(self.sizes), chance), labels=labels)
        noise = {arm: given._noise_of(arm, self.levels, test_records) for arm in draws if arm in self.levels.noise}
        first = {**self.noise, **noise.pop(SCRATCH, {})}
        return replace(given, noise=first, further_noise={**self.further_noise, **noise})

    def _noise_of(self, arm: str, levels: LabelLevels, test_records: int | None) -> dict[str, float]:
        """Return the power law of a single run's spread through that at the smallest and the largest size."""
        ends = float(min(self.sizes)), float(max(self.sizes))
        sd = [levels.run_sd(arm, self.labels, n, float(self.scores(arm, n).mean()), test_records) for n in ends]
        gamma = max(float(np.log(sd[0] / sd[1]) / np.log(ends[1] / ends[0])), 0.0) if ends[1] > ends[0] else 0.0
        return {"alpha": float(np.log(sd[0]) + gamma * np.log(ends[0])), "gamma": gamma}


@dataclass(frozen=True, kw_only=True, eq=False)
class PilotCurve(Curve):
    """The curve of the user's own dataset after a pilot on it, which is in no file.

    ``runs``, ``replicates``, ``points`` and ``test_records`` are the pilot's. Where a pooled curve predicted the
    dataset its draws are of both, and so are its ``sizes``; else they are of the pilot's runs alone. ``seeds`` says
    for each seed of the pilot how many pairs it has at the size with the most.
    """

    predicted_by: PooledCurve | None
    seeds: Mapping[int, int] = field(default_factory=dict)

    @property
    def measured_tasks(self) -> tuple[str, ...]:
        """The tasks whose runs it rests on, the user's own last."""
        others = () if self.predicted_by is None else self.predicted_by.tasks
        return (*(task for task in others if task != self.task), self.task)

    @property
    def measured_sizes(self) -> tuple[int, ...]:
        """The numbers of records with which the pilot's runs were made."""
        return tuple(sorted({n for by_size in self.points.values() for n in by_size}))

    @property
    def rests_on(self) -> tuple[Curve, ...]:
        """The curves with the runs that it rests on: itself first, then what predicted it."""
        return (self,) if self.predicted_by is None else (self, self.predicted_by)

    @property
    def is_updated(self) -> bool:
        """Whether it is what other tasks predicted, given the runs of a pilot."""
        return self.predicted_by is not None
