"""How well the truth of a held-out cell is known: mean scores of its replicates, and the covariance of their errors.

A mean of three replicates is not the expected score. Its error has two parts. The replicates differ, each arm's by a
spread of its own: runs from scratch vary far more than fine-tuned ones, and a few cells more than others, so that a
cell's own variance counts with its degrees of freedom against four of the arm's law in its table (Smyth 2004). Arms
that were trained on the same records from the same seed vary together, by a correlation that is taken over all tables:
one table knows it too badly. And all are tested on the same patients, others of whom would have given other scores.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from studies.files.arms import FINE_TUNE, SCRATCH
from studies.fitting.noise import Noise, estimate_noise
from studies.fitting.paired_runs import FitError
from studies.runs.run_tables import RunTable

Floats = NDArray[np.float64]
Pair = tuple[str, str]

_LAW_COUNTS = 4.0  # degrees of freedom of an arm's law against a cell's own: what its cells scatter about it by
_LEAST_SD = 1e-4  # of a mean score: nothing is measured better than that
_ROUNDING = 1e-12  # of a variance
_STRONGEST = 0.9  # correlations beyond this are not believed


@dataclass(frozen=True)
class Truth:
    """Mean scores (arms,) that were measured in a cell, and the covariance (arms, arms) of their errors."""

    arms: tuple[str, ...]
    means: Floats
    covariance: Floats

    def of(self, weights: Mapping[str, float]) -> tuple[float, float]:
        """Return a weighted sum of the arms' scores as it was measured, and the standard error of that."""
        w = np.array([weights.get(arm, 0.0) for arm in self.arms])
        return float(w @ self.means), max(float(w @ self.covariance @ w) ** 0.5, _LEAST_SD)

    @property
    def gain(self) -> tuple[float, float]:
        """Fine-tuned minus scratch, and its standard error."""
        return self.of({FINE_TUNE: 1.0, SCRATCH: -1.0})

    def among(self, arms: Sequence[str]) -> "Truth":
        """Return what is known of some of the arms, in their order."""
        kept = [self.arms.index(arm) for arm in arms]
        return Truth(tuple(arms), self.means[kept], self.covariance[np.ix_(kept, kept)])


@dataclass(frozen=True)
class ReplicateNoise:
    """How runs scatter: the law of each arm in each table (by its name), and how arms of one replicate correlate."""

    laws: Mapping[tuple[str, str], Noise]
    correlations: Mapping[Pair, float]

    def variance(self, table: RunTable, arm: str, n_records: float, values: Floats) -> float:
        """Return the variance of a single run of an arm, from the replicates of its cell and from the arm's law."""
        own, squares = len(values) - 1, float(((values - values.mean()) ** 2).sum())
        law = self.laws.get((table.name, arm))
        if law is None:
            return squares / own
        return (_LAW_COUNTS * float(law.sd(np.array([n_records]))[0]) ** 2 + squares) / (_LAW_COUNTS + own)

    def correlation(self, one: str, other: str) -> float:
        """Return the correlation of two arms that were trained on the same records from the same seed."""
        return 1.0 if one == other else self.correlations.get(_pair(one, other), 0.0)


def estimate_replicate_noise(tables: Iterable[RunTable]) -> ReplicateNoise:
    """Estimate how the replicates of every table scatter."""
    laws: dict[tuple[str, str], Noise] = {}
    products: dict[Pair, list[tuple[float, float, float]]] = defaultdict(list)
    for table in tables:
        for arm, (sizes, scores) in _arms_of(table).items():
            try:
                laws[table.name, arm] = estimate_noise(sizes, {arm: scores})[arm]
            except FitError:  # no two replicates of it differ
                continue
        noise = ReplicateNoise(laws, {})
        for n, cell in _cells(table).items():
            _add_products(products, _standardise(noise, table, n, cell))
    correlations = {pair: _correlation(np.array(found)) for pair, found in products.items()}
    return ReplicateNoise(laws, correlations)


