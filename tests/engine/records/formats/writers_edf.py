"""EDF, EDF+ and BDF files, written by their definitions (edfplus.info, biosemi.com)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True)
class Signal:
    """A signal: digital values of whole data records, and its header's fields as they are written."""

    label: str
    counts: NDArray[Any]
    unit: str = "uV"
    physical: tuple[str, str] = ("-32768", "32767")
    digital: tuple[str, str] = ("-32768", "32767")
    per_record: str | None = None  # where it is not what the samples tell


def edf_bytes(
    signals_uv: NDArray[np.integer[Any]],
    leads: Sequence[str],
    fs: float,
    *,
    patient: str = "4711",
    name: str = "Jane Roe",
    birth: date | None = date(1950, 6, 15),
    sex: str = "F",
    recorded: datetime | None = datetime(2020, 3, 4, 10, 11, 12),
    width: int = 2,
) -> bytes:
    """Return EDF+ (``width`` 3: BDF+) of leads in microvolt: a data record a second, or one in all."""
    signals = [Signal(f"ECG {lead}", np.asarray(row)) for lead, row in zip(leads, signals_uv, strict=True)]
    n_samples = np.shape(signals_uv)[1]
    whole = fs == round(fs) and n_samples % round(fs) == 0
    n_records, seconds = (n_samples // round(fs), "1") if whole else (1, f"{n_samples / fs:.10g}"[:8])
    born = f"{birth.day:02}-{MONTHS[birth.month - 1]}-{birth.year}" if birth else "X"
    day = f"{recorded.day:02}-{MONTHS[recorded.month - 1]}-{recorded.year}" if recorded else "X"
    return edf_file(
        signals,
        n_records,
        seconds,
        who=f"{patient or 'X'} {sex or 'X'} {born} {name.replace(' ', '_') or 'X'}",
        where=f"Startdate {day} X X X",
        start=recorded.strftime("%d.%m.%y%H.%M.%S") if recorded else "01.01.8500.00.00",
        width=width,
        onsets=[float(k) * float(seconds) for k in range(n_records)],
    )


def edf_file(
    signals: Sequence[Signal],
    n_records: int,
    seconds: str = "1",
    *,
    who: str = "",
    where: str = "",
    start: str = "04.03.2010.11.12",
    kind: str | None = None,
    width: int = 2,
    said_records: str | None = None,
    onsets: Sequence[float] = (),
) -> bytes:
    """Return a file; with ``onsets``, a time for each data record, it is EDF+C unless ``kind`` says otherwise."""
    form = {2: "EDF", 3: "BDF"}[width]
    kind = (f"{form}+C" if onsets else "24BIT" if width == 3 else "") if kind is None else kind
    fields = [
        (signal.label, "", signal.unit, *signal.physical, *signal.digital, "", signal.per_record, "")
        for signal in signals
    ]
    blocks = [_packed(signal.counts, width).reshape(n_records, -1) for signal in signals]
    counts = [block.shape[1] // width for block in blocks]
    if len(onsets):
        texts = [f"+{onset:.6f}".rstrip("0").rstrip(".").encode() + b"\x14\x14\0" for onset in onsets]
        size = 3 * width * 4  # enough for a time, and a whole number of samples
        blocks.append(np.frombuffer(b"".join(text.ljust(size, b"\0") for text in texts), np.uint8).reshape(-1, size))
        counts.append(size // width)
        limit = 1 << (8 * width - 1)
        fields.append((f"{form} Annotations", "", "", "-1", "1", str(-limit), str(limit - 1), "", None, ""))
    columns = [
        [str(count) if field is None else field for field in row] for row, count in zip(fields, counts, strict=True)
    ]
    head = ["\xffBIOSEMI" if width == 3 else "0", who, where, start[:8], start[8:], str(256 * (len(fields) + 1)), kind]
    head += [str(n_records) if said_records is None else said_records, seconds, str(len(fields))]
    text = "".join(
        field.ljust(size)[:size] for field, size in zip(head, (8, 80, 80, 8, 8, 8, 44, 8, 8, 4), strict=True)
    )
    for k, size in enumerate((16, 80, 8, 8, 8, 8, 8, 80, 8, 32)):
        text += "".join(column[k].ljust(size)[:size] for column in columns)
    return text.encode("latin-1") + np.concatenate(blocks, axis=1).tobytes()


def _packed(counts: NDArray[Any], width: int) -> NDArray[np.uint8]:
    """Return whole numbers as little-endian bytes of that width."""
    return np.asarray(counts, "<i4").reshape(-1, 1).view(np.uint8)[:, :width]
