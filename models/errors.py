"""The base of all errors that a user can put right, and the exit codes of ``ecgadvise`` that they carry.

It lies in the lowest room because all four raise such errors, this one too (UnknownNetworkError), and imports go down.
It imports nothing but the standard library: the command line loads it before anything else.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit status of ``ecgadvise`` means."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DATA = 3
    NO_EVIDENCE = 4
    INTERRUPTED = 130


class UserError(Exception):
    """An error of the user's or of the machine's: one sentence that says what was wrong, where, and what to do.

    Every class derived from it sets ``exit_code``, with which ``ecgadvise`` ends where no command says otherwise.
    """

    exit_code: ExitCode


def decoding_fault(error: Exception) -> str:
    """Say why a file of the user's is not the text that it is taken for: no UTF-8, no JSON, or nested without end."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1:,} of it is not text in {error.encoding.upper()}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)
