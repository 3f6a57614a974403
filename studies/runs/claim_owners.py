"""Who holds a claim: a process on a host, and whether it still lives."""

import os
import platform
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HEARTBEAT_SECONDS = 20.0
_SILENCE_SECONDS = 300.0  # a runner on another host that was silent for so long is taken to be dead


@dataclass(frozen=True)
class Owner:
    """A process: ``started`` tells it from a later one that was given the same number."""

    host: str
    pid: int
    started: str


@cache
def this_process() -> Owner:
    """Return the process that asks."""
    return Owner(platform.node(), os.getpid(), _start_of(os.getpid()) or "")


def is_alive(owner: Owner, heartbeat: float) -> bool:
    """Tell whether a claim's owner is still at it, by its process on this host, elsewhere by its last ``heartbeat``."""
    if owner.host == platform.node():
        return _start_of(owner.pid) == owner.started
    return time.time() - heartbeat < _SILENCE_SECONDS


def _start_of(pid: int) -> str | None:
    """Return when a process of this host was started, in clock ticks since the host was; None when there is none.

    Where the system does not say (no ``/proc``), "" stands for a process that is there.
    """
    if not Path("/proc/self/stat").exists():
        return _pid_exists(pid)
    try:
        # The second field, the program's name in brackets, may hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[19] if fields[0] != "Z" else None  # Z: ended, and not yet taken note of by its parent


def _pid_exists(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # it is another user's
        return ""
    return ""
