"""Schiller SEMA: an ECG as XML ("SchillerEDI"), which Schiller's SEMA exports.

No definition is public, and no openly licensed file was found to try this reader on: the form is what published readers
and their notes say. The root's name ends in ``SchillerEDI``. An event has several ``wavedata``: ``ECG_AVERAGES``, the
averaged beats, comes before ``ECG_RHYTHMS``, which is the recording. Samples are whole numbers with commas between
them. A rate of the value 500 with the exponent 1 is 500 Hz: the exponent is not one of ten.
"""

import re
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

ROOT = "SchillerEDI"  # how the root's name ends
_RHYTHMS = ("ECG_RHYTHMS", "ECG_RHYTHM")
_SEPARATED = ("", "COMMASEPARATE", "COMMASEPARATED")
_HARMLESS = ("gender", "ethnic", "weight", "height", "pacemaker", "age")
_NUMBERS = ("case_id", "order_id", "job_id", "visit_id")
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)")
_TIME = re.compile(r"(\d\d):?(\d\d):?(\d\d)(?:[.:]?\d{0,6})")


def open_schiller(path: Path) -> Contents:
    """Return what a SEMA document holds: its rhythm, float64 (leads, samples) in millivolt when decoded.

    Raises RecordError for a document that is damaged, and for one whose leads have another number of samples than it
    says.
    """
    root = parse_xml(read_whole(path, MAX_FILE_BYTES))
    if not root.tag.endswith(ROOT):
        raise RecordError("is not a document of Schiller's SEMA")
    rhythms = [part for part in root.findall("eventdata/event/wavedata") if text_of(part, "type").upper() in _RHYTHMS]
    if not rhythms:
        raise RecordError("holds no rhythm, only averaged beats or measurements")
    rhythm, others = fullest(rhythms, _names, _seconds)
    channels = rhythm.findall("channel")
    names = named_leads(_names(rhythm))
    if any(text_of(channel, "datastype").upper() not in _SEPARATED for channel in channels):
        raise RecordError("its samples are written in a way that is not read")
    texts = [text_of(channel, "data") for channel in channels]
    counts = [count_numbers(text, ",") for text in texts]
    says = [count_in(channel, "samplecount", "number of samples") for channel in channels]
    if any(said not in (None, count) for said, count in zip(says, counts, strict=True)):
        raise RecordError("a lead has another number of samples than it says")
    n_samples = counts[0]
    if set(counts) != {n_samples}:
        raise RecordError("its leads have different numbers of samples")
    notes = [*leads_not_read(others, names)]
    if text_of(rhythm, "channelconfiguration") not in ("", "ECG_STANDARD"):
        notes.append("its leads are not in the standard configuration")
    unit, millivolt = _resolution(rhythm)
    recorded = _moment(root, "examdescript/startdatetime/date", "examdescript/startdatetime/time")
    return Contents(
        leads=names,
        fs=_rate(rhythm),
        n_samples=n_samples,
        unit=unit,
        decode=lambda: np.stack([whole_numbers(text, ",", n_samples) for text in texts]) * millivolt,
        person=_person(root, recorded),
        recorded=recorded,
        notes=tuple(notes),
    )


def _names(rhythm: Element) -> list[str]:
    return [text_of(channel, "name") for channel in rhythm.findall("channel")]


def _seconds(rhythm: Element) -> float:
    return count_numbers(text_of(rhythm, "channel/data"), ",") / _rate(rhythm)


def _rate(rhythm: Element) -> float:
    if text_of(rhythm, "resolution/samplerate/exponent") not in ("", "0", "1"):
        raise RecordError("its sampling frequency has an exponent of which no definition says what it means")
    return number_of(text_of(rhythm, "resolution/samplerate/value"), "sampling frequency")


def _resolution(rhythm: Element) -> tuple[str, float]:
    """Return the unit of voltage, and how many millivolt one count is."""
    unit = text_of(rhythm, "resolution/yres/units")
    return unit, amplitude(text_of(rhythm, "resolution/yres/unitperbit"), unit)


def _person(root: Element, recorded: datetime | None) -> Person:
    patient = root.find("patdata")
    others = [text_of(child) for child in root.findall("examdescript/*") if child.tag in _NUMBERS]
    return person_of(
        [text_of(patient, "id")],
        (*naming_texts(patient, _HARMLESS), *others),
        born=_moment(root, "patdata/birthdate"),
        age=text_of(patient, "age/value") or text_of(patient, "age"),
        unit=text_of(patient, "age/unit") or "years",
        sex=text_of(patient, "gender"),
        recorded=recorded,
    )


def _moment(root: Element, date: str, time: str = "") -> datetime | None:
    day = _DATE.fullmatch(text_of(root, date))
    hour = _TIME.fullmatch(text_of(root, time)) if time else None
    return moment(*day.groups(), *(hour.groups() if hour else ())) if day else None
