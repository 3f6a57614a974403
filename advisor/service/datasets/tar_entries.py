"""The entries of a tar archive, packed or not, that may hold anything.

It is read forward once. tarfile itself takes a damaged header for the end, and a header's length for as much memory:
here the end has to be there, and no header may be large.
"""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Generator
from typing import IO, cast

from advisor.service.datasets.entries import Entry, damaged
from advisor.service.datasets.entry_names import shown
from advisor.service.datasets.limits import ArchiveError, Meter

DAMAGED = (
    tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError, LookupError,
    RecursionError, OverflowError,
)  # fmt: skip
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_LARGEST = 1_000_000  # bytes that are read at once; a header is much smaller
_CHUNK = 256 * 1024
_XZ_MEMORY = 256_000_000  # bytes; xz -9 takes 65 million


def tar_entries(file: IO[bytes], meter: Meter) -> Generator[Entry, None, None]:
    """Yield the files and folders of a tar. Raises ArchiveError."""
    packed = packing(file)
    try:
        reader = _Forward(_unpacked(file, packed), meter)
        with _opened(reader, packed) as opened:
            while (member := opened.next()) is not None:
                opened.members.clear()  # type: ignore[attr-defined]  # what has passed is not asked for again
                yield _entry(opened, member)
        if reader.last != bytes(tarfile.BLOCKSIZE):
            raise damaged(None)
        while reader.read(_CHUNK):  # the sums at the end are compared
            pass
    except DAMAGED as error:
        raise damaged(None) from error


def packing(file: IO[bytes]) -> str | None:
    """Return how a file is packed, by its first bytes; None for not at all."""
    first = file.read(6)
    file.seek(0)
    return next((name for magic, name in _MAGIC.items() if first.startswith(magic)), None)


def _unpacked(file: IO[bytes], packed: str | None) -> IO[bytes]:
    if packed == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb"))
    if packed == "bzip2":
        return bz2.BZ2File(file)
    return cast(IO[bytes], io.BufferedReader(_Xz(file))) if packed == "xz" else file


def _opened(reader: "_Forward", packed: str | None) -> tarfile.TarFile:
    try:
        return tarfile.TarFile(fileobj=cast(IO[bytes], reader), encoding="utf-8", errors="surrogateescape")
    except tarfile.ReadError as error:
        if packed is None:
            raise ArchiveError("what was uploaded is neither a zip nor a tar archive") from error
        raise ArchiveError(f"what was uploaded is {packed} of something that is no tar archive, or damaged") from error


def _entry(opened: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    if member.isdir():
        return Entry(member.name)
    if not member.isreg() or member.issparse():
        raise ArchiveError(f"{shown(member.name)} in the archive is a link, a device or sparse, not a plain file")
    return Entry(member.name, opened.extractfile(member), member.size)


class _Forward:
    """What comes out of a packed file, for tarfile to read and to skip; all of it is counted, nothing is kept."""

    def __init__(self, source: IO[bytes], meter: Meter) -> None:
        self._source, self._meter, self._position = source, meter, 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. Raises ArchiveError for more than any header has, and what ``Meter.read`` does."""
        if not 0 <= size <= _LARGEST:
            raise damaged(None)
        self.last = self._source.read(size)
        self._position += len(self.last)
        self._meter.read(len(self.last))
        return self.last

    def tell(self) -> int:
        """Return how many bytes have passed."""
        return self._position

    def seek(self, position: int, _whence: int = 0) -> int:
        """Skip to a place ahead, or to the end where it is nearer. Raises ArchiveError for one that has passed."""
        if position < self._position:
            raise damaged(None)
        while self._position < position and self.read(min(_CHUNK, position - self._position)):
            pass
        return self._position


class _Xz(io.RawIOBase):
    """An xz file, unpacked with a limit on memory, which lzma.open has not."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._unpacking = file, _xz()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # narrower: tarfile gives these
        data = b""
        while not data:
            if self._unpacking.eof and not self._begin_next():
                return 0
            packed = self._file.read(_CHUNK) if self._unpacking.needs_input else b""
            if self._unpacking.needs_input and not packed:
                raise EOFError
            data = self._unpacking.decompress(packed, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _begin_next(self) -> bool:
        """Whether another stream follows; zeros may lie between."""
        rest = self._unpacking.unused_data.lstrip(b"\0")
        while not rest and (more := self._file.read(_CHUNK)):
            rest = more.lstrip(b"\0")
        if not rest:
            return False
        self._file.seek(-len(rest), io.SEEK_CUR)
        self._unpacking = _xz()
        return True


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
