"""Evidence of two precisions and two devices: curves, pools, costs and tables of each by itself."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from advisor.answer.recommend import Question, recommend
from studies.backtest.hold_out import hold_out
from studies.collection.collect import collect, make_curves
from studies.collection.curve_documents import Measured
from studies.files.curve import PooledCurve
from studies.files.curves import parse_curves
from studies.runs.run import METRIC, Run
from studies.runs.run_tables import tabulate
from studies.runs.store import Store
from studies.runs.tidy_runs import tidy_records

CPU, GPU = "CPU test, 1 thread of 2", "GPU test, 80 GiB, CUDA 13.0"
FASTER = 50
CNN, RNN = "resnet1d18-w16", "gru-w32"


def on_gpu(run: Run, **changes: object) -> Run:
    """The same run elsewhere: convolutional networks in bf16, their scores a little lower, and sooner."""
    bf16 = run.family == "cnn"
    facts = {
        "key": f"gpu-{run.key}", "device": GPU, "precision": "bf16" if bf16 else "float32",
        "seconds": run.seconds / FASTER, "seconds_to_best": run.seconds_to_best / FASTER,
        "auroc_macro": run.auroc_macro - 0.05 * bf16,
    }  # fmt: skip
    return replace(run, **facts | changes)


@pytest.fixture
def on_cpu(tmp_path: Path, synthetic_store: Callable[..., Store]) -> list[Run]:
    truths = (lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    return synthetic_store(tmp_path / "cpu.db", *truths).runs()


def of_task(runs: Sequence[Run], task: str) -> list[Run]:
    """The same runs of another task."""
    moved = []
    for run in runs:
        spec = {**run.details["spec"], "task": task}
        moved.append(replace(run, key=f"{task}-{run.key}", task=task, details={**run.details, "spec": spec}))
    return moved


def test_two_precisions_give_two_curves_each_of_its_own_runs(on_cpu: list[Run]):
    document = make_curves([*on_cpu, *map(on_gpu, filter(lambda run: run.family == "cnn", on_cpu))], "s")
    curves = {(curve.arch, curve.precision): curve for curve in parse_curves(document).curves}
    assert set(curves) == {(CNN, "float32"), (CNN, "bf16"), (RNN, "float32")}
    alone = {curve.arch: curve for curve in parse_curves(make_curves(on_cpu, "s")).curves}
    for precision, device in (("float32", CPU), ("bf16", GPU)):
        curve = curves[CNN, precision]
        assert (curve.runs, curve.devices, curve.cost["scratch"].device) == (50, (device,), device)
        assert curve.pretraining.device == device
    float32, bf16 = curves[CNN, "float32"], curves[CNN, "bf16"]
    assert float32.points == alone[CNN].points, "as if the others were not there"
    np.testing.assert_array_equal(float32.scores("scratch", 700), alone[CNN].scores("scratch", 700))
    at_500 = [curve.points["scratch"][500] for curve in (float32, bf16)]
    assert at_500[1] == pytest.approx([score - 0.05 for score in at_500[0]], abs=1e-6)
    assert json.loads(json.dumps(document)) == document


def test_a_scratch_run_and_a_fine_tuned_one_of_two_precisions_make_no_curve(on_cpu: list[Run]):
    runs = [run for run in on_cpu if run.arch == RNN or run.strategy == "scratch"]
    runs += [on_gpu(run) for run in on_cpu if run.arch == CNN and run.strategy == "fine-tune"]
    document = make_curves(runs, "s")
    assert [curve["arch"] for curve in document["curves"]] == [RNN]
    assert document["not_fitted"] == [f"ptb-xl/superclass {CNN}, bf16: no size has two pairs of runs"]


def test_a_pool_is_of_tasks_in_one_precision(on_cpu: list[Run]):
    """Three tasks in float32, and two in bf16: a pool each, and none of five."""
    cnn = [run for run in on_cpu if run.arch == CNN and run.role == "downstream"]
    pretraining = [run for run in on_cpu if run.arch == CNN and run.role == "pretraining"]
    runs = [run for task in ("ptb-xl/a", "ptb-xl/b", "ptb-xl/c") for run in of_task(cnn, task)]
    runs += [on_gpu(run) for task in ("ptb-xl/d", "ptb-xl/e") for run in of_task(cnn, task)]
    curves = parse_curves(make_curves([*pretraining, *runs], "s")).curves
    pools = {curve.precision: curve for curve in curves if isinstance(curve, PooledCurve)}
    assert pools["float32"].tasks == ("ptb-xl/a", "ptb-xl/b", "ptb-xl/c")
    assert pools["bf16"].tasks == ("ptb-xl/d", "ptb-xl/e")
    assert (pools["float32"].devices, pools["bf16"].devices) == ((CPU,), (GPU,))
    assert len([curve for curve in curves if isinstance(curve, PooledCurve)]) == 2
    one_of_its_tasks = next(curve for curve in curves if curve.task == "ptb-xl/d")
    assert pools["bf16"].is_made_of(one_of_its_tasks)
    assert not pools["bf16"].is_made_of(replace(one_of_its_tasks, precision="float32"))


def test_a_task_is_forecast_from_others_of_its_precision(on_cpu: list[Run]):
    cnn = [run for run in on_cpu if run.arch == CNN and run.role == "downstream"]
    runs = [run for task in ("ptb-xl/a", "ptb-xl/b") for run in of_task(cnn, task)]
    runs += [on_gpu(run) for run in of_task(cnn, "ptb-xl/c")]
    tables, _ = tabulate(tidy_records(runs, Path("s")))
    cells, problems = hold_out([Measured(table, METRIC) for table in tables])
    assert {cell.scheme for cell in cells} == {"largest", "two_largest"}, "three tasks, but not of one precision"
    assert problems == [
        f"{CNN}: tasks cannot be held out of 2, it takes 3", f"{CNN}, bf16: tasks cannot be held out of 1, it takes 3",
    ]  # fmt: skip


def test_times_of_a_processor_and_a_gpu_are_both_in_the_answer(on_cpu: list[Run]):
    """Recurrent runs are of one precision on both and share a curve, convolutional ones do not: both are timed."""
    rnn_on_gpu = [on_gpu(run, replicate=run.replicate + 5) for run in on_cpu if run.family == "rnn"]
    cnn_on_gpu = [on_gpu(run) for run in on_cpu if run.family == "cnn"]
    curves = parse_curves(make_curves([*on_cpu, *rnn_on_gpu, *cnn_on_gpu], "s"))
    for arch in (RNN, CNN):
        for name, cost in recommend(Question(1000, arch), curves).cost.items():
            assert cost.gpu_seconds == pytest.approx(cost.cpu_seconds / FASTER), (arch, name)
            assert (cost.cpu_device, cost.gpu_device) == (CPU, GPU)
    shared = next(curve for curve in curves.curves if curve.arch == RNN)
    assert shared.devices == (CPU, GPU)
    assert shared.runs == 100


def test_the_summary_tells_precisions_apart(on_cpu: list[Run], tmp_path: Path):
    store = Store(tmp_path / "both.db")
    for run in [*on_cpu, *map(on_gpu, filter(lambda run: run.family == "cnn", on_cpu))]:
        store.add(run, np.zeros((2, 5)))
    table, _, _ = collect(store, "both", tmp_path / "out")
    summary = (table.parent / "SUMMARY.md").read_text()
    assert f"Mean paired gain of `{CNN}` (number of pairs):" in summary
    assert f"Mean paired gain of `{CNN}`, bf16 (number of pairs):" in summary
    assert f"| ptb-xl/superclass | {CNN}, bf16 | tuned |" in summary
    assert "(10)" not in summary, "five runs an arm and size, never ten"
    assert "bf16, float32" in summary.split("## Where and how")[1]


def test_a_store_of_float32_alone_names_its_precision_once(on_cpu: list[Run], tmp_path: Path):
    collect(Store(tmp_path / "cpu.db", create=False), "cpu", tmp_path / "out")
    summary = (tmp_path / "out" / "SUMMARY.md").read_text()
    assert summary.count("float32") == 1
