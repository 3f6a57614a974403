"""Our packages are found though the user has folders of their names: in every command, its workers, and a notebook."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKERS = """
import ecgadvise
from pathlib import Path
from engine.corpora import reading
from engine.corpora.corpus import prepare
from engine.sources.ptbxl import PtbXl
from studies.running.workplaces import LocalExecutor

reading._WORTH_WORKERS = 1
prepare(PtbXl(Path("TREE")), Path("corpus"), workers=2)
executor = LocalExecutor(1)
from studies.runs.task_names import parse_task
print(executor.submit(parse_task, "ptb-xl/superclass").result())
executor.shutdown()
"""
SMALL = ["--arch", "resnet1d18-w2", "--out", "network"]


def run(folder: Path, *words: object, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    environment = os.environ | {"PYTHONPATH": "."} | settings
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def place(research_code: Path, ptbxl_tree: Path) -> Path:
    (research_code / "ptb-xl").symlink_to(ptbxl_tree)
    return research_code


@pytest.mark.parametrize(
    "words",
    [
        ["recommend", "--n-records", "500", "--arch", "cnn"],
        ["curves", "show", "--at", "500"],
        ["doctor"],
        ["data", "list"],
        ["zoo", "list"],
        ["data", "check", "ptb-xl"],
        ["data", "prepare", "ptb-xl", "--corpora", "corpora"],
        ["train", "--task", "synthetic", "--strategy", "scratch", "--arch", "resnet1d18-w2", "--out", "network"],
        ["export", "network", "--out", "model/model.onnx"],
        ["predict", "model/model.onnx", "ptb-xl/records100/00000/00001_lr"],
        ["study", "plan", "smoke.toml"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_every_command_works_beside_packages_of_the_same_names(words: list[str], place: Path):
    smoke = Path(__file__).parents[1] / "studies" / "designs" / "smoke.toml"
    (place / "smoke.toml").write_bytes(smoke.read_bytes())
    ended = run(place, "-m", "ecgadvise", *words, ECGADVISE_CORPORA=str(place / "corpora"))
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_notebook_and_the_workers_that_it_starts_find_ours(place: Path, ptbxl_tree: Path):
    ended = run(place, "-c", WORKERS.replace("TREE", str(ptbxl_tree)))
    assert ended.returncode == 0, ended.stderr
    assert "superclass" in ended.stdout


def test_a_module_of_the_users_that_is_loaded_already_is_named(tmp_path: Path):
    (tmp_path / "models.py").write_text("answer = 42\n")
    ended = run(tmp_path, "-c", "import models, ecgadvise")
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: the module models of {tmp_path / 'models.py'} is loaded and stands in the way"
    )


def test_importing_loads_nothing_of_ours(tmp_path: Path):
    ended = run(tmp_path, "-c", "import sys, ecgadvise; print(*sys.modules)")
    assert not {"advisor", "engine", "models", "studies", "numpy", "torch", "typer"} & set(ended.stdout.split())
