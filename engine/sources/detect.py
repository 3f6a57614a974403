"""Which publisher's tree a directory is, told by its files."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from engine.records.wfdb_reader import header_files
from engine.sources import Source, SourceError, UnknownNameError
from engine.sources.challenge import SETS, Challenge, set_of
from engine.sources.challenge2017 import Challenge2017
from engine.sources.code_test import TRACING_FILES, CodeTest
from engine.sources.ludb import Ludb
from engine.sources.own_directory import Directory
from engine.sources.ptb import Ptb
from engine.sources.ptbxl import PtbXl

OWN = "directory"
_MARKERS = {
    "ptbxl_database.csv": "ptb-xl",
    "REFERENCE-v3.csv": "challenge-2017",
    "ludb.csv": "ludb",
    **dict.fromkeys(TRACING_FILES, "code-test"),
}
_LOOKED_FOR = (
    "ptbxl_database.csv (PTB-XL), REFERENCE-v3.csv (Challenge 2017), ludb.csv (LUDB), patientNNN folders (PTB), "
    "ecg_tracings.hdf5 (CODE-test), .hea files anywhere (the 2020/2021 Challenge, or your own records)"
)


def _ptb(root: Path) -> Source:
    return Ptb(root) if any(root.glob("patient*/*.hea")) else Challenge(root, "ptb")


_READERS: Mapping[str, Callable[[Path], Source]] = {
    "ptb-xl": PtbXl,
    "ptb-xl-500hz": partial(PtbXl, read_fs=500),
    "challenge-2017": Challenge2017,
    "ludb": Ludb,
    "code-test": CodeTest,
    "code-test-padded": partial(CodeTest, padded=True),
    **{name: partial(Challenge, name=name) for name in SETS},
    "ptb": _ptb,
    OWN: Directory,
}


def source_names() -> tuple[str, ...]:
    """Return the names that ``open_source`` takes."""
    return tuple(_READERS)


def recognise(root: Path, name: str | None = None) -> str:
    """Return which of ``source_names`` reads a directory: the given one, else the one that its files tell.

    Raises SourceError as ``open_source`` does.
    """
    if not root.is_dir():
        raise SourceError(f"{root} is not a directory")
    if name is None:
        return _recognise(root)
    if name not in _READERS:
        raise UnknownNameError(f"no set is named {name}; there are {', '.join(_READERS)}")
    return name


def open_source(root: Path, name: str | None = None) -> Source:
    """Return the source that a directory holds, or the one of the given name.

    A tree of the 2020/2021 Challenge may hold several sets: then one has to be named. ``directory`` reads any tree as a
    user's own. Raises SourceError that says what was looked for when nothing fits.
    """
    return _READERS[recognise(root, name)](root)


def _recognise(root: Path) -> str:
    marked = sorted({name for file, name in _MARKERS.items() if (root / file).is_file()})
    if any(root.glob("patient*/*.hea")):
        marked.append("ptb")
    if len(marked) > 1:
        raise SourceError(f"{root} could be {' or '.join(marked)}: {_say_which(marked)}")
    if marked:
        return marked[0]
    headers = header_files(root)
    if not headers:
        raise SourceError(f"{root} holds no ECG records that are known here; looked for {_LOOKED_FOR}")
    sets = {set_of(path.stem) for path in headers}
    own_table = any(path.suffix.lower() in {".csv", ".tsv"} for path in root.iterdir())
    if None in sets or own_table:
        _refuse_parent_folder(root)
        return OWN
    if len(sets) > 1:
        held = [name for name in SETS if name in sets]
        raise SourceError(f"{root} holds {', '.join(held)}: {_say_which(held)}")
    return str(sets.pop())


def _say_which(names: Sequence[str]) -> str:
    return f"say which with {' or '.join(f'--source {name}' for name in names)}"


def _refuse_parent_folder(root: Path) -> None:
    """Raise SourceError where a publisher's tree lies in a folder of this one: its own labels would go unread."""
    for file, name in _MARKERS.items():
        for found in sorted(root.glob(f"*/{file}")):
            raise SourceError(f"{found.parent} is a {name} tree: point at that folder, not at {root}")
