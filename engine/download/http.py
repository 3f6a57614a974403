"""One file over HTTP: resumed where it broke off, tried again, verified, and only then given its name.

Bytes go to ``NAME.part`` next to the target. A file takes its name after its SHA-256, read back from the disk, is the
one expected, so that whatever stops a download (a signal, a full disk, a wrong server) leaves at most a ``.part``.

requests (which wfdb brings) rather than urllib.request: a set is tens of thousands of small files, and urllib opens a
new TLS connection for each; requests keeps connections open, goes through the proxies that hospitals have, and
through urllib3 (2.3 or newer) reports a body that is shorter than announced and ends a read that waits.
"""

import contextlib
import errno
import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import Self

import requests
import urllib3
from requests.adapters import HTTPAdapter

from models.errors import ExitCode, UserError

PART = ".part"
_CHUNK = 64 * 1024  # bytes at most
_TIMEOUT = (15.0, 30.0)  # seconds to connect, and between two packets
_RETRIES = 5  # in a row without a new byte
_LONGEST_PAUSE = 60.0
_LONGEST_RETRY_AFTER = 600.0
_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class FetchError(UserError):
    """A download that cannot go on; one sentence says what was wrong, where, and what to do."""

    exit_code = ExitCode.FAILURE


class MissingFileError(FetchError):
    """The server does not have the file."""


class ChecksumError(FetchError):
    """What the server sends is not what was published."""

    exit_code = ExitCode.DATA


class TargetError(FetchError):
    """The directory cannot be written: full, read-only, in the way."""


class StoppedError(FetchError):
    """The download was told to stop."""


class _TransientError(Exception):
    """A failed attempt that may go better; ``wait`` seconds as the server asked, None to back off."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


class Downloader:
    """Connections to one server, shared by the threads that download from it; a context manager.

    ``jobs`` is how many connections stay open. ``sleep`` replaces the pause (seconds) before another attempt.
    """

    def __init__(self, jobs: int = 1, sleep: Callable[[float], object] | None = None) -> None:
        self.stopped = threading.Event()
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._sleep = sleep or self.stopped.wait
        self._session = requests.Session()
        # An encoded body would have other offsets than the file, and resuming needs the file's.
        self._session.headers.update({"Accept-Encoding": "identity", "User-Agent": "ecgadvise"})
        # Cookies are the one thing in a session that threads would change under one another.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=jobs))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def stop(self) -> None:
        """End the downloads under way in other threads, a read that waits for the server included."""
        self.stopped.set()
        for response in tuple(self._open):
            # One that has ended meanwhile has nothing left to shut down.
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                response.shutdown()

    def download(
        self, url: str, target: Path, sha256: str | None, received: Callable[[int], None] = lambda _count: None
    ) -> None:
        """Download ``url`` to ``target``, going on with what an earlier attempt left in ``target.part``.

        ``sha256`` (hexadecimal) is what the file must have; None accepts any. ``received`` is told the bytes of each
        chunk. Raises MissingFileError (404), ChecksumError (wrong twice, the second time from the first byte on),
        TargetError, StoppedError, else FetchError when the server cannot be reached or keeps failing.
        """
        part = target.with_name(target.name + PART)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if sha256 is None:
                part.unlink(missing_ok=True)  # what it is a part of could not be told
            elif part.is_file() and hash_file(part) == sha256:
                part.replace(target)
                return
            for _ in range(2):
                self._complete(url, part, received)
                if sha256 is None or hash_file(part) == sha256:
                    part.replace(target)
                    return
                part.unlink()
        raise ChecksumError(f"{url} is not the published file: its SHA-256 is not {sha256}, twice; try again later")

    def _complete(self, url: str, part: Path, received: Callable[[int], None]) -> None:
        """Bring ``part`` to the length that the server has, attempt by attempt."""
        failures, furthest = 0, _size(part)
        while True:
            try:
                self._attempt(url, part, received)
                return
            except _TransientError as error:
                # A line that drops often but gets further each time is slow, not broken.
                failures = 1 if _size(part) > furthest else failures + 1
                furthest = max(furthest, _size(part))
                if failures > _RETRIES:
                    raise FetchError(f"{url}: {error.reason}, {failures} times in a row; try again later") from None
                self._pause(min(_LONGEST_PAUSE, 2.0 ** (failures - 1)) if error.wait is None else error.wait, url)

    def _attempt(self, url: str, part: Path, received: Callable[[int], None]) -> None:
        self._heed_stop()
        offset = _size(part)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self._session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
                _check_status(response, part)
                self._open.add(response.raw)
                try:
                    self._receive(response, part, offset, received)
                finally:
                    self._open.discard(response.raw)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _failed(url, error) from error

    def _receive(self, response: requests.Response, part: Path, offset: int, received: Callable[[int], None]) -> None:
        self._heed_stop()
        # A server may ignore Range, or answer with another one: then the file begins anew.
        resumes = response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        with part.open("ab" if offset and resumes else "wb") as file:
            # read1 gives what has come, where iter_content would lose a chunk that breaks off in the middle.
            while chunk := response.raw.read1(_CHUNK):
                file.write(chunk)
                received(len(chunk))
                self._heed_stop()
        self._heed_stop()  # a read that stop() ended looks like the end of a body of unknown length

    def _pause(self, seconds: float, url: str) -> None:
        self._heed_stop()  # which may be what made the attempt fail
        if seconds > _LONGEST_RETRY_AFTER:
            raise FetchError(f"{url}: the server asks to come back in {seconds / 60:.0f} minutes; try again then")
        if seconds:
            self._sleep(seconds)
        self._heed_stop()

    def _heed_stop(self) -> None:
        if self.stopped.is_set():
            raise StoppedError("stopped")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says about ``path`` into a TargetError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            message = f"no room left for {path}: make some, then run the same command again"
        else:
            where = error.filename2 or error.filename or path
            message = f"cannot write {where}: {(error.strerror or str(error)).lower()}; choose another folder"
        raise TargetError(message) from error


def _check_status(response: requests.Response, part: Path) -> None:
    status, url = response.status_code, response.url
    if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        return
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.unlink(missing_ok=True)
        raise _TransientError("the server refuses the range", wait=0.0)
    if status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _TransientError(f"the server answers {status}", _retry_after(response))
    if status in _GONE:
        raise MissingFileError(f"{url} does not exist ({status}): the list of files or the base URL is out of date")
    if status in _REFUSED:
        raise FetchError(f"{url} is refused ({status}): the server wants an account, or a proxy is in the way")
    raise FetchError(f"{url}: the server answers {status} {response.reason}")


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, section 10.2.3: a number of seconds or a date)."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _failed(url: str, error: Exception) -> Exception:
    """Tell a passing failure from one that no further attempt can mend."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return FetchError(
            f"{url}: the server's certificate is not trusted here; if your network inspects traffic,"
            " name its certificate in REQUESTS_CA_BUNDLE"
        )
    if isinstance(error, ValueError):  # InvalidURL, InvalidSchema, MissingSchema
        return FetchError(f"{url} is not an http or https URL")
    return _TransientError(_reason(error))


def _reason(error: BaseException) -> str:
    """Say in a few words why: the innermost cause names it, the outer ones wrap it."""
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
        return "the server does not answer in time"
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror.lower()
        inner = inner.__cause__ or inner.__context__
    return "the connection broke off"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
