"""Training on CUDA: one process, one thread, one stream, and a step that is captured as a graph and replayed.

What is kept between runs is a ``Session``: the network's fast twin, the optimiser's moments, a batch, and the graph. A
run sets weights and moments anew in place, so that runs of one kind capture once.

Convolutional networks run in bf16 (their weights, statistics and loss in float32) and channels-last order, or in
float32 throughout where ``ECGADVISE_PRECISION`` says so. Recurrent
ones run in float32 and eagerly, because cuDNN does their thousand steps in a few calls; many of them share one step
(``engine.compute.lockstep``). Where a capture fails, such runs are eager for the rest of the process, and a warning
says why.
"""

import gc
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from engine.compute.channels_last import fast_twin, is_recurrent
from engine.compute.clocks import clock_of
from engine.compute.static_step import StaticStep, adamw_factors, pad_batch
from engine.compute.steps import PlainRun, Precision, begin_training
from engine.recipes import Recipe

PRECISION = "ECGADVISE_PRECISION"  # of the environment: float32 for runs that go with those of a processor
_SESSIONS_KEPT = 4  # each holds a network, its gradients and its activations for one batch
_WARM_UP_STEPS = 3

_Key = tuple[object, ...]


@dataclass(frozen=True)
class Session:
    """A step, what runs it, and the generator that a captured one draws dropout from."""

    step: StaticStep
    replay: Callable[[], None]
    generator: torch.Generator | None = None

    @property
    def way(self) -> str:
        """How a step is run: ``graph`` or ``eager``."""
        return "eager" if self.replay is self.step else "graph"


_sessions: OrderedDict[_Key, Session] = OrderedDict()
_failed: set[_Key] = set()


