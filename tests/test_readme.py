"""README tells the truth: its outputs, its commands, its table of networks."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
import torch

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
    path = words[: 2 if words[0] in {"study", "curves", "data"} else 1]
    code, out, err = command(*path, "--help")
    assert code == 0, err
    for option in (word for word in words if word.startswith("--")):
        assert option in out


def test_the_table_of_networks_is_true():
    rows = re.findall(r"^\| `(\S+)` \| (cnn|rnn) \| ([\d,]+) \| ([\d.]+) \| \S", README, flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == list_networks()
    for name, family, parameters, gflop in rows:
        with torch.device("meta"):
            network = create_network(name, n_classes=5)
        assert find_network(name).family == family
        assert f"{count_parameters(network):,}" == parameters, name
        assert f"{training_gflop(network, 12, 1000):.2f}" == gflop, name


def test_the_networks_said_to_be_measured_are_those_of_the_evidence():
    said = re.findall(r"`(\S+)` \(([\d,]+) parameters\)\s+for (cnn|rnn)", README)
    assert {family: name for name, _, family in said} == dict(read_curves(DEFAULT_CURVES).family_default)
    for name, parameters, _ in said:
        assert f"{count_parameters(create_network(name, n_classes=5)):,}" == parameters


def test_every_file_that_readme_links_to_exists():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
