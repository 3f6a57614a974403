"""Means over cells that are not independent of each other: weights, and intervals from whole tasks or whole sites.

A cell that several schemes predict counts once, in parts. Cells of a task share records, upstream and test patients,
and the tables of a task share its runs from scratch; tasks of a site share its patients.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studies.files.curves import corpus_of
from studies.files.draws import BAND

Floats = NDArray[np.float64]
Values = Sequence[float] | Floats
Interval = tuple[float, float]

_RESAMPLES = 1000
_FEWEST_TASKS, _FEWEST_SITES = 2, 3  # of which an interval is given


@dataclass(frozen=True)
class Sample:
    """Cells to take means over: what each counts, (cells,), and the task and the site of each."""

    weights: Floats
    tasks: tuple[str, ...]
    sites: tuple[str, ...]

    @classmethod
    def of(cls, cells: Sequence[tuple[Hashable, str]]) -> "Sample":
        """Return the sample of cells, each with what it measures and its task.

        Every distinct cell counts 1, in equal parts where it is there several times.
        """
        counts = Counter(cell for cell, _ in cells)
        tasks = tuple(task for _, task in cells)
        return cls(np.array([1 / counts[cell] for cell, _ in cells]), tasks, tuple(map(corpus_of, tasks)))

    @property
    def distinct(self) -> int:
        """The number of distinct cells."""
        return round(float(self.weights.sum()))

    def mean(self, values: Values) -> float | None:
        """Return the weighted mean, None of nothing."""
        return float(np.average(np.asarray(values, np.float64), weights=self.weights)) if len(values) else None

    def over_tasks(self, values: Values) -> Interval | None:
        """Return the 90 % interval of the mean over resampled tasks, None of fewer than two."""
        return self._interval(values, self.tasks, _FEWEST_TASKS)

    def over_sites(self, values: Values) -> Interval | None:
        """Return the 90 % interval of the mean over resampled sites, None of fewer than three."""
        return self._interval(values, self.sites, _FEWEST_SITES)

    def error(self, values: Values) -> float | None:
        """Return the standard error of the mean where tasks are independent and cells are not, None of one task."""
        sums, weights = self._by_cluster(values, self.tasks)
        k = len(sums)
        if k < _FEWEST_TASKS:
            return None
        away = sums - weights * sums.sum() / weights.sum()
        return float((k / (k - 1) * (away**2).sum()) ** 0.5 / weights.sum())

    def _interval(self, values: Values, clusters: Sequence[str], fewest: int) -> Interval | None:
        sums, weights = self._by_cluster(values, clusters)
        if len(sums) < fewest:
            return None
        drawn = np.random.default_rng(0).integers(len(sums), size=(_RESAMPLES, len(sums)))
        low, high = np.quantile(sums[drawn].sum(axis=1) / weights[drawn].sum(axis=1), BAND)
        return float(low), float(high)

    def _by_cluster(self, values: Values, clusters: Sequence[str]) -> tuple[Floats, Floats]:
        """Return of each cluster, in order of appearance, the weighted sum of its values and the sum of its weights."""
        number = {name: k for k, name in enumerate(dict.fromkeys(clusters))}
        of = np.array([number[name] for name in clusters], np.int64)
        belongs = of[:, None] == np.arange(len(number))
        return (np.asarray(values, np.float64) * self.weights) @ belongs, self.weights @ belongs
