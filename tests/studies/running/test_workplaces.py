"""Where runs run: worker processes, one for each device, and what is done with one that died or whose device failed."""

import os
import threading
import time
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from engine.compute.devices import DeviceError
from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import prepared_synthetic
from engine.recipes import PROBES
from models.registry import list_networks
from studies.running.lockstep_groups import Kinds
from studies.running.runner import run_study
from studies.running.workload import Workload
from studies.running.workplaces import LocalExecutor, choose_workplace, dask_workplace, local_workplace
from studies.runs.run_spec import RunSpec
from studies.runs.store import Store
from studies.runs.task_names import hash_task

SCRATCH = RunSpec("ptb-xl/superclass", "gru-w4", "scratch", None, 20, 0, "tuned", (5, 6, 7, 8, 9), (10,))


def results(store: Store) -> dict[str, tuple]:
    return {r.key: (r.auroc_macro, r.best_epoch, store.probabilities(r.key).tobytes()) for r in store.runs()}


def test_a_killed_worker_fails_its_own_call_alone_and_is_replaced():
    with LocalExecutor(2) as executor:
        long, killed = executor.submit(time.sleep, 1), executor.submit(os._exit, 1)
        with pytest.raises(BrokenProcessPool):
            killed.result(timeout=60)
        assert long.result(timeout=60) is None
        assert executor.submit(os.getpid).result(timeout=60) != os.getpid()


@pytest.mark.parametrize("kind", ["OutOfMemoryError", "AcceleratorError"])
def test_a_worker_whose_device_failed_is_replaced_and_one_whose_run_failed_is_not(kind: str):
    with LocalExecutor(1) as executor:
        worker = executor.submit(os.getpid).result(timeout=60)
        with pytest.raises(RuntimeError, match="the run"):
            executor.submit(partial(exec, "raise RuntimeError('the run')")).result(timeout=60)
        assert executor.submit(os.getpid).result(timeout=60) == worker
        with pytest.raises(getattr(torch, kind), match="the device"):
            executor.submit(partial(exec, f"import torch; raise torch.{kind}('the device')")).result(timeout=60)
        assert executor.submit(os.getpid).result(timeout=60) != worker


def test_an_executor_that_is_shut_down_leaves_no_thread_that_the_end_of_the_interpreter_meets():
    """Such a thread closes its pipe while the interpreter writes to it: "Bad file descriptor", now and then."""
    before = set(threading.enumerate())
    with LocalExecutor(2) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(os._exit, 1).result(timeout=60)
        for _ in range(3):
            executor.submit(os.getpid).result(timeout=60)
    assert set(threading.enumerate()) <= before


def test_a_process_for_each_device_gives_what_one_gives(corpus: Corpus, tmp_path: Path):
    """On processors instead of GPUs."""
    specs = [replace(SCRATCH, arch="resnet1d18-w2", replicate=k) for k in range(2)]
    hashes = {SCRATCH.task: hash_task({"ptb-xl": corpus}, SCRATCH.task)}
    stores = Store(tmp_path / "here.db"), Store(tmp_path / "there.db")
    for store, devices in zip(stores, (["cpu"], ["cpu", "cpu"]), strict=True):
        with local_workplace(1, devices) as workplace:
            assert (workplace.capacity(), workplace.device) == (len(devices), "cpu")
            assert run_study(specs, store, corpus.root.parent, hashes, workplace).done == 2
    assert results(stores[0]) == results(stores[1])


def test_a_worker_is_told_its_device_when_it_starts(monkeypatch: pytest.MonkeyPatch):
    from studies.running import workplaces

    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(workplaces.signal, "signal", lambda *_: None)  # this process goes on heeding Ctrl-C
    for device in ("cpu", "cuda:1"):
        workplaces._start_worker(device)
    assert chosen == ["cuda:1"]


