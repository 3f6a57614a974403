"""The training loop, one for the CPU and CUDA.

Design choices: all records lie on the device as tensors and are shuffled by index; nothing waits for the device but a
validation, and validations are log-spaced, because with few records they cost more than training; the epoch with the
best macro AUROC on them is kept, or the last one, as the recipe says; the test set is not seen here. Where only
``head`` is trained, what comes before it is computed once. One thread, one seed, one processor: the same run gives the
same bits.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.checkpoints.snapshot import Snapshot
from engine.compute.clocks import clock_of
from engine.compute.devices import with_device_index
from engine.compute.steps import Run, fix_statistics, predict_in_batches
from engine.compute.steps import open_run as open_processor_run
from engine.recipes import Recipe
from engine.seeds import stable_seed
from engine.training.course import Course, DivergedError, Examples, Monitored, Optimism, Validation
from engine.training.probe import start_from_probe
from engine.training.starting_point import head_inputs, trains_head_alone
from models.networks.random_convolutions import fit_constants

__all__ = [
    "NEAR_CHANCE",
    "DivergedError",
    "Examples",
    "Mode",
    "Monitored",
    "Optimism",
    "Snapshot",
    "Training",
    "Validation",
    "predict_logits",
    "predict_probabilities",
    "train",
    "train_again",
    "validation_epochs",
]

Mode = Literal["auto", "eager", "graph"]
NEAR_CHANCE = 0.6  # macro AUROC on validation records: what a network that has learnt nothing may reach by luck


@dataclass(frozen=True)
class Training:
    """What a training did; ``best`` is the validation whose weights the network now holds.

    ``seconds`` is what the run takes on a machine that does nothing else: processor time of the training thread, on
    CUDA the wall clock with the device's work finished. ``wall_seconds`` is what the clock showed, since a resumption.
    A training that was ``stopped`` leaves a ``snapshot`` to go on from. ``precision`` is ``float32`` or ``bf16``;
    ``way`` is how its steps were run: ``eager``, ``graph``, or ``lockstep of`` so many; ``lockstep`` then has the
    number of ``runs`` and by what the group's seconds were multiplied (``alone_over_together``). ``restarts`` is how
    often it was begun again from another seed (``train_again``): epochs, records and validations are then those of the
    attempt that was kept, seconds those of all.
    """

    epochs: int
    records_seen: int
    seconds: float
    wall_seconds: float
    best: Validation
    validations: tuple[Validation, ...]
    monitored: tuple[Monitored, ...] = ()
    stopped: bool = False
    snapshot: Snapshot | None = field(default=None, repr=False, compare=False)
    precision: str = "float32"
    way: str = "eager"
    lockstep: Mapping[str, float] | None = None
    restarts: int = 0

    @property
    def has_failed(self) -> bool:
        """Whether the kept weights validate hardly above chance, as far as that could be computed."""
        return self.best.auroc < NEAR_CHANCE

    @property
    def optimism(self) -> Optimism | None:
        """How much better the epoch scores that monitored records would choose; None when none were monitored."""
        return Optimism.of(self.monitored, self.best.epoch) if self.monitored else None


def train(
    network: nn.Module,
    training: Examples,
    validation: Examples,
    recipe: Recipe,
    seed: int,
    report: Callable[[Validation], None] = lambda _validation: None,
    *,
    device: str | torch.device = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    on_best: Callable[[nn.Module, Validation], None] | None = None,
    monitor: Examples | None = None,
    resume: Snapshot | None = None,
    mode: Mode = "auto",
    patients: NDArray[np.int64] | None = None,
    keep: Callable[[Callable[[], tuple[nn.Module, Training]]], None] | None = None,
) -> Training:
    """Train the network in place and leave it on the device, with the weights of its best validation epoch.

    ``seed`` fixes the order of the records, and dropout. Weights without ``requires_grad`` stay as they are; when
    nothing but ``head`` is trained, the rest is in evaluation mode (``engine.training.starting_point.starting_point``).

    ``report`` gets every validation as it happens. ``should_stop`` is asked after every epoch but the last. ``on_best``
    gets the network at every validation that is the best so far, with its weights. ``monitor`` records are scored at
    every validation and influence nothing, nor are they charged. ``resume`` goes on from ``Training.snapshot``, on the
    CPU to the bits that an unbroken training gives; from another kind of device with an order of records drawn anew.
    ``mode`` is how CUDA runs a step (``engine.compute.cuda_graphs``). ``patients`` (records,) are those of the training
    records, for a head that starts as a probe; None says that each record has its own. ``keep`` is called after every
    epoch but the last with what gives a copy of the network and the training as they would be were it stopped there;
    the time that it takes is not charged.

    Raises DivergedError, found out at a validation.
    """
    place, started = with_device_index(device), time.perf_counter()
    clock = clock_of(place)
    network.to(place)
    if resume is None:
        fit_constants(network, training.signals)
    if recipe.normalisation == "running":
        fix_statistics(network)
    if recipe.head == "probe" and resume is None:
        start_from_probe(network, training, patients)
    trained = network.get_submodule("head") if trains_head_alone(network) else network
    training, validation = (_read_by(trained, network, examples, place) for examples in (training, validation))
    training = replace(training, labels=training.labels.to(place))
    monitor = None if monitor is None else _read_by(trained, network, monitor, place)
    charged = clock.seconds()
    epochs, batches = recipe.epochs(len(training)), -(-len(training) // recipe.batch_size)
    with _open_run(trained, training, recipe, epochs * batches, place, mode) as run:
        torch.manual_seed(seed)
        course = Course(run, training, recipe, charged)
        generator = torch.Generator(place).manual_seed(seed)
        if resume is not None:
            course.restore(resume, generator, resume.epoch * batches)

        def improved(now: Validation) -> None:
            if on_best is not None:
                trained.load_state_dict(course.best_weights)
                on_best(network, now)

        restarts = 0 if resume is None else resume.numbers.get("restarts", 0)

        def so_far(stopped: bool) -> Training:
            snapshot = course.snapshot(generator) if stopped else None
            if snapshot is not None and resume is not None:
                snapshot = replace(snapshot, numbers={**snapshot.numbers, "restarts": restarts})
            assert course.best is not None, "the first epoch is always validated"
            return Training(
                course.epoch, course.records_seen, course.seconds(), time.perf_counter() - started, course.best,
                tuple(course.validations), tuple(course.monitored), stopped, snapshot, run.precision, run.way,
                restarts=restarts,
            )  # fmt: skip

        def as_if_stopped() -> tuple[nn.Module, Training]:
            copy = deepcopy(network)
            (copy if trained is network else copy.get_submodule("head")).load_state_dict(course.best_weights)
            return copy, so_far(stopped=True)

        def kept_or_stopped() -> bool:
            if stop := should_stop():
                return stop
            if keep is not None:
                with course.not_charged():
                    keep(as_if_stopped)
            return False

        orders = follow(course, epochs, generator, validation, monitor, report, improved, kept_or_stopped)
        ended = so_far(_train_alone(course, orders))
        trained.load_state_dict(course.best_weights)
        return ended


def train_again(
    first: Training,
    network: nn.Module,
    renew: Callable[[int], nn.Module],
    training: Examples,
    validation: Examples,
    recipe: Recipe,
    seed: int,
    report: Callable[[Validation], None] = lambda _validation: None,
    *,
    device: str | torch.device = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    monitor: Examples | None = None,
) -> Training:
    """Begin a training that failed again from other seeds, as often as the recipe says; return the best attempt.

    With few records a training from random weights can end at chance, by its seed alone. ``renew`` makes the network
    to start from out of a seed. ``network`` gets the weights of the attempt that validated best. A training that is
    stopped is returned as it is, with the restarts before it: what goes on from it knows their number and seconds, and
    has lost their weights. An attempt that diverges counts as one that failed.
    """
    best, weights, spent = first, network.state_dict(), first
    while spent.has_failed and not spent.stopped and spent.restarts < recipe.restarts:
        number = spent.restarts + 1
        again = stable_seed(seed, "restart", number)
        other = renew(again)
        try:
            result = train(
                other, training, validation, recipe, again, report,
                device=device, should_stop=should_stop, monitor=monitor,
            )  # fmt: skip
        except DivergedError:
            spent = replace(spent, restarts=number)
            continue
        seconds, wall_seconds = spent.seconds + result.seconds, spent.wall_seconds + result.wall_seconds
        spent = replace(result, restarts=number, seconds=seconds, wall_seconds=wall_seconds)
        if result.snapshot is not None:  # whoever goes on from it counts on
            before = result.snapshot.numbers["seconds"] + spent.seconds - result.seconds
            numbers = {**result.snapshot.numbers, "restarts": number, "seconds": before}
            result = replace(result, snapshot=replace(result.snapshot, numbers=numbers))
        if result.stopped or not best.best.auroc >= result.best.auroc:
            best, weights = result, other.state_dict()
    network.load_state_dict(weights)
    return replace(best, restarts=spent.restarts, seconds=spent.seconds, wall_seconds=spent.wall_seconds)


def predict_logits(network: nn.Module, signals: Tensor, batch_size: int = 256) -> Tensor:
    """Return logits float32 (records, classes) of standardised signals, the network in evaluation mode.

    They are on the CPU, wherever the network is.
    """
    return predict_in_batches(network, signals, batch_size)


def predict_probabilities(network: nn.Module, signals: Tensor) -> NDArray[np.float32]:
    """Return probabilities float32 (records, classes), each class on its own (multi-label)."""
    probabilities: NDArray[np.float32] = torch.sigmoid(predict_logits(network, signals)).numpy()
    return probabilities


def _read_by(trained: nn.Module, network: nn.Module, examples: Examples, place: torch.device) -> Examples:
    """Move signals to the device; where only ``head`` is trained they become what it reads of them."""
    signals = examples.signals.to(place)
    return replace(examples, signals=signals if trained is network else head_inputs(network, signals))


@contextmanager
def _open_run(
    network: nn.Module, training: Examples, recipe: Recipe, steps: int, place: torch.device, mode: Mode
) -> Iterator[Run]:
    if place.type == "cpu":
        yield open_processor_run(network, recipe, steps)
        return
    from engine.compute.cuda_graphs import open_run

    with open_run(network, training.signals.shape, training.labels.shape[1], recipe, steps, place, mode) as run:
        yield run


def _train_alone(course: Course, orders: Generator[Tensor, Tensor | None, bool]) -> bool:
    loss = None
    while True:
        try:
            order = orders.send(loss)
        except StopIteration as end:
            return bool(end.value)
        loss = course.train_in(order)


def follow(
    course: Course, epochs: int, generator: torch.Generator, validation: Examples, monitor: Examples | None,
    report: Callable[[Validation], None], improved: Callable[[Validation], None], should_stop: Callable[[], bool],
) -> Generator[Tensor, Tensor | None, bool]:  # fmt: skip
    """Yield the order of the records for every epoch and be sent its mean loss, to the end or until patience is lost.

    Whoever trains in that order may do so for one run or for many at once (``engine.training.lockstep``). Returns
    whether it was stopped. Raises DivergedError.
    """

    def validate(loss: float) -> None:
        now = course.validate(validation, loss)
        if monitor is not None:
            course.monitor(monitor)
        report(now)
        if now is course.best:
            improved(now)

    validated = validation_epochs(epochs, course.recipe)
    if course.epoch == 0 and course.recipe.head == "probe":
        validate(course.training_loss())
    while course.epoch < epochs:
        loss = yield course.draw_epoch(generator)
        course.epoch += 1
        if course.epoch in validated:
            assert loss is not None
            validate(float(loss))
            if course.is_out_of_patience():
                return False
        if course.epoch < epochs and should_stop():
            return True
    return False


def validation_epochs(epochs: int, recipe: Recipe) -> set[int]:
    """Return the epochs, counted from 1, after which a training of that many validates."""
    spaced = np.geomspace if recipe.spacing == "log" else np.linspace
    return {*spaced(1, epochs, recipe.validations).round().astype(int).tolist(), epochs}
