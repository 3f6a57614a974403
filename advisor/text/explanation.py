"""What an answer rests on, for ``--explain``: the evidence, the fit, how good such advice was, and the limits."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from advisor.answer.recommend import Recommendation
from advisor.answer.words import compares_more
from studies.files.arms import FINE_TUNE, FURTHER, PAIR, SCRATCH, arms_in
from studies.files.backtest import BACKTEST, Backtest, _parse_backtest
from studies.files.curve import PooledCurve
from studies.files.curves import is_released
from studies.files.draws import BAND, REACH, quantiles
from studies.files.precision import in_words

PARAMETERS = ("a", "b", "c", "n0")
_DIGITS, _MOST_DIGITS = 4, 6


@dataclass(frozen=True)
class Estimate:
    """A parameter's median and 90 % interval."""

    median: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Point:
    """What was measured at one size: mean score of each arm over that many runs; ``further`` arms by their field."""

    n_records: int
    scratch: float | None
    fine_tune: float | None
    runs: int
    further: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskOutlook:
    """What one of the pooled tasks expects at the asker's number of records; ``further`` arms by their field."""

    task: str
    upstream: str
    scratch: float
    fine_tune: float
    runs: int
    further: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """Everything behind an answer: ``points`` of a single task, or the ``tasks`` of a pooled curve.

    ``parameters[arm][name]`` are those of the law in ``score(n) = a - b (n + n0) ** -c + bend(n)``, none of a pooled
    curve or one that a pilot was added to; ``run_sd`` is the spread of one run at the asker's number of records.
    ``backtest`` is None where it was not measured, and ``no_backtest`` says why.
    """

    upstream: str | None
    sources: tuple[Mapping[str, str], ...]
    points: tuple[Point, ...]
    tasks: tuple[TaskOutlook, ...]
    parameters: Mapping[str, Mapping[str, Estimate]]
    run_sd: float
    pair_correlation: float
    draws: int
    backtest: Backtest | None
    no_backtest: str | None
    limits: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def explain(answer: Recommendation, curves_path: Path) -> Explanation:
    """Gather what an answer rests on; ``curves_path`` is the file that it came from."""
    curve = answer.curve
    backtest, reason = _read_backtest(curves_path.with_name(BACKTEST))
    if is_released(curve.upstream):
        backtest, reason = None, "answers from a network that no run of the study pre-trained are not held out"
    return Explanation(
        upstream=answer.curves.upstreams.get(curve.upstream),
        sources=curve.sources,
        points=_points(answer),
        tasks=tuple(_outlooks(answer, curve)) if isinstance(curve, PooledCurve) else (),
        parameters={}
        if isinstance(curve, PooledCurve) or curve.is_updated  # draws of scores: the law beneath them says nothing
        else {
            arm: {name: _estimate(curve.draws[arm][name]) for name in PARAMETERS if name in curve.draws[arm]}
            for arm in (one.strategy for one in reversed(PAIR))  # a further arm has scratch's law
            if arm in curve.draws
        },
        run_sd=_significant(curve.run_sd(answer.question.n_records)),
        pair_correlation=_significant(curve.noise["correlation"], _MOST_DIGITS),
        draws=len(next(iter(curve.draws.values()))["a"]),
        backtest=backtest,
        no_backtest=reason,
        limits=_limits(answer),
    )


def _points(answer: Recommendation) -> tuple[Point, ...]:
    points = answer.curve.points
    sizes = sorted({n for by_size in points.values() for n in by_size})
    found = []
    for n in sizes:
        scratch, fine_tune = (points.get(arm, {}).get(n, ()) for arm in (SCRATCH, FINE_TUNE))
        others = {arm.field: points.get(arm.strategy, {}).get(n, ()) for arm in FURTHER}
        further = {name: mean for name, scores in others.items() if (mean := _mean(scores)) is not None}
        runs = len(scratch) + len(fine_tune) + sum(map(len, others.values()))
        found.append(Point(n, _mean(scratch), _mean(fine_tune), runs, further))
    return tuple(found)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), _DIGITS) if values else None


def _outlooks(answer: Recommendation, pool: PooledCurve) -> Iterator[TaskOutlook]:
    """Give the pooled tasks one by one, as far as they reach the asker's number of records."""
    n = answer.question.n_records
    for one in answer.curves.parts_of(pool):
        if FINE_TUNE in one.draws and one.support(n) != "beyond":
            scores = {
                arm.field: round(float(one.scores(arm.strategy, n).mean()), _DIGITS) for arm in arms_in(one.draws)
            }
            further = {arm.field: scores[arm.field] for arm in FURTHER if arm.field in scores}
            yield TaskOutlook(one.task, one.upstream, scores["scratch"], scores["fine_tune"], one.runs, further)


def _estimate(values: Any) -> Estimate:
    lower, median, upper = quantiles(values, (BAND[0], 0.5, BAND[1]))
    return Estimate(*(_significant(v) for v in (median, lower, upper)))


def _significant(value: float, digits: int = _DIGITS) -> float:
    return float(f"{value:.{digits}g}")


def _read_backtest(path: Path) -> tuple[Backtest | None, str | None]:
    """Return the figures, or why there are none: nothing in the answer depends on them."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _parse_backtest(document), None
    except FileNotFoundError:
        return None, f"no {BACKTEST} next to the curves file (ecgadvise backtest --json makes one)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, f"{path.name} next to the curves file cannot be read"


def single_tasks(answer: Recommendation) -> str:
    """Say how far single tasks were measured, beyond what half of them support together."""
    curve = answer.curve
    ranges = answer.curves.ranges_of(curve)[SCRATCH].values() if isinstance(curve, PooledCurve) else ()
    first = min((first for first, _ in ranges), default=min(curve.sizes))
    last = max((last for _, last in ranges), default=max(curve.sizes))
    said = [f"some from {first:,}"] * (first < min(curve.sizes)) + [f"some to {last:,}"] * (last > max(curve.sizes))
    return f" ({', '.join(said)})" if said else ""


def _limits(answer: Recommendation) -> tuple[str, ...]:
    curve = answer.curve
    tasks = curve.measured_tasks
    corpora = ", ".join(sorted({task.split("/")[0] for task in tasks}))
    n_tasks = f"{len(tasks)} tasks of {corpora} were" if len(tasks) > 1 else f"One task of {corpora} was"
    low, high = min(curve.sizes), max(curve.sizes)
    arms, one = ("The trained arms", "one") if compares_more(answer) else ("Both arms", "either")
    recipe = f" ({curve.recipe})" if curve.recipe else ""
    pilot = "With a pilot bands are narrower; those of scores held a little less often than 90 % on held-out tasks."
    return (
        *((pilot,) if curve.is_updated else ()),
        f"{n_tasks} measured, from {low:,} to {high:,} records{single_tasks(answer)}; beyond {REACH:g} times that the "
        "answer is refused.",
        f"The networks were trained in {in_words(curve.precision)}; in another precision their scores may differ."
        if curve.precision is not None
        else "In which precision the networks were trained is not known; in another one their scores may differ.",
        "Other hospitals, devices, patients and labels may differ from these by more than any band says.",
        "Scores, gain and target are of the expected score of a training; a single run scatters about it.",
        f"{arms} follow one recipe{recipe}; better tuning of {one}, another network or pre-training may differ.",
        "The curves are power laws with room to bend, fitted to these runs; real curves may turn where none was run.",
        "Costs are machine time and labels; staff, storage, failed runs and a regulatory file are not in them.",
    )
