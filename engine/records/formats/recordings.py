"""Every recording below a folder, whatever its format, by a name that tells it from the others."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from glob import escape
from pathlib import Path

from engine.records.file_content import read_content
from engine.records.folders import Tree
from engine.records.formats.contents import NOBODY, Contents, Person
from engine.records.formats.described import arrays, csv_signals
from engine.records.formats.described.told import FILE_NAME, Told, told
from engine.records.formats.detect import FORMATS, format_of, no_format
from engine.records.formats.xml_documents import fhir
from engine.records.lead_names import lead_names
from engine.records.record import LEADS, Record, RecordError
from engine.records.wfdb_header import decode
from engine.records.wfdb_reader import read_header, read_wfdb

WFDB, ARRAY, TABLE = "WFDB", "array", "table of samples"
_WFDB_SUFFIXES = (".hea", ".dat", ".mat")
_ARRAYS = (".npy", ".npz", ".h5", ".hdf5")
_TABLES = (".csv", ".tsv", ".txt", ".asc")
_FIRST_LINE = 4096  # bytes
_ABOUT_RECORDS = re.compile(
    r"(?:record|file|ecg|exam|study|patient|subject|person|participant|case)(?:s?(?:id|no|name|number|path|code))?|filenames?|id|path|"
    r"name|mrn|pid|pat(?:ient)?nr|label|diagnosis"
)
_OPENERS = {one.title: one.open for one in FORMATS.values()}
_FHIR = FORMATS["fhir"].title


@dataclass(frozen=True)
class Glance:
    """What is known of a recording without its samples: its leads, their names as written, and whose it is."""

    leads: tuple[str, ...]
    sound_leads: tuple[str, ...]
    names: tuple[str, ...]
    comments: tuple[str, ...] = ()
    person: Person = NOBODY


@dataclass(frozen=True)
class Recording:
    """One recording: its name, the file that it is read from (of WFDB without suffix), and its format in words.

    ``row`` is its place in a file of many; ``told`` what a description says of a file that does not say it.
    """

    record_id: str
    path: Path
    format: str = WFDB
    row: int | None = None
    told: Told | None = None

    def glance(self) -> Glance:
        """Look at everything but the samples. Raises RecordError for what cannot be read."""
        if self.format == WFDB:
            header = read_header(self.path)
            names = tuple(channel.name for channel in header.channels)
            return Glance(header.leads, header.sound_leads, names, header.comments)
        contents = self.contents()
        return Glance(contents.leads, contents.sound_leads, contents.leads, (), contents.person)

    def contents(self) -> Contents:
        """Open a recording that is not WFDB. Raises RecordError."""
        if self.format == ARRAY:
            return arrays.open_array(self.path, self.told, self.row)
        if self.format == TABLE:
            return csv_signals.open_csv_signals(self.path, self.told)
        if self.format == _FHIR and self.told is not None:
            return fhir.open_fhir(self.path, self.told.unit, self.told.zero or None)
        return _OPENERS[self.format](self.path)

    def read(self) -> Record:
        """Read the samples, in millivolt at the recording's own rate. Raises RecordError."""
        return read_wfdb(self.path) if self.format == WFDB else self.contents().record()


@dataclass(frozen=True)
class Found:
    """The recordings below a folder, by name, and the files of numbers of which nothing says what they are."""

    recordings: tuple[Recording, ...]
    untold: tuple[Path, ...] = ()

    @cached_property
    def by_format(self) -> dict[str, int]:
        """How many recordings are in each format, the most frequent first."""
        return dict(Counter(recording.format for recording in self.recordings).most_common())


def find_recordings(tree: Tree) -> Found:
    """Return every recording of a tree: WFDB headers, files in one of ``FORMATS``, and described files of numbers.

    A recording is named by its path without suffix; with it where two would have one name, and where it is no suffix
    (DICOM's ``1.2.840.1``). Arrays and tables are recordings only where a ``signals.toml`` or they themselves say what
    they hold: others are predictions, features, labels.
    """
    headers = (path.with_suffix("") for path in tree.headers)
    wfdb = [Recording(path.relative_to(tree.root).as_posix(), path) for path in headers]
    described = any(path.endswith(FILE_NAME) for path in tree.files)
    others, untold = [], []
    for path in (Path(file) for file in sorted(tree.files) if not file.endswith(_WFDB_SUFFIXES)):
        description = told(path, tree.root) if described else None
        form = _form(path, description)
        if form == ARRAY and description is None and not _tells_itself(path):
            untold.append(path)
        elif form is not None and not (form == TABLE and _is_about_records(path)):
            others.append(Recording(path.relative_to(tree.root).as_posix(), path, form, None, description))
    recordings = [*wfdb, *_with_names(others, {one.record_id for one in wfdb}, tree.root)]
    return Found(tuple(sorted(recordings, key=lambda one: Path(one.record_id).parts)), tuple(untold))


