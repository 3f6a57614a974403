"""Where runs run: worker processes on this machine, or a Dask cluster. Both are ``concurrent.futures`` executors."""

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

    from studies.running.workload import Workload
    from studies.runs.run_spec import RunSpec

_P = ParamSpec("_P")
_T = TypeVar("_T")

_MOST_ON_A_GPU = 16
_CONNECT_SECONDS = 10
_COUNT_SECONDS = 5.0  # how often a cluster is asked for its workers


class SchedulerError(UserError, RuntimeError):
    """No Dask scheduler answers; one sentence says where and what to do."""

    exit_code = ExitCode.FAILURE


@dataclass(frozen=True)
class Workplace:
    """Where runs run: an executor, how many runs it takes at a time, and whether it is still there.

    ``capacity`` may change while a study runs; ``share`` is what a run takes of it. ``lost`` returns why nothing can
    run any more, None while all is well.
    """

    executor: Executor
    capacity: Callable[[], int]
    lost: Callable[[], str | None] = lambda: None
    share: Callable[["RunSpec"], float] = lambda _spec: 1.0


class LocalExecutor(Executor):
    """Spawned worker processes, one thread each: small networks gain nothing from a second thread.

    A worker that is killed fails its own run alone, with BrokenProcessPool, and is replaced. Workers ignore Ctrl-C: the
    parent decides what is still written.
    """

    def __init__(self, workers: int) -> None:
        self._slots = [_Slot() for _ in range(workers)]

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        """Give a call to the worker with the fewest calls before it."""
        return min(self._slots, key=lambda slot: slot.in_flight).submit(partial(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers; unless ``cancel_futures``, after what they were given."""
        for slot in self._slots:
            slot.pool.shutdown(wait=False, cancel_futures=cancel_futures)
        if wait:
            for slot in self._slots:
                slot.pool.shutdown(wait=True, cancel_futures=cancel_futures)


class _Slot:
    """One worker process, in a pool of its own, so that its death breaks no other's run."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.pool = self._new_pool()

    def submit(self, call: Callable[[], _T]) -> "Future[_T]":
        try:
            future = self.pool.submit(call)
        except BrokenProcessPool:
            self.pool.shutdown(wait=False)
            self.pool = self._new_pool()
            future = self.pool.submit(call)
        self.in_flight += 1
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _future: "Future[Any]") -> None:
        self.in_flight -= 1

    def _new_pool(self) -> ProcessPoolExecutor:
        start = partial(ecgadvise.call_pickled, pickle.dumps(_start_worker))
        return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=start)


class _GpuExecutor(Executor):
    """Threads of this process, each with a stream of its own on one of the devices (``engine.compute.packing``)."""

    def __init__(self, devices: "Sequence[torch.device]", at_a_time: int) -> None:
        from engine.compute.packing import stream_executor

        self._streams = [stream_executor(device, at_a_time) for device in devices]
        self._in_flight = [0] * len(devices)

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        """Give a call to the device with the fewest calls."""
        device = min(range(len(self._streams)), key=self._in_flight.__getitem__)
        self._in_flight[device] += 1
        future = self._streams[device].submit(fn, *args, **kwargs)
        future.add_done_callback(partial(self._ended, device))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, after what they were given."""
        for stream in self._streams:
            stream.shutdown(wait, cancel_futures=cancel_futures)

    def _ended(self, device: int, _future: "Future[Any]") -> None:
        self._in_flight[device] -= 1


def local_executor(workers: int) -> LocalExecutor:
    """Return an executor of that many worker processes on this machine."""
    return LocalExecutor(workers)


@contextmanager
def local_workplace(workers: int) -> Iterator[Workplace]:
    """Give worker processes on this machine; when the block ends in an error, the runs in flight are ended too."""
    executor = local_executor(workers)
    try:
        yield Workplace(executor, lambda: workers)
    except BaseException:
        stop_workers()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def gpu_workplace(
    devices: "Sequence[torch.device]", at_a_time: Callable[["RunSpec"], int], most: int | None = None
) -> Iterator[Workplace]:
    """Give this machine's GPUs, up to ``most`` runs at once on each; ``at_a_time`` says of a run how many like it fit.

    When the block ends in an error, the runs in flight end with their epoch.
    """
    from studies.running.one_run import ending

    executor = _GpuExecutor(devices, most or _MOST_ON_A_GPU)
    ending.clear()
    try:
        yield Workplace(executor, lambda: len(devices), share=lambda spec: 1 / at_a_time(spec))
    except BaseException:
        ending.set()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def dask_workplace(address: str) -> Iterator[Workplace]:
    """Give the workers of a running Dask cluster, one run at a time on each, or on each unit of its resource ``GPU``.

    A worker that is killed is replaced by another one: Dask gives its run away again. Raises SchedulerError.
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
    options = {"pure": False, **({"resources": {"GPU": 1}} if cluster.has_gpus() else {})}
    executor = _ClusterExecutor(client.get_executor(**options))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")  # a network, once a worker
            yield Workplace(executor, cluster.capacity, cluster.lost)
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

    def has_gpus(self) -> bool:
        """Tell whether a worker offers the resource GPU."""
        return any(self._gpus())

    def capacity(self) -> int:
        """Return how many runs fit at a time: GPUs where there are such, else workers."""
        return int(sum(self._gpus())) or len(self._ask())

    def lost(self) -> str | None:
        """Return that the scheduler is gone, None while it is there."""
        if self._client.status == "running":
            return None
        return f"the Dask scheduler at {self._address} is gone; what had finished is in the store"

    def _gpus(self) -> list[float]:
        return [float(worker.get("resources", {}).get("GPU", 0)) for worker in self._ask().values()]

    def _ask(self) -> Mapping[str, Mapping[str, Any]]:
        if time.monotonic() - self._asked > _COUNT_SECONDS and self.lost() is None:
            try:
                self._workers = self._client.scheduler_info(n_workers=-1)["workers"]
            except OSError:  # it went away in this moment: ``lost`` says so next
                self._workers = {}
            self._asked = time.monotonic()
        return self._workers


def choose_workplace(
    scheduler: str | None,
    workers: int | None,
    devices: "Sequence[torch.device]",
    specs: "Sequence[RunSpec]",
    load: "Workload",
) -> AbstractContextManager[Workplace]:
    """Return where runs run: a cluster, worker processes here, or streams on GPUs of this machine."""
    if scheduler is not None:
        return dask_workplace(scheduler)
    if devices[0].type == "cpu":
        return local_workplace(workers or default_workers())
    from studies.running.workload import runs_at_once

    return gpu_workplace(devices, runs_at_once(specs, load, devices[0], workers), workers)


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


def _start_worker() -> None:
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """End this worker when its parent is gone, killed too, instead of training on for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
