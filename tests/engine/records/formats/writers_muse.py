"""A MUSE document, written by the form of GE's restecg.dtd."""

import zlib
from base64 import encodebytes
from collections.abc import Sequence
from datetime import date, datetime
from xml.sax.saxutils import escape

import numpy as np

N_MEDIAN = 30


def muse_bytes(
    signals_uv,
    leads: Sequence[str] = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"),
    fs: float = 500,
    *,
    patient: str = "4711",
    name: str = "Doe",
    first_name: str = "Jane",
    birth: date | None = date(1951, 4, 13),
    recorded: datetime | None = datetime(2020, 5, 18, 15, 48, 11),
    age: tuple[int, str] | None = None,
    sex: str = "FEMALE",
    exponent: int = 0,
    microvolt: float = 1.0,
    unit: str = "MICROVOLTS",
    checksums: bool = True,
    orders: Sequence[tuple[str, str]] = (),
    encoding: str = "ISO-8859-1",
) -> bytes:
    """Return a document of counts of ``microvolt`` (leads, samples), with a median of another rate before the rhythm.

    ``orders`` are elements of the order, by name and text; ``exponent`` is that of the rate.
    """
    counts = np.round(np.asarray(signals_uv) / microvolt).astype("<i2")
    rows = [_element("PatientID", patient), _element("PatientLastName", name), _element("PatientFirstName", first_name)]
    rows += [_element("Gender", sex), _element("Race", "CAUCASIAN"), _element("HeightCM", "170")]
    rows += [_element("DateofBirth", f"{birth:%m-%d-%Y}")] if birth else []
    rows += [_element("PatientAge", str(age[0])), _element("AgeUnits", age[1])] if age else []
    test = [_element("DataType", "RESTING"), _element("Location", "10"), _element("LocationName", "WARD")]
    if recorded:
        test += [_element("AcquisitionTime", f"{recorded:%H:%M:%S}")]
        test += [_element("AcquisitionDate", f"{recorded:%m-%d-%Y}")]
    order = [_element(tag, text) for tag, text in orders]
    median = np.full((len(leads), N_MEDIAN), 77, "<i2")
    document = f"""<?xml version="1.0" encoding="{encoding}"?>
<!DOCTYPE RestingECG SYSTEM "restecg.dtd">
<RestingECG>
   <MuseInfo><MuseVersion>9.0.10</MuseVersion></MuseInfo>
   <PatientDemographics>{"".join(rows)}</PatientDemographics>
   <TestDemographics>{"".join(test)}</TestDemographics>
   <Order>{"".join(order)}</Order>
   <RestingECGMeasurements><ECGSampleBase>0</ECGSampleBase></RestingECGMeasurements>
   <Diagnosis><DiagnosisStatement><StmtText>Normal sinus rhythm</StmtText></DiagnosisStatement></Diagnosis>
{waveform("Median", median, leads, 1000, 0, microvolt, unit, checksums)}
{waveform("Rhythm", counts, leads, fs, exponent, microvolt, unit, checksums)}
</RestingECG>
"""
    return document.encode(encoding)


def waveform(kind: str, counts, leads, fs: float, exponent: int, microvolt: float, unit: str, checksums: bool) -> str:
    """Return a waveform of int16 (leads, samples)."""
    rows = []
    for lead, samples in zip(leads, counts, strict=True):
        content = samples.tobytes()
        checksum = f"<LeadDataCRC32>{zlib.crc32(content)}</LeadDataCRC32>" if checksums else ""
        rows.append(f"""   <LeadData>
    <LeadByteCountTotal>{len(content)}</LeadByteCountTotal>
    <LeadTimeOffset>0</LeadTimeOffset>
    <LeadSampleCountTotal>{len(samples)}</LeadSampleCountTotal>
    <LeadAmplitudeUnitsPerBit>{microvolt}</LeadAmplitudeUnitsPerBit>
    <LeadAmplitudeUnits>{unit}</LeadAmplitudeUnits>
    <LeadHighLimit>32767</LeadHighLimit>
    <LeadLowLimit>32768</LeadLowLimit>
    <LeadID>{escape(lead)}</LeadID>
    <LeadOffsetFirstSample>0</LeadOffsetFirstSample>
    <FirstSampleBaseline>0</FirstSampleBaseline>
    <LeadSampleSize>2</LeadSampleSize>
    <LeadOff>FALSE</LeadOff>
    <BaselineSway>FALSE</BaselineSway>
    {checksum}
    <WaveFormData>
{encodebytes(content).decode()}
    </WaveFormData>
   </LeadData>""")
    return f"""  <Waveform>
   <WaveformType>{kind}</WaveformType>
   <WaveformStartTime>0</WaveformStartTime>
   <NumberofLeads>{len(leads)}</NumberofLeads>
   <SampleType>CONTINUOUS_SAMPLES</SampleType>
   <SampleBase>{fs:.10g}</SampleBase>
   <SampleExponent>{exponent}</SampleExponent>
{chr(10).join(rows)}
  </Waveform>"""


def _element(tag: str, text: str) -> str:
    return f"<{tag}>{escape(text)}</{tag}>"
