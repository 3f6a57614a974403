"""Performance against the number of labelled records, from scratch and fine-tuned, fitted together.

    scratch    S(n) = a - b * n ** -c
    fine-tune  F(n) = (a + d) - b * (n + n0) ** -c          0 < a <= 1, b >= 0, c > 0, n0 >= 0

n0 is what pre-training is worth in labelled records (Hernandez et al., Scaling laws for transfer, 2021). The names of
the results follow statsmodels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.curve_draws import (
    BAND,
    FINE_TUNE,
    REACH,
    SCRATCH,
    Interval,
    break_even,
    evaluate,
    interval,
    quantiles,
    records_to_reach,
    worth_in_records,
)
from studies.curve_fit import N_DRAWS, draw_parameters
from studies.noise import Noise, estimate_noise, row_means
from studies.paired_runs import FitError, Floats, PairedRuns, ScoredRun, arrange

__all__ = [
    "N_DRAWS",
    "FitError",
    "Gain",
    "LearningCurveResults",
    "Noise",
    "PairedRuns",
    "Prediction",
    "Requirement",
    "ScoredRun",
    "SummaryFrame",
    "arrange",
    "fit_learning_curves",
]

_PARAMETERS_PER_ARM = 3
_NEAR_CHANCE = 0.1  # a mean so near to chance says nothing about the shape of the curve


@dataclass(frozen=True)
class SummaryFrame:
    """A small table: ``columns`` maps a name to its values, one for each row."""

    columns: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns as lists (``pandas.DataFrame(frame.to_dict())`` makes a data frame of them)."""
        return {name: values.tolist() for name, values in self.columns.items()}

    def rows(self) -> list[dict[str, Any]]:
        """Return one dictionary a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.to_dict().values(), strict=True)]


@dataclass(frozen=True)
class Prediction:
    """Draws of the expected score, ``scores[arm]`` (draws, sizes), and of a single run, at ``n_records``."""

    n_records: Floats
    scores: Mapping[str, Floats]
    single_runs: Mapping[str, Floats]

    def summary_frame(self, alpha: float = 0.1) -> SummaryFrame:
        """Return strategy, n_records, mean, and the ends of the bands of the mean (mean_ci_*) and of a run (obs_ci_*).

        One row for each arm and size, arms one after the other. The bands hold 1 - ``alpha``.
        """
        at = (alpha / 2, 1 - alpha / 2)
        mean_bands = [np.quantile(scores, at, axis=0) for scores in self.scores.values()]
        run_bands = [np.quantile(scores, at, axis=0) for scores in self.single_runs.values()]
        return SummaryFrame(
            {
                "strategy": np.repeat(list(self.scores), len(self.n_records)),
                "n_records": np.tile(self.n_records, len(self.scores)),
                "mean": np.concatenate([scores.mean(axis=0) for scores in self.scores.values()]),
                "mean_ci_lower": np.concatenate([band[0] for band in mean_bands]),
                "mean_ci_upper": np.concatenate([band[1] for band in mean_bands]),
                "obs_ci_lower": np.concatenate([band[0] for band in run_bands]),
                "obs_ci_upper": np.concatenate([band[1] for band in run_bands]),
            }
        )


@dataclass(frozen=True)
class Gain:
    """Fine-tuned minus scratch at one size: mean, 90 % band, and where it lies against the margin."""

    mean: float
    mean_ci_lower: float
    mean_ci_upper: float
    p_above_margin: float
    p_within_margin: float
    p_below_margin: float


@dataclass(frozen=True)
class Requirement:
    """The least number of records that reaches a target with the asked probability.

    ``n_records`` is None when none within the reach of the evidence does; ``p_reachable`` is the probability that the
    target is reached somewhere within that reach, ``p_unreachable`` that it is not.
    """

    n_records: int | None
    p_reachable: float
    p_unreachable: float


@dataclass(frozen=True)
class LearningCurveResults:
    """Posterior draws of one arm or of both; draw i of one arm belongs to draw i of the other.

    ``draws[arm]`` has arrays a, b, c and n0 of N_DRAWS values: score(n) = a - b (n + n0)^-c. ``forms`` has the weight
    of each nested form in the draws. ``tasks`` names the tasks that a pooled result rests on, () for a fit of one task.
    """

    draws: Mapping[str, Mapping[str, Floats]]
    sizes: Floats
    noise: Noise
    degrees_of_freedom: int
    forms: Mapping[str, float]
    warnings: tuple[str, ...]
    chance: float = 0.5
    tasks: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """The strategies that were fitted."""
        return tuple(self.draws)

    @property
    def params(self) -> dict[str, float]:
        """Posterior medians: a, b, c of scratch (of the only arm), and n0 and d when there are two."""
        return {name: float(np.median(values)) for name, values in self._parameter_draws().items()}

    def conf_int(self, alpha: float = 0.1) -> dict[str, tuple[float, float]]:
        """Return the interval of each parameter that holds 1 - ``alpha`` of the posterior."""
        ends = {name: quantiles(drawn, (alpha / 2, 1 - alpha / 2)) for name, drawn in self._parameter_draws().items()}
        return {name: (low, high) for name, (low, high) in ends.items()}

    def _parameter_draws(self) -> dict[str, Floats]:
        first = self.draws.get(SCRATCH, next(iter(self.draws.values())))
        parameters = {name: first[name] for name in "abc"}
        if self._is_paired:
            fine_tuned = self.draws[FINE_TUNE]
            parameters |= {"n0": fine_tuned["n0"], "d": fine_tuned["a"] - first["a"]}
        return parameters

    @property
    def _is_paired(self) -> bool:
        return set(self.draws) == {SCRATCH, FINE_TUNE}

    def scores(self, arm: str, n_records: NDArray[Any] | float) -> Floats:
        """Return the expected score of each draw, shape (draws, sizes)."""
        return evaluate(self.draws[arm], n_records, self.chance)

    def get_prediction(self, n_records: Sequence[float] | NDArray[Any] | float) -> Prediction:
        """Predict the score of every arm at ``n_records``."""
        n = np.atleast_1d(np.asarray(n_records, np.float64))
        scores = {arm: self.scores(arm, n) for arm in self.arms}
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((N_DRAWS, 1)) * self.noise.sd(n)
        return Prediction(n, scores, {arm: np.clip(drawn + noise, 0, 1) for arm, drawn in scores.items()})

    def gain(self, n_records: float, margin: float = 0.01) -> Gain:
        """Return fine-tuned minus scratch at ``n_records``. Raises FitError for a single arm."""
        self._require_pair("a gain")
        drawn = (self.scores(FINE_TUNE, n_records) - self.scores(SCRATCH, n_records))[:, 0]
        low, high = quantiles(drawn, BAND)
        above, below = float((drawn > margin).mean()), float((drawn < -margin).mean())
        return Gain(float(drawn.mean()), low, high, above, float((np.abs(drawn) <= margin).mean()), below)

    def worth_in_records(self, n_records: float) -> Interval:
        """Return how many more records scratch needs to score what fine-tuning scores at ``n_records``."""
        self._require_pair("a worth in records")
        return interval(worth_in_records(self.draws, n_records, float(self.sizes.max()), self.chance))

    def break_even(self, margin: float = 0.01) -> Interval:
        """Return the smallest n beyond which the gain stays at or under ``margin``."""
        self._require_pair("a break-even")
        smallest, largest = float(self.sizes.min()), float(self.sizes.max())
        return interval(break_even(self.draws, margin, smallest, largest, self.chance))

    def n_for(self, target: float, assurance: float = 0.8) -> dict[str, Requirement]:
        """Return, for each arm, the least n whose expected score reaches ``target`` with probability ``assurance``."""
        return {arm: _require(draws, target, assurance, self.sizes.max() * REACH) for arm, draws in self.draws.items()}

    def _require_pair(self, what: str) -> None:
        if not self._is_paired:
            raise FitError(
                f"{what} compares {SCRATCH} with {FINE_TUNE}, and this fit has {' and '.join(self.arms)} only"
            )


def _require(draws: Mapping[str, Floats], target: float, assurance: float, most: float) -> Requirement:
    needed = np.maximum(records_to_reach(draws, target), 1.0)
    reached = float((needed <= most).mean())
    at = float(np.sort(needed)[min(int(np.ceil(assurance * len(needed))), len(needed)) - 1])
    return Requirement(int(np.ceil(at)) if at <= most else None, reached, 1 - reached)


def fit_learning_curves(runs: PairedRuns, seed: int) -> LearningCurveResults:
    """Fit the arms of ``runs`` together. Raises FitError when an arm has fewer than three sizes or one replicate."""
    scores, warnings = _without_chance_level(runs)
    for arm, values in scores.items():
        if (measured := int(np.isfinite(values).any(axis=1).sum())) < _PARAMETERS_PER_ARM:
            raise FitError(f"{arm} was measured at {measured} sizes; a curve needs {_PARAMETERS_PER_ARM}")
    noise = estimate_noise(runs.sizes, scores)
    warnings += [message for arm, values in scores.items() for message in _descents(runs.sizes, arm, values)]
    sizes_used = min(int(np.isfinite(values).any(axis=1).sum()) for values in scores.values())
    freedom = max(sizes_used - _PARAMETERS_PER_ARM, 1)
    draws = draw_parameters(runs, scores, noise, freedom, np.random.default_rng(seed))
    return LearningCurveResults(draws, runs.sizes, noise, freedom, {"separate": 1.0}, tuple(warnings), runs.chance)


def _without_chance_level(runs: PairedRuns) -> tuple[dict[str, Floats], list[str]]:
    """Blank the sizes whose mean is near chance, unless too few would be left; say so either way."""
    scores: dict[str, Floats] = {}
    warnings = []
    for arm, values in runs.scores.items():
        means = row_means(values)
        low = means < runs.chance + _NEAR_CHANCE
        named = ", ".join(f"{n:.0f}" for n in runs.sizes[low])
        if low.any() and (np.isfinite(means) & ~low).sum() >= _PARAMETERS_PER_ARM:
            warnings.append(f"{arm} scored near chance at n = {named}: these sizes are left out of its curve")
            values = np.where(low[:, None], np.nan, values)
        elif low.any():
            warnings.append(f"{arm} scored near chance at n = {named}: the shape of its curve is poorly known")
        scores[arm] = values
    return scores, warnings


def _descents(sizes: Floats, arm: str, values: Floats) -> list[str]:
    """Name neighbouring sizes where more records scored clearly less (two standard errors)."""
    rows = [(n, row[np.isfinite(row)]) for n, row in zip(sizes, values, strict=True)]
    rows = [(n, row) for n, row in rows if len(row) > 1]
    found = []
    for (n, fewer), (m, more) in pairwise(rows):
        error = np.sqrt(fewer.var(ddof=1) / len(fewer) + more.var(ddof=1) / len(more))
        if fewer.mean() - more.mean() > 2 * error:
            found.append(f"{arm} scored lower at n = {m:.0f} than at n = {n:.0f}: the curve is not monotone")
    return found
