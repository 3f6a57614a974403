"""Learning curves as a figure: both arms with their bands, every run as a point, the break-even, in SVG, PNG or HTML.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; the arms differ in marker too. Matplotlib
draws without a display and is loaded only here.
"""

import re
from collections.abc import Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from studies.curve_draws import BAND, FINE_TUNE, REACH, SCRATCH, break_even, chance_level, interval
from studies.curves_file import PairedCurve

SUFFIXES = (".svg", ".png", ".html")
MOST_PANELS = 60
_LOOKS = {SCRATCH: ("from scratch", "#0072B2", "o", 0.97), FINE_TUNE: ("fine-tuned", "#D55E00", "^", 1.03)}
_INK, _FAINT = "#222222", "#777777"
_METRICS = {"auroc_macro": "macro AUROC on the test set"}
_COLUMNS, _WIDTH, _HEIGHT = 3, 4.6, 3.5  # of panels; inches
_LEAST_WIDTH = 6.2  # for the legend
_TITLE, _SUBTITLE = 42, 58  # characters that fit over a panel
_POINTS = 120
_DPI = 150
_STYLE: Any = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": _FAINT, "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "svg.fonttype": "none", "svg.hashsalt": "ecgadvise", "font.family": ["DejaVu Sans"],
}  # fmt: skip
_PAGE_STYLE = (
    "body{font:16px/1.5 sans-serif;color:#222;max-width:90em;margin:2em auto;padding:0 1em}"
    "svg{max-width:100%;height:auto}"
)


def write_chart(curves: Sequence[PairedCurve], path: Path, margin: float, title: str) -> None:
    """Draw one panel a curve and write the figure in the format of the path's suffix, one of SUFFIXES.

    The same curves give the same bytes. Raises OSError.
    """
    figure = draw_curves(curves, margin)
    if path.suffix == ".png":
        figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    elif path.suffix == ".svg":
        path.write_text(_to_svg(figure), encoding="utf-8")
    else:
        path.write_text(_to_html(figure, title), encoding="utf-8")


