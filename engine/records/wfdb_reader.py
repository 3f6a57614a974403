"""How a WFDB record is read.

The header is read here, by its definition (``engine.records.wfdb_header``). So are samples that are whole numbers in a
file, above all in format 16, which nearly every published 12-lead set has: about ten times as fast as by ``wfdb``, with
the same numbers. Samples in other formats are decoded by ``wfdb``, provided that it understands the header as this
reader does; units, gains and names are never taken from it, as it drops every byte of a header that is not ASCII
(\u00b5V becomes V). A record in segments is put together from its segments.
"""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import file_size, printable, read_content
from engine.records.lead_names import lead_names
from engine.records.record import LEADS, Record, RecordError, describe_faults
from engine.records.units import in_millivolt
from engine.records.wfdb_header import DEFAULT_GAIN, NO_SAMPLES, Channel, HeaderText, Segment, decode, parse

# signal(5): the mark for a missing sample, and how many samples are in how many bytes; format 8 has no mark
_MISSING = {16: -32768, 24: -1 << 23, 32: -1 << 31, 61: -32768, 80: -128, 160: -32768, 212: -2048, 310: -512, 311: -512}
_MISSING |= {508: -128, 516: -32768, 524: -1 << 23}
_PACKED = {8: (1, 1), 16: (1, 2), 24: (1, 3), 32: (1, 4), 61: (1, 2), 80: (1, 1), 160: (1, 2)}
_PACKED |= {212: (2, 3), 310: (3, 4), 311: (3, 4)}
_WHOLE = {16: "<i2", 61: ">i2", 32: "<i4"}  # wfdb 4.3.1 reads 61 only while it smooths frames
_ROUNDED = 1e-5  # relative: how far a frame rate's product may be from a whole number that it was divided from
_MAX_HEADER_BYTES = 1 << 20
_MAX_VALUES = 200_000_000  # a header may ask for any amount of memory
_FIRST_BYTES = 512  # of a header, which tell whether it is that of a record in segments
_SAYS_ENOUGH = re.compile(rb"^[ \t]*[^\s#][ -~]*[ \t]\d[^\n]*$", re.MULTILINE)  # a whole line that is no comment
_IN_SEGMENTS = re.compile(rb"^[ \t]*[^\s/#]+/\d+[ \t]", re.MULTILINE)


@dataclass(frozen=True)
class Header:
    """What a header says: sampling frequency in hertz, length in samples, leads, and the comments without ``#``.

    Rate and length are those of the leads that are read. ``channels`` are the signals' lines, of a record in segments
    those of its layout.
    """

    fs: float
    n_samples: int
    leads: tuple[str, ...]
    comments: tuple[str, ...]
    channels: tuple[Channel, ...] = ()
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    per_frame: int = 1

    @cached_property
    def faults(self) -> tuple[tuple[int, str], ...]:
        """The channels that cannot be used, by their row, with the reason, as ``Record.faults``."""
        kinds = {(channel.format, channel.unit, channel.per_frame) for channel in self.channels}
        reasons = {kind: _fault(*kind, self) for kind in kinds}
        if not any(reasons.values()):
            return ()
        found = (reasons[channel.format, channel.unit, channel.per_frame] for channel in self.channels)
        return tuple((row, reason) for row, reason in enumerate(found) if reason is not None)

    @property
    def gains(self) -> tuple[float, ...]:
        """Units of the analogue-to-digital converter in one physical unit, for each channel."""
        return tuple(channel.gain or DEFAULT_GAIN for channel in self.channels)

    @property
    def sound_leads(self) -> tuple[str, ...]:
        """The leads that can be used."""
        faulty = {row for row, _reason in self.faults}
        return tuple(lead for row, lead in enumerate(self.leads) if row not in faulty)


def without_segments(headers: list[Path]) -> list[Path]:
    """Return the headers of records: those of segments are parts of theirs."""
    in_segments = {header for header in headers if _is_in_segments(header)}
    parts: set[Path] = set()
    for header in in_segments:
        try:
            segments = parse(_header_text(header.with_suffix(""))).segments
        except RecordError:
            continue
        parts |= {header.with_name(f"{segment.name}.hea") for segment in segments}
    return [header for header in headers if header in in_segments or header not in parts] if parts else headers


