"""Philips' Sierra XML, as PageWriter carts, HeartStart monitors, TraceMaster and IntelliSpace write it.

By the vendor's schemas of 1.03 and 1.04.01, whose comments define the attributes that are used here, and by the
definition of the compression XLI in C. Watford's sierra-ecg-tools. With XLI the leads III, aVR, aVL and aVF are stored
as what I and II make of them, in whole counts with halves cut towards zero, less the lead itself. A recording of 11 s
is 10 s of ECG and a calibration: a pulse of 1 mV and zeros, the same in all leads. It shows whether the waveforms are
sound, since one wrong difference of differences before it moves it.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import read_whole
from engine.records.formats.contents import MAX_FILE_BYTES, Contents, Person, person_of
from engine.records.formats.xml_documents.texts import count_numbers, from_base64, iso_moment, whole_numbers
from engine.records.formats.xml_documents.tree import number_of, parse_xml, text_of
from engine.records.formats.xml_documents.xli import decompress, split_chunks
from engine.records.lead_names import lead_names
from engine.records.record import LEADS, RecordError

ROOT = "restingecgdata"

_VERSIONS = ("1.03", "1.04", "1.04.01", "1.04.02")
_LIMB = LEADS[:6]
_STANDARD = "STD-12"  # the acquisition type of 1.03, which does not list the leads
_DURATION, _ECG = 11.0, 10.0  # seconds: of a recording that ends in a calibration, and of the ECG in it
_SAME_END = 0.3  # seconds at the end that belong to the calibration; 0.4 to 0.9 were seen
_PULSE = 1000.0  # microvolt
_MODIFIED = ("waveformmodified", "upsampled", "downsampled")
_UNITS = ("years", "months", "weeks", "days", "hours", "minutes")  # of an age
_LOWEST, _HIGHEST = -32768, 32767
_MAX_SAMPLES = 1e9
_MAX_WRITTEN = 10_000_000  # samples as text, which are costly
_MAX_MICROVOLT = 1000.0  # of a count; the schema of 1.03 lists 1.25 to 20

_Counts = NDArray[np.int64]


def open_sierra(path: Path) -> Contents:
    """Return what a Sierra XML document of 1.03 to 1.04.02 holds, decoded as float64 (leads, samples).

    Its waveforms are compressed with XLI, or not: as Base64 of 16-bit samples, or as numbers. Raises RecordError.
    """
    root = parse_xml(read_whole(path, MAX_FILE_BYTES))
    if root.tag != ROOT:
        raise RecordError("is not a Philips Sierra XML document")
    if text_of(root, "documentinfo/documentversion") not in _VERSIONS:
        raise RecordError(f"is of a version of Sierra XML that is not read ({', '.join(_VERSIONS)} are)")
    waveforms = _waveforms(root)
    signal = root.find("dataacquisition/signalcharacteristics")
    signal = Element("signalcharacteristics") if signal is None else signal
    fs = _agreed(waveforms, signal, ("samplespersecond",), ("samplingrate",), "sampling rate")
    microvolt = _agreed(waveforms, signal, ("resolution",), ("resolution", "signalresolution"), "resolution")
    if microvolt > _MAX_MICROVOLT:
        raise RecordError(f"its resolution of {microvolt:g} uV is not that of an ECG")
    seconds = number_of(waveforms.get("durationperchannel", ""), "duration") / 1000
    n_samples = _whole(seconds * fs)
    leads = _leads(waveforms, signal)
    offset = number_of(waveforms.get("signaloffset") or text_of(signal, "signaloffset") or "0", "signal offset")
    if abs(offset) > _HIGHEST + 1:
        raise RecordError("its signal offset is not of 16 bits")
    counts = _counts(waveforms, signal, leads, n_samples, offset)
    n_used = round(_ECG * fs) if abs(seconds - _DURATION) < 1e-6 else None

    def decode() -> NDArray[np.float64]:
        values = counts()
        if n_used is not None:
            _check_calibration(values[:, n_used:], round(_SAME_END * fs), microvolt)
        return (values - offset) * microvolt / 1000

    recorded = _recorded(root)
    return Contents(leads, fs, n_samples, "uV", decode, _person(root, recorded), recorded, n_used)


def _waveforms(root: Element) -> Element:
    found = root.findall("waveforms/parsedwaveforms")
    if len(found) == 1:
        return found[0]
    if found:
        raise RecordError(f"it has waveforms {len(found)} times")
    if root.find("waveforms/unparsedwaveforms") is not None:
        raise RecordError("its waveforms are in another file")
    if root.find("waveforms/leadwaveforms") is not None:
        raise RecordError("its waveforms are in one element for each lead, which is not read")
    raise RecordError("it has no waveforms")


def _agreed(
    waveforms: Element, signal: Element, attributes: tuple[str, ...], elements: tuple[str, ...], what: str
) -> float:
    """Return a number above zero that describes the waveforms.

    What the acquisition says is another only where the waveforms were modified since.
    """
    here = next((value for name in attributes if (value := waveforms.get(name))), "")
    there = next((text for name in elements if (text := text_of(signal, name))), "")
    number = number_of(here or there, what)
    modified = any(waveforms.get(flag, "").lower() == "true" for flag in _MODIFIED)
    if here and there and not modified and number_of(there, what) != number:
        raise RecordError(f"it gives two {what}s")
    if number <= 0:
        raise RecordError(f"its {what} is not above zero")
    return number


def _whole(n_samples: float) -> int:
    if not 0 < n_samples < _MAX_SAMPLES or abs(n_samples - round(n_samples)) > 1e-6:
        raise RecordError("its duration is not that of a whole number of samples")
    return round(n_samples)


def _leads(waveforms: Element, signal: Element) -> tuple[str, ...]:
    labels = tuple(waveforms.get("leadlabels", "").split())
    if not labels and text_of(signal, "acquisitiontype") == _STANDARD:
        return LEADS
    if not labels or not 0 < len(labels) == number_of(waveforms.get("numberofleads", ""), "number of leads"):
        raise RecordError("it does not name as many leads as it has")
    return lead_names(labels)


def _counts(
    waveforms: Element, signal: Element, leads: tuple[str, ...], n_samples: int, offset: float
) -> Callable[[], _Counts]:
    """Return what gives the samples in counts, (leads, samples); their number is checked before."""
    shape = len(leads), n_samples
    text, encoding, compressed = waveforms.text or "", waveforms.get("dataencoding", ""), _is_compressed(waveforms)
    bits = waveforms.get("bitspersample") or waveforms.get("nbitspersample") or ""
    signed = waveforms.get("signalsigned") or text_of(signal, "signalsigned") or "True"
    if number_of(bits, "number of bits") != 16 or signed.lower() != "true":
        raise RecordError("its samples are not of 16 bits with a sign")
    if encoding not in (("Base64",) if compressed else ("Base64", "Plain")):
        raise RecordError("its waveforms are encoded in a way that is not read")
    if encoding == "Plain":
        least = 2 * len(leads) * n_samples - 1  # each sample a digit and what parts it from the next
        if len(text) < least or least > 2 * _MAX_WRITTEN:
            raise RecordError(f"it does not have {n_samples:,} samples of {len(leads)} leads")
        return lambda: _written_out(text, shape)
    content = from_base64(text)
    if compressed:
        if offset:
            raise RecordError("its compressed samples have an offset, which is not defined")
        chunks, differ = split_chunks(content, *shape), _limb_leads_differ(leads)

        def restored() -> _Counts:
            stored = np.stack([decompress(chunk, n_samples) for chunk in chunks])
            return _with_limb_leads(stored) if differ else stored

        return restored
    if len(content) != 2 * len(leads) * n_samples:
        raise RecordError(f"it does not have {n_samples:,} samples of {len(leads)} leads")
    return lambda: np.frombuffer(content, "<i2").reshape(shape).astype(np.int64)


def _is_compressed(waveforms: Element) -> bool:
    method = waveforms.get("compressmethod") or waveforms.get("compression")
    flag = waveforms.get("compressflag", str(method is not None)).lower()
    if flag == "false":
        return False
    if flag != "true" or method != "XLI":
        raise RecordError("its waveforms are compressed in a way that is not read")
    return True


def _written_out(text: str, shape: tuple[int, int]) -> _Counts:
    """Return the samples of all leads, one lead after the other, from a text of whole numbers."""
    values = whole_numbers(text, " ", count_numbers(text, " "))
    if len(values) != shape[0] * shape[1]:
        raise RecordError(f"it has {len(values):,} samples instead of {shape[1]:,} of {shape[0]} leads")
    if values.min() < _LOWEST or values.max() > _HIGHEST:
        raise RecordError("a sample is not of 16 bits")
    return values.reshape(shape)


def _limb_leads_differ(leads: tuple[str, ...]) -> bool:
    """Return whether the limb leads are stored as differences from I and II, which their order has to allow."""
    if leads[:6] == _LIMB and not set(leads[6:]) & set(_LIMB):
        return True
    if {*_LIMB[2:], "-aVR"} & set(leads):
        raise RecordError("its limb leads are in an order for which the compression is not defined")
    return False


def _with_limb_leads(stored: _Counts) -> _Counts:
    """Return (leads, samples) with III, aVR, aVL and aVF in place of what was stored for them."""
    counts = stored.copy()
    one, two = counts[0], counts[1]
    counts[2] = three = two - one - stored[2]
    counts[3] = -_half(one + two) - stored[3]
    counts[4] = _half(one - three) - stored[4]
    counts[5] = _half(two + three) - stored[5]
    return counts


def _half(counts: _Counts) -> _Counts:
    halves: _Counts = np.abs(counts) // 2 * np.sign(counts)
    return halves


def _check_calibration(after: _Counts, n_same: int, microvolt: float) -> None:
    """Refuse waveforms of which some leads end in the common calibration and others do not, or in another pulse."""
    end = after[:, -n_same:]
    same = (end == np.median(end, axis=0)).all(axis=1)
    if len(after) < 3 or 2 * same.sum() <= len(after):
        return  # there is none
    if not same.all():
        raise RecordError("its waveforms are damaged: not all leads end in the same calibration")
    apart = np.flatnonzero((after != after[0]).any(axis=0))
    pulse = np.abs(after[0, apart[-1] + 1 if len(apart) else 0 :]).max() * microvolt
    if pulse and abs(pulse - _PULSE) > microvolt:
        raise RecordError(f"its calibration pulse is of {pulse / 1000:g} mV instead of 1 mV: its resolution is wrong")


def _recorded(root: Element) -> datetime | None:
    """Return the time of the acquisition, by the clock of the place."""
    acquired = root.find("dataacquisition")
    return None if acquired is None else iso_moment(f"{acquired.get('date', '')}T{acquired.get('time', '')}")


def _person(root: Element, recorded: datetime | None) -> Person:
    patient = root.find("patient/generalpatientdata")
    patient = Element("generalpatientdata") if patient is None else patient
    numbers = [text_of(patient, name) for name in ("patientid", "MRN", "secondaryid")]
    numbers += [text_of(patient, name) for name in ("uniquepatientid", "viperuniquepatientid")]
    first, middle, last = (text_of(patient, f"name/{part}name") for part in ("first", "middle", "last"))
    born = text_of(patient, "age/dateofbirth")
    own_fields = [text_of(value) for value in root.findall("userdefines/userdefine/value")]
    texts = (
        *(text_of(root, f"orderinfo/{name}") for name in ("ordernumber", "uniqueorderid")),
        text_of(root, "dataacquisition/acquirer/encounterid"),
        *(text for text in own_fields if any(letter.isdigit() for letter in text)),  # an account's or a visit's number
        first,
        middle,
        last,
        f"{first} {last}",
        born,
    )
    age, unit = next(((text, unit) for unit in _UNITS if (text := text_of(patient, f"age/{unit}"))), ("", ""))
    sex = text_of(patient, "sex")
    return person_of(numbers, texts, born=iso_moment(born), age=age, unit=unit, sex=sex, recorded=recorded)
