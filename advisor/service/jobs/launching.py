"""Starting the process of a job, finding out whether it lives, and ending it.

The lock on ``jobs/ID/lock`` is taken before the process is there and handed to it open, so that at no moment a job that
runs looks as if it did not, however its server ends.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from advisor.service.jobs.logs import MARK, NAME
from advisor.service.jobs.process import OUTCOME
from advisor.terminal.progress.file import VARIABLE as PROGRESS
from engine.files import lock

LOCK = "lock"
_ROOT = Path(__file__).parents[3]
# -P and this order keep a user's folders of the names of our packages out, wherever the process runs.
PROGRAM = "import ecgadvise; from advisor.service.jobs.process import main; main()"
_SECRETS = ("ECGADVISE_TOKEN",)


class Launcher:
    """Starts jobs' processes; ``program`` is what they run, ``corpora`` where commands keep prepared records."""

    def __init__(self, corpora: Path, program: str = PROGRAM) -> None:
        self._corpora, self._program = corpora, program
        self._children: dict[Path, subprocess.Popen[bytes]] = {}

    def start(self, folder: Path, words: Sequence[str], attempt: int) -> None:
        """Start a command for a job that nothing runs, in its folder. Raises OSError."""
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not lock(handle):
                return  # it is there already
            os.ftruncate(handle, 0)  # the number of an earlier process
            with (folder / NAME).open("ab") as log, (folder / "answer").open("wb") as answer:
                log.write(f"{MARK}attempt {attempt}: ecgadvise {' '.join(words)}\n".encode("utf-8", "replace"))
                log.flush()
                self._children[folder] = subprocess.Popen(
                    python(self._program, str(handle), *words), stdin=subprocess.DEVNULL, stdout=answer, stderr=log,
                    cwd=folder, env=self._environment(folder), pass_fds=(handle,), start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(handle)

    def reap(self, folder: Path) -> None:
        """Let go of a process that has ended, and end what it has left running."""
        child = self._children.pop(folder, None)
        if child is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)  # nobody else can have the number before ``wait``
            child.wait()

    def send(self, folder: Path, number: signal.Signals) -> None:
        """Send a signal to a job that is alive and to what it has started."""
        with suppress(ValueError, ProcessLookupError):  # another server's has not said its number yet, or just ends
            child = self._children.get(folder)
            os.killpg(int((folder / LOCK).read_bytes()) if child is None else child.pid, number)

    def leave(self) -> None:
        """Let the processes go on without this one."""
        for child in self._children.values():
            child.returncode = 0  # else Popen warns of a process that still runs, which is what is wanted
        self._children.clear()

    def _environment(self, folder: Path) -> dict[str, str]:
        return environment(ECGADVISE_CORPORA=str(self._corpora), **{PROGRESS: str(folder / "progress.json")})


def python(program: str, *words: str) -> list[str]:
    """Return the command that runs a program of ours, which finds our packages where this process has them."""
    return [sys.executable, "-P", "-c", f"import sys; sys.path.append({str(_ROOT)!r}); {program}", *words]


def environment(**further: str) -> dict[str, str]:
    """Return the environment of a process that works for the service: this one's, without its secrets."""
    kept = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    return {**kept, **further}


def make_ready(folder: Path) -> None:
    """Make a job's folder ready for a start: what an earlier one ended with is gone. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (OUTCOME, "progress.json"):
        (folder / name).unlink(missing_ok=True)


def is_alive(folder: Path) -> bool:
    """Whether a job's process holds its lock."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not lock(handle)
    finally:
        os.close(handle)
