"""One ECG recording: its signals in millivolt, its leads, and why it cannot be used."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import ExitCode, UserError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


class RecordError(UserError, ValueError):
    """A recording that cannot be used; the message is a short reason, without the record's name."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class Record:
    """A recording: ``signals`` float32 (leads, samples) in millivolt at ``fs`` hertz.

    A sample that the file marks as missing is NaN. ``notes`` says what is worth knowing about a usable recording.
    ``faults`` gives, for each lead (by its row) that is in the file but cannot be used, the reason, with ``{}`` for the
    lead's name; its samples are NaN. It does not matter to those who do not want that lead.
    """

    signals: NDArray[np.float32]
    fs: float
    leads: tuple[str, ...]
    notes: tuple[str, ...] = ()
    faults: tuple[tuple[int, str], ...] = ()

    @property
    def sound_leads(self) -> tuple[str, ...]:
        """The leads that can be used."""
        faulty = {row for row, _reason in self.faults}
        return tuple(lead for row, lead in enumerate(self.leads) if row not in faulty) if faulty else self.leads


def order_leads(record: Record, leads: tuple[str, ...] = LEADS) -> Record:
    """Return the record with its leads in the given order.

    Raises RecordError when one is missing, there twice, or cannot be used.
    """
    missing = [lead for lead in leads if lead not in record.leads]
    if missing:
        raise RecordError(f"lead {', '.join(missing)} missing")
    twice = [lead for lead in leads if record.leads.count(lead) > 1]
    if twice:
        raise RecordError(f"lead {', '.join(twice)} is there more than once")
    wanted = [(row, reason) for row, reason in record.faults if record.leads[row] in leads]
    if wanted:
        raise RecordError(describe_faults(wanted, record.leads))
    rows = [record.leads.index(lead) for lead in leads]
    return Record(record.signals[rows], record.fs, leads, record.notes)


def describe_faults(faults: Sequence[tuple[int, str]], leads: Sequence[str]) -> str:
    """Return the reasons, each with the names of the leads that it holds for."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row, reason in faults:
        by_reason[reason].append(leads[row])
    return "; ".join(reason.replace("{}", ", ".join(names)) for reason, names in by_reason.items())
