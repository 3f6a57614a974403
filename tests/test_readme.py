"""README tells the truth: its outputs, its commands, its table of networks."""

import re
import runpy
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

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OUTPUTS = runpy.run_path(str(ROOT / "tests" / "readme_outputs.py"))
SHOWN = OUTPUTS["shown_outputs"](README)
COMMANDS = re.findall(r"^\$ (ecgadvise [^|\n]*)", README, flags=re.MULTILINE)


def test_readme_answers_five_questions_with_five_commands():
    asked = README[README.index("## Five questions") :].split("\n## ")[0]
    assert len(re.findall(r"^\*\*.*\?\*\*", asked, flags=re.MULTILINE)) == 5
    assert len(OUTPUTS["shown_outputs"](asked)) == 5
    assert all(command.startswith("ecgadvise recommend") for command, _ in OUTPUTS["shown_outputs"](asked))


@pytest.mark.parametrize(("line", "output"), SHOWN, ids=[line for line, _ in SHOWN])
def test_shown_output_is_what_the_command_prints(line: str, output: str):
    assert OUTPUTS["run_command"](line) == output, "python tests/readme_outputs.py makes README's outputs anew"


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_named_commands_and_their_options_exist(line: str, command):
    words = shlex.split(line)[1:]
    path = words[: 2 if words[0] in {"study", "curves", "data", "zoo"} else 1]
    code, out, err = command(*path, "--help")
    assert code == 0, err
    for option in (word for word in words if word.startswith("--")):
        assert option in out


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


def test_the_python_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    section = README[README.index("## From Python") :].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
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
    exec(compile(code, "README.md", "exec"), theirs)
    out = capsys.readouterr().out
    assert out.startswith("linear-probe fine-tune 0.00")
    assert "my-resnet, 500 records: measured" in out
    assert (tmp_path / "curves.png").exists() and (tmp_path / "my-model" / "MODEL_CARD.md").exists()
    assert theirs["p"].shape == (n, 2)


def test_the_table_of_networks_is_true():
    rows = re.findall(r"^\| `(\S+)` \| (\w+) \| ([\d,]+) \| ([\d.]+) \| \S", README, flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == list_networks()
    for name, family, parameters, gflop in rows:
        with torch.device("meta"):
            network = create_network(name, n_classes=5)
        assert find_network(name).family == family
        assert f"{count_parameters(network):,}" == parameters, name
        assert f"{training_gflop(network, 12, 1000):.2f}" == gflop, name


def test_the_table_of_released_networks_is_true():
    rows = re.findall(r"^\| `(\S+-ptbxl\S*)` \| ([^|]+) \| (0\.\d{3}) \| (\d+) \|$", README, flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(released())
    for name, leads, auroc, n_tasks in rows:
        facts = load_checkpoint(released()[name]).facts
        assert leads_in_words(facts.leads) == leads
        assert f"{facts.evaluation['auroc_macro']:.3f}" == auroc
        assert str(len({row["task"] for row in facts.record["starting_point"]})) == n_tasks
        assert (len(facts.classes), len(facts.classes) - len(facts.evaluation["left_out"])) == (71, 49)
        assert facts.record["folds"] == "1, 2, 3, 4, 5, 6, 7, 8"


def test_the_networks_said_to_be_measured_are_those_of_the_evidence():
    said = re.findall(r"`(\S+)` \(([\d,]+) parameters\)\s+for (cnn|rnn)", README)
    assert {family: name for name, _, family in said} == dict(read_curves(DEFAULT_CURVES).family_default)
    for name, parameters, _ in said:
        assert f"{count_parameters(create_network(name, n_classes=5)):,}" == parameters


def test_every_file_that_readme_links_to_exists():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
