"""A pilot from its plan to the curve of its dataset: what is run, what is kept, and what is then known."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from advisor.answer.arms import not_measured
from advisor.answer.caveats import warn
from advisor.answer.costs import Cost
from advisor.answer.question import Question
from advisor.own_records.pilots.study import (
    Pilot,
    PilotError,
    Plan,
    _report_whole,
    check_records,
    divide_pool,
    pairs_by_seed,
    plan,
    run,
    set_up,
)
from advisor.own_records.pilots.update import Observed, fit_pilot, observe, update
from advisor.own_records.records import OwnData, divide_own
from engine.checkpoints.checkpoint import CheckpointError
from engine.corpora.corpus import Corpus
from engine.corpora.partition import available
from engine.corpora.synthetic import prepared_synthetic
from studies.collection.collect import make_curves
from studies.files.arms import FINE_TUNE, LINEAR_PROBE, RANDOM_CONVOLUTIONS, SCRATCH
from studies.files.curve import Curve, PilotCurve, PooledCurve
from studies.files.curves import read_curves
from studies.fitting.further_arms import add_to_scratch
from studies.fitting.learning_curves import fit_learning_curves
from studies.fitting.noise import Noise
from studies.fitting.paired_runs import ScoredRun, arrange
from studies.fitting.pooling import pool_tasks
from studies.running.progress import Progress
from studies.running.study_networks import folder_of
from studies.running.workload import Speed
from studies.running.workplaces import local_workplace
from studies.runs.run import Run
from studies.runs.run_spec import find_keys
from studies.runs.store import Store

ARCH = "resnet1d18-w2"
PAIR = (SCRATCH, FINE_TUNE)


def same_speed(training: float, forward: float) -> dict[str, Speed]:
    return dict.fromkeys((ARCH, RANDOM_CONVOLUTIONS), Speed(training, forward))


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepared_synthetic(tmp_path_factory.mktemp("corpora"), 120)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, checkpoint_writer) -> Path:
    return checkpoint_writer(tmp_path_factory.mktemp("networks") / "small", ARCH)


def own_data(corpus: Corpus) -> OwnData:
    return divide_own(corpus.root, corpus, "diagnosis")


def make_pilot(folder: Path, corpus: Corpus, checkpoint: Path, labels: slice = slice(None)) -> Pilot:
    own = own_data(corpus)
    data = replace(own.data, classes=own.data.classes[labels], labels=own.data.labels[:, labels])
    return set_up(folder, replace(own, data=data), ARCH, checkpoint)


def test_a_pilot_never_looks_at_the_records_that_train_tests_on(tmp_path: Path, made_up: Corpus, checkpoint: Path):
    pilot = make_pilot(tmp_path, made_up, checkpoint)
    data = made_up.task("diagnosis")
    pool, test, _ = available(made_up, data)
    divided = pilot.corpus.task("labels")
    learns, scores = divided.in_folds([1]), divided.in_folds([2])
    assert divided.in_folds([3]).tolist() == test.tolist()
    assert sorted([*learns.tolist(), *scores.tolist()]) == pool.tolist()
    assert not set(data.patients[learns].tolist()) & set(data.patients[scores].tolist())
    assert len(scores) == pytest.approx(len(pool) / 4, abs=2)
    assert pilot.largest == len(learns)
    for spec in pilot.specs(40, 0):
        assert (spec.pool_folds, spec.test_folds) == ((1,), (2,))
    assert (divided.classes, divided.labels.tolist()) == (data.classes, data.labels.tolist())
    assert np.array_equal(pilot.corpus.signals, made_up.signals)
    pilot.corpus.verify()


def test_other_labels_or_another_network_are_another_pilot(
    tmp_path: Path, made_up: Corpus, checkpoint: Path, checkpoint_writer
):
    def keys(pilot: Pilot) -> set[str]:
        found = find_keys(pilot.specs(40, 0), pilot.data_hashes)
        return {found[spec] for spec in pilot.specs(40, 0)}

    first = make_pilot(tmp_path, made_up, checkpoint)
    assert keys(make_pilot(tmp_path, made_up, checkpoint)) == keys(first)
    assert not keys(make_pilot(tmp_path, made_up, checkpoint, slice(2, 4))) & keys(first)
    two = checkpoint_writer(tmp_path / "other", ARCH, classes=("A", "B"), thresholds=(0.5, 0.5))
    other = make_pilot(tmp_path, made_up, two)
    assert len(keys(other) & keys(first)) == 2  # from scratch, random convolutions
    assert len(list(folder_of(first.store).iterdir())) == 2


def test_a_network_for_other_signals_is_refused(tmp_path: Path, made_up: Corpus, checkpoint_writer):
    with pytest.raises(CheckpointError, match=r"takes 12 leads .*and these records have 12"):
        make_pilot(tmp_path, made_up, checkpoint_writer(tmp_path / "longer", ARCH, n_samples=1200))
    with pytest.raises(CheckpointError, match="holds gru-w4, not resnet1d18-w2"):
        make_pilot(tmp_path, made_up, checkpoint_writer(tmp_path / "gru", "gru-w4"))


def test_records_that_cannot_be_piloted_are_refused_with_the_reason(made_up: Corpus):
    own = own_data(made_up)
    pool, test = divide_pool(own)
    data = own.data
    assert 20 <= check_records(own, pool, test) <= len(pool) // 2
    empty = replace(data, labels=data.labels * np.array([1, 0, 1, 1, 1], np.uint8))
    with pytest.raises(PilotError, match=f"no record of .* has the label {data.classes[1]}"):
        check_records(replace(own, data=empty), pool, test)
    with pytest.raises(PilotError, match=r"has 30 records .*needs 40"):
        check_records(own, pool[:30], test)
    with pytest.raises(PilotError, match=r"of 5 patients .*of 10 patients or more"):
        check_records(replace(own, data=replace(data, patients=np.arange(len(data.rows)) % 5)), pool, test)
    alike = test[(data.labels[test] == data.labels[test[0]]).all(axis=1)]
    with pytest.raises(PilotError, match="nothing to score"):
        check_records(own, pool, alike)


@pytest.mark.parametrize("n_pool", [50, 96, 480, 3000, 20000])
@pytest.mark.parametrize("budget", [20.0, 600.0, 6000.0])
def test_a_plan_keeps_the_budget_and_ends_at_the_records_there_are(
    tmp_path: Path, made_up: Corpus, checkpoint: Path, n_pool: int, budget: float
):
    pilot = replace(make_pilot(tmp_path, made_up, checkpoint), smallest=24, largest=n_pool)
    speeds = same_speed(1e-3, 3e-4)
    try:
        chosen = plan(pilot, budget, speeds, 2)
    except PilotError as error:
        assert budget == 20.0
        assert "give --minutes" in str(error)
        return
    assert chosen.seconds <= budget
    assert 2 <= chosen.replicates <= 5
    assert 2 <= len(chosen.sizes) <= 3
    assert list(chosen.sizes) == sorted(set(chosen.sizes))
    assert chosen.sizes[0] >= 20
    assert chosen.sizes[-1] <= n_pool
    if budget == 6000.0 and n_pool <= 3000:
        assert chosen.sizes[-1] == n_pool


def test_the_cheap_arms_count_in_the_budget_and_make_no_pilot_impossible(
    tmp_path: Path, made_up: Corpus, checkpoint: Path, monkeypatch
):
    monkeypatch.setattr("advisor.own_records.pilots.study._offers", lambda *_: [(30, 60)])
    pilot = make_pilot(tmp_path, made_up, checkpoint)
    free = same_speed(1e-3, 0.0)  # the pairs alone cost time
    dear = {**free, RANDOM_CONVOLUTIONS: Speed(0.0, 0.0, run=3.0)}  # at two sizes by two workers: 3 s a replicate
    pairs, both = (plan(pilot, 1e9, speeds, 2) for speeds in (free, dear))
    more = (both.seconds - pairs.seconds) / pairs.replicates  # as far as the workers do not wait for each other anyway
    assert 2.0 < more <= 3.0 + 1e-9
    tight = 1.01 * pairs.seconds / pairs.replicates * 2
    assert plan(pilot, tight + 6.0, dear, 2).replicates == plan(pilot, tight, dear, 2).replicates == 2
    assert plan(pilot, tight, dear, 2).budget >= plan(pilot, tight, dear, 2).seconds > tight  # no replicate is dropped
    with pytest.raises(PilotError, match="give --minutes"):
        plan(pilot, 0.9 * tight, dear, 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, made_up: Corpus, checkpoint: Path) -> tuple[Pilot, Plan]:
    """A pilot that was run: two sizes, two pairs each."""
    pilot = make_pilot(tmp_path_factory.mktemp("pilot"), made_up, checkpoint)
    chosen = Plan((30, 60), 2, 1.0, 1e9)
    with local_workplace(2) as workplace:
        assert run(pilot, chosen, workplace, lambda _progress: None) == 0
    return pilot, chosen


def test_the_pairs_share_records_and_seed_and_are_kept(finished):
    pilot, _ = finished
    runs = pilot.runs()
    cells = [(run.strategy, run.n_records, run.replicate) for run in runs]
    arms = (*PAIR, LINEAR_PROBE, RANDOM_CONVOLUTIONS)
    assert sorted(cells) == sorted((arm, n, k) for arm in arms for n in (30, 60) for k in (0, 1))
    assert {run.test_records for run in runs} == {len(pilot.corpus.task("labels").in_folds([2]))}
    assert {(run.strategy, run.arch, run.upstream) for run in runs} == {
        (SCRATCH, ARCH, None), (FINE_TUNE, ARCH, "ptb-xl/superclass"), (LINEAR_PROBE, ARCH, "ptb-xl/superclass"),
        (RANDOM_CONVOLUTIONS, RANDOM_CONVOLUTIONS, None),
    }  # fmt: skip
    assert all(len({spec.seed for spec in pilot.specs(n, k)}) == 1 for n in (30, 60) for k in (0, 1))


def test_the_same_pilot_again_runs_nothing(finished):
    pilot, chosen = finished
    before = {run.key: run.created for run in pilot.runs()}
    with local_workplace(1) as workplace:
        run(pilot, chosen, workplace, lambda _progress: None)
    assert {run.key: run.created for run in pilot.runs()} == before
    again = plan(replace(pilot, smallest=20, largest=96), 1e6, same_speed(1e-6, 1e-6), 2)
    assert again.sizes == (30, 60)  # one that has begun keeps its sizes


def test_a_pilot_of_pairs_alone_is_gone_on_with(tmp_path: Path, made_up: Corpus, checkpoint: Path, finished):
    """An earlier version ran no other arms: what is there stays, and they are run in its cells."""
    pilot = make_pilot(tmp_path, made_up, checkpoint)
    before = [run for run in finished[0].runs() if run.strategy in PAIR]
    keep(pilot, before)
    assert {run.key for run in pilot.runs()} == {run.key for run in before}
    chosen = plan(pilot, 1e-9, same_speed(1.0, 1.0), 1, fewest=2)  # the pairs cost nothing more
    assert (chosen.sizes, chosen.replicates) == ((30, 60), 2)
    before = [run for run in finished[0].runs() if run.strategy in PAIR or (run.n_records, run.replicate) != (30, 0)]
    keep(pilot, [run for run in before if run.strategy not in PAIR])  # as a stop would leave it, for a quick test
    with local_workplace(1) as workplace:
        assert run(pilot, chosen, workplace, lambda _progress: None) == 0
    after = {run.key: run for run in pilot.runs()}
    assert len(after) == 16
    assert {run.key: run.created for run in before}.items() <= {key: run.created for key, run in after.items()}.items()


def test_a_pilot_that_was_stopped_among_its_sizes_goes_on_with_all_of_them(
    tmp_path: Path, made_up: Corpus, checkpoint: Path, monkeypatch
):
    made, speed = make_pilot(tmp_path, made_up, checkpoint), same_speed(1e-3, 3e-4)
    pilot = replace(made, smallest=24, largest=480)
    whole = plan(pilot, 6000.0, speed, 2)
    assert len(whole.sizes) == 3
    begun = [
        Run(task="own", arch="net", family="cnn", strategy=arm, n_records=n, replicate=0)
        for n in whole.sizes[1:]
        for arm in (SCRATCH, FINE_TUNE)
    ]
    monkeypatch.setattr(Pilot, "runs", lambda _: begun)
    assert plan(pilot, 6000.0, speed, 2).sizes == whole.sizes
    more = replace(pilot, largest=700)
    assert plan(more, 6000.0, speed, 2).sizes == whole.sizes[1:]  # none of its sizes would be more


def test_a_spent_budget_leaves_whole_replicates(tmp_path: Path, made_up: Corpus, checkpoint: Path, monkeypatch):
    ran: list[int] = []

    def pretend(specs, *_args, **_options):
        assert [spec.strategy in PAIR for spec in specs] == [False] * 4 + [True] * 4  # what takes seconds first
        ran.extend(spec.replicate for spec in specs)
        return Progress(len(specs))

    monkeypatch.setattr("advisor.own_records.pilots.study.run_study", pretend)
    times = iter([0.0, 0.0, 40.0, 40.0, 80.0, 80.0, 120.0])
    pilot = make_pilot(tmp_path, made_up, checkpoint)
    run(pilot, Plan((30, 60), 5, 100.0, 100.0), None, lambda _p: None, lambda: next(times))
    assert sorted(set(ran)) == [0, 1]
    assert ran.count(0) == ran.count(1) == 8


def keep(pilot: Pilot, runs: list[Run]) -> None:
    """Put runs into a pilot's store."""
    store = Store(pilot.store)
    for one in runs:
        store.add(one, np.zeros((2, 5)))
    store.close()


