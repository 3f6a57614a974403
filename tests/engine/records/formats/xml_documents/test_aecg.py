"""Annotated ECGs of HL7 give the samples that were written, and what contradicts itself is refused."""

from datetime import datetime

import numpy as np
import pytest

from engine.records.formats.xml_documents.aecg import ROOT, open_aecg
from engine.records.formats.xml_documents.tree import root_name
from engine.records.record import LEADS, RecordError
from engine.records.signal import conform
from tests.engine.records.formats.writers_aecg import aecg_bytes

SIGNALS = np.random.default_rng(0).integers(-2000, 2000, (12, 5000))
DOCUMENT = aecg_bytes(SIGNALS)
OTHER_ORDER = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF")


def opened(tmp_path, document):
    (tmp_path / "ecg.xml").write_bytes(document)
    return open_aecg(tmp_path / "ecg.xml")


def changed(old, new):
    assert old in DOCUMENT
    return DOCUMENT.replace(old, new, 1)


@pytest.mark.parametrize("leads", [LEADS, OTHER_ORDER])
def test_the_rhythm_is_read_and_not_the_beat_derived_from_it(tmp_path, leads):
    contents = opened(tmp_path, aecg_bytes(SIGNALS, leads))
    assert (contents.leads, contents.fs, contents.n_samples, contents.unit) == (leads, 500.0, 5000, "uV")
    np.testing.assert_allclose(contents.decode(), SIGNALS / 1000, rtol=1e-15)
    assert (contents.notes, contents.n_used) == ((), None)
    assert conform(contents.record()).leads == LEADS


def test_a_value_is_the_origin_and_the_scaled_digit(tmp_path):
    contents = opened(tmp_path, aecg_bytes(2.5 * SIGNALS + 40, microvolt=2.5, origin=40))
    np.testing.assert_allclose(contents.decode(), 0.0025 * SIGNALS + 0.04, rtol=1e-13)
    document = aecg_bytes(SIGNALS, origin=1, unit="mV").replace(
        b'<origin value="1" unit="mV"', b'<origin value="1" unit="V"'
    )
    np.testing.assert_allclose(opened(tmp_path, document).decode(), SIGNALS - 1 + 1000, rtol=1e-15)
    without = aecg_bytes(SIGNALS).replace(b'<origin value="0" unit="uV"/>', b"")
    np.testing.assert_allclose(opened(tmp_path, without).decode(), SIGNALS / 1000, rtol=1e-15)


@pytest.mark.parametrize(
    ("increment", "fs"),
    [(("0.002", "s"), 500.0), (("2", "ms"), 500.0), (("1000", "us"), 1000.0), (("1667", "us"), 1e6 / 1667)],
)
def test_the_rate_is_the_inverse_of_the_increment(tmp_path, increment, fs):
    for relative in (False, True):
        assert opened(tmp_path, aecg_bytes(SIGNALS, increment=increment, relative=relative)).fs == fs


def test_leads_outside_the_twelve_keep_their_name_and_are_never_taken_for_one_of_them(tmp_path):
    leads = ("I", "II", "V3R", "dI", "dV1", "AVRneg", "C1", "MCL1", "D", "VR", "V7", "MDC_ECG_LEAD_aVF")
    contents = opened(tmp_path, aecg_bytes(SIGNALS, leads))
    assert contents.leads == (*leads[:-1], "aVF")
    assert contents.derived == ("III", "aVR", "aVL")


def test_codes_without_the_prefix_are_read_by_their_meaning(tmp_path):
    document = aecg_bytes(SIGNALS[:2], ("I", "II")).replace(b'"MDC_ECG_LEAD_I"', b'"Lead I"')
    assert opened(tmp_path, document.replace(b'"MDC_ECG_LEAD_II"', b'"II"')).leads == ("I", "II")


def test_sequences_that_are_no_leads_are_left_out_with_a_note(tmp_path):
    contents = opened(tmp_path, DOCUMENT.replace(b'"MDC_ECG_LEAD_V6"', b'"MDC_PULS_OXIM_PLETH"'))
    assert contents.leads == LEADS[:-1]
    assert contents.notes == ("1 sequence that is not a lead is left out",)


def test_the_person_and_the_time_are_read(tmp_path):
    contents = opened(tmp_path, DOCUMENT)
    assert contents.recorded == datetime(2020, 5, 18, 15, 48, 11)
    person = contents.person
    assert (person.number, person.age, person.sex) == ("4711", 69.0, "female")
    assert set(person.identity) == {"4711", "Doe", "Jane", "19510413"}  # and no one who worked on it
    nobody = opened(tmp_path, aecg_bytes(SIGNALS, patient="", name="---", first_name="", birth=None, sex="UN"))
    assert (nobody.person.number, nobody.person.identity) == (None, ())
    assert (nobody.person.age, nobody.person.sex) == (None, None)