def _is_in_segments(header: Path) -> bool:
    try:
        if not header.is_file():  # a pipe would be waited for
            return False
        with header.open("rb", buffering=0) as file:
            first = file.read(_FIRST_BYTES)
        if _SAYS_ENOUGH.search(first):
            return _IN_SEGMENTS.search(first) is not None
        return bool(parse(_header_text(header.with_suffix(""))).segments)  # UTF-16, or comments at length
    except (OSError, RecordError):
        return False


def read_header(path: Path) -> Header:
    """Read the header of the WFDB record at ``path`` (without suffix). Raises RecordError."""
    text = parse(_header_text(path))
    header = _header_in_segments(path, text) if text.segments else _header_in_one(path, text)
    if not (np.isfinite(header.fs) and header.fs > 0):
        raise RecordError(f"the header gives a sampling frequency of {header.fs:g} Hz")
    if len(header.leads) * header.n_samples > _MAX_VALUES:
        raise RecordError(f"the header claims {header.n_samples:,} samples of {len(header.leads)} leads")
    return header


def read_wfdb(path: Path) -> Record:
    """Read the WFDB record at ``path`` (without suffix), its checksums verified, in millivolt.

    Samples that the file marks as missing are NaN. Raises RecordError for a missing, truncated or altered record, and
    for one without a single lead that can be used.
    """
    header = read_header(path)
    if len(header.faults) == len(header.leads):
        raise RecordError(describe_faults(header.faults, header.leads) or "holds no samples")
    if not header.n_samples:
        raise RecordError("holds no samples")
    return _read_segments(path, header) if header.segments else _read_one(path, header)


def _header_text(path: Path) -> str:
    file = path.with_name(path.name + ".hea")
    content = read_content(file, 0, _MAX_HEADER_BYTES + 1)
    if len(content) > _MAX_HEADER_BYTES:
        raise RecordError(f"{file.name} is too large to be a WFDB header")
    text = decode(content)
    if not text.strip():
        raise RecordError(f"{file.name} is empty")
    return text


def _header_in_one(path: Path, text: HeaderText) -> Header:
    leads = lead_names(tuple([channel.name for channel in text.channels]))
    per_frame = _samples_a_frame(text.channels, leads)
    n_frames, notes = text.n_frames, text.notes
    can_tell = all(channel.format in _WHOLE for channel in text.channels)  # wfdb would read none
    if n_frames is None or (n_frames == 0 and can_tell):  # header(5): 0 says no more than nothing
        n_frames, notes = _frames_by_size(path, text.channels), (*notes, "its length is told by the file's size only")
    return Header(
        _sampling_frequency(text.frame_rate, per_frame),
        n_frames * per_frame,
        leads,
        text.comments,
        text.channels,
        (),
        notes,
        per_frame,
    )


def _samples_a_frame(channels: Sequence[Channel], leads: Sequence[str]) -> int:
    """Return how many samples a frame has of most leads; channels that are none of the twelve count where all are."""
    if all(channel.per_frame == 1 for channel in channels):
        return 1
    pairs = list(zip(channels, leads, strict=True))
    counts = Counter(channel.per_frame for channel, lead in pairs if lead in LEADS)
    counts = counts or Counter(channel.per_frame for channel in channels)
    return max(counts, key=lambda per_frame: (counts[per_frame], per_frame))


def _sampling_frequency(frame_rate: float, per_frame: int) -> float:
    """Return hertz; 0.166667 frames a second of 600 samples, a rounded rate, are 100 Hz."""
    if per_frame == 1:
        return frame_rate
    fs = frame_rate * per_frame
    return float(round(fs)) if abs(fs - round(fs)) < _ROUNDED * fs else fs


def _fault(form: int, unit: str, per_frame: int, header: Header) -> str | None:
    if form == NO_SAMPLES and not header.segments:
        return "no samples of {} are in the record"
    if in_millivolt(unit) is None:
        return f"unit {printable(unit)} of {{}} is not a voltage"
    if per_frame != header.per_frame:
        other = header.fs / header.per_frame * per_frame
        return f"{{}} is sampled at {other:g} Hz, most leads at {header.fs:g} Hz"
    return None


