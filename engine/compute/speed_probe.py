"""Choosing by ten steps: which way of running a step is fastest, and how many runs at once a device is good for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

PROBE_STEPS = 10
_WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Choice:
    """The fastest way to do a step, the seconds of one, those of all that worked, and why the others did not."""

    way: str
    step_seconds: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)


def fastest_way(ways: Mapping[str, Callable[[], Callable[[], None]]], now: Callable[[], float]) -> Choice:
    """Time ten steps of every way, the first of which must work.

    A way is prepared by its function, which returns the step. One that fails with a RuntimeError, as CUDA's failures
    do, is left out and its reason kept. ``now`` waits for the device and returns seconds.
    """
    seconds: dict[str, float] = {}
    failures: dict[str, str] = {}
    for name, prepare in ways.items():
        try:
            step = prepare()
            seconds[name] = _seconds_a_step(step, now)
        except RuntimeError as error:
            if not seconds:
                raise
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    way = min(seconds, key=lambda name: seconds[name])
    return Choice(way, seconds[way], seconds, failures)


def _seconds_a_step(step: Callable[[], None], now: Callable[[], float]) -> float:
    for _ in range(_WARM_UP_STEPS):
        step()
    started = now()
    for _ in range(PROBE_STEPS):
        step()
    return (now() - started) / PROBE_STEPS


@dataclass(frozen=True)
class RunsAtOnce:
    """How many runs at once, the records/s of every number that was tried, and why no more."""

    count: int
    records_per_second: Mapping[int, float]
    reason: str


def find_runs_at_once(measure: Callable[[int], float], most: int = 16, worth: float = 1.1) -> RunsAtOnce:
    """Double the number of runs while that brings ``worth`` times the records/s, up to ``most``.

    ``measure`` returns the records/s of that many runs together; where it lacks the memory, there are no more. Raises
    OutOfMemoryError when it lacks it for one.
    """
    speeds: dict[int, float] = {}
    count = best = 1
    while count <= most:
        try:
            speeds[count] = measure(count)
        except torch.OutOfMemoryError:
            if count == 1:
                raise
            return RunsAtOnce(best, speeds, f"{count} do not fit into the device's memory")
        if count > 1 and speeds[count] < worth * speeds[best]:
            return RunsAtOnce(best, speeds, f"{count} bring {speeds[count] / speeds[best]:.2f} times the records/s")
        best, count = count, 2 * count
    return RunsAtOnce(best, speeds, f"{most} is the most that is tried")
