"""README tells the truth: its outputs, its commands, its table of networks."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.registry import count_parameters, create_network, find_network, list_networks, training_gflop
from studies.curves_file import read_curves
from studies.evidence_files import DEFAULT_CURVES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = re.findall(r"^\$ (ecgadvise .*)$", README, flags=re.MULTILINE)
SHOWN = [block.split("\n", 1) for block in BLOCKS if not block.rstrip().split("\n")[-1].startswith("$ ")]


def ecgadvise(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "advisor", *arguments], capture_output=True, text=True, timeout=120)


def test_readme_shows_an_answer():
    assert any("recommend" in command for command, _ in SHOWN)


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_shown_output_is_what_the_command_prints(command: str, output: str):
    assert ecgadvise(*shlex.split(command)[2:]).stdout == output


@pytest.mark.parametrize("command", COMMANDS)
def test_named_commands_and_their_options_exist(command: str):
    words = shlex.split(command)[1:]
    path = words[: 1 if words[0] == "recommend" else 2]
    result = ecgadvise(*path, "--help")
    assert result.returncode == 0, result.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in result.stdout


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
