"""Which of the runs that wait train together, in lockstep (``engine.training.lockstep``).

Together go runs of one network, batch size and number of records, on signals of one shape: the replicates, tasks, arms
and learning rates of a cell. They take about equally many steps, so that none waits long for another.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import torch
from torch import nn

from engine.training.lockstep import gains_together, lockstep_key, runs_together
from models.registry import create_network
from studies.running.jobs import Job
from studies.running.workload import Workload
from studies.runs.run_spec import FROZEN, RunSpec

_MOST_BYTES = {"cpu": 2 * 2**30, "cuda": 24 * 2**30}  # of the records of a group


class Kind(NamedTuple):
    """Runs of one kind may train together, ``most`` at a time."""

    shared: tuple[object, ...]
    most: int


class Kinds:
    """Tells the kind of a run on a ``device``, cpu or cuda; None for a run that trains alone."""

    def __init__(self, load: Workload, device: str) -> None:
        self._load, self._device = load, torch.device(device)

    def __call__(self, spec: RunSpec) -> Kind | None:
        """Return what the run shares with those that it may train with, where that is faster."""
        if spec.strategy in FROZEN:
            return None
        shape, recipe = self._load.signal(spec), spec.resolve_recipe()
        network = _network(spec.arch, *shape)
        key = lockstep_key(network, recipe)
        if key is None:
            return None
        bytes_each = 4 * shape[0] * shape[1] * spec.n_records
        most = min(runs_together(network, self._device), _MOST_BYTES[self._device.type] // bytes_each)
        if most < 2 or not gains_together(network, most, self._device):
            return None
        return Kind((key, shape, spec.n_records, recipe.epochs(spec.n_records), bool(spec.validation_folds)), most)


@lru_cache(maxsize=256)
def _network(arch: str, n_leads: int, n_samples: int) -> nn.Module:
    with torch.device("meta"):  # its shape is wanted, and no number of torch's generator
        return create_network(arch, n_leads=n_leads, n_classes=2, n_samples=n_samples)


class Groups:
    """Chooses the runs that are started next, and remembers which groups were too large."""

    def __init__(self, kind: Callable[[RunSpec], Kind | None]) -> None:
        self._kind: Callable[[RunSpec], Kind | None] = lru_cache(maxsize=None)(kind)
        self._most_of_run: dict[str, int] = {}
        self._most_of_kind: dict[Kind, int] = {}

    def choose(self, ready: Sequence[Job], workers: int) -> list[Job]:
        """Return the first run and, in their order, those that train with it.

        Few runs are shared out among the workers, so that none is idle while another trains many.
        """
        first, kind = ready[0], self._kind(ready[0].spec)
        room = min(self._most(first), ceil(len(ready) / workers))
        group = [first]
        for job in ready[1:]:
            if len(group) >= room:
                break
            if self._kind(job.spec) == kind and self._most(job) > len(group):
                group.append(job)
                room = min(room, self._most(job))
        return group

    def halve(self, group: Sequence[Job], *, too_large: bool) -> None:
        """Train these runs in groups of half the size from now on; all of their kind where the group was too large."""
        half = max(1, len(group) // 2)
        self._most_of_run.update((job.key, half) for job in group)
        kind = self._kind(group[0].spec)
        if too_large and kind is not None:
            self._most_of_kind[kind] = half

    def separate(self, job: Job) -> None:
        """Train this run alone from now on."""
        self._most_of_run[job.key] = 1

    def _most(self, job: Job) -> int:
        kind = self._kind(job.spec)
        if kind is None:
            return 1
        return min(kind.most, self._most_of_kind.get(kind, kind.most), self._most_of_run.get(job.key, kind.most))
