"""Text of numbers: a row for each sample, a column for each lead, with or without a line of the leads' names.

There is no definition of such files. What separates the numbers is told by the first row: a semicolon, a tab, a comma,
else white space; where it is not a comma, a comma may be the decimal mark. Lines of text before the numbers are titles,
names of the columns, and units of the columns; a title that says how many rows and columns follow ("Rhythm signal: 5000
X 12", as the text export of a MUSE system) is compared with what does. What the file does not say is told in
``signals.toml`` (``told.py`` next to this); a column of times or of row numbers is compared with the rate.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import read_whole
from engine.records.formats.contents import MAX_FILE_BYTES, Contents
from engine.records.formats.described.told import Description, Told, count_leads, describe
from engine.records.record import RecordError
from engine.records.units import in_millivolt
from engine.records.wfdb_header import decode

_MAX_TITLES = 100  # lines before the first numbers
_MAX_COLUMNS = 1000
_MAX_LINE = 100_000  # characters
_LONGEST = 200  # characters of a column's name
_BLOCK = 20_000  # lines that are numbers at one time
_MISSING = {"", "nan", "na", "n/a", "null", "none", "-", "--"}
_TIMES = re.compile(
    r"(?:(?:elapsed|relative) ?)?(?:date ?time|time ?stamp|time|zeit|uhrzeit|temps|tiempo|tempo|t)"
    r"(?: (?:s|ms|us|sec|seconds))?"
    r"|ms|s|sec|seconds|samples?(?: (?:no|number|index))?|n|index|idx|unnamed: 0|",
    re.IGNORECASE,
)
_SECONDS = ("s", "sec", "seconds", "ms", "milliseconds", "us")
_IN_BRACKETS = re.compile(r"(.*?)\s*[(\[]([^()\[\]]*)[)\]]")
_SIZE = re.compile(r".*[\s:](\d{1,9})\s*[xX]\s*(\d{1,4})")
_STATED = re.compile(
    r"\W*(?:(?:sampl\w*[ _-]*(?:rate|frequency|freq)|fs)(?:\W*\(\w+\))?\W+(?P<fs>\d+(?:\.\d+)?)"
    r"|units?\W+(?P<unit>[\w\u00b5\u03bc]+)).*",
    re.IGNORECASE,
)  # "Sample Rate,513.625 hertz", "# fs: 500", "Unit,uV"
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_TICKS = (1.0, 1e3, 1e6, 1e9)  # in a second, of a column of times
_SAME_STEP = 0.01  # relative


@dataclass(frozen=True)
class _Layout:
    """From line ``first`` (from 0) on are rows of numbers; the columns' names, unit and rate where they are stated."""

    first: int
    n_rows: int
    n_columns: int
    separator: str | None
    names: tuple[str, ...] | None
    unit: str | None
    fs: float | None

    @property
    def n_skipped(self) -> int:
        """Columns of times or row numbers before the leads."""
        return int(self.names is not None and _is_times(self.names[0]))


def open_csv_signals(path: Path, told: Told | None) -> Contents:
    """Open a text of numbers, (samples, leads) in the unit that it gives or that is told.

    An empty cell and NaN are missing samples. Raises RecordError where rate, unit or leads are told nowhere, or where
    the columns are not as many as the leads; ``decode`` raises it for a row that is not of numbers, or not as long as
    the first, by the number of its line.
    """
    text = decode(read_whole(path, MAX_FILE_BYTES)).replace("\r\n", "\n").replace("\r", "\n").rstrip(" \n")
    layout = _layout(text)
    names = layout.names[layout.n_skipped :] if layout.names is not None else None
    description = describe(told, layout.fs, layout.unit, names)
    count_leads(description, layout.n_columns - layout.n_skipped)
    return Contents(
        description.leads, description.fs, layout.n_rows, description.unit, lambda: _signals(text, layout, description)
    )


