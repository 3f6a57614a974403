"""HL7 aECG: the annotated ECG of HL7 version 3, which drug trials submit and many devices export.

The form is that of the HL7 aECG Implementation Guide (2005), with its root ``AnnotatedECG``; leads have the names of
ISO/IEEE 11073-10102. A ``series`` of the code RHYTHM is the recording; the beats derived from it are a
``derivedSeries``. A series has sets of sequences: one of the time, whose increment is the inverse of the rate, and one
of each lead, in any order, whose values are origin + scale x digit. Of several sets the one of most leads is read, then
the longest, and with it all of other leads that have its rate, length and start.

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
from engine.records.lead_names import lead_name, leads_not_read
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


@dataclass(frozen=True)
class _Part:
    """A set of sequences of one time."""

    series: Element
    time: Element
    leads: list[_Lead]
    names: tuple[str, ...]
    fs: float
    n_samples: int
    n_other: int  # sequences that are no leads


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
    sets = [(series, part) for series in rhythms for part in series.findall("component/sequenceSet")]
    sets = sorted(sets, key=lambda one: _extent(one[1]), reverse=True) or [(rhythms[0], Element("sequenceSet"))]
    parts, others = [_part(*sets[0])], []
    for series, one in sets[1:]:
        if (part := _continuing(series, one, parts)) is not None:
            parts.append(part)
        elif codes := _codes(one):
            others.append(_spelled(codes))
    first = parts[0]
    leads = [lead for part in parts for lead in part.leads]
    names = tuple(name for part in parts for name in part.names)
    notes = leads_not_read(others, names)
    if n_other := sum(part.n_other for part in parts):
        what = "1 sequence that is not a lead is" if n_other == 1 else f"{n_other} sequences that are not leads are"
        notes += (f"{what} left out",)
    recorded = _recorded(root, first.series, first.time)
    has_calibration = _PHILIPS_SECONDS * first.fs == first.n_samples and _is_from_philips(first.series)
    return Contents(
        leads=names,
        fs=first.fs,
        n_samples=first.n_samples,
        unit=leads[0].unit,
        decode=lambda: np.stack([_samples(lead, first.n_samples) for lead in leads]),
        person=_person(root, recorded),
        recorded=recorded,
        n_used=round(_ECG_SECONDS * first.fs) if has_calibration else None,
        notes=notes,
    )


def _part(series: Element, sequence_set: Element) -> _Part:
    """Read a set of sequences, its samples apart. Raises RecordError."""
    sequences = sequence_set.findall("component/sequence")
    times = [part for part in sequences if _code(part).startswith("TIME_")]
    leads = [_lead(part) for part in sequences if _is_lead(part)]
    names = named_leads([lead.code for lead in leads], _spelled)
    if len(times) != 1:
        raise RecordError("its leads have no time, or more than one")
    counts = {count_numbers(lead.digits, " ") for lead in leads}
    if len(counts) > 1:
        raise RecordError("its leads have different numbers of samples")
    n_other = len(sequences) - len(times) - len(leads)
    return _Part(series, times[0], leads, names, _rate(times[0]), counts.pop(), n_other)


def _continuing(series: Element, sequence_set: Element, parts: list[_Part]) -> _Part | None:
    """Return a set of other leads than those of ``parts`` and of the same time, None for any other, or damaged one."""
    try:
        part = _part(series, sequence_set)
    except RecordError:
        return None
    first = parts[0]
    same = (part.fs, part.n_samples, _start(part)) == (first.fs, first.n_samples, _start(first))
    return part if same and {name for one in parts for name in one.names}.isdisjoint(part.names) else None


def _start(part: _Part) -> tuple[str | None, ...]:
    """Return what tells when a set's first sample is: its time, or where that is a relative one that of its series."""
    head = part.time.find("value/head")
    told = (_code(part.time), head.get("value"), head.get("unit")) if head is not None else ("", None, None)
    if told[0] == "TIME_ABSOLUTE":
        return told
    span = part.series.find("effectiveTime")
    low = span.find("low") if span is not None else None
    return (*told, *(mark.get("value") if mark is not None else None for mark in (span, low)))


def _codes(sequence_set: Element) -> tuple[str, ...]:
    return tuple(_code(part) for part in sequence_set.findall("component/sequence") if _is_lead(part))


def _extent(sequence_set: Element) -> tuple[int, float]:
    """Return a set's number of leads, and how many seconds its first lead has, 0 where that is not told."""
    sequences = sequence_set.findall("component/sequence")
    first = next((part for part in sequences if _is_lead(part)), None)
    time = next((part for part in sequences if _code(part).startswith("TIME_")), None)
    try:
        seconds = count_numbers(text_of(first, "value/digits"), " ") / _rate(time) if time is not None else 0.0
    except RecordError:
        seconds = 0.0
    return len(set(_codes(sequence_set))), seconds


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
