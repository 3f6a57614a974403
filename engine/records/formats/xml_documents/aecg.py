"""HL7 aECG: the annotated ECG of HL7 version 3, which drug trials submit and many devices export.

The form is that of the HL7 aECG Implementation Guide (2005), with its root ``AnnotatedECG``; leads have the names of
ISO/IEEE 11073-10102. A ``series`` of the code RHYTHM is the recording; the beats derived from it are a
``derivedSeries``. A series has sets of sequences: one of the time, whose increment is the inverse of the rate, and one
of each lead, in any order, whose values are origin + scale x digit.

Philips' own conversion keeps what its devices append: the last second of its 11 s holds a calibration pulse.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import read_whole
from engine.records.formats.contents import MAX_FILE_BYTES, NOBODY, Contents, Person, person_of, timestamp
from engine.records.formats.xml_documents.texts import amplitude, count_numbers, named_leads, whole_numbers
from engine.records.formats.xml_documents.tree import number_of, parse_xml, text_of, texts_in
from engine.records.lead_names import lead_name
from engine.records.record import LEADS, RecordError
from engine.records.units import in_millivolt

ROOT = "AnnotatedECG"
_PREFIX = "MDC_ECG_LEAD_"
_CODES = {f"{_PREFIX}{lead}".upper(): lead for lead in LEADS}
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "\u00b5s": 1e6, "\u03bcs": 1e6}
_REPORTED_AGE = "21612-7"  # LOINC
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_FARTHEST_ORIGIN = 1e6  # millivolt
_PHILIPS_SECONDS, _ECG_SECONDS = 11.0, 10.0


@dataclass(frozen=True)
class _Lead:
    code: str
    digits: str
    unit: str
    origin: float  # millivolt
    millivolt: float  # of one digit


def open_aecg(path: Path) -> Contents:
    """Return what an annotated ECG holds: its rhythm, float64 (leads, samples) in millivolt when decoded.

    Leads that are none of the twelve keep the name of their code, without ``MDC_ECG_LEAD_``. Raises RecordError for a
    document that is damaged, gives no unit, or whose leads have different numbers of samples.
    """
    root = parse_xml(read_whole(path, MAX_FILE_BYTES))
    if root.tag != ROOT:
        raise RecordError("is not an annotated ECG of HL7")
    rhythms = [part for part in root.findall("component/series") if _code(part) == "RHYTHM"]
    if not rhythms:
        raise RecordError("holds no rhythm, only beats or measurements")
    rhythm = rhythms[0]
    sets = [part.findall("component/sequence") for part in rhythm.findall("component/sequenceSet")]
    sequences = max(sets, key=lambda parts: sum(map(_is_lead, parts)), default=[])
    times = [part for part in sequences if _code(part).startswith("TIME_")]
    leads = [_lead(part) for part in sequences if _is_lead(part)]
    names = named_leads([lead.code for lead in leads], _spelled)
    if len(times) != 1:
        raise RecordError("its leads have no time, or more than one")
    counts = {count_numbers(lead.digits, " ") for lead in leads}
    if len(counts) > 1:
        raise RecordError("its leads have different numbers of samples")
    n_samples = counts.pop()
    notes = [f"{len(rhythms)} rhythms in one file: the first is read"] * (len(rhythms) > 1)
    notes += [f"{len(sets)} sets of leads in one rhythm: the largest is read"] * (len(sets) > 1)
    if n_other := len(sequences) - len(times) - len(leads):
        what = "1 sequence that is not a lead is" if n_other == 1 else f"{n_other} sequences that are not leads are"
        notes.append(f"{what} left out")
    fs = _rate(times[0])
    recorded = _recorded(root, rhythm, times[0])
    return Contents(
        leads=names,
        fs=fs,
        n_samples=n_samples,
        unit=leads[0].unit,
        decode=lambda: np.stack([_samples(lead, n_samples) for lead in leads]),
        person=_person(root, recorded),
        recorded=recorded,
        n_used=round(_ECG_SECONDS * fs) if _is_from_philips(rhythm) and n_samples == _PHILIPS_SECONDS * fs else None,
        notes=tuple(notes),
    )


def _code(element: Element) -> str:
    code = element.find("code")
    return code.get("code", "").strip().upper() if code is not None else ""


def _is_lead(sequence: Element) -> bool:
    return _code(sequence).startswith(_PREFIX) or lead_name(_code(sequence)) in LEADS


def _spelled(codes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of codes; a lead that was computed from others (``MDC_ECG_LEAD_dI``) is none of the twelve."""
    return tuple(
        _CODES.get(code.upper(), code[len(_PREFIX) :] or code) if code.upper().startswith(_PREFIX) else lead_name(code)
        for code in codes
    )