@pytest.mark.parametrize(
    ("identifier", "number"),
    [
        (b'<id root="1.2.3"/><id root="1.2.4" extension="77"/>', "77"),
        (b'<id root="1.2.3"/>', None),  # of an organisation
        (b'<id root="61D1A24F-b47e-41aa-ae95-f8ac302f4eeb"/>', "61D1A24F-b47e-41aa-ae95-f8ac302f4eeb"),
    ],
)
def test_a_subject_is_told_by_what_tells_subjects_apart(tmp_path, identifier, number):
    document = changed(b'<id root="2.16.840.1.113883.3.400" extension="4711"/>', identifier)
    assert opened(tmp_path, document).person.number == number


@pytest.mark.parametrize(
    ("age", "years"), [((46, "a"), 46.0), ((18, "mo"), 1.5), ((46, "bar"), None), ((-1, "a"), None)]
)
def test_a_reported_age_is_used_where_no_birth_is(tmp_path, age, years):
    assert opened(tmp_path, aecg_bytes(SIGNALS, birth=None, age=age)).person.age == years


@pytest.mark.parametrize(
    ("stamp", "recorded"),
    [
        (b"20200518154811.250+0200", datetime(2020, 5, 18, 15, 48, 11)),
        (b"202005181548", datetime(2020, 5, 18, 15, 48)),
        (b"20200518", datetime(2020, 5, 18)),
        (b"2020", None),
        (b"20209999", None),
    ],
)
def test_a_time_is_as_exact_as_it_is_written(tmp_path, stamp, recorded):
    assert opened(tmp_path, DOCUMENT.replace(b"20200518154811.000", stamp)).recorded == recorded


def test_a_time_is_that_of_the_first_sample_where_none_else_is_given(tmp_path):
    document = aecg_bytes(SIGNALS, recorded=None)
    assert opened(tmp_path, document).recorded == datetime(2020, 1, 1)
    assert opened(tmp_path, aecg_bytes(SIGNALS, recorded=None, relative=True)).recorded is None


def test_what_philips_appends_to_ten_seconds_is_left_out(tmp_path):
    signals = np.tile(SIGNALS, 2)[:, :5500]
    contents = opened(tmp_path, aecg_bytes(signals, manufacturer="Philips Medical Systems"))
    assert (contents.n_samples, contents.n_used) == (5500, 5000)
    assert contents.decode().shape == (12, 5500)
    assert contents.record().signals.shape == (12, 5000)
    assert opened(tmp_path, aecg_bytes(signals)).n_used is None
    assert opened(tmp_path, aecg_bytes(SIGNALS, manufacturer="Philips Medical Systems")).n_used is None


SET, SERIES = b"<component><sequenceSet>", b"<component><series>"
LIMB, CHEST = (aecg_bytes(SIGNALS[half], LEADS[half]) for half in (slice(6), slice(6, 12)))
NOT_READ = "1 more group of leads in its file: not read"


def set_of(document):
    return document[document.index(SET) : document.index(b"<derivation>")]


def series_of(document):
    return document[document.index(SERIES) : document.index(b"</AnnotatedECG>")]


def with_more(document, before, more):
    at = document.index(before)
    return document[:at] + more + document[at:]


@pytest.mark.parametrize("relative", [False, True])
def test_sets_and_series_of_other_leads_of_one_time_are_one_recording(tmp_path, relative):
    limb, chest = (aecg_bytes(SIGNALS[half], LEADS[half], relative=relative) for half in (slice(6), slice(6, 12)))
    for document in (
        with_more(chest, SET, set_of(limb)),
        with_more(chest, SERIES, series_of(limb)),
    ):
        contents = opened(tmp_path, document)
        assert (contents.leads, contents.fs, contents.n_samples, contents.notes) == (LEADS, 500.0, 5000, ())
        np.testing.assert_allclose(contents.decode(), SIGNALS / 1000, rtol=1e-15)


def test_sets_of_most_leads_come_first_whatever_their_place(tmp_path):
    limb, chest = aecg_bytes(SIGNALS[:2], LEADS[:2]), aecg_bytes(SIGNALS[2:], LEADS[2:])
    contents = opened(tmp_path, with_more(chest, SERIES, series_of(limb)))
    assert contents.leads == (*LEADS[2:], "I", "II")
    np.testing.assert_allclose(contents.decode(), np.roll(SIGNALS, -2, 0) / 1000, rtol=1e-15)


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        (b'value="0.002" unit="s"', b'value="0.001" unit="s"', " (V1, V2, V3, V4, V5, V6)"),
        (b'<head value="20200518154811.000"', b'<head value="20200518154813.500"', " (V1, V2, V3, V4, V5, V6)"),
        (b"TIME_ABSOLUTE", b"TIME_RELATIVE", " (V1, V2, V3, V4, V5, V6)"),
        (b"MDC_ECG_LEAD_V1", b"MDC_ECG_LEAD_II", " (V2, V3, V4, V5, V6)"),
        (b'<scale value="1.0" unit="uV"/>', b"", " (V1, V2, V3, V4, V5, V6)"),
        (b'code="RHYTHM"', b'code="OTHER"', None),
    ],
)
def test_sets_that_are_not_of_one_time_or_have_the_same_leads_are_noted_with_what_is_lost(tmp_path, old, new, lost):
    assert old in series_of(CHEST)
    end = LIMB.index(b"</AnnotatedECG>")
    contents = opened(tmp_path, LIMB[:end] + series_of(CHEST).replace(old, new, 1) + LIMB[end:])
    assert contents.leads == LEADS[:6]
    assert contents.notes == ((f"{NOT_READ}{lost}",) if lost else ())


