"""MUSE documents give the samples that were written, and what contradicts itself is refused."""

import re
from datetime import date, datetime

import numpy as np
import pytest

from engine.records.formats.xml_documents.muse import ROOT, open_muse
from engine.records.formats.xml_documents.tree import root_name
from engine.records.record import LEADS, RecordError
from engine.records.signal import conform
from tests.engine.records.formats.writers_muse import muse_bytes, waveform

EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
SIGNALS = np.random.default_rng(0).integers(-2000, 2000, (8, 5000))
DOCUMENT = muse_bytes(SIGNALS)
RHYTHM = DOCUMENT.index(b"<WaveformType>Rhythm")


def opened(tmp_path, document):
    (tmp_path / "ecg.xml").write_bytes(document)
    return open_muse(tmp_path / "ecg.xml")


def in_rhythm(old, new, times=1):
    """The document with the first occurrences of a text in its rhythm replaced."""
    assert DOCUMENT.count(old, RHYTHM) >= times
    return DOCUMENT[:RHYTHM] + DOCUMENT[RHYTHM:].replace(old, new, times)


def decode(tmp_path, document):
    return opened(tmp_path, document).decode()


def test_the_rhythm_is_read_and_not_the_median_before_it(tmp_path):
    contents = opened(tmp_path, DOCUMENT)
    assert (contents.leads, contents.fs, contents.n_samples) == (EIGHT, 500.0, 5000)
    assert contents.derived == ("III", "aVR", "aVL", "aVF")
    np.testing.assert_allclose(contents.decode(), SIGNALS / 1000, rtol=1e-15)
    assert contents.notes == ()
    assert conform(contents.record()).leads == LEADS


def test_counts_are_scaled_exactly(tmp_path):
    contents = opened(tmp_path, muse_bytes(4.88 * SIGNALS, microvolt=4.88))
    np.testing.assert_allclose(contents.decode(), 0.00488 * SIGNALS, rtol=1e-15)
    contents = opened(tmp_path, muse_bytes(SIGNALS, microvolt=2, unit="MILLIVOLTS"))
    np.testing.assert_array_equal(contents.decode(), 2 * np.round(SIGNALS / 2))
    assert contents.unit == "MILLIVOLTS"


@pytest.mark.parametrize(("base", "exponent", "fs"), [(5, 2, 500.0), (250, 0, 250.0), (500000, -3, 500.0)])
def test_the_rate_is_the_base_times_a_power_of_ten(tmp_path, base, exponent, fs):
    assert opened(tmp_path, muse_bytes(SIGNALS, fs=base, exponent=exponent)).fs == fs


def test_leads_are_spelled_as_in_the_contract_and_others_keep_their_name(tmp_path):
    leads = ("I", "II", "AVR", "V3R", "V1", "V2", "V7", "V6")
    contents = opened(tmp_path, muse_bytes(SIGNALS, leads))
    assert contents.leads == ("I", "II", "aVR", "V3R", "V1", "V2", "V7", "V6")
    assert contents.derived == ("III", "aVL", "aVF")


def test_the_person_and_the_time_are_read(tmp_path):
    orders = (
        ("RequisitionNumber", "R77"),
        ("HISOrderNumber", "H8"),
        ("OrderingMDLastName", "House"),
        ("OrderingMDID", "9"),
    )
    document = muse_bytes(SIGNALS, patient="0815", name="M\u00fcller", first_name="J\u00f6rg", orders=orders)
    contents = opened(tmp_path, document)
    person = contents.person
    assert contents.recorded == datetime(2020, 5, 18, 15, 48, 11)
    assert (person.number, person.age, person.sex) == ("0815", 69.0, "female")
    assert set(person.identity) == {"0815", "M\u00fcller", "J\u00f6rg", "04-13-1951", "R77", "H8"}


@pytest.mark.parametrize(
    ("age", "years"), [((58, "YEARS"), 58.0), ((18, "MONTHS"), 1.5), ((400, "YEARS"), None), ((3, "BARS"), None)]
)
def test_an_age_is_that_in_the_file_where_no_birth_is(tmp_path, age, years):
    assert opened(tmp_path, muse_bytes(SIGNALS, birth=None, age=age)).person.age == years


