"""Which of the runs that wait train together, in lockstep (``engine.training.lockstep``).

Together go runs of one network, batch size and number of records, on signals of one shape: the replicates, tasks, arms
and learning rates of a cell. They take about equally many steps, so that none waits long for another.

How long a study takes follows from that, too: a forecast starts its groups one after another, as the runner does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import torch
from torch import nn

from engine.recipes import PROBES
from engine.training.lockstep import lockstep_key, runs_together
from models.registry import find_network
from studies.running.jobs import Job
from studies.running.workload import Shape, Speed, Workload
from studies.running.workplaces import Probe
from studies.runs.run_spec import FROZEN, RunSpec

_MOST_BYTES = 24 * 2**30  # of the records of a group


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
        if self._device.type == "cpu" or spec.strategy in (*FROZEN, *PROBES):
            return None
        if spec.reading or find_network(spec.arch).family != "rnn":
            return None
        shape, recipe = self._load.signal(spec), spec.resolve_recipe()
        network = _network(spec.arch, shape)
        bytes_each = 4 * shape.n_leads * shape.n_samples * spec.n_records
        most = min(runs_together(network, self._device), _MOST_BYTES // bytes_each)
        if most < 2:
            return None
        steps = (spec.n_records, recipe.epochs(spec.n_records), bool(spec.validation_folds))
        return Kind((spec.arch, lockstep_key(network, recipe), shape, *steps), most)


@lru_cache(maxsize=256)
def _network(arch: str, shape: Shape) -> nn.Module:
    with torch.device("meta"):  # its shape is wanted, and no number of torch's generator
        return shape.network(arch, 2)


class Forecast:
    """How long runs of a study will take on this machine, on ``workers`` that all take the same.

    Networks are timed alone and in the largest group that trains in lockstep (``probes``, ``speeds``), between which
    the time of a group's step is a straight line; ``start`` is what a worker takes to start.
    """

    def __init__(self, load: Workload, kind: Callable[[RunSpec], Kind | None], workers: int) -> None:
        self._load, self._workers = load, workers
        self._kind: Callable[[RunSpec], Kind | None] = lru_cache(maxsize=None)(kind)
        self.speeds: Mapping[Probe, Speed] = {}
        self.start = 0.0

    def probes(self, specs: Sequence[RunSpec]) -> list[Probe]:
        """Return what is to be timed."""
        return list(dict.fromkeys(probe for spec in specs for probe in self._ends(spec)))

    def seconds(self, jobs: Sequence[Job]) -> float:
        """Return how long the jobs take, from the start of the workers to the end of the last run."""
        waiting, groups = {job.key: job for job in jobs}, Groups(self._kind)
        ends: dict[str, float] = {}
        own = frozenset(waiting)  # a network that is not made here is there already
        free = [self.start] * self._workers
        while waiting:
            now = free.index(min(free))
            done = {key for key, end in ends.items() if end <= free[now]}
            ready = [job for job in waiting.values() if job.start_from in done or job.start_from not in own]
            if not ready:  # all that waits starts from a network that is being trained
                free[now] = min(end for end in ends.values() if end > free[now])
                continue
            group = groups.choose(ready, self._workers)
            free[now] += self.group_seconds([job.spec for job in group])
            for job in group:
                del waiting[job.key]
                ends[job.key] = free[now]
        return max(ends.values(), default=0.0)

    def group_seconds(self, specs: Sequence[RunSpec]) -> float:
        """Return how long these runs take together on a worker."""
        alone, largest = self._ends(specs[0])
        speed = self.speeds[alone]
        if largest.runs > 1:
            share = (len(specs) - 1) / (largest.runs - 1)
            whole = self.speeds[largest].times(largest.runs)
            speed = Speed.between(speed, whole, share).times(1 / len(specs))
        return sum(speed.seconds(self._load.passes(spec)) for spec in specs)

    def _ends(self, spec: RunSpec) -> tuple[Probe, Probe]:
        """Return a run's network alone, and in its largest group."""
        alone, kind = Probe(spec.arch, spec.recipe, self._load.signal(spec)), self._kind(spec)
        return alone, alone if kind is None else replace(alone, runs=kind.most)


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
