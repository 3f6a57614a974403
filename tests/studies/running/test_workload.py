"""A run's record passes are counted as it really makes them, and a forecast adds up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.corpora.corpus import Corpus
from models import registry
from studies.running import one_run, workload
from studies.running.design import Design, Grid
from studies.running.expansion import expand, hash_tasks
from studies.running.jobs import Job, Outcome, make_jobs
from studies.running.lockstep_groups import Forecast, Kind
from studies.running.one_run import execute_together
from studies.running.study_networks import digest_of, write_files
from studies.running.workload import Passes, Shape, Speed, Workload, measure_speed
from studies.running.workplaces import Probe, measure_side_by_side
from studies.runs.run_spec import FROZEN, STARTING_FROM_UPSTREAM, RunSpec

POOL, TEST = (1, 2, 3, 4, 5, 6, 7, 8), (10,)
counted: dict[str, int] = {}


class Counting(nn.Module):
    """Counts the records that pass through it, those of training and those of prediction, and the steps."""

    def __init__(self, n_leads: int, n_classes: int) -> None:
        super().__init__()
        self.body = nn.Linear(n_leads, 3)
        self.head = nn.Linear(3, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta:  # its arithmetic is counted
            return self.head(self.body(x.mean(dim=2)))
        what = "training" if torch.is_grad_enabled() and self.training else "forward"
        counted[what] = counted.get(what, 0) + len(x)
        counted["steps"] = counted.get("steps", 0) + (what == "training")
        return self.head(self.body(x.mean(dim=2)))


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.list_networks()
    entry = registry.NetworkEntry("counting", "cnn", 1, lambda n_leads, n_classes, **_: Counting(n_leads, n_classes))
    monkeypatch.setitem(registry._entries, "counting", entry)


def exact_share(task, spec: RunSpec, recipe) -> tuple[np.ndarray, np.ndarray]:
    """The validation share without the odd record that whole patients bring."""
    drawn = task.in_folds(spec.pool_folds)[: spec.n_records]
    n_validation = max(1, round(recipe.validation_fraction * len(drawn)))
    return drawn[n_validation:], drawn[:n_validation]


def run_together(specs: list[RunSpec], corpus: Corpus, folder: Path) -> list[Outcome]:
    """Run one after another, each pre-training before what starts from it; return what came of them."""
    outcomes = []
    for job in make_jobs(specs, corpus.root.parent, hash_tasks(specs, {"ptb-xl": corpus}), folder, "cpu"):
        counted.clear()
        start = job.start_from and digest_of(folder / job.start_from)
        (outcome,) = execute_together([replace(job, start_digest=start or "")])
        assert isinstance(outcome, Outcome), outcome
        if outcome.network is not None:
            write_files(outcome.network, folder / job.key)
        outcomes.append(outcome)
    return outcomes


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize("n_records", [20, 41, 90])
@pytest.mark.parametrize("recipe", ["tuned", "paper"])
@pytest.mark.parametrize("strategy", ["scratch", "fine-tune", "frozen", "random-frozen"])
def test_a_run_passes_as_many_records_through_its_network_as_counted(
    strategy, recipe: str, n_records: int, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(one_run, "training_rows", exact_share)
    spec = RunSpec("ptb-xl/superclass", "counting", strategy, None, n_records, 0, recipe, POOL, TEST)
    if strategy in STARTING_FROM_UPSTREAM:
        spec = replace(spec, upstream="ptb-xl/non-diagnostic", upstream_folds=(9,), upstream_records=10)
    pretraining = spec.pretraining()
    outcome = run_together([spec] if pretraining is None else [pretraining, spec], corpus, tmp_path)[-1]
    expected, batch = Workload({"ptb-xl": corpus}).passes(spec), spec.resolve_recipe().batch_size
    assert (counted.get("training", 0), counted["forward"]) == (expected.training, expected.forward)
    assert counted.get("steps", 0) == pytest.approx(expected.training / batch + expected.unfilled)
    assert (expected.head_steps > 0) is (strategy in FROZEN)
    assert len(outcome.run.validations) == expected.validations
    assert expected.tested == len(corpus.task("superclass").in_folds(TEST))


def test_a_speed_adds_up_what_a_run_does():
    passes = Passes(training=1000, forward=300, unfilled=2.5, tested=100)
    assert Speed(2e-3, 1e-3).seconds(passes) == pytest.approx(2 + 0.3)
    passes = replace(passes, validations=10, head_steps=50)
    speed = Speed(2e-3, 1e-3, step=0.4, testing=1e-4, run=0.05, validation=2e-3, head=1e-3)
    assert speed.seconds(passes) == pytest.approx(2 + 0.3 + 1 + 0.01 + 0.05 + 0.02 + 0.05)
    assert speed.times(3).seconds(passes) == pytest.approx(3 * speed.seconds(passes))
    assert Speed.mean([speed, speed.times(3)]).seconds(passes) == pytest.approx(2 * speed.seconds(passes))
    assert speed.between(speed.times(3), 0.25).seconds(passes) == pytest.approx(1.5 * speed.seconds(passes))


def design_jobs(corpus: Corpus, replicates: int, strategies: tuple[str, ...] = ("scratch",)) -> list[Job]:
    upstreams = ("ptb-xl/non-diagnostic",) if "fine-tune" in strategies else ()
    grid = Grid(
        ("ptb-xl/superclass",), ("resnet1d18-w2",), strategies, (40,), replicates, "tuned", (5, 6, 7, 8, 9), (10,),
        upstreams, (1, 2, 3, 4) if upstreams else (),
    )  # fmt: skip
    specs = expand(Design("tiny", (grid,)), {"ptb-xl": corpus})
    return make_jobs(specs, corpus.root.parent, hash_tasks(specs, {"ptb-xl": corpus}), corpus.root, "cpu")


def forecast_of(corpus: Corpus, jobs: list[Job], workers: int, most: int = 1) -> Forecast:
    """Every run takes a second alone; a group of ``most`` in lockstep takes two."""
    load = Workload({"ptb-xl": corpus})
    forecast = Forecast(load, lambda _spec: Kind(("one",), most) if most > 1 else None, workers)
    for probe in forecast.probes([job.spec for job in jobs]):
        forecast.speeds = {**forecast.speeds, probe: Speed(0, 0, run=1.0 if probe.runs == 1 else 2 / probe.runs)}
    return forecast


@pytest.mark.parametrize(("workers", "seconds"), [(1, 5), (2, 3), (4, 2), (9, 1)])
def test_a_study_takes_as_long_as_its_workers_are_busy(workers: int, seconds: int, corpus: Corpus):
    jobs = design_jobs(corpus, 5)
    forecast = forecast_of(corpus, jobs, workers)
    assert forecast.seconds(jobs) == pytest.approx(seconds)
    forecast.start = 3.0
    assert forecast.seconds(jobs) == pytest.approx(3 + seconds)
    assert forecast.seconds([]) == 0


def test_what_starts_from_a_pretraining_waits_for_it(corpus: Corpus):
    jobs = design_jobs(corpus, 1, ("scratch", "fine-tune"))
    assert [job.spec.strategy for job in jobs] == ["scratch", "scratch", "fine-tune"]
    assert forecast_of(corpus, jobs, 3).seconds(jobs) == pytest.approx(2)
    assert forecast_of(corpus, jobs[1:], 3).seconds(jobs[1:]) == pytest.approx(1), "it is trained already"


def test_a_probe_computes_features_once_and_trains_no_step(corpus: Corpus):
    spec = RunSpec("ptb-xl/superclass", "random-convolutions", "random-convolutions", None, 41, 0, "tuned", POOL, TEST)
    load, tested = Workload({"ptb-xl": corpus}), len(corpus.task("superclass").in_folds(TEST))
    passes = load.passes(spec)
    assert (passes.training, passes.forward, passes.tested) == (0, 41 + tested, tested)
    assert passes.head_steps > 0
    probe = replace(spec, strategy="linear-probe", arch="resnet1d18-w2", upstream="x", upstream_folds=(9,))
    assert load.passes(probe).forward == 2 * passes.forward, "its own features and random convolutions"


@pytest.mark.parametrize(("replicates", "seconds"), [(1, 1), (4, 2), (8, 4), (6, 2 + 4 / 3)])
def test_runs_that_train_together_take_the_time_of_their_group(replicates: int, seconds: float, corpus: Corpus):
    jobs = design_jobs(corpus, replicates)
    forecast = forecast_of(corpus, jobs, 1, most=4)
    assert {probe.runs for probe in forecast.probes([job.spec for job in jobs])} == {1, 4}
    assert forecast.seconds(jobs) == pytest.approx(seconds)


@pytest.mark.parametrize(("arch", "runs"), [("resnet1d18-w2", 1), ("gru-w4", 1), ("gru-w4", 3)])
def test_every_way_to_train_can_be_timed(arch: str, runs: int):
    speed = measure_speed(arch, "tuned", Shape(2, 64), torch.device("cpu"), runs)
    assert min(speed.training, speed.forward, speed.testing, speed.run) > 0
    assert speed.step >= 0


def test_what_is_not_trained_is_timed_too():
    speed = measure_speed("random-convolutions-w2", "tuned", Shape(2, 64), torch.device("cpu"))
    assert speed.training == 0
    assert min(speed.forward, speed.testing, speed.head) > 0


@pytest.mark.parametrize(("runs", "together"), [(1, []), (3, [3])])
def test_one_run_is_timed_alone_and_several_together(runs: int, together: list[int], monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    train_together = workload.train_together
    monkeypatch.setattr(
        workload, "train_together", lambda jobs, **options: sizes.append(len(jobs)) or train_together(jobs, **options)
    )
    measure_speed("gru-w2", "tuned", Shape(2, 32), torch.device("cpu"), runs)
    assert sorted(set(sizes)) == together


def test_a_study_s_workers_time_at_once():
    probe = Probe("resnet1d18-w2", "tuned", Shape(2, 64))
    speeds, start = measure_side_by_side([probe], workers=1)
    assert set(speeds) == {probe}
    assert speeds[probe].training > 0
    assert start > 0
