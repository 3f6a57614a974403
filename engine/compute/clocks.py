"""What a training took: processor time, or the wall clock of a device that has nothing else to do."""

import time
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
    """Wait until the device has done everything; return the wall clock's seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class WaitingClock:
    """The wall clock with the device's work finished: one process has the device, and does one run after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = synchronize(device)

    def seconds(self) -> float:
        """Return the seconds so far."""
        return synchronize(self._device) - self._started


def clock_of(device: torch.device) -> Clock:
    """Return a clock for work of this thread on the device."""
    return WaitingClock(device) if device.type == "cuda" else ProcessorClock()
