"""The shell completes commands, options and names, without loading the training stack for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
sys.argv = ["ecgadvise"]
from advisor.cli import main
try: main()
finally: print(sorted({"torch", "pandas", "scipy", "sklearn", "wfdb"} & set(sys.modules)), file=sys.stderr)
"""


def say(**environment: str) -> str:
    """What the command prints when a shell calls it to complete."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, env=os.environ | environment
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.strip() == "[]"
    return result.stdout


def completed(line: str) -> list[str]:
    """What bash would offer for the last word of a line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    return say(_ECGADVISE_COMPLETE="complete_bash", **words).split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ecgadvise rec", {"recommend"}),
        ("ecgadvise recommend --dev", {"--device-speed"}),
        ("ecgadvise recommend --arch gru", {"gru", "gru-w32", "gru-flatten"}),
        ("ecgadvise recommend --upstream ", {"none", "ptb-xl/non-diagnostic"}),
        ("ecgadvise recommend --arch cnn --task ptb-xl/s", {"ptb-xl/superclass"}),
        ("ecgadvise train --from resnet", {"resnet1d18-w16-ptbxl"}),
        ("ecgadvise recommend --from th", {"theirs"}),
        ("ecgadvise zoo show ", {"gru-w32-ptbxl", "theirs"}),
        ("ecgadvise zoo remove ", {"theirs"}),
        ("ecgadvise zoo remove gru", set()),
        ("ecgadvise recommend --curves nowhere.json --task ", set()),
    ],
)
def test_names_are_completed(line: str, offered: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ECGADVISE_ZOO", str(tmp_path))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "checkpoint.json").write_text("{}")
    found = completed(line)
    assert offered <= set(found)
    assert bool(offered) == bool(found)


def test_names_come_from_the_curves_file_that_is_asked(curves_path: Path, tmp_path: Path):
    other = tmp_path / "curves.json"
    other.write_text(curves_path.read_text().replace("ptb-xl/superclass", "ours/rhythm"))
    assert completed(f"ecgadvise recommend --curves {other} --task ") == ["ours/rhythm"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(shell: str):
    script = say(_ECGADVISE_COMPLETE=f"source_{shell}")
    assert f"_ECGADVISE_COMPLETE=complete_{shell}" in script
