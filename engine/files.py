"""Directories and files that appear complete or not at all."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from tempfile import TemporaryDirectory
from uuid import uuid4


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a new directory to write into, which takes the name ``target`` when the block ends without an error.

    A directory that has the name already is replaced then, and kept otherwise. What an error or Ctrl-C leaves
    unfinished is removed. Raises OSError where the directory cannot be made or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.parent / f".{target.name}.{uuid4().hex[:8]}"
    replaced = scratch.with_name(f"{scratch.name}.old")
    scratch.mkdir()
    try:
        yield scratch
        if target.exists():
            target.rename(replaced)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def check_writable(target: Path) -> None:
    """Find out early whether ``written_whole`` could write there. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    TemporaryDirectory(dir=target.parent).cleanup()


def check_files(paths: Iterable[Path]) -> None:
    """Find out early, and leave nothing behind, whether ``write_files`` could write these. Raises OSError."""
    for path in paths:
        mode = _mode(path)
        if mode is None or stat.S_ISREG(mode):  # one that is there is replaced by another in its folder
            folder = next(parent for parent in path.resolve().parents if parent.exists())
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{folder} is not a folder", str(path))
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, f"{folder} is not a folder that you may write to", str(path))


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that take their names once all are whole, the first of them last; one that is there is replaced.

    What is there and is not a file, as /dev/stdout, is written to; where a link points to, it stays a link. What an
    error or Ctrl-C leaves unfinished is removed. Raises OSError where one cannot be written or renamed.
    """
    scratch: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            mode = _mode(path)
            if mode is not None and not stat.S_ISREG(mode):
                path.write_bytes(content)
                continue
            target = path.resolve()
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch[target] = target.with_name(f".{target.name}.{uuid4().hex[:8]}")
            scratch[target].write_bytes(content)
        for target in reversed(scratch):
            scratch[target].replace(target)
    finally:
        for path in scratch.values():
            with suppress(OSError):  # what kept a file from being written may keep it from being looked for
                path.unlink(missing_ok=True)


def _mode(path: Path) -> int | None:
    """Return what is there under a name, None where nothing is. Raises OSError for a folder or an impossible name."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return mode


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