def test_nobody_is_no_patient(tmp_path):
    document = muse_bytes(SIGNALS, patient="0000", name="", first_name="ANONYMOUS", birth=None, recorded=None, sex="")
    contents = opened(tmp_path, document)
    assert (contents.person.number, contents.person.identity) == (None, ())
    assert (contents.person.age, contents.person.sex, contents.recorded) == (None, None, None)


def test_a_date_is_month_day_year_and_no_other(tmp_path):
    assert opened(tmp_path, DOCUMENT.replace(b">05-18-2020<", b">18-05-2020<")).recorded is None
    assert opened(tmp_path, DOCUMENT.replace(b">05-18-2020<", b">05-06-2020<")).recorded.date() == date(2020, 5, 6)


def test_any_changed_sample_is_refused(tmp_path):
    data = re.compile(rb"<WaveFormData>\s*(\S)")
    found = data.search(DOCUMENT, RHYTHM)
    changed = b"Q" if found[1] != b"Q" else b"R"
    document = DOCUMENT[: found.start(1)] + changed + DOCUMENT[found.end(1) :]
    contents = opened(tmp_path, document)  # which does not decode samples
    with pytest.raises(RecordError, match="checksum"):
        contents.decode()


def test_samples_without_a_checksum_are_read_with_a_note(tmp_path):
    contents = opened(tmp_path, muse_bytes(SIGNALS, checksums=False))
    np.testing.assert_allclose(contents.decode(), SIGNALS / 1000, rtol=1e-15)
    assert "checksum" in contents.notes[0]


def test_an_electrode_that_was_off_is_noted(tmp_path):
    assert opened(tmp_path, in_rhythm(b"<LeadOff>FALSE", b"<LeadOff>TRUE")).notes == (
        "I: an electrode was off, says the device",
    )


def test_leads_that_all_begin_later_are_noted(tmp_path):
    contents = opened(tmp_path, in_rhythm(b"<LeadOffsetFirstSample>0", b"<LeadOffsetFirstSample>1250", 8))
    np.testing.assert_allclose(contents.decode(), SIGNALS / 1000, rtol=1e-15)
    assert contents.notes == ("its leads begin at sample 1,250 of the recording",)


def with_another(n_leads, n_samples, fs):
    """The document with another rhythm before that of 8 leads and 10 s."""
    signals = np.tile(SIGNALS[:, ::-1], 2)[:n_leads, :n_samples].astype("<i2")
    other = waveform("RHYTHM", signals, EIGHT[:n_leads], fs, 0, 1.0, "MICROVOLTS", True)
    start = DOCUMENT.index(b"<RestingECGMeasurements>")
    return DOCUMENT[:start] + other.encode() + DOCUMENT[start:]


@pytest.mark.parametrize("other", [(3, 10000, 500), (8, 4999, 500), (8, 5001, 1000), (8, 5000, 500)])
def test_of_two_rhythms_that_of_most_leads_then_the_longest_is_read_with_a_note(tmp_path, other):
    contents = opened(tmp_path, with_another(*other))
    assert (contents.leads, contents.fs) == (EIGHT, 500)
    assert contents.n_samples == 5000
    first = SIGNALS[:, ::-1] if other == (8, 5000, 500) else SIGNALS
    np.testing.assert_allclose(contents.decode(), first / 1000, rtol=1e-15)
    assert contents.notes == ("1 more group of leads in its file: not read",)


def test_a_longer_rhythm_is_read_and_a_damaged_one_is_the_shortest(tmp_path):
    longer = with_another(8, 5000, 250)
    assert opened(tmp_path, longer).fs == 250
    for damage in (b"<SampleBase>0", b"<SampleBase>fast"):
        assert opened(tmp_path, longer.replace(b"<SampleBase>250", damage)).fs == 500


