"""A document of Schiller's SEMA, written as published readers expect it."""

from collections.abc import Sequence
from datetime import date, datetime
from xml.sax.saxutils import escape

import numpy as np

ROOT = "com.xiriuz.sema.xml.schillerEDI.SchillerEDI"
CAPITALS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")


def schiller_bytes(
    signals_uv,
    leads: Sequence[str] = CAPITALS,
    fs: float = 500,
    *,
    patient: str = "4711",
    name: str = "Doe",
    first_name: str = "Jane",
    birth: date | None = date(1951, 4, 13),
    recorded: datetime | None = datetime(2020, 5, 18, 15, 48, 11),
    sex: str = "FEMALE",
    microvolt: float = 1.0,
    unit: str = "UV",
    exponent: int = 1,
    case: str = "",
    order: str = "",
    configuration: str = "ECG_STANDARD",
    root: str = ROOT,
) -> bytes:
    """Return a document of counts of ``microvolt`` (leads, samples), with averages of another length before."""
    counts = np.round(np.asarray(signals_uv) / microvolt).astype(int)
    averages = np.full((len(leads), 58), 9)
    day = f"{recorded:%Y%m%d}" if recorded else ""
    time = f"{recorded:%H%M%S}000" if recorded else ""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<{root}>
  <patdata>
    <id>{escape(patient)}</id>
    <lastname>{escape(name)}</lastname>
    <firstname>{escape(first_name)}</firstname>
    <birthdate>{f"{birth:%Y%m%d}" if birth else ""}</birthdate>
    <gender>{sex}</gender>
    <ethnic>ETHNIC_UNDEFINED</ethnic>
    <weight><value>85.0</value><unit>kg</unit></weight>
    <pacemaker><value>OFF</value></pacemaker>
  </patdata>
  <examdescript>
    <startdatetime><date>{day}</date><time>{time}</time></startdatetime>
    <rectype>RESTING_ECG</rectype>
    <case_id>{escape(case)}</case_id>
    <order_id>{escape(order)}</order_id>
  </examdescript>
  <eventdata>
    <event>
      <offset>0</offset>
{_wavedata("ECG_AVERAGES", averages, leads, fs, exponent, microvolt, unit, configuration)}
{_wavedata("ECG_RHYTHMS", counts, leads, fs, exponent, microvolt, unit, configuration)}
      <annotation_global><name>HR</name><value>59</value></annotation_global>
    </event>
  </eventdata>
</{root}>
""".encode()


def _wavedata(kind: str, counts, leads, fs: float, exponent: int, gain: float, unit: str, configuration: str) -> str:
    channels = "".join(
        f"""        <channel>
          <annotation_lead><name>R_AMPL</name><value>0.77</value></annotation_lead>
          <name>{escape(lead)}</name>
          <data>{",".join(map(str, row))}</data>
          <datastype>COMMASEPARATE</datastype>
          <samplecount>{len(row)}</samplecount>
        </channel>
"""
        for lead, row in zip(leads, counts, strict=True)
    )
    return f"""      <wavedata>
        <type>{kind}</type>
        <resolution>
          <samplerate><exponent>{exponent}</exponent><value>{fs:g}</value></samplerate>
          <yres><unitperbit>{gain}</unitperbit><units>{unit}</units></yres>
        </resolution>
{channels}        <channelconfiguration>{configuration}</channelconfiguration>
      </wavedata>"""