def _lead(sequence: Element) -> _Lead:
    code, value = sequence.find("code"), sequence.find("value")
    origin, scale = (value.find(tag) if value is not None else None for tag in ("origin", "scale"))
    digits = value.find("digits") if value is not None else None
    if code is None or scale is None or digits is None:
        raise RecordError("a lead has no samples, or no scale")
    unit = scale.get("unit", "")
    millivolt = amplitude(scale.get("value", ""), unit)
    zero = 0.0
    if origin is not None:
        zero_unit = in_millivolt(origin.get("unit", unit))
        zero = number_of(origin.get("value", ""), "origin of amplitudes") * (zero_unit or np.nan)
    if not abs(zero) <= _FARTHEST_ORIGIN:  # nor NaN
        raise RecordError("the origin of its amplitudes is not a voltage, or an impossible one")
    return _Lead(
        code=code.get("code", "").strip(),
        digits=digits.text or "",
        unit=unit,
        origin=zero,
        millivolt=millivolt,
    )


def _samples(lead: _Lead, n_samples: int) -> NDArray[np.floating]:
    return lead.origin + lead.millivolt * whole_numbers(lead.digits, " ", n_samples)


def _rate(time: Element) -> float:
    value, increment = time.find("value"), time.find("value/increment")
    if value is None or increment is None:
        raise RecordError("it gives no sampling frequency")
    if value.get("denominator", "1") != "1" or value.get("period"):
        raise RecordError("the times of its samples repeat themselves")
    per_second = _PER_SECOND.get(increment.get("unit", ""))
    seconds = number_of(increment.get("value", ""), "time between samples")
    if per_second is None or seconds <= 0:
        raise RecordError("the time between its samples is not a time")
    return per_second / seconds


def _is_from_philips(series: Element) -> bool:
    return text_of(series, "author/seriesAuthor/manufacturerOrganization/name").lower().startswith("philips")


def _recorded(root: Element, series: Element, time: Element) -> datetime | None:
    """Return when the series was recorded, in the time of the place."""
    spans = [of.find("effectiveTime") for of in (series, root)]
    marks = [
        span if tag == "." else span.find(tag) for span in spans if span is not None for tag in (".", "low", "center")
    ]
    if _code(time) == "TIME_ABSOLUTE":
        marks.append(time.find("value/head"))
    moments = (timestamp(mark.get("value", "").strip()) for mark in marks if mark is not None)
    return next((found for found in moments if found is not None), None)


def _person(root: Element, recorded: datetime | None) -> Person:
    subject = root.find("componentOf/timepointEvent/componentOf/subjectAssignment/subject/trialSubject")
    if subject is None:
        return NOBODY
    ids = [part.get("extension", "") or _own_root(part) for part in subject.findall("id")]
    person = subject.find("subjectDemographicPerson")
    name, birth, gender = (
        person.find(tag) if person is not None else None for tag in ("name", "birthTime", "administrativeGenderCode")
    )
    written = birth.get("value", "") if birth is not None else ""
    names = list(texts_in(name)) if name is not None else []
    age, unit = _reported_age(root)
    return person_of(
        ids,
        (*names, written),
        born=timestamp(written.strip()),
        age=age,
        unit=unit,
        sex=gender.get("code", "") if gender is not None else "",
        recorded=recorded,
    )


def _own_root(identifier: Element) -> str:
    """Return a root that names one thing; an object identifier may be that of the organisation alone."""
    root = identifier.get("root", "")
    return root if _UUID.fullmatch(root.strip()) else ""


def _reported_age(root: Element) -> tuple[str, str]:
    """Return an age and its unit, nothing where none is reported."""
    for observation in root.findall("controlVariable/relatedObservation"):
        value = observation.find("value")
        if _code(observation) == _REPORTED_AGE and value is not None:
            return value.get("value", ""), value.get("unit", "a")
    return "", ""
