"""Which publisher's tree a directory is, told by its files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.records.folders import copied_from, walk
from engine.records.formats.described.told import FILE_NAME
from engine.records.formats.detect import formats_in_words
from engine.records.formats.recordings import WFDB, find_recordings
from engine.records.record import RecordError
from engine.records.wfdb_reader import read_header
from engine.sources import Source, SourceError, UnknownNameError, brugada_huca
from engine.sources.challenges import challenge2011, challenge2015, challenge2025
from engine.sources.challenges.challenge2017 import Challenge2017
from engine.sources.challenges.challenge2021 import SETS, Challenge, is_distributed_as, misfit, set_of
from engine.sources.code_test import TRACING_FILES, CodeTest
from engine.sources.ludb import Ludb
from engine.sources.own_directory import Directory, is_table
from engine.sources.ptb import Ptb, is_header
from engine.sources.ptbxl import PtbXl

OWN = "directory"
_CHAGAS = "chagas-2025"
_PUBLISHED_TABLES = {"conditionnames_snomed-ct.csv", "dx_mapping_scored.csv", "dx_mapping_unscored.csv"}  # of codes
_LOOKED_AT = 200  # headers, spread over the directory
_NAMED = 3
_MARKERS = {
    "ptbxl_database.csv": "ptb-xl",
    "REFERENCE-v3.csv": "challenge-2017",
    "ludb.csv": "ludb",
    f"set-a/{challenge2011.LISTS[1]}": "challenge-2011",
    challenge2011.LISTS[1]: "challenge-2011",
    f"training/{challenge2015.TABLE}": "challenge-2015",
    challenge2015.TABLE: "challenge-2015",
    **dict.fromkeys(TRACING_FILES, "code-test"),
}
_LOOKED_FOR = (
    "ptbxl_database.csv (PTB-XL), REFERENCE-v3.csv (Challenge 2017), ludb.csv (LUDB), patientNNN folders (PTB), "
    "ecg_tracings.hdf5 (CODE-test), metadata.csv (Brugada-HUCA), set-a/RECORDS-acceptable (Challenge 2011), "
    "training/ALARMS (Challenge 2015), .hea files anywhere (the 2020/2021 and 2025 Challenges, or your own records), "
    f"files in {formats_in_words()} anywhere, arrays or tables of samples that a {FILE_NAME} describes"
)


def _ptb(root: Path) -> Source:
    return Ptb(root) if any(is_header(path) for path in root.glob("patient*/*.hea")) else Challenge(root, "ptb")


_READERS: Mapping[str, Callable[[Path], Source]] = {
    "ptb-xl": PtbXl,
    "ptb-xl-500hz": partial(PtbXl, read_fs=500),
    "brugada-huca": brugada_huca.BrugadaHuca,
    "challenge-2011": challenge2011.Challenge2011,
    "challenge-2015": challenge2015.Challenge2015,
    "challenge-2017": Challenge2017,
    _CHAGAS: challenge2025.Challenge2025,
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


@dataclass(frozen=True)
class Recognised:
    """Which of ``source_names`` reads a directory, and in sentences what that was inferred from."""

    name: str
    said: tuple[str, ...] = ()


def recognise(root: Path, name: str | None = None) -> Recognised:
    """Return what reads a directory: the source of the given name, else the one that its files tell.

    Raises SourceError as ``open_source`` does.
    """
    if not root.is_dir():
        raise SourceError(f"{root} is not a directory")
    if name is None:
        return _recognise(root)
    if name not in _READERS:
        raise UnknownNameError(f"no set is named {name}; there are {', '.join(_READERS)}")
    return Recognised(name)


def open_source(root: Path, name: str | None = None) -> Source:
    """Return the source that a directory holds, or the one of the given name; ``inferred`` says what it was told by.

    A tree of the 2020/2021 Challenge may hold several sets: then one has to be named. Records that are named as those
    of a set, but are not in its form, are a user's own; what could be either has to be named too. ``directory`` reads
    any tree as a user's own. Raises SourceError that says what was looked for when nothing fits, and for a source
    whose tasks have no class.
    """
    recognised = recognise(root, name)
    source = _READERS[recognised.name](root)
    if not any(task.classes for task in source.tasks.values()):
        raise SourceError(f"{root} has no labels: no record of {source.name} has a statement that could be a class")
    source.inferred = (*recognised.said, *source.inferred)
    return source


def _recognise(root: Path) -> Recognised:
    tree = walk(root)
    if unread := [one for one in tree.not_entered if one.path == root]:
        raise SourceError(f"{root} cannot be read: {unread[0].reason}")
    marked = sorted({name for file, name in _MARKERS.items() if (root / file).is_file()})
    if any(is_header(path) for path in root.glob("patient*/*.hea")):
        marked.append("ptb")
    if brugada_huca.is_brugada_huca(root):
        marked.append("brugada-huca")
    tables = {path.name.lower() for path in root.iterdir() if is_table(path) and not path.is_dir()}
    if tables <= challenge2025.TABLES and _have_chagas_labels(root, tree.headers):
        marked.append(_CHAGAS)
    if len(marked) > 1:
        raise SourceError(f"{root} could be {' or '.join(marked)}: {_say_which(marked)}")
    if marked == [_CHAGAS]:
        said = f"taken for {_CHAGAS} by the Chagas labels in its headers; --source {OWN} reads it as your own"
        return Recognised(_CHAGAS, (said,))
    if marked:
        return Recognised(marked[0])
    others = sum(recording.format != WFDB for recording in find_recordings(tree).recordings)
    if not tree.headers and not others:
        left = f" ({'; '.join(tree.sentences[:_NAMED])})" if tree.sentences else ""
        raise SourceError(f"{root} holds no ECG records that are known here{left}; looked for {_LOOKED_FOR}")
    headers = [path for path in tree.headers if copied_from(path.stem) is None]
    sets = {set_of(path.stem) for path in headers}
    own_table = bool(tables - _PUBLISHED_TABLES)
    if None in sets or own_table or others or not sets:
        _refuse_parent_folder(root)
        named = " or ".join(f"--source {name}" for name in SETS if name in sets)
        if others and named and None not in sets and not own_table:
            has = f"{others:,} of its recordings are in other formats"
            return Recognised(OWN, (f"{has}: read as your own; {named} reads the WFDB records as that set",))
        return Recognised(OWN)
    return _told_by_headers(root, headers, [name for name in SETS if name in sets])


def _told_by_headers(root: Path, headers: list[Path], sets: list[str]) -> Recognised:
    """Tell a published set from records of one's own that are numbered alike, by the headers and their folder."""
    looked_at = _spread(headers)
    fits, misfits = 0, []
    for path in looked_at:
        try:
            reason = misfit(path, read_header(path.with_suffix("")))
        except RecordError:
            continue  # it speaks neither for nor against
        fits += reason is None
        if reason is not None:
            misfits.append(f"{path.stem}: {reason}")
    names, ways = ", ".join(sets), _say_which([*sets, OWN])
    if not fits:
        reason = f" ({misfits[0]})" if misfits else ""
        named = " or ".join(f"--source {name}" for name in sets)
        return Recognised(
            OWN, (f"named as {names}, but not in its form{reason}: read as your own; {named} reads them as that",)
        )
    if len(sets) > 1:
        raise SourceError(f"{root} holds {names}: {_say_which(sets)}; --source {OWN} reads all as your own")
    if misfits:
        raise SourceError(
            f"{root} could be {names}, by the names of its records, or your own: {len(misfits):,} of "
            f"{len(looked_at):,} headers looked at are not in that form ({misfits[0]}): {ways}"
        )
    if not all(is_distributed_as(sets[0], root, path) for path in looked_at):
        raise SourceError(
            f"{root} could be {names}, by its records' names and form, or your own: its folder does not say so; {ways}"
        )
    said = f"taken for {names} by the names of its folder and records; --source {OWN} reads it as your own"
    return Recognised(sets[0], (said,))