def _with_names(files: Sequence[Recording], taken: set[str], root: Path) -> Iterator[Recording]:
    """Yield the recordings of files that are named in full, by names that neither another nor WFDB's have."""
    short = [_without_suffix(one.path).relative_to(root).as_posix() for one in files]
    times = Counter([*short, *taken])
    for one, name in zip(files, short, strict=True):
        ways = (*([name] if times[name] == 1 else []), one.record_id, f"{name} ({one.format})")
        for rows in (_rows(replace(one, record_id=way)) for way in ways):
            names = {row.record_id for row in rows}
            if not taken & names:
                taken |= names
                yield from rows
                break


def recordings_in(file: Path) -> list[Recording]:
    """Return the recordings of one file, named by its path; of WFDB with or without a suffix, named without.

    A description in the file's folder, or above it, is used. Raises RecordError for a file in no format that is read.
    """
    if file.suffix in _WFDB_SUFFIXES or not file.is_file():
        bare = file.with_suffix("") if file.suffix in _WFDB_SUFFIXES else file
        is_header_there = bare.with_name(f"{bare.name}.hea").exists()
        if file.suffix in _WFDB_SUFFIXES or is_header_there or (named := _named_without_suffix(file)) is None:
            return [Recording(bare.as_posix(), bare)]
        return recordings_in(named)
    description = told(file.absolute(), Path(file.absolute().anchor))
    form = _form(file, description)
    if form is None and not file.with_name(f"{file.name}.hea").is_file():
        said = f"a table of samples needs a {FILE_NAME} next to it" if file.suffix.lower() in _TABLES else no_format()
        raise RecordError(said)
    return _rows(Recording(file.as_posix(), file, form or WFDB, None, description))


def _named_without_suffix(path: Path) -> Path | None:
    """Return the one file of a format that is read which has a name without its suffix, None where there is none.

    Raises RecordError where there are several, and where there is nothing of that name at all.
    """
    same = sorted(other for other in path.parent.glob(f"{escape(path.name)}.*") if other.is_file())
    found = [other for other in same if format_of(other) is not None]
    if len(found) > 1:
        raise RecordError(f"{', '.join(other.name for other in found)} have this name: give one with its suffix")
    if not same:
        raise RecordError("there is no such file or folder")
    return found[0] if found else None


def _form(path: Path, description: Told | None) -> str | None:
    suffix = path.suffix.lower()
    if suffix in _ARRAYS:
        return ARRAY
    if suffix in _TABLES:
        return TABLE if description is not None else None
    form = format_of(path)
    return None if form is None else FORMATS[form].title


def _tells_itself(path: Path) -> bool:
    """Whether an array's file says all that is needed: of others nothing is known, features or predictions perhaps."""
    try:
        arrays.open_array(path, None, 0 if arrays.list_records(path, None) else None)
    except RecordError:
        return False
    return True


def _is_about_records(path: Path) -> bool:
    """Whether a table names records or people, and is not of samples, though a pattern has its name, as ``*.csv``."""
    try:
        first = decode(read_content(path, 0, _FIRST_LINE)).partition("\n")[0]
    except RecordError:
        return False
    cells = {re.sub(r"[\W_]", "", cell).lower() for cell in re.split(r"[,;\t|]", first)}
    leads = set(lead_names(tuple(cells))) & set(LEADS)
    return not leads and any(_ABOUT_RECORDS.fullmatch(cell) for cell in cells)


def _without_suffix(path: Path) -> Path:
    return path if path.suffix[1:].isdigit() else path.with_suffix("")


def _rows(recording: Recording) -> list[Recording]:
    """Return a file's recordings: of an array of many, one for each; a damaged one is one, to fail when it is read."""
    if recording.format != ARRAY:
        return [recording]
    try:
        names = arrays.list_records(recording.path, recording.told)
    except RecordError:
        return [recording]
    named = ((row, f"{recording.record_id}/{name or f'row{row}'}") for row, name in enumerate(names))
    return [replace(recording, record_id=name, row=row) for row, name in named] or [recording]
