"""Store files: one that is packed with xz, what several are called, and their runs, each of them once.

A store that ships is packed (``studies.collection.packed_store``): ``study.db.xz``. Whatever reads a store reads it as
it is, unpacked in memory; what writes into one asks for the SQLite file.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.errors import ExitCode, UserError
from studies.runs.run import Run, known

STORE = "study.db"  # what a store is called that lies in a folder of its own
_PACKED = ".xz"
_MOST = 1 << 30  # bytes: what SQLite takes in memory
_SQLITE = b"SQLite format 3\0"
_WITH_LOG, _WITHOUT_LOG = b"\x02\x02", b"\x01\x01"  # of SQLite's header: how the file is written and read
_MODES = slice(18, 20)


class PackedError(UserError, ValueError):
    """A packed store that cannot be unpacked; a phrase says why."""

    exit_code = ExitCode.DATA


def is_packed(path: Path) -> bool:
    """Whether a path names a packed store, as ``study.db.xz``."""
    return path.suffix == _PACKED


def without_packing(path: Path) -> Path:
    """Return the path that a store has, or would have, when it is not packed."""
    return path.with_suffix("") if is_packed(path) else path


def store_in(folder: Path) -> Path | None:
    """Return the store of a folder that has one: ``study.db``, else ``study.db.xz``."""
    paths = folder / STORE, folder / f"{STORE}{_PACKED}"
    return next((path for path in paths if path.is_file()), None)


def is_store(path: Path) -> bool:
    """Say whether a file is a SQLite file, as study stores are, or named as a packed one. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE or is_packed(path)


def open_packed(path: Path) -> sqlite3.Connection:
    """Open a packed store, to be read: in memory, which leaves no file behind. Raises PackedError and OSError."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(_unpack(path))
    connection.execute("PRAGMA query_only = ON")
    return connection


def _unpack(path: Path) -> bytes:
    """Return the SQLite file that is packed, as one without a write-ahead log."""
    import lzma  # here, because a Python may have been built without, and most stores need none

    try:
        with lzma.open(path) as file:
            content = file.read(_MOST + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise PackedError(f"it is damaged ({error}): put a copy back") from None
    if not content.startswith(_SQLITE):
        raise PackedError("what is packed is not a study store")
    if len(content) > _MOST:
        raise PackedError(f"it is too large to be read packed: {how_to_unpack(path)}")
    if content[_MODES] != _WITH_LOG:
        return content
    return content[: _MODES.start] + _WITHOUT_LOG + content[_MODES.stop :]  # no log can lie next to it in memory


def how_to_unpack(path: Path) -> str:
    """Say how to get the SQLite file of a packed store, and under which name."""
    return f"unpack it with: xz -dk {path}, and name {without_packing(path)}"


def name_stores(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the stores by names that tell them apart; one that is given twice is there once.

    A store is called what ``name_of`` says or, where another one is called the same, by as much of the end of its path
    as no other path ends in.
    """
    stores = {path.resolve(): path for path in paths}.values()
    places = [path.absolute() for path in stores]
    called = Counter(map(name_of, places))
    names = [name_of(place) if called[name_of(place)] == 1 else _own_end(place, places) for place in places]
    return dict(zip(names, stores, strict=True))


def name_of(store: Path) -> str:
    """Return what a store is called: its folder's name where all stores are called the same."""
    store = without_packing(store)
    return store.parent.name if store.stem == "study" and store.parent.name else store.stem


def _own_end(place: Path, places: Sequence[Path]) -> str:
    """Return the shortest end of a path, at least a folder and a name, that no other path has."""
    ends = (place.parts[-length:] for length in range(2, len(place.parts)))
    own = (end for end in ends if sum(other.parts[-len(end) :] == end for other in places) == 1)
    return Path(*next(own, place.parts)).as_posix()


def distinct_runs(runs: Mapping[Path, Sequence[Run]]) -> list[tuple[Path, Run]]:
    """Return the runs of several stores with the store of each; one that several hold counts once, in the first.

    A key does not say what a run was trained in: the same one in another precision is another run.
    """
    found: dict[tuple[str, str | None], tuple[Path, Run]] = {}
    for store, of_store in runs.items():
        for run in of_store:
            found.setdefault((known(run.key), run.precision), (store, run))
    return list(found.values())
