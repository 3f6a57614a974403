"""The folder in which the service keeps everything: one server at a time, one SQLite file, a folder a thing.

    service.lock   locked while a server runs
    service.db     datasets, jobs, sessions, what models were given
    audit.log      who did what (``audit.py``)
    corpora/       prepared records and pilots, as the command line keeps them
    datasets/ID/   records that were uploaded
    incoming/      uploads that are not taken yet; emptied when a server starts
    jobs/ID/       a job's log, progress, answer and outcome
    models/ID/     a trained network: checkpoint/, model.onnx, its card

A connection is opened for each use: SQLite does so in a tenth of a millisecond, and threads then share nothing.
"""

import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from engine.files import InUseError, lock
from models.errors import ExitCode, UserError

# Only ever added to: a store is brought up to date when a server opens it.
_MIGRATIONS = (
    """
    CREATE TABLE datasets (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, folder TEXT NOT NULL, uploaded INTEGER NOT NULL,
        bytes INTEGER, sha256 TEXT, source TEXT, created TEXT NOT NULL, by TEXT NOT NULL, survey TEXT, problem TEXT,
        fingerprint TEXT
    );
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, dataset TEXT, model TEXT, request TEXT NOT NULL,
        state TEXT NOT NULL, created TEXT NOT NULL, started TEXT, ended TEXT, by TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0, ending TEXT, exit_code INTEGER,
        problem TEXT, told INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX jobs_by_key ON jobs (key);
    CREATE INDEX jobs_by_state ON jobs (state, created);
    CREATE INDEX jobs_by_created ON jobs (created);
    CREATE INDEX jobs_untold ON jobs (told) WHERE told = 0;
    CREATE TABLE sessions (sha256 TEXT PRIMARY KEY, token_sha256 TEXT NOT NULL, expires TEXT NOT NULL);
    CREATE TABLE intake (
        model TEXT NOT NULL, day TEXT NOT NULL, what TEXT NOT NULL, name TEXT NOT NULL, n INTEGER NOT NULL,
        PRIMARY KEY (model, day, what, name)
    ) WITHOUT ROWID;
    """,
)


# Errors of SQLite that are no defect: a full or broken disk, one that is read-only, a database that is kept locked.
_OF_THE_MACHINE = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY,
)  # fmt: skip


class ServiceStoreError(UserError, RuntimeError):
    """The service's folder cannot be used; one sentence says why."""

    exit_code = ExitCode.FAILURE


class ServiceStore:
    """An opened store; ``close`` lets another server have it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.database = self.root / "service.db"
        self._handle: int | None = None

    def open(self) -> "ServiceStore":
        """Make the folder where it is missing, and keep other servers out. Raises ServiceStoreError and InUseError."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)  # patients' records: their owner's alone
            for folder in (self.datasets, self.incoming, self.jobs, self.models, self.corpora):
                folder.mkdir(exist_ok=True)
            handle = os.open(self.root / "service.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ServiceStoreError(f"cannot write to the store {self.root}: {error.strerror}") from None
        if not lock(handle):
            os.close(handle)
            raise InUseError(
                f"another ecgadvise serve has the store {self.root}: end it, or give this one a --store of its own"
            )
        self._handle = handle
        try:
            self._migrate()
        except sqlite3.Error as error:
            self.close()
            raise ServiceStoreError(f"{self.database} cannot be used: {error}") from None
        for left in self.incoming.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        return self

    def close(self) -> None:
        """Let another server have the store."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    @property
    def datasets(self) -> Path:
        """Where uploaded records lie."""
        return self.root / "datasets"

    @property
    def incoming(self) -> Path:
        """Where uploads lie until they are taken."""
        return self.root / "incoming"

    @property
    def jobs(self) -> Path:
        """Where each job has its folder."""
        return self.root / "jobs"

    @property
    def models(self) -> Path:
        """Where each trained network has its folder."""
        return self.root / "models"

    @property
    def corpora(self) -> Path:
        """Where prepared records and pilots lie."""
        return self.root / "corpora"

    def free_mb(self) -> float:
        """Return the megabytes that are left on the disk."""
        return shutil.disk_usage(self.root).free / 1e6

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give a connection whose changes are on the disk when the block ends, or not made at all where it fails.

        Raises ServiceStoreError where the disk does not take them.
        """
        with self._named_errors(), self._connected() as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:  # a full disk has ended it already
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Return what a query finds. Raises ServiceStoreError."""
        with self._named_errors(), self._connected() as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.database, timeout=30, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            yield connection

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Say in one sentence what the machine refuses; an error in a statement is a defect and stays one."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _OF_THE_MACHINE:
                raise
            raise ServiceStoreError(f"{self.database.name} cannot be used just now: {error}") from error

    def _migrate(self) -> None:
        with closing(sqlite3.connect(self.database, timeout=30, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(_MIGRATIONS):
                raise ServiceStoreError(
                    f"{self.database} was written by a newer ecgadvise (schema {version}): use that version"
                )
            for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
                connection.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")


def new_id(prefix: str) -> str:
    """Return a name that nobody can guess: a letter for what it is, and twelve hexadecimal digits."""
    return f"{prefix}{secrets.token_hex(6)}"


def now() -> str:
    """Return the time as the service writes it: UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
