"""The process of a job: it runs one ``ecgadvise`` command and writes down how that ended.

It is started by the supervisor (``launching``), in the job's folder and a session of its own, holding the lock on the
job's ``lock`` that it was given: while anything of it lives, no server starts the job again.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import ecgadvise
from engine.files import sync, sync_open

OUTCOME = "outcome.json"


def main(run: Callable[[], None] = ecgadvise.main) -> None:
    """Run the command that the arguments after the lock's handle are, and write ``outcome.json``."""
    handle = int(sys.argv[1])
    os.set_inheritable(handle, False)  # what the command starts is not the job
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a server in a shell's background hands down its deafness
    sys.argv = ["ecgadvise", *sys.argv[2:]]
    code = 1
    try:
        code = _code_of(run)
    finally:  # a defect is written down too; its traceback is in the log
        write_outcome(Path.cwd(), code)


def _code_of(run: Callable[[], None]) -> int:
    try:
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    else:
        code = 0
    try:
        sys.stdout.flush()
        sync_open(sys.stdout.fileno())  # a job that is done has its answer, also after a power cut
    except OSError as error:  # an answer that is not whole is none
        sys.stderr.write(f"error: the answer could not be written: {error.strerror}\n")
        return code or 1
    return code


def write_outcome(folder: Path, code: int) -> None:
    """Write the exit code so that it is on the disk, whole, or not at all."""
    new = folder / f".{OUTCOME}.new"
    new.write_text(json.dumps({"exit_code": code}), encoding="utf-8")
    sync(new)
    new.replace(folder / OUTCOME)
    sync(folder)


def read_outcome(folder: Path) -> int | None:
    """Return the exit code of a command that has ended, None where none is written."""
    try:
        return int(json.loads((folder / OUTCOME).read_bytes())["exit_code"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
