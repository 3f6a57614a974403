"""A FHIR Observation with SampledData, in JSON or XML, alone or in a Bundle with its Patient."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from xml.sax.saxutils import quoteattr

import numpy as np

MDC = "urn:oid:2.16.840.1.113883.6.24"
NUMBERS = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {f"V{k}": k + 2 for k in range(1, 7)}
RECORDED = datetime(2015, 2, 19, 9, 30, 35, tzinfo=timezone(timedelta(hours=1)))


def fhir_bytes(
    signals_uv,
    leads: Sequence[str] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"),
    fs: float = 500,
    *,
    patient: str = "f001",
    name: str = "Jane Doe",
    birth: str = "1951-04-13",
    recorded: datetime | None = RECORDED,
    form: str = "json",
    bundle: bool = True,
) -> bytes:
    """Return a document of microvolts (leads, samples), written to a tenth; a NaN is written as E.

    Without a Bundle the file has no birth date.
    """
    document = observation(signals_uv, leads, fs, patient, name, recorded)
    if bundle:
        given, family = name.split(" ", 1)
        person = {
            "resourceType": "Patient",
            "id": patient,
            "name": [{"family": family, "given": [given]}],
            "gender": "female",
            "birthDate": birth,
        }
        entries = [{"fullUrl": f"urn:uuid:{k}", "resource": node} for k, node in enumerate((person, document))]
        document = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    return in_form(document, form)


def observation(signals_uv, leads, fs=500, patient="f001", name="Jane Doe", recorded=RECORDED) -> dict:
    node = {
        "resourceType": "Observation",
        "id": "ekg",
        "status": "final",
        "identifier": [{"value": "ACC-9"}],
        "code": {"coding": [{"system": MDC, "code": "131328", "display": "MDC_ECG_ELEC_POTL"}]},
        "subject": {"reference": f"Patient/{patient}", "display": name},
        "encounter": {"reference": "Encounter/visit-3"},
        "component": [
            {"code": code(lead), "valueSampledData": sampled(row, fs)}
            for lead, row in zip(leads, np.asarray(signals_uv), strict=True)
        ],
    }
    return node | ({"effectiveDateTime": recorded.isoformat()} if recorded else {})


def code(lead: str) -> dict:
    if lead not in NUMBERS:
        return {"text": lead}
    display = f"MDC_ECG_ELEC_POTL_{lead.upper()}"
    return {"coding": [{"system": MDC, "code": str(131328 + NUMBERS[lead]), "display": display}]}


def sampled(row_uv, fs: float = 500) -> dict:
    data = " ".join("E" if np.isnan(value) else str(value) for value in np.round(10 * row_uv).tolist()).replace(
        ".0", ""
    )
    origin = {"value": 0, "unit": "microvolt", "system": "http://unitsofmeasure.org", "code": "uV"}
    return {"origin": origin, "period": 1000 / fs, "factor": 0.1, "dimensions": 1, "data": data}


def in_form(document: dict, form: str) -> bytes:
    """Return a resource as JSON, or as the XML that the standard makes of the same elements."""
    if form == "json":
        return json.dumps(document, indent=1).encode()
    body = resource(document).replace(">", ' xmlns="http://hl7.org/fhir">', 1)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- an ECG -->\n{body}\n'.encode()


def resource(node: dict) -> str:
    children = (element(name, value) for name, value in node.items() if name != "resourceType")
    return f"<{node['resourceType']}>{''.join(children)}</{node['resourceType']}>"


def element(name: str, value) -> str:
    if isinstance(value, list):
        return "".join(element(name, each) for each in value)
    if not isinstance(value, dict):
        return f"<{name} value={quoteattr(str(value))}/>"
    inner = resource(value) if "resourceType" in value else "".join(element(*pair) for pair in value.items())
    return f"<{name}>{inner}</{name}>"
