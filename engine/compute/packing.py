"""Several runs at once on one CUDA device: a small network leaves most of a large one idle.

Each run has a thread and a stream. Processes would take turns on the device; streams share it. Python's lock is no
limit, because a replayed step is five calls. What a run is charged stays what it takes alone
(``engine.compute.devices.SharedClock``).
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from engine.compute.clocks import synchronize
from engine.compute.speed_probe import PROBE_STEPS, RunsAtOnce, find_runs_at_once
from engine.recipes import Recipe


def stream_executor(device: torch.device, workers: int) -> ThreadPoolExecutor:
    """Return an executor whose every worker thread gives its work to the device on a stream of its own.

    The threads' runs of ``engine.training.loop.train`` on this device then overlap. On the CPU it is a plain thread
    pool.
    """
    return ThreadPoolExecutor(workers, "run", initializer=_own_stream, initargs=(device,))


def choose_runs_at_once(
    network: nn.Module, shape: tuple[int, ...], n_classes: int, recipe: Recipe, device: torch.device
) -> RunsAtOnce:
    """Find by ten-step probes how many trainings of the network on (records, leads, samples) to run at once.

    On the CPU it is one a process: threads share its cores.
    """
    if device.type == "cpu":
        return RunsAtOnce(1, {}, "runs on a CPU are shared out to processes")
    recipe = replace(recipe, batch_size=min(recipe.batch_size, shape[0]))
    probe = partial(ten_steps, network, shape[1:], n_classes, recipe, device)
    return find_runs_at_once(lambda count: together_per_second(probe, stream_executor(device, count), count))


def ten_steps(
    network: nn.Module,
    shape: tuple[int, ...],
    n_classes: int,
    recipe: Recipe,
    device: torch.device,
    ready: Callable[[], None],
) -> int:
    """Train the network for ten steps on noise of ``shape`` (leads, samples) as a run does, once all are ready."""
    from engine.compute.cuda_graphs import open_run

    n_records = PROBE_STEPS * recipe.batch_size
    signals, labels = torch.randn(n_records, *shape).to(device), torch.zeros(n_records, n_classes).to(device)
    order = torch.arange(n_records, device=device)
    with open_run(network, signals.shape, n_classes, recipe, 2 * PROBE_STEPS, device, "auto") as run:
        run.train_epoch(signals, labels, order)
        synchronize(device)
        ready()
        run.train_epoch(signals, labels, order)
    return n_records


def together_per_second(probe: Callable[[Callable[[], None]], int], executor: ThreadPoolExecutor, count: int) -> float:
    """Run ``count`` probes at once and return the records/s of all from the moment when the last one is ready.

    A probe calls what it is given when it is ready, and returns how many records it then worked on. When one fails its
    error is raised, and the others do not wait for it.
    """
    barrier = threading.Barrier(count + 1)

    def ready() -> None:
        barrier.wait()

    def work() -> int:
        try:
            return probe(ready)
        except BaseException:
            barrier.abort()
            raise

    with executor:
        futures = [executor.submit(work) for _ in range(count)]
        with suppress(threading.BrokenBarrierError):  # a probe failed: its own error is raised below
            barrier.wait()
        started = time.perf_counter()
        wait(futures)
        seconds = time.perf_counter() - started
    errors = [error for future in futures if (error := future.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return sum(future.result() for future in futures) / seconds


def _own_stream(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.set_stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]  # torch does not annotate it
