"""Runs that share a step learn what each learns alone, whatever happens to the others."""

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.compute import cuda_graphs as cuda
from engine.recipes import Recipe
from engine.records.contract import SignalContract
from engine.training import lockstep
from engine.training.lockstep import LockstepJob, lockstep_key, runs_together, train_together
from engine.training.loop import DivergedError, Examples, Training, Validation, train
from engine.training.starting_point import new_network, starting_point

RECIPE = Recipe(
    "test", learning_rate=0.005, weight_decay=0.05, batch_size=16, record_passes=0, min_epochs=6, max_epochs=6,
    validations=4,
)  # fmt: skip
CPU = torch.device("cpu")
# Records, classes, learning rate, epochs: whole batches, a short last one, fewer than a batch; other ends.
SPECS = ((48, 2, 0.005, 6), (40, 1, 0.01, 4), (10, 3, 0.002, 5))


def gpu(test: Callable) -> Callable:
    """Mark a test that needs a CUDA device, and skip it where there is none."""
    without = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return pytest.mark.gpu(without(test))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def records(n_records: int, n_classes: int, seed: int, n_samples: int = 60) -> Examples:
    """Noise whose amplitude in the first lead tells the first class."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n_records, n_classes)) < 0.5).astype(np.uint8)
    signals = rng.normal(0, 1, (n_records, 2, n_samples)) * (1 + labels[:, :1])[:, :, None]
    return Examples.of(signals.astype(np.float32), labels)


def job_of(
    arch: str, seed: int, n_records: int = 48, n_classes: int = 2, rate: float = 0.005, epochs: int = 6, **numbers: int
) -> LockstepJob:
    recipe = replace(RECIPE, learning_rate=rate, min_epochs=epochs, max_epochs=epochs, **numbers)
    training, validation = records(n_records, n_classes, seed), records(40, n_classes, seed + 100)
    return LockstepJob(new_network(arch, 2, 60, n_classes, seed), training, validation, recipe, seed)


def jobs_of(arch: str) -> list[LockstepJob]:
    return [job_of(arch, seed, *spec) for seed, spec in enumerate(SPECS)]


def train_alone(job: LockstepJob, device: str = "cpu") -> Training:
    return train(job.network, job.training, job.validation, job.recipe, job.seed, device=device, monitor=job.monitor)


def copies(jobs: Sequence[LockstepJob]) -> list[LockstepJob]:
    return [replace(job, network=deepcopy(job.network)) for job in jobs]


def finished(outcome: Training | DivergedError | None) -> Training:
    assert isinstance(outcome, Training)
    return outcome


def numbers_of(training: Training) -> list[tuple[float, ...]]:
    return [(look.epoch, look.loss, look.training_loss, look.auroc) for look in training.validations]


def assert_equal_to_rounding(ours: LockstepJob, theirs: LockstepJob, one: Training, other: Training) -> None:
    assert numbers_of(one) == [pytest.approx(numbers, rel=1e-4) for numbers in numbers_of(other)]
    assert (one.epochs, one.best.epoch, one.records_seen) == (other.epochs, other.best.epoch, other.records_seen)
    for value, expected in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arch", ["gru-w4", "lstm-w4", "bilstm-w4", "gru-flatten-w4"])
def test_every_run_is_the_run_that_it_is_alone(arch):
    jobs = jobs_of(arch)
    others = copies(jobs)
    for job, other, outcome in zip(jobs, others, train_together(jobs), strict=True):
        assert_equal_to_rounding(job, other, finished(outcome), train_alone(other))


@pytest.mark.parametrize("arch", ["gru-w4", "lstm-w4"])
def test_a_runs_numbers_do_not_depend_on_its_companions(arch):
    jobs = jobs_of(arch)
    alone, pair = copies(jobs[:1]), copies([job_of(arch, 7, n_records=33), jobs[0]])
    together = finished(train_together(jobs)[0])
    assert_equal_to_rounding(jobs[0], alone[0], together, finished(train_together(alone)[0]))
    assert_equal_to_rounding(jobs[0], pair[1], together, finished(train_together(pair)[1]))


def test_the_best_epoch_is_kept_and_patience_lost_as_alone():
    """Validation labels are the opposite of what is learnt: it only gets worse."""
    job = job_of("gru-w4", 0, epochs=12, validations=12, patience=2)
    opposite = replace(job, validation=replace(job.validation, labels=1 - job.validation.labels))
    jobs = [opposite, job_of("gru-w4", 1, epochs=12)]
    others = copies(jobs)
    outcomes = [finished(one) for one in train_together(jobs)]
    assert_equal_to_rounding(jobs[0], others[0], outcomes[0], train_alone(others[0]))
    assert outcomes[0].epochs < 12 == outcomes[1].epochs
    assert outcomes[0].best.epoch < outcomes[0].epochs


def test_monitored_records_are_scored_as_alone():
    jobs = [replace(job_of("gru-w4", seed), monitor=records(20, 2, 9)) for seed in range(2)]
    others = copies(jobs)
    for outcome, other in zip(train_together(jobs), others, strict=True):
        ours, theirs = finished(outcome).monitored, train_alone(other).monitored
        assert [one.epoch for one in ours] == [one.epoch for one in theirs]
        assert [one.auroc for one in ours] == pytest.approx([one.auroc for one in theirs], abs=1e-3)


def test_a_run_that_has_finished_changes_no_more():
    first, _ = jobs = [job_of("gru-w4", 0, epochs=2), job_of("gru-w4", 1, epochs=9)]
    other = copies(jobs)[0]
    seen: list[tuple[int, int]] = []
    outcomes = train_together(jobs, report=lambda job, validation: seen.append((job, validation.epoch)))
    assert_equal_to_rounding(first, other, finished(outcomes[0]), train_alone(other))
    assert [epoch for job, epoch in seen if job == 0] == [1, 2]
    assert finished(outcomes[1]).epochs == 9
    assert seen[-1] == (1, 9)


def test_a_run_that_diverges_fails_alone():
    jobs = [job_of("gru-w4", 0), job_of("gru-w4", 1), job_of("gru-w4", 2)]
    with torch.no_grad():
        jobs[1].training.signals[5, 0, 3] = torch.inf
    others = copies(jobs)
    outcomes = train_together(jobs)
    assert isinstance(outcomes[1], DivergedError)
    for position in (0, 2):
        expected = train_alone(others[position])
        assert_equal_to_rounding(jobs[position], others[position], finished(outcomes[position]), expected)
    with pytest.raises(DivergedError):
        train_alone(others[1])


def test_a_stop_leaves_what_has_finished_and_nothing_of_the_others():
    def should_stop() -> bool:
        return any(job == 0 and validation.epoch == 2 for job, validation in seen) and len(seen) > 4

    seen: list[tuple[int, Validation]] = []
    jobs = [job_of("gru-w4", 0, epochs=2), job_of("gru-w4", 1, epochs=50, validations=50)]
    outcomes = train_together(
        jobs, should_stop=should_stop, report=lambda job, validation: seen.append((job, validation))
    )
    assert finished(outcomes[0]).epochs == 2
    assert outcomes[1] is None
    assert max(validation.epoch for _, validation in seen) < 10


class Ticking:
    """A clock on which every reading is a second later than the one before."""

    def __init__(self) -> None:
        self.now = 0.0

    def seconds(self) -> float:
        self.now += 1.0
        return self.now


def test_a_run_is_charged_its_share_of_the_group_as_if_it_were_alone(monkeypatch):
    clock = Ticking()
    monkeypatch.setattr(lockstep, "clock_of", lambda place: clock)
    monkeypatch.setattr(lockstep, "_alone_over_together", lambda *arguments: 0.25)
    outcomes = [finished(one) for one in train_together([job_of("gru-w4", seed, epochs=5) for seed in range(3)])]
    for outcome in outcomes:
        assert 0 < outcome.best.seconds <= outcome.seconds < clock.now
        assert outcome.lockstep == {"runs": 3, "alone_over_together": 0.25, "captured": False}
    # Every second is one run's alone, or a quarter of one for each of the three.
    assert 0.5 * clock.now < sum(outcome.seconds for outcome in outcomes) <= clock.now


def test_what_is_charged_is_measured_once_for_a_kind_of_group(monkeypatch):
    monkeypatch.setattr(lockstep, "_ratios", {})
    jobs = [job_of("gru-w4", seed, epochs=2) for seed in range(2)]
    before = torch.get_rng_state()
    for _ in range(2):
        for outcome in train_together(copies(jobs)):
            assert finished(outcome).seconds > 0
    assert len(lockstep._ratios) == 1
    assert all(ratio > 0 for ratio in lockstep._ratios.values())
    assert torch.equal(torch.get_rng_state(), before), "the probe draws its noise elsewhere"


def test_the_training_says_how_it_was_run():
    outcome = finished(train_together([job_of("gru-w4", seed) for seed in range(2)])[0])
    assert (outcome.way, outcome.precision) == ("lockstep of 2", "float32")


@pytest.mark.parametrize(
    "other",
    [job_of("gru-w8", 0), job_of("lstm-w4", 0), job_of("gru-w4", 0, batch_size=8),
     replace(job_of("gru-w4", 0), recipe=replace(RECIPE, clip_norm=None)),
     replace(job_of("gru-w4", 0), training=records(48, 2, 0, n_samples=50))],
    ids=["width", "layer", "batch", "clipping", "length of a record"],
)  # fmt: skip
def test_runs_that_cannot_share_a_step_are_refused(other):
    with pytest.raises(ValueError, match="cannot share a step"):
        train_together([job_of("gru-w4", 0), other])


def test_the_key_tells_which_runs_can_share_a_step():
    key = lockstep_key(new_network("gru-w4", 2, 60, 2, 0), RECIPE)
    assert key == lockstep_key(new_network("gru-w4", 2, 60, 5, 1), replace(RECIPE, learning_rate=0.1, max_epochs=99))
    assert key != lockstep_key(new_network("gru-w4", 2, 60, 2, 0), replace(RECIPE, batch_size=8))
    assert lockstep_key(new_network("resnet1d18-w4", 2, 60, 2, 0), RECIPE) is None
    frozen = starting_point("random-frozen", "gru-w4", SignalContract(("I", "II"), 100.0, 60), 2, 0, None).network
    assert lockstep_key(frozen, RECIPE) is None


def test_recurrent_networks_share_a_step_on_a_gpu_alone():
    together = {
        arch: [runs_together(new_network(arch, 2, 60, 2, 0), torch.device(place)) for place in ("cpu", "cuda:0")]
        for arch in ("gru-w4", "lstm-w4", "resnet1d18-w4")
    }
    assert together["gru-w4"] == together["lstm-w4"] == [1, 16]
    assert together["resnet1d18-w4"] == [1, 1]


def without_short_floats(monkeypatch) -> None:
    """Tensor cores would shorten float32 to 10 bits of mantissa, in every way of doing it differently."""
    monkeypatch.setattr(lockstep, "prefer_speed", lambda: None)
    monkeypatch.setattr(cuda, "prefer_speed", lambda: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(cuda, "_sessions", type(cuda._sessions)())


@gpu
@pytest.mark.parametrize("arch", ["gru-w8", "lstm-w8", "bilstm-w8", "gru-flatten-w8"])
def test_on_a_gpu_twenty_steps_in_lockstep_are_those_of_single_runs(arch, monkeypatch):
    without_short_floats(monkeypatch)
    jobs = [job_of(arch, seed, n_records=16, epochs=20, validations=20) for seed in range(3)]
    others = copies(jobs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a capture that fails is a warning
        outcomes = train_together(jobs, device="cuda")
    for outcome, other in zip(outcomes, others, strict=True):
        losses, expected = (
            [look.training_loss for look in training.validations]
            for training in (finished(outcome), train_alone(other, "cuda"))
        )
        assert len(losses) > 10
        assert losses == pytest.approx(expected, rel=1e-3)


@gpu
@pytest.mark.parametrize("arch", ["gru-w8", "lstm-w8"])
def test_on_a_gpu_a_captured_lockstep_is_the_eager_one_and_serves_a_second_group(arch, monkeypatch):
    without_short_floats(monkeypatch)
    jobs = jobs_of(arch)
    again, eager = copies(jobs), copies(jobs)
    captured = [finished(one) for one in train_together(jobs, device="cuda")]
    assert len(cuda._sessions) == 1
    second = [finished(one) for one in train_together(again, device="cuda")]
    assert len(cuda._sessions) == 1
    monkeypatch.setattr(cuda, "_sessions", type(cuda._sessions)())
    monkeypatch.setattr(lockstep, "prepare", lambda step, device, kind: cuda.Session(step, step))
    eagerly = [finished(one) for one in train_together(eager, device="cuda")]
    for one, two, three in zip(captured, second, eagerly, strict=True):
        assert numbers_of(two) == [pytest.approx(numbers, rel=1e-3) for numbers in numbers_of(one)]
        assert numbers_of(three) == [pytest.approx(numbers, rel=1e-3) for numbers in numbers_of(one)]


@gpu
def test_on_a_gpu_as_many_runs_as_fit_share_a_step():
    network = new_network("gru-w8", 2, 60, 2, 0)
    assert 1 <= runs_together(network, torch.device("cuda", 0), (16, 2, 60)) <= 16
