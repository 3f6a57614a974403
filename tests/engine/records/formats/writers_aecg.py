"""An annotated ECG of HL7, written by the HL7 aECG Implementation Guide of 2005."""

from collections.abc import Sequence
from datetime import date, datetime
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from engine.records.record import LEADS

MDC = 'codeSystem="2.16.840.1.113883.6.24" codeSystemName="MDC"'
ACT = 'codeSystem="2.16.840.1.113883.5.4" codeSystemName="ActCode"'


def aecg_bytes(
    signals_uv,
    leads: Sequence[str] = LEADS,
    fs: float = 500,
    *,
    patient: str = "4711",
    name: str = "Doe",
    first_name: str = "Jane",
    birth: date | None = date(1951, 4, 13),
    recorded: datetime | None = datetime(2020, 5, 18, 15, 48, 11),
    age: tuple[float, str] | None = None,
    sex: str = "F",
    microvolt: float = 1.0,
    origin: float = 0,
    unit: str = "uV",
    increment: tuple[str, str] | None = None,
    relative: bool = False,
    manufacturer: str = "Electrocardiographs, Inc.",
) -> bytes:
    """Return a document of digits of ``microvolt`` (leads, samples), with beats derived from it.

    ``leads`` are names or whole codes. ``origin`` is what a digit of 0 stands for, both in ``unit`` in the document;
    ``increment`` the time between samples, 1 / fs in seconds where that is not given.
    """
    digits = np.round((np.asarray(signals_uv) - origin) / microvolt).astype(int)
    time = _time(f"{recorded or datetime(2020, 1, 1):%Y%m%d%H%M%S}.000", increment or (f"{1 / fs:.12g}", "s"), relative)
    beats = _time("0", ("2", "ms"), True) + "".join(_lead(lead, np.full(60, 9), 0, 1, "uV") for lead in leads)
    rhythm = time + "".join(_lead(lead, row, origin, microvolt, unit) for lead, row in zip(leads, digits, strict=True))
    when = (
        f'<effectiveTime><low value="{recorded:%Y%m%d%H%M%S}.000" inclusive="true"/></effectiveTime>'
        if recorded
        else ""
    )
    born = f'<birthTime value="{birth:%Y%m%d}"/>' if birth else ""
    reported = ""
    if age:
        reported = f"""<controlVariable><relatedObservation><code code="21612-7" codeSystem="2.16.840.1.113883.6.1"/>
   <value xsi:type="PQ" value="{age[0]}" unit="{age[1]}"/></relatedObservation></controlVariable>"""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- written for a test -->
<AnnotatedECG xmlns="urn:hl7-org:v3" xmlns:voc="urn:hl7-org:v3/voc" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="urn:hl7-org:v3 ../schema/PORT_MT020001.xsd" type="Observation">
 <id root="61d1a24f-b47e-41aa-ae95-f8ac302f4eeb"/>
 <code code="93000" codeSystem="2.16.840.1.113883.6.12" codeSystemName="CPT-4"/>
 {when}
 <componentOf><timepointEvent><code code="VISIT_3"/>
  <performer><studyEventPerformer><id extension="SC-342"/><assignedPerson><name>Nurse</name></assignedPerson>
   </studyEventPerformer></performer>
  <componentOf><subjectAssignment><subject><trialSubject>
   <id root="2.16.840.1.113883.3.400" extension={quoteattr(patient)}/>
   <subjectDemographicPerson>
    <name><given>{escape(first_name)}</given><family>{escape(name)}</family></name>
    <administrativeGenderCode code="{sex}" codeSystem="2.16.840.1.113883.5.1"/>
    {born}
   </subjectDemographicPerson>
  </trialSubject></subject></subjectAssignment></componentOf>
 </timepointEvent></componentOf>
 {reported}
 <component><series>
  <code code="RHYTHM" {ACT}/>
  {when}
  <author><seriesAuthor><manufacturerOrganization><name>{escape(manufacturer)}</name></manufacturerOrganization>
  </seriesAuthor></author>
  <component><sequenceSet>{rhythm}</sequenceSet></component>
  <derivation><derivedSeries>
   <code code="REPRESENTATIVE_BEAT" {ACT}/>
   <component><sequenceSet>{beats}</sequenceSet></component>
  </derivedSeries></derivation>
 </series></component>
</AnnotatedECG>
""".encode()


def _time(head: str, increment: tuple[str, str], relative: bool) -> str:
    value, unit = increment
    kind, of = ("TIME_RELATIVE", "GLIST_PQ") if relative else ("TIME_ABSOLUTE", "GLIST_TS")
    start = '<head value="0" unit="s"/>' if relative else f'<head value="{head}"/>'
    return f"""
   <component><sequence><code code="{kind}" {ACT}/>
    <value xsi:type="{of}">{start}<increment value="{value}" unit="{unit}"/></value></sequence></component>"""


def _lead(lead: str, digits, origin: float, microvolt: float, unit: str) -> str:
    code = f"MDC_ECG_LEAD_{lead.upper() if lead in LEADS else lead}" if "_" not in lead else lead
    return f"""
   <component><sequence><code code="{escape(code)}" {MDC}/>
    <value xsi:type="SLIST_PQ"><origin value="{origin}" unit="{unit}"/><scale value="{microvolt}" unit="{unit}"/>
    <digits>{" ".join(map(str, digits))}</digits></value></sequence></component>"""