def _groups(channels: Sequence[Channel]) -> list[list[int]]:
    """Return the rows of the channels of each signal file. Raises RecordError where they are not described as one."""
    groups = [list(rows) for _file, rows in groupby(range(len(channels)), key=lambda row: channels[row].file)]
    groups = [rows for rows in groups if any(channels[row].format != NO_SAMPLES for row in rows)]
    files = [channels[rows[0]].file for rows in groups]
    if len(set(files)) < len(files):
        raise RecordError("the header lists signals of one file apart from each other")
    for rows, file in zip(groups, files, strict=True):
        if len({(channels[row].format, channels[row].offset) for row in rows}) > 1:
            raise RecordError(f"the header gives {printable(file)} more than one format or offset")
    return groups


def _frames_by_size(path: Path, channels: Sequence[Channel]) -> int:
    """Return how many frames the files hold, for a header that does not say. Raises RecordError where they differ."""
    stored = {_stored_frames(path, channels, rows)[0] for rows in _groups(channels)}
    if len(stored) > 1:
        raise RecordError("the header does not give the length, and its signal files differ in theirs")
    return stored.pop() if stored else 0


def _stored_frames(path: Path, channels: Sequence[Channel], rows: Sequence[int]) -> tuple[int, int]:
    """Return how many whole frames, and samples in all, a signal file has room for by its size."""
    first = channels[rows[0]]
    if first.format not in _PACKED:
        raise RecordError("the header does not give the length")
    samples, n_bytes = _PACKED[first.format]
    stored = max(0, file_size(path.parent / first.file) - first.offset) * samples // n_bytes
    return stored // sum(channels[row].per_frame for row in rows), stored


def _read_one(path: Path, header: Header) -> Record:
    """Read a record that is not in segments, or one segment."""
    faulty = {row for row, _reason in header.faults}
    rows = [row for row in range(len(header.leads)) if row not in faulty]
    channels, leads = [header.channels[row] for row in rows], [header.leads[row] for row in rows]
    digital, surplus = _digital(path, header, rows)
    notes = header.notes + _verify(digital, leads, channels, surplus)
    assumed = [lead for lead, channel in zip(leads, channels, strict=True) if not channel.gain]
    if assumed:
        notes += (f"the gain of {_named(assumed)} is 0: {DEFAULT_GAIN:g} units/mV assumed, as WFDB defines",)
    physical = digital.astype(np.float64)
    physical -= np.array([channel.baseline for channel in channels])
    physical /= np.array([channel.gain or DEFAULT_GAIN for channel in channels])
    _mark_missing(physical, digital, channels)
    scale = np.array([in_millivolt(channel.unit) for channel in channels])
    if (scale != 1).any():
        physical *= scale
    with np.errstate(over="ignore"):  # by an absurd gain: infinite, as good as missing
        signals = np.ascontiguousarray(physical.T.astype(np.float32))
    if faulty:
        sound, signals = signals, np.full((len(header.leads), header.n_samples), np.nan, np.float32)
        signals[rows] = sound
    return Record(signals, header.fs, header.leads, notes, header.faults)


def _mark_missing(physical: NDArray[np.float64], digital: NDArray[Any], channels: Sequence[Channel]) -> None:
    """Set missing samples to NaN, and shift skewed signals, which end earlier, both in ``physical`` itself."""
    formats = {channel.format for channel in channels}
    if len(formats) == 1:
        if (mark := _MISSING.get(formats.pop())) is not None:
            physical[digital == mark] = np.nan
    else:
        for column, channel in enumerate(channels):
            physical[digital[:, column] == _MISSING.get(channel.format, np.iinfo(np.int64).max), column] = np.nan
    for column, channel in enumerate(channels):
        if channel.skew:
            late = min(channel.skew * channel.per_frame, len(physical))
            physical[: len(physical) - late, column] = physical[late:, column].copy()
            physical[len(physical) - late :, column] = np.nan