def test_relative_times_of_series_at_different_times_are_not_joined(tmp_path):
    limb, chest = (
        aecg_bytes(SIGNALS[half], LEADS[half], relative=True, recorded=datetime(2020, 5, 18, hour))
        for half, hour in ((slice(6), 8), (slice(6, 12), 9))
    )
    contents = opened(tmp_path, with_more(limb, SERIES, series_of(chest)))
    assert contents.notes == (f"{NOT_READ} (I, II, III, aVR, aVL, aVF)",)


def test_of_two_rhythms_that_of_most_leads_then_the_longest_then_the_first_is_read(tmp_path):
    for other, fs in ((aecg_bytes(SIGNALS[:, :100], fs=250), 500), (aecg_bytes(SIGNALS[:11], LEADS[:11], fs=250), 500),
                      (aecg_bytes(SIGNALS, fs=250), 250)):  # fmt: skip
        contents = opened(tmp_path, with_more(DOCUMENT, SERIES, series_of(other)))
        assert (contents.leads, contents.fs, contents.n_samples) == (LEADS, fs, 5000)
        assert contents.notes == (NOT_READ,)
    first = opened(tmp_path, with_more(DOCUMENT, SERIES, series_of(aecg_bytes(-SIGNALS))))
    np.testing.assert_allclose(first.decode(), -SIGNALS / 1000, rtol=1e-15)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'code="RHYTHM"', b'code="OTHER"', "no rhythm"),
        (b'code="TIME_ABSOLUTE"', b'code="SPACE"', "no time"),
        (b'<increment value="0.002" unit="s"/>', b"", "no sampling frequency"),
        (b'value="0.002" unit="s"', b'value="0.002" unit="h"', "not a time"),
        (b'value="0.002" unit="s"', b'value="-0.002" unit="s"', "not a time"),
        (b'value="0.002" unit="s"', b'value="1e-9" unit="s"', "sampling frequency"),
        (b'value="0.002" unit="s"', b'value="soon" unit="s"', "not a number"),
        (b'xsi:type="GLIST_TS"', b'xsi:type="GLIST_TS" denominator="2"', "repeat"),
        (b'<scale value="1.0" unit="uV"/>', b'<scale value="1.0"/>', "unit"),
        (b'<scale value="1.0" unit="uV"/>', b'<scale value="0" unit="uV"/>', "impossible"),
        (b'<scale value="1.0" unit="uV"/>', b"", "scale"),
        (b'<origin value="0" unit="uV"/>', b'<origin value="0" unit="kg"/>', "origin"),
        (b'<origin value="0" unit="uV"/>', b'<origin value="-1e300" unit="uV"/>', "origin"),
        (b"<digits>", b"<digits>1 ", "different numbers"),
    ],
)
def test_what_contradicts_itself_is_refused_when_opened(tmp_path, old, new, reason):
    with pytest.raises(RecordError, match=reason):
        opened(tmp_path, changed(old, new))


@pytest.mark.parametrize("digit", [b"1.5", b"x", b"1,2", b"--1", b"1-2", b"1_0", b"nan", b"1e3", b"12345678901"])
def test_a_digit_that_is_no_whole_number_is_refused(tmp_path, digit):
    first = DOCUMENT.index(b" ", DOCUMENT.index(b"<digits>"))
    second = DOCUMENT.index(b" ", first + 1)
    contents = opened(tmp_path, DOCUMENT[: first + 1] + digit + DOCUMENT[second:])
    with pytest.raises(RecordError, match="whole numbers"):
        contents.decode()


def test_digits_may_stand_on_many_lines(tmp_path):
    start, end = DOCUMENT.index(b"<digits>"), DOCUMENT.index(b"</digits>")
    document = DOCUMENT[:start] + DOCUMENT[start:end].replace(b" ", b"\r\n\t ") + b"\n" + DOCUMENT[end:]
    np.testing.assert_allclose(opened(tmp_path, document).decode(), SIGNALS / 1000, rtol=1e-15)


def test_a_document_without_leads_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(RecordError, match="no leads"):
        opened(tmp_path, b'<AnnotatedECG><component><series><code code="RHYTHM"/></series></component></AnnotatedECG>')
    with pytest.raises(RecordError, match="not an annotated ECG"):
        opened(tmp_path, b"<ClinicalDocument/>")


def test_any_cut_document_is_refused(tmp_path):
    for end in [*range(0, 600, 7), *range(600, len(DOCUMENT), 9973), len(DOCUMENT) - 20]:
        with pytest.raises(RecordError):
            opened(tmp_path, DOCUMENT[:end])


def test_the_root_is_told_by_the_first_bytes():
    assert root_name(DOCUMENT[:300]) == ROOT
