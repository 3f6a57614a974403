"""How a command ends: the exit codes, and the one-sentence error that carries one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum

from typer.exceptions import TyperException


class ExitCode(IntEnum):
    """What the exit status of ``ecgadvise`` means."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DATA = 3
    NO_EVIDENCE = 4
    INTERRUPTED = 130


class Interrupted(TyperException):
    """The user stopped the command with Ctrl-C; the message says how to go on."""

    exit_code = ExitCode.INTERRUPTED


class Failure(TyperException):
    """An error of the user's or of the machine's: one sentence that says what was wrong, where, and what to do."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def told_as_failures(kinds: Mapping[ExitCode, tuple[type[Exception], ...]]) -> Iterator[None]:
    """End an error of a known kind in its own sentence, as a Failure with the exit code of the first kind that fits."""
    try:
        yield
    except tuple(kind for several in kinds.values() for kind in several) as error:
        code = next(code for code, several in kinds.items() if isinstance(error, several))
        raise Failure(str(error), code) from None
