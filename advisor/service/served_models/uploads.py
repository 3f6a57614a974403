"""Records that come with a request: received below a limit, laid out in a folder of their own, and listed.

A record is named as the caller named its file: the folder that it lies in meanwhile is nobody's business.
"""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect

from advisor.service.datasets.archive import unpack
from advisor.service.datasets.limits import FULL, Limits, disk_full, named
from advisor.service.problems import Problem
from advisor.service.served_models.signals import read_signals
from advisor.service.settings import MEGABYTE, Settings
from advisor.service.store import ServiceStore
from engine.deploy.inference import Listed, Prediction, list_records
from engine.records.record import RecordError

JSON, FORM = "application/json", "multipart/form-data"
FIELD = "record"  # the parts of a form that are files of records
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
_BEGINNINGS = ((0, b"PK\x03\x04"), (0, b"\x1f\x8b"), (0, b"BZh"), (0, b"\xfd7zXZ"), (257, b"ustar"))
_LONGEST_NAME = 200  # bytes
_MOST_FILES = 1000  # in a form; an archive may hold more
_CHUNK = 1 << 20  # bytes, to the disk
_DIGITS = 18  # of a length that may be meant
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it would log bytes of a form


@dataclass(frozen=True)
class Upload:
    """A body that lies in ``folder``, of the ``content_type`` that the request says; ``name`` is its file's, if any."""

    folder: Path
    content_type: str
    name: str | None = None

    @property
    def body(self) -> Path:
        """Where the body lies."""
        return self.folder / "body"

    @property
    def records(self) -> Path:
        """Where its records are laid out."""
        return self.folder / "records"


@dataclass(frozen=True)
class Records:
    """The records of an upload, and what could not even be listed, each with the problem."""

    listed: list[Listed]
    unlisted: list[Prediction]
    folder: str = ""

    def named(self, one: Prediction) -> Prediction:
        """Return a prediction without the folder that the records lay in."""
        if not self.folder:
            return one
        problem = None if one.problem is None else one.problem.replace(self.folder, "")
        return Prediction(one.record.removeprefix(self.folder), one.probabilities, problem, one.notes)


async def receive(chunks: AsyncIterator[bytes], says: str | None, upload: Upload, settings: Settings) -> None:
    """Write a body to the disk. ``says`` is the request's ``Content-Length``.

    Raises Problem: 413 for one larger than ``max_prediction_mb``, 400 for one that ends too early, 507 without room.
    """
    if says is not None and says.isascii() and says.isdecimal():
        _check_size(int(says) if len(says) <= _DIGITS else float("inf"), settings)
    try:
        await run_sync(lambda: upload.folder.mkdir(mode=0o700))
        with upload.body.open("wb") as file:
            await _pour(chunks, file, settings)
    except ClientDisconnect:
        raise Problem(400, "the connection ended before all of the upload was there") from None
    except OSError as error:
        raise _not_written(error, settings) from None


async def _pour(chunks: AsyncIterator[bytes], file: IO[bytes], settings: Settings) -> None:
    """Write pieces to a file, off the event loop."""
    waiting, received = bytearray(), 0
    async for chunk in chunks:
        received += len(chunk)
        _check_size(received, settings)
        waiting += chunk
        if len(waiting) >= _CHUNK:
            await run_sync(file.write, bytes(waiting))
            waiting.clear()
    await run_sync(file.write, bytes(waiting))


def take(upload: Upload, store: ServiceStore, settings: Settings) -> Records:
    """Lay out what was received, and list its records. Raises Problem and what the unpacking of an archive raises."""
    kind = upload.content_type.partition(";")[0].strip().lower()
    if kind == JSON:
        return Records(read_signals(upload.body.read_bytes()), [])
    try:
        if kind == FORM:
            upload.records.mkdir()
            files = _parts(upload)
        else:
            files = [_moved(upload.body, upload.records, upload.name or "record")]
        is_archive = len(files) == 1 and _is_archive(files[0], named=kind == FORM or upload.name is not None)
    except OSError as error:
        raise _not_written(error, settings) from None
    if is_archive:
        into = upload.folder / "unpacked"
        unpack(files[0], into, Limits.of(settings, store.free_mb))
        return _listed(into, into)
    return _listed(files[0] if len(files) == 1 else upload.records, upload.records)


