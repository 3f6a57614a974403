"""Predictions from an exported model: onnxruntime and the signal contract, no torch.

A record is read and prepared as it was for training (``engine.records.record``, ``engine.records.signal``), with the
leads, the sampling frequency and the length that the model file names, so that a record gives the same input in both
places.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.deploy.model_facts import ModelFacts, ModelFactsError, read_metadata
from engine.records.contract import SignalContract
from engine.records.folders import NotEntered, walk
from engine.records.formats.recordings import find_recordings, recordings_in
from engine.records.record import LEADS, Record, RecordError
from engine.records.signal import CONTRACT, Preparation, conform
from models.errors import ExitCode, UserError

BATCH_SIZE = 64


class ModelError(UserError, ValueError):
    """A model file that is missing, damaged or not from ``ecgadvise export``; one sentence says which."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class Model:
    """An opened model: the onnxruntime session and what the file says about itself."""

    session: Any
    facts: ModelFacts

    def probabilities(self, signals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (records, classes) of signals (records, leads, samples) in millivolt."""
        (result,) = self.session.run(["probability"], {"ecg": signals})
        return np.asarray(result, np.float32)


@dataclass(frozen=True)
class Listed:
    """A record to predict: its name in the output and how it is read (raises RecordError)."""

    record: str
    read: Callable[[], Record]


@dataclass(frozen=True)
class Prediction:
    """What came of a record: a probability for each class, or None and the ``problem``; ``notes`` on its signal."""

    record: str
    probabilities: tuple[float, ...] | None
    problem: str | None = None
    notes: tuple[str, ...] = ()


def open_session(model: str | bytes, threads: int | None = None) -> Any:
    """Open an ONNX model, a path or its bytes, on the processor. Raises what onnxruntime raises."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: those are raised as well
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def session_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises for a model that it cannot load or run."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented",
             "RuntimeException")  # fmt: skip
    return tuple(getattr(state, name) for name in names)


def open_model(path: Path, threads: int | None = None) -> Model:
    """Open the model file that ``ecgadvise export`` wrote. Raises ModelError.

    ``threads`` are those that a prediction uses, None: as many as onnxruntime takes.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    try:
        session = open_session(content, threads)
    except session_errors():
        said = f"{path} is not an ONNX model that onnxruntime can load: damaged, or of another kind"
        raise ModelError(said) from None
    try:
        facts = read_metadata(session.get_modelmeta().custom_metadata_map)
    except ModelFactsError as error:
        raise ModelError(f"{path} cannot be used to predict: {error}; write it with ecgadvise export") from None
    _check_signature(path, session, facts)
    return Model(session, facts)


def _check_signature(path: Path, session: Any, facts: ModelFacts) -> None:
    """Raise ModelError where the graph does not take and give what the metadata say."""
    inputs = [(one.name, list(one.shape)[1:]) for one in session.get_inputs()]
    outputs = {one.name: list(one.shape)[1:] for one in session.get_outputs()}
    wanted = [("ecg", [len(facts.leads), facts.n_samples])]
    if inputs != wanted or outputs.get("probability") != [len(facts.classes)]:
        raise ModelError(f"{path} was altered after export: its graph does not fit its leads, samples and classes")


def list_records(path: Path) -> list[Listed]:
    """Return the recordings of a file (of WFDB with or without suffix), or those of a directory, in order.

    A publisher's tree is read as for training, where that corrects gains or lead names; anything else is searched for
    recordings in every format that is read. What is not entered there is listed too, to fail when it is read: records
    may lie behind it. Raises RecordError where a directory holds none.
    """
    try:
        is_folder = path.is_dir()
    except OSError as error:  # a name that is too long for the file system
        raise RecordError(f"unreadable: {error.strerror}") from None
    if not is_folder:
        return [Listed(one.record_id, one.read) for one in recordings_in(path)]
    published = _published_records(path)
    if published is not None:
        return published
    tree = walk(path)
    found = find_recordings(tree)
    if not found.recordings:
        left = f" ({'; '.join(tree.sentences)})" if tree.sentences else ""
        raise RecordError(f"no ECG recording was found in it or in its folders{left}")
    listed = [Listed((path / one.record_id).as_posix(), one.read) for one in found.recordings]
    return [*listed, *(_unlisted(one) for one in tree.not_entered if not one.is_loop)]


def _unlisted(one: NotEntered) -> Listed:
    def read() -> Record:
        raise RecordError(f"not entered: {one.reason}")

    return Listed(one.path.as_posix(), read)


def _published_records(root: Path) -> list[Listed] | None:
    """Return the records of a tree whose reader does more than read headers, else None. Labels are not asked for."""
    from engine.sources import Entry, SourceError
    from engine.sources.challenges.challenge2021 import Challenge
    from engine.sources.challenges.challenge2025 import Challenge2025
    from engine.sources.detect import open_source
    from engine.sources.own_directory import Directory

    try:
        source = open_source(root)
        entries = [] if isinstance(source, Directory | Challenge | Challenge2025) else source.entries()
    except SourceError:
        return None

    def listed(entry: Entry) -> Listed:
        return Listed((root / entry.record_id).as_posix(), lambda: source.read(entry))

    return [listed(entry) for entry in entries] or None


def prepare(record: Record, signal: SignalContract, preparation: Preparation = CONTRACT) -> Record:
    """Return a recording as a network takes it. Raises RecordError for one that cannot be brought to that."""
    return conform(_only_lead(record, signal.leads), signal.leads, signal.fs, signal.seconds, preparation)


def _only_lead(record: Record, leads: tuple[str, ...]) -> Record:
    """Take the one lead of a record for the one that the model wants, where its name is none of the twelve."""
    sound = record.sound_leads
    if len(leads) != 1 or len(sound) != 1 or sound[0] in LEADS:
        return record
    note = f"its one lead, {sound[0]}, is taken for {leads[0]}"
    row = record.leads.index(sound[0])
    return replace(record, signals=record.signals[[row]], leads=leads, notes=(*record.notes, note), faults=())


def predict_records(model: Model, records: Sequence[Listed], batch_size: int = BATCH_SIZE) -> Iterator[Prediction]:
    """Yield a prediction for every record, in their order, a batch in memory at a time; a bad record stops nothing."""
    for start in range(0, len(records), batch_size):
        read = [_read(one, model.facts) for one in records[start : start + batch_size]]
        usable = [one.signals for one in read if isinstance(one, Record)]
        rows = iter(model.probabilities(np.stack(usable)) if usable else ())
        for listed, result in zip(records[start : start + batch_size], read, strict=True):
            if isinstance(result, Record):
                yield _prediction(listed.record, next(rows), result.notes)
            else:
                yield Prediction(listed.record, None, result)


def _read(listed: Listed, facts: ModelFacts) -> Record | str:
    """Return the prepared record, or why it cannot be used."""
    try:
        preparation = Preparation(**facts.preparation)
        return prepare(listed.read(), facts.contract, preparation)
    except RecordError as error:
        return str(error)


def _prediction(record: str, row: NDArray[np.float32], notes: tuple[str, ...]) -> Prediction:
    if not np.isfinite(row).all():
        return Prediction(record, None, "the model gives no finite probability for it", notes)
    return Prediction(record, tuple(row.tolist()), None, notes)


def decisions(probabilities: Sequence[float], facts: ModelFacts) -> tuple[bool, ...]:
    """Return for each class whether its probability is at least its threshold."""
    return tuple(p >= threshold for p, threshold in zip(probabilities, facts.thresholds, strict=True))
