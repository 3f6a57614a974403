"""Stores that come from other machines: what is copied of them, and one that travels in parts of a few megabytes.

A folder that a machine without a network brings back holds ``study.db``, a store whose table of test predictions is
empty; ``probabilities-1.db`` and so on, with that table alone (named when it held probabilities, of which those of an
older version are still read); and ``networks.zip``, the pre-trained networks.
``split_store`` writes it, ``bring_together`` takes it as it takes a store.
"""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

from studies.running.study_networks import copy_networks, folder_of, read_files, write_files
from studies.runs.run import COLUMNS, Run, is_score_column
from studies.runs.store import Predictions, Store, StoreError, predictions_table
from studies.runs.store_files import STORE, store_in

PREDICTIONS, NETWORKS = "probabilities-{}.db", "networks.zip"
LIMIT = 15_000_000  # bytes of a part
_PAGE = 4096  # bytes of SQLite's unit: a blob takes whole ones, and its row some of another
_TABLE = (
    "CREATE TABLE predictions (key TEXT PRIMARY KEY, records INTEGER NOT NULL, classes INTEGER NOT NULL, "
    "kind TEXT NOT NULL, zlib BLOB NOT NULL) STRICT"
)


def split_store(store: Path, out: Path, limit: int = LIMIT) -> list[Path]:
    """Write a store in parts into ``out`` and return their paths; those of an earlier split there are replaced.

    The store is only read, so that a runner may have it open. A part of the predictions has ``limit`` bytes at most,
    or a single run. Raises StoreError for a store that cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=".split-") as name, closing(Store(store, create=False)) as opened:
        scratch = Path(name)
        opened.copy_without_predictions(scratch / STORE)
        for number, rows in enumerate(_parts(opened.predictions(), limit), start=1):
            _write_part(scratch / PREDICTIONS.format(number), rows)
        if folder_of(store).is_dir():
            _zip_networks(folder_of(store), scratch / NETWORKS)
        written = sorted(scratch.iterdir())
        for old in {*out.glob(PREDICTIONS.format("*")), out / NETWORKS} - {out / path.name for path in written}:
            old.unlink(missing_ok=True)
        return [path.replace(out / path.name) for path in written]


def _parts(rows: Iterator[Predictions], limit: int) -> Iterator[list[Predictions]]:
    part: list[Predictions] = []
    size = 4 * _PAGE
    for row in rows:
        takes = (len(row.zlib) // _PAGE + 2) * _PAGE
        if part and size + takes > limit:
            yield part
            part, size = [], 4 * _PAGE
        part.append(row)
        size += takes
    if part:
        yield part


def _write_part(path: Path, rows: Sequence[Predictions]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_TABLE)
        connection.executemany("INSERT INTO predictions VALUES (?, ?, ?, ?, ?)", rows)


def _zip_networks(folder: Path, path: Path) -> None:
    with ZipFile(path, "w") as archive:  # stored as they are: weights do not get smaller
        for network in sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")):
            for name, content in read_files(network).items():
                archive.writestr(f"{network.name}/{name}", content)


def bring_together(path: Path, others: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Copy what other stores hold, or folders of ``split_store``, into the store at ``path``, which is made if need be.

    A run that both hold stays as it is at ``path``. A key does not say in what a run was trained, so that one machine
    may have made a run in float32 and another the same one in bf16; a store has one run of a key. So a run that
    ``path`` has in another precision, and one that started from a network that it has in another precision, stays where
    it is; these are returned, each once, to be counted with those of ``path``, and sentences that say what was done.
    Networks and predictions that ``path`` lacks of the very run that another store holds are taken. Raises StoreError
    for a store that cannot be read, before anything is written, and for a damaged part.
    """
    opened = [Store(_store_of(other), create=False) for other in others]  # all, before anything is written
    apart: dict[tuple[str | None, str | None], Run] = {}
    said: list[str] = []
    with closing(Store(path)) as store:
        for other, source in zip(others, opened, strict=True):
            keys, staying = _sort_out(store, source)
            n_shared = len(source.keys()) - len(keys) - len(staying)
            parts, same = _predictions_next_to(source.path), _same_runs(store, source)
            copy_networks(folder_of(source.path), folder_of(path), [*keys, *same])
            _unzip_networks(source.path.with_name(NETWORKS), folder_of(path), [*keys, *same])
            store.merge(source, keys, parts)
            lacking = set(store.lacking_predictions()).intersection(same)
            rows = (source.raw(key)[1] or parts.get(key) for key in sorted(lacking))
            store.add_predictions([row for row in rows if row is not None])
            new = {(run.key, run.precision): run for run in staying if (run.key, run.precision) not in apart}
            apart |= new
            said += _said(path, other, len(keys), n_shared, len(new))
            source.close()
        said += _lacking(store)
    return list(apart.values()), said


