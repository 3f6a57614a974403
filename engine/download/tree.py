"""Download a published tree of files, or the part of it that is needed, and verify every file.

The publisher's ``SHA256SUMS.txt`` says which files there are and what they must contain. It is kept next to them: a
published version never changes, and the list of a large set is itself megabytes. A file that is there with the right
checksum is left alone, so that the same call goes on after an interruption and does nothing when all is there.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from engine.download.checksums import SUMS, Listed, ListError, _select, parse_sums
from engine.download.http import (
    ChecksumError,
    Downloader,
    FetchError,
    MissingFileError,
    TargetError,
    hash_file,
    writing,
)
from engine.files import lock

# PhysioNet gives a connection some 40 kB/s and refuses clients with dozens of them; eight is where it still scales.
DEFAULT_JOBS = 8
_STOPPING = 5.0  # seconds to let the threads end after an interruption
_MOST_FAULTS = 20  # missing or wrong files after which the rest is not worth asking for


@dataclass(frozen=True)
class Progress:
    """How far a fetch is: files, bytes received over the network (of no known total), seconds since it began.

    ``files_present`` of ``files_done`` were there already.
    """

    files_total: int
    files_done: int = 0
    files_present: int = 0
    bytes_received: int = 0
    seconds: float = 0.0


def fetch_tree(
    base_url: str,
    target: Path,
    include: Sequence[str] = ("*",),
    jobs: int = DEFAULT_JOBS,
    report: Callable[[Progress], None] = lambda _progress: None,
    sleep: Callable[[float], object] | None = None,
) -> Progress:
    """Fetch the files below ``base_url`` that match a pattern of ``include`` (fnmatch) into ``target``.

    ``report`` is called, by one thread at a time, when bytes arrived or a file is done. A file that is missing or
    wrong does not keep the others from being fetched; it is named at the end. Raises ListError, ChecksumError,
    MissingFileError, TargetError, else FetchError; KeyboardInterrupt passes once the threads have stopped.
    """
    with _alone(target), Downloader(jobs, sleep) as downloader:
        wanted = _select(_read_list(downloader, base_url, target), include, base_url)
        tally = _Tally(len(wanted), report)
        executor = ThreadPoolExecutor(jobs, thread_name_prefix="fetch")
        futures: list[Future[None]] = []
        try:
            futures.extend(executor.submit(_fetch, downloader, base_url, target, one, tally) for one in wanted)
            faults = _collect(futures)
            if faults:
                raise _combine(faults)
        except BaseException as error:
            if isinstance(error, MissingFileError | ChecksumError):
                # It may be the list that is out of date: the next run asks for it anew.
                (target / SUMS).unlink(missing_ok=True)
            downloader.stop()
            executor.shutdown(wait=False, cancel_futures=True)
            wait([future for future in futures if future.running()], _STOPPING)
            raise
        executor.shutdown()
    return tally.progress


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keep a second fetch out of a directory: both would write the same parts. Raises TargetError."""
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
        handle = _lock(target)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _lock(target: Path) -> int | None:
    """Lock the directory itself, so that nothing is left over; the lock ends with the process at the latest."""
    if sys.platform == "win32":
        return None
    handle = os.open(target, os.O_RDONLY)
    if not lock(handle):
        os.close(handle)
        raise TargetError(f"another fetch is at work in {target}: let it end, or choose another folder")
    return handle


def _read_list(downloader: Downloader, base_url: str, target: Path) -> list[Listed]:
    path = target / SUMS
    if not path.is_file():
        downloader.download(f"{base_url.rstrip('/')}/{SUMS}", path, sha256=None)
    try:
        with writing(path):
            return parse_sums(path.read_text(encoding="utf-8"))
    except (ListError, UnicodeDecodeError) as error:
        path.unlink()  # not to be read again: the next run asks the server anew
        reason = error if isinstance(error, ListError) else f"{SUMS} is not UTF-8 text"
        raise ListError(f"{base_url}: {reason}") from None


def _fetch(downloader: Downloader, base_url: str, target: Path, listed: Listed, tally: "_Tally") -> None:
    path = target.joinpath(*PurePosixPath(listed.path).parts)
    with writing(path):
        present = path.is_file() and hash_file(path) == listed.sha256
    if not present and not downloader.stopped.is_set():
        url = f"{base_url.rstrip('/')}/{quote(listed.path)}"
        downloader.download(url, path, listed.sha256, tally.received)
    tally.done(present)


def _collect(futures: list[Future[None]]) -> list[FetchError]:
    """Wait for all; return the faults of single files, raise the first fault that ends the fetch."""
    faults: list[FetchError] = []
    for future in as_completed(futures):
        try:
            future.result()
        except (MissingFileError, ChecksumError) as error:
            faults.append(error)
            if len(faults) == _MOST_FAULTS:
                raise _combine(faults) from None
    return faults


def _combine(faults: list[FetchError]) -> FetchError:
    """Put the faults of single files into one error; a wrong file weighs more than a missing one."""
    wrong = [fault for fault in faults if isinstance(fault, ChecksumError)]
    first = (wrong or faults)[0]
    if len(faults) == 1:
        return first
    return type(first)(f"{first} (and {len(faults) - 1} more files are missing or wrong)")


class _Tally:
    """What the threads have done so far, counted under a lock."""

    def __init__(self, total: int, report: Callable[[Progress], None]) -> None:
        self.progress = Progress(total)
        self._report = report
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def received(self, count: int) -> None:
        """Count bytes."""
        with self._lock:
            self._update(bytes_received=self.progress.bytes_received + count)

    def done(self, present: bool) -> None:
        """Count a file that is now there."""
        with self._lock:
            self._update(files_done=self.progress.files_done + 1, files_present=self.progress.files_present + present)

    def _update(self, **counts: int) -> None:
        self.progress = replace(self.progress, seconds=time.monotonic() - self._start, **counts)
        self._report(self.progress)
