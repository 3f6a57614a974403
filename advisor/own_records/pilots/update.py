"""What a pilot on one dataset adds to what other tasks predicted of it.

Scores of the pooled tasks' draws, arms and sizes together, are taken for jointly normal on the logit scale, with their
median, the width of their 90 % band and their rank correlation: that is what is predicted of a new dataset, random
effects included (``studies.fitting.pooling``). A pilot measures some of these scores, with the noise of its runs and of
its test patients. What is then known of all of them is the normal distribution given the measured ones, as in kriging
or in the empirical-Bayes estimate of one more group of a random-effects model (Robinson, Statistical Science 6, 1991).
An arm that no pooled task has is what the pilot's own runs of it say.
From few tasks the covariance is itself poorly known. What remains unknown is therefore widened, as the residual
variance of a regression of p coefficients on T tasks is, by (T - 1) / (T - 1 - p), where the noise of what was measured
shrinks p (the trace of the hat matrix), but never beyond what was unknown before; and where a pilot lies farther from
what was predicted than it should, as for Student's t (Shah, Wilson and Ghahramani, AISTATS 2014). What that is worth is
measured by tests/benchmarks/pilot.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from advisor.own_records.pilots.study import Pilot, PilotError, pairs_by_seed
from engine.seeds import stable_seed
from studies.collection.collect import measure
from studies.files.arms import FINE_TUNE, FURTHER_STRATEGIES, SCRATCH
from studies.files.curve import PilotCurve, PooledCurve, TrainingCost
from studies.files.curves import FAMILIES
from studies.files.draws import BAND, REACH, Floats, bent, chance_level, no_fall_beyond
from studies.fitting.further_arms import fit_arms
from studies.fitting.learning_curves import FitError, LearningCurveResults, fit_learning_curves
from studies.fitting.pooling import LEAST, MOST, law_through
from studies.fitting.stable_draws import covariance_root
from studies.runs.run import METRIC, Run
from studies.runs.run_tables import arrange_runs
from studies.runs.training_cost import made_on

_ARMS = (SCRATCH, FINE_TUNE)
_FEWEST_RESAMPLES = 50
_RIDGE = 1e-6


@dataclass(frozen=True)
class Observed:
    """What a pilot measured: ``means`` (arms, sizes) of ``arms``, scratch first, over ``pairs`` (sizes,).

    Where a further arm was not run its mean is NaN. ``covariance`` (arms x sizes, arms x sizes), arm after arm, is the
    noise of runs and of the test's patients; ``excess`` is how many times more the pairs' runs vary than was predicted,
    at least 1, ``further_excess`` the same of each further arm.
    """

    sizes: Floats
    means: Floats
    pairs: Floats
    covariance: Floats
    excess: float = 1.0
    arms: tuple[str, ...] = _ARMS
    further_excess: Mapping[str, float] = field(default_factory=dict)


def observe(runs: Sequence[Run], curve: PooledCurve) -> Observed:
    """Sum up a pilot's runs of the arms that ``curve`` has, which says how far single runs scatter, unless these do so
    more.

    Raises PilotError where the test records are too few for their sampling noise to be known.
    """
    arms = (*_ARMS, *(arm for arm in _further_in(runs) if arm in curve.draws))
    sizes = np.array(sorted({run.n_records for run in runs if run.strategy in _ARMS}), np.float64)
    cells = [[run for run in runs if run.strategy == arm and run.n_records == n] for arm in arms for n in sizes]
    scores = [np.array([run.score for run in cell]) for cell in cells]
    n_resamples = len(runs[0].bootstrap)
    resampled = np.array([
        np.mean([run.bootstrap for run in cell], axis=0) if cell else np.zeros(n_resamples) for cell in cells
    ])  # fmt: skip
    finite = np.isfinite(resampled).all(axis=0)
    if finite.sum() < _FEWEST_RESAMPLES:
        raise PilotError(
            f"the {runs[0].test_records} test records are too few: hardly any resample of their patients "
            "has records with and without a label"
        )
    variances = np.array([curve.run_sd(n, arm) ** 2 for arm in arms for n in sizes])
    by_arm = {arm: slice(k * len(sizes), (k + 1) * len(sizes)) for k, arm in enumerate(arms)}
    pair = slice(0, len(_ARMS) * len(sizes))
    excess = _excess(scores[pair], variances[pair])
    further = {arm: _excess(scores[cut], variances[cut]) for arm, cut in by_arm.items() if arm not in _ARMS}
    factors = np.repeat([further.get(arm, excess) for arm in arms], len(sizes))
    noise = _run_noise(variances * factors, cells, _correlations(len(arms), curve.noise["correlation"]))
    means = np.array([values.mean() if len(values) else np.nan for values in scores]).reshape(len(arms), -1)
    pairs = np.array([len(cell) for cell in cells[: len(sizes)]], np.float64)
    return Observed(sizes, means, pairs, np.cov(resampled[:, finite]) + noise, excess, arms, further)


def _further_in(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(arm for arm in FURTHER_STRATEGIES if any(run.strategy == arm for run in runs))


def _excess(scores: Sequence[Floats], variances: Floats) -> float:
    """Return how many times more the pilot's runs vary than was predicted, at least 1."""
    measured = [(values, v) for values, v in zip(scores, variances, strict=True) if len(values)]
    squares = sum(((values - values.mean()) ** 2).sum() / v for values, v in measured)
    freedom = sum(len(values) - 1 for values, _ in measured)
    return max(1.0, float(squares / freedom)) if freedom else 1.0


