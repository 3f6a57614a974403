"""How fast an exported model predicts against torch, and how long the export of every network takes.

    python tests/benchmarks/inference.py [PATTERN] [ROUNDS]

Networks of full size with random weights, 12 leads, 1000 samples, 5 classes. onnxruntime and torch (eager, inference
mode) run on two threads each and in turn, a round of both within a second of each other, so that a busy moment of the
machine meets both; before each, a pause in which the other's threads stop spinning and, where a run takes less than a
few tenths of a second, one that is not timed. The ratio is the median over rounds of torch's time by onnxruntime's:
above 1, onnxruntime is faster. Times are medians.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from engine.checkpoints.checkpoint import CheckpointFacts, Standardisation, load_network, save_checkpoint
from engine.deploy.export import export_checkpoint
from engine.deploy.inference import open_session
from engine.deploy.parity import synthetic_records
from engine.records.record import LEADS
from models.registry import create_network, list_networks

THREADS = 2
BATCHES = (1, 64)
CLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
SECONDS_A_ROUND = 0.2
PAUSE = 0.05


def main() -> None:
    """Print a Markdown table, a line a network."""
    pattern, rounds = [*sys.argv[1:], *["*", "15"][len(sys.argv) - 1 :]]
    torch.set_num_threads(THREADS)
    heads = ["network", "export, s", "file / weights", "largest difference"]
    heads += [f"batch {batch}: {what}" for batch in BATCHES for what in ("torch, ms", "onnxruntime, ms", "ratio")]
    _write_row(heads)
    _write_row(["---"] * len(heads))
    with TemporaryDirectory() as folder:
        for name in list_networks(pattern):
            _write_row([f"`{name}`", *_measure(name, Path(folder) / name, int(rounds))])


def _write_row(cells: list[str]) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def _measure(name: str, folder: Path, rounds: int) -> list[str]:
    report = export_checkpoint(_checkpoint(name, folder / "checkpoint"), folder / "model.onnx")
    cells = [f"{report.seconds:.1f}", f"{report.bytes / report.weight_bytes:.3f}"]
    cells.append(f"{report.agreement.probability_difference:.1g}")
    predict, session = _torch_predict(folder / "checkpoint"), open_session(str(folder / "model.onnx"), THREADS)
    for batch in BATCHES:
        signals = synthetic_records(batch, len(LEADS), 1000, 100.0)
        tensor = torch.from_numpy(signals)
        seconds = _in_turn(
            (lambda x=tensor: predict(x), lambda x=signals: session.run(["probability"], {"ecg": x})), rounds
        )
        medians = [f"{1000 * statistics.median(values):.2f}" for values in seconds]
        ratio = statistics.median(eager / runtime for eager, runtime in zip(*seconds, strict=True))
        cells += [*medians, f"{ratio:.2f}"]
    return cells


def _checkpoint(name: str, root: Path) -> Path:
    torch.manual_seed(0)
    network = create_network(name, n_classes=len(CLASSES))
    scaling = Standardisation((0.0,) * len(LEADS), (0.2,) * len(LEADS))
    facts = CheckpointFacts(name, "benchmark/none", CLASSES, LEADS, 100.0, 1000, scaling, {}, "", {})
    save_checkpoint(network, facts, root)
    return root


def _torch_predict(checkpoint: Path) -> Callable[[torch.Tensor], np.ndarray]:
    network, facts = load_network(checkpoint)
    mean, std = (torch.tensor(v)[:, None] for v in (facts.standardisation.mean, facts.standardisation.std))

    @torch.inference_mode()
    def predict(millivolt: torch.Tensor) -> np.ndarray:
        return torch.sigmoid(network((millivolt - mean) / std) / facts.temperature).numpy()

    return predict


def _in_turn(runs: tuple[Callable[[], object], ...], rounds: int) -> list[list[float]]:
    """Return the seconds of one run for each way and round."""
    repeats = [max(1, round(SECONDS_A_ROUND / _warm_seconds(run))) for run in runs]
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, n, values in zip(runs, repeats, seconds, strict=True):
            time.sleep(PAUSE)
            values.append(_seconds(run, n))
    return seconds


def _warm_seconds(run: Callable[[], object]) -> float:
    _seconds(run, 1)
    return _seconds(run, 1)


def _seconds(run: Callable[[], object], repeats: int) -> float:
    if repeats > 1:
        run()
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - started) / repeats


if __name__ == "__main__":
    main()
