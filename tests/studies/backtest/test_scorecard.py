"""How forecasts with known truth are scored: regret, floor, bands, probabilities, bounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from studies.backtest.hold_out import LARGEST, TASK, TWO_LARGEST, Forecast, HeldOut
from studies.backtest.policies import keep_on_validation
from studies.backtest.scorecard import refer, score_all, score_arms, score_forecasts
from studies.backtest.truth import Truth
from studies.files.backtest import ARM_POLICIES, POLICIES
from studies.fitting.paired_runs import PairedRuns
from studies.runs.run_tables import Replicate, RunTable

PAIR = ("scratch", "fine-tune")
ALL = (*PAIR, "linear-probe", "random-convolutions")


def held_out(
    measured: Mapping[str, Sequence[float]], predicted: Mapping[str, np.ndarray], n: float = 1000, task: str = "task",
    last: Mapping[str, float] | None = None, error: float = 0.0, run_sd: float = 0.01, scheme: str = LARGEST,
    validation: Mapping[str, Sequence[float]] | None = None,
) -> HeldOut:  # fmt: skip
    """A cell whose means are known with an ``error`` of each arm."""
    pairs = zip(*measured.values(), strict=True)
    checks = zip(*(validation or {}).values(), strict=True) if validation else [()] * len(next(iter(measured.values())))
    replicates = tuple(
        Replicate(int(n), k, dict(zip(measured, one, strict=True)), dict(zip(validation or {}, check, strict=True)))
        for k, (one, check) in enumerate(zip(pairs, checks, strict=True))
    )
    runs = PairedRuns(np.array([n]), {}, np.zeros((2, 2)))
    table = RunTable(task, "net", "cnn", "up", runs, by_replicate=replicates)
    values = {arm: np.array(scores) for arm, scores in measured.items()}
    means = np.array([scores.mean() for scores in values.values()])
    truth = Truth(tuple(values), means, error**2 * np.eye(len(values)))
    return HeldOut(
        scheme,
        table,
        n,
        values,
        Forecast(predicted, dict.fromkeys(predicted, run_sd), last or dict.fromkeys(measured, 0.8)),
        truth,
    )


def always(verdict: str) -> Callable[[np.ndarray, float], str]:
    return lambda _draws, _margin: verdict


def exactly(scratch: float, fine_tune: float) -> dict[str, np.ndarray]:
    return {"scratch": np.full(100, scratch), "fine-tune": np.full(100, fine_tune)}


def simulate(n_cells: int, spread: float, error: float, widened: float = 1.0) -> list[HeldOut]:
    """Cells of tasks of their own whose truth is a draw of the forecast (times ``widened``), measured with an error."""
    rng = np.random.default_rng(5)
    cells = []
    for k in range(n_cells):
        base = {"scratch": 0.8, "fine-tune": 0.82}
        predicted = {arm: level + spread * rng.standard_normal(300) for arm, level in base.items()}
        true = {arm: level + widened * spread * rng.standard_normal() for arm, level in base.items()}
        runs = {arm: true[arm] + error * 2**0.5 * rng.standard_normal(2) for arm in base}
        cells.append(held_out(runs, predicted, task=f"site-{k}/x", error=error, run_sd=error * 2**0.5))
    return cells


def test_regret_is_what_the_choice_loses_against_the_better_arm():
    predicted = exactly(0.8, 0.85)
    won = held_out({"scratch": [0.80, 0.82], "fine-tune": [0.85, 0.87]}, predicted, n=1000)
    lost = held_out({"scratch": [0.80, 0.82], "fine-tune": [0.77, 0.79]}, predicted, n=9000,
                    last={"scratch": 0.81, "fine-tune": 0.8})  # fmt: skip
    card = score_forecasts([won, lost], always("fine-tune"), 0.01)
    expected = {"advice": 0.015, "always_fine_tune": 0.015, "always_scratch": 0.025, "below_5000": 0.0,
                "last_value": 0.025}  # fmt: skip
    known = {policy: card.regrets.regret[policy] for policy in POLICIES if policy in expected}
    assert known == pytest.approx(expected)
    assert score_forecasts([won, lost], always("scratch"), 0.01).regrets.regret["advice"] == pytest.approx(0.025)
    undecided = score_forecasts([won, lost], always("not-enough-evidence"), 0.01)
    assert undecided.regrets.regret["advice"] == pytest.approx(0.015), "the better expected score is taken"
    assert (undecided.abstention, card.abstention) == (1.0, 0.0)
    assert card.regrets.advice_minus["always_scratch"] == pytest.approx(-0.01)


def test_regret_is_given_an_interval_over_tasks_where_there_are_several():
    predicted = exactly(0.8, 0.85)
    one = [held_out({"scratch": [0.8, 0.8], "fine-tune": [0.7, 0.7]}, predicted, task="a")]
    two = [*one, held_out({"scratch": [0.8, 0.8], "fine-tune": [0.9, 0.9]}, predicted, task="b")]
    assert set(score_forecasts(one, always("fine-tune"), 0.01).regrets.regret_ci.values()) == {None}
    regrets = score_forecasts(two, always("fine-tune"), 0.01).regrets
    assert regrets.regret_ci["advice"] == pytest.approx((0.0, 0.1))
    assert regrets.regret_ci_sites["advice"] is None, "two sites are too few"


def test_a_cell_that_two_schemes_hold_out_counts_once():
    wrong, right = exactly(0.85, 0.8), exactly(0.8, 0.85)
    gained = {"scratch": [0.8, 0.8], "fine-tune": [0.9, 0.9]}
    twice = [held_out(gained, predicted, task="a", scheme=scheme) for predicted, scheme in
             ((wrong, LARGEST), (right, TWO_LARGEST))]  # fmt: skip
    cells = [*twice, held_out(gained, right, task="b")]
    card = score_forecasts(cells, always("no-material-difference"), 0.01)
    assert (card.bands.cells, card.bands.distinct_cells) == (3, 2)
    assert card.regrets.regret["advice"] == pytest.approx(0.1 / 4)
    assert card.error["advice"] == pytest.approx((0.05 + 0.1 + 0.0 + 0.05) / 8 + (0.0 + 0.05) / 4)


def test_a_cell_is_charged_what_the_oracle_is_where_the_forecast_knows_the_truth():
    """Who knows the true means and chooses by them has no regret but the floor."""
    rng = np.random.default_rng(7)
    cells = []
    for k in range(300):
        gain, error = 0.02 * rng.standard_normal(), 0.015
        means = {
            "scratch": 0.8 + error * rng.standard_normal(),
            "fine-tune": 0.8 + gain + error * rng.standard_normal(),
        }
        runs = {arm: [mean, mean] for arm, mean in means.items()}
        cells.append(held_out(runs, exactly(0.8, 0.8 + gain), task=f"t{k}", error=error))
    regrets = score_forecasts(cells, always("not-enough-evidence"), 0.01, refer(cells, PAIR)).regrets
    assert regrets.floor > 0.003
    assert regrets.above_floor["advice"] == pytest.approx(0, abs=0.15 * regrets.floor)
    low, high = regrets.above_floor_ci["advice"]
    assert low < 0 < high
    assert regrets.above_floor["always_fine_tune"] > regrets.floor


def test_without_a_reference_no_floor_is_given():
    regrets = score_forecasts(simulate(5, 0.02, 0.01), always("fine-tune"), 0.01).regrets
    assert regrets.floor is None and set(regrets.above_floor.values()) == {None}


def test_bands_hold_nine_of_ten_where_the_truth_is_a_draw_of_the_forecast():
    for error in (0.001, 0.02):
        bands = score_forecasts(simulate(150, 0.02, error), always("fine-tune"), 0.01).bands
        for name, share in bands.coverage.items():
            assert share == pytest.approx(0.9, abs=0.06), name
        assert bands.coverage_se["gain"] == pytest.approx((0.9 * 0.1 / 150) ** 0.5, rel=0.3)
        assert bands.width["scratch"] == pytest.approx(2 * 1.645 * 0.02, rel=0.04)
    too_narrow = score_forecasts(simulate(150, 0.02, 0.001, widened=2.0), always("fine-tune"), 0.01).bands
    assert too_narrow.coverage["gain"] < 0.7


def test_the_scores_of_a_forecast_are_best_where_it_is_the_truth():
    right = score_forecasts(simulate(150, 0.02, 0.01), always("fine-tune"), 0.01).bands
    for factor in (0.4, 2.5):
        cells = simulate(150, 0.02, 0.01)
        stretched = [
            replace(cell, forecast=replace(cell.forecast, scores={
                arm: draws.mean() + factor * (draws - draws.mean()) for arm, draws in cell.forecast.scores.items()}))
            for cell in cells
        ]  # fmt: skip
        other = score_forecasts(stretched, always("fine-tune"), 0.01).bands
        for name in ("scratch", "fine_tune", "gain"):
            assert other.log_score[name] < right.log_score[name]
            assert other.crps[name] > right.crps[name]


def test_probabilities_are_of_the_measured_gain_with_its_noise():
    """A forecast that knows a gain of .015 cannot know whether it is measured above .01."""
    cells = []
    rng = np.random.default_rng(9)
    for k in range(200):
        gain = 0.015 + 0.02 * 2**0.5 * rng.standard_normal()
        cells.append(held_out({"scratch": [0.8, 0.8], "fine-tune": [0.8 + gain] * 2}, exactly(0.8, 0.815), task=f"t{k}",
                              error=0.02))  # fmt: skip
    card = score_forecasts(cells, always("fine-tune"), 0.01)
    (one,) = card.calibration
    assert one.predicted == pytest.approx(0.57, abs=0.01) and one.measured == pytest.approx(0.57, abs=0.08)
    assert card.brier["advice"] == pytest.approx(0.57 * 0.43, abs=0.02)
    sure = [replace(cell, truth=replace(cell.truth, covariance=np.zeros((2, 2)))) for cell in cells]
    assert score_forecasts(sure, always("fine-tune"), 0.01).brier["advice"] > 0.35


def test_figures_of_500_records_and_more_are_given_apart():
    cells = [held_out({"scratch": [0.8, 0.8], "fine-tune": [0.85, 0.85]}, exactly(0.8, level), n=n, error=0.001)
             for n, level in ((100, 0.95), (500, 0.85), (2000, 0.85))]  # fmt: skip
    card = score_forecasts(cells, always("fine-tune"), 0.01)
    assert card.bands.coverage["gain"] == pytest.approx(2 / 3)
    assert (card.from_500.cells, card.from_500.coverage["gain"]) == (2, 1.0)
    assert card.from_500.crps["gain"] < card.bands.crps["gain"]


def test_the_bound_of_the_loss_is_kept_by_nine_of_ten_true_losses():
    cells = simulate(200, 0.02, 0.005)
    bounds = score_forecasts(cells, always("not-enough-evidence"), 0.01, refer(cells, PAIR)).bounds
    assert bounds.beyond_true == pytest.approx(0.1, abs=0.05)
    assert bounds.beyond == pytest.approx(bounds.beyond_expected, abs=0.05)
    assert bounds.bound == pytest.approx(0.0162, abs=0.002)  # the gain is N(.02, .028): 10 % lie below -.0162
    assert bounds.bounded < 0.02
    assert score_forecasts(cells, always("fine-tune"), 0.05).bounds.bounded == 1


@pytest.mark.parametrize(
    ("validation", "kept"),
    [
        ({"scratch": [0.7, 0.9], "fine-tune": [0.8, 0.8]}, (0.88 + 0.84) / 2),
        ({"scratch": [0.8, 0.8], "fine-tune": [0.8, 0.8]}, 0.87),  # of equals the fine-tuned run
        ({"scratch": [0.9, 0.9], "fine-tune": [0.8, 0.8]}, 0.82),
    ],
)
def test_keeping_the_better_on_validation_loses_what_the_kept_runs_lack(validation: dict, kept: float):
    runs = {"scratch": [0.80, 0.84], "fine-tune": [0.88, 0.86]}
    cell = held_out(runs, exactly(0.8, 0.85), validation=validation)
    assert keep_on_validation(cell.table, 1000, ("fine-tune", "scratch")) == pytest.approx(kept)
    card = score_forecasts([cell], always("fine-tune"), 0.01)
    assert card.regrets.regret["keep_on_validation"] == pytest.approx(0.87 - kept)


def test_keeping_on_validation_is_unknown_where_a_cell_has_no_validation_scores():
    runs = {"scratch": [0.80, 0.84], "fine-tune": [0.88, 0.86]}
    known = held_out(runs, exactly(0.8, 0.85), validation={"scratch": [0.9, 0.9], "fine-tune": [0.8, 0.8]})
    card = score_forecasts([known, held_out(runs, exactly(0.8, 0.85), task="b")], always("fine-tune"), 0.01)
    assert card.regrets.regret["keep_on_validation"] is None


def test_a_run_without_a_validation_score_is_no_choice():
    """Few validation records may hold no positive: then the fine-tuned run is kept."""
    cell = held_out({"scratch": [0.80, 0.84], "fine-tune": [0.88, 0.86]}, exactly(0.8, 0.85),
                    validation={"scratch": [0.9, 0.9], "fine-tune": [0.8, 0.8]})  # fmt: skip
    first, second = cell.table.by_replicate
    table = replace(cell.table, by_replicate=(replace(first, validation={"scratch": 0.9}), second))
    assert keep_on_validation(table, 1000, ("fine-tune", "scratch")) == pytest.approx((0.88 + 0.84) / 2)


def test_of_all_arms_the_named_one_the_kept_one_and_the_oracle_are_charged():
    levels = {"scratch": 0.7, "fine-tune": 0.8, "linear-probe": 0.85, "random-convolutions": 0.6}
    predicted = {arm: np.full(100, level) for arm, level in levels.items()}
    runs = {arm: [level, level] for arm, level in levels.items()}
    validation = {"scratch": [0.5, 0.5], "fine-tune": [0.9, 0.5], "linear-probe": [0.8, 0.8],
                  "random-convolutions": [0.5, 0.5]}  # fmt: skip
    cells = [held_out(runs, predicted, n=n, scheme=TASK, error=0.001, validation=validation) for n in (100, 500, 1000)]
    card = score_arms(cells, 0.01)
    known = {name: card.regrets.regret[name] for name in ARM_POLICIES}
    assert known == pytest.approx({
        "advice": 0.0, "always_fine_tune": 0.05, "always_scratch": 0.15, "always_linear_probe": 0.0,
        "always_random_convolutions": 0.25, "keep_on_validation": 0.025,
    })  # fmt: skip
    assert card.regrets.floor == pytest.approx(0)
    assert set(card.bands.crps) == {"fine_tune", "scratch", "linear_probe", "random_convolutions"}
    assert (card.bounds.bounded, card.bounds.beyond_true) == (1.0, 0.0)


def test_the_overall_card_and_the_schemes_are_of_their_cells():
    cells = [replace(cell, scheme=scheme) for scheme in (LARGEST, TASK) for cell in simulate(4, 0.02, 0.01)]
    scores = score_all(cells, always("fine-tune"), 0.01)
    assert {name: card.bands.cells for name, card in scores.by_scheme.items()} == {LARGEST: 4, TASK: 4}
    assert (scores.overall.bands.cells, scores.overall.bands.distinct_cells) == (8, 4)
    assert scores.overall.regrets.regret_ci_sites["advice"] is not None
