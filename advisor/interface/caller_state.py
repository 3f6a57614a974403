"""What our work sets for the whole process, put back as the caller had it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def caller_state_kept() -> Iterator[None]:
    """Leave torch's random numbers, threads and choices about precision as they were, and the filters of warnings.

    CUDA's generators too: where CUDA is not in use yet they get the seed of the processor's. What is loaded on the way
    may add filters, as sympy does.
    """
    seed, threads = torch.initial_seed(), torch.get_num_threads()
    precision, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch does not annotate it
    devices = list(range(torch.cuda.device_count())) if in_use else []
    try:
        with torch.random.fork_rng(devices), warnings.catch_warnings():
            yield
    finally:
        if not in_use:
            torch.cuda.manual_seed_all(seed)  # waits until CUDA is used
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.benchmark = benchmark
