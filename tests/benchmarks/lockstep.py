"""How fast recurrent networks train many runs in one step, against one after another, and how equal they come out.

    python tests/benchmarks/lockstep.py --archs gru-w32 --runs 8 --rounds 5
    python tests/benchmarks/lockstep.py --archs gru-w32 gru lstm-w32 lstm bilstm-w32 --runs 1 2 4 8 16
    python tests/benchmarks/lockstep.py --device cuda --runs 1 4 16 32

Prints a Markdown table for RESULTS.md. A round is one step of one run on torch's own layers, one of the engine's run
alone (on a processor a GRU is the engine's own there too), and one step of all runs together, in turn; the ratios are
of lockstep's records/s to each, median (quartiles) over the rounds. "Weights": every run is trained for a few epochs
alone and together; the largest difference of any weight, by the largest weight of its run. "Memory" is the most that
the process held so far, so that networks that need little come first.
"""

import argparse
import itertools
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from engine.compute.clocks import clock_of
from engine.compute.cuda_graphs import Session, prefer_speed, prepare
from engine.compute.devices import choose_device, describe_device, keep_freed_memory
from engine.compute.lockstep import lockstep_twin
from engine.compute.static_step import StaticStep
from engine.compute.steps import PlainRun, open_run
from engine.recipes import Recipe, find_recipe
from engine.training.lockstep import LockstepJob, train_together
from engine.training.loop import Examples, Training, train
from engine.training.starting_point import new_network
from models.registry import find_network

