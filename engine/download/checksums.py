"""A publisher's list of checksums, and which of its files are wanted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from engine.download.http import (
    PART,
    FetchError,
)
from models.errors import ExitCode

SUMS = "SHA256SUMS.txt"
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]?(\S.*)")


class ListError(FetchError):
    """A SHA256SUMS.txt that is malformed, names paths outside its tree, or lists none of the files wanted."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class Listed:
    """One line of a SHA256SUMS.txt: a path inside the tree and the SHA-256 (hexadecimal) of that file."""

    path: str
    sha256: str


def parse_sums(text: str) -> list[Listed]:
    """Read the lines ``SHA256  PATH`` of a SHA256SUMS.txt.

    Raises ListError for a line of another form, a path that leads out of the tree, or one that is listed twice with
    different checksums: a list with one such line is not to be trusted in its other lines.
    """
    found: dict[str, Listed] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise ListError(f"{SUMS}, line {number}: not a SHA-256 and a path: {line[:80]!r}")
        listed = Listed(match[2].removeprefix("./"), match[1].lower())
        if listed.path == SUMS:
            continue  # `sha256sum *` lists the list too, as it was before it was written
        if not _is_safe(listed.path):
            raise ListError(f"{SUMS}, line {number}: refused, the path {listed.path!r} may not be written")
        if found.setdefault(listed.path, listed) != listed:
            raise ListError(f"{SUMS}, line {number}: {listed.path} is listed twice, with different checksums")
    return list(found.values())


def _is_safe(path: str) -> bool:
    """Whether a path stays inside the tree on every system, and is not a name that this module uses for itself."""
    parts = path.split("/")
    odd = "\\" in path or ":" in parts[0] or not path.isprintable()
    return not odd and not {"", ".", ".."} & set(parts) and not path.endswith(PART)


def _select(listed: list[Listed], include: Sequence[str], base_url: str) -> list[Listed]:
    wanted = [one for one in listed if any(fnmatchcase(one.path, pattern) for pattern in include)]
    if not wanted:
        raise ListError(f"{base_url}/{SUMS} lists none of {', '.join(include)}: is this the right base URL?")
    return wanted
