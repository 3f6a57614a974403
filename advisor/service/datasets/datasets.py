"""The datasets that the service has: taken completely or not at all, checked by a job, deleted with what they led to.

A dataset is ``checking`` until a job has read every record, then ``ready``, or ``refused`` with the reason. Uploaded
records lie in a folder of their own; a folder of the operator's is only read.
"""

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from advisor.service.datasets import deletion
from advisor.service.datasets.archive import unpack
from advisor.service.datasets.check_report import CheckReport, CheckReportError, kept_check_report, read_check_report
from advisor.service.datasets.deletion import Deleted
from advisor.service.datasets.folders import find_folder
from advisor.service.datasets.limits import FULL, Limits, disk_full
from advisor.service.problems import Problem
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore, ServiceStoreError, new_id, now
from engine.files import sync, sync_tree
from models.errors import ExitCode, UserError

CHECKING, READY, REFUSED = "checking", "ready", "refused"
LONGEST_NAME = 100  # characters
_COLUMNS = "id, name, state, folder, uploaded, bytes, sha256, source, created, by, problem, fingerprint"
_BRIEF = f"SELECT {_COLUMNS}, json_remove(survey, '$.problems', '$.duplicates') report FROM datasets"
_WHOLE = f"SELECT {_COLUMNS}, survey report FROM datasets"
_UNCHECKED = (
    "SELECT id FROM datasets WHERE state = 'checking' AND id NOT IN (SELECT dataset FROM jobs "
    "WHERE kind = 'check' AND dataset IS NOT NULL AND state IN ('queued', 'running')) ORDER BY created, id"
)
_INSERT = (
    "INSERT INTO datasets (id, name, folder, uploaded, bytes, sha256, source, created, by, fingerprint, state) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'checking')"
)
_CHECKED = (  # a check that was cut short may be run again, and its end may be told twice
    "UPDATE datasets SET state = :state, survey = :report, problem = :problem WHERE id = :id AND (state = 'checking' "
    "OR state = 'refused' AND :state = 'ready' AND problem != :leaving)"
)
_PLAIN = ("id", "name", "state", "bytes", "sha256", "source", "created", "by", "problem")
_GONE = "its records are no longer where they were: give them again"
_IGNORED = ("__macosx", ".ds_store")  # next to a folder that macOS has packed


