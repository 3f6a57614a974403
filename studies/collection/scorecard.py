"""How forecasts of held-out cells did: regret of policies, coverage and width of bands, abstention, Brier score.

The truth of a cell is the mean of its replicates, which is itself uncertain: bands are widened by that before they are
asked to cover it, and ``noise`` says how large it is. Chance alone gives every policy some regret where the arms are
nearly equal. The decision is the adviser's: it is passed in, so that nothing here imports it.

Policies. ``advice`` does what the verdict says, and takes the better expected score where the verdict is that there is
no material difference or not enough evidence. ``last_value`` takes the arm that was better at the largest size left in,
for a held-out task the one that was better on average over the other tasks at the nearest size.

Where all arms were measured in a cell of a held-out task, ``score_arms`` asks which of them would be named first, the
one with the best expected score, and what that loses against the best of all.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.seeds import stable_seed
from studies.collection.backtest import HeldOut
from studies.files.arms import ARMS, FINE_TUNE, SCRATCH
from studies.files.backtest import ARM_POLICIES, POLICIES
from studies.files.draws import BAND
from studies.files.gain import summarise_loss
from studies.runs.run_tables import gain_and_error, mean_and_error

Floats = NDArray[np.float64]
Decide = Callable[[Floats, float], str]  # (draws of the gain, margin) -> verdict

BANDS = ("scratch", "fine_tune", "gain", "scratch_run", "fine_tune_run")
_BELOW = 5000  # the rule of thumb: fine-tune below that many records
_RESAMPLES = 1000


@dataclass(frozen=True)
class Scorecard:
    """How the forecasts of some held-out cells did. What cannot be given is None.

    ``regret``: score lost against the better arm, a policy, mean over cells, and ``regret_ci`` its 90 % interval over
    resampled tasks. ``coverage`` and ``width``: of the 90 % bands of the mean scores and the gain, and of single runs.
    ``error``: mean absolute error of the expected scores, compared with that of the last value. ``abstention``: share
    of cells without enough evidence. ``brier``: of P(gain > margin), compared with that of always giving the share of
    cells in which it was. ``noise``: mean standard error of the measured gains.
    """

    cells: int
    regret: Mapping[str, float | None]
    regret_ci: Mapping[str, tuple[float, float] | None]
    coverage: Mapping[str, float | None]
    width: Mapping[str, float | None]
    error: Mapping[str, float | None]
    abstention: float | None
    brier: Mapping[str, float | None]
    noise: float | None


@dataclass(frozen=True)
class ArmsCard:
    """What naming one of all arms lost in the cells in which all of them were measured and predicted.

    ``regret`` and ``regret_ci`` are those of policies (``ARM_POLICIES``) against the arm with the best measured mean.
    ``bound`` is the mean 90 % bound of the loss that comes with the advice, ``bounded`` the share of answers in which
    it is at most the margin, ``beyond`` that in which the measured loss was above it.
    """

    cells: int
    regret: Mapping[str, float | None]
    regret_ci: Mapping[str, tuple[float, float] | None]
    bound: float | None
    bounded: float | None
    beyond: float | None


def score_arms(cells: Sequence[HeldOut], margin: float) -> ArmsCard:
    """Compare the arm that would be named first with what was measured of all arms."""
    whole = [cell for cell in cells if all(arm.strategy in {**cell.measured, **cell.further} for arm in ARMS)]
    whole = [cell for cell in whole if all(arm.strategy in cell.forecast.scores for arm in ARMS)]
    regret: list[dict[str, float]] = []
    bounds: list[float] = []
    for cell in whole:
        means = {arm: mean_and_error(values)[0] for arm, values in {**cell.measured, **cell.further}.items()}
        drawn = {arm.strategy: cell.forecast.scores[arm.strategy] for arm in ARMS}
        named = max(drawn, key=lambda arm: float(drawn[arm].mean()))
        lost = {f"always_{arm.field}": max(means.values()) - means[arm.strategy] for arm in ARMS}
        regret.append({**lost, "advice": max(means.values()) - means[named]})
        bounds.append(summarise_loss(np.max(list(drawn.values()), axis=0) - drawn[named]).upper)
    return ArmsCard(
        cells=len(whole),
        regret={policy: _mean([one[policy] for one in regret]) for policy in ARM_POLICIES},
        regret_ci=_resample_tasks([cell.table.task for cell in whole], regret, tuple(ARM_POLICIES)),
        bound=_mean(bounds),
        bounded=_mean([bound <= margin for bound in bounds]),
        beyond=_mean([one["advice"] > bound for one, bound in zip(regret, bounds, strict=True)]),
    )


def score_forecasts(cells: Sequence[HeldOut], decide: Decide, margin: float) -> Scorecard:
    """Compare forecasts with what was measured."""
    paired = [cell for cell in cells if FINE_TUNE in cell.measured]
    gains = [gain_and_error(cell.measured) for cell in paired]
    verdicts = [decide(cell.gain_draws, margin) for cell in paired]
    regret = [_regret(cell, gain, verdict) for cell, (gain, _), verdict in zip(paired, gains, verdicts, strict=True)]
    came_true = np.array([gain > margin for gain, _ in gains])
    predicted = np.array([float((cell.gain_draws > margin).mean()) for cell in paired])
    bands = [_bands(cell) for cell in cells]
    return Scorecard(
        cells=len(cells),
        regret={policy: _mean([one[policy] for one in regret]) for policy in POLICIES},
        regret_ci=_resample_tasks([cell.table.task for cell in paired], regret),
        coverage={name: _mean([hit for one in bands for hit in one.get(name, _NO_BAND).hits]) for name in BANDS},
        width={name: _mean([one[name].width for one in bands if name in one]) for name in BANDS},
        error=_errors(cells),
        abstention=_mean([verdict == "not-enough-evidence" for verdict in verdicts]),
        brier={
            "advice": _mean((predicted - came_true) ** 2),
            "base_rate": _mean((came_true.mean() - came_true) ** 2) if len(came_true) else None,
        },
        noise=_mean([error for _, error in gains]),
    )


@dataclass(frozen=True)
class _Band:
    hits: tuple[bool, ...]
    width: float


_NO_BAND = _Band((), 0.0)


def _regret(cell: HeldOut, gain: float, verdict: str) -> dict[str, float]:
    """Return the score that each policy loses against the better arm, whose lead over the other is the gain."""
    expected = float(cell.gain_draws.mean())
    last = cell.forecast.last
    fine_tunes = {
        "advice": verdict == FINE_TUNE or (verdict != SCRATCH and expected > 0),
        "always_fine_tune": True,
        "always_scratch": False,
        "below_5000": cell.n_records < _BELOW,
        "last_value": last[FINE_TUNE] > last[SCRATCH],
    }
    return {policy: max(gain, 0.0) - gain if chosen else max(gain, 0.0) for policy, chosen in fine_tunes.items()}


def _resample_tasks(
    tasks: Sequence[str], regret: Sequence[Mapping[str, float]], policies: Sequence[str] = tuple(POLICIES)
) -> dict[str, tuple[float, float] | None]:
    """Return the 90 % interval of the mean regret when tasks are drawn anew; None where there is one task."""
    by_task = defaultdict(list)
    for task, one in zip(tasks, regret, strict=True):
        by_task[task].append([one[policy] for policy in policies])
    if len(by_task) < 2:
        return dict.fromkeys(policies)
    sums = np.array([np.sum(cells, axis=0) for cells in by_task.values()])  # (tasks, policies)
    counts = np.array([len(cells) for cells in by_task.values()])
    drawn = np.random.default_rng(0).integers(len(sums), size=(_RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)[:, None]
    low, high = np.quantile(means, BAND, axis=0)
    return {policy: (float(low[k]), float(high[k])) for k, policy in enumerate(policies)}


def _bands(cell: HeldOut) -> dict[str, _Band]:
    """Hold the measured means against bands of the mean, and single runs against bands of a run."""
    rng = np.random.default_rng(stable_seed(cell.scheme, cell.table.name, int(cell.n_records)))
    found = {}
    for arm, values in cell.measured.items():
        key = arm.replace("-", "_")
        draws, runs = cell.forecast.scores[arm], values[np.isfinite(values)]
        normal = rng.standard_normal(len(draws))
        found[key] = _band(draws, draws + cell.run_sd * normal / len(runs) ** 0.5, [runs.mean()])
        single = draws + cell.forecast.run_sd * normal
        found[f"{key}_run"] = _band(single, single, runs)
    if FINE_TUNE in cell.measured:
        gain, _ = gain_and_error(cell.measured)
        n_pairs = min(int(np.isfinite(values).sum()) for values in cell.measured.values())
        error = cell.run_sd * (2 * (1 - cell.correlation) / n_pairs) ** 0.5
        draws = cell.gain_draws
        found["gain"] = _band(draws, draws + error * rng.standard_normal(len(draws)), [gain])
    return found


def _band(draws: Floats, widened: Floats, measured: Sequence[float] | Floats) -> _Band:
    """Return the width of the band of ``draws``, and whether that of ``widened`` holds each measured value."""
    low, high = np.quantile(draws, BAND)
    bottom, top = np.quantile(widened, BAND)
    return _Band(tuple(bool(bottom <= value <= top) for value in measured), float(high - low))


def _errors(cells: Sequence[HeldOut]) -> dict[str, float | None]:
    errors: dict[str, list[float]] = {"advice": [], "last_value": []}
    for cell in cells:
        for arm, values in cell.measured.items():
            truth, _ = mean_and_error(values)
            errors["advice"].append(abs(float(cell.forecast.scores[arm].mean()) - truth))
            errors["last_value"].append(abs(cell.forecast.last[arm] - truth))
    return {name: _mean(values) for name, values in errors.items()}


def _mean(values: Sequence[float] | Floats) -> float | None:
    return float(np.mean(values)) if len(values) else None
