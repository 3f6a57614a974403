"""The study store: one SQLite file that holds every finished run, and what went wrong with the others.

A run is written in one transaction after it ends; a killed study loses the runs in flight and nothing else. Several
runners on one machine may share a store: each run is claimed before it is started (``claim``). A store is for one
machine, because its write-ahead log lies in shared memory; ``merge`` brings the stores of several machines together.
One that is packed (``studies.runs.store_files``) is read in memory and written by nobody.
"""

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from models.errors import ExitCode, UserError
from studies.runs.claim_owners import Owner, is_alive
from studies.runs.run import COLUMNS, Run, known, row_of
from studies.runs.store_files import PackedError, how_to_unpack, is_packed, open_packed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What a store without such a column says: processors computed in float32, and so did recurrent networks on a GPU; of
# others on a GPU it says nothing.
_PRECISION_BEFORE_3 = "CASE WHEN device LIKE 'CPU%' OR family = 'rnn' THEN 'float32' END"
MIGRATIONS = (
    """
    CREATE TABLE runs (
        key TEXT PRIMARY KEY, task TEXT NOT NULL, arch TEXT NOT NULL, family TEXT NOT NULL, strategy TEXT NOT NULL,
        upstream TEXT, n_records INTEGER NOT NULL, replicate INTEGER NOT NULL, recipe TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('downstream', 'pretraining')),
        auroc_macro REAL, auprc_macro REAL, brier REAL, validation_auroc REAL,
        seconds REAL NOT NULL, seconds_to_best REAL NOT NULL, epochs INTEGER NOT NULL, best_epoch INTEGER NOT NULL,
        records_seen INTEGER NOT NULL, records_to_best INTEGER NOT NULL, gflop REAL, peak_memory_mb REAL,
        device TEXT NOT NULL, data_hash TEXT NOT NULL, created TEXT NOT NULL, details TEXT NOT NULL
    ) STRICT;
    CREATE TABLE probabilities (
        key TEXT PRIMARY KEY REFERENCES runs (key), records INTEGER NOT NULL, classes INTEGER NOT NULL,
        float16_zlib BLOB NOT NULL
    ) STRICT;
    CREATE TABLE failures (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, spec TEXT NOT NULL, error TEXT NOT NULL, created TEXT NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE runs ADD COLUMN f1_macro REAL;
    ALTER TABLE runs ADD COLUMN f1_weighted REAL;
    ALTER TABLE runs ADD COLUMN ece REAL;
    ALTER TABLE runs ADD COLUMN attempts INTEGER;
    CREATE TABLE claims (
        key TEXT PRIMARY KEY, task TEXT NOT NULL, arch TEXT NOT NULL, strategy TEXT NOT NULL, upstream TEXT,
        n_records INTEGER NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL,
        heartbeat REAL NOT NULL
    ) STRICT;
    CREATE INDEX runs_of_cell ON runs (task, arch, strategy, upstream, n_records);
    """,
    f"""
    ALTER TABLE runs ADD COLUMN precision TEXT;
    UPDATE runs SET precision = {_PRECISION_BEFORE_3};
    """,
    """
    CREATE TABLE predictions (
        key TEXT PRIMARY KEY REFERENCES runs (key), records INTEGER NOT NULL, classes INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('logits', 'probabilities')), zlib BLOB NOT NULL
    ) STRICT;
    INSERT INTO predictions SELECT key, records, classes, 'probabilities', float16_zlib FROM probabilities
        ORDER BY rowid;
    DROP TABLE probabilities;
    """,
)
_PATIENCE = 60.0  # seconds that a runner waits for another one that writes
_PREDICTIONS_BEFORE_4 = (
    "(SELECT key, records, classes, 'probabilities' AS kind, float16_zlib AS zlib, rowid AS rowid FROM probabilities)"
)
_DTYPES = {"logits": "<f4", "probabilities": "<f2"}  # of the values of a kind
_BEFORE_THERE_WAS = {"precision": _PRECISION_BEFORE_3}  # a column: what to select where an older store lacks it
_CELL = ("task", "arch", "strategy", "upstream", "n_records")
_DAMAGED = "put a copy back, or save what is whole with: sqlite3 {} .recover"


