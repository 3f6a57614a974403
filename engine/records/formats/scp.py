"""SCP-ECG records (EN 1064, ISO 11073-91064, ISO 41064; versions 1 to 3): an own decoder from the public definition.

Read are the samples as they are and their first or second differences, without a Huffman code, with the standard's or
with a table of the record's own. Refused by name is what would change them in ways that readers do not agree on:
reference beats that were subtracted, bimodal compression, tables that switch. The number of samples, of bytes and of
bits have to agree, and every checksum has to fit.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import read_whole
from engine.records.formats.contents import MAX_FILE_BYTES, Contents, Person
from engine.records.formats.scp_huffman import HuffmanTable, read_table
from engine.records.formats.scp_person import read_person
from engine.records.formats.scp_sections import is_scp, read_sections
from engine.records.record import RecordError

__all__ = ["is_scp", "open_scp"]

_PERSON, _TABLES, _LEADS, _RHYTHM, _LONG_TERM = 1, 2, 3, 6, 12
_VERSION_3 = 30
_LEAD = Struct("<IIB")  # first sample (from 1), last sample, number of the lead
_SUBTRACTED, _SIMULTANEOUS = 1, 4  # bits of the flags
_SCALE = Struct("<HHBB")  # nanovolt of one, microseconds between samples, differences, bimodal
_NANOVOLT = 1e6  # in a millivolt
_MAX_VALUES = 20_000_000  # two bytes give a lead's length, so that no record is near it
_LOWEST, _HIGHEST = -32768, 32767

_FIRST_LEADS = (
    "I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "V7", "V2R", "V3R", "V4R", "V5R", "V6R", "V7R", "X", "Y", "Z", "CC5",
    "CM5", "LA", "RA", "LL", "Frank I", "Frank E", "Frank C", "Frank A", "Frank M", "Frank F", "Frank H",
)  # fmt: skip
_LATER_LEADS = ("V8", "V9", "V8R", "V9R", "Nehb D", "Nehb A", "Nehb J")
LEADS_BY_NUMBER = {
    **dict(enumerate(_FIRST_LEADS, 1)),
    **dict(enumerate((f"{lead} calibration" for lead in _FIRST_LEADS), 31)),
    **dict(enumerate(("III", "aVR", "aVL", "aVF", "-aVR"), 61)),
    **dict(enumerate(_LATER_LEADS, 66)),
    **dict(enumerate(("defibrillator", "external pacing", "A1", "A2", "A3", "A4"), 73)),
    **dict(enumerate((f"{lead} calibration" for lead in _LATER_LEADS), 79)),
}  # table 3 of the standard


@dataclass(frozen=True)
class _Rhythm:
    """The bytes of each lead, of ``n_samples`` samples, and how these are made of them."""

    leads: tuple[bytes, ...]
    n_samples: int
    nanovolt: int
    n_differences: int
    table: HuffmanTable | None

    def decode(self) -> NDArray[np.float64]:
        signals = np.empty((len(self.leads), self.n_samples), np.float64)
        for row, data in enumerate(self.leads):
            stored = self.table.decode(data, self.n_samples) if self.table else np.frombuffer(data, "<i2")
            samples = _sum(stored.astype(np.int64), self.n_differences)
            if samples.min() < _LOWEST or samples.max() > _HIGHEST:
                raise RecordError("its differences add up to what 16 bits cannot hold")
            signals[row] = samples
        return signals * self.nanovolt / _NANOVOLT


def open_scp(path: Path) -> Contents:
    """Return what an SCP-ECG record holds; ``unit`` is nanovolt, a sample is a multiple of some thousand of it.

    Raises RecordError for a damaged record and for what is not read.
    """
    sections, version = read_sections(read_whole(path, MAX_FILE_BYTES))
    if _RHYTHM not in sections:
        long_term = version >= _VERSION_3 and _LONG_TERM in sections
        raise RecordError(
            "it holds long-term rhythm data (section 12), which is not read"
            if long_term
            else "it has no rhythm data (section 6)"
        )
    leads, n_samples, notes = _read_leads(sections.get(_LEADS))
    table = read_table(sections[_TABLES]) if _TABLES in sections else None
    rhythm, microseconds = _read_rhythm(sections[_RHYTHM], len(leads), n_samples, table)
    person, recorded = read_person(sections[_PERSON]) if _PERSON in sections else (Person(), None)
    if version >= _VERSION_3 and _LONG_TERM in sections:
        notes = (*notes, "its long-term rhythm data (section 12) are left out")
    return Contents(leads, 1e6 / microseconds, n_samples, "nV", rhythm.decode, person, recorded, notes=notes)


def _read_leads(section: bytes | None) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    """Return the leads' names, the number of samples, and what is worth a note."""
    if section is None:
        raise RecordError("it does not say which leads it holds (section 3)")
    n_leads, flags = section[:2] if len(section) >= 2 else (0, 0)
    if not n_leads or len(section) < 2 + n_leads * _LEAD.size:
        raise RecordError("its section 3 is shorter than its number of leads")
    if any(section[2 + n_leads * _LEAD.size :]):
        raise RecordError("its section 3 is longer than its number of leads")
    if flags & _SUBTRACTED:
        raise RecordError("a reference beat was subtracted from its rhythm data, which is not read")
    described = list(_LEAD.iter_unpack(section[2 : 2 + n_leads * _LEAD.size]))
    ranges = {(first, last) for first, last, _number in described}
    if len(ranges) > 1:
        raise RecordError("its leads were not recorded at the same time, or are not of the same length")
    first, last = ranges.pop()
    if not 1 <= first <= last:
        raise RecordError(f"its leads go from sample {first:,} to sample {last:,}")
    n_samples = last - first + 1
    if n_leads * n_samples > _MAX_VALUES:
        raise RecordError(f"it claims {n_samples:,} samples of {n_leads} leads")
    leads = tuple(LEADS_BY_NUMBER.get(number, f"SCP lead {number}") for _first, _last, number in described)
    apart = "it does not say that its leads were recorded at the same time"
    return leads, n_samples, () if flags & _SIMULTANEOUS or n_leads == 1 else (apart,)


