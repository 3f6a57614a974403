"""How long a study will take: the arithmetic of its runs, and ten timed steps of each of its networks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from engine.compute.clocks import clock_of
from engine.corpora.corpus import Corpus
from engine.recipes import find_recipe
from engine.training.loop import Examples, predict_logits, train
from models.registry import create_network, find_network, forward_gflop
from studies.runs.run_spec import FROZEN, RunSpec
from studies.runs.task_names import open_task, parse_task, pick_leads

_STEPS = 10
_BACKWARD = 2  # a backward pass costs about two forward passes


@dataclass(frozen=True)
class Passes:
    """How often a run sends a record through its network: forward and back to learn, and forward alone."""

    training: int
    forward: int

    def gflop(self, forward_gflop: float) -> float:
        """Return the run's arithmetic, in 1e9 floating point operations."""
        return ((1 + _BACKWARD) * self.training + self.forward) * forward_gflop


@dataclass(frozen=True)
class Speed:
    """Seconds that one record takes in training and in prediction."""

    training: float
    forward: float

    def seconds(self, passes: Passes) -> float:
        """Return how long a run takes."""
        return passes.training * self.training + passes.forward * self.forward


def count_passes(spec: RunSpec, test_records: int) -> Passes:
    """Return the record passes of a run with that many test records, its validation share taken as it will be on
    average.

    A frozen network computes the features of every record once; what its head learns from them costs next to nothing.
    """
    recipe = spec.resolve_recipe()
    n_validation = max(1, round(recipe.validation_fraction * spec.n_records))
    n_training = spec.n_records - n_validation
    if spec.strategy in FROZEN:
        return Passes(0, spec.n_records + test_records)
    epochs = recipe.epochs(n_training)
    looks = 1 + min(epochs, recipe.validations)  # and one more to choose thresholds
    return Passes(epochs * n_training, looks * n_validation + test_records)


class Workload:
    """What the runs of a study cost, for its corpora: counted once a task, an architecture and a number of leads."""

    def __init__(self, corpora: Mapping[str, Corpus]) -> None:
        self._corpora = corpora
        self._test_records: dict[tuple[str, tuple[int, ...]], int] = {}

    def passes(self, spec: RunSpec) -> Passes:
        """Return the record passes of a run."""
        test = (spec.task, spec.test_folds)
        if test not in self._test_records:
            corpus = self._corpora[parse_task(spec.task).source]
            self._test_records[test] = len(open_task(corpus, spec.task).in_folds(spec.test_folds))
        return count_passes(spec, self._test_records[test])

    def gflop(self, spec: RunSpec) -> float:
        """Return a run's arithmetic, in 1e9 floating point operations."""
        return self.passes(spec).gflop(_forward_gflop(spec.arch, *self.signal(spec)))

    def signal(self, spec: RunSpec) -> tuple[int, int]:
        """Return the number of leads and of samples that a run's network takes."""
        corpus = self._corpora[parse_task(spec.task).source]
        return len(pick_leads(corpus, spec.task)), corpus.signals.shape[2]


def measure_speed(arch: str, recipe: str, n_leads: int, n_samples: int, device: torch.device) -> Speed:
    """Time ten training steps and a prediction of a network on synthetic signals, on one thread of a processor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a run has
    try:
        numbers = replace(find_recipe(recipe, find_network(arch).family, "scratch"), record_passes=0, validations=1)
        numbers = replace(numbers, min_epochs=1, max_epochs=1)
        network = create_network(arch, n_leads=n_leads, n_classes=5, n_samples=n_samples)
        generator = torch.Generator().manual_seed(0)

        def examples(n_records: int) -> Examples:
            signals = torch.randn(n_records, n_leads, n_samples, generator=generator)
            return Examples(signals, (torch.rand(n_records, 5, generator=generator) < 0.3).float())

        few, many = examples(2), examples(_STEPS * numbers.batch_size)
        train(network, examples(2 * numbers.batch_size), few, numbers, seed=0, device=device)  # warms up
        training = train(network, many, few, numbers, seed=0, device=device).seconds / len(many)
        return Speed(training, _predict_seconds(network, many, device))
    finally:
        torch.set_num_threads(threads)


def _predict_seconds(network: torch.nn.Module, examples: Examples, device: torch.device) -> float:
    clock = clock_of(device)
    predict_logits(network, examples.signals)
    return clock.seconds() / len(examples)


@lru_cache(maxsize=256)
def _forward_gflop(arch: str, n_leads: int, n_samples: int) -> float:
    return forward_gflop(create_network(arch, n_leads=n_leads, n_classes=5, n_samples=n_samples), n_leads, n_samples)
