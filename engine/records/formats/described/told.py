"""``signals.toml``: what is told of files that do not say it themselves, tables of numbers above all.

A table for each pattern of file names, in a folder of the files or above them; the first that fits holds::

    ["*.csv"]
    fs = 500            # hertz
    unit = "uV"
    leads = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    scale = 1.0         # units in one count
    zero = 0            # the count that means no voltage

An array of many recordings may also have ``signals`` and ``ids``, the names of the arrays in the file that hold the
samples and the recordings' names. Nothing is guessed from samples: a wrong rate or unit would go unseen.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import printable, read_whole
from engine.records.lead_names import lead_names, leads_in_words
from engine.records.record import LEADS, RecordError
from engine.records.units import in_millivolt

FILE_NAME = "signals.toml"
_KEYS = ("fs", "unit", "leads", "scale", "zero", "ids", "signals")
_MAX_BYTES = 64_000
_MAX_LEADS = 1000
_SAME_RATE = 1e-6  # relative


@dataclass(frozen=True)
class Told:
    """What a table of ``signals.toml`` says: ``fs`` in hertz, a voltage is ``(count - zero) * scale`` in ``unit``."""

    fs: float | None = None
    unit: str | None = None
    leads: tuple[str, ...] | None = None
    scale: float = 1.0
    zero: float = 0.0
    ids: str | None = None
    signals: str | None = None


@dataclass(frozen=True)
class Description:
    """All that numbers need to be a recording: rate in hertz, unit, leads, and a count's scale in units and zero."""

    fs: float
    unit: str
    leads: tuple[str, ...]
    scale: float = 1.0
    zero: float = 0.0

    def millivolt(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """Return counts in millivolt, as float64."""
        factor = self.scale * (in_millivolt(self.unit) or np.nan)
        voltage: NDArray[np.float64] = (np.asarray(counts, np.float64) - self.zero) * factor
        return voltage


def told(path: Path, root: Path) -> Told | None:
    """Return what is told of a file, None where nothing is.

    The nearest ``signals.toml`` that has a pattern for the file holds, from its own folder up to ``root``. A pattern is
    compared with the file's name and with its path below the folder of ``signals.toml``, small and capital letters
    alike. Raises RecordError for a ``signals.toml`` that cannot be read.
    """
    for folder in _folders(path, root):
        file = folder / FILE_NAME
        try:
            status = file.stat()
        except (OSError, ValueError):
            continue
        names = path.name.lower(), path.relative_to(folder).as_posix().lower()
        for pattern, table in _tables(file, status.st_mtime_ns, status.st_size):
            if any(fnmatchcase(name, pattern.lower()) for name in names):
                return table
    return None


def describe(
    table: Told | None, fs: float | None = None, unit: str | None = None, leads: tuple[str, ...] | None = None
) -> Description:
    """Join what a file says of its samples with what is told of it, and return it complete.

    Raises RecordError where something is said in neither, or in both and differently, and for a unit that is not a
    voltage. Names in a file of which none is a lead of the twelve are no names of leads: those that are told hold.
    """
    table = table or Told()
    if leads is not None and table.leads is not None and not set(lead_names(leads)) & set(LEADS):
        leads = None
    if fs is not None and table.fs is not None and abs(fs - table.fs) > _SAME_RATE * table.fs:
        raise RecordError(f"it is sampled at {fs:g} Hz by itself and at {table.fs:g} Hz by {FILE_NAME}")
    if unit is not None and table.unit is not None and in_millivolt(unit) != in_millivolt(table.unit):
        raise RecordError(f"its unit is {printable(unit)} by itself and {printable(table.unit)} by {FILE_NAME}")
    if leads is not None and table.leads is not None and lead_names(leads) != lead_names(table.leads):
        raise RecordError(f"it names other leads, or in another order, than {FILE_NAME}")
    fs = table.fs if fs is None else fs
    unit = table.unit if unit is None else unit
    leads = table.leads if leads is None else leads
    if fs is None or unit is None or leads is None:
        missing = [
            word for word, value in (("unit", unit), ("sampling frequency", fs), ("leads", leads)) if value is None
        ]
        words = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
        are = "is" if missing in (["unit"], ["sampling frequency"]) else "are"
        raise RecordError(f"its {words} {are} told nowhere: say {_keys(missing)} in a {FILE_NAME} next to it")
    if in_millivolt(unit) is None:
        raise RecordError(f"its unit {printable(unit)} is not a voltage")
    return Description(fs, unit, lead_names(leads), table.scale, table.zero)


def count_leads(description: Description, n_columns: int) -> None:
    """Raise RecordError where leads are not as many as a file's columns."""
    if len(description.leads) != n_columns:
        count = "one column" if n_columns == 1 else f"{n_columns} columns"
        raise RecordError(f"it has {count} of numbers, and its leads are {leads_in_words(description.leads)}")


def _keys(missing: list[str]) -> str:
    return ", ".join({"sampling frequency": "fs"}.get(word, word) for word in missing)


def _folders(path: Path, root: Path) -> Iterator[Path]:
    """Yield the file's folder and those above it as far as ``root``."""
    for folder in path.parents:
        yield folder
        if folder == root or not folder.is_relative_to(root):
            return


@lru_cache(maxsize=64)
def _tables(file: Path, _changed: int, _size: int) -> tuple[tuple[str, Told], ...]:
    """Return the patterns and tables of a ``signals.toml``, in its order."""
    try:
        document = tomllib.loads(read_whole(file, _MAX_BYTES).decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        at = re.search(r"\(at (?:line \d+, column \d+|end of document)\)", str(error))  # the rest may quote a name
        raise RecordError(f"{file} is not TOML in UTF-8{f' {at[0]}' if at else ''}") from None
    return tuple((pattern, _table(file, pattern, values)) for pattern, values in document.items())


def _table(file: Path, pattern: str, values: object) -> Told:
    if not isinstance(values, dict):
        raise RecordError(
            f'{file}: "{printable(pattern)}" is outside a table; each begins with a pattern, as ["*.csv"]'
        )
    place = f'{file}, table "{printable(pattern)}"'
    for key in values:
        if key not in _KEYS:
            raise RecordError(f'{place}: the key "{printable(key)}" is unknown; known are {", ".join(_KEYS)}')
    fs, scale, zero = (_number(values, key, place) for key in ("fs", "scale", "zero"))
    unit, ids, signals = (_text(values, key, place) for key in ("unit", "ids", "signals"))
    if fs is not None and fs <= 0:
        raise RecordError(f'{place}: "fs" has to be above 0')
    if scale == 0:
        raise RecordError(f'{place}: "scale" cannot be 0')
    if unit is not None and in_millivolt(unit) is None:
        raise RecordError(f'{place}: "unit" has to be a voltage, as "uV" or "mV"')
    leads = _leads(values, place)
    return Told(fs, unit, leads, 1.0 if scale is None else scale, 0.0 if zero is None else zero, ids, signals)


def _number(values: dict[str, object], key: str, place: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError(f'{place}: "{key}" has to be a number')
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise RecordError(f'{place}: "{key}" has to be a finite number')
    return number


def _text(values: dict[str, object], key: str, place: str) -> str | None:
    value = values.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise RecordError(f'{place}: "{key}" has to be a text')
    return value


def _leads(values: dict[str, object], place: str) -> tuple[str, ...] | None:
    value = values.get("leads")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise RecordError(f'{place}: "leads" has to be a list of names')
    if not 0 < len(value) <= _MAX_LEADS:
        raise RecordError(f'{place}: "leads" has to hold between 1 and {_MAX_LEADS} names')
    return tuple(value)