def _digital(path: Path, header: Header, wanted: Sequence[int]) -> tuple[NDArray[Any], str]:
    """Return integers (samples, wanted channels), and which file holds more than the header says, if one does."""
    n_frames, columns = header.n_samples // header.per_frame, {row: k for k, row in enumerate(wanted)}
    groups = [rows for rows in _groups(header.channels) if not columns.keys().isdisjoint(rows)]
    decoded: dict[int, NDArray[Any]] = {}
    by_wfdb: list[int] = []
    surplus = ""
    for rows in groups:
        first = header.channels[rows[0]]
        width = sum(header.channels[row].per_frame for row in rows)
        if first.format in _PACKED:
            stored, samples = _stored_frames(path, header.channels, rows)
            if stored < n_frames:
                raise RecordError(
                    f"truncated: {printable(first.file)} has {stored * header.per_frame} of {header.n_samples} samples"
                )
            surplus = printable(first.file) if samples - n_frames * width >= width else surplus
        else:
            file_size(path.parent / first.file)  # a pipe would be waited for
        if first.format not in _WHOLE:
            by_wfdb += [row for row in rows if row in columns]
            continue
        frames = _whole_numbers(path.parent / first.file, first.offset, n_frames, width, first.format)
        if len(groups) == 1 and width == len(wanted):
            return frames, surplus
        decoded |= _columns(frames, header.channels, rows)
    if by_wfdb:
        decoded |= dict(zip(by_wfdb, _decode_by_wfdb(path, header, by_wfdb), strict=True))
    return np.stack([decoded[row] for row in wanted], axis=1), surplus


def _whole_numbers(file: Path, offset: int, n_frames: int, width: int, form: int) -> NDArray[Any]:
    """Return integers (frames, samples a frame)."""
    kind = np.dtype(_WHOLE[form])
    values = np.frombuffer(read_content(file, offset, kind.itemsize * n_frames * width), np.uint8)
    if len(values) < kind.itemsize * n_frames * width:  # it was longer when its size was asked
        raise RecordError(f"truncated: {printable(file.name)}")
    return values.view(kind).reshape(n_frames, width)


def _columns(frames: NDArray[Any], channels: Sequence[Channel], rows: Sequence[int]) -> dict[int, NDArray[Any]]:
    ends = np.cumsum([channels[row].per_frame for row in rows])
    return {
        row: frames[:, end - channels[row].per_frame : end].reshape(-1) for row, end in zip(rows, ends, strict=True)
    }


def _decode_by_wfdb(path: Path, header: Header, wanted: list[int]) -> list[NDArray[Any]]:
    """Return every sample of the wanted channels, integers. Raises RecordError for anything that goes wrong."""
    import wfdb

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            read = wfdb.rdheader(str(path))
            record = wfdb.rdrecord(str(path), physical=False, smooth_frames=False, ignore_skew=True, channels=wanted)
    except FileNotFoundError as error:
        raise RecordError(f"file missing: {Path(error.filename or path).name}") from None
    except Exception as error:  # wfdb lets through whatever numpy or int() raised on a malformed file
        raise RecordError(f"unreadable by wfdb ({type(error).__name__})") from error  # its text may quote the header
    fields = (read.file_name, read.fmt, read.samps_per_frame, read.skew, read.byte_offset)
    understood = [
        (file, int(fmt), n, skew or 0, offset or 0) for file, fmt, n, skew, offset in zip(*fields, strict=True)
    ]
    meant = [(one.file, one.format, one.per_frame, one.skew, one.offset) for one in header.channels]
    if understood != meant or any(len(signal) != header.n_samples for signal in record.e_d_signal):
        raise RecordError("unreadable: wfdb takes its header for another")
    return [
        signal + header.channels[row].zero if read.fmt[row] == "8" and read.init_value[row] is None else signal
        for row, signal in zip(wanted, record.e_d_signal, strict=True)
    ]  # format 8 has differences, from an initial value that is the ADC's zero where the header gives none


def _verify(samples: NDArray[Any], leads: Sequence[str], channels: Sequence[Channel], surplus: str) -> tuple[str, ...]:
    """Return what is to be said where there is nothing to compare with.

    Raises RecordError where a checksum differs, and where none tells that a file longer than the header says is read
    right.
    """
    stored = [channel.checksum for channel in channels]
    computed = samples.sum(axis=0, dtype=np.int64) % 65536
    wrong = [
        lead
        for lead, have, want in zip(leads, computed, stored, strict=True)
        if want is not None and have != want % 65536
    ]
    if any(stored):
        if wrong:
            raise RecordError(f"checksum mismatch in lead {', '.join(wrong)}")
        unknown = [lead for lead, want in zip(leads, stored, strict=True) if want is None]
        return (f"the header gives no checksum of {_named(unknown)}: not verified",) if unknown else ()
    if surplus:
        raise RecordError(f"{surplus} holds more than the header says, and no checksum tells which is right")
    if stored.count(None) == len(stored):
        return ("the header gives no checksums: not verified", *_first_values(samples, leads, channels))
    return ("the header's checksums are all 0: not verified", *_first_values(samples, leads, channels)) if wrong else ()


