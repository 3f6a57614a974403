"""One ECG recording: its signals in millivolt, its leads, and why it cannot be used."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import ExitCode, UserError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_LEAD_PREFIX = re.compile(r"^(?:(?:ecg[ _])?lead[ _]|mdc_ecg_lead_)", re.IGNORECASE)
_canonical_lead = {lead.lower(): lead for lead in LEADS}


class RecordError(UserError, ValueError):
    """A recording that cannot be used; the message is a short reason, without the record's name."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class Record:
    """A recording: ``signals`` float32 (leads, samples) in millivolt at ``fs`` hertz.

    A sample that the file marks as missing is NaN. ``notes`` says what is worth knowing about a usable recording.
    """

    signals: NDArray[np.float32]
    fs: float
    leads: tuple[str, ...]
    notes: tuple[str, ...] = ()


def lead_name(name: str) -> str:
    """Return the contract's spelling of a lead name: ``AVR``, ``avr``, ``Lead aVR`` are ``aVR``; others stay."""
    bare = _LEAD_PREFIX.sub("", name.strip())
    return _canonical_lead.get(bare.lower(), name.strip())


def order_leads(record: Record, leads: tuple[str, ...] = LEADS) -> Record:
    """Return the record with its leads in the given order. Raises RecordError when one is missing or there twice."""
    missing = [lead for lead in leads if lead not in record.leads]
    if missing:
        raise RecordError(f"lead {', '.join(missing)} missing")
    twice = [lead for lead in leads if record.leads.count(lead) > 1]
    if twice:
        raise RecordError(f"lead {', '.join(twice)} is there more than once")
    rows = [record.leads.index(lead) for lead in leads]
    return Record(record.signals[rows], record.fs, leads, record.notes)
