"""Training on CUDA: a step recorded once as a graph, replayed on tensors that stay, chosen by ten steps of each way.

What is kept between runs is a ``Session``: the network's fast twin, the optimiser's moments, the batch, and the graph.
A run sets weights and moments anew in place. Sessions belong to the thread that made them, so that several runs at once
(``engine.compute.packing``), one a thread and a stream, never share a tensor, a stream or a library's workspace; how
fast a way is, is measured once for all threads, while nothing else runs.

Convolutional networks run in bf16 (their weights, statistics and loss in float32) and channels-last order; recurrent
ones in float32 and eagerly, because cuDNN does their thousand steps in a few calls. Where the capture fails, the run
goes on eagerly and a warning says why.
"""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from engine.compute.channels_last import fast_twin, is_recurrent
from engine.compute.clocks import SharedClock, Turnstile, synchronize, turnstile_of
from engine.compute.speed_probe import Choice, fastest_way
from engine.compute.static_step import Precision, StaticStep, adamw_factors, pad_batch
from engine.recipes import Recipe

_SESSIONS_KEPT = 4  # a thread; each holds a network, its gradients and its activations for one batch
_PREDICTION_BATCH = 512
_WARM_UP_STEPS = 3

_local = threading.local()
_choices: dict[tuple[object, ...], Choice] = {}


class Session:
    """A step, ready to be replayed, and how it was chosen."""

    def __init__(self, step: StaticStep, replay: Callable[[], None], choice: Choice) -> None:
        self.step, self.replay, self.choice = step, replay, choice