N_LEADS, N_SAMPLES, N_CLASSES = 12, 1000, 5


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", nargs="+", default=["gru-w32", "gru"], help="networks (gru-w32 gru)")
    parser.add_argument("--runs", nargs="+", type=int, default=[8], help="runs in a step (8)")
    parser.add_argument("--rounds", type=int, default=5, help="how often the two take turns (5)")
    parser.add_argument("--batch-size", type=int, default=64, help="records of a run's batch (64)")
    parser.add_argument("--epochs", type=int, default=3, help="of the trainings that are compared; 0: none (3)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = choose_device(arguments.device)
    names = (
        "network", "runs", "torch's layers, records/s", "one by one, records/s", "lockstep, records/s",
        "to torch's layers", "to one by one", "way", "weights", "memory, GB",
    )  # fmt: skip
    sys.stdout.write(f"{describe_device(device)}; torch {torch.__version__}\n\n")
    for row in (names, ("---",) * len(names)):
        sys.stdout.write(f"| {' | '.join(row)} |\n")
    for arch, runs in itertools.product(arguments.archs, arguments.runs):
        found = lockstep_row(device, arch, runs, arguments.rounds, arguments.batch_size, arguments.epochs)
        ratios = f"{found.to_layers:.2f}", f"{found.ratio:.2f} ({found.ratio_low:.2f} to {found.ratio_high:.2f})"
        speeds = f"{found.layers:,.0f}", f"{found.one_by_one:,.0f}", f"{found.lockstep:,.0f}"
        weights = "not compared" if found.difference is None else f"{found.difference:.0e}"
        sys.stdout.write(
            f"| {' | '.join((arch, str(runs), *speeds, *ratios, found.way, weights, f'{found.memory_gb:.1f}'))} |\n"
        )
        sys.stdout.flush()


@dataclass(frozen=True)
class LockstepRow:
    """Records/s on torch's ``layers``, one by one and in lockstep; the ratio to one by one, median and quartiles."""

    network: str
    runs: int
    layers: float
    one_by_one: float
    lockstep: float
    to_layers: float
    ratio: float
    ratio_low: float
    ratio_high: float
    way: str
    difference: float | None
    memory_gb: float


def lockstep_rows(
    device: torch.device, archs: Sequence[str], runs: int, rounds: int, batches: int = 1
) -> list[LockstepRow]:
    """Time every network in groups of ``runs``; a round has as many steps as ``batches``, of 64 records a run.

    The tests on a GPU call this (``tests/gpu/kit.py``).
    """
    return [lockstep_row(device, arch, runs, rounds, batches=batches) for arch in archs]


def lockstep_row(
    device: torch.device, arch: str, runs: int, rounds: int, batch_size: int = 64, epochs: int = 0, batches: int = 1
) -> LockstepRow:
    """Time one kind of group; ``epochs``: of the trainings whose weights are compared, if any."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        prefer_speed()
    else:
        keep_freed_memory()
    recipe = _recipe(arch, batch_size)
    networks = [new_network(arch, N_LEADS, N_SAMPLES, N_CLASSES, seed).to(device) for seed in range(runs)]
    taken, way = _steps(networks, recipe, device, rounds, batches)
    layers, one_by_one, lockstep = (
        [count * batches * batch_size / seconds for seconds in piece]
        for count, piece in zip((1, 1, runs), taken, strict=True)
    )
    to_layers = statistics.median(np.divide(lockstep, layers).tolist())
    low, middle, high = np.quantile(np.divide(lockstep, one_by_one), [0.25, 0.5, 0.75]).tolist()
    difference = _difference(arch, runs, replace(recipe, learning_rate=1e-3), device, epochs) if epochs else None
    speeds = (statistics.median(piece) for piece in (layers, one_by_one, lockstep))
    return LockstepRow(arch, runs, *speeds, to_layers, middle, low, high, way, difference, _peak(device) / 2**30)


def _steps(
    networks: list[nn.Module], recipe: Recipe, device: torch.device, rounds: int, batches: int
) -> tuple[tuple[list[float], ...], str]:
    """Return the seconds of one run's steps on torch's layers and the engine's way, and of the group's, every round.

    A first round does not count.
    """
    signals, labels = (tensor.to(device) for tensor in _records(len(networks) * recipe.batch_size, 0))
    steps = (rounds + 1) * batches
    plain = PlainRun(deepcopy(networks[0]).to(device), recipe, steps)
    alone = open_run(deepcopy(networks[0]), recipe, steps) if device.type == "cpu" else plain
    session = _session(networks, recipe, device)
    session.step.signals.copy_(signals)
    session.step.labels.copy_(labels)
    own, order = (signals[: recipe.batch_size], labels[: recipe.batch_size]), torch.arange(recipe.batch_size).to(device)
    pieces: tuple[Callable[[], object], ...] = (
        partial(plain.train_epoch, *own, order), partial(alone.train_epoch, *own, order), session.replay,
    )  # fmt: skip
    clock = clock_of(device)
    taken: tuple[list[float], ...] = ([], [], [])
    for number in range(rounds + 1):
        for piece, seconds in zip(pieces, taken, strict=True):
            started = clock.seconds()
            for _ in range(batches):
                piece()
            if number:
                seconds.append(clock.seconds() - started)
    return taken, session.way


def _session(networks: list[nn.Module], recipe: Recipe, device: torch.device) -> Session:
    batch = (recipe.batch_size, N_LEADS, N_SAMPLES)
    step = StaticStep(lockstep_twin(networks), batch, N_CLASSES, recipe.clip_norm, "float32", len(networks))
    step.network.train()
    return Session(step, step) if device.type == "cpu" else prepare(step, device, ("benchmark", str(networks[0])))


def _difference(arch: str, runs: int, recipe: Recipe, device: torch.device, epochs: int) -> float:
    """Return the largest difference of a weight after training alone and together, by the largest weight of its run."""
    recipe = replace(recipe, min_epochs=epochs, max_epochs=epochs, selection="last")
    jobs = [_job(arch, seed, recipe) for seed in range(runs)]
    others = [replace(job, network=deepcopy(job.network)) for job in jobs]
    for job in jobs:
        train(job.network, job.training, job.validation, job.recipe, job.seed, device=device)
    assert all(isinstance(one, Training) for one in train_together(others, device=device))
    return max(_relative(job.network, other.network) for job, other in zip(jobs, others, strict=True))


def _job(arch: str, seed: int, recipe: Recipe) -> LockstepJob:
    n_records = 2 * recipe.batch_size - seed  # of another size every run: the last batches are short
    training, validation = (Examples(*_records(n, seed + k)) for k, n in ((1, n_records), (1000, recipe.batch_size)))
    network = new_network(arch, N_LEADS, N_SAMPLES, N_CLASSES, seed)
    return LockstepJob(network, training, validation, recipe, seed)


def _relative(one: nn.Module, other: nn.Module) -> float:
    ours, theirs = (nn.utils.parameters_to_vector(network.parameters()).detach() for network in (one, other))
    return float((ours - theirs).abs().max() / ours.abs().max())


def _records(n_records: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(n_records, N_LEADS, N_SAMPLES, generator=generator)
    return signals, (torch.rand(n_records, N_CLASSES, generator=generator) < 0.3).float()


def _recipe(arch: str, batch_size: int) -> Recipe:
    return replace(find_recipe("tuned", find_network(arch).family, "scratch"), batch_size=batch_size)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
