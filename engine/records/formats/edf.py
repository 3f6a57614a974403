"""EDF, EDF+ and BDF: a header in text, then data records that hold each signal's samples one after the other.

Definitions: Kemp et al. 1992 (EDF), Kemp and Olivan 2003 (EDF+, https://www.edfplus.info/specs/edfplus.html), BioSemi
(BDF, the same with 24 bits). ``edfio`` reads the fields and the samples. What a damaged file would be read wrongly by
is compared here: its length with the header's numbers, and the times in EDF+ with those of a continuous recording.
"""

import re
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import printable, read_whole
from engine.records.formats.contents import MAX_FILE_BYTES, Contents, Person, known_sex, person_of
from engine.records.lead_names import lead_names
from engine.records.record import LEADS, RecordError
from engine.records.units import in_millivolt

_EDF, _BDF = b"0       ", b"\xffBIOSEMI"
_WIDTH = {_EDF: 2, _BDF: 3}  # bytes a sample
_FIXED = 256  # bytes of the header, and again for each signal
_SAMPLES_A_RECORD = 216  # where these fields begin: after 216 bytes of others for each signal
_ANNOTATIONS = re.compile(r"[EB]DF Annotations\s*")
_ECG = re.compile(r"(ecg|ekg)(?![a-z])", re.IGNORECASE)
_MORE_LEADS = r"ml(?:i|ii|iii)|mv[1-6]|mcl[1-6]|v[1-9]r|v[7-9]|c[cm]5"  # of monitors, of the right and of the back
_OTHER = re.compile(_MORE_LEADS, re.IGNORECASE)
_UNSEPARATED = re.compile(rf"(ecg|ekg)(?=(?:i|ii|iii|av[rlf]|v[1-6]|{_MORE_LEADS})$)", re.IGNORECASE)
_ONSET = re.compile(rb"([+-]\d{1,9}(?:\.\d{1,9})?)\x14\x14")
_PLUS = re.compile(r"\S+ +[MFXmfx] +(?:X|\d{1,2}-[A-Za-z]{3}-\d{4}) +\S+(?: .*)?")  # code, sex, birth date, name
_DATE = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4})")
_DIGITS = re.compile(r" ?(\d{1,2})[.:'\-/ ] ?(\d{1,2})[.:'\-/ ] ?(\d{1,2})")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_ROUNDED = 1e-6  # relative: a data record's duration is given in 8 characters
_UNKNOWN_DAY = date(1985, 1, 1)  # what stands where the date of a recording is taken out
_CENTURY = 85  # from this year on 19xx, as EDF defines


@dataclass(frozen=True)
class _Layout:
    """Where samples lie: bytes of the header, data records, and each signal's label and samples in a data record."""

    n_header: int
    n_records: int
    seconds: float
    labels: tuple[str, ...]
    per_record: tuple[int, ...]
    width: int
    is_plus: bool
    may_have_gaps: bool
    notes: tuple[str, ...] = ()

    @property
    def record_bytes(self) -> int:
        """The length of a data record."""
        return sum(self.per_record) * self.width