class StaticRun:
    """A training in progress on static tensors; see ``engine.compute.steps.Run``."""

    def __init__(self, session: Session, recipe: Recipe, steps: int, turnstile: Turnstile, clock: SharedClock) -> None:
        self.session, self._turnstile, self._clock = session, turnstile, clock
        self._step = session.step
        self._factors = adamw_factors(recipe, steps).to(self._step.signals.device)
        self._done = 0

    @property
    def network(self) -> nn.Module:
        """The twin that is trained."""
        return self._step.network

    def train_epoch(self, signals: Tensor, labels: Tensor, order: Tensor) -> Tensor:
        """See ``Run``."""
        step, size = self._step, len(self._step.signals)
        step.network.train()
        step.total.zero_()
        batches = torch.split(order, size)
        with self._turnstile.together():
            for number, rows in enumerate(batches):
                if number == 0 or len(rows) < size:
                    rows, weights = pad_batch(rows, size)
                    step.weights.copy_(weights)
                torch.index_select(signals, 0, rows, out=step.signals)
                torch.index_select(labels, 0, rows, out=step.labels)
                step.factors.copy_(self._factors[self._done])
                self.session.replay()
                self._done += 1
        self._clock.count(len(batches) * self.session.choice.step_seconds)
        return step.total[0] / len(batches)

    def predict(self, signals: Tensor) -> Tensor:
        """See ``Run``."""
        with self._turnstile.together():
            logits = self._step.predict(signals).cpu()
        # A forward pass is about a third of a step on as many records.
        batches = -(-len(signals) // _PREDICTION_BATCH) * _PREDICTION_BATCH / len(self._step.signals)
        self._clock.count(batches * self.session.choice.step_seconds / 3)
        return logits

    def seconds(self) -> float:
        """See ``Run``."""
        return self._clock.seconds()

    def moments(self) -> dict[str, Tensor]:
        """See ``Run``."""
        step = self._step
        pairs = enumerate(zip(step.views(step.first), step.views(step.second), strict=True))
        return {
            f"{k}.{name}": value
            for k, pair in pairs
            for name, value in zip(("exp_avg", "exp_avg_sq"), pair, strict=True)
        }

    def load_moments(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """See ``Run``."""
        self._done = steps
        for name, value in self.moments().items():
            value.copy_(moments[name])


@contextmanager
def open_run(
    network: nn.Module,
    shape: tuple[int, ...],
    n_classes: int,
    recipe: Recipe,
    steps: int,
    device: torch.device,
    mode: str,
) -> Iterator[StaticRun]:
    """Yield a run of ``steps`` steps from the network's weights on records of ``shape`` (records, leads, samples).

    ``mode``: ``eager``, ``graph``, or ``auto``, the faster of the two.
    """
    if device.type == "cuda":
        _prefer_speed()
    turnstile = turnstile_of(device)
    with turnstile.run():
        batch = (min(recipe.batch_size, shape[0]), *shape[1:])
        session = _session(network, batch, n_classes, recipe, device, mode, turnstile)
        clock = SharedClock(turnstile, lambda: synchronize(device))
        with turnstile.together():
            session.step.load(network.state_dict())
            run = StaticRun(session, recipe, steps, turnstile, clock)
        yield run
        synchronize(device)


def precision_of(network: nn.Module, device: torch.device) -> Precision:
    """Return bf16 for convolutional networks on devices that compute with it."""
    can = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    has_convolutions = any(isinstance(layer, nn.Conv1d) for layer in network.modules())
    return "bf16" if can and has_convolutions and not is_recurrent(network) else "float32"


def _prefer_speed() -> None:
    """Set what is set for the whole process, and has a meaning on CUDA only."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True


def _session(
    network: nn.Module, batch: tuple[int, ...], n_classes: int, recipe: Recipe, device: torch.device, mode: str,
    turnstile: Turnstile,
) -> Session:  # fmt: skip
    """Return this thread's session for such runs, made if need be; the least recently used one makes room."""
    sessions: OrderedDict[tuple[object, ...], Session] = _local.__dict__.setdefault("sessions", OrderedDict())
    fixed = (recipe.clip_norm, precision_of(network, device), mode, device)
    key = (repr(network), _trainable(network), batch, n_classes, *fixed)
    if key not in sessions:
        while len(sessions) >= _SESSIONS_KEPT:
            sessions.popitem(last=False)
        with turnstile.alone():
            step = StaticStep(fast_twin(network), batch, n_classes, *fixed[:2])
            sessions[key] = _prepare(step, mode, device, key)
    sessions.move_to_end(key)
    return sessions[key]


def _trainable(network: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, parameter in network.named_parameters() if parameter.requires_grad)


def _prepare(step: StaticStep, mode: str, device: torch.device, key: tuple[object, ...]) -> Session:
    """Record the step and choose the way to run it, with nothing else on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # other threads' work that is still under way
    step.signals.normal_()  # zeros can be faster than records
    step.network.train()
    if key not in _choices:
        ways = {name: partial(_way, name, step, device) for name in _ways_of(mode, step.network)}
        _choices[key] = fastest_way(ways, lambda: synchronize(device))
        _warn_of(_choices[key].failures)
    choice = _choices[key]
    try:
        replay = _way(choice.way, step, device)
    except RuntimeError as error:  # the memory that the probe found free is not there any more
        _warn_of({choice.way: str(error)})
        replay = _way("eager", step, device)
    return Session(step, replay, choice)


def _ways_of(mode: str, network: nn.Module) -> tuple[str, ...]:
    if mode == "auto":
        return ("eager",) if is_recurrent(network) else ("eager", "graph")
    return ("eager",) if mode == "eager" else ("eager", mode)


def _way(name: str, step: StaticStep, device: torch.device) -> Callable[[], None]:
    """Return what does one step in the named way. Raises RuntimeError when this step cannot be done so."""
    return step if name == "eager" else record(step, device)


def _warn_of(failures: Mapping[str, str]) -> None:
    for name, reason in failures.items():
        warnings.warn(f"training steps are not run as {name}, which failed: {reason}", RuntimeWarning, stacklevel=2)


def record(step: StaticStep, device: torch.device) -> Callable[[], None]:
    """Record the step as a CUDA graph and return its replay. Raises RuntimeError when it cannot be recorded.

    As https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs: some steps on a side stream first, so that
    nothing is set up during the capture. Only this thread's mistakes count as such (thread_local).
    """
    if device.type != "cuda":
        raise RuntimeError(f"a {device.type} has no graphs")
    current = torch.cuda.current_stream(device)
    stream = _side_stream(current, device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP_STEPS):
            step()
    current.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            step()
    except RuntimeError:
        torch.cuda.set_stream(current)  # which a failed capture leaves changed
        raise
    return graph.replay


def _side_stream(current: torch.cuda.Stream, device: torch.device) -> torch.cuda.Stream:
    """Return this thread's own stream: torch hands out 32 in turn, and libraries keep one workspace a stream."""
    if current != torch.cuda.default_stream(device):
        return current
    streams: dict[torch.device, torch.cuda.Stream] = _local.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch does not annotate it
    return streams[device]
