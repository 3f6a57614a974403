"""How long a study will take: the arithmetic of its runs, and some timed steps of each of its networks."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from engine.checkpoints.checkpoint import Standardisation
from engine.compute.clocks import clock_of
from engine.corpora.corpus import Corpus
from engine.evaluation.evaluation import evaluate
from engine.recipes import PROBES, Recipe, find_recipe
from engine.records.contract import Reading
from engine.training.lockstep import LockstepJob, train_together
from engine.training.loop import Examples, predict_logits, train, validation_epochs
from models.registry import create_network, find_network, forward_gflop
from models.scaling import Scaling
from studies.running.one_run import BOOTSTRAP_RESAMPLES
from studies.runs.run_spec import FROZEN, RunSpec
from studies.runs.task_names import open_task, parse_task, pick_leads

_STEPS, _MOST_SECONDS = 10, 4.0  # of timed steps, fewer where they are slow
_N_CLASSES, _TESTED, _PREDICTED = 5, 500, 256
_FEATURES, _HEAD_BATCH, _LOOPS = 128, 32, 20
_REGRESSION = 3  # steps of a head, for each record, that take about as long as a probe's regressions
_BACKWARD = 2  # a backward pass costs about two forward passes


@dataclass(frozen=True)
class Passes:
    """How often a run sends a record through its network: forward and back to learn, and forward alone.

    ``unfilled`` is by how many batches its steps could be fewer if all were full; ``tested`` is its test records;
    ``head_steps`` are those of a head alone, whose inputs are computed once.
    """

    training: int
    forward: int
    unfilled: float = 0.0
    tested: int = 0
    validations: int = 0
    head_steps: int = 0

    def gflop(self, forward_gflop: float) -> float:
        """Return the run's arithmetic, in 1e9 floating point operations."""
        return ((1 + _BACKWARD) * self.training + self.forward) * forward_gflop


@dataclass(frozen=True)
class Speed:
    """Seconds of a record in training, in full batches, and in prediction; and what a run takes besides.

    ``step`` is what a step takes however few records it has, ``testing`` what scaling and scoring a test record
    take, ``run`` what a run takes whatever its size, ``validation`` what one takes besides its predictions, and
    ``head`` what a step of a head alone takes.
    """

    training: float
    forward: float
    step: float = 0.0
    testing: float = 0.0
    run: float = 0.0
    validation: float = 0.0
    head: float = 0.0

    def seconds(self, passes: Passes) -> float:
        """Return how long a run takes."""
        steps = passes.training * self.training + passes.unfilled * self.step + passes.head_steps * self.head
        besides = passes.validations * self.validation + passes.tested * self.testing + self.run
        return steps + passes.forward * self.forward + besides

    def times(self, factor: float) -> "Speed":
        """Return the speed where everything takes that many times as long."""
        return Speed(*(factor * seconds for seconds in astuple(self)))

    def between(self, other: "Speed", share: float) -> "Speed":
        """Return the speed at that share of the way to another one."""
        return Speed(*(a + share * (b - a) for a, b in zip(astuple(self), astuple(other), strict=True)))

    @classmethod
    def mean(cls, speeds: "Sequence[Speed]") -> "Speed":
        """Return the mean of what each takes."""
        return cls(*np.mean([astuple(speed) for speed in speeds], axis=0).tolist())


def count_passes(spec: RunSpec, test_records: int) -> Passes:
    """Return the record passes of a run with that many test records, its validation share taken as it will be on
    average.

    A frozen network computes the features of every record once, and predicts those of validation and test once more in
    the end. The recipe ``paper`` predicts the test records at every validation. A probe computes the features of its
    records once, ``linear-probe`` those of random convolutions too, which are taken to cost as much.
    """
    recipe = spec.resolve_recipe()
    if spec.strategy in PROBES:
        forward = (1 + (spec.strategy == "linear-probe")) * (spec.n_records + test_records)
        return Passes(0, forward, tested=test_records, head_steps=_REGRESSION * spec.n_records)
    n_validation = max(1, round(recipe.validation_fraction * spec.n_records))
    n_training = spec.n_records - n_validation
    epochs = recipe.epochs(n_training)
    steps, validations = epochs * ceil(n_training / recipe.batch_size), len(validation_epochs(epochs, recipe))
    monitors = recipe.name == "paper"
    if spec.strategy in FROZEN:
        forward = spec.n_records + n_validation + (1 + monitors) * test_records
        return Passes(0, forward, tested=test_records, validations=validations, head_steps=steps)
    forward = (validations + 1) * n_validation + (1 + monitors * validations) * test_records  # one chooses thresholds
    unfilled = steps - epochs * n_training / recipe.batch_size
    return Passes(epochs * n_training, forward, unfilled, test_records, validations)