def _store_of(other: Path) -> Path:
    """Return the store that a path names, or that its folder holds. Raises StoreError for a folder without one."""
    if not other.is_dir():
        return other
    if (store := store_in(other)) is None:
        raise StoreError(f"the folder {other} holds no {STORE}: bring it again, or name the store itself")
    return store


def _same_runs(store: Store, other: Store) -> list[str]:
    """Return the keys of what both hold and is not only of one key but one run, made once.

    All columns are equal then, but for the scores, which one of the stores may have by another rule.
    """
    made = [place for place, name in enumerate(COLUMNS) if not is_score_column(name)]

    def facts(of: Store, key: str) -> list[Any]:
        row, _ = of.raw(key)
        return [row[place] for place in made]

    return [key for key in sorted(store.keys() & other.keys()) if facts(store, key) == facts(other, key)]


def _sort_out(store: Store, other: Store) -> tuple[list[str], list[Run]]:
    """Return the keys of the runs to copy from another store, and its runs that stay there."""
    here, there = store.precisions(), other.precisions()
    clashing = {key for key, precision in there.items() if key in here and here[key] != precision}
    if not clashing:
        return store.missing_from(other), []
    staying = [run for run in other.runs() if run.key in clashing or run.start_from in clashing]
    named = {run.key for run in staying}
    return [key for key in store.missing_from(other) if key not in named], staying


def _said(path: Path, other: Path, copied: int, shared: int, staying: int) -> list[str]:
    known = f", {shared} that {path} has already left out" if shared else ""
    said = [f"{copied} runs copied from {other}{known}"]
    if staying:
        said.append(
            f"{staying} runs of {other} count but are not copied: {path} has them, or the network that they start "
            f"from, in another precision; name {other} again the next time"
        )
    return said


def _lacking(store: Store) -> list[str]:
    folder = folder_of(store.path)
    said = []
    if networks := [key for key in store.pretrainings() if not (folder / key).is_dir()]:
        said.append(f"{folder} lacks {len(networks)} pre-trained networks, {networks[0]} first")
    if lacking := store.lacking_predictions():
        said.append(f"{store.path} lacks the test predictions of {len(lacking)} runs, {lacking[0]} first")
    return said


def _predictions_next_to(store: Path) -> dict[str, Predictions]:
    """Return the rows that lie in parts next to a store, by key. Raises StoreError for a part that is damaged."""
    found: dict[str, Predictions] = {}
    for part in sorted(store.parent.glob(PREDICTIONS.format("*"))):
        try:
            with closing(sqlite3.connect(f"{part.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
                table = predictions_table(connection)
                rows = connection.execute(f"SELECT key, records, classes, kind, zlib FROM {table}").fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{part} is damaged or holds no predictions ({error}): bring it again") from None
        found |= {row[0]: Predictions._make(row) for row in rows}
    return found


def _unzip_networks(archive: Path, target: Path, keys: Sequence[str]) -> None:
    """Write those of the networks in an archive that are asked for and not there. Raises StoreError when damaged."""
    if not archive.is_file():
        return
    try:
        with ZipFile(archive) as opened:
            names = [name.split("/") for name in opened.namelist()]
            for key in keys:
                files = [parts[1] for parts in names if parts[0] == key and len(parts) == 2 and parts[1].strip(".")]
                if files and not (target / key).is_dir():
                    write_files({name: opened.read(f"{key}/{name}") for name in files}, target / key)
    except (BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise StoreError(f"{archive} is damaged ({error}): bring it again") from None