def _read_rhythm(section: bytes, n_leads: int, n_samples: int, table: HuffmanTable | None) -> tuple[_Rhythm, int]:
    """Return the rhythm data, and the microseconds from one sample to the next."""
    begin = _SCALE.size + 2 * n_leads
    if len(section) < begin:
        raise RecordError("its section 6 is shorter than its number of leads")
    nanovolt, microseconds, n_differences, bimodal = _SCALE.unpack_from(section)
    if bimodal:
        raise RecordError("its rhythm data have bimodal compression, which is not read")
    if n_differences > 2:
        raise RecordError(f"its rhythm data are coded in a way ({n_differences}) that the standard does not have")
    if not nanovolt or not microseconds:
        raise RecordError("it gives no amplitude or no time for one step of its rhythm data")
    lengths = np.frombuffer(section, "<u2", n_leads, _SCALE.size).tolist()
    ends = np.cumsum([begin, *lengths]).tolist()
    if ends[-1] > len(section) or any(section[ends[-1] :]):
        raise RecordError("the lengths of its leads are not that of section 6")
    for length in lengths:
        if length != 2 * n_samples if table is None else length < math.ceil(n_samples * table.shortest / 8):
            raise RecordError(f"it says {n_samples:,} samples and has {length:,} bytes for them")
    leads = tuple(section[start:end] for start, end in pairwise(ends))
    return _Rhythm(leads, n_samples, nanovolt, n_differences, table), microseconds


def _sum(values: NDArray[np.int64], n_differences: int) -> NDArray[np.int64]:
    """Return the samples of differences: of as many as were taken, the first samples are stored as they are."""
    if n_differences == 2:
        values[1:2] -= values[:1]
        values[1:] = np.cumsum(values[1:])
    return np.cumsum(values) if n_differences else values