class StaticRun:
    """A training in progress on static tensors; see ``engine.compute.steps.Run``."""

    def __init__(self, session: Session, recipe: Recipe, steps: int, weights: Mapping[str, Tensor]) -> None:
        self.session, self._step = session, session.step
        self.precision, self.way = session.step.precision, session.way
        self._clock = clock_of(self._step.signals.device)
        self._factors = adamw_factors(recipe, steps).to(self._step.signals.device)
        self._done = 0
        self._step.load(weights)

    @property
    def network(self) -> nn.Module:
        """The twin that is trained."""
        return self._step.network

    def train_epoch(self, signals: Tensor, labels: Tensor, order: Tensor) -> Tensor:
        """See ``Run``."""
        step, size = self._step, len(self._step.signals)
        begin_training(step.network)
        step.total.zero_()
        batches = torch.split(order, size)
        for number, rows in enumerate(batches):
            if number == 0 or len(rows) < size:
                rows, weights = pad_batch(rows, size)
                step.weights.copy_(weights)
            torch.index_select(signals, 0, rows, out=step.signals)
            torch.index_select(labels, 0, rows, out=step.labels)
            step.factors.copy_(self._factors[self._done])
            self.session.replay()
            self._done += 1
        return step.total[0] / len(batches)

    def predict(self, signals: Tensor) -> Tensor:
        """See ``Run``."""
        return self._step.predict(signals).cpu()

    def seconds(self) -> float:
        """See ``Run``."""
        return self._clock.seconds()

    def moments(self) -> dict[str, Tensor]:
        """See ``Run``."""
        step = self._step
        named = {"exp_avg": step.views(step.first), "exp_avg_sq": step.views(step.second)}
        return {f"{k}.{name}": view for name, views in named.items() for k, view in enumerate(views)}

    def load_moments(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """See ``Run``."""
        self._done = steps
        for name, value in self.moments().items():
            value.copy_(moments[name])


@contextmanager
def open_run(
    network: nn.Module, shape: tuple[int, ...], n_classes: int, recipe: Recipe, steps: int, device: torch.device,
    mode: str,
) -> Iterator[StaticRun | PlainRun]:  # fmt: skip
    """Yield a run of ``steps`` steps from the network's weights on records of ``shape`` (records, leads, samples).

    ``mode``: ``eager``, or ``auto`` or ``graph``, which capture the step. Within, the device's default generator is
    the run's own.
    """
    if device.type == "cuda":
        prefer_speed()
    if is_recurrent(network):
        yield PlainRun(network, recipe, steps)
        return
    batch = (min(recipe.batch_size, shape[0]), *shape[1:])
    session = _session(network, batch, n_classes, recipe, device, mode)
    with drawing_from(session.generator, device):
        yield StaticRun(session, recipe, steps, network.state_dict())


def precision_of(network: nn.Module, device: torch.device) -> Precision:
    """Return bf16 for convolutional networks on devices that compute with it, unless float32 is asked for."""
    if os.environ.get(PRECISION) == "float32":
        return "float32"
    can = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    has_convolutions = any(isinstance(layer, nn.Conv1d) for layer in network.modules())
    return "bf16" if can and has_convolutions and not is_recurrent(network) else "float32"


def prefer_speed() -> None:
    """Set what is set for the whole process, and has a meaning on CUDA only."""
    if os.environ.get(PRECISION) != "float32":
        torch.set_float32_matmul_precision("high")
    else:  # all of it, as on a processor, and not the tensor cores' shortened one
        torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def free_kept() -> None:
    """Let go of what is kept for further runs on a device, and of the memory that torch keeps there."""
    _sessions.clear()
    gc.collect()
    torch.cuda.empty_cache()


def _session(
    network: nn.Module, batch: tuple[int, ...], n_classes: int, recipe: Recipe, device: torch.device, mode: str
) -> Session:
    """Return the session for such runs."""
    fixed = (recipe.clip_norm, precision_of(network, device))
    trainable = tuple(name for name, parameter in network.named_parameters() if parameter.requires_grad)
    key = (_describe(network), trainable, batch, n_classes, *fixed, device, mode == "eager")

    def make() -> Session:
        step = StaticStep(fast_twin(network), batch, n_classes, *fixed)
        begin_training(step.network)
        return Session(step, step) if mode == "eager" else prepare(step, device, key)

    return kept(key, make)


def _describe(network: nn.Module) -> _Key:
    """Return what a network computes, but for its weights: its text does not say all, such as how it pools."""
    plain = (bool, int, float, str, tuple, type(None))
    settings = (
        (name, type(layer), key, value)
        for name, layer in network.named_modules()
        for key, value in sorted(vars(layer).items())
        if not key.startswith("_") and key != "training" and isinstance(value, plain)
    )
    return repr(network), tuple(settings)


def kept(kind: _Key, make: Callable[[], Session]) -> Session:
    """Return the session for steps of that kind, made if need be; the least recently used one makes room."""
    if kind not in _sessions:
        while len(_sessions) >= _SESSIONS_KEPT:
            _sessions.popitem(last=False)
        _sessions[kind] = make()
    _sessions.move_to_end(kind)
    return _sessions[kind]


def prepare(step: StaticStep, device: torch.device, kind: _Key) -> Session:
    """Return the captured step, or the eager one where a capture of this kind of step fails or did so before.

    A failure is said in one RuntimeWarning and remembered for the process. Raises OutOfMemoryError.
    """
    if kind not in _failed:
        try:
            return capture(step, device)
        except torch.OutOfMemoryError:
            raise  # eager steps need as much; who asked may make room and ask again
        except RuntimeError as error:
            _failed.add(kind)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.warn(f"training steps run eagerly, because their capture failed: {reason}", RuntimeWarning, 2)
    return Session(step, step)


def capture(step: StaticStep, device: torch.device) -> Session:
    """Capture a step, of one run or of many in lockstep, as a CUDA graph; the network is to be in training mode.

    ``replay`` of what comes back does the step on whatever then lies in its tensors; weights, moments and factors
    change here, by warming up, so that ``load`` and the first factors come after. Dropout of a replayed step draws from
    the session's own ``generator`` (torch up to 2.12 has one capture state a generator): seed that, or whatever is
    seeded within ``drawing_from``. Seeded alike, an eager step draws the same masks.

    Raises RuntimeError when the step cannot be captured; the process then is as before. As
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs: a few steps on a side stream come first, so that
    nothing is set up during the capture.
    """
    if device.type != "cuda":
        raise RuntimeError(f"a {device.type} has no graphs")
    side, current = _side_stream(device), torch.cuda.current_stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP_STEPS):
            step()
    current.wait_stream(side)
    torch.cuda.synchronize(device)
    generator = torch.cuda.default_generators[device.index].clone_state()
    # The stream is put back by the outer context: torch.cuda.graph does not when a capture fails.
    with torch.cuda.stream(side), drawing_from(generator, device):
        graph = _captured(step, device)
    return Session(step, graph.replay, generator)


def _captured(step: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph:
    """Return the graph of a step on the current stream. Raises RuntimeError, the device's memory given back."""
    gc.collect()
    torch.cuda.empty_cache()
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            step()
        except BaseException:
            with suppress(RuntimeError):  # a consequence: the step's own error says more
                graph.capture_end()
            raise
        graph.capture_end()
    except BaseException:
        del graph
        with suppress(RuntimeError):  # unless the capture's end came as far as that
            torch._C._cuda_endAllocateToPool(device.index, pool)
            torch._C._cuda_releasePool(device.index, pool)
        gc.collect()
        torch.cuda.empty_cache()
        raise
    return graph


@contextmanager
def drawing_from(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Let the device's default generator be another one: it draws from that, and seeding it seeds that.

    A failed capture leaves its generator in a state in which it draws no more. None changes nothing.
    """
    if generator is None:
        yield
        return
    default = torch.cuda.default_generators[device.index]
    before = default.graphsafe_get_state()
    default.graphsafe_set_state(generator)
    try:
        yield
    finally:
        default.graphsafe_set_state(before)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream for captures: libraries keep a workspace for every stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch does not annotate it