def draw_curves(curves: Sequence[PairedCurve], margin: float) -> Figure:
    """Return a figure with one panel a curve, sizes on a log axis, the part beyond the measured sizes dashed."""
    columns = min(len(curves), _COLUMNS)
    rows = -(-len(curves) // columns)
    size = max(_WIDTH * columns, _LEAST_WIDTH), _HEIGHT * rows + 0.8
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
        FigureCanvasAgg(figure)
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for panel, curve in zip(panels, curves, strict=False):
            _draw_panel(panel, curve, margin)
        for panel in panels[len(curves) :]:
            panel.set_visible(False)
        arms = [arm for arm in _LOOKS if any(arm in curve.draws for curve in curves)]
        figure.legend(
            handles=_legend(arms, margin), loc="outside lower center", ncols=min(columns + 1, 3), frameon=False
        )
        figure.draw_without_rendering()
    return figure


def _draw_panel(panel: Axes, curve: PairedCurve, margin: float) -> None:
    low, high = min(curve.sizes), max(curve.sizes)
    n = np.geomspace(low / 1.15, high * REACH, _POINTS)
    inside, beyond = n <= high * 1.05, n >= high
    floor, ceiling = [], []
    for arm in (arm for arm in _LOOKS if arm in curve.draws):
        _, colour, marker, shift = _LOOKS[arm]
        scores = curve.scores(arm, n)
        bottom, top = np.quantile(scores, BAND, axis=0)
        mean = scores.mean(axis=0)
        panel.fill_between(n, bottom, top, color=colour, alpha=0.15, linewidth=0)
        panel.plot(n[inside], mean[inside], color=colour, linewidth=1.8)
        panel.plot(n[beyond], mean[beyond], color=colour, linewidth=1.5, linestyle=(0, (4, 2)))
        points = [(size * shift, value) for size, values in curve.points.get(arm, {}).items() for value in values]
        if points:
            panel.plot(*zip(*points, strict=True), linestyle="none", marker=marker, markersize=4, color=colour,
                       markeredgecolor="white", markeredgewidth=0.4, alpha=0.85)  # fmt: skip
        floor.append(min([value for _, value in points] or [float(bottom[inside].min())]))
        ceiling.append(max([value for _, value in points] + [float(top.max())]))
    span = max(max(ceiling) - min(floor), 0.02)
    panel.set_ylim(min(floor) - 0.08 * span, max(ceiling) + 0.12 * span)
    _label(panel, curve, n)
    if FINE_TUNE in curve.draws:
        _mark_break_even(panel, curve, margin)


def _label(panel: Axes, curve: PairedCurve, n: np.ndarray) -> None:
    from_tasks = f"as {len(curve.tasks)} tasks were, " if curve.pooled else ""
    source = f"pre-trained on {curve.upstream}, " if FINE_TUNE in curve.draws else ""
    facts = _shorten(f"{from_tasks}{source}{curve.runs} runs", _SUBTITLE)
    panel.set_title(_shorten(f"{curve.task} · {curve.arch}", _TITLE), loc="left", fontweight="bold", pad=16)
    panel.text(0, 1.02, facts, transform=panel.transAxes, fontsize=8, color=_FAINT)
    panel.set_xscale("log")
    panel.set_xlim(n[0], n[-1])
    ticks = [k * 10**p for p in range(13) for k in (1, 3) if n[0] <= k * 10**p <= n[-1]]
    panel.xaxis.set_major_locator(
        FixedLocator(ticks if len(ticks) > 1 else sorted({min(curve.sizes), max(curve.sizes)}))
    )
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.set_xlabel("labelled records (training and validation), log scale")
    panel.set_ylabel(_METRICS.get(curve.metric, curve.metric))
    panel.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.axvspan(max(curve.sizes), n[-1], color="#000000", alpha=0.03, linewidth=0)


def _shorten(text: str, longest: int) -> str:
    """Take the middle out of a text that would run into the next panel."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half].rstrip()} … {text[-half:].lstrip()}"


def _mark_break_even(panel: Axes, curve: PairedCurve, margin: float) -> None:
    """Draw the median break-even as a line and its interval as a bar under the curves, and say both in words."""
    low, high = min(curve.sizes), max(curve.sizes)
    even = interval(break_even(curve.draws, margin, low, high, chance_level(curve.metric)))
    left, right = panel.get_xlim()
    lower, upper = (right if end is None else min(max(end, left), right) for end in (even.lower, even.upper))
    bottom = panel.get_ylim()[0]
    bar: Any = {"color": _INK, "linewidth": 4, "alpha": 0.35, "solid_capstyle": "butt"}
    panel.plot((lower, upper), (bottom, bottom), clip_on=False, **bar)
    if even.median is not None and left <= even.median <= right:
        panel.axvline(even.median, color=_INK, linewidth=1, linestyle=":")
    words = [_records(value, low / REACH) for value in (even.median, even.lower, even.upper)]
    panel.text(0.98, 0.05, f"break-even {words[0]}\n90 %: {words[1]} to {words[2]}", transform=panel.transAxes,
               ha="right", va="bottom", fontsize=8, linespacing=1.3,
               bbox={"facecolor": "white", "alpha": 0.9, "edgecolor": "none", "pad": 1.5})  # fmt: skip


def _records(value: float | None, least: float) -> str:
    if value is None:
        return "out of reach"
    return f"under {least:,.0f}" if value <= least else f"{value:,.0f}"


def _legend(arms: Sequence[str], margin: float) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = []
    for arm in arms:
        words, colour, marker, _ = _LOOKS[arm]
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, label=f"{words}: mean, single runs"))
    handles.append(Patch(color=_FAINT, alpha=0.3, label="90 % band of the mean"))
    handles.append(Line2D([], [], color=_FAINT, linestyle=(0, (4, 2)), label="extrapolated"))
    if FINE_TUNE in arms:
        words = f"break-even: gain stays under {margin:g} beyond"
        handles.append(Line2D([], [], color=_INK, linestyle=":", label=words))
        handles.append(Line2D([], [], color=_INK, linewidth=4, alpha=0.35, label="its 90 % interval"))
    return handles


def _to_svg(figure: Figure) -> str:
    buffer = StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return buffer.getvalue()


def _to_html(figure: Figure, title: str) -> str:
    """Return a page that holds the figure as inline SVG and asks for nothing from the network."""
    svg = _to_svg(figure)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=2)  # HTML knows the namespaces of SVG
    svg = re.sub(r"<svg ", f'<svg role="img" aria-label="{escape(title)}" ', svg, count=1)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_PAGE_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{svg}\n</body></html>\n"
    )
