"""What a run runs on, and clocks that charge it its own time and not its neighbours'."""

import ctypes
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Protocol

import torch


class DeviceError(RuntimeError):
    """The device that was asked for is not there; one sentence says so."""


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``. Raises DeviceError."""
    kind, separator, index = name.partition(":")
    if name not in ("auto", "cpu", "cuda") and not (kind == "cuda" and separator and index.isdecimal()):
        raise DeviceError(f"{name!r} is no device; give auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if not count:
        raise DeviceError(f"there is no CUDA device for {name}: {_why_no_cuda()}; use --device cpu")
    if index and int(index) >= count:
        raise DeviceError(
            f"there is no {name}: this machine has {count} CUDA device{'s' * (count > 1)}, from cuda:0 on"
        )
    return torch.device("cuda", int(index or 0))


def describe_device(device: torch.device | str = "cpu") -> str:
    """Return what the device is, in words."""
    device = torch.device(device)
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return f"GPU {facts.name}, {facts.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    threads = torch.get_num_threads()
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return f"CPU {processor}, {threads} thread{'s' * (threads > 1)} of {os.cpu_count()}"


def _why_no_cuda() -> str:
    return "torch sees none" if torch.version.cuda else "this torch was built without CUDA"


@cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory that a training step frees, for the next one; return whether it will.

    glibc gives large blocks back to the system at once, which then clears every page anew: up to half of the time of an
    LSTM's step. Elsewhere nothing is changed. The names and numbers are those of ``malloc.h``.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 64 * 2**20))
    return all(mallopt(*setting) == 1 for setting in settings)


class Clock(Protocol):
    """Counts the seconds that a run is charged."""

    def seconds(self) -> float:
        """Return the seconds so far."""
        ...


class ProcessorClock:
    """Processor time of this thread: the wall clock of a machine that does nothing else, and no more on a busy one."""

    def __init__(self) -> None:
        self._started = time.thread_time()

    def seconds(self) -> float:
        """Return the seconds so far."""
        return time.thread_time() - self._started


def numbered(device: torch.device | str) -> torch.device:
    """Return the device with its number: plain ``cuda`` is the one that this thread works on."""
    device = torch.device(device)
    if device == torch.device("cuda"):
        return torch.device("cuda", torch.cuda.current_device())
    return device


def finished(device: torch.device) -> float:
    """Wait for everything that this thread gave the device; return the wall clock's seconds."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return time.perf_counter()


class WaitingClock:
    """Wall time with the device's work finished: for short pieces of work on CUDA, outside of any run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = finished(device)

    def seconds(self) -> float:
        """Return the seconds so far."""
        return finished(self._device) - self._started


def clock_of(device: torch.device) -> Clock:
    """Return a clock for work of this thread on the device."""
    return WaitingClock(device) if device.type == "cuda" else ProcessorClock()


class Turnstile:
    """Lets many runs work on one device at once, or one piece of work alone, which is how a time is measured there."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self._alone = False
        self._waiting = 0
        self.runs = 0
        self.opened = 0

    @contextmanager
    def run(self) -> Iterator[None]:
        """Count a run as open."""
        with self._changed:
            self.runs += 1
            self.opened += 1
        try:
            yield
        finally:
            with self._changed:
                self.runs -= 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work beside others; waits while someone is, or waits to be, alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._waiting)
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work while nobody else does. Not to be entered from within ``together``."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._alone and not self._working)
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


_turnstiles: dict[torch.device, Turnstile] = {}
_lock = threading.Lock()


def turnstile_of(device: torch.device) -> Turnstile:
    """Return the device's turnstile, one for all threads."""
    with _lock:
        return _turnstiles.setdefault(device, Turnstile())


def beside_others(device: torch.device) -> AbstractContextManager[None]:
    """Return the context for any work on CUDA: nothing may run while another thread measures or records a step."""
    return turnstile_of(device).together() if device.type == "cuda" else nullcontext()


class SharedClock:
    """Charges a run on a shared device what it would have taken alone.

    Between two readings with no other run open that is the wall clock. Otherwise it is the work that was counted, at
    the prices that were measured alone, and never more than the wall clock showed.
    """

    def __init__(self, turnstile: Turnstile, now: Callable[[], float]) -> None:
        self._turnstile, self._now = turnstile, now
        self._charged = self._owed = 0.0
        self._read, self._opened, self._shared = now(), turnstile.opened, turnstile.runs > 1

    def count(self, seconds_alone: float) -> None:
        """Note work that takes so long alone."""
        self._owed += seconds_alone

    def seconds(self) -> float:
        """Finish the work so far and return the seconds charged."""
        now = self._now()
        wall = now - self._read
        shared = self._shared or self._turnstile.opened != self._opened
        self._charged += min(wall, self._owed) if shared else wall
        self._read, self._owed = now, 0.0
        self._opened, self._shared = self._turnstile.opened, self._turnstile.runs > 1
        return self._charged