def test_there_is_one_process_a_gpu_unless_more_are_asked_for(corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    load = Workload({"ptb-xl": corpus})
    for device, workers, expected in (("auto", None, 2), ("cuda", 3, 6), ("cuda:1", None, 1), ("cpu", 5, 5)):
        with choose_workplace(None, workers, device, load) as workplace:
            assert workplace.capacity() == expected
            assert workplace.device == ("cpu" if device == "cpu" else "cuda")
    with pytest.raises(DeviceError), choose_workplace(None, None, "cuda:2", load):
        pass


class _Cluster:
    """What Dask's client says of a cluster whose workers offer these resources."""

    status = "running"

    def __init__(self, *resources: dict[str, float]) -> None:
        self._workers = {str(k): {"resources": each} for k, each in enumerate(resources)}
        self.options: dict[str, object] = {}

    def scheduler_info(self, n_workers: int) -> dict[str, object]:
        return {"workers": self._workers}

    def get_executor(self, **options: object) -> Executor:
        self.options = options
        return LocalExecutor(0)

    def close(self, timeout: float) -> None:
        pass


@pytest.mark.parametrize(
    ("resources", "asked", "device", "capacity"),
    [
        ([{}, {}], "auto", "cpu", 2),
        ([{"GPU": 1.0}, {}], "auto", "cuda", 1),
        ([{"GPU": 1.0}, {}], "cpu", "cpu", 2),
        ([{}], "cuda", "cuda", 1),
    ],
)
def test_a_cluster_worker_uses_cuda_where_it_offers_a_gpu_and_a_processor_otherwise(
    monkeypatch: pytest.MonkeyPatch, resources, asked: str, device: str, capacity: int
):
    client = _Cluster(*resources)
    monkeypatch.setattr("distributed.Client", lambda *_arguments, **_options: client)
    with dask_workplace("tcp://somewhere", asked) as workplace:
        assert (workplace.device, workplace.capacity()) == (device, capacity)
    assert ("resources" in client.options) == (device == "cuda" and "GPU" in resources[0])


@pytest.mark.parametrize("arch", list_networks())
def test_the_kind_of_every_network_is_known_without_making_its_weights(corpus: Corpus, arch: str):
    state = torch.get_rng_state()
    for device in ("cpu", "cuda"):
        kind = Kinds(Workload({"ptb-xl": corpus}), device)(replace(SCRATCH, arch=arch))
        assert kind is None or kind.most > 1
    assert torch.equal(torch.get_rng_state(), state)


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize(
    ("device", "trained"), [("cpu", "eager"), pytest.param("cuda:0", "graph", marks=(pytest.mark.gpu, NO_GPU))]
)
def test_two_workers_of_a_device_run_every_arm_and_a_gpus_time_is_told_to_be_shared(
    tmp_path: Path, device: str, trained: str
):
    corpus = prepared_synthetic(tmp_path / "corpora", 200)
    pretraining = replace(SCRATCH, task="synthetic/morphology", arch="resnet1d18-w2", pool_folds=(1, 2, 3, 4))
    arms = {
        strategy: replace(
            pretraining, task="synthetic/diagnosis", strategy=strategy, pool_folds=(5, 6, 7, 8, 9), recipe="tuned-2",
            upstream=pretraining.task, upstream_folds=pretraining.pool_folds, upstream_recipe="tuned",
            upstream_records=pretraining.n_records,
        )
        for strategy in ("fine-tune", "linear-probe")
    }  # fmt: skip
    alone = replace(SCRATCH, task="synthetic/diagnosis", arch="resnet1d18-w2", recipe="tuned-2")
    arms["scratch"] = alone
    arms["random-convolutions"] = replace(alone, strategy="random-convolutions", arch="random-convolutions")
    hashes = {task: hash_task({"synthetic": corpus}, task) for task in (pretraining.task, alone.task)}
    store = Store(tmp_path / "s.db")
    with choose_workplace(None, 2, device, Workload({"synthetic": corpus})) as workplace:
        progress = run_study([pretraining, *arms.values()], store, corpus.root.parent, hashes, workplace)
    assert progress.done == 5, store.failures()
    ways = {run.strategy: run.way for run in store.runs() if run.role != "pretraining"}
    assert ways == dict.fromkeys(("scratch", "fine-tune"), trained) | dict.fromkeys(PROBES, "regression")
    shared = {(run.device or "").endswith(", shared by 2 processes") for run in store.runs()}
    assert shared == {device != "cpu"}


@pytest.mark.gpu
@NO_GPU
def test_on_a_gpu_a_worker_process_runs_a_study_in_groups(tmp_path: Path):
    corpus = prepared_synthetic(tmp_path / "corpora", 200)  # the small PTB-XL tree is written with wfdb, which may lack
    scratch = replace(SCRATCH, task="synthetic/diagnosis")
    recurrent = [replace(scratch, replicate=k) for k in range(2)]
    specs = [replace(scratch, arch="resnet1d18-w2"), *recurrent]
    hashes = {scratch.task: hash_task({"synthetic": corpus}, scratch.task)}
    store = Store(tmp_path / "s.db")
    with choose_workplace(None, None, "cuda:0", Workload({"synthetic": corpus})) as workplace:
        progress = run_study(specs, store, corpus.root.parent, hashes, workplace)
    assert (progress.done, progress.failed) == (3, 0), store.failures()
    runs = store.runs()
    assert all((record.device or "").startswith("GPU") and record.peak_memory_mb for record in runs)
    assert {record.arch: record.way for record in runs} == {"resnet1d18-w2": "graph", "gru-w4": "lockstep of 2"}