def test_half_a_pair_does_not_count(tmp_path: Path, made_up: Corpus, checkpoint: Path, finished):
    pilot = make_pilot(tmp_path, made_up, checkpoint)
    keep(pilot, [r for r in finished[0].runs() if (r.strategy, r.replicate) != (SCRATCH, 1)])
    arms = (*PAIR, LINEAR_PROBE, RANDOM_CONVOLUTIONS)
    assert {(r.strategy, r.replicate) for r in pilot.runs()} == {(arm, 0) for arm in arms}


def test_the_pairs_of_each_seed_are_counted_at_the_size_with_the_most(
    tmp_path: Path, made_up: Corpus, checkpoint: Path
):
    cells = {0: [(30, 0), (60, 0), (60, 1), (60, 2)], 2: [(30, 0), (60, 0)]}
    ran = []
    for seed, of_seed in cells.items():
        pilot = set_up(tmp_path, own_data(made_up), ARCH, checkpoint, seed)
        specs = [spec for n, k in of_seed for spec in pilot.specs(n, pilot.first + k)]
        ran += [
            Run(task="own", arch="net", family="cnn", strategy=spec.strategy, n_records=spec.n_records,
                replicate=spec.replicate)
            for spec in specs
        ]  # fmt: skip
    assert pairs_by_seed(ran) == {0: 3, 2: 1}
    assert pairs_by_seed([]) == {}


