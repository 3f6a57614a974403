"""When a training is written down while it goes on, for a process that may be killed."""

import time
from collections.abc import Callable
from contextlib import suppress

from torch import nn

from engine.training.loop import Training

_REST = 100.0  # times as long as a writing took before the next: hardly anything of the training's time


class Keeping:
    """Lets ``save`` write a training every so many ``seconds``, unless that would take a hundredth of its time."""

    def __init__(
        self, seconds: float, save: Callable[[nn.Module, Training], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._save, self._clock = seconds, save, clock
        self._next = clock() + seconds

    def keep(self, as_if_stopped: Callable[[], tuple[nn.Module, Training]]) -> None:
        """Write the training if it is time."""
        if (began := self._clock()) < self._next:
            return
        with suppress(OSError):  # a disk that is full now may not be so at the end, and what was kept is still there
            self._save(*as_if_stopped())
        ended = self._clock()
        self._next = ended + max(self._seconds, _REST * (ended - began))