class Shape(NamedTuple):
    """A record as a network takes it: in crops of ``crop`` samples, and scaled by itself, where it is read so."""

    n_leads: int
    n_samples: int
    crop: int | None = None
    scaling: Scaling = "set"

    def network(self, arch: str, n_classes: int) -> nn.Module:
        """Return the named network for such records, with new random weights."""
        return create_network(arch, **self._asdict(), n_classes=n_classes)


class Workload:
    """What the runs of a study cost, for its corpora: counted once a task, an architecture and a number of leads."""

    def __init__(self, corpora: Mapping[str, Corpus]) -> None:
        self._corpora = corpora
        self._test_records: dict[tuple[str, tuple[int, ...]], int] = {}

    def passes(self, spec: RunSpec) -> Passes:
        """Return the record passes of a run."""
        test = (spec.read_task, spec.test_folds)
        if test not in self._test_records:
            corpus = self._corpora[parse_task(spec.read_task).source]
            self._test_records[test] = len(open_task(corpus, spec.read_task).in_folds(spec.test_folds))
        return count_passes(spec, self._test_records[test])

    def gflop(self, spec: RunSpec) -> float:
        """Return a run's arithmetic, in 1e9 floating point operations."""
        return self.passes(spec).gflop(_forward_gflop(spec.arch, self.signal(spec)))

    def signal(self, spec: RunSpec) -> Shape:
        """Return the number of leads and of samples that a run's network takes, and how it reads them."""
        corpus = self._corpora[parse_task(spec.read_task).source]
        shape = Shape(len(pick_leads(corpus, spec.read_task)), corpus.signals.shape[2])
        if not spec.reading:
            return shape
        reading = Reading.parse(spec.reading)
        return shape._replace(crop=reading.crop, scaling=reading.scaling)


def measure_speed(arch: str, recipe: str, shape: Shape, device: torch.device, runs: int = 1) -> Speed:
    """Time a few training steps and a prediction of a network on synthetic signals, on one thread of a processor.

    With several ``runs`` it is the time of each of them where so many train in lockstep.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a run has
    try:
        clock = clock_of(device)
        network = shape.network(arch, _N_CLASSES)
        run = clock.seconds()
        family, examples = find_network(arch).family, _noise(_PREDICTED, shape.n_leads, shape.n_samples)
        if family == "kernel":  # not trained
            forward = _predict_seconds(network, examples, device)
            return Speed(0.0, forward, testing=_test_seconds(examples), run=run, head=_loop_seconds(device)[1])
        numbers = find_recipe(recipe, family, "scratch")
        batch, few = numbers.batch_size, numbers.batch_size // 4
        full = _step_seconds(network, _first(examples, batch), numbers, device, runs)
        step = full
        if runs == 1 and device.type == "cpu":  # others fill a batch up
            small = _step_seconds(network, _first(examples, few), numbers, device, runs)
            step = max(0.0, small * batch - full * few) / (batch - few)
        forward, testing = _predict_seconds(network, examples, device), _test_seconds(examples)
        return Speed(full / batch, forward, step, testing, run, *_loop_seconds(device))
    finally:
        torch.set_num_threads(threads)


def _noise(n_records: int, n_leads: int, n_samples: int) -> Examples:
    generator = torch.Generator().manual_seed(0)
    signals = torch.randn(n_records, n_leads, n_samples, generator=generator)
    return Examples(signals, (torch.rand(n_records, _N_CLASSES, generator=generator) < 0.3).float())


def _first(examples: Examples, n_records: int) -> Examples:
    return Examples(examples.signals[:n_records], examples.labels[:n_records])


def _step_seconds(network: nn.Module, batch: Examples, recipe: Recipe, device: torch.device, runs: int) -> float:
    """Return what a run's step with such a batch takes."""
    first = _time_steps(network, batch, recipe, device, runs, 1)  # warms up, too
    steps = max(2, min(_STEPS, int(_MOST_SECONDS / max(first, 1e-9) / runs)))
    return _time_steps(network, batch, recipe, device, runs, steps)


