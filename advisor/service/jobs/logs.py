"""What jobs say while they run: the end of it, and the sentence in which a command ended."""

import re
from dataclasses import dataclass
from pathlib import Path

NAME = "log"
MARK = "--- "  # begins the line that says that a job is started, for the first time or again
MOST = 65_536  # bytes that are read at once
_LONGEST = 1000  # characters of a problem
_FULL = re.compile(r"no space (is )?left", re.IGNORECASE)


@dataclass(frozen=True)
class LogPart:
    """A part of a log: its text, where the next one begins, and how long the log is, both in bytes."""

    text: str
    next_offset: int
    size: int


def read_log(folder: Path, offset: int | None = None) -> LogPart:
    """Return what a job has said from ``offset`` bytes on, at most 64 KiB; None: the last of them."""
    try:
        with (folder / NAME).open("rb") as file:
            size = file.seek(0, 2)
            begin = max(0, size - MOST) if offset is None else min(offset, size)
            file.seek(begin)
            content = file.read(MOST)
    except FileNotFoundError:  # it has not begun
        return LogPart("", 0, 0)
    return LogPart(content.decode("utf-8", errors="replace"), begin + len(content), size)


def find_problem(folder: Path) -> str | None:
    """Return the last ``error: ...`` of the last attempt without that word, None where it said none."""
    errors = [line.removeprefix("error: ") for line in _last_attempt(folder) if line.startswith("error: ")]
    return errors[-1][:_LONGEST] if errors else None


def ran_out_of_space(folder: Path) -> bool:
    """Whether the last attempt ended for want of room on the disk."""
    return any(_FULL.search(line) for line in _last_attempt(folder)[-3:])


def _last_attempt(folder: Path) -> list[str]:
    lines = read_log(folder).text.splitlines()
    begins = [k for k, line in enumerate(lines) if line.startswith(MARK)]
    return lines[begins[-1] + 1 :] if begins else lines
