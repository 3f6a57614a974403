"""Learning curves as a figure: all arms with their bands, every run as a point, the break-even, in SVG, PNG or HTML.

Colours are those of ``studies.figure_style``; the arms differ in marker too. Matplotlib draws without a display.
"""

import re
from collections.abc import Sequence
from html import escape
from io import BytesIO
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from advisor.answer.words import count, within_reach
from advisor.text.curve_lines import CurveLines, size_ticks, trace
from studies.figure_style import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, STYLE, to_svg
from studies.files.arms import FINE_TUNE, IN_WORDS, LINEAR_PROBE, RANDOM_CONVOLUTIONS, SCRATCH
from studies.files.curve import Curve, PooledCurve
from studies.files.curves import start_in_words
from studies.files.precision import with_precision

MOST_PANELS = 60
_LOOKS = {
    SCRATCH: (BLUE, "o", 0.97),
    FINE_TUNE: (ORANGE, "^", 1.03),
    LINEAR_PROBE: (GREEN, "s", 0.93),
    RANDOM_CONVOLUTIONS: (PURPLE, "D", 1.07),
}
_LINES: dict[str, Any] = {  # where it was measured
    SCRATCH: "-", FINE_TUNE: "-", LINEAR_PROBE: (0, (7, 1.5, 1.5, 1.5)), RANDOM_CONVOLUTIONS: (0, (1.2, 1.2)),
}  # fmt: skip
_DASHES = {  # beyond; two curves in one place show both colours
    SCRATCH: (0, (4, 3)),
    FINE_TUNE: (3.5, (4, 3)),
    LINEAR_PROBE: (0, (7, 4, 1.5, 4)),
    RANDOM_CONVOLUTIONS: (0, (1.2, 3)),
}
_METRICS = {"auroc_macro": "macro AUROC on the test set"}
_COLUMNS, _WIDTH, _HEIGHT = 3, 4.6, 3.5  # of panels; inches
_LEAST_WIDTH = 6.6  # for the legend
_TITLE, _FACTS = 44, 62  # characters that fit over a panel
_TITLE_LINES = 2
_POINTS = 120
_APART = 0.11  # of two numbers on the axis of records
_DPI = 150
_PAGE_STYLE = (
    "body{font:16px/1.5 sans-serif;color:#222;background:#fff;max-width:90em;margin:2em auto;padding:0 1em}"
    "svg{max-width:100%;height:auto}"
)


def to_bytes(curves: Sequence[Curve], suffix: str, margin: float, title: str, yours: int | None = None) -> bytes:
    """Draw one panel a curve and return the figure as the file of a suffix: .svg, .png or .html.

    ``yours`` is a number of records to mark. The same curves give the same bytes.
    """
    figure = draw_curves(curves, margin, yours)
    if suffix == ".png":
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()
    return (to_svg(figure) if suffix == ".svg" else _to_html(figure, title)).encode()


def draw_curves(curves: Sequence[Curve], margin: float, yours: int | None = None) -> Figure:
    """Return a figure with one panel a curve, sizes on a log axis, the part beyond the measured sizes dashed."""
    columns = min(len(curves), _COLUMNS)
    rows = -(-len(curves) // columns)
    size = max(_WIDTH * columns, _LEAST_WIDTH), _HEIGHT * rows + 0.8
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
        FigureCanvasAgg(figure)
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for panel, curve in zip(panels, curves, strict=False):
            _draw_panel(panel, curve, trace(curve, margin, _POINTS, () if yours is None else (yours,)), yours)
        for panel in panels[len(curves) :]:
            panel.set_visible(False)
        handles = _legend(curves, margin, yours)
        figure.legend(handles=handles, loc="outside lower center", ncols=min(columns + 1, 3), frameon=False)
        figure.draw_without_rendering()
    return figure


def draw_on(panel: Axes, curve: Curve, margin: float, yours: int | None = None) -> None:
    """Draw one curve on axes of somebody else's figure, with a legend below them."""
    with mpl.rc_context(STYLE):
        _draw_panel(panel, curve, trace(curve, margin, _POINTS, () if yours is None else (yours,)), yours)
        handles = _legend([curve], margin, yours)
        panel.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)


def _draw_panel(panel: Axes, curve: Curve, lines: CurveLines, yours: int | None) -> None:
    n, (low, high) = lines.n, lines.measured
    for arm, line in lines.arms.items():
        colour, marker, shift = _LOOKS[arm]
        panel.fill_between(n, line.lower, line.upper, color=colour, alpha=0.15, linewidth=0)
        inside = (n >= low) & (n <= high)
        panel.plot(n[inside], line.mean[inside], color=colour, linewidth=1.8, linestyle=_LINES[arm])
        for beyond in (n <= low, n >= high):
            panel.plot(n[beyond], line.mean[beyond], color=colour, linewidth=1.5, linestyle=_DASHES[arm])
        if lines.points[arm]:
            sizes, scores = zip(*lines.points[arm], strict=True)
            panel.plot([size * shift for size in sizes], scores, linestyle="none", marker=marker, markersize=4,
                       color=colour, markeredgecolor="white", markeredgewidth=0.4, alpha=0.85)  # fmt: skip
    panel.set_ylim(lines.bottom, lines.top)
    _label(panel, curve, lines)
    if yours is not None:
        panel.axvline(yours, color=INK, linewidth=1.4)
    if lines.even is not None:
        _mark_break_even(panel, lines, at_left=yours is not None and yours**2 > n[0] * n[-1])


