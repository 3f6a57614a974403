"""What happens to a job, as server-sent events: one whenever its state or its progress changes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool

_POLL_SECONDS = 0.3
_COMMENT_SECONDS = 15.0  # between signs of life: what lies between cuts silent connections


async def job_events(
    look: Callable[[], tuple[str, bool]], clock: Callable[[], float] = time.monotonic, pause: float = _POLL_SECONDS
) -> AsyncIterator[str]:
    """Yield an event with each new document that ``look`` returns, until it says that it is the last.

    A document is one line of JSON. Between events a comment comes every 15 seconds.
    """
    said, last = None, clock()
    while True:
        document, is_last = await run_in_threadpool(look)
        if document != said:
            said, last = document, clock()
            yield f"event: job\ndata: {document}\n\n"
        elif clock() - last >= _COMMENT_SECONDS:
            last = clock()
            yield ": still here\n\n"
        if is_last:
            return
        await asyncio.sleep(pause)
