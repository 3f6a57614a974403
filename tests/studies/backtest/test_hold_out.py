"""What is held out, and what it is forecast from."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from studies.backtest.hold_out import LARGEST, SITE, TASK, TWO_LARGEST, HeldOut, hold_out, predict_new_task
from studies.backtest.scorecard import score_all, score_arms, score_forecasts
from studies.collection.curve_documents import Header, Measured, fit_measured, make_document
from studies.files.curves import parse_curves
from studies.files.draws import evaluate
from studies.fitting.label_levels import ClassScores
from studies.runs.run import Run
from studies.runs.run_tables import PatientCovariance, tabulate
from studies.runs.tidy_runs import TidyRuns

HEADER = Header("made", "0", "2026-01-01", {"net": None}, {"up": "made", "up/all": "made"})
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


def measured(runs: TidyRuns) -> list[Measured]:
    return [Measured(table, runs.metric) for table in tabulate(runs)[0]]


@pytest.fixture(scope="module")
def cells() -> list[HeldOut]:
    found, problems = hold_out(measured(make_runs(power_laws(4))))
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
    other = hold_out([one for one in measured(changed) if one.table.task == "task-1"])[0]
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
    assert card.bands.cells == len(cells) == 4 * (1 + 2 + 6)
    assert card.bands.distinct_cells == 4 * 6
    assert card.error["advice"] < card.error["last_value"]
    regret = card.regrets.regret
    assert regret["advice"] <= regret["always_scratch"]
    assert regret["always_fine_tune"] == regret["below_5000"]
    for name, share in card.bands.coverage.items():
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
    cells, problems = hold_out(measured(four_arms(5)))
    assert problems == []
    card = score_arms(cells, 0.01)
    regret, bounds = card.regrets.regret, card.bounds
    assert card.bands.cells == 5 * len(SIZES)  # of held-out tasks alone
    assert regret["advice"] == regret["always_fine_tune"] == pytest.approx(0.04 / 5, abs=1e-9)
    assert regret["always_random_convolutions"] == pytest.approx(0.02 + 0.04 / 5, abs=1e-9)
    assert regret["always_linear_probe"] == pytest.approx(0.02 * 4 / 5, abs=1e-9)
    assert regret["always_scratch"] > regret["always_fine_tune"]
    assert regret["keep_on_validation"] is None, "these runs have no validation scores"
    low, high = card.regrets.regret_ci["advice"]
    assert low == 0 < high
    assert 0 < bounds.beyond <= 0.2  # in the one task, as far as its loss is beyond the bound
    assert bounds.beyond_true == pytest.approx(bounds.beyond, abs=0.05), "noise is small next to these differences"
    assert bounds.bound > 0
    assert card.regrets.floor == pytest.approx(0, abs=2e-4)


def test_without_all_arms_there_is_no_card_of_them():
    card = score_arms(hold_out(measured(make_runs(power_laws(3))))[0], 0.01)
    assert (card.bands.cells, card.bounds.bound, card.regrets.regret["advice"]) == (0, None, None)
    three = replace(runs := four_arms(3), runs=tuple(run for run in runs.runs if run.strategy != "linear-probe"))
    assert score_arms(hold_out(measured(three))[0], 0.01).bands.cells == 0


def with_labels(runs: TidyRuns, task: str) -> TidyRuns:
    """Add runs of a task that were fine-tuned from a network which has its labels, and is the better for it."""
    tuned = [run for run in runs.runs if (run.task, run.strategy) == (task, "fine-tune")]
    shared = [replace(run, upstream="up/all", auroc_macro=min(run.score + 0.05, 1.0)) for run in tuned]
    return replace(runs, runs=(*runs.runs, *shared))


def of_kind(runs: TidyRuns) -> list[Measured]:
    """Say of every table whether its upstream has the task's labels."""
    kinds = {"up/all": "up/shared", "up": "up/disjoint"}
    return [replace(one, kind=kinds[one.table.upstream]) for one in measured(runs)]


def test_a_task_is_forecast_from_the_pool_that_ships_without_it():
    """With its runs left out of the study, the pooled curve of the file has the very draws."""
    every = of_kind(with_labels(make_runs(power_laws(4), sd=0.002), "task-2"))
    cells, problems = hold_out(every)
    assert problems == []
    held_out_tasks = {(c.table.task, c.table.upstream) for c in cells if c.scheme == TASK}
    assert held_out_tasks == {*((f"task-{k}", "up") for k in range(4)), ("task-2", "up/all")}
    for task in ("task-0", "task-2"):
        fitted, _ = fit_measured([one for one in every if one.table.task != task])
        without = make_document(HEADER, [one for one in every if one.table.task != task])
        (pool,) = [curve for curve in parse_curves(without).curves if curve.task == "a new task"]
        assert len(pool.tasks) == 3 and {one.measured.table.task for one in fitted} == {*pool.tasks}
        for cell in (c for c in cells if (c.scheme, c.table.task, c.n_records) == (TASK, task, 500)):
            for arm in ("scratch", "fine-tune"):
                shipped = evaluate(pool.draws[arm], 500.0, 0.5)[:, 0]
                np.testing.assert_allclose(cell.forecast.scores[arm][: len(shipped)], shipped, atol=2e-4)


