"""What a command says next to its answer, on stderr: words that quote files made safe to print, or nothing at all."""

import re
import sys

# What a terminal would obey, and what would begin another line or turn its direction.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_NO_TEXT = re.compile("[\ud800-\udfff]")  # bytes of a file's name that are not in the file system's encoding


def in_one_line(words: str) -> str:
    """Take line ends, what a terminal would obey and what cannot be encoded out of words."""
    return _NO_TEXT.sub("?", _CONTROLS.sub(" ", words)).strip()


_quiet = False


def be_quiet(quiet: bool) -> None:
    """Say whether remarks and progress are left out (``ecgadvise --quiet``); errors are printed all the same."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether remarks and progress are left out."""
    return _quiet


def draws_progress() -> bool:
    """Whether somebody watches who wants to see how far a command is."""
    return not _quiet and sys.stderr.isatty()


def say(sentence: str) -> None:
    """Print a remark on stderr."""
    if _quiet:
        return
    import typer  # a program that only needs the other functions does without

    typer.echo(in_one_line(sentence), err=True)