def _label(panel: Axes, curve: Curve, lines: CurveLines) -> None:
    from_tasks = f"as {len(curve.tasks)} tasks were, " if isinstance(curve, PooledCurve) else ""
    source = f"{start_in_words(curve.upstream)}, " if FINE_TUNE in curve.draws else ""
    known = _fitted(f"{from_tasks}{source}{count(curve.runs, 'run')}", _FACTS)
    title = f"{curve.task} · {with_precision(curve.arch, curve.precision)}"
    panel.set_title(_fitted(title, _TITLE), loc="left", fontweight="bold",
                    pad=6 + 10 * (known.count("\n") + 1))  # fmt: skip
    panel.text(0, 1.02, known, transform=panel.transAxes, fontsize=8, color=FAINT)
    first, last = lines.n[0], lines.n[-1]
    panel.set_xscale("log")
    panel.set_xlim(first, last)
    panel.xaxis.set_major_locator(FixedLocator(size_ticks(curve.sizes, first, last, _APART)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.set_xlabel("labelled records (training and validation), log scale")
    panel.set_ylabel(_METRICS.get(curve.metric, curve.metric))
    panel.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    panel.set_axisbelow(True)
    for left, right in ((first, lines.measured[0]), (lines.measured[1], last)):
        panel.axvspan(left, right, color="#000000", alpha=0.03, linewidth=0)


def _fitted(text: str, width: int) -> str:
    """Break a text into lines that do not run into the next panel; take the middle out of one that needs too many."""
    most = width * _TITLE_LINES - 8  # breaking at words loses some room
    half = most // 2 - 2
    whole = text if len(text) <= most else f"{text[:half].rstrip()} … {text[-half:].lstrip()}"
    return "\n".join(wrap(whole, width))


def _mark_break_even(panel: Axes, lines: CurveLines, at_left: bool) -> None:
    """Draw the median break-even as a line and its interval as a bar under the curves, and say both in words.

    The words go below the curves, at the right, or above them, at the left.
    """
    even, left, right = lines.even, lines.n[0], lines.n[-1]
    assert even is not None
    lower, upper = (right if end is None else min(max(end, left), right) for end in (even.lower, even.upper))
    bar: Any = {"color": INK, "linewidth": 4, "alpha": 0.35, "solid_capstyle": "butt"}
    panel.plot((lower, upper), (lines.bottom, lines.bottom), clip_on=False, **bar)
    if even.median is not None and left <= even.median <= right:
        panel.axvline(even.median, color=INK, linewidth=1, linestyle=":")
    words = [within_reach(value, lines.least) for value in (even.median, even.lower, even.upper)]
    x, y, ha, va = (0.02, 0.97, "left", "top") if at_left else (0.98, 0.05, "right", "bottom")
    panel.text(x, y, f"break-even {words[0]}\n90 %: {words[1]} to {words[2]}", transform=panel.transAxes,
               ha=ha, va=va, fontsize=8, linespacing=1.3,
               bbox={"facecolor": "white", "alpha": 0.9, "edgecolor": "none", "pad": 1.5})  # fmt: skip


def _legend(curves: Sequence[Curve], margin: float, yours: int | None) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = []
    arms = [arm for arm in _LOOKS if any(arm in curve.draws for curve in curves)]
    points = "means of tasks" if all(isinstance(curve, PooledCurve) for curve in curves) else "single runs"
    for arm in arms:
        words, (colour, marker, _) = IN_WORDS[arm], _LOOKS[arm]
        handles.append(
            Line2D([], [], color=colour, linestyle=_LINES[arm], marker=marker, markersize=5,
                   label=f"{words}: mean, {points}")
        )  # fmt: skip
    handles.append(Patch(color=FAINT, alpha=0.3, label="90 % band of the mean"))
    handles.append(Line2D([], [], color=FAINT, linestyle=_DASHES[SCRATCH], label="extrapolated"))
    if FINE_TUNE in arms:
        words = f"break-even: gain stays under {margin:g} beyond"
        handles.append(Line2D([], [], color=INK, linestyle=":", label=words))
        handles.append(Line2D([], [], color=INK, linewidth=4, alpha=0.35, label="its 90 % interval"))
    if yours is not None:
        handles.append(Line2D([], [], color=INK, linewidth=1.4, label=f"yours: {yours:,} records"))
    return handles


def _to_html(figure: Figure, title: str) -> str:
    """Return a page that holds the figure as inline SVG and asks for nothing from the network."""
    svg = to_svg(figure)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=2)  # HTML knows the namespaces of SVG
    svg = re.sub(r"<svg ", f'<svg role="img" aria-label="{escape(title)}" ', svg, count=1)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_PAGE_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{svg}\n</body></html>\n"
    )
