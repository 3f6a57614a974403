"""Held-out cells with known truth: what is forecast, and how the forecasts are scored."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from studies.collection.backtest import LARGEST, TASK, TWO_LARGEST, Forecast, HeldOut, hold_out
from studies.collection.scorecard import score_arms, score_forecasts
from studies.files.backtest import POLICIES
from studies.fitting.paired_runs import PairedRuns
from studies.runs.run import Run
from studies.runs.run_tables import RunTable, gain_and_error, tabulate
from studies.runs.tidy_runs import TidyRuns

SIZES = (100, 250, 500, 1000, 2000, 4000)
Truth = Callable[[float], float]


def make_runs(truths: dict[str, dict[str, Truth]], sd: float = 0.01, replicates: int = 4, seed: int = 0) -> TidyRuns:
    """Runs of tasks about true curves, ``truths[task][strategy]``."""
    rng = np.random.default_rng(seed)
    runs = [
        Run(task=task, arch="net", family="cnn", strategy=arm, upstream="up" if arm == "fine-tune" else None,
            n_records=n, replicate=r,
            auroc_macro=float(np.clip(truth(n) + sd * (n / 100) ** -0.55 * rng.normal(), 0.01, 1)))
        for task, arms in truths.items() for arm, truth in arms.items() for n in SIZES for r in range(replicates)
    ]  # fmt: skip
    return TidyRuns("made", "auroc_macro", tuple(runs), {})


def power_laws(n_tasks: int, n0: float = 300.0) -> dict[str, dict[str, Truth]]:
    return {
        f"task-{k}": {
            "scratch": lambda n, k=k: 0.90 + 0.01 * k - (1.8 + 0.1 * k) * n**-0.5,
            "fine-tune": lambda n, k=k: 0.90 + 0.01 * k - (1.8 + 0.1 * k) * (n + n0) ** -0.5,
        }
        for k in range(n_tasks)
    }


def held_out(
    measured: dict[str, list[float]], predicted: dict[str, np.ndarray], n: float = 1000, task: str = "task",
    last: dict[str, float] | None = None, run_sd: float = 0.01,
) -> HeldOut:  # fmt: skip
    table = RunTable(task, "net", "cnn", "up", PairedRuns(np.array([n]), {}, np.zeros((2, 2))))
    values = {arm: np.array(scores) for arm, scores in measured.items()}
    forecast = Forecast(predicted, run_sd, last or dict.fromkeys(measured, 0.8))
    return HeldOut(LARGEST, table, n, values, forecast, run_sd)


def always(verdict: str) -> Callable[[np.ndarray, float], str]:
    return lambda _draws, _margin: verdict


@pytest.fixture(scope="module")
def cells() -> list[HeldOut]:
    found, problems = hold_out(tabulate(make_runs(power_laws(4)))[0])
    assert problems == []
    return found


def test_sizes_and_tasks_are_held_out_once_each(cells: list[HeldOut]):
    by_scheme = {
        scheme: sorted((cell.table.task, int(cell.n_records)) for cell in cells if cell.scheme == scheme)
        for scheme in (LARGEST, TWO_LARGEST, TASK)
    }
    tasks = [f"task-{k}" for k in range(4)]
    assert by_scheme[LARGEST] == [(task, 4000) for task in tasks]
    assert by_scheme[TWO_LARGEST] == [(task, n) for task in tasks for n in (2000, 4000)]
    assert by_scheme[TASK] == [(task, n) for task in tasks for n in SIZES]


def test_forecasts_come_from_what_was_left_in(cells: list[HeldOut]):
    """Other values in what is held out change nothing in its forecast."""
    runs = make_runs(power_laws(4))
    at_end = ("task-1", 4000)
    lowered = (replace(run, auroc_macro=0.55) if (run.task, run.n_records) == at_end else run for run in runs.runs)
    changed = replace(runs, runs=tuple(lowered))
    other = hold_out([table for table in tabulate(changed)[0] if table.task == "task-1"])[0]
    for one, two in zip([c for c in cells if c.table.task == "task-1" and c.scheme != TASK], other, strict=True):
        assert one.scheme == two.scheme
        for arm in one.measured:
            np.testing.assert_array_equal(one.forecast.scores[arm], two.forecast.scores[arm])
        assert one.forecast.last == two.forecast.last


def test_the_last_value_is_that_of_the_largest_size_left_in(cells: list[HeldOut]):
    by_name = {(c.scheme, c.table.task, c.n_records): c for c in cells}
    table = by_name[LARGEST, "task-0", 4000].table
    for scheme, position in ((LARGEST, -2), (TWO_LARGEST, -3)):
        last = by_name[scheme, "task-0", 4000].forecast.last
        assert last == {arm: pytest.approx(values[position].mean()) for arm, values in table.runs.scores.items()}
    others = [by_name[TASK, f"task-{k}", 250].measured["scratch"].mean() for k in (1, 2, 3)]
    assert by_name[TASK, "task-0", 250].forecast.last["scratch"] == pytest.approx(np.mean(others))


def test_forecasts_beat_the_last_value_and_the_naive_policies(cells: list[HeldOut]):
    from advisor.answer.recommend import judge

    card = score_forecasts(cells, judge, 0.01)
    assert card.cells == len(cells) == 4 * (1 + 2 + 6)
    assert card.error["advice"] < card.error["last_value"]
    assert card.regret["advice"] <= card.regret["always_scratch"]
    assert card.regret["always_fine_tune"] == card.regret["below_5000"]
    for name, share in card.coverage.items():
        assert 0.7 <= share <= 1, name
    assert card.brier["advice"] < card.brier["base_rate"]


FURTHER = {"linear-probe": "up", "random-convolutions": None}


def four_arms(n_tasks: int) -> TidyRuns:
    """Fine-tuning is best by .02, but for the last task, where a linear probe is by .04 more."""
    runs = make_runs(power_laws(n_tasks), sd=0.003)
    tuned = [run for run in runs.runs if run.strategy == "fine-tune"]
    more = [
        replace(run, strategy=arm, upstream=upstream, auroc_macro=run.score + shift)
        for arm, upstream in FURTHER.items()
        for run in tuned
        for shift in [0.04 if arm == "linear-probe" and run.task == f"task-{n_tasks - 1}" else -0.02]
    ]
    return replace(runs, runs=(*runs.runs, *more))


def test_naming_one_of_all_arms_is_scored_against_the_best_of_them():
    cells, problems = hold_out(tabulate(four_arms(5))[0])
    assert problems == []
    card = score_arms(cells, 0.01)
    assert card.cells == 5 * len(SIZES)  # of held-out tasks alone
    assert card.regret["advice"] == card.regret["always_fine_tune"] == pytest.approx(0.04 / 5, abs=1e-9)
    assert card.regret["always_random_convolutions"] == pytest.approx(0.02 + 0.04 / 5, abs=1e-9)
    assert card.regret["always_linear_probe"] == pytest.approx(0.02 * 4 / 5, abs=1e-9)
    assert card.regret["always_scratch"] > card.regret["always_fine_tune"]
    low, high = card.regret_ci["advice"]
    assert low == 0 < high
    assert 0 < card.beyond <= 0.2  # in the one task, as far as its loss is beyond the bound
    assert card.bound > 0


def test_without_all_arms_there_is_no_card_of_them():
    card = score_arms(hold_out(tabulate(make_runs(power_laws(3)))[0])[0], 0.01)
    assert (card.cells, card.bound, card.regret["advice"]) == (0, None, None)
    three = replace(runs := four_arms(3), runs=tuple(run for run in runs.runs if run.strategy != "linear-probe"))
    assert score_arms(hold_out(tabulate(three)[0])[0], 0.01).cells == 0


def test_a_task_with_two_upstreams_counts_once_among_the_others():
    runs = make_runs(power_laws(3), sd=0.002)
    shared = tuple(
        replace(run, upstream="shared", auroc_macro=min(run.score + 0.05, 1.0))
        for run in runs.runs
        if (run.task, run.strategy) == ("task-2", "fine-tune")
    )
    plain, _ = hold_out(tabulate(runs)[0])
    both, problems = hold_out(tabulate(replace(runs, runs=runs.runs + shared))[0])
    assert problems == []

    def forecasts(cells: list[HeldOut], upstream: str) -> list[np.ndarray]:
        chosen = [c for c in cells if (c.scheme, c.table.task, c.table.upstream) == (TASK, "task-0", upstream)]
        return [cell.forecast.scores["fine-tune"] for cell in chosen]

    np.testing.assert_array_equal(forecasts(both, "up"), forecasts(plain, "up"))
    held_out_tasks = {(c.table.task, c.table.upstream) for c in both if c.scheme == TASK}
    assert held_out_tasks == {("task-0", "up"), ("task-1", "up"), ("task-2", "up"), ("task-2", "shared")}


def test_one_task_cannot_be_held_out_and_is_said():
    found, problems = hold_out(tabulate(make_runs(power_laws(1)))[0])
    assert {cell.scheme for cell in found} == {LARGEST, TWO_LARGEST}
    assert problems == ["net: tasks cannot be held out of 1, it takes 3"]


def test_runs_from_scratch_alone_are_forecast_without_a_policy():
    truths = {task: {"scratch": arms["scratch"]} for task, arms in power_laws(3).items()}
    found, _ = hold_out(tabulate(make_runs(truths))[0])
    card = score_forecasts(found, always("scratch"), 0.01)
    assert set(card.regret.values()) == {None}
    assert card.abstention is None and card.coverage["gain"] is None
    assert card.coverage["scratch"] >= 0.6
    sizes = score_forecasts([cell for cell in found if cell.scheme != TASK], always("scratch"), 0.01)
    assert sizes.error["advice"] < sizes.error["last_value"]


def test_what_cannot_be_fitted_is_named():
    runs = make_runs(power_laws(1), replicates=1)
    found, problems = hold_out(tabulate(runs)[0])
    assert found == []
    assert any("task-0 net from up: no size has two replicates" in problem for problem in problems)


def test_regret_is_what_the_choice_loses_against_the_better_arm():
    gains = np.full(100, 0.05)
    predicted = {"scratch": np.full(100, 0.8), "fine-tune": 0.8 + gains}
    won = held_out({"scratch": [0.80, 0.82], "fine-tune": [0.85, 0.87]}, predicted, n=1000)
    lost = held_out({"scratch": [0.80, 0.82], "fine-tune": [0.77, 0.79]}, predicted, n=9000,
                    last={"scratch": 0.81, "fine-tune": 0.8})  # fmt: skip
    card = score_forecasts([won, lost], always("fine-tune"), 0.01)
    expected = {"advice": 0.015, "always_fine_tune": 0.015, "always_scratch": 0.025, "below_5000": 0.0,
                "last_value": 0.025}  # fmt: skip
    assert {policy: card.regret[policy] for policy in POLICIES} == pytest.approx(expected)
    assert score_forecasts([won, lost], always("scratch"), 0.01).regret["advice"] == pytest.approx(0.025)
    undecided = score_forecasts([won, lost], always("not-enough-evidence"), 0.01)
    assert undecided.regret["advice"] == pytest.approx(0.015), "the better expected score is taken"
    assert (undecided.abstention, card.abstention) == (1.0, 0.0)
    assert card.noise == pytest.approx(0.0, abs=1e-12)


def test_regret_is_given_an_interval_over_tasks_where_there_are_several():
    predicted = {"scratch": np.full(100, 0.8), "fine-tune": np.full(100, 0.85)}
    one = [held_out({"scratch": [0.8, 0.8], "fine-tune": [0.7, 0.7]}, predicted, task="a")]
    two = [*one, held_out({"scratch": [0.8, 0.8], "fine-tune": [0.9, 0.9]}, predicted, task="b")]
    assert set(score_forecasts(one, always("fine-tune"), 0.01).regret_ci.values()) == {None}
    interval = score_forecasts(two, always("fine-tune"), 0.01).regret_ci["advice"]
    assert interval == pytest.approx((0.0, 0.1))


def test_coverage_allows_for_the_noise_of_what_was_measured():
    """Draws that know the truth exactly cover nine of ten means of noisy replicates, not none."""
    rng = np.random.default_rng(5)
    exact = {"scratch": np.full(400, 0.8), "fine-tune": np.full(400, 0.85)}
    cells = [
        held_out({"scratch": list(0.8 + rng.normal(0, 0.02, 5)), "fine-tune": list(0.85 + rng.normal(0, 0.02, 5))},
                 exact, n=n + 100, run_sd=0.02)
        for n in range(150)
    ]  # fmt: skip
    card = score_forecasts(cells, always("fine-tune"), 0.01)
    for name, share in card.coverage.items():
        assert 0.8 <= share <= 0.96, name
    assert card.width["scratch"] == pytest.approx(0)
    assert card.width["scratch_run"] == pytest.approx(2 * 1.645 * 0.02, rel=0.1)
    wrong = {arm: draws + 0.1 for arm, draws in exact.items()}
    missed = score_forecasts([replace(c, forecast=replace(c.forecast, scores=wrong)) for c in cells], always("x"), 0.01)
    assert missed.coverage["scratch"] == 0


def test_brier_score_is_that_of_the_probability_of_a_gain_above_the_margin():
    sure = {"scratch": np.full(100, 0.8), "fine-tune": np.full(100, 0.85)}
    half = {"scratch": np.full(100, 0.8), "fine-tune": np.where(np.arange(100) < 50, 0.85, 0.8)}
    gained = {"scratch": [0.8, 0.8], "fine-tune": [0.85, 0.85]}
    not_gained = {"scratch": [0.8, 0.8], "fine-tune": [0.8, 0.8]}
    cells = [held_out(gained, sure), held_out(not_gained, half)]
    brier = score_forecasts(cells, always("fine-tune"), 0.01).brier
    assert brier == pytest.approx({"advice": (0 + 0.25) / 2, "base_rate": 0.25})


def test_gains_come_from_pairs_where_there_are_pairs():
    scores = {"scratch": np.array([0.7, 0.8, np.nan]), "fine-tune": np.array([0.75, 0.85, 0.1])}
    assert gain_and_error(scores) == pytest.approx((0.05, 0.0))
    apart = {"scratch": np.array([0.7, 0.8, np.nan, np.nan]), "fine-tune": np.array([np.nan, np.nan, 0.9, 0.8])}
    assert gain_and_error(apart) == pytest.approx((0.1, np.hypot(0.05, 0.05)))
