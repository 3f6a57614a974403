"""Reading every record of a source: in parallel, each brought to the signal contract, nothing stopped by a bad one."""

import hashlib
import multiprocessing
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from engine.records import RecordError
from engine.signal import conform
from engine.sources import Entry, Source

_CHUNK = 256  # records a worker takes at a time
_WORTH_WORKERS = 1024  # fewer records are read before a worker process has started


@dataclass(frozen=True)
class Reading:
    """What came of one record: ``problems`` in words, and a digest of its signal where it is usable."""

    record: str
    usable: bool
    problems: tuple[str, ...]
    digest: bytes


def read_all(
    source: Source,
    entries: Sequence[Entry],
    signals: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Reading]:
    """Read the entries and return what came of each, in their order.

    With ``signals``, the conformed float32 samples of entry k are written to that file as its k-th block; an entry
    that is not usable leaves its block as it was.
    """
    chunks = [(start, entries[start : start + _CHUNK]) for start in range(0, len(entries), _CHUNK)]
    readings: dict[int, list[Reading]] = {}
    done = 0
    for start, chunk in _read_chunks(source, chunks, signals, workers if len(entries) >= _WORTH_WORKERS else 1):
        readings[start] = chunk
        done += len(chunk)
        progress(done, len(entries))
    return [reading for start in sorted(readings) for reading in readings[start]]


def duplicates(readings: Sequence[Reading]) -> list[tuple[str, ...]]:
    """Return the groups of usable records whose signals are equal to the bit."""
    groups: dict[bytes, list[str]] = defaultdict(list)
    for reading in readings:
        if reading.usable:
            groups[reading.digest].append(reading.record)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _read_chunks(
    source: Source, chunks: Sequence[tuple[int, Sequence[Entry]]], signals: Path | None, workers: int
) -> Iterator[tuple[int, list[Reading]]]:
    if workers == 1:
        for start, chunk in chunks:
            yield start, _read_chunk(source, chunk, start, signals)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(source,)) as pool:
        try:
            futures = {pool.submit(_read_in_worker, chunk, start, signals): start for start, chunk in chunks}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


_source_of_worker: Source


def _start_worker(source: Source) -> None:
    global _source_of_worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    _source_of_worker = source


def _read_in_worker(chunk: Sequence[Entry], start: int, signals: Path | None) -> list[Reading]:
    return _read_chunk(_source_of_worker, chunk, start, signals)


def _read_chunk(source: Source, chunk: Sequence[Entry], start: int, signals: Path | None) -> list[Reading]:
    file = os.open(signals, os.O_RDWR) if signals is not None else None
    try:
        return [_read_one(source, entry, start + k, file) for k, entry in enumerate(chunk)]
    finally:
        if file is not None:
            os.close(file)


def _read_one(source: Source, entry: Entry, position: int, file: int | None) -> Reading:
    try:
        if entry.problem is not None:
            raise RecordError(entry.problem)
        record = conform(source.read(entry), source.leads, source.fs)
    except RecordError as error:
        return Reading(entry.record_id, False, (str(error),), b"")
    samples = record.signals.tobytes()
    if file is not None:
        os.pwrite(file, samples, position * len(samples))
    return Reading(entry.record_id, True, record.notes, hashlib.blake2b(samples, digest_size=16).digest())