def _layout(text: str) -> _Layout:
    """Find the first row of numbers, and what the lines before it say."""
    before: list[str] = []
    for line in islice(StringIO(text), _MAX_TITLES):
        if len(line) > _MAX_LINE:
            break
        separator = _separator(line)
        cells = _cells(line, separator)
        if _is_row(cells, separator):
            break
        before.append(line)
    else:
        raise RecordError(f"there is no row of numbers in its first {_MAX_TITLES} lines")
    if not before and "\x00" in line:
        raise RecordError("it is not a text of numbers")
    if len(line) > _MAX_LINE or len(cells) > _MAX_COLUMNS:
        raise RecordError(f"its rows have more than {_MAX_COLUMNS:,} columns")
    titled = [named for title in before if any(named := [_bare(cell) for cell in _cells(title, separator)])]
    if not cells[-1].strip() and (not titled or len(titled[-1]) < len(cells) or not titled[-1][-1]):
        cells = cells[:-1]  # a separator at the end of each row
    while before and separator is not None and before[-1].strip() and set(before[-1]) <= {separator, " ", "\n"}:
        before.pop()  # samples that are missing in every lead
    n_rows = text.count("\n") + 1 - len(before)
    stated = _stated(before)
    for said in filter(None, (_SIZE.fullmatch(title.strip()) for title in before)):
        size = int(said[1]), int(said[2])
        if (size[0] == n_rows) != (size[1] == len(cells)):
            raise RecordError(f"it says {size[0]} x {size[1]} numbers and has {n_rows} x {len(cells)}")
    names, unit = _names(titled, len(cells))
    return _Layout(len(before), n_rows, len(cells), separator, names, unit or stated.unit, stated.fs)


def _stated(titles: list[str]) -> Told:
    """Return the rate and the unit that lines before the numbers state."""
    fs = unit = None
    for found in filter(None, (_STATED.fullmatch(title.strip()) for title in titles)):
        fs = float(found["fs"]) if found["fs"] else fs
        unit = found["unit"] if found["unit"] and _unit(found["unit"]) is not None else unit
    return Told(fs=fs, unit=unit)


def _names(titled: list[list[str]], n_columns: int) -> tuple[tuple[str, ...] | None, str | None]:
    """Return the columns' names, and the unit that stands in them, ``V1 (uV)``, or in a line below them."""
    ends: list[list[str]] = [[], [""]]  # nothing, or a separator at the end of the line
    fitting = [cells[:n_columns] for cells in titled if len(cells) >= n_columns and cells[n_columns:] in ends]
    if not fitting or len(titled[-1]) < n_columns:
        return None, None
    names, units = fitting[-1], [""] * n_columns
    if len(fitting) > 1 and all(
        _unit(cell) is not None or _bare_unit(cell).lower() in ("", *_SECONDS) for cell in names
    ):
        names, units = fitting[-2], [_bare_unit(cell) for cell in names]
    within = [_IN_BRACKETS.fullmatch(name) for name in names]
    units = [match[2] if match and _unit(match[2]) else unit for match, unit in zip(within, units, strict=True)]
    names = [match[1] if match and _unit(match[2]) else name for match, name in zip(within, names, strict=True)]
    voltages = {_unit(unit): unit for unit in units if _unit(unit)}
    if len(voltages) > 1:
        raise RecordError("its columns are in different units")
    return (tuple(names) if not _count_columns(names) else None), next(iter(voltages.values()), None)


def _bare(cell: str) -> str:
    return cell.strip("'\"# \t\n")[:_LONGEST]


def _bare_unit(text: str) -> str:
    return text.strip("()[] ")


def _unit(text: str) -> float | None:
    return in_millivolt(_bare_unit(text))


def _is_times(name: str) -> bool:
    within = _IN_BRACKETS.fullmatch(name)
    return _TIMES.fullmatch((within[1] if within else name).strip("# _").replace("_", " ")) is not None


def _separator(line: str) -> str | None:
    """Return what separates a row's cells, None for white space."""
    for separator in (";", "\t"):
        if separator in line:
            return separator
    words = line.split()
    if "," not in line or (len(words) > 1 and all(_DECIMAL_COMMA.fullmatch(word) for word in words)):
        return None
    return ","


