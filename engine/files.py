"""Directories and files that appear complete or not at all, also after a power cut, one process writing at a time."""

import errno
import hashlib
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from models.errors import ExitCode, UserError

_SCRATCH = re.compile(r"\.[0-9a-f]{8}(\.old)?")  # what ``written_whole`` adds to a name
_SYNCED_AT_ONCE = 8  # files: those that wait together share a flush of the disk, 40 times as fast for small ones
_WITHOUT_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)  # a file system, or a pipe, that has none
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # a file system that has none: the user sees to it


class InUseError(UserError, RuntimeError):
    """A folder that another process is writing."""

    exit_code = ExitCode.FAILURE


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a new directory to write into, which takes the name ``target`` when the block ends without an error.

    A directory that has the name already is replaced then, and kept otherwise. What an error or Ctrl-C leaves
    unfinished is removed, and a power cut leaves one of the two whole. Raises OSError where the directory cannot be
    made, written to the disk or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.parent / f".{target.name}.{uuid4().hex[:8]}"
    replaced = scratch.with_name(f"{scratch.name}.old")
    scratch.mkdir()
    try:
        yield scratch
        sync_tree(scratch)
        if target.exists():
            target.rename(replaced)
        scratch.rename(target)
        sync(target.parent)
    finally:
        if replaced.exists() and not target.exists():  # an error or Ctrl-C between the two
            replaced.rename(target)
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Have all that is in a folder on the disk, so that a power cut takes nothing of it. Raises OSError.

    The folder's own name is its parent's: ``sync`` that where it is new. What links lead to is left alone.
    """
    from concurrent.futures import ThreadPoolExecutor

    paths = [folder]
    for parent, folders, files in os.walk(folder):
        paths += [Path(parent, name) for name in (*folders, *files)]
    parts = (paths[k::_SYNCED_AT_ONCE] for k in range(_SYNCED_AT_ONCE))
    with ThreadPoolExecutor(_SYNCED_AT_ONCE) as pool:
        for _ in pool.map(_sync_all, parts):
            pass  # but for what a part raises


def _sync_all(paths: Iterable[Path]) -> None:
    for path in paths:
        if stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR):
            sync(path)


def sync(path: Path) -> None:
    """Have a file's content, or the names in a folder, on the disk. Raises OSError.

    Where there is nothing of the kind (Windows, folders of some network file systems, a folder that may not be opened),
    the system sees to it in time.
    """
    if sys.platform == "win32":
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():  # one that may be written to and not listed: what was written to it is there
            return
        raise
    try:
        sync_open(handle)
    finally:
        os.close(handle)


def sync_open(handle: int) -> None:
    """Have what an open file or folder holds on the disk, as ``sync`` does by its name. Raises OSError."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _WITHOUT_SYNC:
            raise


def recover(target: Path) -> None:
    """Tidy up after a process that was killed while it wrote ``target`` by ``written_whole``; only under a claim.

    What it had moved away to make room gets its name back, and what it left unfinished is removed. Raises OSError.
    """
    for path in sorted(_left_of(target), key=lambda path: path.suffix != ".old"):
        if path.suffix == ".old" and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def is_begun(target: Path) -> bool:
    """Whether there is a folder, or what ``recover`` would look at."""
    return target.exists() or bool(_left_of(target))


def _left_of(target: Path) -> list[Path]:
    """Return what ``written_whole`` made next to a folder and has not removed."""
    near = target.parent.glob(f".{escape(target.name)}.*")
    return [path for path in near if _SCRATCH.fullmatch(path.name, 1 + len(target.name))]


@contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Keep a folder that is to be written to oneself, until the block ends; the folder need not be there.

    The claim is a lock on a file next to it, which ends with the process at the latest: a crash leaves the file behind
    and blocks nobody. Raises InUseError where another process or thread has it, OSError where it cannot be made.
    """
    real = target.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    path = real.parent / f".{real.name}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not lock(handle) or not _is_still_at(path, handle):
            raise InUseError(f"{target} is being written by another ecgadvise: let it end, or choose another folder")
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps what is open
                path.unlink()  # while it is locked: who has opened it meanwhile finds out that it has gone
    finally:
        os.close(handle)


def lock(handle: int) -> bool:
    """Lock an open file or folder until it is closed; return False where another has locked it.

    Where there are no locks, True. Raises OSError.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
    return True


def _is_still_at(path: Path, handle: int) -> bool:
    """Whether a path leads to the file that was opened there."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


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
    error or Ctrl-C leaves unfinished is removed, and a power cut leaves none in part. Raises OSError where one cannot
    be written or renamed.
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
            sync(scratch[target])
        for target in reversed(scratch):
            scratch[target].replace(target)
        for folder in {target.parent for target in scratch}:
            sync(folder)
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
