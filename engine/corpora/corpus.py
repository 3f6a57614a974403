"""A corpus: the records of one source, prepared once into a directory that opens in milliseconds.

The directory holds ``signals.npy`` float32 (records, leads, samples) in millivolt, ``labels.npy`` uint8 (records,
labels), ``records.npz`` (record_ids, patients, folds, ages, sexes) and ``corpus.json``, which carries everything else
and the SHA-256 of the other files. ``content_hash`` covers the data alone (signals, labels, patients, folds, record
names, leads, sampling frequency): two corpora with the same hash hold the same data, however they are described.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.corpora.reading import Reading, excluded_labels, read_all, summarise, summarise_recordings
from engine.files import written_whole
from engine.records.contract import DEFAULT_SAMPLING, Sampling, SignalContract
from engine.records.short_records import ShortRecords, find_short
from engine.records.signal import CONTRACT, Preparation
from engine.sources import Entry, Source, TaskDefinition
from models.errors import ExitCode, UserError, decoding_fault

SCHEMA_VERSION = 2
_RAW = "signals.raw"
_FILES = ("signals.npy", "labels.npy", "records.npz")


class CorpusError(UserError, ValueError):
    """A corpus directory that is missing, damaged or altered; one sentence says which and what to do."""

    exit_code = ExitCode.DATA


class UnwritableCorpusError(CorpusError):
    """A corpus directory that cannot be written."""

    exit_code = ExitCode.FAILURE


@dataclass(frozen=True)
class Problem:
    """What is wrong with one record; a record with an unusable problem is not in the corpus.

    ``seconds`` is how long one is that is too short.
    """

    record: str
    problem: str
    usable: bool
    seconds: float | None = None


@dataclass(frozen=True)
class TreeState:
    """A directory tree at one time: the ``fingerprint`` of its files, and the name of the source that reads them."""

    fingerprint: str
    reader: str


class TooManyBadError(CorpusError):
    """More records than are put up with cannot be used; ``problems`` says which and why, of all records."""

    def __init__(self, n_bad: int, n_listed: int, problems: list[Problem]) -> None:
        super().__init__(f"{n_bad:,} of {n_listed:,} records cannot be used")
        self.n_bad, self.n_listed, self.problems = n_bad, n_listed, problems


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
        self.manifest = read_manifest(root)
        self.name: str = self.manifest["name"]
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

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def signals(self) -> NDArray[np.float32]:
        """Memory-mapped float32 (records, leads, samples) in millivolt."""
        signals: NDArray[np.float32] = np.load(self.root / "signals.npy", mmap_mode="r")
        return signals

    @property
    def contract(self) -> SignalContract:
        """What the signals are made of."""
        return SignalContract(self.leads, self.fs, self.signals.shape[2])

    @cached_property
    def ages(self) -> NDArray[np.float32]:
        """Age in years (records,), NaN where the publisher does not say."""
        return self._column("ages")

    @cached_property
    def sexes(self) -> NDArray[np.str_]:
        """Sex, female or male, (records,), empty where the publisher does not say."""
        return self._column("sexes")

    @property
    def unusable(self) -> int | None:
        """How many listed records could not be used; None where an older version prepared this, which did not say."""
        return self.manifest.get("unusable")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks that this corpus defines."""
        return tuple(self.manifest["tasks"])

    @property
    def first_task(self) -> str:
        """The task that is meant where none is named. Raises CorpusError where there is none."""
        if not self.tasks:
            raise CorpusError(f"{self.root} has no task: prepare it again with labels")
        return self.tasks[0]

    @property
    def tells_patients_apart(self) -> bool:
        """Whether any two records are of one patient: where none are, each may only be counted as its own."""
        return len(np.unique(self.patients)) < len(self.patients)

    def verify(self) -> None:
        """Read every byte and compare with the manifest. Raises CorpusError naming the altered file."""
        for name in _FILES:
            self._check(name)
        if self.content_hash != _content_hash(self.manifest, [self.record_ids, self.patients, self.folds]):
            raise CorpusError(f"{self.root} does not hold the data that its content_hash names; prepare it again")

    def task(self, name: str) -> TaskData:
        """Return a task's records and labels; the empty name is the corpus's first task.

        Raises CorpusError for a task that this corpus does not define.
        """
        name = name or self.first_task
        definition = self._definition(name)
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
        return str(self._definition(name)["description"])

    def classes_of(self, name: str) -> dict[str, list[str]]:
        """Return a task's classes, each with the labels that it is the union of."""
        classes: dict[str, list[str]] = self._definition(name)["classes"]
        return classes

    def is_labelled_only(self, name: str) -> bool:
        """Whether a task leaves out the records that have none of its classes."""
        return bool(self._definition(name)["labelled_only"])

    def task_hash(self, name: str) -> str:
        """Return the identity of a task's data: the content hash and which labels make up which class."""
        definition = {key: self._definition(name)[key] for key in ("classes", "labelled_only")}
        return hashlib.sha256(json.dumps([self.content_hash, definition]).encode()).hexdigest()

    def _definition(self, name: str) -> dict[str, Any]:
        """Return a task's definition; labels joined by ``+`` are a task of these classes, of all records."""
        name = name or self.first_task
        definition: dict[str, Any] | None = self.manifest["tasks"].get(name)
        if definition is not None:
            return definition
        labels = name.split("+")
        if unknown := [label for label in labels if label not in self.label_names]:
            raise CorpusError(
                f"corpus {self.name} has no task {name!r}; it has {', '.join(self.tasks)}, and its labels can be "
                f"joined by + ({unknown[0]!r} is none of them)"
            )
        classes = {label: [label] for label in dict.fromkeys(labels)}
        return {"description": f"the labels {', '.join(classes)}", "classes": classes, "labelled_only": False}

    def _column(self, name: str) -> NDArray[Any]:
        with np.load(self.root / "records.npz") as records:
            column: NDArray[Any] = records[name]
        return column

    def _check(self, name: str) -> None:
        if _sha256(self.root / name) != self.manifest["sha256"][name]:
            raise CorpusError(f"{self.root / name} was altered or damaged after it was prepared; prepare it again")


