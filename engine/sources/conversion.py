"""A directory of one's own in one form: WFDB with checksums, one table, and nothing in it that names a person.

What is written: every lead that can be used, at its own rate, as 16-bit numbers with a gain that uses all of them;
``records.csv`` with what was understood of the tables and files. Recordings and patients are called by a keyed hash
(HMAC-SHA256), the same in every conversion with the same key: files are named after their patients too often. Names,
birth dates, dates of recordings, remarks and columns that were not understood are left out.
"""

import csv
import hashlib
import hmac
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.files import written_whole
from engine.processes import run_chunks
from engine.records.formats.recordings import WFDB, Recording
from engine.records.record import LEADS, Record, RecordError
from engine.records.snomed import in_order
from engine.sources import Entry, SourceError
from engine.sources.own_directory import Directory
from engine.sources.own_recordings import who_is
from engine.sources.own_tables.patients import same_patient

TABLE = "records.csv"
_CHUNK = 16  # recordings a worker takes at a time
_WORTH_WORKERS = 64  # fewer are converted before a worker process has started
_HASH = 16  # hexadecimal digits of a patient's name: 64 bits
_MAX_BASELINE = 2.0**31 - 40_000  # what a header's 32 bits and 16-bit samples leave
_LEAD = re.compile(r"V(?:\d{1,2}R?|[XYZ])|ML[IV]+\d?|[XYZ]|Resp|CO2|SpO2\(%\)|PPG|PLETH|ABP|ECG", re.IGNORECASE)


@dataclass(frozen=True)
class Conversion:
    """What came of it: the new name of every recording that was written, and why others were refused."""

    names: Mapping[str, str]
    refused: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Done:
    """What became of one recording: its new name and its patient's, or why it was refused."""

    record_id: str
    name: str = ""
    patient: str = ""
    problem: str | None = None


@dataclass(frozen=True)
class _Work:
    """What a worker needs: the recordings' patients by a table, and their diagnosis codes."""

    folder: Path
    key: bytes
    numbers: Mapping[str, str]
    codes: Mapping[str, frozenset[str]]


