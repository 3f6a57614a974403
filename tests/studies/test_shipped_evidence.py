"""The evidence that ships: its curves come from its store, and its runs are what they say."""

import csv
import json
import os
import subprocess
import sys
from binascii import a2b_base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__

from advisor.answer.question import Question
from advisor.answer.recommend import recommend
from models.registry import count_parameters, create_network
from studies.collection.collect import collect
from studies.files.curve import PooledCurve
from studies.files.curves import corpus_of, is_disjoint, read_curves
from studies.files.draws_codec import read_draws
from studies.files.shipped import DEFAULT_CURVES, EVIDENCE
from studies.runs.pairs import pair_runs
from studies.runs.run import Run
from studies.runs.store import Store
from studies.runs.store_files import store_in
from studies.runs.tidy_runs import tidy_records

STORES = {folder: store for folder in sorted(EVIDENCE.glob("*/")) if (store := store_in(folder)) is not None}
PACKS = list(STORES)
OPEN_LICENCES = {
    "ptb-xl": "CC BY 4.0", "ludb": "ODC-By 1.0", "challenge-2017": "ODC-By 1.0", "challenge-2011": "ODC-By 1.0",
    "challenge-2015": "ODC-By 1.0", "brugada-huca": "CC BY-SA 4.0", "cpsc2018-150": "CC BY 4.0",
    "cpsc2018-lead-i": "CC BY 4.0", "ptb-lead-i": "CC BY 4.0",
}  # fmt: skip
SAME = 1e-6  # of a number: what two machines may make of it
STEPS = {"/bend": 1.01e-4, "/label_levels/draws": 1.01e-3}  # of rounded numbers: they may be rounded either way
KERNELS = {  # of OpenBLAS, and what a processor must have to run them
    "Nehalem": {"sse4_2"},
    "Sandybridge": {"avx"},
    "Haswell": {"avx2", "fma"},
    "Zen": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
}
COLLECT = """
import json, sys
import numpy, scipy.linalg
from threadpoolctl import threadpool_info
pools = [pool for pool in threadpool_info() if pool["internal_api"] == "openblas"]
print(json.dumps({"kernels": [p["architecture"] for p in pools], "threads": [p["num_threads"] for p in pools]}))
from advisor.cli import main
sys.argv[:] = ["ecgadvise", "study", "collect", *sys.argv[1:]]
main()
"""
MAIN_TASK, MAIN_SIZES = "ptb-xl/superclass", (100, 250, 500, 1000, 2000)


