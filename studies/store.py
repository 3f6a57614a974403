"""The study store: one SQLite file that holds every finished run, and what went wrong with the others.

A run is written in one transaction after it ends; a killed study loses the runs in flight and nothing else.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
)
COLUMNS = (
    "key", "task", "arch", "family", "strategy", "upstream", "n_records", "replicate", "recipe", "role",
    "auroc_macro", "auprc_macro", "brier", "validation_auroc", "seconds", "seconds_to_best", "epochs", "best_epoch",
    "records_seen", "records_to_best", "gflop", "peak_memory_mb", "device", "data_hash", "created",
)  # fmt: skip


class StoreError(RuntimeError):
    """A store that cannot be read or written; one sentence says why."""


@dataclass(frozen=True)
class RunRecord:
    """One finished run: ``row`` has a value for every name in COLUMNS.

    ``details`` holds what has no column of its own: the spec, recipe, versions, per-class AUROC, the trajectory on the
    validation records, and ``bootstrap``, the macro AUROC of each resample of the test patients (the same resamples
    for every run of a task, so that runs are compared in pairs).
    """

    row: Mapping[str, Any]
    details: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The run's identity."""
        return str(self.row["key"])


class Store:
    """An open store; the file is made when it is not there. Raises StoreError."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        if not create and not path.is_file():
            raise StoreError(f"no study store at {path}; ecgadvise study run makes one")
        with self._named_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path if create else f"{path.resolve().as_uri()}?mode=ro", uri=not create, timeout=30
            )
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise StoreError(f"{path} has store schema {version}, newer than {len(MIGRATIONS)}: update ecgadvise")
            if create:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._migrate(version)
            self._connection.execute("PRAGMA foreign_keys = ON")

    def keys(self) -> set[str]:
        """Return the keys of the finished runs."""
        with self._named_errors():
            return {key for (key,) in self._connection.execute("SELECT key FROM runs")}

    def add(self, record: RunRecord, probabilities: NDArray[np.floating]) -> None:
        """Write a finished run and its test probabilities (records, classes) in one transaction."""
        values = [record.row[name] for name in COLUMNS]
        blob = zlib.compress(np.ascontiguousarray(probabilities, "<f2").tobytes(), 9)
        with self._named_errors(), self._connection:
            marks = ", ".join("?" * (len(COLUMNS) + 1))
            self._connection.execute(
                f"INSERT INTO runs ({', '.join(COLUMNS)}, details) VALUES ({marks})",
                [*values, json.dumps(record.details)],
            )
            self._connection.execute(
                "INSERT INTO probabilities VALUES (?, ?, ?, ?)", [record.key, *probabilities.shape, blob]
            )

    def add_failure(self, key: str, spec: Mapping[str, Any], error: str, created: str) -> None:
        """Write down a run that failed."""
        with self._named_errors(), self._connection:
            self._connection.execute(
                "INSERT INTO failures (key, spec, error, created) VALUES (?, ?, ?, ?)",
                [key, json.dumps(spec), error, created],
            )

    def failures(self) -> list[tuple[str, str]]:
        """Return key and error of the failed attempts whose run has not been finished since."""
        with self._named_errors():
            return self._connection.execute(
                "SELECT key, error FROM failures WHERE key NOT IN (SELECT key FROM runs) ORDER BY id"
            ).fetchall()

    def runs(self) -> list[RunRecord]:
        """Return every finished run, in an order that does not depend on when each ended."""
        query = (
            f"SELECT {', '.join(COLUMNS)}, details FROM runs "
            "ORDER BY task, arch, strategy, upstream, n_records, replicate, recipe, key"
        )
        with self._named_errors():
            rows = self._connection.execute(query).fetchall()
        return [RunRecord(dict(zip(COLUMNS, row[:-1], strict=True)), json.loads(row[-1])) for row in rows]

    def probabilities(self, key: str) -> NDArray[np.float16]:
        """Return the test probabilities float16 (records, classes) of a run. Raises KeyError."""
        with self._named_errors():
            row = self._connection.execute(
                "SELECT records, classes, float16_zlib FROM probabilities WHERE key = ?", [key]
            ).fetchone()
        if row is None:
            raise KeyError(key)
        return np.frombuffer(zlib.decompress(row[2]), "<f2").reshape(row[0], row[1])

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        self._connection.close()

    def _migrate(self, version: int) -> None:
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            self._connection.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"study store {self.path}: {error}") from error