def default_corpora() -> Path:
    """Return the folder of prepared corpora: ``ECGADVISE_CORPORA``, else the user's data folder."""
    from platformdirs import user_data_path

    named = os.environ.get("ECGADVISE_CORPORA")
    return Path(named) if named else user_data_path("ecgadvise") / "corpora"


def prepare(
    source: Source,
    target: Path,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    workers: int = 1,
    preparation: Preparation = CONTRACT,
    max_bad: int | None = None,
    prepared_from: TreeState | None = None,
    sampling: Sampling = DEFAULT_SAMPLING,
) -> tuple[Corpus, list[Problem]]:
    """Read every record of a source into ``target`` and return the corpus and what was wrong with which record.

    The corpus has the name of its directory. The same records in another ``preparation`` or ``sampling`` are other
    data.
    ``prepared_from`` is kept in the manifest, for whoever has that tree to prepare again; it is not part of the
    data's identity.
    The directory appears under its name only when it is complete, and is the same for any number of worker processes.
    Raises CorpusError when ``target`` exists, cannot be written, or no record is usable or no class there is,
    TooManyBadError when more than ``max_bad`` are not; SourceError when the source's tables are malformed.
    """
    if target.exists():
        raise CorpusError(f"{target} exists already{_of_another(target, prepared_from)}; remove it to prepare it again")
    entries = source.entries()
    if not entries:
        raise CorpusError(f"{source.name} lists no records")
    if not any(task.classes for task in source.tasks.values()):
        raise CorpusError(f"{source.name} has no labels: no task of it has a class")
    try:
        with written_whole(target) as folder:
            readings = read_all(source, entries, folder / _RAW, workers, progress, preparation, sampling)
            n_bad = sum(not reading.usable for reading in readings)
            if max_bad is not None and n_bad > max_bad:
                raise TooManyBadError(n_bad, len(entries), _problems(readings))
            kept = _keep_usable(source, entries, readings, folder, sampling)
            facts = {
                "name": target.name,
                **describe(source, preparation, sampling),
                "unusable": len(entries) - len(kept),
                "unusable_labels": excluded_labels(entries, readings),
                "recorded": summarise_recordings(readings),
                "remarks": summarise(readings),
            }
            if prepared_from is not None:
                facts["prepared_from"] = asdict(prepared_from)
            _write_tables(source, facts, kept, folder)
    except OSError as error:
        raise UnwritableCorpusError(f"cannot write {target}: {error.strerror}") from error
    return Corpus(target), _problems(readings)


