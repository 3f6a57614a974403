"""Which record on disk a table's cell names: by its path from the directory, by another path that ends in it, by name.

Names are compared in Unicode's composed form (NFC), since macOS writes file names decomposed, and in any case where
that is unique. A path that is not below the directory (``D:\\ECG\\export\\r0.dat``) names a record by its end, as long
as its folders and those on disk correspond one to one; that is said, with an example.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.sources.own_tables.cells import clean

_SUFFIXES = (".hea", ".dat", ".mat")
_EXAMPLES = 3
_DEEPEST = 30  # folders of a path that are compared


@dataclass(frozen=True)
class Located:
    """The record of every cell of a column, None where there is none or more than one; ``remark`` says what was odd."""

    records: tuple[str | None, ...]
    remark: str | None = None


class RecordNames:
    """The records below a directory, to be found by the cells of a table."""

    def __init__(self, root: Path, paths: Mapping[str, Path]) -> None:
        self._root = root
        self._records = list(paths)
        files = {record: path.relative_to(root).as_posix() for record, path in paths.items() if path.suffix}
        named = [(record, record) for record in paths]
        named += [(file, record) for record, file in files.items() if file != record]
        self._by_path = _Index(named)
        self._by_stem = _Index((_last(name), record) for name, record in named)
        self._bases = {_composed(base.as_posix()).rstrip("/") + "/" for base in (root.absolute(), root.resolve())}

    def __len__(self) -> int:
        return len(self._records)

    def locate(self, cells: Sequence[str]) -> Located:
        """Return the records that the cells of one column name."""
        found = [self.find(cell) for cell in cells]
        ends = {k: end for k, cell in enumerate(cells) if found[k] is None and (end := self._by_end(cell)) is not None}
        if not ends:
            return Located(tuple(found))
        folders = {(_folder(cells[k]), _folder(record)) for k, record in ends.items()}
        exact = {(_folder(cell), _folder(one)) for cell, one in zip(cells, found, strict=True) if one and "/" in cell}
        once = _one_to_one(folders | exact)
        taken = {k: record for k, record in ends.items() if (_folder(cells[k]), _folder(record)) in once}
        if not taken:
            return Located(tuple(found))
        record = next(iter(taken.values()))
        rows = "1 row names its record" if len(taken) == 1 else f"{len(taken):,} rows name their records"
        remark = f"{rows} by the end of a path, such as {record}"  # folders elsewhere may be named after a person
        return Located(tuple(taken.get(k, one) for k, one in enumerate(found)), remark)

    def find(self, cell: str) -> str | None:
        """Return the record that a cell names by a path from the directory, or by a file name that only one has."""
        for name in _without_suffix(cell):
            if (record := self._by_path.find(name)) is not None:
                return record
            path = _composed(name.replace("\\", "/"))
            for base in self._bases:
                path = path.removeprefix(base)
            path = "/".join(part for part in path.split("/") if part != ".")
            record = self._by_path.find(path) or (None if "/" in path else self._by_stem.find(path))
            if record is not None:
                return record
        return None

    def examples(self) -> str:
        """Return the names of the first few records, for a message."""
        first = sorted(self._records, key=lambda record: (len(record), record))[:_EXAMPLES]
        return ", ".join(first) + (", ..." if len(self._records) > _EXAMPLES else "")

    def nearly(self, cells: Iterable[str]) -> int:
        """Count the cells that would name one record without zeros at their start, or ``.0`` at their end."""
        bare = _Index((_bare(_last(record)), record) for record in self._records)
        return sum(any(bare.find(_bare(name)) for name in _without_suffix(cell)) for cell in cells)

    def _by_end(self, cell: str) -> str | None:
        for name in _without_suffix(cell):
            parts = _parts(name)[-_DEEPEST:]
            if len(parts) < 2:
                continue
            ends = ("/".join(parts[k:]) for k in range(1, len(parts)))
            record = next((one for end in ends if (one := self._by_path.find(end))), None)
            record = record or self._by_stem.find(parts[-1])
            if record is not None and not self._is_elsewhere("/".join(parts[:-1]), name, record):
                return record
        return None

    def _is_elsewhere(self, folder: str, name: str, record: str) -> bool:
        """Return whether a cell's folder is another one on this machine than the record's, so that it is not meant."""
        if ":" in folder or "\x00" in folder:
            return False
        root, own = self._root.absolute(), (self._root / record).parent
        folders = [Path("/" + folder)] if name.startswith("/") else [root / folder, root.parent / folder]
        try:
            return any(at.is_dir() and not at.samefile(own) for at in folders)
        except OSError:
            return False


class _Index:
    """Records by name: by the name itself, else in any case and without invisible characters, where only one has it."""

    def __init__(self, named: Iterable[tuple[str, str]]) -> None:
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._folded: dict[str, list[str]] = defaultdict(list)
        for name, record in named:
            self._exact[_composed(name)].append(record)
            self._folded[_folded(name)].append(record)

    def find(self, name: str) -> str | None:
        records = self._exact.get(_composed(name)) or self._folded.get(_folded(name)) or []
        return records[0] if len(records) == 1 else None


def _last(record: str) -> str:
    return record.rpartition("/")[2]


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return _composed(clean(text)).casefold()


def _bare(name: str) -> str:
    return re.sub(r"[.,]0+$", "", name).lstrip("0")


def _without_suffix(cell: str) -> list[str]:
    return [cell, *(cell[: -len(suffix)] for suffix in _SUFFIXES if cell.lower().endswith(suffix))]


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in {"", "."}]


def _folder(path: str) -> str:
    return "/".join(_parts(path)[:-1])


def _one_to_one(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the pairs whose either side is in no other pair."""
    left, right = defaultdict(set), defaultdict(set)
    for a, b in pairs:
        left[a].add(b)
        right[b].add(a)
    return {(a, b) for a, b in pairs if len(left[a]) == 1 and len(right[b]) == 1}
