"""The figures of the findings: the gain by number of records, and task by task."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from studies.figure_style import BLUE, FAINT, INK, ORANGE, STYLE
from studies.fitting.random_effects import Combined
from studies.runs.pairs import SizeGain

_PANEL, _LINE = (4.4, 3.3), 0.26  # inches


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


def _figure(columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1]), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
        FigureCanvasAgg(figure)
        panels = list(figure.subplots(1, columns, squeeze=False, sharey=True).flat)
    return figure, panels


def _label_sizes(panel: Axes, sizes: Sequence[int]) -> None:
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(sizes))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.tick_params(axis="x", rotation=45)
    panel.axhline(0, color=FAINT, linewidth=0.8)
    panel.set_xlabel("labelled records (training and validation), log scale")