def short_records(problems: Sequence[Problem], n_usable: int, listed: int, sampling: Sampling) -> ShortRecords | None:
    """Return what there is to say where more of the ``listed`` records are too short than can be used."""
    lengths = [problem.seconds for problem in problems if problem.seconds is not None]
    return find_short(lengths, n_usable, listed, sampling)


def _of_another(target: Path, tree: TreeState | None) -> str:
    """Say where a corpus is of another tree than the one to be prepared: folders of one name share it."""
    try:
        stored = read_manifest(target).get("prepared_from")
    except CorpusError:
        return ""
    is_other = tree is not None and stored is not None and stored != asdict(tree)
    return " and holds other records than these, or these as they were before" if is_other else ""


def _problems(readings: Sequence[Reading]) -> list[Problem]:
    return [Problem(r.record, problem, r.usable, r.seconds) for r in readings for problem in r.problems]


def write_divided(corpus: Corpus, data: TaskData, folds: NDArray[np.int64], target: Path) -> Corpus:
    """Write a corpus of the same records with one task, ``labels``, of ``data``'s classes and with ``folds`` (rows,).

    Records that are not in ``data`` have no fold. The signals stay where they are, behind a link. ``target`` is
    replaced where it is there. Raises CorpusError when it cannot be written.
    """
    labels = np.zeros((len(corpus), len(data.classes)), np.uint8)
    labels[data.rows] = data.labels
    of_record = np.full(len(corpus), -1, np.int64)
    of_record[data.rows] = folds
    with np.load(corpus.root / "records.npz") as stored:
        columns = {**stored, "folds": of_record}
    definition = TaskDefinition(
        corpus.describe_task(data.name.partition("/")[2]), {c: [c] for c in data.classes}, False
    )
    try:
        with written_whole(target) as folder:
            (folder / "signals.npy").symlink_to((corpus.root / "signals.npy").resolve())
            np.save(folder / "labels.npy", labels)
            np.savez(folder / "records.npz", **columns)
            others = {
                "manifest_hash",
                "prepared_from",
                "unusable_labels",
            }  # what is written here is not what the tree holds
            manifest = {name: value for name, value in corpus.manifest.items() if name not in others}
            manifest |= {"name": target.name, "labels": data.classes, "tasks": {"labels": _plain(definition)}}
            manifest["sha256"] = manifest["sha256"] | {name: _sha256(folder / name) for name in _FILES[1:]}
            manifest["content_hash"] = _content_hash(manifest, [corpus.record_ids, corpus.patients, of_record])
            manifest = json.loads(json.dumps(manifest))
            manifest["manifest_hash"] = _manifest_hash(manifest)
            (folder / "corpus.json").write_text(json.dumps(manifest, indent=1))
    except OSError as error:
        raise UnwritableCorpusError(f"cannot write {target}: {error.strerror}") from error
    return Corpus(target)


