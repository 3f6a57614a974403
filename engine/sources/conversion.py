"""A directory of one's own in one form: WFDB with checksums, one table, and nothing in it that names a person.

What is written: every lead that can be used, at its own rate, as 16-bit numbers with a gain that uses all of them;
``records.csv`` with what was understood of the tables and files. Patients are called by a keyed hash (HMAC-SHA256), the
same for one number in every conversion with the same key. Names, birth dates, dates of recordings, remarks and columns
that were not understood are left out; a recording whose file is named after its patient gets another name.
"""

import csv
import hashlib
import hmac
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.files import written_whole
from engine.processes import run_chunks
from engine.records.formats.contents import NOBODY
from engine.records.formats.recordings import WFDB, Recording
from engine.records.record import LEADS, Record, RecordError
from engine.records.snomed import in_order
from engine.sources import Entry, SourceError
from engine.sources.own_directory import Directory
from engine.sources.own_tables.patients import same_patient

TABLE = "records.csv"
_CHUNK = 16  # recordings a worker takes at a time
_WORTH_WORKERS = 64  # fewer are converted before a worker process has started
_HASH = 16  # hexadecimal digits of a patient's name: 64 bits
_SHORTEST = 3  # letters or digits in a row that may be a person's in a file's name
_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")  # what names of WFDB records do not have
_CHANNEL = re.compile(r"[\w.+/()%-]{1,16}")


@dataclass(frozen=True)
class Conversion:
    """What came of it: recordings written and refused (with the reason), and how many were given another name."""

    written: int
    refused: tuple[tuple[str, str], ...]
    renamed: int


@dataclass(frozen=True)
class _Done:
    """What became of one recording: its new name and patient, or why it was refused; ``renamed`` as it named one."""

    record_id: str
    name: str = ""
    patient: str = ""
    problem: str | None = None
    renamed: bool = False


@dataclass(frozen=True)
class _Work:
    """What a worker needs: names of the recordings, their patients by a table, and their diagnosis codes."""

    folder: Path
    key: bytes
    names: Mapping[str, str]
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

    The folder appears when it is complete. Raises SourceError where it is there already or cannot be written, or no
    recording can be converted.
    """
    if target.exists():
        raise SourceError(f"{target} exists already: choose another folder, or remove it")
    entries = {entry.record_id: entry for entry in source.entries()}
    recordings = list(source.recordings.values())
    try:
        with written_whole(target) as folder:
            done = _convert_all(source, entries, recordings, folder, key, workers, progress)
            written = [one for one in done if one.problem is None]
            if not written:
                reason = f": {done[0].problem}" if done else ""
                raise SourceError(f"no recording of {source.root} can be converted{reason}")
            (folder / TABLE).write_text(_table(source, entries, written), encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot write {target}: {error.strerror}") from error
    refused = tuple((one.record_id, one.problem) for one in done if one.problem is not None)
    return Conversion(len(written), refused, sum(one.renamed for one in written))


def _convert_all(
    source: Directory,
    entries: Mapping[str, Entry],
    recordings: Sequence[Recording],
    folder: Path,
    key: bytes,
    workers: int,
    progress: Callable[[int, int], None],
) -> list[_Done]:
    names = _names([recording.record_id for recording in recordings])
    numbers = {
        record: entry.patient for record, entry in entries.items() if source.patients_named_by_table and entry.patient
    }
    codes = {} if source.labelled_by_table else {record: entry.labels for record, entry in entries.items()}
    work = partial(_convert_chunk, _Work(folder, key, names, numbers, codes))
    chunks = [(start, recordings[start : start + _CHUNK]) for start in range(0, len(recordings), _CHUNK)]
    done: dict[int, list[_Done]] = {}
    for start, chunk in run_chunks(work, chunks, workers if len(recordings) >= _WORTH_WORKERS else 1):
        done[start] = chunk
        progress(sum(map(len, done.values())), len(recordings))
    return [one for start in sorted(done) for one in done[start]]


def _names(record_ids: Sequence[str]) -> dict[str, str]:
    """Return for each recording a path that WFDB takes: letters, digits, hyphens and underscores, no two alike."""
    plain = {one: "/".join(_PLAIN.sub("_", part) or "_" for part in one.split("/")) for one in record_ids}
    times = Counter(name.casefold() for name in plain.values())
    return {
        one: name if times[name.casefold()] == 1 else f"{name}-{hashlib.sha256(one.encode()).hexdigest()[:8]}"
        for one, name in plain.items()
    }


def _convert_chunk(work: _Work, _start: int, recordings: Sequence[Recording]) -> list[_Done]:
    return [_convert_one(work, recording) for recording in recordings]


def _convert_one(work: _Work, recording: Recording) -> _Done:
    record_id, person = recording.record_id, NOBODY
    try:
        if recording.format == WFDB:
            record = recording.read()
        else:
            contents = recording.contents()
            person, record = contents.person, contents.record()
        number = work.numbers.get(record_id) or person.number
        renamed = _names_a_person(record_id, (*person.identity, *([number] if number else [])))
        name = f"record-{_hash(work.key, 'name', record_id)}" if renamed else work.names[record_id]
        _write(record, work.folder / name, work.codes.get(record_id, frozenset()))
    except RecordError as error:
        return _Done(record_id, problem=str(error))
    patient = _hash(work.key, "patient", same_patient(number)) if number else _hash(work.key, "record", record_id)
    return _Done(record_id, name, patient, renamed=renamed)


def _hash(key: bytes, kind: str, text: str) -> str:
    return hmac.new(key, f"{kind}:{text}".encode(), hashlib.sha256).hexdigest()[:_HASH]


def _names_a_person(record_id: str, identity: Sequence[str]) -> bool:
    """Whether a recording's path holds a number, a name or a date of its patient, however it is punctuated."""
    path = re.sub(r"[\W_]", "", record_id.casefold())
    for text in identity:
        words = [word for word in re.split(r"[\W_]+", text.casefold()) if len(word) >= _SHORTEST]
        joined = re.sub(r"[\W_]", "", text.casefold())
        if any(word in path for word in (*words, *([joined] if len(joined) >= _SHORTEST else []))):
            return True
    return False


