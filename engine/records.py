"""One ECG recording: the signal contract, and how a WFDB record is read into it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_MILLIVOLT = {"mv": 1.0, "uv": 1e-3, "v": 1e3}
_canonical_lead = {lead.lower(): lead for lead in LEADS}


class RecordError(ValueError):
    """A recording that cannot be used; the message is a short reason, without the record's name."""


@dataclass(frozen=True)
class Record:
    """A recording: ``signals`` float32 (leads, samples) in millivolt at ``fs`` hertz."""

    signals: NDArray[np.float32]
    fs: float
    leads: tuple[str, ...]


def lead_name(name: str) -> str:
    """Return the contract's spelling of a lead name (``AVR`` and ``avr`` are ``aVR``); others stay as they are."""
    return _canonical_lead.get(name.strip().lower(), name.strip())


def read_wfdb(path: Path) -> Record:
    """Read the WFDB record at ``path`` (without suffix), its checksums verified, in millivolt.

    Raises RecordError for a missing, truncated or altered record, a unit that is not a voltage, and samples marked
    as invalid (NaN).
    """
    import wfdb

    try:
        record = wfdb.rdrecord(str(path), physical=False)
    except FileNotFoundError as error:
        raise RecordError(f"file missing: {Path(error.filename or path).name}") from error
    except Exception as error:  # wfdb lets through whatever numpy or int() raised on a malformed file
        raise RecordError(f"unreadable: {type(error).__name__}: {error}") from error
    if record.d_signal is None or not record.sig_len:
        raise RecordError("holds no samples")
    stored = [None if value is None else value % 65536 for value in record.checksum]
    wrong = [
        name
        for name, have, want in zip(record.sig_name, record.calc_checksum(), stored, strict=True)
        if want is not None and have % 65536 != want
    ]
    if wrong:
        raise RecordError(f"checksum mismatch in lead {', '.join(wrong)}")
    unknown = sorted({unit for unit in record.units if unit.lower() not in _MILLIVOLT})
    if unknown:
        raise RecordError(f"unit {', '.join(unknown)} is not a voltage")
    scale = np.array([_MILLIVOLT[unit.lower()] for unit in record.units])
    signals = (record.dac() * scale).T.astype(np.float32)
    if np.isnan(signals).any():
        raise RecordError(f"{np.isnan(signals).sum()} samples are missing (NaN)")
    return Record(np.ascontiguousarray(signals), float(record.fs), tuple(map(lead_name, record.sig_name)))


def order_leads(record: Record, leads: tuple[str, ...] = LEADS) -> Record:
    """Return the record with its leads in the given order. Raises RecordError when one is missing."""
    missing = [lead for lead in leads if lead not in record.leads]
    if missing:
        raise RecordError(f"lead {', '.join(missing)} missing")
    rows = [record.leads.index(lead) for lead in leads]
    return Record(record.signals[rows], record.fs, leads)


def flat_leads(record: Record) -> tuple[str, ...]:
    """Return the leads whose signal never changes."""
    return tuple(lead for lead, flat in zip(record.leads, np.ptp(record.signals, axis=1) == 0, strict=True) if flat)
