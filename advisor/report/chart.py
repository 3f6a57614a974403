"""The chart of a report: all curves as inline SVG, complete without a script.

Colours are classes, which the page's style sets for light, dark and paper. The script moves what has the class
``cross`` and reads the scales from the ``data-`` attributes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np

from advisor.answer.recommend import Recommendation
from advisor.answer.words import within_reach
from advisor.report.html import text
from advisor.text.curve_lines import CurveLines, score_ticks, size_ticks
from studies.files.arms import FINE_TUNE, LINEAR_PROBE, RANDOM_CONVOLUTIONS, SCRATCH
from studies.files.draws import REACH

CLASSES = {FINE_TUNE: "tuned", SCRATCH: "scratch", LINEAR_PROBE: "probe", RANDOM_CONVOLUTIONS: "kernels"}
_ASIDE = {
    FINE_TUNE: 1,
    SCRATCH: -1,
    LINEAR_PROBE: -2.4,
    RANDOM_CONVOLUTIONS: 2.4,
}  # half widths, so that points stand apart
_POINT = 3.2  # pixels, the half width of a measured point
_ROOM_FOR_WORDS = 120  # pixels


@dataclass(frozen=True)
class Frame:
    """A drawing surface of that many pixels, with the room for numbers left and below, and the axes on it."""

    name: str
    width: int
    height: int
    apart: float  # the least distance of two numbers on the axis of records, as a share of it
    lines: CurveLines

    left, right, above, below = 52, 14, 40, 46

    def x(self, n: float) -> float:
        """Return where a number of records lies."""
        first, last = self.lines.n[0], self.lines.n[-1]
        return self.left + log(n / first) / log(last / first) * (self.width - self.left - self.right)

    def y(self, score: float) -> float:
        """Return where a score lies."""
        share = (score - self.lines.bottom) / (self.lines.top - self.lines.bottom)
        return self.height - self.below - share * (self.height - self.above - self.below)

    @property
    def floor(self) -> int:
        """Where the axis of records is."""
        return self.height - self.below

    @property
    def end(self) -> int:
        """Where the axes end on the right."""
        return self.width - self.right


def chart(answer: Recommendation, lines: CurveLines, metric: str, described: str) -> str:
    """Return the chart twice, for a wide and for a narrow screen, of which the page shows one."""
    frames = (Frame("wide", 760, 420, 0.09, lines), Frame("narrow", 372, 360, 0.135, lines))
    return "".join(_draw(frame, answer, metric, described) for frame in frames)


def _draw(frame: Frame, answer: Recommendation, metric: str, described: str) -> str:
    n, name, lines = answer.question.n_records, frame.name, frame.lines
    scales = {"left": frame.left, "end": frame.end, "floor": frame.floor, "above": frame.above,
              "first": f"{lines.n[0]:.6g}", "last": f"{lines.n[-1]:.6g}", "bottom": f"{lines.bottom:.6g}",
              "top": f"{lines.top:.6g}"}  # fmt: skip
    written = " ".join(f'data-{key}="{value}"' for key, value in scales.items())
    body = (
        *_axes(frame, answer.curve.sizes, metric),
        *(part for arm in lines.arms for part in _arm(frame, arm)),
        *_break_even(frame, answer),
        *_yours(frame, n),
        *_cross(frame, n),
    )
    return (
        f'<svg class="chart {name}" viewBox="0 0 {frame.width} {frame.height}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc" '
        f"{written}>"
        f'<title id="{name}-title">{text(metric)} against the number of labelled records</title>'
        f'<desc id="{name}-desc">{text(described)}</desc>{_clip(frame)}{"".join(body)}</svg>\n'
    )


def gain_chart(answer: Recommendation, lines: CurveLines, words: str, described: str) -> str:
    """Return the chart of what every arm has over scratch, with the band of the best of them, wide and narrow."""
    differences = lines.differences
    banded = banded_arm(answer, lines)
    shown = [differences[banded].lower, differences[banded].upper, *(line.mean for line in differences.values())]
    seen = (lines.n >= lines.least) & (lines.n <= lines.measured[1] * REACH)
    low, high = (float(pick([pick(values[seen]) for values in shown])) for pick in (min, max))
    margin = answer.question.margin
    low, high = min(low, -2 * margin), max(high, 2 * margin)
    room = 0.06 * (high - low)
    scaled = replace(lines, arms=differences, points=dict.fromkeys(differences, ()), bottom=low - room, top=high + room)
    frames = (Frame("gain-wide", 760, 300, 0.09, scaled), Frame("gain-narrow", 372, 270, 0.135, scaled))
    return "".join(_draw_gain(frame, answer, banded, words, described) for frame in frames)


def banded_arm(answer: Recommendation, lines: CurveLines) -> str:
    """Return the arm whose band is drawn: the one named first, or fine-tuning where that is scratch."""
    best = answer.best.strategy
    return best if best in lines.differences else FINE_TUNE


def _draw_gain(frame: Frame, answer: Recommendation, banded: str, words: str, described: str) -> str:
    name, margin = frame.name, answer.question.margin
    arms = (part for arm in frame.lines.arms for part in _arm(frame, arm, with_band=arm == banded))
    body = (
        *_axes(frame, answer.curve.sizes, words),
        _box("margin", frame.left, frame.y(margin), frame.end - frame.left, frame.y(-margin) - frame.y(margin)),
        f'<path class="axis" d="M{frame.left} {frame.y(0):.1f}H{frame.end}"/>',
        *arms,
        *_yours(frame, answer.question.n_records),
    )
    return (
        f'<svg class="gains {name.removeprefix("gain-")}" viewBox="0 0 {frame.width} {frame.height}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{text(words)} against the number of labelled records</title>'
        f'<desc id="{name}-desc">{text(described)}</desc>{_clip(frame)}{"".join(body)}</svg>\n'
    )


def _clip(frame: Frame) -> str:
    return (
        f'<clipPath id="{frame.name}-clip"><rect x="{frame.left}" y="{frame.above}" width="{frame.end - frame.left}" '
        f'height="{frame.floor - frame.above}"/></clipPath>'
    )


def _axes(frame: Frame, sizes: Sequence[int], metric: str) -> Iterator[str]:
    first, last = frame.lines.n[0], frame.lines.n[-1]
    low, high = frame.lines.measured
    for left, right in ((frame.left, frame.x(low)), (frame.x(high), frame.end)):
        yield _box("unmeasured", left, frame.above, right - left, frame.floor - frame.above)
    for score in score_ticks(frame.lines.bottom, frame.lines.top):
        y = frame.y(score)
        yield f'<path class="grid" d="M{frame.left} {y:.1f}H{frame.end}"/>'
        yield _words("tick", frame.left - 6, y + 4, f"{score:.10g}" if score < 1 else "1.0", "end")
    for n in size_ticks(sizes, first, last, frame.apart):
        yield f'<path class="mark" d="M{frame.x(n):.1f} {frame.floor}v5"/>'
        yield _words("tick", frame.x(n), frame.floor + 18, f"{n:,}")
    yield f'<path class="axis" d="M{frame.left} {frame.floor}H{frame.end}"/>'
    yield _words("label", 2, 12, metric, "start")
    yield _words("label", (frame.left + frame.end) / 2, frame.height - 8, "labelled records (log scale)")


def _arm(frame: Frame, arm: str, *, with_band: bool = True) -> Iterator[str]:
    line, kind = frame.lines.arms[arm], CLASSES[arm]
    n, (low, high) = frame.lines.n, frame.lines.measured
    ring = [*zip(n, line.upper, strict=True), *reversed(list(zip(n, line.lower, strict=True)))]
    clip = f'clip-path="url(#{frame.name}-clip)"'
    if with_band:
        yield f'<path class="band {kind}" {clip} d="{_path(frame, ring)}Z"/>'
    for part, style in ((n <= low, " beyond"), ((n >= low) & (n <= high), ""), (n >= high, " beyond")):
        if part.sum() > 1:
            points = list(zip(n[part], line.mean[part], strict=True))
            yield f'<path class="line {kind}{style}" {clip} d="{_path(frame, points)}"/>'
    shape = "".join(_point(frame, arm, size, score) for size, score in frame.lines.points[arm])
    if shape:
        yield f'<path class="points {kind}" d="{shape}"/>'


def _path(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{frame.x(n):.1f} {frame.y(score):.1f}" for n, score in points)


def _point(frame: Frame, arm: str, size: int, score: float) -> str:
    """Draw a triangle of a fine-tuned run, a square of one from scratch, a disc of a linear probe, a diamond of random
    convolutions, side by side: shape tells them too. None lies across the ends of the chart.
    """
    r = _POINT
    x, y = frame.x(size) + (r + 0.6) * _ASIDE[arm], frame.y(score)
    x = min(max(x, frame.left + r), frame.end - r)
    shape = {
        FINE_TUNE: f"l{r} {2 * r}h{-2 * r}z",
        SCRATCH: f"m{-r} {0.15 * r:.2g}h{1.7 * r:.3g}v{1.7 * r:.3g}h{-1.7 * r:.3g}z",
        LINEAR_PROBE: f"a{r} {r} 0 0 1 0 {2 * r}a{r} {r} 0 0 1 0 {-2 * r}z",
        RANDOM_CONVOLUTIONS: f"l{r} {r}l{-r} {r}l{-r} {-r}z",
    }[arm]
    return f"M{x:.1f} {y - r:.1f}{shape}"


def _break_even(frame: Frame, answer: Recommendation) -> Iterator[str]:
    even, first, last = answer.break_even, frame.lines.n[0], frame.lines.n[-1]
    lower, upper = (last if n is None else min(max(n, first), last) for n in (even.lower, even.upper))
    yield _box("even-interval", frame.x(lower), frame.floor - 5, frame.x(upper) - frame.x(lower), 5)
    if even.median is not None and first <= even.median <= last:
        x = frame.x(even.median)
        yield f'<path class="even" d="M{x:.1f} {frame.above}V{frame.floor}"/>'
        words = within_reach(even.median, frame.lines.least)
        yield _beside(frame, "even-label", x, frame.floor - 12, f"break-even {words}")


def _yours(frame: Frame, n: int) -> Iterator[str]:
    x = frame.x(n)
    yield f'<path class="yours" d="M{x:.1f} {frame.above - 6}V{frame.floor}"/>'
    yield _words("yours-label", min(max(x, frame.left + 40), frame.end - 44), frame.above - 12, f"yours: {n:,}")


def _cross(frame: Frame, n: int) -> Iterator[str]:
    """Draw what follows the reader's pointer, at the asker's number of records."""
    here = int(np.flatnonzero(frame.lines.n == n)[0])
    x = f"{frame.x(n):.1f}"
    yield f'<path class="cross" d="M{x} {frame.above}V{frame.floor}"/>'
    for arm, line in frame.lines.arms.items():
        y = frame.y(float(line.mean[here]))
        yield f'<circle class="cross {CLASSES[arm]}" cx="{x}" cy="{y:.1f}" r="5"/>'


def _box(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"/>'


def _words(kind: str, x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(words)}</text>'


def _beside(frame: Frame, kind: str, x: float, y: float, words: str) -> str:
    """Write next to a vertical line, on the side where there is room."""
    is_left = x > frame.end - _ROOM_FOR_WORDS
    return _words(kind, x - 5 if is_left else x + 5, y, words, "end" if is_left else "start")