def _correlations(n_arms: int, of_pairs: float) -> Floats:
    """Return the correlations (arms, arms) of runs with the same records and seed.

    A further arm is taken to go along with the others as the two arms of a pair do with each other, not against them.
    """
    between = np.full((n_arms, n_arms), max(of_pairs, 0.0))
    between[: len(_ARMS), : len(_ARMS)] = of_pairs
    np.fill_diagonal(between, 1.0)
    return between


def _run_noise(variances: Floats, cells: Sequence[Sequence[Run]], correlations: Floats) -> Floats:
    """Return the covariance of the cells' means from the noise of their runs: between sizes none.

    Between arms it is that of the replicates which both have.
    """
    replicates = sorted({run.replicate for cell in cells for run in cell})
    ran = np.array([[any(run.replicate == k for run in cell) for k in replicates] for cell in cells], np.float64)
    weights = ran / np.maximum(ran.sum(axis=1, keepdims=True), 1.0)
    same_size = np.eye(len(cells) // len(correlations))
    sd = np.sqrt(variances)
    return np.asarray(np.kron(correlations, same_size) * (weights @ weights.T) * np.outer(sd, sd), np.float64)


def update(curve: PooledCurve, seen: Observed, seed: int) -> dict[str, dict[str, Floats]]:
    """Return draws of every arm of the pooled ``curve`` for the dataset of the pilot, given what it predicted of it.

    A further arm that the pilot has not run follows by what it has in common with the others over the tasks.
    """
    chance = chance_level(curve.metric)
    nodes = _nodes(curve, seen.sizes)
    arms = (*_ARMS, *(arm for arm in FURTHER_STRATEGIES if arm in curve.draws))
    all_nodes = np.hstack([_logits(curve.scores(arm, nodes)) for arm in arms])
    measured = np.isfinite(seen.means.ravel())
    at_sizes = np.hstack([_logits(curve.scores(arm, seen.sizes)) for arm in seen.arms])[:, measured]
    centre, covariance = _normal(np.hstack([all_nodes, at_sizes]))
    means, noise = seen.means.ravel()[measured], seen.covariance[np.ix_(measured, measured)]
    mean, remaining = _given(centre, covariance, means, noise, freedom=max(len(curve.tasks) - 1, 1))
    rng, of_two = np.random.default_rng(seed), len(_ARMS) * len(nodes)
    parts = [rng.standard_normal((len(all_nodes), size)) for size in (of_two, len(mean) - of_two)]
    drawn = mean + np.hstack(parts) @ covariance_root(remaining).T
    scores = expit(drawn).reshape(len(drawn), len(arms), len(nodes))
    return {arm: bent(_law(nodes, scores[:, k], seen.sizes), nodes, scores[:, k], chance) for k, arm in enumerate(arms)}


def _given(centre: Floats, covariance: Floats, means: Floats, noise: Floats, freedom: int) -> tuple[Floats, Floats]:
    """Return mean and covariance of the first variables given the last, which were measured: their ``means`` (k,).

    ``noise`` (k, k) is the covariance of these.
    """
    n_seen = means.size
    means = np.clip(means, LEAST, MOST)
    slope = 1 / (means * (1 - means))  # of the logit: the noise is known on the scale of scores
    both = covariance[-n_seen:, -n_seen:] + slope[:, None] * noise * slope + _RIDGE * np.eye(n_seen)
    gain = np.linalg.solve(both, covariance[-n_seen:, :-n_seen]).T
    used = float(np.trace(np.linalg.solve(both, covariance[-n_seen:, -n_seen:])))  # coefficients, shrunk by the noise
    surprise = logit(means) - centre[-n_seen:]
    distance = float(surprise @ np.linalg.solve(both, surprise))
    before = covariance[:-n_seen, :-n_seen]
    remaining = before - gain @ covariance[-n_seen:, :-n_seen]
    known = _at_most(remaining * freedom / max(freedom - used, 1.0), before)
    strange = max(1.0, (freedom + distance) / (freedom + n_seen))
    return centre[:-n_seen] + gain @ surprise, strange * known


def _at_most(covariance: Floats, limit: Floats) -> Floats:
    """Return a covariance cut down to ``limit`` in every direction in which it is larger."""
    values, axes = np.linalg.eigh(limit + _RIDGE * np.eye(len(limit)))
    root = axes * np.sqrt(values)
    inverse = axes / np.sqrt(values)
    ratios, directions = np.linalg.eigh(inverse.T @ ((covariance + covariance.T) / 2) @ inverse)
    back = root @ directions
    return np.asarray(back * np.clip(ratios, 0.0, 1.0) @ back.T, np.float64)


def _normal(draws: Floats) -> tuple[Floats, Floats]:
    """Return mean and covariance of the normal distribution that draws (draws, variables) are taken for.

    From quantiles and ranks: the draws have the heavy tails of Student's t, whose moments a few of them would decide.
    """
    low, centre, high = np.quantile(draws, (BAND[0], 0.5, BAND[1]), axis=0)
    sd = (high - low) / (2 * norm.ppf(BAND[1]))
    scores = norm.ppf((rankdata(draws, axis=0) - 0.5) / len(draws))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.nan_to_num(np.corrcoef(scores, rowvar=False))  # a score that never differs has none
    return np.asarray(centre), np.asarray(sd[:, None] * correlation * sd)


def _nodes(curve: PooledCurve, sizes: Floats) -> Floats:
    measured = np.unique(np.concatenate([np.array(curve.sizes, np.float64), sizes]))
    ends = (measured[0] / REACH, measured[0] / 2, 2 * measured[-1], REACH * measured[-1])
    return np.unique(np.concatenate([measured, ends]))


def _logits(scores: Floats) -> Floats:
    return np.asarray(logit(np.clip(scores, LEAST, MOST)), np.float64)


def _law(nodes: Floats, scores: Floats, sizes: Floats) -> dict[str, Floats]:
    """Return for each draw a law through its scores at the smallest and the largest size of the pilot."""
    first, last = (int(np.searchsorted(nodes, size)) for size in (sizes[0], sizes[-1]))
    return law_through(nodes, scores, first, max(last, first + 1))


def fit_pilot(pilot: Pilot, predicted_by: PooledCurve | None, n_records: int | None = None) -> PilotCurve:
    """Return the curve of the pilot's dataset: what was predicted of it and its runs, or these alone.

    Where no other task has a further arm, the pilot's runs alone say what it is, unless they are too few or the asker's
    ``n_records`` beyond their reach: then it has ``points`` and no draws. Raises PilotError where there is no pair, or
    where the pairs are all there is and allow no curve: that takes two sizes with two pairs each.
    """
    runs = pilot.runs()
    if not runs:
        raise PilotError("the pilot has no whole pair of trainings: there is nothing to add")
    try:
        alone = _fit_alone(pilot, runs, with_further=predicted_by is None)
    except FitError as error:
        if predicted_by is None:
            pairs = sum(run.strategy == SCRATCH for run in runs)
            make = "one pair makes" if pairs == 1 else f"{pairs} pairs make"
            said = f"the pilot's {make} no curve yet ({error}); the same command adds more"
            raise PilotError(said) from None
        alone = None
    curve = alone if predicted_by is None else _updated(pilot, runs, predicted_by, alone, n_records)
    assert curve is not None, "without a prediction the pairs make the curve"
    draws = no_fall_beyond(curve.draws, max(curve.sizes), chance_level(curve.metric))
    return replace(curve, draws=draws, seeds=pairs_by_seed(runs))


def _fit_alone(pilot: Pilot, runs: Sequence[Run], *, with_further: bool) -> PilotCurve:
    """Return the curve of the pilot's runs by themselves, of the pairs alone or with the further arms.

    Raises FitError where the pairs are too few for a curve.
    """
    by_arm = {arm: [run for run in runs if run.strategy == arm] for arm in (*_ARMS, *_further_in(runs))}
    measured = measure({arm: by_arm[arm] for arm in _ARMS}, (), {arm: by_arm[arm] for arm in _further_in(runs)})
    assert measured.cost is not None, "the store of a study says what its runs cost"
    table = measured.table
    fit, _ = fit_arms(
        table.runs, table.further if with_further else {}, stable_seed(pilot.task, pilot.arch, pilot.upstream)
    )
    return PilotCurve(
        task=pilot.task,
        arch=pilot.arch,
        family=table.family if table.family in FAMILIES else "other",
        upstream=pilot.upstream,
        metric=METRIC,
        sizes=tuple(int(n) for n in fit.sizes),
        replicates=table.replicates,
        runs=table.n_runs,
        draws=fit.draws,
        noise={name: float(getattr(fit.noise, name)) for name in ("alpha", "gamma", "correlation")},
        further_noise={arm: {"alpha": one.alpha, "gamma": one.gamma} for arm, one in fit.further_noise.items()},
        points={arm: _points(runs, arm) for arm in _further_in(runs)}
        | {arm: {n: tuple(scores) for n, scores in by_size.items()} for arm, by_size in table.points().items()},
        cost={arm: TrainingCost(**one) for arm, one in measured.cost.items() if arm in fit.draws or not with_further},
        pretraining=None,
        sources=_with_own((), runs[0].source),
        test_records=runs[0].test_records,
        warnings=(*measured.warnings, *fit.warnings),
        precision=table.precision,
        devices=made_on(runs),
        recipe=runs[0].recipe,
        predicted_by=None,
    )


def _updated(
    pilot: Pilot, runs: Sequence[Run], predicted: PooledCurve, alone: PilotCurve | None, n_records: int | None
) -> PilotCurve:
    """Return what was predicted of the dataset, given the pilot's runs; ``alone`` is the curve of these."""
    seen = observe(runs, predicted)
    pairs = [run for run in runs if run.strategy in _ARMS]
    draws = update(predicted, seen, stable_seed(pilot.task, len(pairs)))
    noise: dict[str, Mapping[str, float]] = {
        arm: _noisier(of_arm, seen.excess if arm == FINE_TUNE else seen.further_excess.get(arm, 1.0))
        for arm, of_arm in predicted.further_noise.items()
    }
    for arm, fit in _fit_further(runs, predicted, n_records).items():
        draws[arm] = _as_many(fit.draws[arm], len(draws[SCRATCH]["a"]))
        noise[arm] = {"alpha": fit.noise.alpha, "gamma": fit.noise.gamma}
    costs = dict(predicted.cost) | ({} if alone is None else dict(alone.cost))
    return PilotCurve(
        task=pilot.task,
        arch=predicted.arch,
        family=predicted.family,
        upstream=pilot.upstream,
        metric=predicted.metric,
        sizes=tuple(sorted({*predicted.sizes, *(int(n) for n in seen.sizes)})),
        replicates=int(seen.pairs.min()),
        runs=len(pairs),
        draws=draws,
        noise=_noisier(predicted.noise, seen.excess),
        points={arm: _points(runs, arm) for arm in (*_ARMS, *_further_in(runs))},
        cost={arm: cost for arm, cost in costs.items() if arm in draws},
        further_noise=noise,
        pretraining=predicted.pretraining,
        sources=_with_own(predicted.sources, runs[0].source),
        test_records=runs[0].test_records,
        warnings=() if alone is None else alone.warnings,
        precision=runs[0].precision,
        devices=made_on(runs),
        recipe=runs[0].recipe,
        predicted_by=predicted,
    )


def _noisier(noise: Mapping[str, float], excess: float) -> dict[str, float]:
    """Return a noise whose variance is that many times larger."""
    return {**noise, "alpha": noise["alpha"] + float(np.log(excess)) / 2}


def _fit_further(runs: Sequence[Run], predicted: PooledCurve, n_records: int | None) -> dict[str, LearningCurveResults]:
    """Fit each further arm that was not ``predicted`` to its own runs, where these allow it and reach ``n_records``.

    By itself, not with the runs from scratch: those of small pilots scatter far more, and would drown what it scored.
    """
    fits = {}
    for arm in _further_in(runs):
        own = [run for run in runs if run.strategy == arm]
        sizes = [run.n_records for run in own]
        reaches = n_records is None or min(sizes) / REACH <= n_records <= max(sizes) * REACH
        if arm in predicted.draws or not reaches:
            continue
        resampled = np.mean([run.bootstrap for run in own if run.n_records == max(sizes)], axis=0)
        covariance = np.array([[np.var(resampled[np.isfinite(resampled)], ddof=1)]])
        try:
            fits[arm] = fit_learning_curves(arrange_runs(own, covariance), stable_seed(runs[0].task, arm))
        except FitError:  # its scores are shown
            continue
    return fits


def _as_many(draws: Mapping[str, Floats], n_draws: int) -> dict[str, Floats]:
    rows = np.arange(n_draws) % len(draws["a"])
    return {name: values if name == "nodes" else values[rows] for name, values in draws.items()}


def _with_own(sources: Sequence[Mapping[str, str]], own: Mapping[str, str | None]) -> tuple[Mapping[str, str], ...]:
    known = {name: value for name, value in own.items() if value}  # an own directory has no url
    return (*sources, *([known] if known and known not in sources else []))


def _points(runs: Sequence[Run], arm: str) -> dict[int, tuple[float, ...]]:
    of_arm = [run for run in runs if run.strategy == arm]
    sizes = sorted({run.n_records for run in of_arm})
    return {n: tuple(run.score for run in of_arm if run.n_records == n) for n in sizes}
