"""What a figure of learning curves draws, in plain numpy: means and bands over a range of sizes, runs, ticks.

The figures of ``advisor.text.curve_figure`` and the page of ``advisor.report.page`` draw the same; its numbers are
those of the answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, log, log10

import numpy as np

from studies.files.arms import ARMS, FINE_TUNE, SCRATCH, arms_in
from studies.files.curve import Curve, PooledCurve
from studies.files.curves import CurvesFile
from studies.files.draws import BAND, REACH, Floats, Interval, break_even, chance_level, interval

_BESIDE = 1.15  # a figure starts so far left of what it shows, and ends so far right of it
_LEAST_SPAN = 0.02  # of the axis of scores
_APART = 0.05  # of two round numbers that are among those shown exactly, as a share of the axis


@dataclass(frozen=True)
class Line:
    """Mean and 90 % band at each number of records, (sizes,)."""

    mean: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True)
class CurveLines:
    """One curve, ready to be drawn: ``arms`` holds the line of each measured strategy at the numbers of records ``n``.

    ``gain``, ``p_above_margin`` (sizes,) and ``even``, the break-even, are None of a curve without a fine-tuned arm;
    ``differences`` has what every arm has over scratch, the gain among them.
    ``exact`` are those of n that a reader may want: the asked, the measured, some round ones. ``measured`` are the
    smallest and the largest measured size, ``points[strategy]`` the scores that were measured, ``bottom`` and ``top``
    the scores that the figure reaches.
    """

    n: Floats
    exact: tuple[int, ...]
    arms: Mapping[str, Line]
    gain: Line | None
    p_above_margin: Floats | None
    even: Interval | None
    measured: tuple[int, int]
    least: int
    points: Mapping[str, tuple[tuple[int, float], ...]]
    bottom: float
    top: float
    differences: Mapping[str, Line]


def trace(curve: Curve, margin: float, n_points: int, shown: Iterable[int] = ()) -> CurveLines:
    """Return what to draw of a curve: ``n_points`` sizes to the evidence's reach, and those in ``shown`` besides."""
    low, high = min(curve.sizes), max(curve.sizes)
    wanted = {*shown, *curve.sizes}
    marked = {*wanted, *(size for by_size in curve.points.values() for size in by_size)}
    first, last = max(min(marked) / _BESIDE, 1), max(high * REACH, _BESIDE * max(marked))
    exact = sorted({*wanted, *size_ticks(curve.sizes, first, last, _APART)})
    n = np.unique(np.rint(np.concatenate([np.geomspace(first, last, n_points), exact])))
    draws = {arm.strategy: curve.scores(arm.strategy, n) for arm in arms_in(curve.draws)}
    arms = {arm: _line(scores) for arm, scores in draws.items()}
    points = {
        arm: tuple((size, score) for size, scores in curve.points.get(arm, {}).items() for score in scores)
        for arm in arms
    }
    measured = [score for found in points.values() for _, score in found]
    bottom = min([*measured, *(float(line.mean.min()) for line in arms.values())])
    top = max([*measured, *(float(line.upper.max()) for line in arms.values())])
    middle, half = (bottom + top) / 2, max(top - bottom, _LEAST_SPAN) / 2
    gains = draws[FINE_TUNE] - draws[SCRATCH] if FINE_TUNE in draws else None
    return CurveLines(
        n=n,
        exact=tuple(exact),
        arms=arms,
        gain=None if gains is None else _line(gains),
        p_above_margin=None if gains is None else np.asarray((gains > margin).mean(axis=0), np.float64),
        even=None
        if gains is None
        else interval(break_even(curve.draws, margin, low, high, chance_level(curve.metric))),
        measured=(min(curve.measured_sizes), max(curve.measured_sizes)),
        least=curve.reach[0],
        points=points,
        bottom=middle - 1.16 * half,
        top=min(middle + 1.24 * half, 1.02),
        differences={arm: _line(scores - draws[SCRATCH]) for arm, scores in draws.items() if arm != SCRATCH},
    )


def _line(draws: Floats) -> Line:
    """Summarise draws (draws, sizes) as ``studies.files.draws.quantiles`` does those of one size."""
    ranks = [round(q * (len(draws) - 1)) for q in BAND]
    ordered = np.partition(draws, ranks, axis=0)
    return Line(draws.mean(axis=0), ordered[ranks[0]], ordered[ranks[1]])


def with_points(curve: Curve, curves: CurvesFile) -> Curve:
    """Give a pooled curve, which has no runs of its own, the mean scores of its tasks as points; others have theirs."""
    if not isinstance(curve, PooledCurve):
        return curve
    points: dict[str, dict[int, tuple[float, ...]]] = {arm.strategy: {} for arm in ARMS}
    for one in curves.parts_of(curve):
        for arm, by_size in one.points.items():
            for size, scores in by_size.items():
                if scores:
                    points[arm][size] = (*points[arm].get(size, ()), sum(scores) / len(scores))
    return replace(curve, points=points)


def size_ticks(sizes: Sequence[int], first: float, last: float, apart: float) -> list[int]:
    """Return the measured sizes, and round numbers where none was measured, at least ``apart`` of the axis away.

    The ends of what was measured come first, so that a crowded axis keeps them.
    """
    inside = [size for size in sorted(set(sizes)) if first <= size <= last]
    round_numbers = [k * 10**p for k in (1, 5, 2) for p in range(16) if first <= k * 10**p <= last]
    kept: list[int] = []
    for n in (*inside[-1:], *inside[:1], *inside, *round_numbers):
        if all(abs(log(n / other)) >= apart * log(last / first) for other in kept):
            kept.append(n)
    return sorted(kept)


def score_ticks(bottom: float, top: float, most: int = 8) -> list[float]:
    """Return round scores from ``bottom`` to ``top``, ``most`` of them or fewer."""
    raw = (top - bottom) / most
    unit = 10.0 ** floor(log10(raw))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= raw)
    return [round(k * step, 10) for k in range(floor(bottom / step), floor(top / step) + 1) if k * step >= bottom]
