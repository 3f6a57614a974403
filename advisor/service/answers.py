"""Answers to questions, the command line's to the byte, and those about a dataset by the command line itself.

What is asked for a number of records is a matter of milliseconds and given in this process; an answer about records
loads the training stack, so that a process of its own gives it. Both are kept while they hold.
"""

import re
import shlex
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from advisor.answer.question import NoRunsFromError, UnknownUpstreamError
from advisor.answer.recommend import Recommendation
from advisor.answer.recommend import recommend as answer
from advisor.service.jobs.kinds import MODEL_ID
from advisor.service.jobs.launching import environment, python
from advisor.service.problems import Problem
from advisor.service.questions import Asked
from advisor.service.store import ServiceStore
from advisor.terminal.failures import Failure
from advisor.text.answer_json import to_json
from advisor.text.explanation import Explanation, explain
from advisor.text.no_runs import NothingFromNetworkError, with_published
from models.errors import ExitCode
from studies.files.curves import CurvesFile, read_curves
from studies.files.shipped import DEFAULT_CURVES

KEPT = 1024  # answers: some 6 kB each, a page about a dataset 200
_KEPT_BYTES = 50_000_000
_AT_ONCE = 2  # processes that answer about records
_WAITING = 6  # requests that may wait for one: each holds a thread of those that all routes share
_SECONDS = 600.0  # after which such a process is ended


@dataclass(frozen=True)
class Given:
    """An answer, and the curves file that it came from."""

    found: Recommendation
    path: Path

    @property
    def explanation(self) -> Explanation:
        """What the answer rests on; a third of the time that the answer itself takes."""
        return explain(self.found, self.path)


class Answers:
    """Answers from one curves file."""

    def __init__(self, curves: Path | None) -> None:
        self.path = curves or DEFAULT_CURVES
        self.curves: CurvesFile = read_curves(self.path)
        self._kept: OrderedDict[object, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._working = threading.Lock()  # threads of one interpreter only delay each other
        self._commands = _Commands()
        self._bytes = 0

    def known(self, asked: Asked) -> bytes | None:
        """Return the JSON document where the same was asked before."""
        with self._lock:
            found = self._kept.get(asked.key)
            if found is not None:
                self._kept.move_to_end(asked.key)
            return found

    def document(self, asked: Asked) -> bytes:
        """Return what ``recommend --json`` prints. Raises UserError, and Problem for a network without runs."""

        def answered() -> bytes:
            given = self.give(asked)
            return f"{to_json(given.found, given.explanation.as_dict() if asked.explain else None)}\n".encode()

        with self._working:
            return self.known(asked) or self._keep(asked.key, answered)

    def give(self, asked: Asked) -> Given:
        """Return the answer itself. Raises as ``document``."""
        try:
            found = answer(asked.question(), self.curves)
        except (NoRunsFromError, UnknownUpstreamError) as error:
            raise self._with_published(error) from None
        return Given(found, self.path)

    def about(self, asked: Asked, records: Path, store: ServiceStore, further: tuple[str, ...] = ()) -> bytes:
        """Return what ``recommend --data RECORDS`` prints or, with ``--report``, writes. Raises Problem."""
        options = asked.options()
        if asked.from_ is not None and re.fullmatch(MODEL_ID, asked.from_):  # one that a job of this service trained
            options = [word for word in options if not word.startswith("--from=")]
            options.append(f"--from={store.models / asked.from_ / 'checkpoint'}")
        command = ["recommend", *options, f"--data={records}", *self._from_curves(), *further]
        return self._commands.run(command, {"ECGADVISE_CORPORA": str(store.corpora)})

    def close(self) -> None:
        """End the processes that answer, and begin no others."""
        self._commands.close()

    def remembered(self, key: object, make: Callable[[], bytes]) -> bytes:
        """Return what was made for a key before, else what ``make`` makes; the caller's key says while it holds."""
        with self._lock:
            found = self._kept.get(key)
        return found or self._keep(key, make)

    def command(self, asked: Asked) -> str:
        """Return the command that gives the same answer."""
        return shlex.join(["ecgadvise", "recommend", *asked.options(), *self._from_curves()])

    def _from_curves(self) -> list[str]:
        return [] if self.path == DEFAULT_CURVES else [f"--curves={self.path}"]

    def _keep(self, key: object, make: Callable[[], bytes]) -> bytes:
        made = make()
        with self._lock:
            self._bytes += len(made) - len(self._kept.pop(key, b""))
            self._kept[key] = made
            while len(self._kept) > KEPT or self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made

    def _with_published(self, error: NoRunsFromError | UnknownUpstreamError) -> Exception:
        told = with_published(error, self.curves, None)
        if isinstance(told, NothingFromNetworkError):
            return Problem.of(told, published=told.document)
        return told


class _Commands:
    """Runs ``ecgadvise`` in processes of its own, a few at a time."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(_AT_ONCE + _WAITING)
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def run(self, words: list[str], further: Mapping[str, str], seconds: float = _SECONDS) -> bytes:
        """Return what a command prints. Raises Problem with its error for another end, and where too many wait."""
        if not self._places.acquire(blocking=False):
            raise Problem(429, f"{_AT_ONCE + _WAITING} answers about records are being worked out: ask again later")
        try:
            with self._slots:
                return self._run(words, further, seconds)
        finally:
            self._places.release()

    def close(self) -> None:
        """Kill what runs; what waits is refused."""
        with self._lock:
            self._is_closed = True
            for process in self._running:
                process.kill()

    def _run(self, words: list[str], further: Mapping[str, str], seconds: float) -> bytes:
        process = self._start(words, further)
        try:
            printed, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Problem(
                503, f"no answer within {seconds / 60:g} minutes: the machine may be busy with jobs"
            ) from None
        finally:
            with self._lock:
                self._running.discard(process)
        if process.returncode == 0:
            return printed
        raise Problem.of(Failure(_last_error(said), _code(process.returncode)))

    def _start(self, words: list[str], further: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._is_closed:
                raise Problem(503, "the service is being ended")
            process = subprocess.Popen(
                python(_START, *words), env=environment(**further), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            self._running.add(process)
            return process


_START = "import ecgadvise; sys.argv[0] = 'ecgadvise'; ecgadvise.main()"


def _code(number: int) -> ExitCode:
    return ExitCode(number) if number in set(ExitCode) else ExitCode.FAILURE


def _last_error(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else "the command that was to answer ended without a word"
