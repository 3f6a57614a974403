"""Console blocks of documents: which commands they show with what output, and how both are made anew.

A block has one command or several. A line that ends in ``|`` goes on in the next one. What follows a command, up to the
next, is its output; a command without any is shown for what it does.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.documents.pages import ROOT

_BLOCK = re.compile(r"^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Shown:
    """A command as a document shows it, and the output under it, which may be none."""

    command: str
    output: str


def shown(text: str) -> list[Shown]:
    """Return all commands of a text's console blocks."""
    return [one for block in _BLOCK.finditer(text) for one in _commands(block["body"])]


def with_output(text: str) -> list[Shown]:
    """Return the commands whose output is shown."""
    return [one for one in shown(text) if one.output]


def renewed(text: str, run: Callable[[str], str]) -> str:
    """Return the text with every shown output replaced by what its command gives."""

    def block(found: re.Match[str]) -> str:
        made = [f"$ {one.command}\n{run(one.command) if one.output else ''}" for one in _commands(found["body"])]
        return "```console\n" + "".join(made) + "```"

    return _BLOCK.sub(block, text)


def run_command(command: str, place: Path = ROOT, *, may_speak: bool = False, **environment: str) -> str:
    """Return what a command line, pipes and all, prints in a folder.

    Raises RuntimeError where it fails, and on anything on stderr unless it ``may_speak``.
    """
    python = shlex.quote(sys.executable)
    ours = f'ecgadvise() {{ {python} -m ecgadvise "$@"; }}\npython() {{ {python} "$@"; }}'
    ended = subprocess.run(
        ["bash", "-c", f"{ours}\n{command}"], capture_output=True, text=True, timeout=300, cwd=place, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip
    if (ended.stderr and not may_speak) or ended.returncode:
        raise RuntimeError(f"{command} ended with {ended.returncode}: {ended.stderr}")
    return ended.stdout


def without_numbers(output: str) -> str:
    """Return an output's words, one space apart: for numbers that depend on a machine's linear algebra and speed."""
    return " ".join(_NUMBER.sub("N", output).split())


def _commands(body: str) -> list[Shown]:
    found: list[list[str]] = []
    goes_on = False
    for line in body.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append([line[2:], ""])
        else:
            found[-1][0 if goes_on else 1] += line
        goes_on = not found[-1][1] and found[-1][0].endswith("|\n")
    return [Shown(command.removesuffix("\n"), output) for command, output in found]