def _listed(path: Path, root: Path) -> Records:
    """List the records of a file or folder; none at all is one that failed, as on the command line."""
    prefix = f"{root.as_posix()}/"
    try:
        return Records(list_records(path), [], prefix)
    except RecordError as error:
        name = "the upload" if path == root else path.name
        return Records([], [Prediction(name, None, str(error))], prefix)


def _is_archive(file: Path, named: bool) -> bool:
    """Whether a file is to be unpacked: by its name, or where it has none by how it begins (``.npz`` is a zip too)."""
    if named and PurePosixPath(file.name).suffix:
        return file.name.lower().endswith(_ARCHIVES)
    with file.open("rb") as opened:
        beginning = opened.read(512)
    return any(beginning[place:].startswith(mark) for place, mark in _BEGINNINGS)


def _parts(upload: Upload) -> list[Path]:
    """Write every file of a form into one folder, and return them. Raises Problem."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import FormParser, parse_options_header

    files: list[Path] = []
    _, options = parse_options_header(upload.content_type)
    config = {"UPLOAD_DIR": str(upload.folder), "MAX_MEMORY_FILE_SIZE": _CHUNK,
              "UPLOAD_DELETE_TMP": False}  # fmt: skip  # the whole folder goes, whatever the form was

    def on_file(part: "_Part") -> None:
        if part.field_name != FIELD.encode():
            raise Problem(400, f"the form has a part of another name than {FIELD}: give each file as {FIELD}=@FILE")
        if len(files) >= _MOST_FILES:
            raise Problem(400, f"the form has more than {_MOST_FILES:,} files: send them as one archive")
        part.file_object.seek(0)
        files.append(_written(part.file_object, upload.records, _decoded(part.file_name)))
        part.close()

    def on_field(_field: object) -> None:
        raise Problem(400, f"a part of the form is no file: send files alone, each called {FIELD}")

    try:
        # on_file takes what is used of a part; the parser's own type is a protocol with more
        parser = FormParser(FORM, on_field, on_file, boundary=options.get(b"boundary"), config=config)  # type: ignore[arg-type]
        with upload.body.open("rb") as body:
            while chunk := body.read(_CHUNK):
                parser.write(chunk)
        parser.finalize()
    except FormParserError:
        raise Problem(400, "the form is damaged, or is not multipart/form-data") from None
    if not files:
        raise Problem(400, f"the form has no file: send one or several, each called {FIELD}")
    return files


class _Part:
    """What is used of a part that python_multipart has read."""

    field_name: bytes | None
    file_name: bytes | None
    file_object: IO[bytes]

    def close(self) -> None:
        """Let go of its file."""


def _decoded(name: bytes | None) -> str:
    try:
        return (name or b"").decode()
    except UnicodeDecodeError:
        return (name or b"").decode("latin-1")


def _written(content: IO[bytes], folder: Path, name: str) -> Path:
    target = _place(folder, name)
    with target.open("xb") as file:
        while chunk := content.read(_CHUNK):
            file.write(chunk)
    return target


def _moved(body: Path, folder: Path, name: str) -> Path:
    target = _place(folder, name)
    folder.mkdir()
    return body.rename(target)


def _place(folder: Path, name: str) -> Path:
    """Return where a file of a name goes: always directly into the folder. Raises Problem."""
    last = PurePosixPath(name.replace("\\", "/")).name
    if last in ("", ".", "..") or not last.isprintable() or len(last.encode("utf-8", "replace")) > _LONGEST_NAME:
        raise Problem(400, "a file has no name that can be used: give a short one of letters, digits, dots and dashes")
    if (folder / last).exists():
        raise Problem(400, f"two files are called {last}: give each its own name, or send an archive")
    return folder / last


def _check_size(n_bytes: float, settings: Settings) -> None:
    if n_bytes > settings.max_prediction_mb * MEGABYTE:
        limit = named("max_prediction_mb", settings.max_prediction_mb)
        raise Problem(413, f"the upload is larger than one request for predictions may be: {limit}", "too-large")


def _not_written(error: OSError, settings: Settings) -> Problem:
    if error.errno in FULL:
        return disk_full(settings.min_free_mb)
    return Problem(503, f"the upload cannot be written to the store: {error.strerror}")