def open_edf(path: Path) -> Contents:
    """Open an EDF, EDF+ or BDF file: its signals that are labelled as ECG, in the units of their dimensions.

    The rate is the one that most leads have; a lead of another cannot be used, nor can one that is not a voltage or has
    no range. Raises RecordError for a recording with gaps, for a file that is longer or shorter than its header says,
    and where none of the signals is ECG. The times that tell gaps are compared here where the file says that it may
    have some (EDF+D), else by ``decode``.
    """
    content = read_whole(path, MAX_FILE_BYTES)
    layout = _layout(content)
    recording = _read(content[: layout.n_header + layout.record_bytes], layout)
    signals = [signal for signal in recording.signals if not _ANNOTATIONS.fullmatch(signal.label)]
    names = lead_names(tuple([_UNSEPARATED.sub(r"\1 ", signal.label) for signal in signals]))
    rows = [row for row, name in enumerate(names) if name in LEADS or _OTHER.fullmatch(name) or _ECG.match(name)]
    if not rows:
        raise RecordError(f"none of its {len(signals)} signals is labelled as a lead of an ECG")
    leads = tuple(names[row] for row in rows)
    counts = [signals[row].samples_per_data_record for row in rows]
    of_twelve = [count for count, lead in zip(counts, leads, strict=True) if lead in LEADS]
    count = max(Counter(of_twelve or counts).items(), key=lambda item: (item[1], item[0]))[0]
    fs = count / layout.seconds
    scales = [_scale(signals[row], count, fs, layout.width) for row in rows]
    if layout.may_have_gaps:
        _check_times(content, layout, 1 / fs)
    person, recorded = _person(recording, content[168:176], content[176:184])

    def decode() -> NDArray[np.float64]:
        _check_times(content, layout, 1 / fs)
        read = [signal for signal in _read(content, layout).signals if not _ANNOTATIONS.fullmatch(signal.label)]
        voltages = np.full((len(rows), count * layout.n_records), np.nan)
        for k, (row, scale) in enumerate(zip(rows, scales, strict=True)):
            if not isinstance(scale, str):
                gain, low, offset = scale
                voltages[k] = (read[row].digital.astype(np.float64) - low) * gain + offset
        return voltages

    return Contents(
        leads,
        fs,
        count * layout.n_records,
        Counter(signals[row].physical_dimension for row in rows).most_common(1)[0][0],
        decode,
        person,
        recorded,
        notes=layout.notes,
        faults=tuple((row, scale) for row, scale in enumerate(scales) if isinstance(scale, str)),
    )


def _layout(content: bytes) -> _Layout:
    """Read what tells how long the file has to be, and compare it."""
    width = _WIDTH.get(content[:8])
    if width is None or len(content) < 2 * _FIXED:
        raise RecordError("it is not an EDF or BDF file")
    n_header, n_records = _whole(content[184:192], "header's length"), _whole(content[236:244], "data records")
    n_signals = _whole(content[252:256], "signals")
    if n_signals < 1 or n_header != _FIXED * (n_signals + 1) or len(content) < n_header:
        raise RecordError("its header is not as long as it says")
    kind = content[192:236].decode("latin-1").strip().upper()
    labels = tuple(
        content[_FIXED + 16 * k : _FIXED + 16 * (k + 1)].decode("latin-1").rstrip() for k in range(n_signals)
    )
    start = _FIXED + _SAMPLES_A_RECORD * n_signals
    per_record = tuple(_whole(content[start + 8 * k : start + 8 * (k + 1)], "samples") for k in range(n_signals))
    try:
        seconds = float(content[244:252])
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf") or min(per_record) < 1:
        raise RecordError("its data records last no time or hold no samples")
    is_plus, may_have_gaps = kind.startswith(("EDF+", "BDF+")), kind.startswith(("EDF+D", "BDF+D"))
    if may_have_gaps and not any(map(_ANNOTATIONS.fullmatch, labels)):
        raise RecordError(f"it is {kind[:5]}, a recording that may have gaps, and has no times of its data records")
    layout = _Layout(n_header, n_records, seconds, labels, per_record, width, is_plus, may_have_gaps)
    there = (len(content) - n_header) / layout.record_bytes
    if n_records == -1 and there >= 1 and there.is_integer():  # as a device leaves it that is switched off
        said = f"its header leaves the number of data records open: {there:,.10g} are there"
        return replace(layout, n_records=int(there), notes=(said,))
    if there != n_records or n_records < 1:
        raise RecordError(f"its header says {n_records:,} data records, and {there:,.10g} are there")
    return layout


def _whole(field: bytes, what: str) -> int:
    text = field.decode("latin-1").strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,8}", text):
        raise RecordError(f"its header gives no number of {what}")
    return int(text)