def test_one_rhythm_in_other_letters_is_read(tmp_path):
    only = opened(tmp_path, DOCUMENT[:RHYTHM] + DOCUMENT[RHYTHM:].replace(b">Rhythm<", b">rHYTHM<"))
    np.testing.assert_allclose(only.decode(), SIGNALS / 1000, rtol=1e-15)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"<WaveformType>Rhythm", b"<WaveformType>Median", "no rhythm"),
        (b"<NumberofLeads>8", b"<NumberofLeads>12", "12 leads and has 8"),
        (b"CONTINUOUS_SAMPLES", b"COMPRESSED", "not continuous"),
        (b"<SampleBase>500", b"<SampleBase>0", "sampling frequency"),
        (b"<SampleBase>500", b"<SampleBase>fast", "not a number"),
        (b"<SampleBase>500", b"<SampleBase>nan", "not a number"),
        (b"<SampleExponent>0", b"<SampleExponent>99999", "exponent"),
        (b"<LeadSampleCountTotal>5000", b"<LeadSampleCountTotal>4999", "bytes"),
        (b"<LeadSampleCountTotal>5000", b"<LeadSampleCountTotal>", "how many samples"),
        (b"<LeadSampleCountTotal>5000", b"<LeadSampleCountTotal>-5", "not a count"),
        (b"<LeadByteCountTotal>10000", b"<LeadByteCountTotal>9999", "bytes"),
        (b"<LeadSampleSize>2", b"<LeadSampleSize>4", "16 bits"),
        (b"<FirstSampleBaseline>0", b"<FirstSampleBaseline>9", "baseline"),
        (b"<LeadTimeOffset>0", b"<LeadTimeOffset>2500", "same time"),
        (b"<LeadOffsetFirstSample>0", b"<LeadOffsetFirstSample>4", "same time"),
        (b">MICROVOLTS<", b">FURLONGS<", "unit"),
        (b">MICROVOLTS<", b"><", "unit"),
        (b"<LeadAmplitudeUnitsPerBit>1.0", b"<LeadAmplitudeUnitsPerBit>0", "impossible"),
        (b"<LeadAmplitudeUnitsPerBit>1.0", b"<LeadAmplitudeUnitsPerBit>1e308", "impossible"),
        (b"<LeadSampleCountTotal>5000", b"<LeadSampleCountTotal>1e308", "not a count"),
        (b"<LeadID>I<", b"<LeadID><", "no name"),
    ],
)
def test_what_contradicts_itself_is_refused_when_opened(tmp_path, old, new, reason):
    with pytest.raises(RecordError, match=reason):
        opened(tmp_path, in_rhythm(old, new))


def test_leads_of_different_lengths_are_refused(tmp_path):
    document = in_rhythm(b"<LeadSampleCountTotal>5000", b"<LeadSampleCountTotal>4000")
    document = document[:RHYTHM] + document[RHYTHM:].replace(
        b"<LeadByteCountTotal>10000", b"<LeadByteCountTotal>8000", 1
    )
    with pytest.raises(RecordError, match="different numbers"):
        opened(tmp_path, document)


def test_a_claim_of_more_samples_than_the_file_can_hold_is_refused_when_opened(tmp_path):
    document = DOCUMENT[:RHYTHM] + re.sub(
        rb"<LeadByteCountTotal>10000<", b"<LeadByteCountTotal>20000000000<", DOCUMENT[RHYTHM:]
    ).replace(b"<LeadSampleCountTotal>5000", b"<LeadSampleCountTotal>10000000000")
    with pytest.raises(RecordError, match="has fewer"):
        opened(tmp_path, document)


@pytest.mark.parametrize(
    "new", [b"<WaveFormData>\n!!!!", b"<WaveFormData>\nAAAA", b"<WaveFormData>=", "<WaveFormData>\u00e9".encode()]
)
def test_samples_that_are_no_base64_of_their_length_are_refused(tmp_path, new):
    with pytest.raises(RecordError, match=r"Base64|samples of a lead"):
        decode(tmp_path, in_rhythm(b"<WaveFormData>\n", new))


def test_any_cut_document_is_refused(tmp_path):
    for end in [*range(0, 600, 7), *range(600, len(DOCUMENT), 9973), len(DOCUMENT) - 20]:
        with pytest.raises(RecordError):
            decode(tmp_path, DOCUMENT[:end])


def test_another_document_is_refused_and_no_text_of_it_is_told(tmp_path):
    with pytest.raises(RecordError, match="not a MUSE document"):
        opened(tmp_path, b"<restingecgdata><patient>Doe</patient></restingecgdata>")
    with pytest.raises(RecordError) as error:
        opened(tmp_path, DOCUMENT.replace(b"<SampleBase>500", b"<SampleBase>Doe", 2))
    assert "Doe" not in str(error.value)


def test_the_root_is_told_by_the_first_bytes():
    assert root_name(DOCUMENT[:300]) == ROOT