def _write(record: Record, path: Path, codes: frozenset[str]) -> None:
    """Write a record's sound leads in format 16. Raises RecordError for one without a single sample."""
    import wfdb

    faulty = {row for row, _reason in record.faults}
    rows = [row for row in range(len(record.leads)) if row not in faulty]
    signals = record.signals[rows].astype(np.float64)
    if not np.isfinite(signals).any():
        raise RecordError("every sample is missing")
    gains, baselines, stored = _quantised(signals)
    path.parent.mkdir(parents=True, exist_ok=True)
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
    baselines = -np.round(gains * (low + high) / 2).astype(np.int64)
    with np.errstate(invalid="ignore"):
        scaled = np.round(signals * gains[:, None]) + baselines[:, None]
    return gains, baselines, np.where(np.isnan(signals), -32768, scaled).astype(np.int64)


def _channel_names(leads: Sequence[str]) -> list[str]:
    """Return names for a header, each once: a channel that is no lead may have been named after a person."""
    names = [
        lead if lead in LEADS or _CHANNEL.fullmatch(lead) else f"channel {row + 1}" for row, lead in enumerate(leads)
    ]
    return [name if names.index(name) == row else f"{name} ({row + 1})" for row, name in enumerate(names)]


def _table(source: Directory, entries: Mapping[str, Entry], written: Sequence[_Done]) -> str:
    """Return ``records.csv``: record, patient, age, sex, fold where there are any, and one column a label."""
    has_folds = any(entry.fold is not None for entry in entries.values())
    labels = source.labels if source.labelled_by_table else ()
    rows = [["record", "patient", "age", "sex", *(["fold"] if has_folds else []), *labels]]
    for one in written:
        entry = entries[one.record_id]
        if labels and entry.problem is not None:
            continue  # the table says nothing that can be used of it, and this one says nothing
        row = [one.name, one.patient, "" if entry.age is None else f"{entry.age:g}", entry.sex or ""]
        row += ["" if entry.fold is None else str(entry.fold)] if has_folds else []
        rows.append([*row, *("1" if label in entry.labels else "0" for label in labels)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
