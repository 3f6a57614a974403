"""How fast the engine trains: against the bare arithmetic, against a loop in the published style, and on a GPU.

    python tests/benchmarks/training.py bare      # loop and engine against forward, backward and step of plain torch
    python tests/benchmarks/training.py naive     # the loop against float64 and a table that is scanned for each record
    python tests/benchmarks/training.py cuda      # records/s on a GPU, next to a plain eager loop and the bf16 peak

Each prints a Markdown table for RESULTS.md. Ratios are of pieces that take turns within one run, median (quartiles)
over the rounds, so that a change of the machine's pace meets both sides.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.compute.clocks import synchronize
from engine.compute.cuda_graphs import open_run as open_cuda_run
from engine.compute.devices import choose_device, describe_device
from engine.compute.steps import PlainRun, Run, open_run
from engine.recipes import Recipe, find_recipe
from engine.training.starting_point import new_network
from models.registry import find_network, list_networks, training_gflop

N_LEADS, N_SAMPLES, N_CLASSES = 12, 1000, 5
# Nguyen and Do 2025: 18 pre-trainings, 30 runs from scratch, 72 fine-tunings, 12 of the size curve, 100 epochs each, on
# six networks alike: about 8e7 record-passes.
GRID_NETWORKS = ("resnet1d18", "resnet1d50", "resnet1d101", "lstm", "bilstm", "gru")
GRID_PASSES = 8e7
CUDA_NETWORKS = ("resnet1d18", "resnet1d50", "xresnet1d101", "gru", "lstm")
_PRODUCTS = 50


def main() -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bare", "naive", "cuda"])
    parser.add_argument("--archs", nargs="+", help="networks, for bare also patterns; the default depends on what")
    parser.add_argument("--rounds", type=int, default=15, help="how often the pieces take turns (15)")
    parser.add_argument("--batches", type=int, default=8, help="batches a piece (8)")
    parser.add_argument("--batch-size", type=int, help="records a batch (the recipe's; the published 256 for cuda)")
    parser.add_argument("--records", type=int, default=12_000, help="rows of the naive loop's table (12,000)")
    parser.add_argument("--threads", type=int, default=1, help="threads on the CPU (1)")
    parser.add_argument("--device", default="cuda", help="device of the cuda benchmark (cuda)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    {"bare": bare, "naive": naive, "cuda": cuda}[arguments.what](arguments)


def bare(arguments: argparse.Namespace) -> None:
    """Print what the loop adds to the least that a step must do with torch's own layers, and what the engine's save."""
    rows = []
    names = arguments.archs or ["resnet1d18-w16", "gru-w32", "resnet1d18"]
    # On one thread in processor time, which a busy machine stretches less than the time of the clock on the wall.
    clock = time.thread_time if arguments.threads == 1 else time.perf_counter
    for arch in [arch for name in names for arch in list_networks(name) or [name]]:
        recipe = _recipe(arch, arguments.batch_size)
        signals, labels = _records(arguments.batches * recipe.batch_size)
        steps = (arguments.rounds + 1) * arguments.batches
        pieces = (
            _bare_steps(_network(arch), recipe, signals, labels, arguments.batches),
            _engine_epoch(PlainRun(_network(arch), recipe, steps), signals, labels),
            _engine_epoch(open_run(_network(arch), recipe, steps), signals, labels),
        )
        taken = _take_turns(pieces, arguments.rounds, clock)
        rows.append((*_row(arch, len(signals), taken[:2]), *_row(arch, len(signals), [taken[0], taken[2]])[2:]))
    header = ("network", "bare, records/s", "loop, records/s", "loop / bare, time", "engine, records/s",
              "engine / bare, time")  # fmt: skip
    _print_table(header, rows, "cpu")


def _engine_epoch(run: Run, signals: Tensor, labels: Tensor) -> Callable[[], object]:
    generator = torch.Generator(signals.device).manual_seed(0)

    def epoch() -> None:
        order = torch.randperm(len(signals), generator=generator, device=signals.device)
        run.train_epoch(signals, labels, order)
        synchronize(signals.device)

    return epoch


def _bare_steps(
    network: nn.Module, recipe: Recipe, signals: Tensor, labels: Tensor, batches: int
) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=recipe.weight_decay, fused=True)
    x, y = signals[: recipe.batch_size].clone(), labels[: recipe.batch_size].clone()
    network.train()

    def steps() -> None:
        for _ in range(batches):
            optimizer.zero_grad(set_to_none=True)
            F.binary_cross_entropy_with_logits(network(x), y).backward()
            if recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            optimizer.step()

    return steps


def naive(arguments: argparse.Namespace) -> None:
    """Print what the published way of reading and counting costs, on batches of the same size of the same network.

    The engine takes its turn twice: one run on all threads, as the naive loop has them, and as a study uses a machine,
    one run on a thread of its own in as many processes.
    """
    rows = []
    for arch in arguments.archs or ["resnet1d18", "gru"]:
        recipe = replace(
            find_recipe("paper", find_network(arch).family, "scratch"), batch_size=arguments.batch_size or 32
        )
        signals, labels = _records(arguments.batches * recipe.batch_size)
        steps = (arguments.rounds + 1) * arguments.batches
        theirs, scans = _naive_epoch(_network(arch), recipe, signals, labels, arguments.records)
        ours = _engine_epoch(open_run(_network(arch), recipe, steps), signals, labels)
        with _side_by_side(arch, recipe, arguments.batches, steps, arguments.threads) as study:
            taken = _take_turns([theirs, ours, study], arguments.rounds)
        taken[2] = [seconds / arguments.threads for seconds in taken[2]]  # as many runs are done by then
        rows.append((
            *_row(arch, len(signals), taken[:2], upside_down=True),
            *_row(arch, len(signals), [taken[0], taken[2]], upside_down=True)[2:],
            f"{1000 * statistics.median(scans):.1f}",
        ))  # fmt: skip
    side = f"{arguments.threads} runs at a time"
    names = (
        "network", "naive, records/s", "one run, records/s", "one run / naive", f"{side}, records/s", f"{side} / naive",
        "scan, ms a record",
    )  # fmt: skip
    _print_table(names, rows, "cpu")


def _naive_epoch(
    network: nn.Module, recipe: Recipe, signals: Tensor, labels: Tensor, n_records: int
) -> tuple[Callable[[], object], list[float]]:
    """Float64 from end to end, each record found by comparing every row of a table that has a row a sample.

    That is how the published code keeps its records: one table of (records x samples) rows with a column a lead, and
    one of labels. The seconds that a batch's lookups take, divided by its records, go into the list that comes back.
    """
    import pandas as pd

    rows = np.arange(n_records) % len(signals)
    leads = [f"lead {k}" for k in range(N_LEADS)]
    samples = signals[rows].double().transpose(1, 2).reshape(-1, N_LEADS).numpy()
    table = pd.DataFrame(samples, columns=leads, copy=False)
    table["record"] = np.repeat(np.arange(n_records), N_SAMPLES)
    outcomes = labels[rows].double()
    network.double().train()
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    rng = np.random.default_rng(0)
    scans: list[float] = []

    def epoch() -> None:
        for start in range(0, len(signals), recipe.batch_size):
            wanted = rng.choice(n_records, min(recipe.batch_size, len(signals) - start), replace=False)
            started = time.perf_counter()
            found = [table.loc[table["record"] == record, leads].to_numpy().T for record in wanted]
            scans.append((time.perf_counter() - started) / len(wanted))
            x = torch.from_numpy(np.stack(found))
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(network(x), outcomes[wanted])
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch, scans


_own_epoch: Callable[[], object]  # of a process that trains while others do, and what they wait at for each other
_together: Barrier


@contextmanager
def _side_by_side(arch: str, recipe: Recipe, batches: int, steps: int, count: int) -> Iterator[Callable[[], object]]:
    """Yield a piece that trains an epoch in each of ``count`` processes at once, one thread a process."""
    ready = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, ready, _prepare, (arch, recipe, batches, steps, ready.Barrier(count))) as pool:
        yield lambda: [future.result() for future in [pool.submit(_train_own) for _ in range(count)]]


def _prepare(arch: str, recipe: Recipe, batches: int, steps: int, all_there: Barrier) -> None:
    global _own_epoch, _together
    torch.set_num_threads(1)
    _own_epoch = _engine_epoch(open_run(_network(arch), recipe, steps), *_records(batches * recipe.batch_size))
    _together = all_there


def _train_own() -> None:
    _together.wait()  # each process takes one of the epochs, none takes two
    _own_epoch()


@dataclass(frozen=True)
class CudaRow:
    """How fast a network trains on a device, in records/s: as the engine does, and by plain float32 eager steps.

    ``share_of_peak``: the engine's arithmetic against that of a large bf16 matrix product, ``peak_tflops``.
    """

    network: str
    batch_size: int
    precision: str
    way: str
    engine: float
    plain: float
    share_of_peak: float
    peak_tflops: float


def cuda(arguments: argparse.Namespace) -> None:
    """Print what ``cuda_rows`` measures, and the time of the published grid where its networks are among them."""
    if arguments.device != "cpu" and not torch.cuda.is_available():
        sys.stdout.write("no CUDA device\n")
        return
    device = choose_device(arguments.device)
    archs = arguments.archs or CUDA_NETWORKS
    rows = cuda_rows(device, archs, arguments.batch_size or 256, arguments.rounds, arguments.batches)
    table = [
        (row.network, f"{row.engine:,.0f} ({row.way}, {row.precision})", f"{row.plain:,.0f}",
         f"{row.engine / row.plain:.2f}", f"{row.share_of_peak:.1%}")
        for row in rows
    ]  # fmt: skip
    names = ("network", "engine, records/s", "plain eager loop, records/s", "engine / plain", "share of the bf16 peak")
    _print_table(names, table, str(device))
    sys.stdout.write(f"\nbf16 matrix product: {rows[0].peak_tflops:,.0f} TFLOP/s\n")
    speeds = {row.network: row.engine for row in rows}
    if set(GRID_NETWORKS) <= speeds.keys():
        seconds = sum(GRID_PASSES / len(GRID_NETWORKS) / speeds[arch] for arch in GRID_NETWORKS)
        sys.stdout.write(
            f"the published grid, {GRID_PASSES:.0e} record-passes at these speeds: {seconds / 60:,.1f} min\n"
        )


def cuda_rows(device: torch.device, archs: Sequence[str], batch_size: int, rounds: int, batches: int) -> list[CudaRow]:
    """Time epochs of ``batches`` batches of every network on the path of CUDA; a CPU runs the same, without a capture.

    The tests on a GPU call this (``tests/gpu/kit.py``).
    """
    peak, rows = _bf16_peak(device), []
    for arch in archs:
        recipe = _recipe(arch, batch_size)
        signals, labels = (tensor.to(device) for tensor in _records(batches * batch_size))
        pieces, steps = [], (rounds + 1) * batches
        plain = PlainRun(_network(arch).to(device), recipe, steps)
        pieces.append(_engine_epoch(plain, signals, labels))
        network, mode = _network(arch).to(device), "auto" if device.type == "cuda" else "eager"
        with open_cuda_run(network, signals.shape, N_CLASSES, recipe, steps, device, mode) as run:
            pieces.append(_engine_epoch(run, signals, labels))
            theirs, ours = (len(signals) / statistics.median(taken) for taken in _take_turns(pieces, rounds))
            gflop = training_gflop(_network(arch), N_LEADS, N_SAMPLES)
            share = ours * gflop * 1e9 / peak
            rows.append(CudaRow(arch, batch_size, run.precision, run.way, ours, theirs, share, peak / 1e12))
    return rows


def _bf16_peak(device: torch.device) -> float:
    """Return FLOP/s of a large matrix product, which is what the device can do at best."""
    size = 8192 if device.type == "cuda" else 256
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(_PRODUCTS):
        one @ other
    started = synchronize(device)
    for _ in range(_PRODUCTS):
        one @ other
    return 2 * size**3 * _PRODUCTS / (synchronize(device) - started)


def _take_turns(
    pieces: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Return the seconds of every piece in every round, after one round that does not count."""
    seconds: list[list[float]] = [[] for _ in pieces]
    for number in range(rounds + 1):
        for piece, taken in zip(pieces, seconds, strict=True):
            started = clock()
            piece()
            if number:
                taken.append(clock() - started)
    return seconds


