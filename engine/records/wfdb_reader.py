"""How a WFDB record is read.

Nearly every published 12-lead set is stored the same way: one signal file in format 16, little endian, perhaps behind
a few bytes that make it a MATLAB file (``16+24``). Those records are parsed and read here, about ten times as fast as
by ``wfdb``, with the same numbers; whatever else a header says goes through ``wfdb``. The one header that only this
file reads is that of the Georgia set, whose first line carries ``.mat`` in the record's name.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from stat import S_ISREG
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.records.record import Record, RecordError, lead_name

_Read = TypeVar("_Read")

_MILLIVOLT = {"mv": 1.0, "uv": 1e-3, "\u00b5v": 1e-3, "\u03bcv": 1e-3, "nv": 1e-6, "v": 1e3}
_INVALID = -32768  # format 16's mark for a missing sample
_DEFAULT_GAIN = 200.0  # what the WFDB header format says a gain of 0 stands for
_MAX_HEADER_BYTES = 1 << 20
_MAX_VALUES = 200_000_000  # a header may ask for any amount of memory
_RECORD_LINE = re.compile(
    r"[^\s/]+[ \t]+(?P<n_leads>\d{1,4})[ \t]+(?P<fs>\d{1,9}(?:\.\d{1,9})?)[ \t]+(?P<n_samples>\d{1,12})(?:[ \t].*)?",
    re.ASCII,
)
_SIGNAL_LINE = re.compile(
    r"(?P<file>[^\s/\\]+)[ \t]+16(?:\+(?P<offset>\d{1,9}))?[ \t]+(?P<gain>\d{1,12}(?:\.\d{0,12})?(?:[eE][+-]?\d{1,2})?)"
    r"(?:\((?P<baseline>-?\d{1,9})\))?(?:/(?P<unit>\S+))?[ \t]+\d{1,3}[ \t]+(?P<zero>-?\d{1,9})[ \t]+-?\d{1,9}[ \t]+"
    r"(?P<checksum>-?\d{1,9})[ \t]+\d{1,9}[ \t]+(?P<lead>\S.*?)[ \t]*",
    re.ASCII,
)


@dataclass(frozen=True)
class Header:
    """What a header says: sampling frequency in hertz, length in samples, leads, and the comments without ``#``.

    ``plain`` describes the samples where they are in one format 16 file, and is None where only ``wfdb`` reads them.
    """

    fs: float
    n_samples: int
    leads: tuple[str, ...]
    comments: tuple[str, ...]
    plain: "_PlainSignals | None" = None


@dataclass(frozen=True)
class _PlainSignals:
    file: str
    offset: int
    gains: tuple[float, ...]
    baselines: tuple[int, ...]
    units: tuple[str, ...]
    checksums: tuple[int, ...]


def read_header(path: Path) -> Header:
    """Read the header of the WFDB record at ``path`` (without suffix). Raises RecordError."""
    text = _header_text(path)
    lines = [line.strip() for line in text.splitlines()]
    comments = tuple(line.lstrip("#").strip() for line in lines if line.startswith("#"))
    header = _parse_plain([line for line in lines if line and not line.startswith("#")], comments)
    if header is None:
        header = _header_by_wfdb(path, comments)
    if not (np.isfinite(header.fs) and header.fs > 0):
        raise RecordError(f"the header gives a sampling frequency of {header.fs:g} Hz")
    if len(header.leads) * header.n_samples > _MAX_VALUES:
        raise RecordError(f"the header claims {header.n_samples:,} samples of {len(header.leads)} leads")
    return header


def read_wfdb(path: Path) -> Record:
    """Read the WFDB record at ``path`` (without suffix), its checksums verified, in millivolt.

    Samples that the file marks as missing are NaN. Raises RecordError for a missing, truncated or altered record, and
    for a unit that is not a voltage.
    """
    header = read_header(path)
    return _read_by_wfdb(path) if header.plain is None else _read_plain(path, header, header.plain)


def _header_text(path: Path) -> str:
    file = path.with_name(path.name + ".hea")
    text = _content(file, 0, _MAX_HEADER_BYTES + 1).decode("utf-8", errors="replace")
    if len(text) > _MAX_HEADER_BYTES:
        raise RecordError(f"{file.name} is too large to be a WFDB header")
    if not text.strip():
        raise RecordError(f"{file.name} is empty")
    return text


def _content(file: Path, offset: int, n_bytes: int) -> bytes:
    """Return up to ``n_bytes`` of a file; a header may ask for more than there is, so that its size is asked first."""
    try:
        status = file.stat()
        if not S_ISREG(status.st_mode):
            raise OSError(EINVAL, "is not a file")
        with file.open("rb") as opened:
            opened.seek(offset)
            return opened.read(min(n_bytes, status.st_size))
    except FileNotFoundError:
        raise RecordError(f"file missing: {file.name}") from None
    except OSError as error:
        raise RecordError(f"unreadable: {file.name}: {error.strerror or error}") from None
    except ValueError as error:  # a file name with a null character
        raise RecordError(f"unreadable: {error}") from None


def _parse_plain(lines: list[str], comments: tuple[str, ...]) -> Header | None:
    """Return None for anything but one little-endian format 16 file with every field given."""
    first = _RECORD_LINE.fullmatch(lines[0]) if lines else None
    if first is None or len(lines) - 1 != int(first["n_leads"]) or len(lines) == 1:
        return None
    signals = [_SIGNAL_LINE.fullmatch(line) for line in lines[1:]]
    found = [signal for signal in signals if signal is not None]
    if len(found) < len(signals) or len({(signal["file"], signal["offset"]) for signal in found}) > 1:
        return None
    plain = _PlainSignals(
        found[0]["file"],
        int(found[0]["offset"] or 0),
        tuple(float(signal["gain"]) for signal in found),
        tuple(int(signal["baseline"] or signal["zero"]) for signal in found),
        tuple(signal["unit"] or "mV" for signal in found),
        tuple(int(signal["checksum"]) for signal in found),
    )
    leads = tuple(lead_name(signal["lead"]) for signal in found)
    return Header(float(first["fs"]), int(first["n_samples"]), leads, comments, plain)


def _read_plain(path: Path, header: Header, plain: _PlainSignals) -> Record:
    n_leads = len(header.leads)
    samples = _samples(path.parent / plain.file, plain.offset, header.n_samples, n_leads)
    notes = _verify(samples, header.leads, plain.checksums)
    gains = np.array([gain or _DEFAULT_GAIN for gain in plain.gains])
    assumed = [lead for lead, gain in zip(header.leads, plain.gains, strict=True) if not gain]
    if assumed:
        notes += (f"the gain of {', '.join(assumed)} is 0: {_DEFAULT_GAIN:g} units/mV assumed, as WFDB defines",)
    physical = (samples.astype(np.float64) - np.array(plain.baselines)) / gains
    physical[samples == _INVALID] = np.nan
    return _in_millivolt(physical, plain.units, header.fs, header.leads, notes)


def _samples(file: Path, offset: int, n_samples: int, n_leads: int) -> NDArray[np.int16]:
    """Return int16 (samples, leads)."""
    if not n_samples:
        raise RecordError("holds no samples")
    values = np.frombuffer(_content(file, offset, 2 * n_samples * n_leads), np.uint8)
    stored = len(values) // (2 * n_leads)
    if stored < n_samples:
        raise RecordError(f"truncated: {file.name} has {stored} of {n_samples} samples")
    return values.view("<i2").reshape(n_samples, n_leads)


def _verify(samples: NDArray[Any], leads: tuple[str, ...], stored: tuple[int | None, ...]) -> tuple[str, ...]:
    """Return a note where there is nothing to compare with. Raises RecordError where a checksum differs."""
    computed = samples.sum(axis=0, dtype=np.int64) % 65536
    wrong = [
        lead
        for lead, have, want in zip(leads, computed, stored, strict=True)
        if want is not None and have != want % 65536
    ]
    if wrong and not any(stored):
        return ("the header's checksums are all 0: not verified",)
    if wrong:
        raise RecordError(f"checksum mismatch in lead {', '.join(wrong)}")
    return ()


def _in_millivolt(
    physical: NDArray[np.float64], units: tuple[str, ...], fs: float, leads: tuple[str, ...], notes: tuple[str, ...]
) -> Record:
    """Make a Record of ``physical`` (samples, leads) in the given units."""
    unknown = sorted({unit for unit in units if unit.lower() not in _MILLIVOLT})
    if unknown:
        raise RecordError(f"unit {', '.join(unknown)} is not a voltage")
    scale = np.array([_MILLIVOLT[unit.lower()] for unit in units])
    return Record(np.ascontiguousarray((physical * scale).T.astype(np.float32)), fs, leads, notes)


def _header_by_wfdb(path: Path, comments: tuple[str, ...]) -> Header:
    def read(wfdb: Any) -> Header:
        stored = wfdb.rdheader(str(path))
        names = stored.sig_name or ()
        if names and len(names) != stored.n_sig:
            raise RecordError(f"the header lists {len(names)} signals, not {stored.n_sig}")
        return Header(float(stored.fs), int(stored.sig_len or 0), tuple(map(lead_name, names)), comments)

    return _with_wfdb(path, read)


def _read_by_wfdb(path: Path) -> Record:
    def read(wfdb: Any) -> Record:
        for name in set(getattr(wfdb.rdheader(str(path)), "file_name", None) or ()):
            _content(path.with_name(name), 0, 0)  # a pipe would be waited for
        record = wfdb.rdrecord(str(path), physical=False)
        if record.d_signal is None or not record.d_signal.size:
            raise RecordError("holds no samples")
        leads = tuple(map(lead_name, record.sig_name))
        if max(record.samps_per_frame or [1]) > 1 or any(record.skew or []):  # averaged or shifted: no checksum fits
            notes: tuple[str, ...] = ("checksums not verified: several samples a frame, or skewed leads",)
        else:
            notes = _verify(record.d_signal, leads, tuple(record.checksum or [None] * len(leads)))
        return _in_millivolt(record.dac(), tuple(record.units), float(record.fs), leads, notes)

    return _with_wfdb(path, read)


def _with_wfdb(path: Path, read: Callable[[Any], _Read]) -> _Read:
    """Call ``read`` with the wfdb package, its warnings silenced. Raises RecordError for anything that goes wrong."""
    import wfdb

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return read(wfdb)
    except RecordError:
        raise
    except FileNotFoundError as error:
        raise RecordError(f"file missing: {Path(error.filename or path).name}") from None
    except Exception as error:  # wfdb lets through whatever numpy or int() raised on a malformed file
        raise RecordError(f"unreadable: {type(error).__name__}: {' '.join(str(error).split())}") from error


def comment_value(comments: Sequence[str], name: str) -> str | None:
    """Return what follows ``name:`` in a header's comments, whatever its case, stripped; None where it is not there."""
    for comment in comments:
        key, colon, value = comment.partition(":")
        if colon and key.strip().strip("<>").lower() == name.lower():
            return value.strip()
    return None
