"""CardioSoft documents give the samples that were written, and what contradicts itself is refused."""

from datetime import date, datetime

import numpy as np
import pytest

from engine.records.formats.xml_documents.cardiosoft import ROOT, open_cardiosoft
from engine.records.formats.xml_documents.tree import root_name
from engine.records.record import LEADS, RecordError
from engine.records.signal import conform
from tests.engine.records.formats.writers_cardiosoft import cardiosoft_bytes

SIGNALS = np.random.default_rng(0).integers(-2000, 2000, (12, 5000))
DOCUMENT = cardiosoft_bytes(SIGNALS)
STRIP = DOCUMENT.index(b"<StripData>")


def opened(tmp_path, document):
    (tmp_path / "ecg.xml").write_bytes(document)
    return open_cardiosoft(tmp_path / "ecg.xml")


def in_strip(old, new):
    assert DOCUMENT.count(old, STRIP)
    return DOCUMENT[:STRIP] + DOCUMENT[STRIP:].replace(old, new, 1)


@pytest.mark.parametrize("nested", [False, True])
def test_the_strip_is_read_and_not_the_median_before_it(tmp_path, nested):
    contents = opened(tmp_path, cardiosoft_bytes(SIGNALS, in_strip=nested))
    assert (contents.leads, contents.fs, contents.n_samples, contents.unit) == (LEADS, 500.0, 5000, "uV")
    np.testing.assert_allclose(contents.decode(), SIGNALS / 1000, rtol=1e-15)
    assert contents.notes == ()
    assert conform(contents.record()).leads == LEADS


def test_counts_are_scaled_by_the_resolution_and_its_unit(tmp_path):
    contents = opened(tmp_path, cardiosoft_bytes(5 * SIGNALS, microvolt=5))
    np.testing.assert_allclose(contents.decode(), 0.005 * SIGNALS, rtol=1e-15)
    contents = opened(tmp_path, cardiosoft_bytes(SIGNALS, units="mVperLsb"))
    np.testing.assert_array_equal(contents.decode(), SIGNALS)


def test_an_encoding_that_no_list_has_is_read(tmp_path):
    for declared in ("ISO8859-1", "no-such-code"):
        document = cardiosoft_bytes(SIGNALS, name="M\u00fcller", declared=declared)
        assert "M\u00fcller" in opened(tmp_path, document).person.identity


def test_the_person_and_the_time_are_read(tmp_path):
    contents = opened(tmp_path, cardiosoft_bytes(SIGNALS, order="R77"))
    assert contents.recorded == datetime(2020, 5, 18, 15, 48, 11)
    person = contents.person
    assert (person.number, person.age, person.sex) == ("4711", 69.0, "female")
    assert set(person.identity) == {"4711", "Doe", "Jane", "1951-04-13", "R77"}
    nobody = opened(tmp_path, cardiosoft_bytes(SIGNALS, patient="", name="", first_name="", birth=None, recorded=None))
    assert (nobody.person.number, nobody.person.identity, nobody.recorded) == (None, (), None)


def test_the_time_may_be_that_of_the_clinical_information(tmp_path):
    document = DOCUMENT.replace(b"<ObservationDateTime>", b"<ClinicalInfo><ObservationDateTime>")
    document = document.replace(b"</ObservationDateTime>", b"</ObservationDateTime></ClinicalInfo>")
    contents = opened(tmp_path, document)
    assert contents.recorded == datetime(2020, 5, 18, 15, 48, 11)
    assert contents.person.age == 69.0


@pytest.mark.parametrize(
    ("age", "years"), [((58, "Years"), 58.0), ((58, "YEAR"), 58.0), ((6, "months"), 0.5), ((500, "Years"), None)]
)
def test_an_age_is_that_in_the_file_where_no_birth_is(tmp_path, age, years):
    assert opened(tmp_path, cardiosoft_bytes(SIGNALS, birth=None, age=age)).person.age == years


def test_an_impossible_date_is_none(tmp_path):
    assert opened(tmp_path, DOCUMENT.replace(b"<Month>5<", b"<Month>15<")).recorded is None
    document = cardiosoft_bytes(SIGNALS, birth=date(1951, 4, 13)).replace(b"<Day>13<", b"<Day><")
    assert opened(tmp_path, document).person.age is None


