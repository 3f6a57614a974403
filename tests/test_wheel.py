"""The wheel: what the installed commands read is in it, no store and no network of a study is, and it stays small."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

from engine.checkpoints.zoo import released
from studies.files.shipped import DEFAULT_CURVES, DEFAULT_RUNS

ROOT = Path(__file__).parents[1]
PACKAGES = ("ecgadvise", "advisor", "engine", "models", "studies")
READ = {"backtest.json", "curves.json", "runs.csv", "transferability.json"}
SQLITE, XZ = b"SQLite format 3\0", b"\xfd7zXZ\0"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built here, as an installer builds it, without a network."""
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(built)


def test_the_wheel_is_small(wheel: Path):
    assert 1_000_000 < wheel.stat().st_size < 8_000_000


def test_of_the_evidence_the_wheel_has_what_commands_read_and_nothing_else(wheel: Path):
    with ZipFile(wheel) as opened:
        names = [name for name in opened.namelist() if not name.endswith("/")]
        heads = {name: opened.open(name).read(16) for name in names}
    of_evidence = {name for name in names if name.startswith("studies/evidence/")}
    lying = {path for path in (ROOT / "studies" / "evidence").glob("*/*") if path.name in READ}
    assert of_evidence == {path.relative_to(ROOT).as_posix() for path in lying}
    assert {DEFAULT_CURVES, DEFAULT_RUNS} <= lying
    assert not [name for name in names if name.startswith("studies/stores/") or ".checkpoints/" in name]
    assert not [name for name, head in heads.items() if head == SQLITE or head.startswith(XZ)]


def test_the_wheel_has_every_module_and_every_released_network(wheel: Path):
    names = set(ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert modules <= names
    for name in released():
        files = {f"models/zoo/{name}/{file}" for file in ("CARD.md", "checkpoint.json", "weights.safetensors")}
        assert files <= names


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the wheel in a folder of their own, with no repository around."""
    folder = tmp_path_factory.mktemp("installed")
    with ZipFile(wheel) as opened:
        opened.extractall(folder)
    return folder


def run(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ecgadvise", *words], cwd=installed, env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_an_installed_wheel_answers(installed: Path):
    ended = run(installed, "recommend", "--n-records", "300", "--arch", "cnn", "--json")
    assert ended.returncode == 0, ended.stderr
    assert str(ROOT) not in ended.stdout


def test_an_installed_wheel_says_that_no_store_is_in_it_and_what_to_do(installed: Path):
    ended = run(installed, "study", "findings", "--out", "FINDINGS.md")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (
        "error: no study store ships with the installed package: name one with --store, or run this in the repository\n"
    )
