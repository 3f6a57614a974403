"""The kit, rehearsed without a GPU: the same command and the same code, tiny networks, synthetic records."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from importlib import util
from pathlib import Path
from zipfile import ZipFile

import pytest

from studies.files.curves import read_curves
from studies.runs.store import Store

ROOT = Path(__file__).parents[2]
KIT = ROOT / "tests" / "gpu" / "kit.py"
DESIGN = KIT.with_name("rehearsal.toml")
# Not on a machine that has torch for CUDA and little else, nor is ecgadvise installed: the kit, and the tests that it
# runs, do without.
MISSING = (
    "wfdb", "platformdirs", "jsonschema", "distributed", "dask", "importlinter", "mypy", "ruff", "soundfile",
)  # fmt: skip


def words(out: Path, corpora: Path, *more: object) -> list[str]:
    options = {
        "--minutes": 20,
        "--device": "cpu",
        "--design": DESIGN,
        "--corpora": corpora,
        "--out": out,
        "--workers": 2,
    }
    flat = [str(word) for option in options.items() for word in option]
    return [sys.executable, str(KIT), *flat, "--archs", "resnet1d18-w2", "gru-w2", *map(str, more)]


def figures(out: Path) -> dict:
    return json.loads((out / "figures.json").read_text())


def pretrainings_left(out: Path) -> list[str]:
    """The pre-trainings in what the kit has left so far."""
    if not (out / "study.db").is_file():
        return []
    store = Store(out / "study.db", create=False)
    found = store.pretrainings()
    store.close()
    return found


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the synthetic corpus is made once."""
    return tmp_path_factory.mktemp("corpora")


