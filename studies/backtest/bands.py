"""How the forecasts of single figures did: of each arm's mean score, of the gain and of single runs.

What was measured is the truth and noise. A forecast is held against it as a forecast of the measurement, its draws
widened by that noise; widths are given before that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from studies.backtest.clusters import Sample
from studies.backtest.hold_out import HeldOut
from studies.backtest.predictive import crps, log_score, probability_below, quantile
from studies.files.arms import ARMS, FINE_TUNE, PAIR
from studies.files.draws import BAND, Floats

MEANS = ("scratch", "fine_tune", "gain")
BANDS = (*MEANS, "scratch_run", "fine_tune_run")
_LEAST_SD = 1e-6  # of a run: draws without any spread have no distribution function
_STRATEGY = {arm.field: arm.strategy for arm in ARMS}


@dataclass(frozen=True)
class Figures:
    """What is said of the bands of some cells, by name. What cannot be given is None.

    ``coverage`` is the share of 90 % bands that held what was measured and ``coverage_se`` its standard error with
    tasks as clusters; ``width`` the mean width; ``log_score`` (higher is better) and ``crps`` (lower is better, in
    units of the score) judge the whole forecast distribution of a mean or a gain.
    """

    cells: int
    distinct_cells: int
    coverage: Mapping[str, float | None]
    coverage_se: Mapping[str, float | None]
    width: Mapping[str, float | None]
    log_score: Mapping[str, float | None]
    crps: Mapping[str, float | None]


@dataclass(frozen=True)
class Judged:
    """One forecast held against what was measured; of single runs the share that the band held, and no score."""

    held: float
    width: float
    log_score: float | None = None
    crps: float | None = None


def judge_bands(cell: HeldOut) -> dict[str, Judged]:
    """Judge everything that was predicted and measured of a cell."""
    scores = cell.forecast.scores
    found = {
        name: _judge(scores[arm], *cell.truth.of({arm: 1.0}))
        for name, arm in _STRATEGY.items()
        if arm in scores and arm in cell.measured
    }
    if FINE_TUNE in cell.measured:
        found["gain"] = _judge(cell.gain_draws, *cell.truth.gain)
    for arm in PAIR:
        if arm.strategy in cell.measured:
            found[f"{arm.field}_run"] = _judge_runs(cell, arm.strategy)
    return found


def summarise_bands(cells: Sequence[HeldOut], judged: Sequence[Mapping[str, Judged]], names: Iterable[str]) -> Figures:
    """Summarise the bands of these names over cells."""
    names = tuple(names)
    of_name = {
        name: [(cell, one[name]) for cell, one in zip(cells, judged, strict=True) if name in one] for name in names
    }
    samples = {name: sample_of([cell for cell, _ in found]) for name, found in of_name.items()}
    held = {name: [one.held for _, one in found] for name, found in of_name.items()}
    scored = [name for name in names if not name.endswith("_run")]
    return Figures(
        cells=len(cells),
        distinct_cells=sample_of(cells).distinct,
        coverage={name: samples[name].mean(held[name]) for name in names},
        coverage_se={name: samples[name].error(held[name]) for name in names},
        width={name: samples[name].mean([one.width for _, one in of_name[name]]) for name in names},
        log_score={name: samples[name].mean([one.log_score or 0.0 for _, one in of_name[name]]) for name in scored},
        crps={name: samples[name].mean([one.crps or 0.0 for _, one in of_name[name]]) for name in scored},
    )


def sample_of(cells: Sequence[HeldOut]) -> Sample:
    """Return the cells as a sample: one that several schemes predict counts once."""
    return Sample.of([(cell.cell, cell.table.task) for cell in cells])


def _judge(draws: Floats, measured: float, error: float) -> Judged:
    low, high = np.quantile(draws, BAND)
    held = BAND[0] <= probability_below(measured, draws, error) <= BAND[1]
    return Judged(float(held), float(high - low), log_score(measured, draws, error), crps(measured, draws, error))


def _judge_runs(cell: HeldOut, arm: str) -> Judged:
    draws, sd = cell.forecast.scores[arm], max(cell.forecast.run_sd[arm], _LEAST_SD)
    with_patients = float(np.hypot(sd, cell.patients_sd.get(arm, 0.0)))
    below = [probability_below(value, draws, with_patients) for value in cell.measured[arm]]
    held = np.mean([BAND[0] <= share <= BAND[1] for share in below])
    return Judged(float(held), quantile(BAND[1], draws, sd) - quantile(BAND[0], draws, sd))
