"""GE MUSE: a resting ECG as XML, which MUSE exports and most hospitals that have it keep.

The form is that of GE's restecg.dtd, with its root ``RestingECG``. A document has the waveforms ``Median``, an averaged
beat, and ``Rhythm``, which is the recording: whole numbers of 16 bits, the lowest byte first, in base64, of mostly
eight leads (I, II, V1 to V6). The rate is SampleBase x 10^SampleExponent of the waveform itself; that of the
measurements may be 0. LeadDataCRC32 is the CRC-32 of zlib over a lead's bytes, as in a file of MUSE 7.1.
"""

import re
import zlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import read_whole
from engine.records.formats.contents import MAX_FILE_BYTES, Contents, Person, person_of
from engine.records.formats.xml_documents.texts import (
    amplitude,
    count_in,
    from_base64,
    fullest,
    moment,
    named_leads,
    naming_texts,
)
from engine.records.formats.xml_documents.tree import number_of, parse_xml, text_of
from engine.records.lead_names import leads_not_read
from engine.records.record import RecordError

ROOT = "RestingECG"
_BYTES = 2  # of a sample
_EXPONENTS = range(-9, 10)
_HARMLESS = ("PatientAge", "AgeUnits", "Gender", "Race", "HeightIN", "HeightCM", "WeightLBS", "WeightKG")
_NUMBERS = re.compile(  # of an order or a stay; OrderingMDID is that of a physician
    r"[a-z]*(?:order|requisition|accession|account|visit|encounter|admission|admit)(?:number|id)?|secondaryid",
    re.IGNORECASE,
)
_US_DATE = re.compile(r"(\d{1,2})[-/](\d{1,2})[-/](\d{4})")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


@dataclass(frozen=True)
class _Lead:
    text: str
    n_samples: int
    unit: str
    millivolt: float  # of one count
    checksum: int | None
    start: tuple[float, float]


def open_muse(path: Path) -> Contents:
    """Return what a MUSE document holds: its rhythm, float64 (leads, samples) in millivolt when decoded.

    Raises RecordError for a document that is damaged or says two things about one: the number of its leads, of their
    samples or bytes, their start, their checksum.
    """
    root = parse_xml(read_whole(path, MAX_FILE_BYTES))
    if root.tag != ROOT:
        raise RecordError("is not a MUSE document")
    rhythms = [part for part in root.findall("Waveform") if text_of(part, "WaveformType").lower() == "rhythm"]
    if not rhythms:
        raise RecordError("holds no rhythm, only averaged beats or measurements")
    rhythm, others = fullest(rhythms, _names, _seconds)
    elements = rhythm.findall("LeadData")
    names = named_leads(_names(rhythm))
    n_leads = count_in(rhythm, "NumberofLeads", "number of leads")
    if n_leads not in (None, len(elements)):
        raise RecordError(f"it says {n_leads} leads and has {len(elements)}")
    if text_of(rhythm, "SampleType") not in ("", "CONTINUOUS_SAMPLES"):
        raise RecordError("its samples are not continuous")
    leads = [_lead(element) for element in elements]
    if len({lead.n_samples for lead in leads}) > 1:
        raise RecordError("its leads have different numbers of samples")
    if len({lead.start for lead in leads}) > 1:
        raise RecordError("its leads do not start at the same time")
    off = [name for name, element in zip(names, elements, strict=True) if text_of(element, "LeadOff") == "TRUE"]
    notes = (
        [*leads_not_read(others, names)]
        + [f"{', '.join(off)}: an electrode was off, says the device"] * bool(off)
        + ["a checksum is missing, so that the samples cannot be checked"]
        * any(lead.checksum is None for lead in leads)
    )
    if first := leads[0].start[1]:
        notes.append(f"its leads begin at sample {first:,.10g} of the recording")
    recorded = _moment(root, "TestDemographics/AcquisitionDate", "TestDemographics/AcquisitionTime")
    return Contents(
        leads=names,
        fs=_rate(rhythm),
        n_samples=leads[0].n_samples,
        unit=leads[0].unit,
        decode=lambda: np.stack([_samples(lead) for lead in leads]),
        person=_person(root, recorded),
        recorded=recorded,
        notes=tuple(notes),
    )


