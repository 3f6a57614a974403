"""What the text of a WFDB header says, by the format's definition, header(5) of the WFDB Applications Guide.

A line that does not follow the definition is refused, where ``wfdb`` reads on with what is left of it. Messages give a
line's number, not its text: a header may hold names and dates.
"""

import codecs
import re
from dataclasses import dataclass
from typing import NamedTuple

from engine.records.record import RecordError

DEFAULT_GAIN = 200.0  # what a gain of 0, or none, stands for
DEFAULT_FS = 250.0
NO_SAMPLES = 0  # the format of a signal that has a line in the header and no samples
_RECORD_LINE = re.compile(
    r"[^\s/]+(?:/(?P<n_segments>\d{1,6}))?[ \t]+(?P<n_signals>\d{1,4})"
    r"(?:[ \t]+(?P<fs>\d{1,9}(?:\.\d{0,20})?(?:[eE][+-]?\d{1,2})?)(?:/-?[\d.]+(?:[eE][+-]?\d{1,2})?(?:\(-?[\d.]+\))?)?"
    r"(?:[ \t]+(?P<n_frames>\d{1,12})(?:[ \t].*)?)?)?",
    re.ASCII,
)
_SIGNAL_LINE = re.compile(
    r"(?P<file>[^\s/\\]+)[ \t]+(?P<format>\d{1,3})(?:x(?P<per_frame>[1-9]\d{0,5}))?(?::(?P<skew>\d{1,6}))?"
    r"(?:\+(?P<offset>\d{1,9}))?(?:[ \t]+(?P<gain>-?\d{1,12}(?:\.\d{0,20})?(?:[eE][+-]?\d{1,2})?)"
    r"(?:\((?P<baseline>-?\d{1,10})\))?(?:/(?P<unit>\S+))?"
    r"(?:[ \t]+\d{1,3}(?:[ \t]+(?P<zero>-?\d{1,10})(?:[ \t]+(?P<first>-?\d{1,10})(?:[ \t]+(?P<checksum>-?\d{1,10})"
    r"(?:[ \t]+\d{1,9}(?:[ \t]+(?P<described>\S.*))?)?)?)?)?)?(?:[ \t]+(?P<name>[^\s\d+-].*))?)?[ \t]*",
    re.ASCII,
)
_SEGMENT_LINE = re.compile(r"(?P<name>[^\s/\\]+)[ \t]+(?P<n_frames>\d{1,12})[ \t]*", re.ASCII)
_LINE_ENDS = re.compile(r"\r\n|\r|\n")  # not str.splitlines, which also ends lines within another code page's text


class Channel(NamedTuple):
    """One signal's line: ``gain`` is 0, ``first`` and ``checksum`` None where not given; ``name`` is as written."""

    file: str
    format: int
    per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    unit: str
    zero: int
    first: int | None
    checksum: int | None
    name: str


class Segment(NamedTuple):
    """One segment's line: its record, ``~`` for a gap, and its length."""

    name: str
    n_frames: int


@dataclass(frozen=True)
class HeaderText:
    """A header's lines: frames a second, length in frames (None: not given), and comments without ``#``."""

    frame_rate: float
    n_frames: int | None
    comments: tuple[str, ...]
    channels: tuple[Channel, ...] = ()
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()


def decode(content: bytes) -> str:
    """Return a header's text: UTF-8 or UTF-16 by its mark, else Windows' and Latin-1's one byte a character."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def parse(text: str) -> HeaderText:
    """Read a header. Raises RecordError for a line that does not follow the format's definition."""
    lines = [(number, line.strip()) for number, line in enumerate(_LINE_ENDS.split(text), start=1)]
    comments = tuple(line.lstrip("#").strip() for _number, line in lines if line.startswith("#"))
    told = [(number, line) for number, line in lines if line and not line.startswith("#")]
    first = _RECORD_LINE.fullmatch(told[0][1]) if told else None
    if first is None:
        raise RecordError("its header does not begin with a WFDB record's line")
    fs = first["fs"]
    notes: tuple[str, ...] = ()
    if fs is None:
        notes = (f"the header gives no sampling frequency: {DEFAULT_FS:g} Hz assumed, as WFDB defines",)
    frame_rate = float(DEFAULT_FS if fs is None else fs)
    n_frames = None if first["n_frames"] is None else int(first["n_frames"])
    if first["n_segments"] is not None:
        segments = tuple(_segment(*line) for line in told[1:])
        _count("segment", len(segments), int(first["n_segments"]))
        return HeaderText(frame_rate, n_frames, comments, (), segments, notes)
    _count("signal", len(told) - 1, int(first["n_signals"]))
    channels = tuple(_channel(k, *line) for k, line in enumerate(told[1:]))
    return HeaderText(frame_rate, n_frames, comments, channels, (), notes)


def _count(noun: str, listed: int, said: int) -> None:
    if listed != said:
        raise RecordError(f"the header lists {listed} {noun}s, not {said}")


def _channel(k: int, number: int, line: str) -> Channel:
    found = _SIGNAL_LINE.fullmatch(line)
    if found is None:
        raise RecordError(f"line {number} of the header does not describe a signal as WFDB defines it")
    (file, form, per_frame, skew, offset, gain, baseline, unit, zero, first, checksum, described, name) = found.groups()
    return Channel(
        file,
        int(form),
        int(per_frame or 1),
        int(skew or 0),
        int(offset or 0),
        float(gain or 0),
        int(baseline or zero or 0),
        unit or "mV",
        int(zero or 0),
        None if first is None else int(first),
        None if checksum is None else int(checksum),
        described or name or f"signal {k}",
    )


def _segment(number: int, line: str) -> Segment:
    found = _SEGMENT_LINE.fullmatch(line)
    if found is None:
        raise RecordError(f"line {number} of the header does not describe a segment as WFDB defines it")
    return Segment(found["name"], int(found["n_frames"]))