def _have_chagas_labels(root: Path, headers: list[Path]) -> bool:
    """Whether headers have the Challenge 2025's label. Raises SourceError where some have it and some do not."""
    found = [has for path in _spread(headers) if (has := challenge2025.has_label(path)) is not None]
    if any(found) and not all(found):
        _refuse_parent_folder(root)
        raise SourceError(
            f"{root} could be {_CHAGAS} or your own: {found.count(False):,} of {len(found):,} headers looked at have "
            f"no Chagas label: {_say_which([_CHAGAS, OWN])}"
        )
    return any(found)


def _spread(headers: list[Path]) -> list[Path]:
    return headers[:: max(1, len(headers) // _LOOKED_AT)]


def _say_which(names: Sequence[str]) -> str:
    return f"say which with {' or '.join(f'--source {name}' for name in names)}"


def _refuse_parent_folder(root: Path) -> None:
    """Raise SourceError where a publisher's tree lies in a folder of this one: its own labels would go unread."""
    trees = [(found.parent, name) for file, name in _MARKERS.items() for found in sorted(root.glob(f"*/{file}"))]
    tables = (path.parent for path in sorted(root.glob(f"*/{brugada_huca.TABLE}")))
    trees += [(folder, "brugada-huca") for folder in tables if brugada_huca.is_brugada_huca(folder)]
    for folder, name in trees:
        raise SourceError(f"{folder} is a {name} tree: point at that folder, not at {root}")
