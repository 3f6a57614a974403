"""Receive an archive from a request into the store's ``incoming``, piece by piece: it is never in memory as a whole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from anyio.to_thread import run_sync
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from advisor.service.datasets.limits import FULL, Limits, disk_full, named
from advisor.service.problems import Problem
from advisor.service.settings import MEGABYTE, Settings
from advisor.service.store import ServiceStore, ServiceStoreError, new_id

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

Made = TypeVar("Made")
_AT_ONCE = MEGABYTE  # bytes, to the disk
_FORM_LINES = 64_000  # bytes that a form may have around its file
_LONGEST_FIELD = 2_000  # bytes


@dataclass(frozen=True)
class Upload:
    """An archive that was received, and the name that a form gives with it."""

    archive: Path
    name: str | None = None


async def receive(request: Request, store: ServiceStore, settings: Settings) -> Upload:
    """Receive a request's body, an archive or a form with one. Whoever calls removes the file.

    Raises Problem for what is too large, ends early, is no form or has no room, and ServiceStoreError; no file is left
    then.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    form = _Form(options.get(b"boundary", b"")) if kind == b"multipart/form-data" else None
    limits = Limits.of(settings, store.free_mb)
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isascii() and announced.isdigit() else 0
    if size > settings.max_upload_mb * MEGABYTE + (0 if form is None else _FORM_LINES):
        raise _too_large(settings)
    limits.check_disk(size / MEGABYTE)
    sink = _Sink(store.incoming / f"{new_id('a')}.upload", settings, limits)
    try:
        await sink.open()
        await _pour(request, form, sink)
        await sink.close()
    except BaseException:
        sink.discard()
        raise
    return Upload(sink.path, None if form is None else form.name)


async def _pour(request: Request, form: "_Form | None", sink: "_Sink") -> None:
    try:
        async for chunk in request.stream():
            for piece in (chunk,) if form is None else form.pieces(chunk):
                await sink.write(piece)
    except ClientDisconnect:
        raise Problem(400, "the upload ended before it was complete") from None
    if form is not None:
        form.check_end()


class _Sink:
    """A file that is written off the event loop, within the operator's limits."""

    def __init__(self, path: Path, settings: Settings, limits: Limits) -> None:
        self.path, self._settings, self._limits = path, settings, limits
        self._file: BinaryIO | None = None
        self._waiting, self._size = bytearray(), 0

    async def open(self) -> None:
        """Make the file."""
        self._file = await self._on_disk(lambda: self.path.open("xb"))

    async def write(self, piece: bytes) -> None:
        """Take some bytes. Raises Problem at a limit."""
        self._size += len(piece)
        if self._size > self._settings.max_upload_mb * MEGABYTE:
            raise _too_large(self._settings)
        self._waiting += piece
        if len(self._waiting) >= _AT_ONCE:
            await self._on_disk(self._flush)

    async def close(self) -> None:
        """Write what waits, and close the file."""
        await self._on_disk(self._flush)
        if self._file is not None:
            self._file.close()

    def discard(self) -> None:
        """Remove the file, whatever state it is in."""
        if self._file is not None:
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        self._limits.check_disk()
        if self._file is not None:
            self._file.write(self._waiting)
            self._file.flush()
        self._waiting.clear()

    async def _on_disk(self, do: Callable[[], Made]) -> Made:
        try:
            return await run_sync(do)
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(self._settings.min_free_mb) from error
            raise ServiceStoreError(f"the upload cannot be written: {error.strerror}") from error


class _Form:
    """The parts of a form: the bytes of ``archive`` are given on, ``name`` is kept, others are passed over."""

    def __init__(self, boundary: bytes) -> None:
        self.name: str | None = None
        self._pieces: list[bytes] = []
        self._header, self._headers = (bytearray(), bytearray()), dict[bytes, bytes]()
        self._field, self._text, self._file_name = "", bytearray(), ""
        self._archives, self._ended = 0, False
        if not boundary:
            raise _no_form()
        try:
            self._parser = MultipartParser(boundary, self._callbacks())
        except FormParserError:
            raise _no_form() from None

    def pieces(self, chunk: bytes) -> list[bytes]:
        """Return the archive's bytes in a piece of the form. Raises Problem."""
        self._pieces = []
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _no_form() from None
        return self._pieces

    def check_end(self) -> None:
        """Raise Problem for a form that was cut off or has no archive."""
        if not self._ended:
            raise Problem(400, "the upload ended before it was complete")
        if self._archives != 1:
            raise Problem(400, "give the form's archive, one file in the field archive")
        self.name = self.name or PurePath(self._file_name).name.partition(".")[0] or None

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._headers.clear,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_end": self._on_end,
        }

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _on_header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._headers[name.lower()] = value
        for part in self._header:
            part.clear()

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._text.clear()
        if self._field == "archive":
            self._archives += 1
            self._file_name = options.get(b"filename", b"").decode("utf-8", "replace").replace("\\", "/")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == "archive" and self._archives == 1:
            self._pieces.append(data[start:end])
        elif self._field == "name":
            self._text.extend(data[start:end])
            if len(self._text) > _LONGEST_FIELD:
                raise Problem(400, "the form's name is too long")

    def _on_part_end(self) -> None:
        if self._field == "name":
            self.name = self._text.decode("utf-8", "replace").strip() or None

    def _on_end(self) -> None:
        self._ended = True


def _no_form() -> Problem:
    return Problem(400, "the form cannot be read: send multipart/form-data with an archive and a name")


def _too_large(settings: Settings) -> Problem:
    return Problem(413, f"the upload is too large: {named('max_upload_mb', settings.max_upload_mb)}")
