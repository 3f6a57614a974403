"""Reading every record of a source: in parallel, each brought to the signal contract, nothing stopped by a bad one."""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.processes import run_chunks
from engine.records.contract import DEFAULT_SAMPLING, Sampling
from engine.records.record import RecordError
from engine.records.signal import CONTRACT, Preparation, TooShortError, conform
from engine.sources import Entry, Source

_CHUNK = 256  # records a worker takes at a time
_NUMBER = re.compile(r"(?<![^\W_])\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")  # V1 is a lead, not a number
_NUMBERED = re.compile(r"[^\W\d_]\d")  # a digit of a name, as in r12
_WORTH_WORKERS = 1024  # fewer records are read before a worker process has started


@dataclass(frozen=True)
class Reading:
    """What came of one record: ``problems`` in words, and a digest of its signal where it is usable.

    ``seconds`` is how long one is that is too short; ``recorded`` the rate in hertz and the seconds that a usable one
    has in its file.
    """

    record: str
    usable: bool
    problems: tuple[str, ...]
    digest: bytes
    seconds: float | None = None
    recorded: tuple[float, float] | None = None


def read_all(
    source: Source,
    entries: Sequence[Entry],
    signals: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    preparation: Preparation = CONTRACT,
    sampling: Sampling = DEFAULT_SAMPLING,
) -> list[Reading]:
    """Read the entries and return what came of each, in their order.

    With ``signals``, the conformed float32 samples of entry k are written to that file as its k-th block; an entry
    that is not usable leaves its block as it was.
    """
    if signals is not None:
        signals.touch()
    reader = _Reader(source, signals, preparation, sampling)
    chunks = [(start, entries[start : start + _CHUNK]) for start in range(0, len(entries), _CHUNK)]
    readings: dict[int, list[Reading]] = {}
    done = 0
    for start, chunk in run_chunks(reader.read_chunk, chunks, workers if len(entries) >= _WORTH_WORKERS else 1):
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


def kind_of(problem: str, record: str) -> str:
    """Return what problems have in common that differ in numbers alone, as two records' lengths in seconds.

    The name of the ``record``, or of its file, counts as a number; a lead's name does not.
    """
    file = record.rpartition("/")[2]
    for name in dict.fromkeys((record, file, file.rpartition(".")[0])):
        if name in problem and _NUMBERED.search(name):  # the digits of other names are numbers as they are
            problem = re.sub(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", "#", problem)
    return _NUMBER.sub("#", problem)


def summarise(readings: Sequence[Reading]) -> dict[str, Any]:
    """Return what a corpus keeps of its readings: the kinds of remark with their counts, and groups of equal signals.

    Remarks that differ in numbers alone are of one kind. ``equal_signals`` are rows of the corpus.
    """
    usable = [reading for reading in readings if reading.usable]
    kinds: dict[str, list[str]] = defaultdict(list)
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, reading in enumerate(usable):
        rows[reading.digest].append(row)
        for kind, words in {kind_of(words, reading.record): words for words in reading.problems}.items():
            kinds[kind].append(words)
    return {
        "remarked": sum(bool(reading.problems) for reading in usable),
        "kinds": [{"words": said[0], "records": len(said), "alike": len(set(said)) == 1} for said in kinds.values()],
        "equal_signals": [group for group in rows.values() if len(group) > 1],
    }


def excluded_labels(entries: Sequence[Entry], readings: Sequence[Reading]) -> list[list[Any]]:
    """Return which labels the unusable entries have together and how many have these, for a corpus's manifest.

    ``[["AF", "RBBB"], 2]`` are two records; None in place of the labels are such as nobody knows them of.
    """
    found = Counter(
        tuple(sorted(entry.labels)) if entry.labels_known else None
        for entry, reading in zip(entries, readings, strict=True)
        if not reading.usable
    )
    ordered = sorted(found.items(), key=lambda item: (item[0] is not None, item[0] or ()))
    return [[None if labels is None else list(labels), n] for labels, n in ordered]


def summarise_recordings(readings: Sequence[Reading]) -> dict[str, Any]:
    """Return how the usable records were recorded: how many at which rate in hertz, and the shortest and the longest.

    The prepared ones are all at one rate and of one length.
    """
    recorded = [reading.recorded for reading in readings if reading.recorded is not None]
    rates = Counter(fs for fs, _ in recorded)
    lengths = [round(seconds, 2) for _, seconds in recorded]
    return {"fs": [[fs, n] for fs, n in sorted(rates.items())], "seconds": [min(lengths), max(lengths)]}


@dataclass(frozen=True)
class _Reader:
    """What a worker process needs to know once."""

    source: Source
    signals: Path | None
    preparation: Preparation
    sampling: Sampling

    def read_chunk(self, start: int, chunk: Sequence[Entry]) -> list[Reading]:
        file = os.open(self.signals, os.O_RDWR) if self.signals is not None else None
        try:
            return [self._read(entry, start + k, file) for k, entry in enumerate(chunk)]
        finally:
            if file is not None:
                os.close(file)

    def _read(self, entry: Entry, position: int, file: int | None) -> Reading:
        try:
            if entry.problem is not None:
                raise RecordError(entry.problem)
            recording = self.source.read(entry)
            record = conform(recording, self.source.leads, self.sampling.fs, self.sampling.seconds, self.preparation)
        except RecordError as error:
            seconds = error.seconds if isinstance(error, TooShortError) else None
            return Reading(entry.record_id, False, (str(error),), b"", seconds)
        samples = record.signals.tobytes()
        if file is not None:
            os.pwrite(file, samples, position * len(samples))
        digest = hashlib.blake2b(samples, digest_size=16).digest()
        recorded = float(recording.fs), recording.signals.shape[1] / recording.fs
        return Reading(entry.record_id, True, record.notes, digest, recorded=recorded)