class StoreError(UserError, RuntimeError):
    """A store that cannot be read or written; one sentence says why."""

    exit_code = ExitCode.DATA


class Claim(Enum):
    """What came of the wish to run something."""

    OURS = "ours"
    ELSEWHERE = "elsewhere"  # another runner is at it
    DONE = "done"


class Predictions(NamedTuple):
    """What a run said of its test records, as it is stored: values (records, classes), compressed with zlib.

    ``kind`` is "logits", float32, or "probabilities", float16: runs that were stored before schema 4.
    """

    key: str
    records: int
    classes: int
    kind: str
    zlib: bytes


@dataclass(frozen=True)
class CellCount:
    """How many runs of a cell are finished, in work, and failed without a later success.

    ``recipe`` is None for runs in work among finished ones of several recipes, since a claim does not say its own.
    """

    task: str
    arch: str
    strategy: str
    upstream: str | None
    n_records: int
    recipe: str | None
    done: int
    running: int
    failed: int


class Store:
    """An open store; the file is made, or brought to the newest schema, when ``create``. Raises StoreError.

    A packed one can only be read.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        if create:
            check_writable(path)
        if not create and not path.is_file():
            raise StoreError(f"no study store at {path}; ecgadvise study run makes one")
        if not create and not path.stat().st_size and not path.with_name(f"{path.name}-wal").exists():
            raise StoreError(f"{path} is not a study store: empty")
        with self._named_errors():
            self._connection = open_packed(path) if is_packed(path) else _connect(path, create=create)
            has_tables = self._connection.execute("SELECT 1 FROM sqlite_schema").fetchone()  # asked before the version:
            version = self._version()  # another runner may be making them
            if version > len(MIGRATIONS):
                raise StoreError(f"{path} has store schema {version}, newer than {len(MIGRATIONS)}: update ecgadvise")
            if not version and (has_tables or not create):
                raise StoreError(f"{path} is not a study store: it is a database of something else")
            if create:
                self._migrate()
            self._select = self._readable_columns()
            self._columns = ", ".join(self._select.values())
            self._predictions = predictions_table(self._connection)

    def check(self) -> None:
        """Read the whole file and raise StoreError when a part of it is damaged."""
        with self._named_errors():
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            words = " ".join(found.split())
            raise StoreError(f"study store {self.path} is damaged ({words}): {_DAMAGED.format(self.path)}")

    def keys(self) -> set[str]:
        """Return the keys of the finished runs."""
        with self._named_errors():
            return {key for (key,) in self._connection.execute("SELECT key FROM runs")}

    def add(self, run: Run, logits: "NDArray[np.floating]") -> None:
        """Write a finished run and its test logits (records, classes), and end its claim, in one transaction."""
        import numpy as np  # here, because status is asked often and needs none

        blob = zlib.compress(np.ascontiguousarray(logits, _DTYPES["logits"]).tobytes(), 9)
        n_records, n_classes = logits.shape
        row = [*row_of(run).values(), json.dumps(run.details)]
        with self._transaction():
            self._insert(row, Predictions(known(run.key), n_records, n_classes, "logits", blob))
            self._connection.execute("DELETE FROM claims WHERE key = ?", [run.key])

    def rewrite(self, runs: Sequence[Run]) -> None:
        """Write runs that are held anew, all of them in one transaction; their predictions stay as they are."""
        sets = ", ".join(f"{name} = ?" for name in (*COLUMNS, "details"))
        with self._transaction():
            for run in runs:
                row = [*row_of(run).values(), json.dumps(run.details)]
                self._connection.execute(f"UPDATE runs SET {sets} WHERE key = ?", [*row, run.key])

    def add_failure(self, key: str, spec: Mapping[str, Any], error: str, created: str) -> None:
        """Write down a run that failed, and end its claim."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO failures (key, spec, error, created) VALUES (?, ?, ?, ?)",
                [key, json.dumps(spec), error, created],
            )
            self._connection.execute("DELETE FROM claims WHERE key = ?", [key])

    def failures(self) -> list[tuple[str, str]]:
        """Return key and error of the failed attempts whose run has not been finished since."""
        with self._named_errors():
            return self._connection.execute(
                "SELECT key, error FROM failures WHERE key NOT IN (SELECT key FROM runs) ORDER BY id"
            ).fetchall()

    def runs(self) -> list[Run]:
        """Return every finished run, in an order that does not depend on when each ended."""
        query = (
            f"SELECT {self._columns}, details FROM runs "
            "ORDER BY task, arch, strategy, upstream, n_records, replicate, recipe, key"
        )
        with self._named_errors():
            rows = self._connection.execute(query).fetchall()
            return [Run(**dict(zip(COLUMNS, row, strict=True)), details=json.loads(details)) for *row, details in rows]

    def logits(self, key: str) -> "NDArray[np.float32] | None":
        """Return the test logits float32 (records, classes) of a run, None where it has probabilities alone.

        Raises KeyError.
        """
        kind, values = self._values(key)
        return values if kind == "logits" else None

    def probabilities(self, key: str) -> "NDArray[np.floating]":
        """Return the test probabilities (records, classes) of a run, as its network gives them. Raises KeyError.

        They are float64, made of the logits, and give the run's scores to the last digit; or float16, of a run that was
        stored without logits: of these many small ones tie, so that an AUROC may differ.
        """
        from engine.evaluation.calibration import calibrated_probabilities

        kind, values = self._values(key)
        return values if kind == "probabilities" else calibrated_probabilities(values, 1.0)

    def cells(self) -> list[CellCount]:
        """Count every cell's runs: counted by SQLite, so that 10,000 of them take milliseconds."""
        cell = ", ".join((*_CELL, "recipe"))
        spec = ", ".join(f"json_extract(spec, '$.{name}')" for name in (*_CELL, "recipe"))
        queries = {
            "done": f"SELECT {cell}, COUNT(*) FROM runs GROUP BY {cell}",
            "failed": f"SELECT {spec}, COUNT(DISTINCT key) FROM failures WHERE key NOT IN (SELECT key FROM runs) "
            f"GROUP BY {spec}",
        }
        counts: dict[tuple[Any, ...], dict[str, int]] = {}
        with self._named_errors():
            for kind, query in queries.items():
                for *where, count in self._connection.execute(query):
                    counts.setdefault(tuple(where), {})[kind] = count
        recipes: dict[tuple[Any, ...], list[str | None]] = {}
        for *where, recipe in counts:
            recipes.setdefault(tuple(where), []).append(recipe)
        for where in self._running_cells():
            of_cell = recipes.get(where, [])
            running = counts.setdefault((*where, of_cell[0] if len(of_cell) == 1 else None), {})
            running["running"] = running.get("running", 0) + 1
        ordered = sorted(counts.items(), key=lambda item: [(value is not None, value or 0) for value in item[0]])
        kinds = ("done", "running", "failed")
        return [CellCount(*where, *(count.get(kind, 0) for kind in kinds)) for where, count in ordered]

    def claim(self, key: str, spec: Mapping[str, Any], owner: Owner) -> Claim:
        """Say that ``owner`` starts this run now, unless it is finished or in the hands of a runner that is alive."""
        with self._transaction():
            if self._connection.execute("SELECT 1 FROM runs WHERE key = ?", [key]).fetchone():
                return Claim.DONE
            if (held := self._holders().get(key)) is not None and is_alive(*held):
                return Claim.ELSEWHERE
            row = [key, *(spec.get(name) for name in _CELL), owner.host, owner.pid, owner.started, time.time()]
            self._connection.execute(f"INSERT OR REPLACE INTO claims VALUES ({', '.join('?' * len(row))})", row)
        return Claim.OURS

    def claimed(self) -> set[str]:
        """Return the keys that runners which are alive have in work."""
        with self._named_errors():
            return {key for key, held in self._holders().items() if is_alive(*held)}

    def release(self, owner: Owner, key: str | None = None) -> None:
        """End one of the owner's claims, or all of them."""
        with self._transaction():
            self._connection.execute(
                "DELETE FROM claims WHERE host = ? AND pid = ? AND started = ? AND key = coalesce(?, key)",
                [owner.host, owner.pid, owner.started, key],
            )

    def heartbeat(self, owner: Owner) -> None:
        """Say that the owner is still at its claims."""
        with self._transaction():
            self._connection.execute(
                "UPDATE claims SET heartbeat = ? WHERE host = ? AND pid = ? AND started = ?",
                [time.time(), owner.host, owner.pid, owner.started],
            )

    def missing_from(self, other: "Store") -> list[str]:
        """Return the keys of the runs that another store holds and this one does not, in order."""
        return sorted(other.keys() - self.keys())

    def precisions(self) -> dict[str, str | None]:
        """Return the precision of every run by its key, None where it is not known."""
        with self._named_errors():
            return dict(self._connection.execute(f"SELECT key, {self._select['precision']} FROM runs").fetchall())

    def predictions(self) -> Iterator[Predictions]:
        """Give the test predictions of every run as they are stored, in the order in which they were written."""
        with self._named_errors():
            query = f"SELECT key, records, classes, kind, zlib FROM {self._predictions} ORDER BY rowid"
            yield from map(Predictions._make, self._connection.execute(query))

    def copy_without_predictions(self, path: Path) -> None:
        """Write a store of the same runs and failures to a new file, without test predictions and claims."""
        with self._named_errors():
            only_read = self._connection.execute("PRAGMA query_only").fetchone()[0]
            self._connection.execute(
                "PRAGMA query_only = OFF"
            )  # the new file alone is written, which counts as writing
            self._connection.execute("VACUUM INTO ?", [str(path)])
            self._connection.execute(f"PRAGMA query_only = {only_read}")
        copy = Store(path)
        with copy._named_errors():
            for statement in (
                "DELETE FROM predictions",
                "DELETE FROM claims",
                "VACUUM",
                "PRAGMA journal_mode = DELETE",
            ):
                copy._connection.execute(statement)
        copy.close()

    def lacking_predictions(self) -> list[str]:
        """Return the keys of the runs whose test predictions it does not hold, in order."""
        query = f"SELECT key FROM runs WHERE key NOT IN (SELECT key FROM {self._predictions}) ORDER BY key"
        with self._named_errors():
            return [key for (key,) in self._connection.execute(query)]

    def pretrainings(self) -> list[str]:
        """Return the keys of the runs whose network others start from."""
        with self._named_errors():
            found = self._connection.execute("SELECT key FROM runs WHERE role = 'pretraining' ORDER BY key")
            return [key for (key,) in found]

    def merge(self, other: "Store", keys: Sequence[str], apart: Mapping[str, Predictions] | None = None) -> None:
        """Copy runs and their predictions from another store, all of them in one transaction.

        ``apart`` has the predictions of runs that the other store holds without them.
        """
        with self._transaction():
            for key in keys:
                row, predictions = other.raw(key)
                self._insert(row, predictions or (apart or {}).get(key))

    def add_predictions(self, rows: Sequence[Predictions]) -> None:
        """Add the test predictions of runs that are held without."""
        with self._transaction():
            self._connection.executemany("INSERT INTO predictions VALUES (?, ?, ?, ?, ?)", rows)

    def raw(self, key: str) -> tuple[list[Any], Predictions | None]:
        """Return a run as it is stored: its row with details, and its predictions, None where they are apart."""
        with self._named_errors():
            run = self._connection.execute(f"SELECT {self._columns}, details FROM runs WHERE key = ?", [key])
            return list(run.fetchone()), self._read_predictions(key)

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        self._connection.close()

    def _values(self, key: str) -> "tuple[str, NDArray[Any]]":
        import numpy as np

        with self._named_errors():
            row = self._read_predictions(key)
            if row is None:
                raise KeyError(key)
            values = np.frombuffer(zlib.decompress(row.zlib), _DTYPES[row.kind])
            return row.kind, values.reshape(row.records, row.classes)

    def _read_predictions(self, key: str) -> Predictions | None:
        query = f"SELECT key, records, classes, kind, zlib FROM {self._predictions} WHERE key = ?"
        row = self._connection.execute(query, [key]).fetchone()
        return None if row is None else Predictions._make(row)

    def _insert(self, row: Sequence[Any], predictions: Predictions | None) -> None:
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT INTO runs ({', '.join(COLUMNS)}, details) VALUES ({marks})", row)
        if predictions is not None:
            self._connection.execute("INSERT INTO predictions VALUES (?, ?, ?, ?, ?)", predictions)

    def _holders(self) -> dict[str, tuple[Owner, float]]:
        if self._version() < 2:
            return {}
        rows = self._connection.execute("SELECT key, host, pid, started, heartbeat FROM claims")
        return {key: (Owner(host, pid, started), heartbeat) for key, host, pid, started, heartbeat in rows}

    def _running_cells(self) -> list[tuple[Any, ...]]:
        with self._named_errors():
            alive = self.claimed()
            rows = self._connection.execute(f"SELECT key, {', '.join(_CELL)} FROM claims") if alive else ()
            return [tuple(cell) for key, *cell in rows if key in alive]

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _readable_columns(self) -> dict[str, str]:
        """Return what to select for each of COLUMNS.

        For one that an older store, opened to be read, lacks that is what it would be brought up to date with, or NULL.
        """
        there = {row[1] for row in self._connection.execute("PRAGMA table_info(runs)")}
        return {name: name if name in there else _BEFORE_THERE_WAS.get(name, "NULL") for name in COLUMNS}

    def _migrate(self) -> None:
        if self._version() == len(MIGRATIONS):
            return
        with self._transaction():
            for number, script in enumerate(MIGRATIONS, start=1):
                if number > self._version():  # asked again: another runner may have been first
                    for statement in script.split(";"):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {number}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Write all of the block or nothing, whatever ends it."""
        with self._named_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has rolled it back already
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, PackedError, zlib.error, json.JSONDecodeError) as error:
            raise StoreError(f"study store {self.path}: {_in_words(error, self.path)}") from error


def check_writable(path: Path) -> None:
    """Raise StoreError for a packed store: it is only read."""
    if is_packed(path):
        raise StoreError(f"the study store {path} is packed, which is only read: {how_to_unpack(path)}")


def predictions_table(connection: sqlite3.Connection) -> str:
    """Return what to select test predictions from, as the columns of ``Predictions``, also where a file is older."""
    there = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'predictions'").fetchone()
    return "predictions" if there else _PREDICTIONS_BEFORE_4


def _connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the file in autocommit; one that is only read is neither made nor brought to a newer schema."""
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        _log_ahead(connection)
        connection.execute("PRAGMA foreign_keys = ON")
        return connection
    if os.access(path.parent, os.W_OK):
        mode = "rw"  # so that closing tidies the log away; query_only keeps the content as it is
    else:
        mode = "ro" if path.with_name(path.name + "-wal").exists() else "ro&immutable=1"  # no log can be made here
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=_PATIENCE, isolation_level=None
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. SQLite does not wait for another runner that switches a new file, too: we do."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _in_words(error: Exception, path: Path) -> str:
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith("SQLITE_FULL"):
        return "no space is left on its disk; what was finished is in it: make room and run the same command"
    if code.startswith("SQLITE_READONLY") or code == "SQLITE_CANTOPEN":
        return f"it cannot be written here ({error}); check its permissions, or name another with --store"
    if code.startswith("SQLITE_NOTADB"):
        return f"this is not a study store ({error})"
    if code.startswith("SQLITE_CORRUPT") or isinstance(error, zlib.error | json.JSONDecodeError):
        return f"it is damaged ({error}): {_DAMAGED.format(path)}"
    return str(error)
