"""Many runs of one recurrent network in one step: each with its own records, order, rates, validations, best weights.

The loop is that of one run (``engine.training.loop.follow``), once for each; what they share is the step
(``engine.compute.lockstep``, ``engine.compute.static_step``). A run's numbers are those of ``train`` to the rounding of
float32, whoever its companions are. A run that has finished, or diverged, idles until the last one has; its slot costs
what it did before, so runs of as many steps belong together.
"""

import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.compute.clocks import Clock, clock_of
from engine.compute.cuda_graphs import Session, kept, prefer_speed, prepare
from engine.compute.devices import keep_freed_memory, with_device_index
from engine.compute.lockstep import architecture_of, can_train_together, lockstep_twin, stacked_parameters, state_of
from engine.compute.static_step import IDLE_FACTORS, StaticStep, adamw_factors, pad_batch
from engine.compute.steps import PlainRun, open_run, predict_in_batches
from engine.recipes import Recipe
from engine.training.course import Course, DivergedError, Examples, Validation
from engine.training.device_memory import fit_runs, free_memory
from engine.training.loop import Training, follow
from engine.training.probe import start_from_probe

_TIMED_ROUNDS = 3
_MOST = 16  # runs

_ratios: dict[tuple[object, ...], float] = {}


@dataclass(frozen=True)
class LockstepJob:
    """A run of a group: what ``engine.training.loop.train`` takes for one."""

    network: nn.Module
    training: Examples
    validation: Examples
    recipe: Recipe
    seed: int
    monitor: Examples | None = None
    patients: NDArray[np.int64] | None = None


def lockstep_key(network: nn.Module, recipe: Recipe) -> tuple[object, ...] | None:
    """Return what runs of a group must have in common, hashable; None where a network has no lockstep form.

    Records, their number, classes, learning rates, schedules, epochs and seeds may differ, the length of a record may
    not.
    """
    if not can_train_together(network):
        return None
    return (*architecture_of(network), recipe.batch_size, recipe.clip_norm)


def runs_together(network: nn.Module, device: torch.device, batch: tuple[int, ...] | None = None) -> int:
    """Return how many runs to train in one step; 1 where that is no gain, or the network has no lockstep form.

    On a processor it is none: a GRU alone is trained by the same recurrence (``engine.compute.recurrence``), which is
    as fast for one as for eight, and oneDNN does all time steps of an LSTM in one call (tests/benchmarks/RESULTS.md).
    On CUDA, where nothing is measured yet, as many as fit, where the ``batch`` of one run is given (records, leads,
    samples).
    """
    if device.type == "cpu" or not can_train_together(network):
        return 1
    if batch is None:
        return _MOST
    return fit_runs(deepcopy(network).cpu(), batch, "float32", free_memory(device), most=_MOST)


def train_together(
    jobs: Sequence[LockstepJob],
    *,
    device: str | torch.device = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, Validation], None] = lambda _job, _validation: None,
) -> list[Training | DivergedError | None]:
    """Train the networks in place, as ``train`` does one, and leave each on the device with its best weights.

    What comes back is in the order of the jobs. A run that diverged has its error there, and its network is to be
    thrown away; the others go on. ``should_stop`` is asked after every epoch of any run: then the runs that have not
    finished have None there. ``report`` gets the position of a job and its validation, as it happens.

    ``Training.seconds`` is what the run takes alone: the time of the group's steps, times what a step of one run alone
    takes and divided by what a step of the group takes, both measured before on noise, and its own validations.

    Raises ValueError when the jobs do not have one ``lockstep_key`` or one length of record.
    """
    place = with_device_index(device)
    _check(jobs)
    charged = [_start(job, place) for job in jobs]
    session = _session(jobs, place)
    group = _Group(clock_of(place), _alone_over_together(jobs, session, place), session.way == "graph")
    session.step.load(stacked_parameters([job.network for job in jobs]))
    session.step.total.zero_()
    seats = [_Seat(group, session.step, slot, job, place, charged[slot]) for slot, job in enumerate(jobs)]
    trained = _train(seats, session.replay, [_lane(seat, should_stop, report) for seat in seats])
    return [outcome.finished() if isinstance(outcome, _Seat) else outcome for outcome in trained]


def _start(job: LockstepJob, place: torch.device) -> float:
    """Move a run's network, and give it the head that its recipe begins with; return the seconds of that."""
    clock = clock_of(place)
    job.network.to(place)
    if job.recipe.head == "probe":
        start_from_probe(job.network, job.training, job.patients)
    return clock.seconds()


