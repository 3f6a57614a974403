"""What a figure marks lies inside of it: the asker's number of records, every measured point, scores near 1."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from advisor.answer.recommend import Question, recommend
from advisor.report.chart import chart, gain_chart
from advisor.text.curve_figure import draw_curves
from advisor.text.curve_lines import trace, with_points
from studies.files.curve import Curve, PilotCurve, PooledCurve
from studies.files.curves import CurvesFile, read_curves
from studies.files.shipped import DEFAULT_CURVES


@pytest.fixture(scope="module")
def curves() -> CurvesFile:
    return read_curves(DEFAULT_CURVES)


def drawn(curves: CurvesFile, n: int, task: str | None = None) -> Curve:
    return with_points(recommend(Question(n, "cnn", task=task), curves).curve, curves)


def near_one(curve: Curve) -> Curve:
    """The curve with one more run that is next to perfect at its smallest and its largest size."""
    ends = dict.fromkeys((min(curve.sizes), max(curve.sizes)), (0.99999,))
    return replace(curve, points={arm: {**by_size, **ends} for arm, by_size in curve.points.items()})


CASES = [
    (25, None),
    (26, None),
    (8000, None),
    (13, "ludb/diagnoses"),
    (560, "ludb/diagnoses"),
    (16_000, "ptb-xl/superclass"),
]


@pytest.mark.parametrize(("n", "task"), CASES)
def test_the_range_of_a_figure_holds_every_mark(curves: CurvesFile, n: int, task: str | None):
    if task == "ptb-xl/superclass":
        curves = replace(curves, curves=tuple(one for one in curves.curves if one.upstream != "ptb-xl/all"))
    curve = near_one(drawn(curves, n, task))
    (panel,) = draw_curves([curve], 0.01, n).axes[:1]
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    assert left < n < right
    for line in panel.get_lines():
        if line.get_linestyle() == "None":
            x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            assert left < x.min() <= x.max() < right
            assert bottom < y.min() <= y.max() < top


@pytest.mark.parametrize(("n", "task"), CASES[:-1])
def test_the_marks_of_a_page_s_charts_lie_inside_their_axes(curves: CurvesFile, n: int, task: str | None):
    answer = recommend(Question(n, "cnn", task=task), curves)
    lines = trace(near_one(with_points(answer.curve, curves)), 0.01, 60, (n,))
    for svg in re.findall(r"<svg.*?</svg>", chart(answer, lines, "AUROC", "") + gain_chart(answer, lines, "gain", "")):
        width, height = (int(side) for side in re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
        inside = re.findall(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"/></clipPath>', svg)
        left, above, wide, high = map(int, inside[0])
        (yours,) = re.findall(r'class="yours" d="M([\d.-]+) ', svg)
        assert left <= float(yours) <= left + wide < width
        for shape in re.findall(r'class="points \w+" d="([^"]*)"', svg):
            for x, y in re.findall(r"M([\d.-]+) ([\d.-]+)", shape):
                assert left <= float(x) <= left + wide
                assert above <= float(y) <= above + high < height


def test_the_points_of_a_pilot_at_any_size_are_in_the_range(curves: CurvesFile):
    pool = next(curve for curve in curves.curves if isinstance(curve, PooledCurve))
    shared = {name: getattr(pool, name) for name in Curve.__dataclass_fields__} | {"task": "mine", "runs": 4}
    points = {"scratch": {20: (0.6,), 12_000: (1.0,)}, "fine-tune": {20: (0.7,), 12_000: (1.0,)}}
    pilot = PilotCurve(**{**shared, "points": points}, predicted_by=pool)
    lines = trace(pilot, 0.01, 60, (300,))
    assert lines.n[0] < 20
    assert lines.n[-1] > 12_000
    assert lines.top > 1


def test_a_plot_far_from_what_was_measured_is_written(tmp_path: Path, command):
    target = tmp_path / "far.png"
    assert command("recommend", "--n-records", 25, "--arch", "cnn", "--plot", target)[0] == 0
    assert target.stat().st_size > 10_000
    refused = tmp_path / "beyond.png"
    assert command("recommend", "--n-records", 100_000, "--arch", "cnn", "--plot", refused)[0] == 4
    assert not refused.exists()
