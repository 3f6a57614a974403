"""Words that quote files and what is in them, made safe to print."""

import re

# What a terminal would obey, and what would begin another line or turn its direction.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_NO_TEXT = re.compile("[\ud800-\udfff]")  # bytes of a file's name that are not in the file system's encoding


def in_one_line(words: str) -> str:
    """Take line ends, what a terminal would obey and what cannot be encoded out of words."""
    return _NO_TEXT.sub("?", _CONTROLS.sub(" ", words)).strip()


def say(sentence: str) -> None:
    """Print a sentence on stderr."""
    import typer  # a program that only needs the other function does without

    typer.echo(in_one_line(sentence), err=True)