def test_a_pair_of_two_precisions_does_not_count(tmp_path: Path, made_up: Corpus, checkpoint: Path, finished):
    pilot = make_pilot(tmp_path, made_up, checkpoint)
    done = [r for r in finished[0].runs() if r.strategy in PAIR]
    elsewhere = [(r.strategy, r.replicate) == (FINE_TUNE, 1) for r in done]
    keep(pilot, [replace(r, precision="bf16" if b else "float32") for r, b in zip(done, elsewhere, strict=True)])
    assert {(r.strategy, r.replicate) for r in pilot.runs()} == {(SCRATCH, 0), (FINE_TUNE, 0)}
    curve = fit_pilot(pilot, pooled_curve((0.9, 0.92, 0.94), (0.02, 0.03, 0.04)))
    assert curve.precision == "float32"


def test_a_pilot_in_another_precision_than_the_other_tasks_says_so(curves_path: Path):
    pool, curves = pooled_curve((0.9, 0.92, 0.94), (0.02, 0.03, 0.04)), read_curves(curves_path)
    shared = {one.name: getattr(pool, one.name) for one in fields(Curve)}
    for precision, said in (("bf16", True), ("float32", False)):
        points = {arm: {500: (0.8,)} for arm in (SCRATCH, FINE_TUNE)}
        pilot = PilotCurve(**shared | {"precision": precision, "points": points}, predicted_by=pool)
        known = {"scratch": Cost(None, None, None, None)}
        warnings = warn(Question(500), pilot, curves, "interpolated", (), known, None)
        assert any("The pilot trained in bf16, the other tasks in float32" in one for one in warnings) == said


