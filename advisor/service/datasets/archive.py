"""Unpack an archive from somebody whom nobody knows, completely or not at all."""

import shutil
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from advisor.service.datasets import tar_entries, zip_entries
from advisor.service.datasets.entries import Entry, damaged
from advisor.service.datasets.entry_names import Names
from advisor.service.datasets.limits import FULL, ArchiveError, Limits, Meter, disk_full
from advisor.service.store import ServiceStoreError

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # a first entry, or the end of an empty one
_CHUNK = 256 * 1024
_DAMAGED = (*tar_entries.DAMAGED, *zip_entries.DAMAGED)


@dataclass(frozen=True)
class Unpacked:
    """What an archive held, below ``root``."""

    root: Path
    files: int
    bytes: int


def unpack(archive: Path, into: Path, limits: Limits) -> Unpacked:
    """Unpack a zip or tar, told by its content, into a folder that is made; archives in it stay files.

    Times and modes are not taken over. Raises ArchiveError for what is damaged, too large or leads elsewhere, Problem
    where the disk has no room and ServiceStoreError where it cannot be written: then nothing of it is left.
    """
    meter = Meter(limits, archive.stat().st_size)
    limits.check_disk()
    into.mkdir(mode=0o700)
    try:
        with archive.open("rb") as file, closing(_entries(archive, file, meter)) as entries:
            files = _write(entries, into, meter)
        if not files:
            raise ArchiveError("the archive holds no file")
    except OSError as error:
        shutil.rmtree(into, ignore_errors=True)
        raise _unwritable(error, limits) from error
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise
    return Unpacked(into, files, meter.bytes)


def _entries(archive: Path, file: IO[bytes], meter: Meter) -> Generator[Entry, None, None]:
    if file.read(4) in _ZIP:
        return zip_entries.zip_entries(archive, meter.limits)
    file.seek(0)
    return tar_entries.tar_entries(file, meter)


def _write(entries: Generator[Entry, None, None], into: Path, meter: Meter) -> int:
    names, files = Names(meter.limits), 0
    for entry in entries:
        meter.begin_entry()
        if entry.content is None:
            if (folder := names.take_folder(entry.name)) is not None:
                (into / folder).mkdir(parents=True, exist_ok=True)
            continue
        target = into / names.take_file(entry.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_file(target, entry, entry.content, meter)
        files += 1
    return files


def _write_file(target: Path, entry: Entry, content: IO[bytes], meter: Meter) -> None:
    size = 0
    with content, target.open("xb") as file:  # never through a link, never over another
        while chunk := _read(entry, content):
            size += len(chunk)
            meter.write(len(chunk))
            file.write(chunk)
    if size != entry.size:
        raise damaged(entry.name)


def _read(entry: Entry, content: IO[bytes]) -> bytes:
    try:
        return content.read(_CHUNK)
    except _DAMAGED as error:
        raise damaged(entry.name) from error


def _unwritable(error: OSError, limits: Limits) -> Exception:
    if error.errno in FULL:
        return disk_full(limits.min_free_mb)
    return ServiceStoreError(f"the archive cannot be unpacked: {error.strerror}")
