"""What keeping freed memory (``keep_freed_memory``) gives a training on the processor, and costs in memory.

    python tests/benchmarks/memory.py [ARCH ...]

Each network trains four batches in a process of its own, twice with memory given back and twice with it kept, in turn,
on one thread. Times are processor times of that thread, which other work on the machine lengthens little.
"""

import os
import resource
import sys

import torch

from engine.compute.devices import keep_freed_memory
from engine.compute.steps import PlainRun
from engine.recipes import find_recipe
from engine.training.starting_point import new_network
from models.registry import find_network

ARCHS = ("gru-w32", "resnet1d18-w16", "xresnet1d18", "lstm-w32", "lstm", "gru", "resnet1d18")
BATCHES = 4


def main() -> None:
    """Print a line a network."""
    torch.set_num_threads(1)
    for arch in sys.argv[1:] or ARCHS:
        given, kept, given_again, kept_again = (_in_child(arch, keep) for keep in (False, True, False, True))
        speeds = f"{given[0]:.0f} {given_again[0]:.0f} -> {kept[0]:.0f} {kept_again[0]:.0f}"
        ratios = f"{kept[0] / given[0]:.2f} {kept_again[0] / given_again[0]:.2f}"
        faults, peak = (f"{given_again[k]:,.0f} -> {kept_again[k]:,.0f}" for k in (1, 2))
        sys.stdout.write(f"{arch:15} {speeds} records/s, {ratios}; page faults a step {faults}; peak {peak} MB\n")
        sys.stdout.flush()


def _in_child(arch: str, keep: bool) -> tuple[float, ...]:
    """Return records/s, page faults a step, and the peak memory in MB."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, " ".join(map(str, _train(arch, keep))).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as result:
        values = tuple(map(float, result.read().split()))
    os.waitpid(child, 0)
    return values


def _train(arch: str, keep: bool) -> tuple[float, ...]:
    if keep:
        assert keep_freed_memory(), "this benchmark needs glibc"
    recipe = find_recipe("tuned", find_network(arch).family, "scratch")
    n_records = BATCHES * recipe.batch_size
    signals, labels = torch.randn(n_records, 12, 1000), (torch.rand(n_records, 5) < 0.3).float()
    run, order = PlainRun(new_network(arch, 12, 1000, 5, seed=0), recipe, 100), torch.arange(n_records)
    run.train_epoch(signals[: recipe.batch_size], labels, order[: recipe.batch_size])
    before = resource.getrusage(resource.RUSAGE_THREAD)
    run.train_epoch(signals, labels, order)
    after = resource.getrusage(resource.RUSAGE_THREAD)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return n_records / seconds, (after.ru_minflt - before.ru_minflt) / BATCHES, after.ru_maxrss / 1024


if __name__ == "__main__":
    main()
