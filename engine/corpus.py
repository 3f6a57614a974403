"""A corpus: the records of one source, prepared once into a directory that opens in milliseconds.

The directory holds ``signals.npy`` float32 (records, leads, samples) in millivolt, ``labels.npy`` uint8 (records,
labels), ``records.npz`` (record_ids, patients, folds) and ``corpus.json``, which carries everything else and the
SHA-256 of the other files. ``content_hash`` covers the data alone (signals, labels, patients, folds, record names,
leads, sampling frequency): two corpora with the same hash hold the same data, however they are described.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.records import Record, RecordError, flat_leads, order_leads
from engine.sources import Entry, Source, TaskDefinition

SCHEMA_VERSION = 1
_FILES = ("signals.npy", "labels.npy", "records.npz")


class CorpusError(ValueError):
    """A corpus directory that is missing, damaged or altered; one sentence says which and what to do."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one record; a record with an unusable problem is not in the corpus."""

    record: str
    problem: str
    usable: bool


@dataclass(frozen=True)
class TaskData:
    """A task's view of a corpus: ``rows`` index the corpus, ``labels`` uint8 (rows, classes) follows them."""

    name: str
    classes: tuple[str, ...]
    rows: NDArray[np.int64]
    labels: NDArray[np.uint8]
    patients: NDArray[np.int64]
    folds: NDArray[np.int64]

    def in_folds(self, folds: Sequence[int]) -> NDArray[np.int64]:
        """Return the positions (into this view) of the records in the given folds."""
        return np.flatnonzero(np.isin(self.folds, folds))


class Corpus:
    """A prepared directory, opened. Raises CorpusError when it is missing, incomplete or altered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = _read_manifest(root)
        self.name: str = self.manifest["source"]["name"]
        self.leads = tuple(self.manifest["leads"])
        self.fs = float(self.manifest["fs"])
        self.label_names = tuple(self.manifest["labels"])
        self.content_hash: str = self.manifest["content_hash"]
        for name in _FILES:
            if not (root / name).is_file():
                raise CorpusError(f"{root} has no {name}; prepare it again")
        for name in _FILES[1:]:
            self._check(name)
        self.labels = np.load(root / "labels.npy")
        with np.load(root / "records.npz") as records:
            self.record_ids, self.patients, self.folds = (records[k] for k in ("record_ids", "patients", "folds"))
        if self.content_hash != _content_hash(self.manifest, [self.record_ids, self.patients, self.folds]):
            raise CorpusError(f"{root / 'corpus.json'} was altered after it was prepared; prepare it again")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def signals(self) -> NDArray[np.float32]:
        """Memory-mapped float32 (records, leads, samples) in millivolt."""
        signals: NDArray[np.float32] = np.load(self.root / "signals.npy", mmap_mode="r")
        return signals

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks that this corpus defines."""
        return tuple(self.manifest["tasks"])

    def verify(self) -> None:
        """Read every byte and compare with the manifest. Raises CorpusError naming the altered file."""
        for name in _FILES:
            self._check(name)

    def task(self, name: str) -> TaskData:
        """Return a task's records and labels. Raises CorpusError for a task that this corpus does not define."""
        if name not in self.manifest["tasks"]:
            raise CorpusError(f"corpus {self.name} has no task {name!r}; it has {', '.join(self.tasks)}")
        definition = self.manifest["tasks"][name]
        columns = {label: column for column, label in enumerate(self.label_names)}
        labels = np.stack(
            [self.labels[:, [columns[c] for c in union]].any(axis=1) for union in definition["classes"].values()],
            axis=1,
        ).astype(np.uint8)
        rows = np.flatnonzero(labels.any(axis=1)) if definition["labelled_only"] else np.arange(len(labels))
        classes = tuple(definition["classes"])
        return TaskData(f"{self.name}/{name}", classes, rows, labels[rows], self.patients[rows], self.folds[rows])

    def describe_task(self, name: str) -> str:
        """Say in words what the classes of a task are."""
        return str(self.manifest["tasks"][name]["description"])

    def task_hash(self, name: str) -> str:
        """Return the identity of a task's data: the content hash and which labels make up which class."""
        definition = {key: self.manifest["tasks"][name][key] for key in ("classes", "labelled_only")}
        return hashlib.sha256(json.dumps([self.content_hash, definition]).encode()).hexdigest()

    def _check(self, name: str) -> None:
        if _sha256(self.root / name) != self.manifest["sha256"][name]:
            raise CorpusError(f"{self.root / name} was altered or damaged after it was prepared; prepare it again")


def default_corpora() -> Path:
    """Return the folder of prepared corpora: ``ECGADVISE_CORPORA``, else the user's data folder."""
    from platformdirs import user_data_path

    named = os.environ.get("ECGADVISE_CORPORA")
    return Path(named) if named else user_data_path("ecgadvise") / "corpora"