def _first_values(samples: NDArray[Any], leads: Sequence[str], channels: Sequence[Channel]) -> tuple[str, ...]:
    """Compare the first sample with the header's, where that gives any: all of them may have been left at 0."""
    given = [channel.first for channel in channels]
    unlike = [
        lead for lead, have, want in zip(leads, samples[0], given, strict=True) if want is not None and have != want
    ]
    return (f"the header's first value of {_named(unlike)} is not the file's",) if any(given) and unlike else ()


def _named(leads: Sequence[str]) -> str:
    """Return leads for a note; a channel that is none may have been named after a person."""
    return ", ".join(dict.fromkeys(lead if lead in LEADS else "another channel" for lead in leads))


def _header_in_segments(path: Path, text: HeaderText) -> Header:
    """Return the header of a record in segments, its leads by its layout (of variable ones) or its first segment."""
    told = [segment for segment in text.segments if segment.name != "~"]
    if not told:
        raise RecordError("none of its segments has samples")
    n_frames = sum(segment.n_frames for segment in text.segments)
    if text.n_frames not in (None, n_frames):
        raise RecordError(f"the header says {text.n_frames} samples, its segments have {n_frames}")
    layout = _segment_header(path, told[0])
    per_frame = layout.per_frame
    fs = _sampling_frequency(text.frame_rate, per_frame)
    if len({channel.name for channel in layout.channels}) < len(layout.channels):
        raise RecordError("two of its signals have one name, which segments cannot tell apart")
    notes = (*text.notes, f"put together from {sum(segment.n_frames > 0 for segment in told)} segments")
    return Header(
        fs, n_frames * per_frame, layout.leads, text.comments, layout.channels, text.segments, notes, per_frame
    )


def _segment_header(path: Path, segment: Segment) -> Header:
    part = path.with_name(segment.name)
    text = parse(_header_text(part))
    if text.segments:
        raise RecordError(f"segment {printable(segment.name)} is in segments itself")
    return _header_in_one(part, text)


def _read_segments(path: Path, header: Header) -> Record:
    """Put the segments together; a lead that one of them lacks is NaN there."""
    row_of = {channel.name: row for row, channel in enumerate(header.channels)}
    signals = np.full((len(row_of), header.n_samples), np.nan, np.float32)
    start, notes, faults = 0, dict.fromkeys(header.notes), dict(header.faults)
    for segment in header.segments:
        end = start + segment.n_frames * header.per_frame
        if segment.name != "~" and segment.n_frames:
            try:
                part, names = _read_segment(path, header, segment)
                rows = [row_of[name] for name in names]
            except KeyError:
                raise RecordError(f"segment {printable(segment.name)} has a signal that the first has not") from None
            except RecordError as error:
                raise RecordError(f"segment {printable(segment.name)}: {error}") from None
            signals[rows, start:end] = part.signals
            notes |= dict.fromkeys(part.notes)
            faults |= {rows[row]: reason for row, reason in part.faults}
        start = end
    signals[list(faults)] = np.nan
    return Record(signals, header.fs, header.leads, tuple(notes), tuple(sorted(faults.items())))


def _read_segment(path: Path, header: Header, segment: Segment) -> tuple[Record, list[str]]:
    """Return a segment, and the names of its signals as they are written."""
    part = _segment_header(path, segment)
    if (part.fs, part.n_samples) != (header.fs, segment.n_frames * header.per_frame):
        raise RecordError(
            f"it has {part.n_samples} samples at {part.fs:g} Hz, not {segment.n_frames * header.per_frame} at "
            f"{header.fs:g} Hz as the record's header says"
        )
    return _read_one(path.with_name(segment.name), part), [channel.name for channel in part.channels]


def comment_values(comments: Sequence[str], name: str) -> list[str]:
    """Return what follows ``name:`` in each of a header's comments that have it, whatever its case, stripped."""
    parts = (comment.partition(":") for comment in comments)
    return [value.strip() for key, colon, value in parts if colon and key.strip().strip("<>").lower() == name.lower()]


def comment_value(comments: Sequence[str], name: str) -> str | None:
    """Return the first of ``comment_values``, None where there is none."""
    return next(iter(comment_values(comments, name)), None)
