"""Question -> Recommendation: the decision of STUDY.md section 5, in plain numpy.

Every number comes from the posterior draws of a curves file, so that the gain, its probabilities and the break-even
belong to the same fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from studies.curve_draws import (
    BAND,
    FINE_TUNE,
    REACH,
    SCRATCH,
    Interval,
    break_even,
    chance_level,
    interval,
    quantiles,
    worth_in_records,
)
from studies.curves_file import CurvesFile, PairedCurve, Support

Verdict = Literal["fine-tune", "scratch", "no-material-difference", "not-enough-evidence"]
Floats = NDArray[np.float64]

DECISIVE = 0.8  # the probability at which a verdict is given
_RUNS_PER_DRAW = 51


class UnknownNameError(LookupError):
    """The question names a network, an upstream or a metric that does not exist; the message names the nearest."""


class NoEvidenceError(LookupError):
    """The question is valid, but the evidence does not reach it; the message says how far it goes."""


@dataclass(frozen=True)
class Question:
    """What is asked: ``n_records`` labelled records for training and validation together, and a network or family.

    ``margin`` is the smallest difference of the metric that matters to the asker.
    """

    n_records: int
    arch: str
    metric: str = "auroc_macro"
    margin: float = 0.01
    upstream: str | None = None


@dataclass(frozen=True)
class Score:
    """An expected score: 90 % band of the mean over replicates, and of a single run."""

    mean: float
    mean_ci_lower: float
    mean_ci_upper: float
    obs_ci_lower: float
    obs_ci_upper: float


@dataclass(frozen=True)
class Gain:
    """Fine-tuned minus scratch, 90 % band, and where it lies against the margin."""

    mean: float
    mean_ci_lower: float
    mean_ci_upper: float
    p_above_margin: float
    p_within_margin: float
    p_below_margin: float


@dataclass(frozen=True)
class Cost:
    """What one training costs on the measured device; None where it was not measured."""

    device: str | None
    records_seen: int | None
    cpu_seconds: float | None
    gpu_seconds: float | None
    share_to_best: float | None = None


@dataclass(frozen=True)
class Recommendation:
    """The answer, with everything it rests on."""

    question: Question
    curve: PairedCurve
    curves: CurvesFile
    verdict: Verdict
    why: str
    scratch: Score
    fine_tune: Score
    gain: Gain
    worth_in_records: Interval
    break_even: Interval
    cost: Mapping[str, Cost]
    support: Support
    warnings: tuple[str, ...]


def recommend(question: Question, curves: CurvesFile) -> Recommendation:
    """Answer a question from a curves file.

    Raises UnknownNameError for a name that does not exist, NoEvidenceError when nothing was measured near enough.
    """
    curve = _find_curve(question, curves)
    support = curve.support(question.n_records)
    if support == "beyond":
        low, high = min(curve.sizes), max(curve.sizes)
        raise NoEvidenceError(
            f"{curve.arch} was measured from {low:,} to {high:,} records, and no answer is given beyond "
            f"{REACH:g} times that range ({low / REACH:,.0f} to {high * REACH:,.0f}): {question.n_records:,} is outside"
        )
    scratch, fine_tuned = (curve.scores(arm, question.n_records)[:, 0] for arm in (SCRATCH, FINE_TUNE))
    gain = _summarise_gain(fine_tuned - scratch, question.margin)
    verdict = _decide(gain)
    smallest, largest, chance = min(curve.sizes), max(curve.sizes), chance_level(curve.metric)
    worth = interval(worth_in_records(curve.draws, question.n_records, smallest, largest, chance))
    even = interval(break_even(curve.draws, question.margin, smallest, largest, chance))
    cost = _cost(curve, question.n_records)
    return Recommendation(
        question=question,
        curve=curve,
        curves=curves,
        verdict=verdict,
        why=_explain(verdict, gain, question, curve),
        scratch=summarise_score(curve, SCRATCH, question.n_records),
        fine_tune=summarise_score(curve, FINE_TUNE, question.n_records),
        gain=gain,
        worth_in_records=worth,
        break_even=even,
        cost=cost,
        support=support,
        warnings=tuple(_warn(curve, curves, support, question, worth, even, cost)),
    )


def _find_curve(question: Question, curves: CurvesFile) -> PairedCurve:
    arch = curves.family_default.get(question.arch, question.arch)
    _check_arch(question.arch, arch, curves)
    found = sorted((curve for curve in curves.curves if curve.arch == arch), key=lambda curve: -curve.runs)
    if not any(FINE_TUNE in curve.draws for curve in found):
        raise NoEvidenceError(f"study {curves.study} ran {arch} from scratch only; see ecgadvise curves show")
    found = [curve for curve in found if FINE_TUNE in curve.draws]
    metrics = sorted({curve.metric for curve in found})
    if question.metric not in metrics:
        raise UnknownNameError(f"the evidence has no metric {question.metric!r}; it has {', '.join(metrics)}")
    found = [curve for curve in found if curve.metric == question.metric]
    upstreams = sorted({curve.upstream for curve in found})
    wanted = question.upstream
    if wanted is not None:
        found = [curve for curve in found if wanted in (curve.upstream, curve.upstream.split("/")[0])]
    if not found:
        raise UnknownNameError(f"no {arch} was pre-trained on {wanted!r}; the evidence has {', '.join(upstreams)}")
    offered = sorted({curve.upstream for curve in found})
    if len(offered) > 1:
        raise UnknownNameError(f"{arch} was pre-trained on {' and on '.join(offered)}: choose one with --upstream")
    return found[0]


def _check_arch(asked: str, arch: str, curves: CurvesFile) -> None:
    families = {curve.arch: curve.family for curve in curves.curves}
    if arch in families:
        return
    measured = ", ".join(f"{name} ({family})" for name, family in families.items())
    if arch in {"cnn", "rnn"} or arch in curves.registered or _width_of(arch) in curves.registered:
        raise NoEvidenceError(f"study {curves.study} did not measure {asked}; it measured {measured}")
    from difflib import get_close_matches

    near = get_close_matches(asked, ["cnn", "rnn", *families, *curves.registered], n=1, cutoff=0.0)[0]
    raise UnknownNameError(f"no network is named {asked!r}; the nearest name is {near!r} (measured: {measured})")


def _width_of(arch: str) -> str:
    """Return the name without a ``-wN`` ending."""
    base, _, width = arch.rpartition("-w")
    return base if width.isdigit() else arch


def summarise_score(curve: PairedCurve, strategy: str, n_records: int) -> Score:
    """Return the expected score of an arm at ``n_records``, with the 90 % bands of the mean and of a single run."""
    draws = curve.scores(strategy, n_records)[:, 0]
    low, high = quantiles(draws, BAND)
    single_runs = draws[:, None] + curve.run_sd(n_records) * _normal_quantiles(_RUNS_PER_DRAW)[None, :]
    run_low, run_high = quantiles(np.clip(single_runs, 0, 1), BAND)
    # A run scatters at least as much as its expectation: order statistics of few draws may say otherwise.
    return Score(float(draws.mean()), low, high, min(low, run_low), max(high, run_high))


def _normal_quantiles(n: int) -> Floats:
    """Return n equally likely values of a standard normal variable: its spread, without dice."""
    from statistics import NormalDist

    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])


def _summarise_gain(draws: Floats, margin: float) -> Gain:
    low, high = quantiles(draws, BAND)
    above, below = float((draws > margin).mean()), float((draws < -margin).mean())
    within = float((np.abs(draws) <= margin).mean())
    return Gain(float(draws.mean()), low, high, above, within, below)


def _decide(gain: Gain) -> Verdict:
    if gain.p_above_margin >= DECISIVE:
        return "fine-tune"
    if gain.p_below_margin >= DECISIVE:
        return "scratch"
    if gain.p_within_margin >= DECISIVE:
        return "no-material-difference"
    return "not-enough-evidence"


def judge(gain_draws: Floats, margin: float) -> Verdict:
    """Return the verdict on draws of a gain, as ``recommend`` gives it."""
    return _decide(_summarise_gain(gain_draws, margin))


def probability(value: float) -> str:
    """Return a probability in words: 1,000 draws never make certainty."""
    return "over 0.99" if value > 0.99 else "under 0.01" if value < 0.01 else f"{value:.2f}"


def _explain(verdict: Verdict, gain: Gain, question: Question, curve: PairedCurve) -> str:
    n, margin = f"With {question.n_records:,} records", f"{question.margin:g}"
    outcomes = {
        "fine-tune": (gain.p_above_margin, f"fine-tuning gains more than {margin}"),
        "no-material-difference": (gain.p_within_margin, f"the two differ by at most {margin}"),
        "scratch": (gain.p_below_margin, f"fine-tuning loses more than {margin}"),
    }
    if verdict != "not-enough-evidence":
        chance, outcome = outcomes[verdict]
        return f"{n} {outcome} (probability {probability(chance)})."
    chance, outcome = max(outcomes.values())
    low, high = min(curve.sizes), max(curve.sizes)
    inside = low <= question.n_records <= high
    todo = "more paired replicates" if inside else f"paired runs at {question.n_records:,} records"
    return (
        f"{n} most likely {outcome}, but a verdict takes probability {DECISIVE:g} and this has "
        f"{probability(chance)}; {todo} would help to decide."
    )


def _cost(curve: PairedCurve, n_records: int) -> dict[str, Cost]:
    cost = {}
    for key, arm in (("scratch", SCRATCH), ("fine_tune", FINE_TUNE)):
        if (fit := curve.cost.get(arm)) is None:
            cost[key] = Cost(None, None, None, None)
            continue
        seen = fit.records_seen(n_records)
        cost[key] = _charge(fit.device, seen, seen * fit.seconds_per_record, fit.share_to_best)
    if (upstream := curve.pretraining) is not None:
        cost["pretraining"] = _charge(upstream.device, upstream.records_seen, upstream.seconds)
    return cost


def _charge(device: str, records_seen: int, seconds: float, share_to_best: float | None = None) -> Cost:
    on_cpu = device.startswith("CPU")
    return Cost(device, records_seen, seconds if on_cpu else None, None if on_cpu else seconds, share_to_best)


def _warn(
    curve: PairedCurve, curves: CurvesFile, support: Support, question: Question, worth: Interval,
    break_even: Interval, cost: Mapping[str, Cost],
) -> list[str]:  # fmt: skip
    low, high = min(curve.sizes), max(curve.sizes)
    warnings = []
    if support == "extrapolated":
        warnings.append(f"Extrapolated to {question.n_records:,} records from runs with {low:,} to {high:,}.")
    warnings.append(f"One task only, {curve.task}: how far other datasets differ is unknown and not in the bands.")
    if curve.upstream.split("/")[0] == curve.task.split("/")[0]:
        warnings.append(
            f"One pre-trained network ({curve.upstream}), and the same hospitals' records upstream and in the task, "
            "patients apart: another may transfer less."
        )
    if curve.arch != question.arch:
        parameters = curves.networks[curve.arch].parameters
        size = "" if parameters is None else f" ({parameters:,} parameters)"
        warnings.append(f"{question.arch} stands for {curve.arch}{size}; others may differ.")
    warnings += [f"{message[0].upper()}{message[1:]}." for message in curve.warnings]
    if None in _values(worth) + _values(break_even):
        warnings.append("Out of reach (null in JSON): more records than the evidence can speak of.")
    if not curve.cost:
        warnings.append("The runs say nothing of what they cost (null in JSON).")
    elif all(c.gpu_seconds is None for c in cost.values()):
        warnings.append(f"Times on {cost['scratch'].device}; no GPU was measured (gpu_seconds is null).")
    return warnings


def _values(interval: Interval) -> tuple[Any, ...]:
    return interval.median, interval.lower, interval.upper
