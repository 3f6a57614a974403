"""Performance against the number of labelled records, from scratch and fine-tuned, fitted together.

    scratch    S(n) = a - b * n ** -c
    fine-tune  F(n) = (a + d) - b * (n + n0) ** -c          0 < a <= 1, b >= 0, c > 0, n0 >= 0

n0 is what pre-training is worth in labelled records (Hernandez et al., Scaling laws for transfer, 2021). The names of
the results follow statsmodels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.draws import Floats, bent, evaluate, no_better_with_fewer, quantiles, records_to_reach
from studies.files.gain import Gain, summarise_gain
from studies.fitting.noise import Noise, SizeMeans, estimate_noise, summarise
from studies.fitting.paired_runs import FitError, PairedRuns, ScoredRun, arrange, check_runs
from studies.fitting.posterior import fit_forms
from studies.fitting.run_warnings import degrees_of_freedom, descents, thin_evidence, without_chance_level
from studies.fitting.sampling import N_DRAWS, Laws, draw_bends, draw_doubt, draw_laws

__all__ = [
    "N_DRAWS", "FitError", "Gain", "LearningCurveResults", "Noise", "PairedRuns", "Prediction", "Requirement",
    "ScoredRun", "SummaryFrame", "arrange", "fit_learning_curves",
]  # fmt: skip

_LEAST_LEVEL = 1e-3  # of a
_FEWEST_JOINT = 0.05  # share of the draws that n0 and d are told from


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
    """Posterior draws of one arm or of more; draw i of one arm belongs to draw i of every other.

    ``draws[arm]`` has arrays a, b, c and n0 (N_DRAWS,), bend (N_DRAWS, nodes) and nodes: score(n) = a - b (n + n0)^-c
    + bend(n), as in studies/files/draws.py. ``forms`` has the share of each nested form in the draws, and ``joint``
    says which draws have one law for both arms. ``tasks`` names what a pooled result rests on, () for one task's fit.
    ``noise`` is that of the runs of the first arm, from scratch where there are any, ``further_noise[arm]`` of another
    (``studies.fitting.further_arms``).
    """

    draws: Mapping[str, Mapping[str, Floats]]
    sizes: Floats
    noise: Noise
    degrees_of_freedom: int
    forms: Mapping[str, float]
    joint: NDArray[np.bool_]
    warnings: tuple[str, ...]
    chance: float = 0.5
    tasks: tuple[str, ...] = ()
    further_noise: Mapping[str, Noise] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[str, ...]:
        """The strategies that were fitted."""
        return tuple(self.draws)

    @property
    def params(self) -> dict[str, float]:
        """Posterior medians of the law: a, b, c of scratch (of the only arm), and n0 and d when there are two.

        n0 and d are those of the draws with one law for both arms, and are left out when there are hardly any. n0 is
        the one whose effect at the smallest measured size, on a law of c = 0.5, is the mean effect of the draws: their
        median is 0 as soon as half of them have no transfer, their mean is that of the few largest.
        """
        drawn = self._parameter_draws()
        found = {name: float(np.median(values)) for name, values in drawn.items()}
        if "n0" in drawn:
            smallest = float(self.sizes.min())
            found["n0"] = float(((smallest + drawn["n0"]) ** -0.5).mean() ** -2) - smallest
        return found

    def conf_int(self, alpha: float = 0.1) -> dict[str, tuple[float, float]]:
        """Return the interval of each parameter that holds 1 - ``alpha`` of the posterior."""
        ends = {name: quantiles(drawn, (alpha / 2, 1 - alpha / 2)) for name, drawn in self._parameter_draws().items()}
        return {name: (low, high) for name, (low, high) in ends.items()}

    def _parameter_draws(self) -> dict[str, Floats]:
        first = self.draws.get(SCRATCH, next(iter(self.draws.values())))
        parameters = {name: first[name] for name in "abc"}
        if self._is_paired and self.joint.mean() > _FEWEST_JOINT:
            fine_tuned = self.draws[FINE_TUNE]
            parameters |= {"n0": fine_tuned["n0"][self.joint], "d": (fine_tuned["a"] - first["a"])[self.joint]}
        return parameters

    @property
    def _is_paired(self) -> bool:
        return {SCRATCH, FINE_TUNE} <= set(self.draws)

    def scores(self, arm: str, n_records: NDArray[Any] | float) -> Floats:
        """Return the expected score of each draw, shape (draws, sizes)."""
        return evaluate(self.draws[arm], n_records, self.chance)

    def get_prediction(self, n_records: Sequence[float] | NDArray[Any] | float) -> Prediction:
        """Predict the score of every arm at ``n_records``."""
        n = np.atleast_1d(np.asarray(n_records, np.float64))
        scores = {arm: self.scores(arm, n) for arm in self.arms}
        away = np.random.default_rng(0).standard_normal((N_DRAWS, 1))
        sd = {arm: self.further_noise.get(arm, self.noise).sd(n) for arm in self.arms}
        return Prediction(n, scores, {arm: np.clip(drawn + away * sd[arm], 0, 1) for arm, drawn in scores.items()})

    def gain(self, n_records: float, margin: float = 0.01) -> Gain:
        """Return fine-tuned minus scratch at ``n_records``. Raises FitError for a single arm."""
        if not self._is_paired:
            raise FitError(
                f"a gain compares {SCRATCH} with {FINE_TUNE}, and this fit has {' and '.join(self.arms)} only"
            )
        drawn = (self.scores(FINE_TUNE, n_records) - self.scores(SCRATCH, n_records))[:, 0]
        return summarise_gain(drawn, margin)

    def n_for(self, target: float, assurance: float = 0.8) -> dict[str, Requirement]:
        """Return, for each arm, the least n whose expected score reaches ``target`` with probability ``assurance``."""
        return {arm: self._require(arm, target, assurance) for arm in self.arms}

    def _require(self, arm: str, target: float, assurance: float) -> Requirement:
        smallest, largest = float(self.sizes.min()), float(self.sizes.max())
        targets = np.full(N_DRAWS, target)
        needed = records_to_reach(self.draws[arm], targets, smallest, largest, self.chance)
        reached = float(np.isfinite(needed).mean())
        enough = float(np.sort(needed)[max(int(np.ceil(assurance * N_DRAWS)) - 1, 0)])
        return Requirement(int(np.ceil(enough)) if np.isfinite(enough) else None, reached, 1 - reached)


def fit_learning_curves(runs: PairedRuns, seed: int) -> LearningCurveResults:
    """Fit the arms of ``runs`` together; the same runs and seed give the same result.

    Raises FitError when an arm has one size only, when no size has two replicates that differ, when a size is no
    positive whole number or a score does not lie between 0 and 1.
    """
    check_runs(runs)
    scores, warnings = without_chance_level(runs)
    of_arms = estimate_noise(runs.sizes, scores, sizes_apart=runs.sizes_apart)
    data, (first, *others) = summarise(runs.sizes, scores, of_arms), of_arms
    noise = of_arms[first]
    # A generator each: how much one of them is asked for changes no number of another.
    for_descents, for_laws, for_bends, for_doubt = np.random.default_rng(seed).spawn(4)
    falling = descents(data, noise.degrees_of_freedom, for_descents)
    warnings += thin_evidence(runs.sizes, scores, data) + [one.describe(list(scores)[one.arm]) for one in falling]
    forms = fit_forms(data, is_controlled=runs.is_controlled)
    laws, rising = draw_laws(forms, data, runs.test_covariance, noise.degrees_of_freedom, for_laws)
    if not rising:
        warnings.append("these runs do not look like learning curves: hardly any fit rises with more records")
    nodes, bends = draw_bends(laws, data, float(runs.sizes.min()), for_bends)
    for one in falling:
        bends[one.arm] += draw_doubt(laws, one.arm, one.fall, nodes, data.largest, for_doubt)
    draws = {arm: _draws_of(laws, number, nodes, bends[number], data, runs) for number, arm in enumerate(scores)}
    shares = np.bincount(laws.form, minlength=len(forms)) / N_DRAWS
    return LearningCurveResults(
        draws=draws,
        sizes=runs.sizes,
        noise=noise,
        degrees_of_freedom=degrees_of_freedom(data),
        forms=dict(zip(forms, shares.tolist(), strict=True)),
        joint=np.array([form != "separate" for form in forms])[laws.form],
        warnings=tuple(warnings),
        chance=runs.chance,
        further_noise={arm: of_arms[arm] for arm in others},
    )


def _draws_of(
    laws: Laws, arm: int, nodes: Floats, bends: Floats, data: SizeMeans, runs: PairedRuns
) -> dict[str, Floats]:
    """Return the draws of one arm, none of which falls under chance, or does better with fewer records than any run."""
    law = {
        "a": np.maximum(laws.a[:, arm] + laws.shift[:, arm], _LEAST_LEVEL),
        "b": laws.b[:, arm] * data.largest ** laws.c[:, arm],
        "c": laws.c[:, arm],
        "n0": laws.n0 * (arm == 1),
    }
    scores = laws.scores(nodes, np.full(len(nodes), arm), data.largest) + laws.shift[:, arm, None] + bends
    scores = no_better_with_fewer(scores, int((nodes < runs.sizes.min()).sum()))
    return bent(law, nodes, scores, runs.chance)
