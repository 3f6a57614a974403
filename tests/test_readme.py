"""README and the documentation tell the truth: their outputs, commands, Python code and tables."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import wfdb

from engine.checkpoints.checkpoint import load_checkpoint
from engine.checkpoints.zoo import released
from engine.records.lead_names import leads_in_words
from models.registry import count_parameters, create_network, find_network, list_networks, training_gflop
from studies.files.curves import read_curves
from studies.files.shipped import DEFAULT_CURVES
from tests.documents import gain_figure, reference, walk
from tests.documents.consoles import run_command, shown, with_output, without_numbers
from tests.documents.pages import DOCS, GENERATED, README, ROOT, name_of, pages, text_of

PAGES = [README, *(page for page in pages() if page.name not in GENERATED)]
NETWORKS = text_of(DOCS / "reference" / "networks.md")
SHOWN = {f"{name_of(page)}: {one.command}": one for page in PAGES if page != walk.PAGE
         for one in with_output(text_of(page))}  # fmt: skip
COMMANDS = {one.command.partition("|")[0].strip() for page in PAGES for one in shown(text_of(page))}
MAKE_ANEW = "python tests/readme_outputs.py makes it anew"


def test_readme_answers_five_questions_with_five_commands():
    text = text_of(README)
    asked = text[text.index("## Five questions") :].split("\n## ")[0]
    assert len(re.findall(r"^\*\*.*\?\*\*", asked, flags=re.MULTILINE)) == 5
    assert len(with_output(asked)) == 5
    assert all(one.command.startswith("ecgadvise recommend") for one in with_output(asked))


@pytest.mark.parametrize("place", SHOWN)
def test_shown_output_is_what_the_command_prints(place: str):
    assert run_command(SHOWN[place].command) == SHOWN[place].output, MAKE_ANEW


def test_who_gets_started_sees_what_the_page_shows(tmp_path: Path):
    """Numbers apart: some depend on the machine's linear algebra, some on its speed."""
    for one, output in walk.walk(text_of(walk.PAGE), tmp_path):
        if one.output:
            assert without_numbers(output) == without_numbers(one.output), f"{one.command}: {MAKE_ANEW}"
    assert {"answer.html", "answer.svg", "predictions.csv"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("line", sorted(line for line in COMMANDS if line.startswith("ecgadvise")))
def test_named_commands_and_their_options_exist(line: str, command):
    words = shlex.split(line)[1:]
    path = words[: 2 if words[0] in {"study", "curves", "data", "zoo"} else 1]
    code, out, err = command(*path, "--help")
    assert code == 0, err
    for option in (word for word in words if word.startswith("--")):
        assert option in out


def test_other_commands_are_of_the_repository_or_of_every_shell():
    others = {line.split()[0] for line in COMMANDS if not line.startswith("ecgadvise")}
    assert others <= {"python", "head", "ls", "cut"}


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_of_the_reference_is_what_the_code_says(name: str):
    assert text_of(reference.FOLDER / name) == reference.PAGES[name](), MAKE_ANEW


def test_the_picture_is_of_the_curves_that_ship():
    """By what is written in it, and by the hash of the curves file: another matplotlib may place a label elsewhere."""
    there = gain_figure.PICTURE.read_text(encoding="utf-8")
    assert gain_figure.drawn_from(there) == gain_figure.curves_now(), MAKE_ANEW
    assert gain_figure.words(there) == gain_figure.words(gain_figure.draw()), MAKE_ANEW


def test_every_variable_of_the_environment_is_among_the_settings():
    settings = set(re.findall(r"`(ECGADVISE_\w+)`", text_of(DOCS / "reference" / "settings.md")))
    code = [path for room in ("advisor", "studies", "engine", "models") for path in (ROOT / room).rglob("*.py")]
    read = {name for path in code for name in re.findall(r"\bECGADVISE_[A-Z_]+\b", path.read_text(encoding="utf-8"))}
    assert settings == read, MAKE_ANEW


def write_ward(root: Path, n_records: int) -> None:
    """Write a directory of one's own: records of noise in which AF and LBBB are amplitudes of a lead each."""
    rng, leads = np.random.default_rng(1), ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
    rows = ["record,patient,AF,LBBB"]
    root.mkdir()
    for k in range(n_records):
        signal = rng.normal(0, 0.1, (1000, 8))
        signal[:, 2] *= 1 + 3 * (k % 2)
        signal[:, 3] *= 1 + 3 * (k % 3 == 0)
        wfdb.wrsamp(f"r{k}", fs=100, units=["mV"] * 8, sig_name=leads, p_signal=signal, fmt=["16"] * 8,
                    write_dir=str(root))  # fmt: skip
        rows.append(f"r{k},p{k},{k % 2},{int(k % 3 == 0)}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("page", [README, DOCS / "how-to" / "python.md"], ids=name_of)
def test_the_python_code_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (code,) = re.findall(r"```python\n(.*?)```", text_of(page), flags=re.DOTALL)
    assert len(code.splitlines()) <= 20
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECGADVISE_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    write_ward(tmp_path / "ward", 60)
    rng, n = np.random.default_rng(0), 8
    arms = [("scratch", "", 0.0), ("fine-tune", "ptb-xl/all", 0.03)]
    runs = [
        ("ward/AF", "my-resnet", arm, upstream, size, k, 0.9 + gain - size**-0.5 + rng.normal(0, 0.005))
        for size in (100, 250, 500, 1000) for k in range(3) for arm, upstream, gain in arms
    ]  # fmt: skip
    columns = ("task", "arch", "strategy", "upstream", "n_records", "replicate", "auroc_macro")
    theirs = {
        "signals": rng.normal(0, 0.2, (n, 12, 5000)),
        "leads": ["V1", "V2", "V3", "V4", "V5", "V6", "I", "II", "III", "AVR", "AVL", "AVF"],
        "y": np.arange(2 * n).reshape(n, 2) // 3 % 2,
        "patients": [f"p{k // 2}" for k in range(n)],
        "runs": pd.DataFrame(runs, columns=columns),
    }
    exec(compile(code, page.name, "exec"), theirs)
    out = capsys.readouterr().out
    if page != README:
        assert out.startswith("linear-probe fine-tune 0.00")
        assert "my-resnet, 500 records: measured" in out
        assert (tmp_path / "curves.png").exists()
    assert (tmp_path / "my-model" / "MODEL_CARD.md").exists()
    assert theirs["p"].shape == (n, 2)


def test_the_table_of_networks_is_true():
    rows = re.findall(r"^\| `(\S+)` \| (\w+) \| ([\d,]+) \| ([\d.]+) \| \S", NETWORKS, flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == list_networks()
    for name, family, parameters, gflop in rows:
        with torch.device("meta"):
            network = create_network(name, n_classes=5)
        assert find_network(name).family == family
        assert f"{count_parameters(network):,}" == parameters, name
        assert f"{training_gflop(network, 12, 1000):.2f}" == gflop, name


def test_the_table_of_released_networks_is_true():
    rows = re.findall(r"^\| `(\S+-ptbxl\S*)` \| ([^|]+) \| (0\.\d{3}) \| (\d+) \|$", NETWORKS, flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(released())
    for name, leads, auroc, n_tasks in rows:
        facts = load_checkpoint(released()[name]).facts
        assert leads_in_words(facts.leads) == leads
        assert f"{facts.evaluation['auroc_macro']:.3f}" == auroc
        assert str(len({row["task"] for row in facts.record["starting_point"]})) == n_tasks
        assert (len(facts.classes), len(facts.classes) - len(facts.evaluation["left_out"])) == (71, 49)
        assert facts.record["folds"] == "1, 2, 3, 4, 5, 6, 7, 8"


def test_the_networks_said_to_be_measured_are_those_of_the_evidence():
    said = re.findall(r"`(\S+)` \(([\d,]+)\s+parameters\)\s+for (cnn|rnn)", NETWORKS)
    assert {family: name for name, _, family in said} == dict(read_curves(DEFAULT_CURVES).family_default)
    for name, parameters, _ in said:
        assert f"{count_parameters(create_network(name, n_classes=5)):,}" == parameters


def test_the_example_goes_from_records_to_a_model(tmp_path: Path):
    said = run_command(f"python {ROOT}/examples/from_records_to_model.py .", tmp_path, may_speak=True,
                       ECGADVISE_CORPORA=str(tmp_path / "corpora"))  # fmt: skip
    assert [line.partition(":")[0] for line in said.splitlines()] == ["advice", "trained", "exported", "evaluated"]
    assert (tmp_path / "model" / "MODEL_CARD.md").exists()
