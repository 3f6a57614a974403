"""Where runs run: worker processes on this machine, or a Dask cluster. Both are ``concurrent.futures`` executors.

A worker process works for one device, a processor or a GPU, in one thread and, on a GPU, one stream. A process whose
device failed it is replaced: what it held of the device's memory is free then, and a broken CUDA context gone.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import ecgadvise
from models.errors import ExitCode, UserError

if TYPE_CHECKING:
    import torch

    from studies.running.lockstep_groups import Kind
    from studies.running.workload import Shape, Speed, Workload
    from studies.runs.run_spec import RunSpec

_P = ParamSpec("_P")
_T = TypeVar("_T")

_CONNECT_SECONDS = 10
_COUNT_SECONDS = 5.0  # how often a cluster is asked for its workers


class SchedulerError(UserError, RuntimeError):
    """No Dask scheduler answers; one sentence says where and what to do."""

    exit_code = ExitCode.FAILURE


def _alone(_spec: "RunSpec") -> "Kind | None":
    return None


@dataclass(frozen=True)
class Workplace:
    """Where runs run: an executor, how many groups of runs it takes at a time, and whether it is still there.

    ``capacity`` may change while a study runs. ``lost`` returns why nothing can run any more, None while all is well.
    Runs of one ``kind`` may train together, those of None alone. ``device`` is what a run is told to use, cpu or cuda.
    ``stop`` ends at once what is in flight.
    """

    executor: Executor
    capacity: Callable[[], int]
    lost: Callable[[], str | None] = lambda: None
    kind: Callable[["RunSpec"], "Kind | None"] = _alone
    device: str = "cpu"
    stop: Callable[[], None] = lambda: None


class LocalExecutor(Executor):
    """Spawned worker processes, ``workers`` for each device.

    Each has one thread: small networks gain nothing from a second.
    A worker that is killed fails its own call alone, with BrokenProcessPool, and is replaced, as is one whose device
    failed. Workers ignore Ctrl-C: the parent decides what is still written.
    """

    def __init__(self, workers: int, devices: Sequence[str] = ("cpu",)) -> None:
        self._slots = [_Slot(device, workers) for _ in range(workers) for device in devices]

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        """Give a call to the worker with the fewest calls before it."""
        return min(self._slots, key=lambda slot: slot.in_flight).submit(partial(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers; unless ``cancel_futures``, after what they were given."""
        for slot in self._slots:
            slot.end(cancel_futures)
        if wait:
            for slot in self._slots:
                slot.join()


class _Slot:
    """One worker process, in a pool of its own, so that its death breaks no other's run."""

    def __init__(self, device: str, sharing: int) -> None:
        self.in_flight = 0
        self._device, self._sharing = device, sharing
        self._device_failed = False
        self._endings: list[threading.Thread] = []
        self.pool = self._new_pool()

    def submit(self, call: Callable[[], _T]) -> "Future[_T]":
        if self._device_failed:
            self._replace_pool()
        try:
            future = self.pool.submit(call)
        except BrokenProcessPool:
            self._replace_pool()
            future = self.pool.submit(call)
        self.in_flight += 1
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: "Future[Any]") -> None:
        from engine.compute.devices import DEVICE_ERRORS

        self.in_flight -= 1
        self._device_failed |= not future.cancelled() and isinstance(future.exception(), DEVICE_ERRORS)

    def end(self, cancel_futures: bool = False) -> None:
        """Begin to end the process."""
        # A pool that is told to end without waiting forgets its thread, which then closes its pipe while the
        # interpreter, at its own end, writes to it: a traceback. So each is waited for, in a thread of its own.
        ending = threading.Thread(target=partial(self.pool.shutdown, cancel_futures=cancel_futures))
        ending.start()
        self._endings.append(ending)

    def join(self) -> None:
        """Wait until every process that ``end`` was called for is gone."""
        for ending in self._endings:
            ending.join()

    def _replace_pool(self) -> None:
        self.end()
        self.pool, self._device_failed = self._new_pool(), False

    def _new_pool(self) -> ProcessPoolExecutor:
        start = partial(ecgadvise.call_pickled, pickle.dumps(partial(_start_worker, self._device, self._sharing)))
        return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=start)