def measure_truth(
    table: RunTable, n_records: float, noise: ReplicateNoise, arms: Sequence[str], *, with_patients: bool
) -> Truth:
    """Return what was measured of ``arms`` at a size, each of which has two replicates there or more.

    ``with_patients`` says whether the truth is the score on any patients, of whom those of the test set are a sample,
    or the score on this very test set. The test set's covariance is that at the table's largest size.
    """
    cell = _cells(table)[int(n_records)]
    values = {arm: np.array(list(cell[arm].values())) for arm in arms}
    sd = {arm: noise.variance(table, arm, n_records, values[arm]) ** 0.5 for arm in arms}
    covariance = _make_possible(np.array([
        [noise.correlation(one, two) * sd[one] * sd[two] * _shared(cell[one], cell[two]) for two in arms]
        for one in arms
    ]))  # fmt: skip
    if with_patients:
        covariance += patient_covariance(table, arms)
    return Truth(tuple(arms), np.array([values[arm].mean() for arm in arms]), covariance)


def _make_possible(covariance: Floats) -> Floats:
    """Return a covariance whose correlations, each estimated by itself, are made smaller until they can be together."""
    while np.linalg.eigvalsh(covariance).min() < -_ROUNDING:
        covariance = np.where(np.eye(len(covariance), dtype=bool), covariance, 0.9 * covariance)
    return covariance


def patient_covariance(table: RunTable, arms: Sequence[str]) -> Floats:
    """Return the sampling covariance that the test set's patients give to the arms' scores, zero where unknown."""
    found = np.zeros((len(arms), len(arms)))
    if table.patients is not None:
        known = [k for k, arm in enumerate(arms) if arm in table.patients.arms]
        of = [table.patients.arms.index(arms[k]) for k in known]
        found[np.ix_(known, known)] = table.patients.values[np.ix_(of, of)]
    return found


def find_measured(table: RunTable, n_records: float) -> dict[str, Floats]:
    """Return the scores of the arms that have two replicates or more at a size: with fewer, the truth is not known."""
    cell = _cells(table).get(int(n_records), {})
    return {arm: np.array(list(scores.values())) for arm, scores in cell.items() if len(scores) > 1}


def _cells(table: RunTable) -> dict[int, dict[str, dict[int, float]]]:
    """Return the scores by size, arm and replicate."""
    found: dict[int, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for one in table.by_replicate:
        for arm, score in one.scores.items():
            found[one.n_records][arm][one.number] = score
    return found


def _arms_of(table: RunTable) -> dict[str, tuple[Floats, Floats]]:
    """Return the sizes of each arm, and its scores (sizes, replicates), NaN where a run is missing."""
    numbers = sorted({one.number for one in table.by_replicate})
    rows: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for n, cell in sorted(_cells(table).items()):
        for arm, scores in cell.items():
            rows[arm][n] = [scores.get(number, np.nan) for number in numbers]
    return {arm: (np.array([*by_n], np.float64), np.array([*by_n.values()])) for arm, by_n in rows.items()}


def _standardise(
    noise: ReplicateNoise, table: RunTable, n_records: float, cell: Mapping[str, Mapping[int, float]]
) -> dict[str, dict[int, float]]:
    """Return how far the replicates of a cell lie from the mean of their arm, in standard deviations of a run."""
    found = {}
    for arm, scores in cell.items():
        values = np.array(list(scores.values()))
        if len(values) > 1 and (variance := noise.variance(table, arm, n_records, values)) > 0:
            away = (values - values.mean()) / variance**0.5
            found[arm] = dict(zip(scores, away.tolist(), strict=True))
    return found


def _add_products(
    products: dict[Pair, list[tuple[float, float, float]]], cell: Mapping[str, Mapping[int, float]]
) -> None:
    for one, two in combinations(cell, 2):
        both = [(cell[one][number], cell[two][number]) for number in cell[one].keys() & cell[two].keys()]
        products[_pair(one, two)] += [(a * b, a * a, b * b) for a, b in both]


def _correlation(products: Floats) -> float:
    if not len(products) or not (products[:, 1:].sum(axis=0) > 0).all():
        return 0.0
    product, *squares = products.sum(axis=0)
    return float(np.clip(product / (squares[0] * squares[1]) ** 0.5, -_STRONGEST, _STRONGEST))


def _shared(one: Mapping[int, float], two: Mapping[int, float]) -> float:
    """Return what share of a run's variance the means of two arms have in common, through the replicates of both."""
    return len(one.keys() & two.keys()) / (len(one) * len(two))


def _pair(one: str, two: str) -> Pair:
    return (one, two) if one < two else (two, one)
