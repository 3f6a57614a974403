"""CODE-test: 827 twelve-lead records of 827 patients of the Telehealth Network of Minas Gerais, in one HDF5 file.

``ecg_tracings.hdf5`` holds ``tracings``, (827, 4096, 12) at 400 Hz, leads I, II, III, aVR, aVL, aVF, V1 to V6. 4096
samples are 10.24 s, but **no record is that long**: each lasted 10 s (4000 samples) or 7 s (2800) and was filled up
with zeros, half of them before and half after (the set's README). By default the zeros are cut off, so that 7 s records
are reported as too short, as in any other set; ``padded=True`` keeps all 827 with the first 10 s of the padded trace,
as in Nguyen and Do (2025), zeros included. How many last 7 s is not published.

The unit is millivolt: the README's "scale 1e-4V" and its "V should be multiplied by 1000" contradict each other, and
the authors say "scaled as millivolts" when asked (github.com/antonior92/automatic-ecg-diagnosis, issue 3). Users of
the sister set CODE-15% report amplitudes about twice those of other sets.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from engine.records.record import LEADS, Record, RecordError
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import CODE_TEST
from engine.sources.tables import parse_age, parse_sex, read_rows

ABNORMALITIES = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")
TRACING_FILES = ("ecg_tracings.hdf5", "tracings.hdf5")
GOLD_STANDARD = Path("annotations", "gold_standard.csv")
_FS = 400.0
_N_SAMPLES = 4096
_DURATIONS = (2800, 4000)  # samples of the records before they were filled up


class CodeTest:
    """The CODE-test set in a directory. Raises SourceError when the directory is not one, or h5py is missing."""

    name, version, licence, url, citation = CODE_TEST
    inferred: tuple[str, ...] = ()
    leads: tuple[str, ...] = LEADS
    labels: tuple[str, ...] = ("NORM", *ABNORMALITIES)

    def __init__(self, root: Path, padded: bool = False) -> None:
        self._padded = padded
        file = next((root / name for name in TRACING_FILES if (root / name).is_file()), None)
        if file is None:
            raise SourceError(f"{root} is not a CODE-test set: it has no {' or '.join(TRACING_FILES)}")
        self._file = file
        self._rows = read_rows(root / GOLD_STANDARD, ABNORMALITIES, "CODE-test")
        attributes = root / "attributes.csv"
        self._people = read_rows(attributes, ("age", "sex"), "CODE-test") if attributes.is_file() else []
        shape = _open(self._file, lambda tracings: tuple(tracings.shape))
        if shape != (len(self._rows), _N_SAMPLES, len(LEADS)):
            raise SourceError(f"{self._file}: tracings has shape {shape}, not ({len(self._rows)}, {_N_SAMPLES}, 12)")
        if self._people and len(self._people) != len(self._rows):
            raise SourceError(f"{attributes} has {len(self._people)} rows, the gold standard {len(self._rows)}")
        self.tasks: Mapping[str, TaskDefinition] = {
            "paper": TaskDefinition("six abnormalities, NORM none of them", {name: [name] for name in self.labels})
        }

    def entries(self) -> list[Entry]:
        """List every tracing by its row, each its own patient. Raises SourceError for a label other than 0 or 1."""
        return [self._entry(row) for row in range(len(self._rows))]

    def read(self, entry: Entry) -> Record:
        """Read one tracing at 400 Hz. Raises RecordError."""
        try:
            samples = _open(entry.path, lambda tracings: np.asarray(tracings[int(entry.record_id)], np.float32))
        except SourceError as error:
            raise RecordError(str(error)) from None
        start, stop = _extent(samples)
        notes: tuple[str, ...] = ()
        if self._padded:
            notes = (f"{(stop - start) / _FS:g} s of signal between zeros",)
            start, stop = 0, len(samples)
        return Record(np.ascontiguousarray(samples[start:stop].T), _FS, LEADS, notes)

    def _entry(self, row: int) -> Entry:
        values = {name: self._rows[row][name].strip() for name in ABNORMALITIES}
        if not set(values.values()) <= {"0", "1"}:
            raise SourceError(f"{GOLD_STANDARD}, line {row + 2}: {', '.join(values.values())} are not all 0 or 1")
        found = frozenset(name for name, value in values.items() if value == "1") or frozenset(["NORM"])
        person = self._people[row] if self._people else {"age": "", "sex": ""}
        age, sex = parse_age(person["age"]), parse_sex(person["sex"])
        return Entry(str(row), self._file, str(row), found, age=age, sex=sex)


def _extent(samples: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[int, int]:
    """Return where the signal starts and stops in (samples, leads): the shorter of the two durations that holds it."""
    used = np.flatnonzero(samples.any(axis=1))
    if not len(used):
        raise RecordError("flat in every lead")
    for duration in _DURATIONS:
        start = (len(samples) - duration) // 2
        if start <= used[0] and used[-1] < start + duration:
            return start, start + duration
    return 0, len(samples)


def _open(file: Path, read: Callable[[Any], Any]) -> Any:
    """Call ``read`` with the file's ``tracings``. Raises SourceError."""
    try:
        h5py: Any = import_module("h5py")
    except ImportError:
        raise SourceError("reading CODE-test needs h5py: install it with pip install h5py") from None
    try:
        with h5py.File(file, "r") as opened:
            if "tracings" not in opened:
                raise SourceError(f"{file} holds no dataset named tracings")
            return read(opened["tracings"])
    except SourceError:
        raise
    except Exception as error:  # h5py passes on what the HDF5 library says, as OSError, KeyError or RuntimeError
        raise SourceError(f"{file} is damaged: {error}") from error