@contextmanager
def local_workplace(
    workers: int, devices: Sequence[str] = ("cpu",), load: "Workload | None" = None
) -> Iterator[Workplace]:
    """Give ``workers`` processes for each of this machine's ``devices``, named as ``cpu`` or ``cuda:0``.

    Runs train together where ``load`` says that they are alike. When the block ends in an error, the runs in flight are
    ended too.
    """
    executor, device = LocalExecutor(workers, devices), devices[0].partition(":")[0]
    kind = _kinds(load, device)
    try:
        yield Workplace(executor, lambda: workers * len(devices), kind=kind, device=device, stop=stop_workers)
    except BaseException:
        stop_workers()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def dask_workplace(address: str, device: str = "auto", load: "Workload | None" = None) -> Iterator[Workplace]:
    """Give the workers of a running Dask cluster, one group of runs at a time on each, or on each unit of its resource
    ``GPU``.

    With ``auto`` runs use CUDA where any worker offers that resource, and go to those that do alone; else a processor,
    whatever a machine has besides. A worker that is killed is replaced by another one: Dask gives its runs away again.
    Raises SchedulerError.
    """
    try:
        from distributed import Client
    except ImportError:
        raise SchedulerError("Dask is not installed: pip install 'ecgadvise[cluster]'") from None
    # What Dask logs about a lost scheduler is said in one sentence. It gives each of its loggers a level of its own.
    for name in ("tornado", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        # distributed does not annotate it
        client: Any = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SchedulerError(f"no Dask scheduler answers at {address} ({reason}); start one: dask scheduler") from None
    cluster = _Cluster(client, address)
    # Not pure: a run that failed is tried again, instead of its failure being given back.
    on_gpus = device != "cpu" and cluster.gpus() > 0
    options = {"pure": False, **({"resources": {"GPU": 1}} if on_gpus else {})}
    executor = _ClusterExecutor(client.get_executor(**options))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")  # a network, once a worker
            used = device if device != "auto" else "cuda" if on_gpus else "cpu"
            cancel = partial(executor.shutdown, cancel_futures=True)
            capacity = cluster.gpus if on_gpus else cluster.workers
            yield Workplace(executor, capacity, cluster.lost, _kinds(load, used), used, cancel)
    finally:
        if cluster.lost() is None:
            executor.shutdown(wait=False)
        client.close(timeout=2)


class _ClusterExecutor(Executor):
    """Dask's executor, to which calls go pickled: its scheduler looks at them, and need not know our modules."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        return self._executor.submit(ecgadvise.call_pickled, pickle.dumps(partial(fn, *args, **kwargs)))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let go of what was submitted, at once or after it has ended. Dask cancels what has begun, too."""
        self._executor.shutdown(wait and not cancel_futures)


class _Cluster:
    """What is known of a cluster's workers; they may come and go."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._asked = -_COUNT_SECONDS
        self._workers: Mapping[str, Mapping[str, Any]] = {}

    def workers(self) -> int:
        """Return the number of workers."""
        return len(self._ask())

    def gpus(self) -> int:
        """Return how many GPUs they offer, as their resource."""
        return int(sum(float(worker.get("resources", {}).get("GPU", 0)) for worker in self._ask().values()))

    def lost(self) -> str | None:
        """Return that the scheduler is gone, None while it is there."""
        if self._client.status == "running":
            return None
        return f"the Dask scheduler at {self._address} is gone; what had finished is in the store"

    def _ask(self) -> Mapping[str, Mapping[str, Any]]:
        if time.monotonic() - self._asked > _COUNT_SECONDS and self.lost() is None:
            try:
                self._workers = self._client.scheduler_info(n_workers=-1)["workers"]
            except OSError:  # it went away in this moment: ``lost`` says so next
                self._workers = {}
            self._asked = time.monotonic()
        return self._workers


def choose_workplace(
    scheduler: str | None, workers: int | None, device: str, load: "Workload"
) -> AbstractContextManager[Workplace]:
    """Return where runs run: a cluster, or worker processes here for ``device`` (auto, cpu, cuda or cuda:N).

    ``workers`` is the number of processes, on GPUs for each; one a processor by default, and one a GPU. Raises
    DeviceError.
    """
    if scheduler is not None:
        return dask_workplace(scheduler, device, load)
    devices = choose_devices(device)
    per_device = 1 if devices[0].type == "cuda" else default_workers()
    return local_workplace(workers or per_device, [str(device) for device in devices], load)


@dataclass(frozen=True)
class Probe:
    """What to time: a network as runs of a study train it, ``runs`` at a time in lockstep."""

    arch: str
    recipe: str
    shape: "Shape"
    runs: int = 1


def measure_side_by_side(
    probes: Sequence[Probe], workers: int, devices: Sequence[str] = ("cpu",)
) -> tuple["dict[Probe, Speed]", float]:
    """Return the speeds, and how long a worker process takes to start.

    All workers of a study time at once, as they will train: they share the machine's memory, two processors may be one
    core's, and others may use the machine too. So this is the time of the clock on the wall.
    """
    executor, began = LocalExecutor(workers, devices), time.monotonic()
    device = devices[0].partition(":")[0]
    try:
        measured = [executor.submit(_measure, probes, device) for _ in range(workers * len(devices))]
        results = [future.result() for future in measured]
    except BaseException:
        stop_workers()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
    from studies.running.workload import Speed

    speeds = {probe: Speed.mean([found[k] for found, _ in results]) for k, probe in enumerate(probes)}
    return speeds, sum(ready - began for _, ready in results) / len(results)


def _measure(probes: Sequence[Probe], device: str) -> "tuple[list[Speed], float]":
    """Return the speeds, and when this process was ready to train, by the clock that a machine's processes share."""
    import torch

    from studies.running.workload import Shape, measure_speed

    place, speeds = torch.device(device), []
    measure_speed("resnet1d18-w1", "tuned", Shape(1, 64), place)  # what is loaded and compiled once
    ready = time.monotonic()
    for probe in probes:
        began, used = time.monotonic(), time.thread_time()
        speed = measure_speed(probe.arch, probe.recipe, probe.shape, place, probe.runs)
        wall, used = time.monotonic() - began, time.thread_time() - used
        speeds.append(speed.times(max(1.0, wall / used)) if place.type == "cpu" else speed)
    return speeds, ready


def _kinds(load: "Workload | None", device: str) -> Callable[["RunSpec"], "Kind | None"]:
    if load is None:
        return _alone
    from studies.running.lockstep_groups import Kinds

    return Kinds(load, device.partition(":")[0])


def choose_devices(name: str) -> "list[torch.device]":
    """Return the devices that a study uses: the one that was named by its number, else all of the kind.

    Raises DeviceError.
    """
    import torch

    from engine.compute.devices import choose_device

    device = choose_device(name)
    if device.type == "cpu" or ":" in name:
        return [device]
    return [torch.device("cuda", k) for k in range(torch.cuda.device_count())]


def stop_workers() -> None:
    """End every worker process of this one at once; the runs in flight are lost."""
    for worker in multiprocessing.active_children():
        worker.terminate()


def default_workers() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(device: str, sharing: int = 1) -> None:
    """Make this process a worker for one device: to its runs, ``cuda`` is the GPU that it works on.

    ``sharing`` is how many workers a GPU has.
    """
    import torch

    from engine.compute.devices import share_gpu

    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    if device != "cpu":
        torch.cuda.set_device(device)
        share_gpu(sharing)


def _end_with_parent() -> None:
    """End this worker when its parent is gone, killed too, instead of training on for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
