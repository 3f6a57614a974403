"""The entries of a zip archive that may hold anything."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path

from advisor.service.datasets.entries import Entry, damaged
from advisor.service.datasets.entry_names import shown
from advisor.service.datasets.limits import ArchiveError, Limits

DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, LookupError, NotImplementedError,
    OverflowError,
)  # fmt: skip
_ENTRY = b"PK\x01\x02"  # what an entry of the table at the end begins with
_LARGEST = 1_000_000  # bytes that are read at once, but for the table
_ENTRY_BYTES = 400  # of the table, an entry
_ENCRYPTED = 0x1
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack by as much at once as they like


def zip_entries(archive: Path, limits: Limits) -> Generator[Entry, None, None]:
    """Yield the files and folders of a zip. Raises ArchiveError."""
    try:
        with _Guarded(io.FileIO(archive), limits) as guarded, zipfile.ZipFile(guarded) as opened:
            if len(opened.infolist()) > limits.files:
                raise limits.too_many_files()
            for info in opened.infolist():
                yield _entry(opened, info)
    except DAMAGED as error:
        raise damaged(None) from error


def _entry(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    name = _name(info)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"{shown(name)} in the archive is a link or a device, not a file")
    if info.flag_bits & _ENCRYPTED:
        raise ArchiveError(f"{shown(name)} in the archive is encrypted: upload it without a password")
    if info.is_dir():
        return Entry(name)
    if info.compress_type not in _READ:
        raise ArchiveError(f"{shown(name)} in the archive is packed in a way that is not read: pack it with deflate")
    try:
        return Entry(name, opened.open(info), info.file_size)
    except DAMAGED as error:
        raise damaged(name) from error


def _name(info: zipfile.ZipInfo) -> str:
    """Return the whole name; macOS writes UTF-8 without saying so."""
    name = info.orig_filename
    if info.flag_bits & 0x800:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


class _Guarded(io.BufferedReader):
    """A file of which nobody reads so much at once that memory ends; the table's entries are counted before."""

    def __init__(self, raw: io.FileIO, limits: Limits) -> None:
        super().__init__(raw)
        self._limits, self._size = limits, raw.seek(0, io.SEEK_END)
        raw.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self.tell())
        n = left if size is None or size < 0 else min(size, left)
        if n > _LARGEST + self._limits.files * _ENTRY_BYTES:
            raise self._limits.too_many_files()
        data = super().read(n)
        if n > _LARGEST and data.count(_ENTRY) > self._limits.files:
            raise self._limits.too_many_files()
        return data
