"""A table's file as Excel, R and pandas write it: its encoding, its separator, its columns of cells.

Text is UTF-8, UTF-16 or Windows-1252; cells are separated by comma, semicolon, tab or bar, which a first line ``sep=;``
may say (Excel). A line of names that is one cell short stands over row numbers (R's ``write.table``).
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from engine.sources import SourceError
from engine.sources.own_tables.cells import clean
from models.errors import decoding_fault

SUFFIXES = (".csv", ".tsv")
OTHER_SUFFIXES = (
    ".xlsx",
    ".xls",
    ".xlsm",
    ".xlsb",
    ".ods",
    ".numbers",
    ".sav",
    ".dta",
    ".sas7bdat",
    ".rds",
    ".parquet",
)
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # zip (.xlsx, .ods) and OLE (.xls)
_SEPARATORS = ",;\t|"
_LOOKED_AT = 200  # rows that decide which separator it is
_UNNAMED = re.compile(r"unnamed \d+|Unnamed: \d+\S*|\.\.\.\d+")  # by place here, by pandas, by R's readr
_ROW_NUMBER_NAMES = {"index", "x", "v1", "row", "rownames", "rownumber"}


@dataclass(frozen=True)
class TableFile:
    """Cells by column, and for every row the line that it ends on. ``remark`` says what was odd about the file."""

    path: Path
    columns: dict[str, tuple[str, ...]]
    lines: tuple[int, ...]
    remark: str | None = None

    def counts_rows(self, name: str) -> bool:
        """Return whether a column without a telling name holds the numbers of the rows, as R and pandas write them."""
        cells = self.columns[name]
        unnamed = _UNNAMED.fullmatch(name) is not None
        if not unnamed and name.lower() not in _ROW_NUMBER_NAMES:
            return False
        if not all(re.fullmatch(r"\d{1,9}", cell, re.ASCII) for cell in cells):
            return False
        numbers = [int(cell) for cell in cells]
        if unnamed:
            return numbers[0] in {0, 1} and _increase(numbers)
        consecutive = numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
        return consecutive and len(numbers) > 2


def read_table(path: Path) -> TableFile:
    """Read a table's file. Raises SourceError for what is not one, and for a row with too few or too many cells."""
    text, remark = _text(path)
    first, _, rest = text.partition("\n")
    said = re.fullmatch(r'"?sep=(.)"?\r?', first)
    rows = _rows(path, rest, said[1]) if said else _rows(path, text, _separator(path, text))
    if said:
        rows = [(line + 1, row) for line, row in rows]
    if len(rows) < 2:
        raise SourceError(f"{path} has no rows below its line of column names")
    names, body = rows[0][1], rows[1:]
    if _has_row_names(names, body):
        names = ["", *names]
    names = _named(names, [row for _, row in body])
    repeated = sorted(name for name, times in Counter(names).items() if name and times > 1)
    if repeated:  # where there is no line of names, they may be a person's
        several = f"more than one column named {repeated[0]}" if len(repeated) == 1 else "columns of the same name"
        raise SourceError(f"{path} has {several}: every column needs a name of its own")
    for line, row in body:
        if len(row) < len(names) or any(row[len(names) :]):  # empty cells too many at the end mean nothing
            raise SourceError(f"{path}, line {line}: {len(row)} cells, but {len(names)} columns")
    columns = {name: tuple(row[k] for _, row in body) for k, name in enumerate(names) if name}
    return TableFile(path, columns, tuple(line for line, _ in body), remark)


def _text(path: Path) -> tuple[str, str | None]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    if content.startswith(_SPREADSHEETS):
        raise SourceError(f"{path} is a spreadsheet, which is not read: save it as CSV")
    remark = None
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = content.decode("utf-16")
        elif len(content) > 3 and b"\x00" in content[:4]:
            text = content.decode("utf-16-le" if content[1] == 0 else "utf-16-be")
        else:
            text, remark = _utf8_or_windows(path, content)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} cannot be read: {decoding_fault(error)}") from None
    if "\x00" in text:
        raise SourceError(f"{path} is not text: it has a zero byte")
    return text, remark


def _utf8_or_windows(path: Path, content: bytes) -> tuple[str, str | None]:
    try:
        return content.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        return content.decode("cp1252"), f"{path.name} is not UTF-8: read as Windows-1252"


def _separator(path: Path, text: str) -> str:
    """Return the separator that gives the most columns, those apart that most rows do not have."""
    first = text.lstrip("\r\n").partition("\n")[0]
    outcomes = {}
    for separator in (s for s in _SEPARATORS if s in first):
        try:
            rows = _rows(path, text, separator, _LOOKED_AT)
        except SourceError:
            continue
        n_columns = len(rows[0][1]) if rows else 0
        agreeing = sum(len(row) in {n_columns, n_columns + 1} for _, row in rows[1:])
        outcomes[separator] = (2 * agreeing > len(rows[1:]), n_columns)
    if not outcomes:
        return ","
    best = [separator for separator, outcome in outcomes.items() if outcome == max(outcomes.values())]
    if len(best) > 1 and outcomes[best[0]][1] > 1:
        spelled = " or ".join({"\t": "tab"}.get(separator, separator) for separator in best)
        raise SourceError(f"{path} could be separated by {spelled}: a first line sep={best[0]} says which")
    return best[0]


def _rows(path: Path, text: str, separator: str, at_most: int | None = None) -> list[tuple[int, list[str]]]:
    """Return the rows that have a cell, each with the line that it ends on, cells without white space around them."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = []
        for row in reader:
            if any(cell and not cell.isspace() for cell in row):
                rows.append((reader.line_num, [cell.strip() for cell in row]))
            if len(rows) == at_most:
                break
    except csv.Error as error:
        raise SourceError(f"{path} is not a table: {error} (line {reader.line_num})") from None
    return rows


def _has_row_names(names: Sequence[str], body: Sequence[tuple[int, Sequence[str]]]) -> bool:
    """Return whether every row begins with its number, for which the line of names has no cell (R)."""
    if any(len(row) != len(names) + 1 or not re.fullmatch(r"\d{1,9}", row[0], re.ASCII) for _, row in body):
        return False
    return _increase([int(row[0]) for _, row in body]) and any(row[-1] for _, row in body)


def _increase(numbers: Sequence[int]) -> bool:
    return all(a < b for a, b in pairwise(numbers))


def _named(names: list[str], rows: list[list[str]]) -> list[str]:
    """Name the columns that have cells and no name by where they stand, so that none is lost unsaid."""
    return [
        clean(name) or (f"unnamed {position + 1}" if any(row[position] for row in rows if len(row) > position) else "")
        for position, name in enumerate(names)
    ]
