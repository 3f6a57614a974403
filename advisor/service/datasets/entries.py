"""What an archive holds, one entry after the other, whatever kind of archive it is."""

from dataclasses import dataclass
from typing import IO

from advisor.service.datasets.entry_names import shown
from advisor.service.datasets.limits import ArchiveError


@dataclass(frozen=True)
class Entry:
    """A file with its ``content`` and the ``size`` that the archive says it has; a folder has neither."""

    name: str
    content: IO[bytes] | None = None
    size: int = 0


def damaged(name: str | None) -> ArchiveError:
    """Return what to say of an archive, or of an entry, that cannot be read to its end."""
    what = "the archive" if name is None else f"{shown(name)} in the archive"
    return ArchiveError(f"{what} is damaged or cut off: upload it again")
