"""The same work on many things, a chunk at a time, in this process or in several."""

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from functools import partial
from typing import Any, TypeVar

import ecgadvise
from models.errors import ExitCode, UserError

Thing = TypeVar("Thing")
Result = TypeVar("Result")


class WorkerLostError(UserError, RuntimeError):
    """A worker process was killed from outside."""

    exit_code = ExitCode.FAILURE


def run_chunks(
    work: Callable[[int, Sequence[Thing]], Result], chunks: Iterable[tuple[int, Sequence[Thing]]], workers: int
) -> Iterator[tuple[int, Result]]:
    """Yield for each chunk its position and what ``work`` makes of both, as they get done.

    ``work`` is sent to every process once. Raises what ``work`` raises, WorkerLostError where a process was killed.
    """
    if workers == 1:
        for start, chunk in chunks:
            yield start, work(start, chunk)
        return
    context = multiprocessing.get_context("spawn")
    start_worker = partial(ecgadvise.call_pickled, pickle.dumps(partial(_start_worker, work)))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker) as pool:
        try:
            futures = {pool.submit(_work_in_worker, start, chunk): start for start, chunk in chunks}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenExecutor as error:
            raise WorkerLostError("a worker process was ended from outside, for want of memory perhaps") from error
        except BaseException:  # what waits is not cancelled: the pool's own thread would be told of it twice
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


_work: Callable[[int, Sequence[Any]], Any]


def _start_worker(work: Callable[[int, Sequence[Any]], Any]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    _work = work


def _work_in_worker(start: int, chunk: Sequence[Any]) -> Any:
    return _work(start, chunk)
