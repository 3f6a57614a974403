"""The figures of the findings: the gain by number of records, task by task, by source and by arm."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from studies.figure_style import BLUE, FAINT, GREEN, INK, ORANGE, STYLE
from studies.files.arms import FINE_TUNE, IN_WORDS, LINEAR_PROBE, RANDOM_CONVOLUTIONS
from studies.fitting.random_effects import Combined, OverSources
from studies.runs.pairs import SizeGain

_PANEL, _LINE = (4.4, 3.3), 0.26  # inches
_APART = 1.45  # two numbers of records nearer than that would write over each other
_FRAME = (-0.12, 0.26)  # of gains by source, in AUROC
_COLOURS = {FINE_TUNE: ORANGE, LINEAR_PROBE: BLUE, RANDOM_CONVOLUTIONS: GREEN}
_MARKERS = {FINE_TUNE: "o", LINEAR_PROBE: "s", RANDOM_CONVOLUTIONS: "^"}


def draw_gains(
    gains: Sequence[SizeGain], by_task: Mapping[str, Mapping[str, Mapping[int, float]]], margin: float
) -> Figure:
    """Draw the gain by number of records, one panel a family: over tasks with its interval, and every task's mean.

    Sizes that fewer than half of a family's tasks were run at are hollow: a line through them would compare tasks.
    ``by_task`` has family, task and number of records.
    """
    families = sorted({gain.family for gain in gains})
    figure, panels = _figure(len(families), _PANEL)
    for panel, family in zip(panels, families, strict=True):
        for of_task in by_task.get(family, {}).values():
            panel.plot(list(of_task), list(of_task.values()), color=FAINT, linewidth=0.8, alpha=0.7)
        here = [gain for gain in gains if gain.family == family]
        n_tasks = max(len(gain.gain.tasks) for gain in here)
        of_most = [gain for gain in here if 2 * len(gain.gain.tasks) >= n_tasks]
        _draw_over_tasks(panel, of_most, filled=True)
        _draw_over_tasks(panel, [gain for gain in here if gain not in of_most], filled=False)
        panel.axhspan(-margin, margin, color="#000000", alpha=0.06, linewidth=0)
        _label_sizes(panel, [gain.n_records for gain in here])
        panel.set_title(f"{family}: {n_tasks} task{'s' * (n_tasks > 1)}", loc="left", fontweight="bold")
    panels[0].set_ylabel("gain in macro AUROC")
    return figure


def _draw_over_tasks(panel: Axes, gains: Sequence[SizeGain], *, filled: bool) -> None:
    """Draw means over tasks with their intervals, hollow and unconnected where few tasks stand behind them."""
    effects = [gain.gain for gain in gains]
    middle = [one.effect for one in effects]
    reach = [[one.effect - one.ci_lower for one in effects], [one.ci_upper - one.effect for one in effects]]
    panel.errorbar([gain.n_records for gain in gains], middle, yerr=reach, color=ORANGE, marker="o", markersize=4,
                   markerfacecolor=ORANGE if filled else "white", linewidth=1.8 if filled else 0,
                   elinewidth=1.8 if filled else 0.9, capsize=3)  # fmt: skip


def draw_tasks(by_family: Mapping[str, Mapping[str, Combined]], margin: float, title: str) -> Figure:
    """Draw one line a task with its mean gain and 90 % interval, the families in two colours."""
    tasks = sorted({task for found in by_family.values() for task in found})
    figure, (panel,) = _figure(1, (6.4, 1.2 + _LINE * len(tasks)))
    for k, (family, found) in enumerate(sorted(by_family.items())):
        rows = [tasks.index(task) + 0.14 * k for task in found]
        middle = np.array([one.effect for one in found.values()])
        low, high = (np.array([getattr(one, end) for one in found.values()]) for end in ("ci_lower", "ci_upper"))
        panel.errorbar(middle, rows, xerr=[middle - low, high - middle], linestyle="none", marker="o^sD"[k % 4],
                       markersize=4, capsize=2, color=(ORANGE, BLUE, "#009E73", INK)[k % 4], label=family)  # fmt: skip
    panel.axvspan(-margin, margin, color="#000000", alpha=0.06, linewidth=0)
    panel.axvline(0, color=FAINT, linewidth=0.8)
    panel.set_yticks(range(len(tasks)), tasks)
    panel.invert_yaxis()
    panel.set_xlabel("fine-tuned minus from scratch, macro AUROC, 90 % interval")
    panel.set_title(title, loc="left", fontweight="bold")
    panel.legend(frameon=False)
    return figure


def draw_sources(
    by_source: Mapping[tuple[str, int], Mapping[str, Combined]],
    over: Mapping[tuple[str, int], OverSources],
    margin: float,
) -> Figure:
    """Draw one line a source with its gain, one panel a size, the arms in colours; below them all sources together."""
    sources = sorted({source for found in by_source.values() for source in found})
    arms, sizes = (list(dict.fromkeys(part)) for part in zip(*by_source, strict=True))
    figure, panels = _figure(len(sizes), (2.5, 1.5 + 0.34 * (len(sources) + 1)))
    for panel, n in zip(panels, sizes, strict=True):
        for k, arm in enumerate(arms):
            shift, colour, marker = 0.3 * k - 0.15 * (len(arms) - 1), _COLOURS[arm], _MARKERS[arm]
            for source, one in by_source.get((arm, n), {}).items():
                _draw_interval(panel, one, sources.index(source) + shift, colour, marker)
            if found := over.get((arm, n)):
                row = len(sources) + 0.25 + shift
                if found.prediction:
                    panel.plot(found.prediction, (row, row), color=colour, linewidth=0.8)
                _draw_interval(panel, found, row, colour, "D")
            panel.plot([], [], color=colour, marker=marker, markersize=4, linewidth=1.4, label=IN_WORDS[arm])
        panel.axvspan(-margin, margin, color="#000000", alpha=0.06, linewidth=0)
        panel.axvline(0, color=FAINT, linewidth=0.8)
        panel.axhline(len(sources) - 0.4, color=FAINT, linewidth=0.6)
        panel.set_xlim(*_FRAME)
        panel.set_title(f"{n:,} records", loc="left", fontweight="bold")
    panels[0].set_yticks([*range(len(sources)), len(sources) + 0.25], [*sources, "over sources"])
    panels[0].invert_yaxis()
    figure.supxlabel("gain over training from scratch, macro AUROC, 90 % interval", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", frameon=False, ncols=len(arms))
    return figure


def _draw_interval(panel: Axes, one: Combined | OverSources, row: float, colour: str, marker: str) -> None:
    panel.plot((one.ci_lower, one.ci_upper), (row, row), color=colour, linewidth=1.6, solid_capstyle="butt")
    panel.plot(one.effect, row, color=colour, marker=marker, markersize=4)


def draw_arms(by_family: Mapping[str, Mapping[tuple[str, int], Combined | OverSources]], margin: float) -> Figure:
    """Draw what every arm scores above scratch by number of records, one panel a family."""
    figure, panels = _figure(len(by_family), _PANEL)
    for panel, (family, found) in zip(panels, by_family.items(), strict=True):
        arms = list(dict.fromkeys(arm for arm, _ in found))
        for k, arm in enumerate(arms):
            here = {n: one for (name, n), one in found.items() if name == arm}
            effects = list(here.values())
            reach = [
                [one.effect - one.ci_lower for one in effects],
                [one.ci_upper - one.effect for one in effects],
            ]
            panel.errorbar([n * 1.07 ** (k - 1) for n in here], [one.effect for one in effects], yerr=reach,
                           color=_COLOURS[arm], marker=_MARKERS[arm], markersize=4, linewidth=1.4, elinewidth=1,
                           capsize=2, label=IN_WORDS[arm])  # fmt: skip
        panel.axhspan(-margin, margin, color="#000000", alpha=0.06, linewidth=0)
        _label_sizes(panel, sorted({n for _, n in found}))
        panel.set_title(family, loc="left", fontweight="bold")
    panels[0].set_ylabel("macro AUROC minus from scratch")
    panels[0].legend(frameon=False)
    return figure


def _figure(columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1]), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
        FigureCanvasAgg(figure)
        panels = list(figure.subplots(1, columns, squeeze=False, sharey=True).flat)
    return figure, panels


def _label_sizes(panel: Axes, sizes: Sequence[int]) -> None:
    panel.set_xscale("log")
    named = [n for before, n in pairwise([0, *sizes]) if n > _APART * before]
    panel.xaxis.set_major_locator(FixedLocator(named))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.tick_params(axis="x", rotation=45)
    panel.axhline(0, color=FAINT, linewidth=0.8)
    panel.set_xlabel("labelled records (training and validation), log scale")
