"""What happens to a job, as server-sent events: one whenever its state or its progress changes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from anyio import CapacityLimiter, to_thread

from advisor.service.problems import Problem

MOST_STREAMS = 100  # at a time in a server
_LOOKS_AT_ONCE = 4  # of all streams: they keep the threads of other requests free
_POLL_SECONDS = 0.3
_COMMENT_SECONDS = 15.0  # between signs of life: what lies between cuts silent connections


class Streams:
    """The streams of a server; made in the loop that they run in, which alone counts them."""

    def __init__(self) -> None:
        self.looks = CapacityLimiter(_LOOKS_AT_ONCE)
        self.open = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a stream while the block lasts. Raises Problem where as many are open as may."""
        if self.open >= MOST_STREAMS:
            said = f"{self.open} streams of events are open, as many as a server has at a time"
            raise Problem(429, f"{said}: ask for the job itself now and then, or try again later")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


async def job_events(
    look: Callable[[], tuple[str, bool]], looks: CapacityLimiter, clock: Callable[[], float] = time.monotonic,
    pause: float = _POLL_SECONDS,
) -> AsyncIterator[str]:  # fmt: skip
    """Yield an event with each new document that ``look`` returns, until it says that it is the last.

    A document is one line of JSON. Between events a comment comes every 15 seconds. ``looks`` is how many threads look
    at a time, for all streams.
    """
    said, last = None, clock()
    while True:
        document, is_last = await to_thread.run_sync(look, limiter=looks)
        if document != said:
            said, last = document, clock()
            yield f"event: job\ndata: {document}\n\n"
        elif clock() - last >= _COMMENT_SECONDS:
            last = clock()
            yield ": still here\n\n"
        if is_last:
            return
        await asyncio.sleep(pause)
