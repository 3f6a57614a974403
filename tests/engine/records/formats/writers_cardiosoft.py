"""A CardioSoft document, written as the files of UK Biobank are."""

from collections.abc import Sequence
from datetime import date, datetime
from xml.sax.saxutils import escape

import numpy as np

from engine.records.record import LEADS

PER_LINE = 20


def cardiosoft_bytes(
    signals_uv,
    leads: Sequence[str] = LEADS,
    fs: float = 500,
    *,
    patient: str = "4711",
    name: str = "Doe",
    first_name: str = "Jane",
    birth: date | None = date(1951, 4, 13),
    recorded: datetime | None = datetime(2020, 5, 18, 15, 48, 11),
    age: tuple[int, str] | None = None,
    sex: str = "FEMALE",
    microvolt: float = 1,
    units: str = "uVperLsb",
    order: str = "",
    in_strip: bool = False,
    declared: str = "ISO8859-1",
) -> bytes:
    """Return a document of counts of ``microvolt`` (leads, samples), with medians of another length before the strip.

    The strip is a child of ``Strip`` where ``in_strip``; a lead whose samples are None has an empty element.
    """
    counts = [None if row is None else np.round(np.asarray(row) / microvolt).astype(int) for row in signals_uv]
    n_samples = max(len(row) for row in counts if row is not None)
    data = "".join(
        f'  <WaveformData lead="{escape(lead)}">{_lines(row)}</WaveformData>\n'
        for lead, row in zip(leads, counts, strict=True)
    )
    medians = "".join(f'  <WaveformData lead="{escape(lead)}">{_lines([9] * 600)}</WaveformData>\n' for lead in leads)
    strip = _samples_of("StripData", len(leads), fs, n_samples, microvolt, units, data)
    strip = f"<Strip>{strip}</Strip>" if in_strip else strip
    who = f"<PID>{escape(patient)}</PID><Name><FamilyName>{escape(name)}</FamilyName>"
    who += f"<GivenName>{escape(first_name)}</GivenName></Name>"
    who += f'<Age units="{age[1]}">{age[0]}</Age>' if age else ""
    who += _parts("BirthDateTime", day=birth.day, month=birth.month, year=birth.year) if birth else ""
    who += f"<Gender>{sex}</Gender><Race>UNKNOWN</Race>"
    when = ""
    if recorded:
        when = _parts(
            "ObservationDateTime",
            hour=recorded.hour,
            minute=recorded.minute,
            second=recorded.second,
            day=recorded.day,
            month=recorded.month,
            year=recorded.year,
        )
    document = f"""<?xml version="1.0" encoding="{declared}"?>
<CardiologyXML>
 <ObservationType>RestECG</ObservationType>
 {when}
 <PatientVisit><OrderNumber>{escape(order)}</OrderNumber><PatientRoom>12</PatientRoom></PatientVisit>
 <PatientInfo>{who}</PatientInfo>
 <RestingECGMeasurements>
{_samples_of("MedianSamples", len(leads), 1000, 600, 7, units, medians)}
 </RestingECGMeasurements>
{strip}
</CardiologyXML>
"""
    return document.encode("latin-1")


def _samples_of(tag: str, n_leads: int, fs: float, n_samples: int, microvolt: float, units: str, data: str) -> str:
    return f""" <{tag}>
  <NumberOfLeads>{n_leads}</NumberOfLeads>
  <SampleRate units="Hz">{fs:g}</SampleRate>
  <ChannelSampleCountTotal>{n_samples}</ChannelSampleCountTotal>
  <Resolution units="{units}">{microvolt}</Resolution>
{data} </{tag}>"""


def _lines(samples) -> str:
    if samples is None:
        return ""
    rows = [samples[k : k + PER_LINE] for k in range(0, len(samples), PER_LINE)]
    return "\n\t\t\t" + ",\n\t\t\t".join(",".join(map(str, row)) for row in rows) + "\n\t\t"


def _parts(tag: str, **parts: int) -> str:
    return f"<{tag}>{''.join(f'<{part.title()}>{value}</{part.title()}>' for part, value in parts.items())}</{tag}>"