def _check(jobs: Sequence[LockstepJob]) -> None:
    keys = {(lockstep_key(job.network, job.recipe), job.training.signals.shape[1:]) for job in jobs}
    if len(keys) != 1 or None in (key for key, _ in keys):
        raise ValueError("these runs cannot share a step: their networks, batches or lengths of record differ")


def _train(
    seats: Sequence["_Seat"], advance: Callable[[], None], lanes: Sequence[Generator[None, None, bool]]
) -> list["_Seat | DivergedError | None"]:
    """Do steps until every run has ended; return those that finished, and why the others did not."""
    ended: dict[_Seat, _Seat | DivergedError | None] = dict.fromkeys(seats)
    going = dict(zip(seats, lanes, strict=True))
    while going:
        for seat, lane in list(going.items()):
            try:
                next(lane)
                continue
            except DivergedError as error:
                ended[seat] = error
            except StopIteration as end:
                if end.value:
                    return list(ended.values())
                ended[seat] = seat
            del going[seat]
            seat.leave()
        if going:
            advance()
    return list(ended.values())


def _lane(
    seat: "_Seat", should_stop: Callable[[], bool], report: Callable[[int, Validation], None]
) -> Generator[None, None, bool]:
    """Lay a batch into the step, let the group do it, and so on, epoch after epoch; return whether it was stopped."""
    generator = torch.Generator(seat.place).manual_seed(seat.job.seed)
    orders = follow(
        seat.course, seat.epochs, generator, seat.validation, seat.monitor,
        partial(report, seat.slot), lambda _best: None, should_stop,
    )  # fmt: skip
    loss = None
    while True:
        with seat.alone():
            try:
                order = orders.send(loss)
            except StopIteration as end:
                return bool(end.value)
        for rows in torch.split(order, seat.job.recipe.batch_size):
            seat.put(rows)
            yield
        loss = seat.take_loss()


class _Group:
    """The clock of a group: what has gone by since it was last read is charged to the runs in training, or to one."""

    def __init__(self, clock: Clock, alone_over_together: float, is_captured: bool) -> None:
        self.alone_over_together, self.is_captured = alone_over_together, is_captured
        self._clock, self._read = clock, clock.seconds()
        self.charged: dict[int, float] = {}  # by slot
        self.training: set[int] = set()
        self._alone: int | None = None

    def settle(self) -> None:
        """Charge the time since the last reading."""
        now = self._clock.seconds()
        passed, self._read = now - self._read, now
        if self._alone is not None:
            self.charged[self._alone] += passed
            return
        for slot in self.training:
            self.charged[slot] += passed * self.alone_over_together

    @contextmanager
    def alone(self, slot: int) -> Iterator[None]:
        """Charge one run with what is done within."""
        self.settle()
        self._alone = slot
        try:
            yield
        finally:
            self.settle()
            self._alone = None


