"""What a training took: processor time, a device's time, and time that is shared with other runs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch


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


def synchronize(device: torch.device) -> float:
    """Wait for everything that this thread gave the device; return the wall clock's seconds."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return time.perf_counter()


class WaitingClock:
    """Wall time with the device's work finished: for short pieces of work on CUDA, outside of any run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = synchronize(device)

    def seconds(self) -> float:
        """Return the seconds so far."""
        return synchronize(self._device) - self._started


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
        """Work while others do; waits while someone is, or waits to be, alone."""
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


def shared_access(device: torch.device) -> AbstractContextManager[None]:
    """Return the context for any work on CUDA: nothing may run while another thread measures or captures a step."""
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
