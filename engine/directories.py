"""Directories and files that appear complete or not at all."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EISDIR
from pathlib import Path
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


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that take their names once all are whole, the first of them last; one that is there is replaced.

    What an error or Ctrl-C leaves unfinished is removed. Raises OSError where one cannot be written or renamed.
    """
    scratch: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            if not path.name:  # "", ".", "/": a folder, which with_name cannot name
                raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch[path] = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
            scratch[path].write_bytes(content)
        for path in reversed(scratch):
            scratch[path].replace(path)
    finally:
        for path in scratch.values():
            with suppress(OSError):  # what kept a file from being written may keep it from being looked for
                path.unlink(missing_ok=True)