def _row(arch: str, n_records: int, taken: list[list[float]], *, upside_down: bool = False) -> tuple[str, ...]:
    """Return a table's row: both speeds and the median of the rounds' ratios with their quartiles."""
    other, ours = taken
    ratios = [b / a if upside_down else a / b for a, b in zip(ours, other, strict=True)]
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    speeds = [f"{n_records / statistics.median(seconds):,.0f}" for seconds in (other, ours)]
    return (arch, *speeds, f"{middle:.3f} ({low:.3f} to {high:.3f})")


def _print_table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]], device: str) -> None:
    write = sys.stdout.write
    write(f"{describe_device(device)}; torch {torch.__version__}\n\n")
    for row in (names, ("---",) * len(names), *rows):
        write(f"| {' | '.join(row)} |\n")


def _recipe(arch: str, batch_size: int | None) -> Recipe:
    recipe = find_recipe("tuned", find_network(arch).family, "scratch")
    return recipe if batch_size is None else replace(recipe, batch_size=batch_size)


def _network(arch: str) -> nn.Module:
    return new_network(arch, N_LEADS, N_SAMPLES, N_CLASSES, seed=0)


def _records(n_records: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    signals = torch.randn(n_records, N_LEADS, N_SAMPLES, generator=generator)
    return signals, (torch.rand(n_records, N_CLASSES, generator=generator) < 0.3).float()


if __name__ == "__main__":
    main()