def _time_steps(
    network: nn.Module, batch: Examples, recipe: Recipe, device: torch.device, runs: int, steps: int
) -> float:
    """Return what one of so many steps takes: epochs of one, between the validation after the first and the last."""
    numbers = replace(recipe, record_passes=0, min_epochs=steps + 1, max_epochs=steps + 1, validations=1)
    few, networks, clock = _first(batch, 2), [deepcopy(network) for _ in range(runs)], clock_of(device)
    read: list[float] = []
    if runs > 1:
        jobs = [LockstepJob(one, batch, few, numbers, seed=0) for one in networks]
        train_together(jobs, device=device, report=lambda _job, _validation: read.append(clock.seconds()))
    else:
        train(networks[0], batch, few, numbers, 0, lambda _validation: read.append(clock.seconds()), device=device)
    before = clock.seconds()
    for one in networks:
        predict_logits(one, few.signals)
    validating = clock.seconds() - before
    return max(1e-9, read[-1] - read[runs - 1] - validating) / steps / runs


def _predict_seconds(network: nn.Module, examples: Examples, device: torch.device) -> float:
    network.to(device)
    # Warms up; on CUDA with the batch that is timed, for which cuDNN looks for its fastest way.
    predict_logits(network, examples.signals if device.type == "cuda" else examples.signals[:2])
    clock = clock_of(device)
    predict_logits(network, examples.signals)
    return clock.seconds() / len(examples)


def _loop_seconds(device: torch.device) -> tuple[float, float]:
    """Return what a validation takes besides its predictions, and what a step of a head alone takes."""
    signals = torch.randn(_HEAD_BATCH, _FEATURES, generator=torch.Generator().manual_seed(0))
    batch = Examples(signals, (torch.arange(_HEAD_BATCH * _N_CLASSES) % 3 == 0).float().reshape(-1, _N_CLASSES))
    numbers = replace(find_recipe("paper", "cnn", "scratch"), min_epochs=_LOOPS, max_epochs=_LOOPS)
    few, many = (
        train(nn.Linear(_FEATURES, _N_CLASSES), batch, batch, replace(numbers, validations=count), 0, device=device)
        for count in (1, _LOOPS)
    )
    step = few.seconds / _LOOPS
    return max(0.0, many.seconds - few.seconds) / (len(many.validations) - len(few.validations)), step


def _test_seconds(examples: Examples) -> float:
    """Return what scaling and scoring a test record take, on the processor in any case."""
    signals, rng, clock = examples.signals.numpy(), np.random.default_rng(0), clock_of(torch.device("cpu"))
    Standardisation.of(signals[:2]).apply(signals)
    scaling = clock.seconds() / len(signals)
    labels = (rng.random((_TESTED, _N_CLASSES)) < 0.3).astype(np.uint8)
    names, half = tuple(map(str, range(_N_CLASSES))), np.full(_N_CLASSES, 0.5)
    before = clock.seconds()
    evaluate(labels, rng.random(labels.shape), np.arange(_TESTED), names, half, 0, BOOTSTRAP_RESAMPLES)
    return scaling + (clock.seconds() - before) / _TESTED


@lru_cache(maxsize=256)
def _forward_gflop(arch: str, shape: Shape) -> float:
    return forward_gflop(shape.network(arch, _N_CLASSES), shape.n_leads, shape.crop or shape.n_samples)
