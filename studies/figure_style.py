"""The look of every figure, and SVG that is the same bytes for the same data.

Colours are those of Okabe and Ito, which colour-blind readers tell apart. Matplotlib is loaded only by who draws.
"""

from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, FAINT = "#222222", "#777777"
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
STYLE: Any = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": FAINT, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "svg.fonttype": "none", "svg.hashsalt": "ecgadvise", "font.family": ["DejaVu Sans"],
}  # fmt: skip


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG without a date or a random name in it."""
    buffer = StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return buffer.getvalue()