class _Seat:
    """One run's part of the step; to its course it is a ``engine.compute.steps.Run``."""

    def __init__(
        self, group: _Group, step: StaticStep, slot: int, job: LockstepJob, place: torch.device, charged: float
    ) -> None:
        self.job, self.slot, self.network, self.place = job, slot, job.network, place
        self.precision, self.way = step.precision, f"lockstep of {step.runs}"
        self._group, self._step, self._started = group, step, time.perf_counter()
        self._size = step.weights.shape[1]
        self._records = slice(slot * self._size, (slot + 1) * self._size)
        self._classes = job.training.labels.shape[1]
        self._done, self._filled = 0, 0
        group.charged[slot] = 0.0
        group.training.add(slot)
        with group.alone(slot):
            self._training = Examples(job.training.signals.to(place), job.training.labels.to(place))
            self.validation = replace(job.validation, signals=job.validation.signals.to(place))
            self.monitor = job.monitor and replace(job.monitor, signals=job.monitor.signals.to(place))
            self._batches = -(-len(job.training) // job.recipe.batch_size)
            self.epochs = job.recipe.epochs(len(job.training))
            self._factors = adamw_factors(job.recipe, self.epochs * self._batches).to(place)
            step.class_weights[slot] = 0
            step.class_weights[slot, : self._classes] = 1 / self._classes
        self.course = Course(self, self._training, job.recipe, charged)

    def put(self, rows: Tensor) -> None:
        """Lay the next batch and its rates into the step."""
        step = self._step
        if len(rows) != self._filled or len(rows) < self._size:
            self._filled = len(rows)
            rows, weights = pad_batch(rows, self._size)
            step.weights[self.slot].copy_(weights)
        torch.index_select(self.course.signals, 0, rows, out=step.signals[self._records])
        step.labels[self._records, : self._classes].copy_(self._training.labels.index_select(0, rows))
        step.factors[self.slot].copy_(self._factors[self._done])
        self._done += 1

    def take_loss(self) -> Tensor:
        """Return the mean loss of the epoch's batches, still on the device, and add up anew from now on."""
        loss = self._step.total[self.slot] / self._batches
        self._step.total[self.slot].zero_()
        return loss

    def alone(self) -> AbstractContextManager[None]:
        """See ``_Group.alone``."""
        return self._group.alone(self.slot)

    def predict(self, signals: Tensor) -> Tensor:
        """See ``Run``. The network itself predicts, which torch does with fewer calls than lockstep."""
        self.network.load_state_dict(state_of(self._step.network, self.slot, self.network))
        return predict_in_batches(self.network, signals)

    def seconds(self) -> float:
        """See ``Run``."""
        self._group.settle()
        return self._group.charged[self.slot]

    def train_epoch(self, signals: Tensor, labels: Tensor, order: Tensor) -> Tensor:
        """Refuse: the group trains."""
        raise NotImplementedError("a run in lockstep does not train by itself")

    def moments(self) -> dict[str, Tensor]:
        """Refuse: a group is not resumed."""
        raise NotImplementedError("a run in lockstep leaves no snapshot")

    def load_moments(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """Refuse: a group is not resumed."""
        raise NotImplementedError("a run in lockstep leaves no snapshot")

    def leave(self) -> None:
        """Idle from now on: with weights of zero, so that no numbers of a run that diverged are left."""
        self._group.settle()
        self._group.training.remove(self.slot)
        self._wall_seconds = time.perf_counter() - self._started
        step = self._step
        step.factors[self.slot].copy_(torch.tensor(IDLE_FACTORS))
        for state in (step.flat, step.first, step.second):
            state[self.slot].zero_()

    def finished(self) -> Training:
        """Load the best weights and return what the run did."""
        course = self.course
        assert course.best is not None, "the first epoch is always validated"
        self.network.load_state_dict(course.best_weights)
        return Training(
            course.epoch, course.records_seen, course.seconds(), self._wall_seconds, course.best,
            tuple(course.validations), tuple(course.monitored), precision=self.precision, way=self.way,
            lockstep={
                "runs": self._step.runs, "alone_over_together": round(self._group.alone_over_together, 4),
                "captured": self._group.is_captured,
            },
        )  # fmt: skip


def _session(jobs: Sequence[LockstepJob], place: torch.device) -> Session:
    """Return the group's step; on CUDA captured."""
    recipe, networks = jobs[0].recipe, [job.network for job in jobs]
    size = min(recipe.batch_size, max(len(job.training) for job in jobs))
    n_classes = max(job.training.labels.shape[1] for job in jobs)
    batch = (size, *jobs[0].training.signals.shape[1:])

    def make() -> Session:
        step = StaticStep(lockstep_twin(networks), batch, n_classes, recipe.clip_norm, "float32", len(jobs))
        step.network.train()
        return Session(step, step) if place.type == "cpu" else prepare(step, place, kind)

    if place.type == "cpu":
        keep_freed_memory()
        return make()
    prefer_speed()
    kind = (lockstep_key(networks[0], recipe), len(jobs), batch, n_classes, place)
    return kept(kind, make)


def _alone_over_together(jobs: Sequence[LockstepJob], session: Session, place: torch.device) -> float:
    """Return how long a step of one run alone takes, by the step of the group; measured once a process, on noise."""
    recipe, step = jobs[0].recipe, session.step
    kind = (lockstep_key(jobs[0].network, recipe), len(jobs), tuple(step.signals.shape), place, session.way)
    if kind not in _ratios:
        step.signals.normal_(generator=torch.Generator(place).manual_seed(0))
        step.factors.copy_(torch.tensor(IDLE_FACTORS))
        own = deepcopy(jobs[0].network).to(place)  # which puts a copy's weights into one piece, as cuDNN wants them
        run = (open_run if place.type == "cpu" else PlainRun)(own, recipe, _TIMED_ROUNDS + 1)
        clock = clock_of(place)
        signals = step.signals[: step.weights.shape[1]].clone()
        labels = torch.zeros(len(signals), jobs[0].training.labels.shape[1], device=place)
        order = torch.arange(len(signals), device=place)
        alone: list[float] = []
        together: list[float] = []
        for _ in range(_TIMED_ROUNDS + 1):
            for what, seconds in (
                (partial(run.train_epoch, signals, labels, order), alone),
                (session.replay, together),
            ):
                before = clock.seconds()
                what()
                seconds.append(clock.seconds() - before)
        _ratios[kind] = statistics.median(alone[1:]) / statistics.median(together[1:])
    return _ratios[kind]