def _read(content: bytes, layout: _Layout) -> Any:
    """Return what ``edfio`` makes of a file or of its beginning."""
    try:
        import edfio
    except ImportError:
        raise RecordError("reading EDF needs edfio: pip install 'ecgadvise[formats]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the number of records, which has been compared
            if layout.width == _WIDTH[_BDF]:
                return edfio.read_bdf(content, header_encoding="latin-1")
            return edfio.read_edf(content, lazy_load_data=False, header_encoding="latin-1")
    except Exception:  # noqa: BLE001  edfio passes on what int() and numpy raise, and its text quotes the header
        raise RecordError("its header is damaged") from None


def _scale(signal: Any, count: int, fs: float, width: int) -> tuple[float, int, float] | str:
    """Return millivolts a count, the lowest count, and what that is in millivolt; else why there is none."""
    if (unit := in_millivolt(signal.physical_dimension)) is None:
        unit_text = printable(signal.physical_dimension)
        return f"unit {unit_text} of {{}} is not a voltage" if unit_text else "no unit of {} is given"
    if signal.samples_per_data_record != count:
        return f"{{}} is sampled at {signal.sampling_frequency:g} Hz, most leads at {fs:g} Hz"
    try:
        low, high = signal.digital_min, signal.digital_max
        bottom, top = signal.physical_min, signal.physical_max
    except ValueError:
        return "the range of {} is not given in numbers"
    limit = 1 << (8 * width - 1)
    if not -limit <= low < high < limit:
        return f"the digital range of {{}} ({low} to {high}) is not a range"
    if not np.isfinite([bottom, top]).all() or bottom == top:
        return f"the physical range of {{}} ({bottom:g} to {top:g}) is not a range"
    return (top - bottom) / (high - low) * unit, low, bottom * unit


def _check_times(content: bytes, layout: _Layout, step: float) -> None:
    """Raise RecordError where data records of EDF+, each with its time, are ``step`` seconds or more apart."""
    row = next((k for k, label in enumerate(layout.labels) if _ANNOTATIONS.fullmatch(label)), None)
    if row is None or not layout.is_plus:
        return
    start = layout.n_header + sum(layout.per_record[:row]) * layout.width
    first = None
    for k in range(layout.n_records):
        found = _ONSET.match(content, start + k * layout.record_bytes)
        if found is None:
            raise RecordError(f"data record {k + 1:,} does not tell its time")
        onset = float(found[1])
        first = onset if first is None else first
        expected = k * layout.seconds
        if abs(onset - first - expected) > step / 2 + _ROUNDED * expected:
            raise RecordError(f"there is a gap before data record {k + 1:,}")


def _person(recording: Any, day: bytes, clock: bytes) -> tuple[Person, datetime | None]:
    """Return whom the header names: code, sex, birth date and name in EDF+, in EDF any text."""
    patient = " ".join(recording.local_patient_identification.split())
    where = recording.local_recording_identification.split()
    recorded = _recorded(where, day, clock)
    visits = where[2:3] if where[:1] == ["Startdate"] else [" ".join(where)]
    if not _PLUS.fullmatch(patient):
        words = [word for word in re.split(r"[\s,;_]+", patient) if len(word) > 2 and known_sex(word) is None]
        return person_of([patient], (*words, *visits)), recorded
    code, sex, born, name, *more = patient.split()
    names = name.replace("_", " ")
    texts = (name, names, *names.split(), born, *more, *visits)
    return person_of([code], texts, born=_written_day(born), sex=sex, recorded=recorded), recorded


def _recorded(where: list[str], day: bytes, clock: bytes) -> datetime | None:
    """Return when the recording began; EDF+ has a date with four digits for the year, or an X where it is taken out."""
    written = where[1] if where[:1] == ["Startdate"] and len(where) > 1 else ""
    short, hours = (_DIGITS.fullmatch(field.decode("latin-1").strip()) for field in (day, clock))
    try:
        found = _written_day(written)
        if found is None and written != "X" and short:
            number, month, year = map(int, short.groups())
            found = date(year + (1900 if year >= _CENTURY else 2000), month, number)
        hour, minute, second = map(int, hours.groups()) if hours else (0, 0, 0)
        started = time(hour, minute, second)
    except ValueError:
        return None
    return None if found is None or found == _UNKNOWN_DAY else datetime.combine(found, started)


def _written_day(text: str) -> date | None:
    """Return the date that a text is, as EDF+ writes it: 02-AUG-1951."""
    found = _DATE.fullmatch(text)
    try:
        return date(int(found[3]), _MONTHS.index(found[2].upper()) + 1, int(found[1])) if found else None
    except ValueError:
        return None