def test_a_task_from_an_upstream_that_no_other_has_is_not_forecast():
    runs = make_runs(power_laws(3), sd=0.002)
    alone = tuple(replace(run, upstream=run.upstream and "else") if run.task == "task-2" else run for run in runs.runs)
    cells, problems = hold_out(measured(replace(runs, runs=alone)))
    assert {cell.table.task for cell in cells if cell.scheme == TASK} == set()
    assert problems == [
        *(
            f"task-{k} net from up as a new task: too few of the others were fine-tuned from networks of up, it takes 2"
            for k in (0, 1)
        ),
        "task-2 net from else as a new task: too few of the others were fine-tuned from networks of else, it takes 2",
    ]


def test_another_team_s_network_is_held_out_only_where_it_is_all_there_is():
    runs = make_runs(power_laws(3))
    theirs = tuple(replace(one, arch="other", upstream=one.upstream and "zoo:theirs") for one in runs.runs)
    alone, _ = hold_out(measured(runs))
    cells, problems = hold_out(measured(replace(runs, runs=(*runs.runs, *theirs))))
    assert {cell.table.arch for cell in cells} == {"net"}
    assert [cell.cell for cell in cells] == [cell.cell for cell in alone]
    assert problems == ["other from zoo:theirs is not held out: it answers only where it is named"]
    cells, problems = hold_out(measured(replace(runs, runs=theirs)))
    assert ({cell.table.arch for cell in cells}, problems) == ({"other"}, [])


def test_a_held_out_task_cannot_predict_itself():
    fitted, _ = fit_measured(measured(make_runs(power_laws(2))))
    with pytest.raises(ValueError, match="cannot be predicted from itself"):
        predict_new_task({one.measured.table.task: one for one in fitted}, fitted[0].measured.table, 0)


def at_sites(names: dict[str, str]) -> TidyRuns:
    runs = make_runs(power_laws(len(names)), sd=0.003)
    return replace(runs, runs=tuple(replace(run, task=names[run.task]) for run in runs.runs))


def test_a_site_is_forecast_from_the_tasks_of_other_sites():
    names = {"task-0": "a/0", "task-1": "a/1", "task-2": "b/2", "task-3": "b/3", "task-4": "c/4"}
    cells, problems = hold_out(measured(at_sites(names)))
    assert problems == []
    sites = [cell for cell in cells if cell.scheme == SITE]
    assert {cell.table.task for cell in sites} == {*names.values()}
    alone, _ = hold_out([one for one in measured(at_sites(names)) if one.table.task not in ("a/1",)])
    of_task = [cell for cell in alone if cell.scheme == TASK and cell.table.task == "a/0"]
    for one, two in zip([cell for cell in sites if cell.table.task == "a/0"], of_task, strict=True):
        np.testing.assert_array_equal(one.forecast.scores["fine-tune"], two.forecast.scores["fine-tune"])
    scores = score_all(cells, lambda _draws, _margin: "fine-tune", 0.01)
    assert scores.by_scheme[SITE].bands.cells == 5 * 6
    assert scores.overall.bands.cells == len(cells) - 5 * 6, "a whole site is a question of its own"
    assert scores.overall.regrets.regret_ci_sites["advice"] is not None


def test_sites_that_cannot_be_held_out_are_said_and_sites_of_one_task_are_tasks():
    _, problems = hold_out(measured(at_sites({f"task-{k}": f"a/{k}" for k in range(3)})))
    assert problems == ["net: sites cannot be held out of 1, it takes 2"]
    cells, problems = hold_out(measured(at_sites({"task-0": "a/0", "task-1": "a/1", "task-2": "b/2"})))
    assert {cell.table.task for cell in cells if cell.scheme == SITE} == {"b/2"}
    assert len(problems) == 2 and all("as a new site: too few" in problem for problem in problems)
    cells, problems = hold_out(measured(at_sites({f"task-{k}": f"{k}/x" for k in range(3)})))
    assert (problems, [cell for cell in cells if cell.scheme == SITE]) == ([], [])