def convert(
    source: Directory,
    target: Path,
    key: bytes,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Conversion:
    """Write a directory's recordings into ``target`` as WFDB, with their table.

    The folder appears when it is complete. Raises SourceError where it is there already, lies in the directory, or
    cannot be written, and where no recording can be converted.
    """
    if target.exists():
        raise SourceError(f"{target} exists already: choose another folder, or remove it")
    if target.resolve().is_relative_to(source.root.resolve()):
        raise SourceError(f"{target} is in {source.root}, which would have every record twice: choose another folder")
    entries = source.entries()
    try:
        with written_whole(target) as folder:
            done = _convert_all(source, entries, folder, key, workers, progress)
            written = {one.record_id: one for one in done if one.problem is None}
            if not written:
                reason = f": {done[0].problem}" if done else ""
                raise SourceError(f"no recording of {source.root} can be converted{reason}")
            (folder / TABLE).write_text(_table(source, entries, written), encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot write {target}: {error.strerror or error}") from error
    refused = tuple((one.record_id, one.problem) for one in done if one.problem is not None)
    return Conversion({record: one.name for record, one in written.items()}, refused)


def _convert_all(
    source: Directory,
    entries: Sequence[Entry],
    folder: Path,
    key: bytes,
    workers: int,
    progress: Callable[[int, int], None],
) -> list[_Done]:
    recordings = list(source.recordings.values())
    sound = [entry for entry in entries if entry.problem is None]
    numbers = {entry.record_id: entry.patient for entry in sound} if source.patients_named_by_table else {}
    codes = {} if source.labelled_by_table else {entry.record_id: entry.labels for entry in entries}
    work = partial(_convert_chunk, _Work(folder, key, numbers, codes))
    chunks = [(start, recordings[start : start + _CHUNK]) for start in range(0, len(recordings), _CHUNK)]
    done: dict[int, list[_Done]] = {}
    for start, chunk in run_chunks(work, chunks, workers if len(recordings) >= _WORTH_WORKERS else 1):
        done[start] = chunk
        progress(sum(map(len, done.values())), len(recordings))
    return [one for start in sorted(done) for one in done[start]]


def _convert_chunk(work: _Work, _start: int, recordings: Sequence[Recording]) -> list[_Done]:
    return [_convert_one(work, recording) for recording in recordings]


def _convert_one(work: _Work, recording: Recording) -> _Done:
    record_id, who = recording.record_id, None
    try:
        if recording.format == WFDB:
            record = recording.read()
        else:
            contents = recording.contents()
            who, record = who_is(contents.person), contents.record()
        name = _hash(work.key, "record", record_id)
        _write(record, work.folder / name, work.codes.get(record_id, frozenset()))
    except RecordError as error:
        return _Done(record_id, problem=str(error))
    if record_id in work.numbers:
        who = same_patient(work.numbers[record_id])
    if who is None:  # a patient of its own, not that of another folder's recording of this name
        who = f"{record_id} {hashlib.sha256(record.signals.tobytes()).hexdigest()}"
    return _Done(record_id, name, _hash(work.key, "patient", who))


def _hash(key: bytes, kind: str, text: str) -> str:
    return hmac.new(key, f"{kind}:{text}".encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:_HASH]


def _write(record: Record, path: Path, codes: frozenset[str]) -> None:
    """Write a record's sound leads in format 16. Raises RecordError for one without a single sample."""
    import wfdb

    faulty = {row for row, _reason in record.faults}
    rows = [row for row in range(len(record.leads)) if row not in faulty]
    signals = record.signals[rows].astype(np.float64)
    if not np.isfinite(signals).any():
        raise RecordError("every sample is missing")
    gains, baselines, stored = _quantised(signals)
    wfdb.wrsamp(
        path.name,
        fs=record.fs,
        units=["mV"] * len(rows),
        sig_name=_channel_names([record.leads[row] for row in rows]),
        d_signal=stored.T,
        fmt=["16"] * len(rows),
        adc_gain=gains.tolist(),
        baseline=baselines.tolist(),
        comments=[f"Dx: {','.join(in_order(codes))}"] if codes else None,
        write_dir=str(path.parent),
    )


def _quantised(signals: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return for (leads, samples) in millivolt the gains and baselines (leads,) and 16-bit numbers, -32768 for NaN.

    The gain is a whole number, so that a header gives it exactly: as large as the lead's values allow, at most one that
    makes 1/64 of a microvolt a step.
    """
    low, high = np.nanmin(signals, axis=1, initial=np.inf), np.nanmax(signals, axis=1, initial=-np.inf)
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    gains = np.minimum(65_000 / np.maximum(high - low, 1e-9), 64_000)
    gains = np.where(gains > 1, np.floor(gains), gains)
    gains = np.minimum(gains, _MAX_BASELINE / np.maximum(np.maximum(abs(low), abs(high)), 1e-9))
    baselines = -np.round(gains * (low + high) / 2).astype(np.int64)
    with np.errstate(invalid="ignore"):
        scaled = np.round(signals * gains[:, None]) + baselines[:, None]
    return gains, baselines, np.where(np.isnan(signals), -32768, scaled).astype(np.int64)


def _channel_names(leads: Sequence[str]) -> list[str]:
    """Return names for a header, no two alike: a channel that is no lead may have been named after a person.

    Raises RecordError for a lead of the twelve that is there twice.
    """
    if twice := sorted({lead for lead in leads if lead in LEADS and leads.count(lead) > 1}):
        raise RecordError(f"lead {', '.join(twice)} is there more than once")
    names = [lead if lead in LEADS or _LEAD.fullmatch(lead) else "channel" for lead in leads]
    return [name if names.count(name) == 1 else f"{name} ({row + 1})" for row, name in enumerate(names)]


def _table(source: Directory, entries: Sequence[Entry], written: Mapping[str, _Done]) -> str:
    """Return ``records.csv``: record, patient, age, sex, fold where there are any, and one column a label.

    An entry of which a table says nothing that can be used has no row here either.
    """
    has_folds = any(entry.fold is not None for entry in entries)
    labels = source.labels if source.labelled_by_table else ()
    by_table = source.labelled_by_table or source.patients_named_by_table
    rows = [["record", "patient", "age", "sex", *(["fold"] if has_folds else []), *labels]]
    for entry in entries:
        done = written.get(entry.record_id)
        if done is None or (by_table and entry.problem is not None):
            continue
        row = [done.name, done.patient, "" if entry.age is None else f"{entry.age:g}", entry.sex or ""]
        row += ["" if entry.fold is None else str(entry.fold)] if has_folds else []
        rows.append([*row, *("1" if label in entry.labels else "0" for label in labels)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