def other_machines() -> dict[str, dict[str, str]]:
    """Return the settings that make this machine compute as others do, as far as its processor can, by name."""
    cpuinfo = Path("/proc/cpuinfo")
    able = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
    machines = {f"{n} threads": {"OPENBLAS_NUM_THREADS": n} for n in "12"}
    machines |= {name: {"OPENBLAS_CORETYPE": name} for name, needs in KERNELS.items() if needs <= able}
    plain = {"NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__), "OPENBLAS_NUM_THREADS": "1"}
    return machines | {"NumPy without vector units": plain}


MACHINES = other_machines()


def assert_same_curves(one: Path, other: Path) -> None:
    """Compare two curves files number by number."""
    ours, theirs = (list(leaves(json.loads(path.read_text()))) for path in (one, other))
    assert [path for path, _ in ours] == [path for path, _ in theirs]
    for (path, value), (_, expected) in zip(ours, theirs, strict=True):
        if isinstance(value, str | bool | None):
            assert value == expected, path
        else:
            np.testing.assert_allclose(value, expected, SAME, step_of(path), err_msg=path)


def step_of(path: str) -> float:
    return next((step for end, step in STEPS.items() if path.endswith(end)), 0.0)


def leaves(value: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Give every value of a document with where it stands; the draws of an arm as arrays."""
    if isinstance(value, dict):
        inside = read_draws(value) if path.endswith(("/draws/scratch", "/draws/fine-tune")) else value
        for name, one in inside.items():
            per_unit = {"bend": 10_000, "draws": 1_000}.get(name) if isinstance(one, str) else None
            written = one if per_unit is None else np.frombuffer(a2b_base64(one), "<i2") / per_unit
            yield from leaves(written, f"{path}/{name}")
    elif isinstance(value, list):
        for k, one in enumerate(value):
            yield from leaves(one, f"{path}/{k}")
    else:
        yield path, value


@pytest.fixture(params=PACKS, ids=lambda path: path.name)
def pack(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def runs(pack: Path) -> list[Run]:
    store = Store(STORES[pack], create=False)
    found = store.runs()
    store.close()
    return found


def test_the_default_evidence_ships():
    assert DEFAULT_CURVES.parent in PACKS


def test_collecting_the_store_gives_the_shipped_files(pack: Path, tmp_path: Path):
    table, curves, not_fitted = collect(Store(STORES[pack], create=False), pack.name, tmp_path)
    assert not_fitted == []
    for name in (table.name, "SUMMARY.md"):
        assert (tmp_path / name).read_bytes() == (pack / name).read_bytes()
    assert_same_curves(curves, pack / "curves.json")


@pytest.mark.parametrize("machine", MACHINES)
def test_the_store_gives_the_same_curves_on_another_machine(machine: str, pack: Path, tmp_path: Path):
    """Other kernels of OpenBLAS, other vector units for NumPy's functions, other numbers of threads."""
    settings = MACHINES[machine]
    collected = subprocess.run(
        [sys.executable, "-c", COLLECT, "--store", STORES[pack], "--out", tmp_path, "--name", pack.name],
        env=os.environ | settings, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert collected.returncode == 0, collected.stderr
    used = json.loads(collected.stdout.splitlines()[0])
    assert settings.get("OPENBLAS_NUM_THREADS") != "1" or set(used["threads"]) == {1}
    asked = settings.get("OPENBLAS_CORETYPE", "Zen")  # builds without Zen take Haswell's kernels for it
    assert asked == "Zen" or set(used["kernels"]) == {asked}
    assert_same_curves(tmp_path / "curves.json", pack / "curves.json")


def test_every_size_of_every_curve_has_two_pairs_or_more(pack: Path):
    for curve in read_curves(pack / "curves.json").curves:
        if isinstance(curve, PooledCurve):
            assert not any(curve.points.values())
            continue
        assert curve.replicates >= 2
        assert set(curve.points["scratch"]) == set(curve.points["fine-tune"]) == set(curve.sizes)
        for size in curve.sizes:
            assert len(curve.points["scratch"][size]) == len(curve.points["fine-tune"][size]) >= 2


@pytest.mark.parametrize(("family", "n_pairs"), [("cnn", (5, 5, 5, 3, 5)), ("rnn", (3, 3, 3, 3, 3))])
def test_the_families_networks_have_pairs_at_every_size_of_the_main_task(
    pack: Path, family: str, n_pairs: tuple[int, ...]
):
    curves = read_curves(pack / "curves.json")
    (curve,) = [
        one
        for one in curves.measured
        if (one.task, one.arch) == (MAIN_TASK, curves.family_default[family])
        and one.kind is not None
        and is_disjoint(one.kind)
    ]
    assert {n for n in curve.sizes if min(MAIN_SIZES) <= n <= max(MAIN_SIZES)} == set(MAIN_SIZES)
    for arm in ("scratch", "fine-tune"):
        assert all(len(curve.points[arm][n]) >= least for n, least in zip(MAIN_SIZES, n_pairs, strict=True))


def test_curves_count_the_runs_that_are_in_pairs_once(pack: Path, runs: list[Run]):
    pairs = pair_runs(tidy_records(runs, pack).runs)
    curves = read_curves(pack / "curves.json")
    single = {(curve.task, curve.arch, curve.upstream): curve for curve in curves.measured}
    for (task, arch, upstream), curve in single.items():
        of_curve = [
            pair
            for pair in pairs
            if (pair.scratch.task, pair.scratch.arch, pair.fine_tuned.upstream) == (task, arch, upstream)
            and pair.scratch.n_records in curve.sizes
        ]
        assert curve.runs == 2 * len(of_curve)
    for pool in (curve for curve in curves.curves if isinstance(curve, PooledCurve)):
        of_kind = [one for one in single.values() if pool.upstream in (one.upstream, one.kind, corpus_of(one.upstream))]
        of_tasks = {
            task: {one.runs for one in of_kind if (one.arch, one.task) == (pool.arch, task)} for task in pool.tasks
        }  # of a task with several upstreams one stands for it, in the main arm
        of_pool = [max(found) for found in of_tasks.values()]
        assert pool.runs == sum(of_pool)
        assert {source["name"] for source in pool.sources} == {task.split("/")[0] for task in pool.tasks}


def test_a_network_has_the_parameters_that_it_has_for_five_classes(pack: Path):
    for arch, network in read_curves(pack / "curves.json").networks.items():
        assert network.parameters == count_parameters(create_network(arch, n_classes=5))


def test_every_run_names_its_data_licence_and_device(pack: Path, runs: list[Run]):
    assert {run.source["name"] for run in runs} >= {"ptb-xl"}
    for run in runs:
        source = run.source
        assert source["licence"] == OPEN_LICENCES[source["name"]]
        assert source["name"] == run.task.split("/")[0]
        assert source["version"]
        assert source["url"].startswith("https://")
        assert run.device
        assert run.seconds > 0
    with (pack / "runs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(runs)


def test_scores_are_those_of_networks_that_learnt_something(runs: list[Run]):
    """A single small run may be no better than chance, a pre-training or the arms at a task's largest size may not.

    The pre-trained network with a flatten head has learnt least, .569 over statements without a superclass.
    """
    largest: dict[tuple[str, str], int] = {}
    for run in runs:
        cell = run.task, run.arch
        largest[cell] = max(largest.get(cell, 0), run.n_records)
    for run in runs:
        assert 0 < run.auroc_macro < 1
        is_arm = run.strategy in ("scratch", "fine-tune")
        if is_arm and run.n_records == largest[run.task, run.arch]:
            assert run.auroc_macro > 0.56


def test_the_shipped_backtest_is_of_the_shipped_curves(pack: Path):
    backtest = json.loads((pack / "backtest.json").read_text())
    curves = read_curves(pack / "curves.json").measured
    assert set(backtest["tasks"]) == {curve.task for curve in curves}
    assert backtest["cells"] > 0
    assert backtest["regret"]["advice"] is not None


@pytest.mark.parametrize("family", ["cnn", "rnn"])
def test_the_default_question_is_answered(family: str):
    answer = recommend(Question(5000, family), read_curves(DEFAULT_CURVES))
    assert answer.curve.family == family
    assert answer.curve.support(5000) != "beyond"


def test_evidence_is_small_and_says_what_it_leaves_out(pack: Path, runs: list[Run]):
    store = Store(STORES[pack], create=False)
    assert store.lacking_predictions() == sorted(str(run.key) for run in runs)
    assert "is not here" in (pack / "README.md").read_text()
    assert (pack / "curves.json").stat().st_size < 2_000_000
    assert STORES[pack].stat().st_size < 15_000_000
