"""FHIR Observations give the samples that were written, by the standard, and nothing is guessed."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from engine.records.formats.xml_documents.fhir import BUNDLE, ROOT, open_fhir
from engine.records.formats.xml_documents.tree import root_name
from engine.records.record import LEADS, RecordError
from tests.engine.records.formats.writers_fhir import code, fhir_bytes, in_form, observation, sampled

FORMS = ("json", "xml")


def signals(n_leads=12, n_samples=1000):
    """(leads, samples) in microvolt, of whole tenths."""
    t = np.arange(n_samples) / 500
    return np.round([8000 * np.sin(2 * np.pi * (1 + 0.1 * k) * t + k) for k in range(n_leads)]) / 10


def opened(content: bytes, tmp_path: Path, **told):
    path = tmp_path / "ecg"
    path.write_bytes(content)
    return open_fhir(path, **told)


def one_lead(tmp_path, form="json", told=None, changes=None, **sampled_data):
    """Open an Observation of one lead, with what is given changed in its sampled data; None leaves an element out."""
    node = observation(signals(1), ["II"])
    data = node["component"][0]["valueSampledData"] | sampled_data
    node["component"][0]["valueSampledData"] = {name: value for name, value in data.items() if value is not None}
    return opened(in_form(node | (changes or {}), form), tmp_path, **(told or {}))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bundle", [False, True])
def test_the_samples_leads_and_rate_are_those_that_were_written(form, bundle, tmp_path):
    contents = opened(fhir_bytes(signals(), form=form, bundle=bundle), tmp_path)
    assert contents.leads == LEADS
    assert (contents.fs, contents.n_samples, contents.unit, contents.notes) == (500.0, 1000, "uV", ())
    assert np.allclose(contents.decode(), signals() / 1000, rtol=0, atol=1e-12)
    assert contents.record().signals.shape == (12, 1000)


@pytest.mark.parametrize(("bundle", "root"), [(False, ROOT), (True, BUNDLE)])
def test_the_roots_tell_the_format(bundle, root):
    assert root_name(fhir_bytes(signals(1), ["I"], form="xml", bundle=bundle)) == root


@pytest.mark.parametrize("form", FORMS)
def test_a_sample_is_origin_plus_factor_times_data_in_the_unit_of_the_origin(form, tmp_path):
    for unit, millivolt in (("mV", 1), ("uV", 1e-3), ("V", 1e3)):
        contents = one_lead(
            tmp_path, form, origin={"value": -2, "code": unit}, factor=0.5, period=4, data=" 1 -2.5  E 1e1 L\t0 U "
        )
        expected = millivolt * np.array([[-1.5, -3.25, np.nan, 3, np.nan, -2, np.nan]])
        assert np.allclose(contents.decode(), expected, rtol=1e-12, atol=0, equal_nan=True)
        assert (contents.fs, contents.n_samples, contents.unit) == (250.0, 7, unit)
        assert contents.notes == (f"every sample is moved by -2 {unit}, which is the origin",)


@pytest.mark.parametrize("form", FORMS)
def test_without_a_unit_nothing_is_read_unless_the_caller_tells_it(form, tmp_path):
    given = {"origin": {"value": 2048}, "factor": 1.612, "period": 10, "dimensions": "", "data": "2041 2048 2060"}
    with pytest.raises(RecordError, match="no unit, which cannot be guessed"):
        one_lead(tmp_path, form, **given)
    with pytest.raises(RecordError, match="no unit"):
        one_lead(tmp_path, form, told={"zero": 2048}, **given)
    contents = one_lead(tmp_path, form, told={"unit": "uV", "zero": 2048}, **given)
    assert np.allclose(contents.decode(), [[-7 * 1.612e-3, 0, 12 * 1.612e-3]], rtol=1e-12, atol=1e-15)
    assert (contents.fs, contents.notes) == (100.0, ())
    by_the_standard = one_lead(tmp_path, form, told={"unit": "uV"}, **given)
    assert np.allclose(by_the_standard.decode(), [[5.338092, 5.349376, 5.36872]], rtol=1e-12, atol=0)


def test_a_unit_that_contradicts_the_files_is_refused(tmp_path):
    assert one_lead(tmp_path, told={"unit": "microvolt"}).unit == "uV"
    with pytest.raises(RecordError, match="its unit is uV, not mV"):
        one_lead(tmp_path, told={"unit": "mV"})
    with pytest.raises(RecordError, match="mmHg is not a unit of voltage"):
        one_lead(tmp_path, told={"unit": "mmHg"}, origin={"value": 0})
    with pytest.raises(RecordError, match="two units"):
        one_lead(tmp_path, origin={"value": 0, "unit": "mV", "code": "uV"})


@pytest.mark.parametrize(
    ("coding", "lead"),
    [
        ({"system": "urn:iso:std:iso:11073:10101", "code": "131134"}, "aVR"),
        ({"system": "urn:iso:std:iso:11073:10101", "code": "2:64"}, "aVF"),
        ({"system": "urn:oid:2.16.840.1.113883.6.24", "code": "131336"}, "V6"),
        ({"system": "urn:oid:2.16.840.1.113883.6.24", "code": "MDC_ECG_LEAD_AVL"}, "aVL"),
        ({"system": "http://loinc.org", "code": "LP7388-4", "display": "Lead III"}, "III"),
        ({"system": "http://snomed.info/sct", "code": "257478009", "display": "Lead site V4"}, "V4"),
        ({"display": "Lead II"}, "II"),
        ({"system": "http://other.org", "code": "131134", "display": "Lead"}, "Lead"),
        ({"system": "urn:iso:std:iso:11073:10101", "code": "131137", "display": "-aVR"}, "-aVR"),
        (
            {"system": "urn:iso:std:iso:11073:10101", "code": "131328", "display": "MDC_ECG_ELEC_POTL"},
            "MDC_ECG_ELEC_POTL",
        ),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_lead_is_told_by_its_code_or_its_name(coding, lead, form, tmp_path):
    node = observation(signals(1), ["I"])
    node["component"][0]["code"] = {"coding": [coding]}
    assert opened(in_form(node, form), tmp_path).leads == (lead,)


def test_a_code_and_a_name_of_different_leads_are_refused(tmp_path):
    node = observation(signals(1), ["III"])
    node["component"][0]["code"]["coding"][0]["display"] = "MDC_ECG_ELEC_POTL_AVR"  # an error that was seen
    with pytest.raises(RecordError, match="coded as III and as aVR"):
        opened(in_form(node, "json"), tmp_path)
    node["component"][0]["code"] = {}
    with pytest.raises(RecordError, match="no name"):
        opened(in_form(node, "json"), tmp_path)


def test_chest_leads_by_the_names_of_the_iec_are_read_in_company(tmp_path):
    leads = ("I", "II", *(f"C{k}" for k in range(1, 7)))
    contents = opened(fhir_bytes(signals(8), leads), tmp_path)
    assert contents.leads == ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.mark.parametrize("form", FORMS)
def test_leads_with_the_same_samples_are_noted(form, tmp_path):
    same = signals(4)
    same[2] = same[0]
    contents = opened(fhir_bytes(same, LEADS[:4], form=form), tmp_path)
    assert contents.notes == ("I, III have the same samples",)


@pytest.mark.parametrize("form", FORMS)
def test_parts_of_a_lead_that_follow_each_other_are_joined_and_noted(form, tmp_path):
    node = observation(np.zeros((0, 0)), [])
    for start, stop in ((0, 400), (400, 800), (800, 1000)):
        node["component"] += [
            {"code": code(lead), "valueSampledData": sampled(row[start:stop])}
            for lead, row in zip(("I", "II"), signals(2), strict=True)
        ]
    contents = opened(in_form(node, form), tmp_path)
    assert (contents.leads, contents.n_samples) == (("I", "II"), 1000)
    assert np.allclose(contents.decode(), signals(2) / 1000, rtol=0, atol=1e-12)
    assert contents.notes == ("each lead is in 3 parts, which are joined in their order",)


def test_a_lead_that_is_there_twice_and_is_no_series_of_parts_is_refused(tmp_path):
    node = observation(signals(1, 100), ["I"])
    node["component"] += observation(signals(1, 1000), ["I"])["component"]  # a beat, and then the rhythm
    with pytest.raises(RecordError, match="more than once"):
        opened(in_form(node, "json"), tmp_path)


def bundle_of(*resources) -> dict:
    return {"resourceType": "Bundle", "entry": [{"resource": resource} for resource in resources]}


def single(row, lead, **changes) -> dict:
    """Return an Observation that is one lead itself, without components."""
    node = observation(np.zeros((0, 0)), []) | {"code": code(lead), "valueSampledData": sampled(row)}
    del node["component"]
    return node | changes


@pytest.mark.parametrize("form", FORMS)
def test_observations_of_one_lead_each_are_one_recording_when_subject_and_time_agree(form, tmp_path):
    nodes = [single(row, lead) for row, lead in zip(signals(3), ("II", "V1", "V2"), strict=True)]
    contents = opened(in_form(bundle_of(*nodes), form), tmp_path)
    assert contents.leads == ("II", "V1", "V2")
    assert np.allclose(contents.decode(), signals(3) / 1000, rtol=0, atol=1e-12)
    assert opened(in_form(nodes[0], form), tmp_path).leads == ("II",)


@pytest.mark.parametrize(
    "other",
    [
        {"effectiveDateTime": "2015-02-19T09:31:35+01:00"},
        {"subject": {"reference": "Patient/f002"}},
        {"effectiveDateTime": ""},
    ],
)
def test_two_recordings_in_one_file_are_refused(other, tmp_path):
    nodes = bundle_of(single(signals(1)[0], "I"), single(signals(1)[0], "II", **other))
    with pytest.raises(RecordError, match="holds 2 recordings"):
        opened(in_form(nodes, "json"), tmp_path)


def test_what_is_not_a_voltage_is_left_out_and_noted(tmp_path):
    node = observation(signals(2), ("I", "SpO2"))
    node["component"][1]["valueSampledData"]["origin"] = {"value": 0, "code": "%"}
    node["component"].append({"code": {"text": "heart rate"}, "valueQuantity": {"value": 71}})
    contents = opened(in_form(node, "json"), tmp_path)
    assert (contents.leads, contents.notes) == (("I",), ("what is not a voltage is left out",))
    del node["component"][0]
    with pytest.raises(RecordError, match="no unit of voltage"):
        opened(in_form(node, "json"), tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_person_and_time_are_those_of_the_patient_in_the_bundle(form, tmp_path):
    contents = opened(fhir_bytes(signals(1), ["I"], patient="mrn-5", name="Jane Mary Doe", form=form), tmp_path)
    person = contents.person
    assert (person.number, person.age, person.sex) == ("mrn-5", 63.0, "female")
    assert set(person.identity) == {"mrn-5", "Jane", "Mary Doe", "Jane Mary Doe", "1951-04-13", "ACC-9", "visit-3"}
    assert contents.recorded == datetime(2015, 2, 19, 9, 30, 35)


@pytest.mark.parametrize("form", FORMS)
def test_a_contained_patient_is_known_by_its_identifier_not_by_its_place_in_the_file(form, tmp_path):
    inside = {"resourceType": "Patient", "id": "p1", "identifier": [{"value": "4711"}], "gender": "male"}
    contents = one_lead(tmp_path, form, changes={"contained": [inside], "subject": {"reference": "#p1"}})
    assert (contents.person.number, contents.person.sex) == ("4711", "male")
    del inside["identifier"]
    contents = one_lead(tmp_path, form, changes={"contained": [inside], "subject": {"reference": "#p1"}})
    assert contents.person.number is None


def test_of_several_patients_the_one_that_is_meant_is_taken(tmp_path):
    patients = [{"resourceType": "Patient", "id": k, "gender": sex} for k, sex in (("f0", "male"), ("f001", "female"))]
    contents = opened(in_form(bundle_of(*patients, observation(signals(1), ["I"])), "json"), tmp_path)
    assert (contents.person.number, contents.person.sex) == ("f001", "female")
    versioned = observation(signals(1), ["I"]) | {"subject": {"reference": "http://a.org/fhir/Patient/f0/_history/2"}}
    contents = opened(in_form(bundle_of(*patients, versioned), "json"), tmp_path)
    assert (contents.person.number, contents.person.sex) == ("f0", "male")


def test_a_time_without_a_day_and_a_subject_without_a_number_are_not_made_up(tmp_path):
    contents = one_lead(tmp_path, changes={"effectiveDateTime": "2015-02", "subject": {"display": "Jane Doe"}})
    assert (contents.recorded, contents.person.number) == (None, None)
    assert "Jane Doe" in contents.person.identity
    start = {"effectiveDateTime": "", "effectivePeriod": {"start": "2015-02-19T08:30:35Z"}}
    assert one_lead(tmp_path, changes=start).recorded == datetime(2015, 2, 19, 8, 30, 35)


@pytest.mark.parametrize("form", FORMS)
def test_the_fifth_release_gives_an_interval_and_its_unit(form, tmp_path):
    for interval, unit, fs in ((4, "ms", 250.0), (0.002, "s", 500.0), (1250, "us", 800.0)):
        contents = one_lead(tmp_path, form, period=None, interval=interval, intervalUnit=unit)
        assert contents.fs == pytest.approx(fs, rel=1e-12)
    with pytest.raises(RecordError, match="sampling period"):
        one_lead(tmp_path, form, period=None, interval=4, intervalUnit="a")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"period": None}, "does not say its sampling period"),
        ({"period": 0}, "period is not above zero"),
        ({"period": "x"}, "sampling period is not a number"),
        ({"period": 0.002}, "sampling frequency of 500000 Hz"),  # in seconds: an error that was seen
        ({"dimensions": 2}, "more than one dimension"),
        ({"factor": "nan"}, "factor is not a number"),
        ({"factor": float("nan")}, "factor is not a number"),
        ({"origin": {"value": "one", "code": "uV"}}, "origin is not a number"),
        ({"data": None}, "a lead has no samples"),
        ({"data": " "}, "no samples"),
        ({"data": "1 2 x"}, "a sample is not a number"),
        ({"data": "1 nan"}, "a sample is not a number"),
        ({"data": "1 1_0"}, "a sample is not a number"),
        ({"data": "1 EE"}, "a sample is not a number"),
        ({"data": "1 2,5"}, "a sample is not a number"),
        ({"data": "1 1e999"}, "larger than any voltage"),
        ({"data": "1 1e45"}, "larger than any voltage"),
        ({"data": "0 1", "factor": 1e308, "origin": {"value": 1e308, "code": "V"}}, "larger than any voltage"),
        ({"data": "1 \u0661"}, "a sample is not a number"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_sampled_data_that_are_not_by_the_standard_are_refused(given, reason, form, tmp_path):
    with pytest.raises(RecordError, match=reason):
        one_lead(tmp_path, form, **given).record()


def test_leads_of_different_lengths_or_periods_are_refused(tmp_path):
    node = observation(signals(2), ("I", "II"))
    node["component"][1]["valueSampledData"] |= {"data": "1 2 3"}
    with pytest.raises(RecordError, match="different numbers of samples"):
        opened(in_form(node, "json"), tmp_path)
    node["component"][1] = {"code": code("II"), "valueSampledData": sampled(signals(2)[1], 250)}
    with pytest.raises(RecordError, match="different sampling periods"):
        opened(in_form(node, "json"), tmp_path)


def test_more_samples_than_any_recording_are_not_taken_apart(tmp_path):
    with pytest.raises(RecordError, match="10,000,001 samples, more than any"):
        one_lead(tmp_path, data="1 " * 10_000_001)


def test_what_was_entered_in_error_is_not_used(tmp_path):
    with pytest.raises(RecordError, match="entered in error"):
        one_lead(tmp_path, changes={"status": "entered-in-error"})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "XML is damaged"),
        (b"{", "JSON is damaged in line 1"),
        (b'{"resourceType": "Observation"', "JSON is damaged"),
        (b'{"resourceType": "\xff"}', "JSON is damaged"),
        (b'{"a": 1, "a": 2}', "says something twice"),
        (b'{"a": ' * 100_000, "nested deeper"),
        (b'{"a": [' + b"1," * 2_000_000 + b"1]}", "more elements"),
        (b'{"resourceType": "Observation"}', "holds no sampled data"),
        (b'{"resourceType": "Observation", "component": 3}', "holds no sampled data"),
        (b'{"resourceType": "Observation", "component": [{"valueSampledData": null}]}', "damaged"),
        (b'{"resourceType": "Observation", "valueSampledData": [{}, {}]}', "damaged"),
        (b'{"resourceType": "Patient"}', "not a FHIR Observation"),
        (b'{"resourceType": ["Bundle"], "entry": [null, {"resource": 1}]}', "holds no sampled data"),
        (b"<Patient/>", "not a FHIR Observation"),
        (b"<Bundle><entry><resource/></entry></Bundle>", "holds no sampled data"),
    ],
)
def test_what_is_not_an_observation_is_refused(content, reason, tmp_path):
    with pytest.raises(RecordError, match=reason):
        opened(content, tmp_path)
