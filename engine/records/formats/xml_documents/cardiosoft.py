"""GE CardioSoft: an ECG as XML, the form of the resting ECGs of UK Biobank (data-field 20205).

No definition is public; the form is what published files and their readers show. The root is ``CardiologyXML``. Its
``StripData``, directly below it or in ``Strip``, is the recording: a ``WaveformData`` for each lead, of whole numbers
with commas between them, over many lines. ``MedianSamples`` comes before it and is an averaged beat. The encoding is
declared as ``ISO8859-1``. No openly licensed file was found to try this reader on.
"""

from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from engine.records.file_content import read_whole
from engine.records.formats.contents import MAX_FILE_BYTES, Contents, Person, person_of
from engine.records.formats.xml_documents.texts import (
    amplitude,
    count_in,
    count_numbers,
    fullest,
    moment,
    named_leads,
    naming_texts,
    whole_numbers,
)
from engine.records.formats.xml_documents.tree import number_of, parse_xml, text_of
from engine.records.lead_names import leads_not_read
from engine.records.record import RecordError

ROOT = "CardiologyXML"
_PER_COUNT = "perlsb"  # what follows the unit of voltage: uVperLsb
_HARMLESS = ("Age", "BirthDateTime", "Gender", "Race", "Height", "Weight", "PaceMaker", "Pacemaker")
_OBSERVED = ("ObservationDateTime", "ClinicalInfo/ObservationDateTime")
_NUMBERS = ("OrderNumber", "VisitNumber", "AccountNumber", "AdmissionNumber")


def open_cardiosoft(path: Path) -> Contents:
    """Return what a CardioSoft document holds: its strip, float64 (leads, samples) in millivolt when decoded.

    A lead without samples is left out, and so a limb lead can be derived. Raises RecordError for a document that is
    damaged, or whose leads have another number of samples than it says.
    """
    root = parse_xml(read_whole(path, MAX_FILE_BYTES))
    if root.tag != ROOT:
        raise RecordError("is not a CardioSoft document")
    strips = root.findall("StripData") + root.findall("Strip/StripData")
    if not strips:
        raise RecordError("holds no strip of a rhythm")
    strip, others = fullest(strips, _names, _seconds)
    elements = _elements(strip)
    names = named_leads(_names(strip))
    texts = [text_of(element) for element in elements]
    counts = {count_numbers(text, ",") for text in texts}
    says = count_in(strip, "ChannelSampleCountTotal", "number of samples")
    if len(counts) > 1:
        raise RecordError("its leads have different numbers of samples")
    n_samples = counts.pop()
    if says not in (None, n_samples):
        raise RecordError(f"it says {says:,} samples of a lead and has {n_samples:,}")
    n_leads = count_in(strip, "NumberOfLeads", "number of leads")
    notes = [*leads_not_read(others, names)]
    if n_leads not in (None, len(texts)):
        notes.append(f"it says {n_leads} leads and has the samples of {len(texts)}")
    unit, millivolt = _resolution(strip)
    moments = (_moment(root, path, "Year", "Month", "Day", "Hour", "Minute", "Second") for path in _OBSERVED)
    recorded = next((found for found in moments if found is not None), None)
    return Contents(
        leads=names,
        fs=_rate(strip),
        n_samples=n_samples,
        unit=unit,
        decode=lambda: np.stack([whole_numbers(text, ",", n_samples) for text in texts]) * millivolt,
        person=_person(root, recorded),
        recorded=recorded,
        notes=tuple(notes),
    )


def _elements(strip: Element) -> list[Element]:
    return [element for element in strip.findall("WaveformData") if text_of(element)]


def _names(strip: Element) -> list[str]:
    return [element.get("lead", "").strip() for element in _elements(strip)]


def _seconds(strip: Element) -> float:
    return max((count_numbers(text_of(element), ",") for element in _elements(strip)[:1]), default=0) / _rate(strip)


def _rate(strip: Element) -> float:
    rate = strip.find("SampleRate")
    if rate is not None and rate.get("units", "Hz").strip().lower() != "hz":
        raise RecordError("its sampling frequency is not in Hz")
    return number_of(text_of(rate), "sampling frequency")


def _resolution(strip: Element) -> tuple[str, float]:
    """Return the unit of voltage, and how many millivolt one count is."""
    resolution = strip.find("Resolution")
    written = resolution.get("units", "").strip() if resolution is not None else ""
    unit = written[: -len(_PER_COUNT)] if written.lower().endswith(_PER_COUNT) else ""
    return unit, amplitude(text_of(resolution), unit)


def _person(root: Element, recorded: datetime | None) -> Person:
    patient = root.find("PatientInfo")
    born = _moment(root, "PatientInfo/BirthDateTime", "Year", "Month", "Day")
    others = [text_of(child) for child in root.findall("PatientVisit/*") if child.tag in _NUMBERS]
    age = root.find("PatientInfo/Age")
    return person_of(
        [text_of(patient, "PID")],
        (*naming_texts(patient, _HARMLESS), f"{born:%Y-%m-%d}" if born else None, *others),
        born=born,
        age=text_of(age),
        unit="years" if age is None else age.get("units", "years"),
        sex=text_of(patient, "Gender"),
        recorded=recorded,
    )


def _moment(root: Element, path: str, *parts: str) -> datetime | None:
    return moment(*(text_of(root, f"{path}/{part}") for part in parts))
