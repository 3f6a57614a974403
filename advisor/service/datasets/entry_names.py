"""Names in archives: which of them may become files, and where."""

import re
import unicodedata
from pathlib import PurePosixPath

from advisor.service.datasets.limits import ArchiveError, Limits

_LONGEST_PART, _LONGEST = 255, 1000  # bytes
_SHOWN = 80  # characters
_DRIVE = re.compile(r"[A-Za-z]:")


class Names:
    """The names of one archive, none of which leaves its folder or takes the place of another.

    Names that differ in case or in how an accent is written alone are one file on some disks, so they are on all.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def take_folder(self, name: str) -> PurePosixPath | None:
        """Return a folder's path, None for the folder that all lies in. Raises ArchiveError."""
        path = safe_path(name)
        if not path.parts:
            return None
        self._enter(name, path)
        return path

    def take_file(self, name: str) -> PurePosixPath:
        """Return a file's path. Raises ArchiveError."""
        path = safe_path(name)
        if not path.parts:
            raise ArchiveError(f"{shown(name)} in the archive is a file without a name")
        self._enter(name, path.parent)
        key = _key(path)
        if key in self._files:
            raise ArchiveError(f"{shown(name)} is in the archive twice, or next to a name that differs in case alone")
        if key in self._folders:
            raise _both(name)
        self._files.add(key)
        self._count()
        return path

    def _enter(self, name: str, folder: PurePosixPath) -> None:
        for path in (folder, *folder.parents):
            if not path.parts or (key := _key(path)) in self._folders:
                return  # those above it are known too
            if key in self._files:
                raise _both(name)
            self._folders.add(key)
            self._count()

    def _count(self) -> None:
        if len(self._files) + len(self._folders) > self._limits.files:
            raise self._limits.too_many_files()


def safe_path(name: str) -> PurePosixPath:
    """Return the path below the archive's folder that an entry's name means. Raises ArchiveError."""
    if not name or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise ArchiveError(
            f"{shown(name)} in the archive has an empty name, or one with control characters or not in UTF-8"
        )
    if "\\" in name:
        raise ArchiveError(f"{shown(name)} in the archive has a backslash in its name: use / between folders")
    if name.startswith("/") or _DRIVE.match(name):
        raise ArchiveError(f"{shown(name)} in the archive is an absolute path: pack the folder with relative ones")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveError(f"{shown(name)} in the archive leads out of it by ..")
    if len(name.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in parts):
        raise ArchiveError(f"{shown(name)} in the archive has too long a name")
    return PurePosixPath(*parts)


def shown(name: str) -> str:
    """Return a name as a message shows it: quoted, escaped, of a bearable length."""
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


def _key(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def _both(name: str) -> ArchiveError:
    return ArchiveError(f"{shown(name)} is in the archive both as a file and as a folder")