def _cells(line: str, separator: str | None) -> list[str]:
    return line.split() if separator is None else line.rstrip("\n").split(separator)


def _is_row(cells: list[str], separator: str | None) -> bool:
    """Return whether a line is a row of numbers, of which the first may be a time that is no number."""
    return not _count_columns(cells) and any(
        any(map(str.strip, numbers)) and all(_is_number(cell, separator) for cell in numbers)
        for numbers in (cells, cells[1:] if any(map(str.isdigit, "".join(cells[:1]))) else [])
    )


def _is_number(cell: str, separator: str | None) -> bool:
    try:
        _number(cell if separator == "," else cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _count_columns(cells: list[str]) -> bool:
    """Return whether a line numbers the columns, from 0 or 1, as tables without names are written."""
    stripped = [_bare(cell) for cell in cells]
    return len(cells) > 3 and any(stripped == [str(k + first) for k in range(len(cells))] for first in (0, 1))


def _signals(text: str, layout: _Layout, description: Description) -> NDArray[np.float64]:
    numbers = np.empty((layout.n_rows, layout.n_columns))
    start = 0
    for block in _blocks(text, layout):
        numbers[start : start + len(block)] = block
        start += len(block)
    if layout.n_skipped:
        _check_times(numbers[:, 0], description.fs)
    return np.ascontiguousarray(description.millivolt(numbers[:, layout.n_skipped :]).T)


def _blocks(text: str, layout: _Layout) -> Iterator[NDArray[np.float64]]:
    lines = islice(StringIO(text), layout.first, None)
    number = layout.first + 1  # of the block's first line
    n_columns = layout.n_columns
    while block := list(islice(lines, _BLOCK)):
        rows = [_cells(line, layout.separator) for line in block]
        for k, row in enumerate(rows):
            if len(row) == n_columns + 1 and not row[-1].strip():
                del row[-1]
            if len(row) != n_columns:
                raise RecordError(f"line {number + k} has {len(row)} cells, the first row of numbers {n_columns}")
            if layout.n_skipped:
                row[0] = _time(row[0])
        odd = any("_" in line for line in block)  # float would read it
        if layout.separator != "," and any("," in line for line in block):
            if any("." in cell for row in rows for cell in row[layout.n_skipped :]):
                raise RecordError("it has both decimal points and decimal commas")
            rows = [[cell.replace(",", ".") for cell in row] for row in rows]
        yield _numbers(rows, number, odd).reshape(len(rows), n_columns)
        number += len(block)


def _numbers(rows: list[list[str]], number: int, odd: bool) -> NDArray[np.float64]:
    if not odd:
        with suppress(ValueError):  # an empty cell or quotes, which the slow way reads, or no number, which it names
            return np.array(list(map(float, chain.from_iterable(rows))))
    values: list[float] = []
    for k, row in enumerate(rows):
        try:
            values += map(_number, row)
        except ValueError:
            raise RecordError(f"line {number + k} is not of numbers") from None
    return np.array(values)


def _number(cell: str) -> float:
    plain = cell.strip(" \t\"'")
    if "_" in plain:
        raise ValueError
    return np.nan if plain.lower() in _MISSING else float(plain)


def _time(cell: str) -> str:
    """Return a cell of times where it is a number; a time of the day cannot be compared."""
    return cell if _is_number(cell, None) else "nan"


def _check_times(times: NDArray[np.float64], fs: float) -> None:
    """Raise RecordError where a column of times, in s, ms, us, ns or samples, contradicts the rate."""
    if len(times) < 2 or np.isnan(times).any():
        return
    step = (times[-1] - times[0]) / (len(times) - 1)
    if not any(abs(step - expected) <= _SAME_STEP * expected for expected in (1.0, *(tick / fs for tick in _TICKS))):
        raise RecordError(f"its column of times contradicts the sampling frequency of {fs:g} Hz")