def _names(waveform: Element) -> list[str]:
    return [text_of(element, "LeadID") for element in waveform.findall("LeadData")]


def _seconds(waveform: Element) -> float:
    return (count_in(waveform, "LeadData/LeadSampleCountTotal", "number of samples") or 0) / _rate(waveform)


def _rate(waveform: Element) -> float:
    base = number_of(text_of(waveform, "SampleBase"), "sampling frequency")
    exponent = number_of(text_of(waveform, "SampleExponent") or "0", "sampling frequency")
    if exponent not in _EXPONENTS:
        raise RecordError("its sampling frequency has an impossible exponent")
    power = float(10 ** abs(int(exponent)))  # exact, which 10^-3 is not
    return base * power if exponent >= 0 else base / power


def _lead(element: Element) -> _Lead:
    n_samples = count_in(element, "LeadSampleCountTotal", "number of samples")
    n_bytes = count_in(element, "LeadByteCountTotal", "number of bytes")
    if n_samples is None:
        raise RecordError("it does not say how many samples a lead has")
    if count_in(element, "LeadSampleSize", "size of a sample") not in (None, _BYTES):
        raise RecordError("its samples are not of 16 bits")
    if n_bytes not in (None, _BYTES * n_samples):
        raise RecordError(f"it says {n_samples:,} samples in {n_bytes:,} bytes of a lead")
    if number_of(text_of(element, "FirstSampleBaseline") or "0", "baseline"):
        raise RecordError("it gives a baseline of the first sample, of which no definition says what it means")
    text = text_of(element, "WaveFormData")
    if 3 * len(text) < 4 * _BYTES * n_samples:  # four letters are three bytes
        raise RecordError(f"it says {n_samples:,} samples of a lead and has fewer")
    unit = text_of(element, "LeadAmplitudeUnits")
    millivolt = amplitude(text_of(element, "LeadAmplitudeUnitsPerBit"), unit)
    start = [number_of(text_of(element, tag) or "0", "start") for tag in ("LeadTimeOffset", "LeadOffsetFirstSample")]
    checksum = count_in(element, "LeadDataCRC32", "checksum")
    return _Lead(text, n_samples, unit, millivolt, checksum, (start[0], start[1]))


def _samples(lead: _Lead) -> NDArray[np.float64]:
    content = from_base64(lead.text)
    if len(content) != _BYTES * lead.n_samples:
        raise RecordError(f"it says {lead.n_samples:,} samples of a lead and has {len(content) / _BYTES:,g}")
    if lead.checksum is not None and zlib.crc32(content) != lead.checksum:
        raise RecordError("a lead's samples do not fit its checksum")
    return np.frombuffer(content, "<i2") * lead.millivolt


def _person(root: Element, recorded: datetime | None) -> Person:
    patient = root.find("PatientDemographics")
    others = [
        text_of(child)
        for block in ("TestDemographics", "Order")
        for child in root.findall(f"{block}/*")
        if _NUMBERS.fullmatch(child.tag)
    ]
    return person_of(
        [text_of(patient, "PatientID")],
        (*naming_texts(patient, _HARMLESS), *others),
        born=_moment(root, "PatientDemographics/DateofBirth"),
        age=text_of(patient, "PatientAge"),
        unit=text_of(patient, "AgeUnits") or "years",
        sex=text_of(patient, "Gender"),
        recorded=recorded,
    )


def _moment(root: Element, date: str, time: str = "") -> datetime | None:
    """Return the moment of a date, which MUSE writes as month-day-year, and a time."""
    day = _US_DATE.fullmatch(text_of(root, date))
    hour = _TIME.fullmatch(text_of(root, time)) if time else None
    return moment(day[3], day[1], day[2], *((hour[1], hour[2], hour[3] or "") if hour else ())) if day else None