@pytest.fixture(scope="module")
def fitted_alone(finished) -> PilotCurve:
    return fit_pilot(finished[0], None)


def test_a_pilot_alone_answers_from_two_sizes_of_two_pairs(finished, fitted_alone: PilotCurve):
    curve = fitted_alone
    assert isinstance(curve, PilotCurve)
    assert curve.predicted_by is None
    assert curve.sizes == (30, 60)
    assert curve.runs == 8
    assert curve.seeds == {0: 2}
    assert not (finished[0].folder / "curves.json").exists()  # the store is what is kept, and the curve is of it
    assert curve.cost[SCRATCH].device
    assert set(curve.draws) == set(curve.cost) == {*PAIR, LINEAR_PROBE, RANDOM_CONVOLUTIONS}


# What a pilot adds to what was predicted, where the truth is known.

SIZES = (100, 250, 500, 1000)


def pooled_curve(levels, gains, seed: int = 0) -> PooledCurve:
    """The curve of a new task, from tasks that end at ``levels`` and gain ``gains`` at 100 records."""
    fits = {}
    rng = np.random.default_rng(seed)
    for k, (level, gain) in enumerate(zip(levels, gains, strict=True)):
        runs = []
        for n in SIZES:
            for replicate in range(4):
                shared = rng.normal(0, 0.01)
                for arm, extra in ((SCRATCH, 0.0), (FINE_TUNE, gain * (100 / n) ** 0.5)):
                    score = level - 1.5 * n**-0.5 + extra + shared + rng.normal(0, 0.006)
                    runs.append(ScoredRun(arm, n, replicate, float(np.clip(score, 0.3, 0.99))))
        fits[f"t{k}"] = fit_learning_curves(arrange(runs, np.eye(2) * 1e-5), k)
    pool = pool_tasks(fits, 1)
    noise = {"alpha": pool.noise.alpha, "gamma": pool.noise.gamma, "correlation": pool.noise.correlation}
    return PooledCurve(
        task="a new task", arch=ARCH, family="cnn", upstream="up", metric="auroc_macro", sizes=SIZES, replicates=4,
        runs=100, draws=pool.draws, noise=noise, points={}, cost={}, pretraining=None, sources=(), test_records=None,
        warnings=(), tasks=tuple(fits),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> PooledCurve:
    return pooled_curve([0.85, 0.88, 0.90, 0.92, 0.95, 0.97], [0.02, 0.1, 0.05, 0.08, 0.03, 0.06])


def seen(scratch: float, gain: float, sd: float, n: int = 100) -> Observed:
    return Observed(np.array([float(n)]), np.array([[scratch], [scratch + gain]]), np.array([2.0]), np.eye(2) * sd**2)


def band(draws, arm: str, n: float) -> tuple[float, float, float]:
    from studies.files.draws import evaluate

    return tuple(np.quantile(evaluate(draws[arm], n, 0.5)[:, 0], (0.05, 0.5, 0.95)))


def test_what_a_pilot_measures_well_is_what_is_then_expected(pool: PooledCurve):
    draws = update(pool, seen(0.74, 0.07, 0.002), 0)
    for arm, truth in ((SCRATCH, 0.74), (FINE_TUNE, 0.81)):
        low, middle, high = band(draws, arm, 100)
        assert middle == pytest.approx(truth, abs=0.004)
        assert high - low < 0.02


def test_a_further_arm_follows_the_scores_that_a_pilot_measures(pool: PooledCurve):
    """A probe that is .03 above scratch in every task is so in the pilot's; the two arms are as without it."""
    scratch = pool.draws[SCRATCH]
    nodes = scratch["nodes"]
    added = add_to_scratch(scratch, nodes, np.full((len(scratch["a"]), len(nodes)), 0.03), 100.0, 0.5)
    four = replace(pool, draws={**pool.draws, "linear-probe": added})
    found, two = (update(curve, seen(0.74, 0.07, 0.002), 0) for curve in (four, pool))
    assert set(two) == {SCRATCH, FINE_TUNE} and set(found) == {*two, "linear-probe"}
    assert band(found, "linear-probe", 100)[1] == pytest.approx(0.77, abs=0.006)
    for arm in two:
        np.testing.assert_allclose(band(found, arm, 400), band(two, arm, 400), atol=0.004)


def with_probe(pool: PooledCurve, above: float, noise: float = 0.003) -> PooledCurve:
    """The pooled curve with a linear probe that is ``above`` scratch in every task."""
    scratch = pool.draws[SCRATCH]
    nodes, rng = scratch["nodes"], np.random.default_rng(5)
    difference = above + rng.normal(0, 0.03, (len(scratch["a"]), 1)) + np.zeros(len(nodes))
    added = add_to_scratch(scratch, nodes, difference, 100.0, 0.5)
    law = {"alpha": float(np.log(noise)), "gamma": 0.0}
    return replace(pool, draws={**pool.draws, LINEAR_PROBE: added}, further_noise={LINEAR_PROBE: law})


def test_a_further_arm_that_a_pilot_measures_is_then_expected_so_and_tells_of_the_others(pool: PooledCurve):
    curve, two = with_probe(pool, 0.05), seen(0.74, 0.07, 0.02)
    precise = np.diag([0.02**2, 0.02**2, 0.002**2])
    means = np.array([[0.74], [0.81], [0.87]])
    three = Observed(two.sizes, means, two.pairs, precise, arms=(*PAIR, LINEAR_PROBE))
    before, after = (update(curve, measured, 0) for measured in (two, three))
    low, middle, high = band(after, LINEAR_PROBE, 100)
    assert middle == pytest.approx(0.87, abs=0.005)
    assert high - low < 0.02 < np.subtract(*band(before, LINEAR_PROBE, 100)[::-2])
    assert band(after, SCRATCH, 100)[1] > band(before, SCRATCH, 100)[1] + 0.005  # a high probe speaks for high scores


def test_a_further_arm_without_a_run_at_some_size_counts_where_it_has_one(pool: PooledCurve):
    curve, sizes = with_probe(pool, 0.05), np.array([100.0, 250.0])
    means = np.array([[0.74, 0.78], [0.81, 0.83], [0.80, np.nan]])
    given = Observed(sizes, means, np.ones(2), np.eye(6) * 1e-5, arms=(*PAIR, LINEAR_PROBE))
    draws = update(curve, given, 0)
    assert band(draws, LINEAR_PROBE, 100)[1] == pytest.approx(0.80, abs=0.01)
    assert all(np.isfinite(values).all() for arm in draws.values() for values in arm.values())


def test_a_pilot_that_measures_nothing_changes_nothing(pool: PooledCurve):
    draws = update(pool, seen(0.74, 0.07, 10.0), 0)
    for arm in (SCRATCH, FINE_TUNE):
        for n in (100, 400, 1000):
            before = np.quantile(pool.scores(arm, n)[:, 0], (0.05, 0.5, 0.95))
            after = band(draws, arm, n)
            assert np.allclose(before[1:], after[1:], atol=0.02)
            # Its lower tail is shorter than that of the normal distribution in logits which an update takes it for.
            assert before[0] - 0.12 < after[0] < before[0] + 0.02


def test_a_pilot_at_few_records_tells_of_many_and_leaves_more_unknown_there(pool: PooledCurve):
    draws = update(pool, seen(0.80, 0.05, 0.005), 0)
    widths = [band(draws, SCRATCH, n)[2] - band(draws, SCRATCH, n)[0] for n in (100, 1000)]
    before = np.quantile(pool.scores(SCRATCH, 1000)[:, 0], (0.05, 0.5, 0.95))
    assert widths[0] < widths[1] < before[2] - before[0]
    assert band(draws, SCRATCH, 1000)[1] > before[1]  # better than the tasks are at 100, so at 1,000


def test_a_better_measured_gain_narrows_its_band(pool: PooledCurve):
    from studies.files.draws import evaluate

    def width(sd: float) -> float:
        draws = update(pool, seen(0.74, 0.06, sd), 0)
        gain = evaluate(draws[FINE_TUNE], 200, 0.5) - evaluate(draws[SCRATCH], 200, 0.5)
        return float(np.subtract(*np.quantile(gain, (0.95, 0.05))))

    assert width(0.003) < width(0.01) < width(0.05)


def test_records_unlike_any_task_leave_more_unknown(pool: PooledCurve):
    usual, strange = (update(pool, seen(score, 0.05, 0.01), 0) for score in (0.75, 0.40))
    widths = [band(draws, SCRATCH, 1000)[2] - band(draws, SCRATCH, 1000)[0] for draws in (usual, strange)]
    assert widths[1] > widths[0]


def test_what_rounds_otherwise_turns_no_draw_over(pool: PooledCurve):
    given = Observed(np.array([100.0, 250.0]), np.array([[0.7, 0.76], [0.74, 0.79]]), np.ones(2), np.eye(4) * 1e-4)
    almost = replace(given, means=given.means * (1 + 1e-13), covariance=given.covariance * (1 - 1e-13))
    one, other = (update(pool, measured, 5) for measured in (given, almost))
    for arm, draws in one.items():
        for name, values in draws.items():
            np.testing.assert_allclose(other[arm][name], values, rtol=1e-6, atol=1e-7, err_msg=f"{arm} {name}")


def test_the_noise_of_runs_and_of_test_patients_is_in_what_is_observed(finished, pool: PooledCurve):
    runs = finished[0].runs()
    found = observe(runs, pool)
    assert found.sizes.tolist() == [30, 60]
    for k, arm in enumerate((SCRATCH, FINE_TUNE)):
        scores = [run.auroc_macro for run in runs if (run.strategy, run.n_records) == (arm, 30)]
        assert found.means[k, 0] == pytest.approx(np.mean(scores))
    run_variance = pool.run_sd(30) ** 2 / 2
    assert found.covariance[0, 0] > run_variance
    assert np.linalg.eigvalsh(found.covariance).min() >= 0
    calm = observe(runs, replace(pool, noise={**pool.noise, "alpha": pool.noise["alpha"] - 3}))
    assert calm.excess > 1  # runs that scatter more than was predicted
    curve = fit_pilot(finished[0], replace(pool, noise={**pool.noise, "alpha": pool.noise["alpha"] - 3}))
    assert curve.run_sd(30) == pytest.approx(curve.predicted_by.run_sd(30) * calm.excess**0.5)
    noisier = observe(runs, replace(pool, noise={**pool.noise, "alpha": pool.noise["alpha"] + 3}))
    assert noisier.covariance[0, 0] > found.covariance[0, 0]


def test_each_arm_is_observed_with_its_own_noise_and_with_what_it_shares(finished, pool: PooledCurve):
    runs = finished[0].runs()
    four = with_probe(pool, 0.03, noise=1e-4)
    found, two = observe(runs, four), observe([run for run in runs if run.strategy in PAIR], pool)
    assert (found.arms, two.arms) == ((*PAIR, LINEAR_PROBE), PAIR)  # the pool has no random convolutions
    np.testing.assert_allclose(found.covariance[:4, :4], two.covariance, rtol=1e-12)
    np.testing.assert_array_equal(found.means[:2], two.means)
    assert (found.excess, two.further_excess) == (two.excess, {})
    of_probe = [run.auroc_macro for run in runs if (run.strategy, run.n_records) == (LINEAR_PROBE, 60)]
    assert found.means[2, 1] == pytest.approx(np.mean(of_probe))
    assert found.further_excess[LINEAR_PROBE] > 1  # its runs differ by more than 1e-4
    curve = fit_pilot(finished[0], four)
    factor = found.further_excess[LINEAR_PROBE] ** 0.5
    assert curve.run_sd(60, LINEAR_PROBE) == pytest.approx(four.run_sd(60, LINEAR_PROBE) * factor)
    assert set(curve.draws) == {*PAIR, LINEAR_PROBE, RANDOM_CONVOLUTIONS}
    assert all(curve.cost[arm].device for arm in curve.draws)  # the pilot's own costs: the pool says none
    assert np.abs(found.covariance[4:, :4]).min() > 0  # test patients are shared
    less = [run for run in runs if (run.strategy, run.n_records) != (LINEAR_PROBE, 30)]
    assert np.isnan(observe(less, four).means).tolist() == [[False, False], [False, False], [True, False]]


@pytest.fixture(scope="module")
def updated(finished, pool: PooledCurve) -> PilotCurve:
    return fit_pilot(finished[0], pool, n_records=60)


def test_an_arm_that_no_other_task_has_is_predicted_from_the_pilot_alone(
    finished, fitted_alone: PilotCurve, updated: PilotCurve, pool: PooledCurve
):
    pilot, alone, curve = finished[0], fitted_alone, updated
    pairs = SimpleNamespace(**{name: getattr(pilot, name) for name in ("task", "arch", "upstream")})
    pairs.runs = lambda: [run for run in pilot.runs() if run.strategy in PAIR]
    two = fit_pilot(pairs, pool)
    assert set(two.draws) == set(PAIR)
    assert set(curve.draws) == {*PAIR, LINEAR_PROBE, RANDOM_CONVOLUTIONS}
    for arm in PAIR:  # as without it
        for name, values in two.draws[arm].items():
            np.testing.assert_array_equal(curve.draws[arm][name], values)
    for arm in (LINEAR_PROBE, RANDOM_CONVOLUTIONS):
        low, high = np.quantile(curve.scores(arm, 60)[:, 0], (0.05, 0.95))
        assert low < np.mean(curve.points[arm][60]) < high
        assert len(curve.draws[arm]["a"]) == len(curve.draws[SCRATCH]["a"])
        assert curve.cost[arm] == alone.cost[arm]
    assert curve.run_sd(60, LINEAR_PROBE) != curve.run_sd(60)  # its own
    assert curve.runs == 8  # of the pairs


def test_an_arm_that_cannot_be_predicted_keeps_its_scores(finished, pool: PooledCurve, curves_path: Path):
    pilot, curves = finished[0], read_curves(curves_path)
    far = fit_pilot(pilot, pool, n_records=1000)  # beyond the reach of runs with 30 and 60 records
    one = SimpleNamespace(**{name: getattr(pilot, name) for name in ("task", "arch", "upstream")})
    one.runs = lambda: [run for run in pilot.runs() if run.replicate == 0]
    few = fit_pilot(one, pool, n_records=60)
    why = {1000: "1,000 are over 4 times as many", 60: "it takes two pairs at two sizes"}
    for curve, n in ((far, 1000), (few, 60)):
        assert set(curve.draws) == set(PAIR)
        assert curve.points[LINEAR_PROBE].keys() == curve.points[RANDOM_CONVOLUTIONS].keys() == {30, 60}
        assert not_measured(curve) == ()
        known = {"scratch": Cost(None, None, None, None)}
        warnings = warn(Question(n), curve, curves, "measured", (), known, None)
        (said,) = [one for one in warnings if one.startswith("At 60 records the pilot measured ")]
        assert f"linear probe {np.mean(curve.points[LINEAR_PROBE][60]):.3f}" in said
        assert said.endswith(f"Not predicted and not compared: linear probe and random convolutions ({why[n]}).")
        means = [float(score) for score in re.findall(r" (0\.\d{3})", said)]
        assert means == sorted(means, reverse=True) and len(means) == 4


def test_the_bands_hold_the_truth_of_new_tasks_about_as_often_as_they_say():
    """Six tasks predict a seventh drawn like them; two pairs at 100 records; the truth at 1,000."""
    held = []
    for seed in range(24):
        rng = np.random.default_rng(100 + seed)
        levels, gains = rng.normal(0.9, 0.03, 7), rng.normal(0.05, 0.02, 7)
        curve = pooled_curve(levels[:6], gains[:6], seed)
        truth = levels[6] - 1.5 * np.array([100.0, 1000.0]) ** -0.5
        measured = truth[0] + rng.normal(0, 0.01), truth[0] + gains[6] + rng.normal(0, 0.01)
        given = Observed(np.array([100.0]), np.array(measured)[:, None], np.array([2.0]), np.eye(2) * 1e-4)
        low, _, high = band(update(curve, given, seed), SCRATCH, 1000)
        held.append(low <= truth[1] <= high)
    assert np.mean(held) >= 0.75


def test_a_curve_with_a_pilot_says_what_it_rests_on(finished, updated: PilotCurve, pool: PooledCurve):
    curve = updated
    assert isinstance(curve, PilotCurve)
    assert curve.sizes == (30, 60, *SIZES)
    assert curve.measured_tasks == (*pool.tasks, finished[0].task)
    assert curve.points[SCRATCH].keys() == {30, 60}
    assert curve.predicted_by is pool
    assert curve.rests_on == (curve, pool)
    assert [curve.support(n) for n in (31, 45, 100, 1000, 5000)] == [
        "measured", "interpolated", "extrapolated", "extrapolated", "beyond"
    ]  # fmt: skip
    assert Noise(**{name: curve.noise[name] for name in ("alpha", "gamma", "correlation")})


def test_a_pilot_alone_has_the_curve_that_a_study_of_its_runs_has(finished, fitted_alone: PilotCurve, tmp_path: Path):
    pilot, _ = finished
    (tmp_path / "curves.json").write_text(json.dumps(make_curves(pilot.runs(), "pilot")))
    (studied,) = read_curves(tmp_path / "curves.json").curves
    curve = fitted_alone
    for name in ("task", "arch", "family", "upstream", "metric", "sizes", "replicates", "runs", "cost", "pretraining",
                 "sources", "test_records", "warnings"):  # fmt: skip
        assert getattr(curve, name) == getattr(studied, name), name
    assert curve.noise == pytest.approx(studied.noise, rel=1e-5)
    assert set(curve.draws) == set(studied.draws)
    for arm in curve.draws:
        assert curve.points[arm].keys() == studied.points[arm].keys()
        for n in (30, 45, 60, 120):
            assert np.allclose(curve.scores(arm, n), studied.scores(arm, n), atol=2e-4)  # a file rounds


def test_pairs_that_make_no_curve_are_refused_alone_and_update_what_was_predicted(finished, pool: PooledCurve):
    pilot, _ = finished
    one = SimpleNamespace(**{name: getattr(pilot, name) for name in ("task", "arch", "upstream")})
    one.runs = lambda: [run for run in pilot.runs() if (run.n_records, run.replicate) == (30, 0)]
    with pytest.raises(PilotError, match=r"the pilot's one pair makes no curve yet .*no size has two pairs"):
        fit_pilot(one, None)
    curve = fit_pilot(one, pool)
    assert (curve.runs, curve.replicates, curve.cost) == (2, 1, pool.cost)
    assert curve.measured_sizes == (30,)
    one.runs = list
    with pytest.raises(PilotError, match="no whole pair"):
        fit_pilot(one, pool)


def test_a_network_of_one_lead_is_piloted_on_that_one(tmp_path: Path, made_up: Corpus, checkpoint_writer):
    from engine.checkpoints.checkpoint import Standardisation

    one = checkpoint_writer(tmp_path / "one", ARCH, leads=("I",), standardisation=Standardisation((0.0,), (1.0,)))
    scratch, tuned, probe, kernels = make_pilot(tmp_path, made_up, one).specs(40, 0)
    assert {scratch.reading, tuned.reading, probe.reading} == {"I, scaled by set"}
    assert kernels.reading == ""


def test_the_time_left_is_that_of_all_replicates_at_the_pace_of_the_one_that_runs():
    said = []
    replicate = Progress(8, done=4, work_total=8.0, work_done=4.0)
    replicate.started -= 60
    _report_whole(said.append, 24, 8, replicate)
    (whole,) = said
    assert (whole.total, whole.done) == (24, 12)
    assert whole.seconds_left() == pytest.approx(60 / 4 * 12, rel=0.01)
    assert (replicate.total, replicate.done) == (8, 4)