def test_a_killed_kit_and_the_one_that_goes_on_bring_back_the_curves(
    corpora: Path, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
):
    first, second = tmp_path / "first", tmp_path / "second"
    killed = subprocess.Popen(
        words(first, corpora, "--minutes", 5, "--skip", "tests", "throughput"),
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while not pretrainings_left(first):
        assert killed.poll() is None, (first / "log.txt").read_text()
        time.sleep(0.2)
    with suppress(ProcessLookupError):  # a fast machine is through with everything
        os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    (first / "networks.zip").unlink()  # as if there had been no room for it
    with closing(sqlite3.connect(first / "study.db")) as connection, connection:  # and no run done that starts from it
        connection.execute("DELETE FROM runs WHERE role != 'pretraining'")

    subprocess.run(words(second, corpora, "--resume", first), check=True, stdout=subprocess.DEVNULL)
    found, log = figures(second), (second / "log.txt").read_text()
    parts = ["environment", "gpu tests", "throughput", "study"]
    assert {name: part["ended"] for name, part in found["parts"].items()} == dict.fromkeys(parts, "done"), log
    assert found["study"]["runs_done"] == found["study"]["runs_of_design"] == 1 + 8 + 4
    assert found["study"]["ways"]["lockstep of 2"] >= 2
    assert not found["study"]["failed_attempts"]
    assert "1 pre-trained networks did not come along" in log
    assert not found["left_out"]
    assert found["gpu_tests"]["not_passed"] == []
    assert [(row.get("benchmark"), row["network"]) for row in found["throughput"]] == [
        ("training", "resnet1d18-w2"), ("training", "gru-w2"), ("lockstep", "gru-w2")
    ]  # fmt: skip
    files = {path.name: path.stat().st_size for path in second.iterdir()}
    assert set(files) == {"study.db", "probabilities-1.db", "networks.zip", "log.txt", "figures.json"}
    assert max(files.values()) < 16_000_000

    store, evidence = tmp_path / "all.db", tmp_path / "evidence"
    code, _, err = command("study", "collect", "--store", store, "--from", first, "--from", second, "--out", evidence)
    assert code == 0, err
    everything = Store(store)
    assert len(everything.keys()) == 1 + 8 + 4
    assert not everything.lacking_predictions()
    everything.close()
    assert {curve.arch for curve in read_curves(evidence / "curves.json").curves} == {"resnet1d18-w2"}


def test_what_there_are_no_records_for_is_named_and_the_rest_of_the_design_is_run(tmp_path: Path, corpora: Path):
    """A data set that did not come along costs its own runs, not the minutes of all others."""
    design = tmp_path / "design.toml"
    absent = ['[[grid]]\ntasks = ["nowhere/rhythm"]\n', '[[grid]]\nupstream = "elsewhere/all"\n']
    design.write_text(DESIGN.read_text() + "\n".join(absent))
    known = ["--device", "cpu", "--design", design, "--corpora", corpora, "--out", tmp_path / "out", "--work", tmp_path]
    study = [sys.executable, KIT, *known, "--part", "study", "--seconds", 0]
    ended = subprocess.run([*map(str, study)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "left out, no such corpus: nowhere/rhythm" in ended.stdout
    assert "left out, no such corpus: synthetic/diagnosis, elsewhere/all" in ended.stdout
    assert json.loads(ended.stdout.splitlines()[-1])["runs"] == 13


def test_time_that_is_over_ends_a_part_and_what_is_there_is_left(corpora: Path, tmp_path: Path):
    out = tmp_path / "out"
    subprocess.run(words(out, corpora, "--minutes", 0.05), check=True, stdout=subprocess.DEVNULL)
    found = figures(out)
    assert list(found["parts"]) == ["environment", "gpu tests", "throughput", "study"]
    assert "done" not in found["parts"]["study"]["ended"]
    assert "log.txt" in found["files"]


def test_networks_that_do_not_fit_are_named_and_the_one_of_most_records_is_kept(tmp_path: Path, synthetic_store):
    spec = util.spec_from_file_location("kit", KIT)
    kit = util.module_from_spec(spec)
    spec.loader.exec_module(kit)
    store = synthetic_store(tmp_path / "study.db", lambda n: 0.9, lambda n: 0.9)
    records = {run.key: run.n_records for run in store.runs()}
    store.close()
    small, large = min(records, key=records.get), max(records, key=records.get)
    with ZipFile(tmp_path / "networks.zip", "w") as archive:
        for key, size in ((small, 3_000_000), (large, 3_000_000), ("tiny", 1000)):
            archive.writestr(f"{key}/weights.safetensors", os.urandom(size))
    left_out = kit._fitting_networks(tmp_path / "networks.zip", tmp_path / "study.db", 4_000_000)
    assert [words.split(",")[0] for words in left_out] == [f"network {small}"]
    with ZipFile(tmp_path / "networks.zip") as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {large, "tiny"}


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())

from importlib import metadata

version = metadata.version

def installed(name):
    if name == "ecgadvise":
        raise metadata.PackageNotFoundError(name)
    return version(name)

metadata.version = installed
sys.path.insert(0, ROOT)
"""


def test_kit_and_gpu_tests_import_without_packages_that_such_a_machine_lacks(tmp_path: Path, corpora: Path):
    start = WITHOUT.replace("MISSING", repr(MISSING)).replace("ROOT", repr(str(ROOT)))
    (tmp_path / "sitecustomize.py").write_text(start)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    gpu = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    assert gpu
    known = ["--device", "cpu", "--design", DESIGN, "--corpora", corpora, "--archs", "gru-w2", "--seconds", 0]
    kit = [KIT, "--out", tmp_path / "out", "--work", tmp_path, *known, "--part"]
    parts = [[*map(str, kit), part] for part in ("environment", "throughput", "study")]
    collect = ["-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", *map(str, gpu)]
    fixtures = [*collect, "--fixtures-per-test", "-v"]
    for part in (*parts, collect, fixtures, ["-m", "ecgadvise", "data", "unpack", "--help"]):
        ended = subprocess.run(
            [sys.executable, *part], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "ModuleNotFoundError" not in ended.stdout + ended.stderr
        assert "ptbxl_tree" not in ended.stdout  # which is written with wfdb
        assert "environment" not in part or '"ecgadvise": "source tree"' in ended.stdout
