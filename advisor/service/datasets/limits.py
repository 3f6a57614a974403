"""How much an archive may bring: counted as it comes out, never believed from what the archive says of itself."""

import errno
from collections.abc import Callable
from dataclasses import dataclass

from advisor.service.problems import Problem
from advisor.service.settings import MEGABYTE, Settings
from models.errors import ExitCode, UserError

_LOOKED_EVERY = 8 * MEGABYTE  # bytes, between two looks at the disk
_BLOCK = 4096  # bytes that the smallest file takes on a disk
FULL = (errno.ENOSPC, errno.EDQUOT)  # what a disk says that can take no more


class ArchiveError(UserError):
    """An archive that is not taken; one sentence says why, and names the entry."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class Limits:
    """Megabytes and files that an archive may unpack to, and the megabytes that are left ``free`` on the disk.

    ``ratio`` is how many times its own size an archive may unpack to, once it has unpacked to ``ratio_from_mb``: waves
    of hearts are far from that, zeros without end are beyond it.
    """

    unpacked_mb: float
    files: int
    min_free_mb: float
    free_mb: Callable[[], float]
    ratio: float = 200.0
    ratio_from_mb: float = 50.0

    @classmethod
    def of(cls, settings: Settings, free_mb: Callable[[], float]) -> "Limits":
        """Return what the operator has decided."""
        return cls(settings.max_unpacked_mb, settings.max_files, settings.min_free_mb, free_mb)

    def check_disk(self, more_mb: float = 0.0) -> None:
        """Raise Problem where less would be free than the operator keeps, with ``more_mb`` on the disk."""
        if self.free_mb() - more_mb < self.min_free_mb:
            raise disk_full(self.min_free_mb)

    def too_many_files(self) -> ArchiveError:
        """Return what to say of an archive with too many entries."""
        return ArchiveError(f"the archive holds too many files and folders: {named('max_files', self.files)}")


class Meter:
    """Counts what one archive of ``packed`` bytes unpacks to, and stops it at a limit."""

    def __init__(self, limits: Limits, packed: int) -> None:
        self.limits, self.packed = limits, packed
        self.bytes, self._passed, self._unseen = 0, 0, 0

    def write(self, n: int) -> None:
        """Count bytes that are about to be written. Raises ArchiveError and Problem."""
        self.bytes += n
        self._check_ratio(self.bytes)
        if self.bytes > self.limits.unpacked_mb * MEGABYTE:
            raise self._too_large()
        self._on_disk(n)

    def begin_entry(self) -> None:
        """Count a file or folder, of whatever size. Raises Problem."""
        self._on_disk(_BLOCK)

    def read(self, n: int) -> None:
        """Count bytes that came out of the archive, written or not. Raises ArchiveError."""
        self._passed += n
        self._check_ratio(self._passed)
        if self._passed > self.limits.unpacked_mb * MEGABYTE + _BLOCK * self.limits.files:  # headers come on top
            raise self._too_large()

    def _check_ratio(self, n: int) -> None:
        limits = self.limits
        if n > max(limits.ratio_from_mb * MEGABYTE, limits.ratio * self.packed):
            raise ArchiveError(f"the archive unpacks to more than {limits.ratio:g} times its size, as no records do")

    def _too_large(self) -> ArchiveError:
        setting = named("max_unpacked_mb", self.limits.unpacked_mb)
        return ArchiveError(f"the archive unpacks to more megabytes than are allowed: {setting}")

    def _on_disk(self, n: int) -> None:
        self._unseen += n
        if self._unseen >= _LOOKED_EVERY:
            self._unseen = 0
            self.limits.check_disk()


def named(setting: str, value: float) -> str:
    """Return a limit as the operator knows it, with its value."""
    return f"--{setting.replace('_', '-')} (ECGADVISE_{setting.upper()}) is {value:.15g}"


def disk_full(least: float) -> Problem:
    """Return what to say where the disk has no room for more."""
    setting = named("min_free_mb", least)
    return Problem(507, f"the store's disk has no room for this, so it was not taken: {setting}", "disk-full")
