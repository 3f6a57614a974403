"""The example that ends every help text is run as it stands."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from safetensors.torch import save_file

from advisor.cli import build_app
from engine.corpora.corpus import Corpus
from engine.corpora.travel import pack
from models.registry import create_network
from tests.engine.records.formats.mixed_folder import write_mixed

ROOT = Path(__file__).parents[2]
ELSEWHERE = {  # examples that take a network or minutes, and where what they do is run small
    "data fetch": "test_data_fetch.py",
    "export": "test_export_predict.py",
    "predict": "test_export_predict.py",
    "serve": "test_serve.py",
    "study run": "test_cli.py",
    "study rescore": "test_rescore.py",
    "study transferability": "test_transferability.py",
    "study tuning": "test_study.py",
    "train": "test_train.py",
}


def examples(app: typer.Typer, prefix: str = "") -> dict[str, str]:
    """The example of every command of an application."""
    found = {
        f"{prefix}{command.name or command.callback.__name__}": (command.epilog or "").removeprefix("Example: ")
        for command in app.registered_commands
    }
    for group in app.registered_groups:
        found |= examples(group.typer_instance, f"{prefix}{group.name} ")
    return found


EXAMPLES = examples(build_app())


def write_theirs(folder: Path) -> None:
    """Write another team's network: its weights and what it reads, and a zoo that has it."""
    network = create_network("resnet1d18-w4", n_leads=2, n_classes=1)
    save_file(network.state_dict(), folder / "theirs.safetensors")
    (folder / "theirs.toml").write_text('leads = ["I", "II"]\nfs = 100\nseconds = 10\nclasses = ["AF"]\n')


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory, ptbxl_tree: Path, corpus: Corpus, synthetic_store) -> Path:
    """A folder that holds what the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "ptb-xl").symlink_to(ptbxl_tree)
    pack(corpus, folder / "ptb-xl.packed")
    write_mixed(folder / "exports")
    write_theirs(folder)
    (folder / "study.key").write_text("a secret of more than sixteen characters")
    shutil.copy(ROOT / "studies" / "evidence" / "atlas" / "runs.csv", folder)
    (folder / "studies" / "designs").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("tiny.toml"), folder / "studies" / "designs" / "atlas.toml")
    for name in ("atlas.db", "other.db"):
        synthetic_store(folder / name, lambda n: 0.93 - 2.2 * n**-0.5, lambda n: 0.93 - 2.2 * (n + 400) ** -0.5).close()
    return folder


@pytest.fixture
def place(furnished: Path, corpus: Corpus, checkpoint_writer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, with a prepared corpus known."""
    monkeypatch.chdir(furnished)
    monkeypatch.setenv("ECGADVISE_CORPORA", str(corpus.root.parent))
    monkeypatch.setenv("ECGADVISE_ZOO", "zoo")
    checkpoint_writer(furnished / "zoo" / "theirs-2024")  # which an example removes
    return furnished


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - set(ELSEWHERE)))
def test_the_example_works(name: str, place: Path, command: Callable[..., tuple[int, str, str]]):
    words = shlex.split(EXAMPLES[name])
    assert " ".join(words[: 3 if " " in name else 2]) == f"ecgadvise {name}"
    code, out, err = command(*words[1:])
    assert code == 0, err
    assert out
    if "--json" in words:
        json.loads(out)
    for option, file in pairwise(words):
        if option == "--out":
            assert (place / file).exists()


def test_every_command_has_an_example():
    for name, example in EXAMPLES.items():
        assert re.match(rf"ecgadvise {name}\b", example), name
