"""How forecasts of held-out cells did: regret of policies next to what an oracle would be charged, bands, abstention.

The truth of a cell is the mean of its replicates, which is itself uncertain, and every score says so in its own way:
bands are widened by that noise before they are asked to cover the truth, probabilities and densities are those of the
noisy measurement, and next to a regret stands the floor that no policy can come under on average. The decision is the
adviser's: it is passed in, so that nothing here imports it.

Where all arms were measured in a cell of a held-out task, ``score_arms`` asks which of them would be named first, the
one with the best expected score, and what that loses against the best of all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from engine.seeds import stable_seed
from studies.backtest.bands import BANDS, Figures, judge_bands, sample_of, summarise_bands
from studies.backtest.clusters import Interval, Sample
from studies.backtest.floor import Reference, charge_oracle, fit_reference
from studies.backtest.hold_out import SCHEMES, SITE, TASK, HeldOut
from studies.backtest.policies import charge_arms, charge_policies, charges_of, fine_tunes
from studies.backtest.predictive import probability_below
from studies.files.arms import ARMS, FINE_TUNE, SCRATCH
from studies.files.backtest import ARM_POLICIES, POLICIES
from studies.files.draws import Floats
from studies.files.gain import name_first, summarise_loss

Result = TypeVar("Result")
Decide = Callable[[Floats, float], str]  # (draws of the gain, margin) -> verdict

_PAIR = (SCRATCH, FINE_TUNE)
_ALL = tuple(arm.strategy for arm in ARMS)
_LARGE = 500  # records, from which figures are given apart: a few small sizes have most of the width
_BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_NOISES = 20  # of the measurement, for each draw
_LEAST = 1e-10  # of a variance


@dataclass(frozen=True)
class Regrets:
    """What policies lose on average against the best arm, by measured means. What cannot be given is None.

    ``floor`` is what an oracle that knows the true means would be charged in the same cells, ``above_floor`` the regret
    less that. ``advice_minus`` is the regret of the advice less that of each policy. Intervals are of 90 %, over
    resampled tasks (``_ci``) and over resampled sites (``_ci_sites``).
    """

    regret: Mapping[str, float | None]
    regret_ci: Mapping[str, Interval | None]
    regret_ci_sites: Mapping[str, Interval | None]
    floor: float | None
    above_floor: Mapping[str, float | None]
    above_floor_ci: Mapping[str, Interval | None]
    above_floor_ci_sites: Mapping[str, Interval | None]
    advice_minus: Mapping[str, float | None]
    advice_minus_ci: Mapping[str, Interval | None]


@dataclass(frozen=True)
class Bounds:
    """The 90 % bound of the loss that comes with the advice.

    ``bound`` is its mean, ``bounded`` the share of answers in which it is at most the margin. ``beyond`` is the share
    of cells whose measured loss, with its noise, is above it, ``beyond_expected`` what that share would be were the
    forecasts true, and ``beyond_true`` the share of true losses above it as the measured cells let them be estimated.
    """

    bound: float | None
    bounded: float | None
    beyond: float | None
    beyond_expected: float | None
    beyond_true: float | None


@dataclass(frozen=True)
class Calibration:
    """Cells whose probability of a measured gain above the margin was in a range, and how often it was."""

    low: float
    high: float
    cells: int
    predicted: float
    measured: float


@dataclass(frozen=True)
class Scorecard:
    """How the forecasts of some held-out cells did. What cannot be given is None.

    ``bands`` says it of coverage, width and scores of the forecasts, ``from_500`` of those of 500 records or more.
    ``error``: mean absolute error of the expected scores, compared with that of the last value. ``abstention``: share
    of cells without enough evidence. ``brier``: of the probability that the measured gain is above the margin, compared
    with that of always giving the share of cells in which it was. ``noise``: mean standard error of measured gains.
    """

    regrets: Regrets
    bands: Figures
    from_500: Figures
    bounds: Bounds
    error: Mapping[str, float | None]
    abstention: float | None
    brier: Mapping[str, float | None]
    calibration: tuple[Calibration, ...]
    noise: float | None


@dataclass(frozen=True)
class ArmsCard:
    """What naming one of all arms lost in the cells in which all of them were measured and predicted."""

    regrets: Regrets
    bands: Figures
    bounds: Bounds


@dataclass(frozen=True)
class ByLabels:
    """The same cells forecast without knowing their labels, and given them."""

    not_given: Scorecard
    given: Scorecard


@dataclass(frozen=True)
class Scores:
    """The scorecards of a backtest. ``overall`` is of sizes and tasks: whole sites are a question of their own.

    All but ``by_labels`` are of forecasts that do not know the labels.
    """

    overall: Scorecard
    by_scheme: Mapping[str, Scorecard]
    arms: ArmsCard
    by_labels: Mapping[str, ByLabels]


def score_all(cells: Sequence[HeldOut], decide: Decide, margin: float) -> Scores:
    """Score everything that was held out; what an oracle would be charged is estimated from all cells together."""
    reference = refer(cells, _PAIR)
    plain, given = ([cell for cell in cells if cell.with_labels == labels] for labels in (False, True))
    by_scheme = {scheme: [cell for cell in plain if cell.scheme == scheme] for scheme in SCHEMES}
    by_labels = {}
    for scheme in dict.fromkeys(cell.scheme for cell in given):
        of_scheme = [cell for cell in given if cell.scheme == scheme]
        same = {cell.cell for cell in of_scheme}
        others = [cell for cell in by_scheme[scheme] if cell.cell in same]
        by_labels[scheme] = ByLabels(
            *(score_forecasts(found, decide, margin, reference) for found in (others, of_scheme))
        )
    return Scores(
        score_forecasts([cell for cell in plain if cell.scheme != SITE], decide, margin, reference),
        {name: score_forecasts(found, decide, margin, reference) for name, found in by_scheme.items() if found},
        score_arms(plain, margin),
        by_labels,
    )


def refer(cells: Iterable[HeldOut], arms: Sequence[str]) -> Reference | None:
    """Estimate from the distinct cells with these arms where true differences lie."""
    with_arms = [cell for cell in cells if set(arms) <= set(cell.truth.arms)]
    with_patients_last = sorted(with_arms, key=lambda cell: cell.scheme in (TASK, SITE))
    distinct = {cell.cell: (cell.n_records, cell.truth) for cell in with_patients_last}
    return fit_reference(arms, list(distinct.values()))


def score_forecasts(
    cells: Sequence[HeldOut], decide: Decide, margin: float, reference: Reference | None = None
) -> Scorecard:
    """Compare forecasts with what was measured. Without a ``reference`` no floor is given."""
    paired = [cell for cell in cells if FINE_TUNE in cell.measured]
    sample = sample_of(paired)
    verdicts = [decide(cell.gain_draws, margin) for cell in paired]
    charged = [charge_policies(cell, verdict) for cell, verdict in zip(paired, verdicts, strict=True)]
    truths = [_draw_truth(cell, reference) for cell in paired]
    gains = [cell.truth.gain for cell in paired]
    came_true = np.array([float(gain > margin) for gain, _ in gains])
    predicted = np.array([
        1 - probability_below(margin, cell.gain_draws, error) for cell, (_, error) in zip(paired, gains, strict=True)
    ])  # fmt: skip
    judged = [judge_bands(cell) for cell in cells]
    large = [(cell, one) for cell, one in zip(cells, judged, strict=True) if cell.n_records >= _LARGE]
    base_rate = sample.mean(came_true) or 0.0
    bounds = [_bound(*one) for one in zip(paired, verdicts, charged, truths, strict=True)]
    return Scorecard(
        regrets=_score_regrets(sample, charged, tuple(POLICIES), _floors(paired, truths, _PAIR)),
        bands=summarise_bands(cells, judged, BANDS),
        from_500=summarise_bands([cell for cell, _ in large], [one for _, one in large], BANDS),
        bounds=_score_bounds(sample, bounds, margin),
        error=_errors(cells),
        abstention=sample.mean([float(verdict == "not-enough-evidence") for verdict in verdicts]),
        brier={
            "advice": sample.mean((predicted - came_true) ** 2),
            "base_rate": sample.mean((base_rate - came_true) ** 2),
        },
        calibration=_calibrate(sample, predicted, came_true),
        noise=sample.mean([error for _, error in gains]),
    )


def score_arms(cells: Sequence[HeldOut], margin: float) -> ArmsCard:
    """Compare the arm that would be named first with what was measured of all arms, in held-out tasks."""
    whole = [cell for cell in cells if cell.scheme == TASK and set(_ALL) <= set(cell.truth.arms)]
    whole = [cell for cell in whole if set(_ALL) <= set(cell.forecast.scores)]
    sample, reference = sample_of(whole), refer(whole, _ALL)
    named = [name_first({arm: cell.forecast.scores[arm] for arm in _ALL}) for cell in whole]
    charged = [charge_arms(cell, arm) for cell, arm in zip(whole, named, strict=True)]
    truths = [_draw_truth(cell, reference) for cell in whole]
    judged = [judge_bands(cell) for cell in whole]
    bounds = [_bound_of_arms(*one) for one in zip(whole, named, charged, truths, strict=True)]
    return ArmsCard(
        regrets=_score_regrets(sample, charged, tuple(ARM_POLICIES), _floors(whole, truths, _ALL)),
        bands=summarise_bands(whole, judged, [arm.field for arm in ARMS]),
        bounds=_score_bounds(sample, bounds, margin),
    )


def _draw_truth(cell: HeldOut, reference: Reference | None) -> Floats | None:
    return None if reference is None else reference.draw_scores(cell.n_records, cell.truth)


def _floors(cells: Sequence[HeldOut], truths: Sequence[Floats | None], arms: Sequence[str]) -> Floats | None:
    """Return what the oracle is charged in each cell; ``truths`` have the arms in this order."""
    known = [(cell, drawn) for cell, drawn in zip(cells, truths, strict=True) if drawn is not None]
    if not known or len(known) < len(cells):
        return None
    return np.array([charge_oracle(cell.truth.among(arms).means, drawn) for cell, drawn in known])


def _score_regrets(
    sample: Sample, charged: Sequence[Mapping[str, float | None]], policies: Sequence[str], floors: Floats | None
) -> Regrets:
    lost = charges_of(charged, policies) if charged else dict.fromkeys(policies)
    above = {policy: None if values is None or floors is None else values - floors for policy, values in lost.items()}
    advice = lost["advice"]
    minus = {
        policy: None if values is None or advice is None else advice - values
        for policy, values in lost.items()
        if policy != "advice"
    }
    return Regrets(
        regret=_each(sample.mean, lost),
        regret_ci=_each(sample.over_tasks, lost),
        regret_ci_sites=_each(sample.over_sites, lost),
        floor=None if floors is None else sample.mean(floors),
        above_floor=_each(sample.mean, above),
        above_floor_ci=_each(sample.over_tasks, above),
        above_floor_ci_sites=_each(sample.over_sites, above),
        advice_minus=_each(sample.mean, minus),
        advice_minus_ci=_each(sample.over_tasks, minus),
    )


def _each(
    summarise: Callable[[Floats], Result | None], values: Mapping[str, Floats | None]
) -> dict[str, Result | None]:
    return {name: None if one is None else summarise(one) for name, one in values.items()}


@dataclass(frozen=True)
class _Bound:
    """Of one cell: the bound, whether the measured loss was above it, and how probable that was, before and after."""

    bound: float
    beyond: float
    expected: float
    true: float | None


def _bound(cell: HeldOut, verdict: str, charged: Mapping[str, float | None], truth: Floats | None) -> _Bound:
    """Bound what the advice loses against the other of the two arms."""
    sign = -1.0 if fine_tunes(cell, verdict) else 1.0  # of the gain, to be the lead of the arm that was not chosen
    lead, (_, error) = sign * cell.gain_draws, cell.truth.gain
    bound = summarise_loss(np.maximum(lead, 0.0)).upper
    expected = 1 - probability_below(bound, lead, error)
    true = None if truth is None else float((sign * truth[:, 1] > bound).mean())
    return _Bound(bound, float((charged["advice"] or 0.0) > bound), expected, true)


def _bound_of_arms(cell: HeldOut, named: str, charged: Mapping[str, float | None], truth: Floats | None) -> _Bound:
    """Bound what the named arm loses against the best of all."""
    chosen, among = _ALL.index(named), cell.truth.among(_ALL)
    drawn = np.stack([cell.forecast.scores[arm] for arm in _ALL], axis=1)
    bound = summarise_loss(_lost(drawn, chosen)).upper
    root = np.linalg.cholesky(among.covariance + _LEAST * np.eye(len(_ALL)))
    rng = np.random.default_rng(stable_seed(cell.scheme, *map(str, cell.cell)))
    measured = drawn[:, None] + rng.standard_normal((len(drawn), _NOISES, len(_ALL))) @ root.T
    expected = float((_lost(measured, chosen) > bound).mean())
    true = None if truth is None else float((_lost(truth, chosen) > bound).mean())
    return _Bound(bound, float((charged["advice"] or 0.0) > bound), expected, true)


def _lost(scores: Floats, chosen: int) -> Floats:
    return np.asarray(scores.max(axis=-1) - scores[..., chosen], np.float64)


def _score_bounds(sample: Sample, bounds: Sequence[_Bound], margin: float) -> Bounds:
    true = [one.true for one in bounds if one.true is not None]
    return Bounds(
        bound=sample.mean([one.bound for one in bounds]),
        bounded=sample.mean([float(one.bound <= margin) for one in bounds]),
        beyond=sample.mean([one.beyond for one in bounds]),
        beyond_expected=sample.mean([one.expected for one in bounds]),
        beyond_true=sample.mean(true) if len(true) == len(bounds) else None,
    )


def _calibrate(sample: Sample, predicted: Floats, came_true: Floats) -> tuple[Calibration, ...]:
    bins = np.clip(np.digitize(predicted, _BINS) - 1, 0, len(_BINS) - 2)
    found = []
    for k, (low, high) in enumerate(pairwise(_BINS)):
        weights = sample.weights * (bins == k)
        if weights.any():
            means = (float(np.average(values, weights=weights)) for values in (predicted, came_true))
            found.append(Calibration(low, high, int((bins == k).sum()), *means))
    return tuple(found)


def _errors(cells: Sequence[HeldOut]) -> dict[str, float | None]:
    """Return the mean absolute errors of the expected scores of the two arms, and of the last values."""
    both = [(cell, arm) for cell in cells for arm in _PAIR if arm in cell.measured]
    sample = Sample.of([((cell.cell, arm), cell.table.task) for cell, arm in both])
    truth = [cell.truth.of({arm: 1.0})[0] for cell, arm in both]
    forecasts = {
        "advice": [float(cell.forecast.scores[arm].mean()) for cell, arm in both],
        "last_value": [cell.forecast.last[arm] for cell, arm in both],
    }
    return {name: sample.mean(np.abs(np.subtract(values, truth))) for name, values in forecasts.items()}
