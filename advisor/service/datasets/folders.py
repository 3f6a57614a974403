"""Folders of records that the operator lets be named: below one root, and nothing in them that leads out of it."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from advisor.service.datasets.entry_names import shown
from models.errors import ExitCode, UserError


class FolderError(UserError):
    """A folder that may not be named, or is not there; one sentence says which."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Folder:
    """A folder below the root, and the bytes of the files in it."""

    path: Path
    bytes: int


def find_folder(root: Path | None, relative: str) -> Folder:
    """Return the folder of a path relative to the operator's root. Raises FolderError."""
    if root is None:
        raise FolderError("no folder can be named here: the operator sets --records-root (ECGADVISE_RECORDS_ROOT)")
    is_absolute = relative.startswith(("/", "\\")) or bool(PureWindowsPath(relative).drive)
    if not relative or not relative.isprintable() or is_absolute or ".." in PurePosixPath(relative).parts:
        raise FolderError(f"{shown(relative)} cannot be named: give a folder relative to the operator's, without ..")
    try:
        top = root.resolve(strict=True)
        path = (top / relative).resolve()
        if not path.is_relative_to(top):
            raise FolderError(f"{shown(relative)} cannot be named: it leads out of the operator's folder")
        if not path.is_dir():
            raise FolderError(f"there is no folder {shown(relative)} in the operator's")
        return Folder(path, _measure(path, top))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise FolderError(f"{shown(relative)} cannot be read: {reason}") from None


def _measure(folder: Path, top: Path) -> int:
    """Return the bytes of all files. Raises FolderError for a link that leads out of ``top``, and OSError."""
    total = 0
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            if path.is_symlink() and not path.resolve().is_relative_to(top):
                inside = path.relative_to(folder).as_posix()
                raise FolderError(f"{shown(inside)} in the folder is a link that leads out of the operator's folder")
        total += sum(Path(where, name).lstat().st_size for name in files)
    return total
