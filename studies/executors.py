"""Where runs run: worker processes on this machine. Any other ``concurrent.futures.Executor`` does as well."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait


def local_executor(workers: int) -> ProcessPoolExecutor:
    """Return an executor of spawned processes, one thread each: small networks gain nothing from a second thread.

    Workers ignore Ctrl-C: the parent decides what is still written.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


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
