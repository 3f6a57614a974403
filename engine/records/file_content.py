"""The bytes of a recording's files: what cannot be read is said in a sentence, and nothing is waited for."""

from errno import EINVAL
from pathlib import Path
from stat import S_ISREG

from engine.records.record import RecordError


def read_content(file: Path, offset: int, n_bytes: int) -> bytes:
    """Return up to ``n_bytes`` of a file; a header may ask for more than there is, so that its size is asked first."""
    size = file_size(file)
    try:
        with file.open("rb") as opened:
            opened.seek(offset)
            return opened.read(min(n_bytes, size))
    except OSError as error:
        raise RecordError(f"unreadable: {printable(file.name)}: {error.strerror or error}") from None


def read_whole(file: Path, at_most: int) -> bytes:
    """Return all of a file. Raises RecordError, also for one of more than ``at_most`` bytes."""
    size = file_size(file)
    if size > at_most:
        raise RecordError(f"{size / 1e6:,.0f} MB: more than any recording of its kind has ({at_most / 1e6:,.0f} MB)")
    return read_content(file, 0, size)


def file_size(file: Path) -> int:
    """Return a file's size in bytes. Raises RecordError for what is not there, and for a pipe or a folder."""
    try:
        status = file.stat()
        if not S_ISREG(status.st_mode):
            raise OSError(EINVAL, "is not a file")
    except FileNotFoundError:
        raise RecordError(f"file missing: {printable(file.name)}") from None
    except OSError as error:
        raise RecordError(f"unreadable: {printable(file.name)}: {error.strerror or error}") from None
    except ValueError as error:  # a file name with a null character
        raise RecordError(f"unreadable: {error}") from None
    return status.st_size


def printable(text: str) -> str:
    """Return the first 40 characters of a text for a message that ``str.format`` may be asked to fill."""
    return "".join(letter if letter.isprintable() and letter not in "{}" else "?" for letter in text[:40])