def prepare(
    source: Source, target: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[Corpus, list[Problem]]:
    """Read every record of a source into ``target`` and return the corpus and what was wrong with which record.

    The directory appears under its name only when it is complete. Raises CorpusError when ``target`` exists or no
    record is usable, SourceError when the source's tables are malformed.
    """
    if target.exists():
        raise CorpusError(f"{target} exists already; remove it to prepare it again")
    entries = source.entries()
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        kept, problems = _write_signals(source, entries, scratch, progress)
        if not kept:
            raise CorpusError(f"none of the {len(entries)} records of {source.name} is usable: {problems[0].problem}")
        _write_tables(source, kept, scratch)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Corpus(target), problems


def _write_signals(
    source: Source, entries: list[Entry], scratch: Path, progress: Callable[[int, int], None]
) -> tuple[list[Entry], list[Problem]]:
    n_samples = round(10 * source.fs)
    shape = (len(entries), len(source.leads), n_samples)
    signals = np.lib.format.open_memmap(scratch / "all.npy", mode="w+", dtype=np.float32, shape=shape)
    kept: list[Entry] = []
    problems: list[Problem] = []
    for done, entry in enumerate(entries, start=1):
        try:
            record = _usable(source.read(entry), source)
        except RecordError as error:
            problems.append(Problem(entry.record_id, str(error), usable=False))
        else:
            if flat := flat_leads(record):
                problems.append(Problem(entry.record_id, f"lead {', '.join(flat)} is flat", usable=True))
            signals[len(kept)] = record.signals
            kept.append(entry)
        progress(done, len(entries))
    _shorten(signals, len(kept), scratch)
    return kept, problems


def _usable(record: Record, source: Source) -> Record:
    if record.fs != source.fs:
        raise RecordError(f"sampled at {record.fs:g} Hz, not {source.fs:g}")
    n_samples = round(10 * source.fs)
    if record.signals.shape[1] != n_samples:
        raise RecordError(f"{record.signals.shape[1] / record.fs:g} s long, not 10")
    return order_leads(record, source.leads)


def _shorten(signals: np.memmap[Any, Any], n_records: int, scratch: Path) -> None:
    """Write the first n_records of the scratch array under the final name, without a copy where all are kept."""
    signals.flush()
    if n_records == len(signals):
        (scratch / "all.npy").rename(scratch / "signals.npy")
        return
    shape = (n_records, *signals.shape[1:])
    final = np.lib.format.open_memmap(scratch / "signals.npy", mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, n_records, 1024):
        final[start : start + 1024] = signals[start : min(start + 1024, n_records)]
    final.flush()
    (scratch / "all.npy").unlink()


def _write_tables(source: Source, entries: list[Entry], scratch: Path) -> None:
    columns = {label: column for column, label in enumerate(source.labels)}
    labels = np.zeros((len(entries), len(columns)), np.uint8)
    for row, entry in enumerate(entries):
        labels[row, [columns[label] for label in entry.labels]] = 1
    np.save(scratch / "labels.npy", labels)
    patients = np.unique([entry.patient for entry in entries], return_inverse=True)[1].astype(np.int64)
    record_ids = np.array([entry.record_id for entry in entries])
    folds = np.array([-1 if entry.fold is None else entry.fold for entry in entries], np.int64)
    np.savez(scratch / "records.npz", record_ids=record_ids, patients=patients, folds=folds)
    manifest: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "source": {key: getattr(source, key) for key in ("name", "version", "licence", "url", "citation")},
        "fs": source.fs,
        "leads": source.leads,
        "labels": source.labels,
        "tasks": {name: _plain(task) for name, task in source.tasks.items()},
        "records": len(entries),
        "sha256": {name: _sha256(scratch / name) for name in _FILES},
    }
    manifest["content_hash"] = _content_hash(manifest, [record_ids, patients, folds])
    (scratch / "corpus.json").write_text(json.dumps(manifest, indent=1))
    for path in scratch.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _plain(task: TaskDefinition) -> dict[str, Any]:
    return {**asdict(task), "classes": {name: list(union) for name, union in task.classes.items()}}


def _read_manifest(root: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((root / "corpus.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorpusError(f"{root} is no prepared corpus: it has no corpus.json; see ecgadvise data prepare") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorpusError(f"{root / 'corpus.json'} is damaged: {error}; prepare it again") from None
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise CorpusError(f"{root} has corpus schema {version}; this version reads {SCHEMA_VERSION}: prepare it again")
    return manifest


def _content_hash(manifest: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    facts = [manifest["sha256"]["signals.npy"], manifest["sha256"]["labels.npy"]]
    digest.update(json.dumps([*facts, manifest["labels"], manifest["leads"], float(manifest["fs"])]).encode())
    for array in arrays:
        digest.update(json.dumps(array.tolist()).encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