def test_a_lead_without_samples_is_left_out_with_a_note_and_derived(tmp_path):
    rows = [None if lead == "III" else row for lead, row in zip(LEADS, SIGNALS, strict=True)]
    contents = opened(tmp_path, cardiosoft_bytes(rows))
    assert contents.leads == ("I", "II", *LEADS[3:])
    assert contents.derived == ("III",)
    assert contents.notes == ("it says 12 leads and has the samples of 11",)
    np.testing.assert_allclose(contents.decode(), np.delete(SIGNALS, 2, 0) / 1000, rtol=1e-15)


def test_of_two_strips_that_of_most_leads_then_the_longest_is_read_with_a_note(tmp_path):
    end = DOCUMENT.index(b"</CardiologyXML>")
    for leads, fs, signals, read in (
        (LEADS, 250, SIGNALS, 250),
        (LEADS, 1000, SIGNALS, 500),
        (LEADS, 500, SIGNALS[:, :9], 500),
        (LEADS[:11], 250, SIGNALS[:11], 500),
        (LEADS, 0, SIGNALS, 500),
    ):
        other = cardiosoft_bytes(signals, leads, fs)
        strip = other[other.index(b"<StripData>") : other.index(b"</CardiologyXML>")]
        for document in (DOCUMENT[:STRIP] + strip + DOCUMENT[STRIP:], DOCUMENT[:end] + strip + DOCUMENT[end:]):
            contents = opened(tmp_path, document)
            assert (contents.leads, contents.fs, contents.n_samples) == (LEADS, read, 5000)
            assert contents.notes == ("1 more group of leads in its file: not read",)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"<ChannelSampleCountTotal>5000", b"<ChannelSampleCountTotal>4999", "4,999 samples of a lead and has 5,000"),
        (b"<ChannelSampleCountTotal>5000", b"<ChannelSampleCountTotal>many", "not a number"),
        (b'<SampleRate units="Hz">500', b'<SampleRate units="Hz">0', "sampling frequency"),
        (b'<SampleRate units="Hz">500', b'<SampleRate units="ms">2', "not in Hz"),
        (b'"uVperLsb"', b'"uV"', "unit"),
        (b'"uVperLsb"', b'"furlongPerLsb"', "unit"),
        (b'<Resolution units="uVperLsb">1', b'<Resolution units="uVperLsb">-1', "impossible"),
        (b'lead="V1"', b'lead=""', "no name"),
        (b"StripData>", b"Stripdata>", "damaged"),
    ],
)
def test_what_contradicts_itself_is_refused_when_opened(tmp_path, old, new, reason):
    with pytest.raises(RecordError, match=reason):
        opened(tmp_path, in_strip(old, new))


def test_leads_of_different_lengths_are_refused_when_opened(tmp_path):
    rows = [row[:4000] if k == 3 else row for k, row in enumerate(SIGNALS)]
    with pytest.raises(RecordError, match="different numbers"):
        opened(tmp_path, cardiosoft_bytes(rows))


@pytest.mark.parametrize("sample", ["1.5", "1e3", "x", "1 2", "", "--1", "1_0", "9" * 12, "\u0661"])
def test_a_sample_that_is_no_whole_number_is_refused(tmp_path, sample):
    first = DOCUMENT.index(b",", DOCUMENT.index(b'lead="V2"', STRIP))
    second = DOCUMENT.index(b",", first + 1)
    document = DOCUMENT[: first + 1] + sample.encode("ascii", "xmlcharrefreplace") + DOCUMENT[second:]
    contents = opened(tmp_path, document)
    with pytest.raises(RecordError, match="whole numbers"):
        contents.decode()


def test_documents_without_a_strip_or_leads_are_refused(tmp_path):
    with pytest.raises(RecordError, match="no strip"):
        opened(tmp_path, DOCUMENT.replace(b"StripData>", b"Other>"))
    with pytest.raises(RecordError, match="no leads"):
        opened(tmp_path, b"<CardiologyXML><StripData/></CardiologyXML>")
    with pytest.raises(RecordError, match="not a CardioSoft"):
        opened(tmp_path, b"<RestingECG/>")


def test_any_cut_document_is_refused(tmp_path):
    for end in [*range(0, 600, 7), *range(600, len(DOCUMENT), 9973), len(DOCUMENT) - 20]:
        with pytest.raises(RecordError):
            opened(tmp_path, DOCUMENT[:end])


def test_the_root_is_told_by_the_first_bytes():
    assert root_name(DOCUMENT[:300]) == ROOT