class DatasetNameError(UserError):
    """A name that a dataset cannot have."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Dataset:
    """One dataset. ``source`` is the folder's name below the operator's where it was not ``uploaded``.

    ``folder`` has its records, of ``bytes``; ``sha256`` is the archive's. ``problem`` is why it was refused.
    """

    id: str
    name: str
    state: str
    folder: Path
    uploaded: bool
    bytes: int | None
    sha256: str | None
    source: str | None
    created: str
    by: str
    report: CheckReport | None
    problem: str | None


class Datasets:
    """All datasets of a store; every method may be called from any thread."""

    def __init__(self, store: ServiceStore, settings: Settings) -> None:
        self._store, self._settings = store, settings

    def take_archive(self, archive: Path, name: str, by: str) -> Dataset:
        """Unpack an archive and keep its records; one that is there already, by content, is the same dataset.

        Raises ArchiveError, DatasetNameError, ServiceStoreError, and Problem where the disk is full.
        """
        name = checked_name(name)
        with archive.open("rb") as file:
            sha256 = file_digest(file, "sha256").hexdigest()
        if (known := self._find("sha256 = ?", sha256)) is not None:
            return known
        scratch = self._store.incoming / new_id("u")
        scratch.mkdir(mode=0o700)
        try:
            root = unpack(archive, scratch / _folder_name(name), self._limits()).root
            return self._keep(scratch, _records_in(root), name, by, sha256)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def adopt(self, folder: Path, name: str, by: str) -> Dataset:
        """Keep a folder of the store's ``incoming`` that this machine made. Raises as ``take_archive`` does."""
        name = checked_name(name)
        scratch = self._store.incoming / new_id("u")
        with self._writing():
            scratch.mkdir(mode=0o700)
            folder.rename(scratch / _folder_name(name))
        return self._keep(scratch, scratch / _folder_name(name), name, by, None)

    def take_folder(self, relative: str, name: str, by: str) -> Dataset:
        """Take a folder below the operator's root as it is; it is only read. The same one, unchanged, is the same.

        Raises FolderError and DatasetNameError.
        """
        from engine.corpora.opening import fingerprint

        name = checked_name(name)
        found = find_folder(self._settings.records_root, relative)
        state = fingerprint(found.path)
        row = (new_id("d"), name, str(found.path), 0, found.bytes, None, relative, now(), by, state)
        return self._insert(row, "uploaded = 0 AND folder = ? AND fingerprint = ?", row[2], state)

    def get(self, which: str) -> Dataset:
        """Return a dataset with all that its check found. Raises Problem where there is none of that id."""
        return _dataset(self._row(which))

    def get_ready(self, which: str) -> Dataset:
        """Return a dataset whose records can be used. Raises Problem."""
        dataset = self.get(which)
        if dataset.state == CHECKING:
            raise Problem(409, f"the records of {which} are being checked: wait for the end of that")
        if dataset.state == REFUSED:
            raise Problem(409, f"{which} cannot be used: {dataset.problem}")
        return dataset

    def list(self) -> list[Dataset]:
        """Return all, the newest first, without the problems of single records."""
        return [_dataset(row) for row in self._store.rows(f"{_BRIEF} ORDER BY created DESC, id")]

    def checked(self, which: str, printed: str | None, problem: str | None) -> None:
        """Note how the check of a dataset ended: what it ``printed``, and the ``problem`` that it ended with.

        A check that prints its report and fails has found records that cannot be used; the others can be.
        """
        row = self._row(which)
        report = None
        try:
            report = read_check_report(printed) if printed and printed.strip() else None
        except CheckReportError as error:
            problem = problem or str(error)
        why = report.refusal() if report is not None else (problem or "the check of its records gave no report")
        if why is not None:
            why = why.replace(row["folder"], row["name"])  # where it lies is nobody's business
        state, kept = READY if why is None else REFUSED, None if report is None else report.as_json()
        values = {"state": state, "report": kept, "problem": why, "id": which, "leaving": deletion.LEAVING}
        with self._store.transaction() as db:
            db.execute(_CHECKED, values)

    def unchecked(self) -> tuple[str, ...]:
        """Return the datasets that wait for a check that no job is there for: the server died between the two."""
        return tuple(row["id"] for row in self._store.rows(_UNCHECKED))

    def delete(self, which: str) -> Deleted:
        """Delete a dataset with all that was made of it, and say what that was. What is half done is gone on with.

        Raises Problem where there is none of that id, or a job on it waits or runs, and ServiceStoreError.
        """
        row = self._row(which)
        deletion.begin(self._store, which)
        return deletion.finish(self._store, row)

    def give_back(self, dataset: Dataset) -> None:
        """Delete a dataset that no job was taken for, so that it does not wait for ever. Raises ServiceStoreError."""
        if deletion.begin_if_unused(self._store, dataset.id):
            deletion.finish(self._store, self._row(dataset.id))

    def tidy(self) -> None:
        """Put right what a crash left, before the server takes requests. Raises ServiceStoreError."""
        rows = self._store.rows(_WHOLE)
        for row in rows:
            if row["problem"] == deletion.LEAVING and row["state"] == REFUSED:
                deletion.finish(self._store, row)
            elif row["state"] != REFUSED and not Path(row["folder"]).is_dir():
                self._refuse(row["id"], _GONE)
        known = {row["id"] for row in rows}
        with self._writing():
            for left in self._store.datasets.iterdir():
                if left.name not in known:
                    shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()

    def _keep(self, scratch: Path, records: Path, name: str, by: str, sha256: str | None) -> Dataset:
        """Move a folder with records to where it stays, then write it down: in this order nothing is half kept.

        Its files are on the disk before the row is, which is there after a power cut.
        """
        from engine.corpora.opening import fingerprint

        which = new_id("d")
        target = self._store.datasets / which
        size = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
        with self._writing():
            sync_tree(scratch)
            scratch.rename(target)
        folder = target / records.relative_to(scratch)
        try:
            with self._writing():
                sync(self._store.datasets)
            row = (which, name, str(folder), 1, size, sha256, None, now(), by, fingerprint(folder))
            kept = self._insert(row, "sha256 IS NOT NULL AND sha256 = ?", sha256)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        if kept.id != which:  # the same archive came twice at once
            shutil.rmtree(target, ignore_errors=True)
        return kept

    def _insert(self, row: tuple[Any, ...], same: str, *values: object) -> Dataset:
        """Write a dataset down, unless one is there that is the ``same``; return whichever is there then."""
        query = f"SELECT id FROM datasets WHERE state != 'refused' AND {same}"
        with self._store.transaction() as db:
            if (known := db.execute(query, values).fetchone()) is None:
                db.execute(_INSERT, row)
        return self.get(row[0] if known is None else known["id"])

    def _find(self, where: str, *values: object) -> Dataset | None:
        rows = self._store.rows(f"{_WHOLE} WHERE state != 'refused' AND {where}", *values)
        return _dataset(rows[0]) if rows else None

    def _row(self, which: str) -> sqlite3.Row:
        rows = self._store.rows(f"{_WHOLE} WHERE id = ?", which)
        if not rows:
            raise Problem(404, f"there is no dataset {which[:64]!r}")
        return rows[0]

    def _refuse(self, which: str, why: str) -> None:
        with self._store.transaction() as db:
            db.execute("UPDATE datasets SET state = 'refused', problem = ? WHERE id = ?", (why, which))

    def _limits(self) -> Limits:
        return Limits.of(self._settings, self._store.free_mb)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(self._settings.min_free_mb) from error
            raise ServiceStoreError(f"cannot write to {self._store.datasets}: {error.strerror}") from error


def checked_name(name: str) -> str:
    """Return a dataset's name without the spaces around it. Raises DatasetNameError."""
    name = name.strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise DatasetNameError(f"give the dataset a name of 1 to {LONGEST_NAME} characters that can be printed")
    return name


def _folder_name(name: str) -> str:
    """Return what a dataset's folder is called: reports name records by it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40] or "records"


def _records_in(root: Path) -> Path:
    """Return the one folder that an archive consists of, else all that was in it."""
    inside = [path for path in root.iterdir() if path.name.lower() not in _IGNORED]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else root


def _dataset(row: sqlite3.Row) -> Dataset:
    report = None if row["report"] is None else kept_check_report(row["report"])
    plain = {name: row[name] for name in _PLAIN}
    return Dataset(**plain, folder=Path(row["folder"]), uploaded=bool(row["uploaded"]), report=report)
