"""Runs at once: all begin together, a failure ends them all, and on the CPU there is one a process."""

import threading

import pytest
import torch

from engine.compute.packing import choose_runs_at_once, stream_executor, together_per_second
from engine.recipes import find_recipe
from engine.training.starting_point import new_network

CPU = torch.device("cpu")


def test_all_are_ready_before_one_begins():
    ready_ones, seen, lock = [], [], threading.Lock()

    def probe(ready) -> int:
        with lock:
            ready_ones.append(1)
        ready()
        seen.append(len(ready_ones))
        return 50

    assert together_per_second(probe, stream_executor(CPU, 4), 4) > 0
    assert seen == [4, 4, 4, 4]


def test_one_that_fails_before_it_is_ready_is_raised_and_the_others_do_not_wait():
    first = threading.Lock()

    def probe(ready) -> int:
        if first.acquire(blocking=False):
            raise torch.OutOfMemoryError("CUDA out of memory")
        ready()
        return 50

    with pytest.raises(torch.OutOfMemoryError):
        together_per_second(probe, stream_executor(CPU, 3), 3)


def test_one_that_fails_at_work_is_raised():
    def probe(ready) -> int:
        ready()
        raise RuntimeError("broken at work")

    with pytest.raises(RuntimeError, match="broken at work"):
        together_per_second(probe, stream_executor(CPU, 2), 2)


def test_threads_make_the_networks_that_their_seeds_say():
    """Torch has one generator for all threads."""

    def weights(seed: int) -> torch.Tensor:
        return torch.cat([value.flatten() for value in new_network("resnet1d18-w2", 2, 64, 2, seed).parameters()])

    expected = [weights(seed) for seed in range(12)]
    with stream_executor(CPU, 4) as executor:
        assert all(map(torch.equal, executor.map(weights, range(12)), expected))


def test_on_a_cpu_one_run_a_process_is_enough():
    recipe = find_recipe("tuned", "cnn", "scratch")
    found = choose_runs_at_once(new_network("resnet1d18-w2", 2, 64, 2, 0), (100, 2, 64), 2, recipe, CPU)
    assert found.count == 1
    assert "CPU" in found.reason