def _keep_usable(
    source: Source, entries: list[Entry], readings: list[Reading], folder: Path, sampling: Sampling
) -> list[Entry]:
    """Turn the blocks that were read into ``signals.npy`` and return the usable entries, in its order."""
    rows = [row for row, reading in enumerate(readings) if reading.usable]
    if not rows:
        short = find_short([r.seconds for r in readings if r.seconds is not None], 0, len(entries), sampling)
        if short is not None:
            raise CorpusError(f"no record of {source.name} is usable: {short.in_words()}")
        reason = readings[0].problems[0]
        raise CorpusError(f"none of the {len(entries):,} records of {source.name} is usable: {reason}")
    _gather(folder / _RAW, folder / "signals.npy", (len(source.leads), sampling.n_samples), rows)
    (folder / _RAW).unlink()
    return [entries[row] for row in rows]


def _gather(raw: Path, target: Path, shape: tuple[int, int], rows: list[int]) -> None:
    """Copy the blocks ``rows`` of a file of float32 blocks of ``shape`` into an .npy file, little memory at a time."""
    size = 4 * shape[0] * shape[1]
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), *shape)}
    with raw.open("rb") as source, target.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for row in rows:
            source.seek(row * size)
            file.write(source.read(size))


def describe(source: Source, preparation: Preparation, sampling: Sampling) -> dict[str, Any]:
    """Return what a manifest says of a source and of how its records are prepared."""
    return {
        "source": {key: getattr(source, key) for key in ("name", "version", "licence", "url", "citation")},
        "preparation": asdict(preparation),
        "fs": float(sampling.fs),
        "leads": list(source.leads),
        "labels": list(source.labels),
        "tasks": {name: _plain(task) for name, task in source.tasks.items()},
    }


def _write_tables(source: Source, facts: dict[str, Any], entries: list[Entry], folder: Path) -> None:
    columns = {label: column for column, label in enumerate(source.labels)}
    labels = np.zeros((len(entries), len(columns)), np.uint8)
    for row, entry in enumerate(entries):
        labels[row, [columns[label] for label in entry.labels]] = 1
    np.save(folder / "labels.npy", labels)
    patients = np.unique([entry.patient for entry in entries], return_inverse=True)[1].astype(np.int64)
    record_ids = np.array([entry.record_id for entry in entries])
    folds = np.array([-1 if entry.fold is None else entry.fold for entry in entries], np.int64)
    ages = np.array([np.nan if entry.age is None else entry.age for entry in entries], np.float32)
    sexes = np.array([entry.sex or "" for entry in entries])
    np.savez(folder / "records.npz", record_ids=record_ids, patients=patients, folds=folds, ages=ages, sexes=sexes)
    manifest: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **facts,
        "records": len(entries),
        "sha256": {name: _sha256(folder / name) for name in _FILES},
    }
    manifest["content_hash"] = _content_hash(manifest, [record_ids, patients, folds])
    manifest["manifest_hash"] = _manifest_hash(manifest)
    (folder / "corpus.json").write_text(json.dumps(manifest, indent=1))


def _plain(task: TaskDefinition) -> dict[str, Any]:
    return {**asdict(task), "classes": {name: list(union) for name, union in task.classes.items()}}


def read_manifest(root: Path) -> dict[str, Any]:
    """Return what ``corpus.json`` says. Raises CorpusError when it is missing, altered or of another schema."""
    try:
        manifest: Any = json.loads((root / "corpus.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        said = f"{root} is not a prepared corpus: it has no corpus.json; see ecgadvise data prepare"
        raise CorpusError(said) from None
    except OSError as error:
        raise CorpusError(f"cannot read {root / 'corpus.json'}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{root / 'corpus.json'} is damaged: {decoding_fault(error)}; prepare it again") from None
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise CorpusError(f"{root} has corpus schema {version}; this version reads {SCHEMA_VERSION}: prepare it again")
    if manifest.get("manifest_hash") != _manifest_hash(manifest):
        raise CorpusError(f"{root / 'corpus.json'} was altered after it was prepared; prepare it again")
    checked: dict[str, Any] = manifest
    return checked


def _manifest_hash(manifest: dict[str, Any]) -> str:
    """Return a hash of everything in the manifest but itself: an edited one is found without reading the data."""
    rest = {key: value for key, value in manifest.items() if key != "manifest_hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


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