def test_the_noise_of_test_patients_is_in_the_truth_of_tasks_and_not_of_sizes():
    """A larger size is tested on the patients of the smaller ones: what they add is in both scores."""
    shift = 4e-4 * np.array([[1.0, 0.5], [0.5, 1.0]])
    arms = ("scratch", "fine-tune")

    def with_patients(one: Measured) -> Measured:
        runs = replace(one.table.runs, test_covariance=shift)
        return replace(one, table=replace(one.table, runs=runs, patients=PatientCovariance(arms, shift)))

    plain = measured(make_runs(power_laws(3)))
    without, _ = hold_out(plain)
    found, _ = hold_out([with_patients(one) for one in plain])
    for one, two in zip(without, found, strict=True):
        added = two.truth.covariance - one.truth.covariance
        widths = [np.ptp(np.quantile(cell.forecast.scores["scratch"], (0.05, 0.95))) for cell in (one, two)]
        if one.scheme == TASK:
            np.testing.assert_allclose(added, shift, atol=1e-12)
            assert two.truth.gain[1] ** 2 == pytest.approx(one.truth.gain[1] ** 2 + 4e-4)
        else:
            np.testing.assert_array_equal(added, 0)
            assert widths[0] == widths[1]


def test_one_task_cannot_be_held_out_and_is_said():
    found, problems = hold_out(measured(make_runs(power_laws(1))))
    assert {cell.scheme for cell in found} == {LARGEST, TWO_LARGEST}
    assert problems == ["net: tasks cannot be held out of 1, it takes 3"]


def test_runs_from_scratch_alone_are_forecast_without_a_policy():
    truths = {task: {"scratch": arms["scratch"]} for task, arms in power_laws(3).items()}
    found, problems = hold_out(measured(make_runs(truths)))
    assert {cell.scheme for cell in found} == {LARGEST, TWO_LARGEST}
    assert [problem.split(": ")[1] for problem in problems] == ["it was trained from scratch only"] * 3
    card = score_forecasts(found, lambda _draws, _margin: "scratch", 0.01)
    assert set(card.regrets.regret.values()) == {None}
    assert card.abstention is None and card.bands.coverage["gain"] is None
    assert card.bands.coverage["scratch"] >= 0.6
    assert card.error["advice"] < card.error["last_value"]


def test_what_cannot_be_fitted_is_named():
    runs = make_runs(power_laws(1), replicates=1)
    found, problems = hold_out(measured(runs))
    assert found == []
    assert any("task-0 net from up: no size has two replicates" in problem for problem in problems)


def easy_and_hard(n_tasks: int) -> tuple[list[Measured], dict[str, float]]:
    """Tasks of one class each, easy or hard alike at every task; with what scratch truly ends at."""
    level = {f"site-{k % 3}/task-{k}": 0.93 if k % 2 else 0.75 for k in range(n_tasks)}
    rise = {
        task: {arm: lambda n, top=top: top - 1.2 * n**-0.5 for arm in ("scratch", "fine-tune")}
        for task, top in level.items()
    }
    found = []
    for one in measured(make_runs(rise)):
        means = np.array([[np.nanmean(row)] for row in one.table.runs.scores["scratch"]])
        label = "easy" if level[one.table.task] > 0.9 else "hard"
        shares, positives = np.array([0.2]), np.array([400.0])
        noise, four = np.full(means.shape, 1e-3), np.full(len(means), 4.0)
        classes = ClassScores(
            one.table.task, (label,), shares, positives, 2000, one.table.runs.sizes, means, noise, four
        )
        found.append(replace(one, classes={"scratch": classes}))
    return found, level


def test_a_held_out_task_is_forecast_again_given_its_labels():
    tasks, level = easy_and_hard(8)
    cells, _ = hold_out(tasks)
    plain, given = ([c for c in cells if c.scheme == TASK and c.with_labels == labels] for labels in (False, True))
    assert [cell.cell for cell in plain] == [cell.cell for cell in given]
    for one, two in zip(plain, given, strict=True):
        off, off_given = (
            abs(cell.forecast.scores["scratch"].mean() - cell.truth.of({"scratch": 1.0})[0]) for cell in (one, two)
        )
        assert off_given < 0.5 * off, one.cell
    cards = score_all(cells, lambda *_: "fine-tune", 0.01)
    both = cards.by_labels[TASK]
    assert both.given.bands.cells == both.not_given.bands.cells == len(plain)
    assert both.given.bands.crps["scratch"] < 0.5 * both.not_given.bands.crps["scratch"]
    assert cards.by_scheme[TASK].bands.cells == len(plain), "all else is of forecasts that do not know them"
    assert cards.overall.bands.distinct_cells == len(level) * len(SIZES)


def test_where_too_few_tasks_say_what_their_classes_scored_no_labels_are_given():
    cells, _ = hold_out(easy_and_hard(5)[0])
    assert not any(cell.with_labels for cell in cells)
    assert score_all(cells, lambda *_: "fine-tune", 0.01).by_labels == {}
