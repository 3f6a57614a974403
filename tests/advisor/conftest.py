"""The command line called in this process, which loads its libraries once."""

import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import NamedTuple
from unittest.mock import patch

import pytest

from advisor.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def call_command(*arguments: object, terminal: bool = False) -> Ended:
    out, err = Terminal() if terminal else StringIO(), StringIO()
    words = ["ecgadvise", *map(str, arguments)]
    with patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            return Ended(int(ended.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main() returned")


@pytest.fixture(scope="session")
def command() -> Callable[..., Ended]:
    """Call ``ecgadvise`` with arguments; ``terminal=True`` makes stdout one."""
    return call_command
