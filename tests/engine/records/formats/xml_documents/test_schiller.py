"""Documents of Schiller's SEMA give the samples that were written, and what contradicts itself is refused."""

from datetime import datetime

import numpy as np
import pytest

from engine.records.formats.xml_documents.schiller import ROOT, open_schiller
from engine.records.formats.xml_documents.tree import root_name
from engine.records.record import LEADS, RecordError
from engine.records.signal import conform
from tests.engine.records.formats.writers_schiller import schiller_bytes

SIGNALS = np.random.default_rng(0).integers(-2000, 2000, (12, 5000))
DOCUMENT = schiller_bytes(SIGNALS)
RHYTHM = DOCUMENT.index(b"ECG_RHYTHMS")


def opened(tmp_path, document):
    (tmp_path / "ecg.xml").write_bytes(document)
    return open_schiller(tmp_path / "ecg.xml")


def in_rhythm(old, new):
    assert DOCUMENT.count(old, RHYTHM)
    return DOCUMENT[:RHYTHM] + DOCUMENT[RHYTHM:].replace(old, new, 1)


def test_the_rhythm_is_read_and_not_the_average_before_it(tmp_path):
    contents = opened(tmp_path, DOCUMENT)
    assert (contents.leads, contents.fs, contents.n_samples, contents.unit) == (LEADS, 500.0, 5000, "UV")
    np.testing.assert_allclose(contents.decode(), SIGNALS / 1000, rtol=1e-15)
    assert contents.notes == ()
    assert conform(contents.record()).leads == LEADS


def test_a_rate_with_the_exponent_one_is_not_ten_times_as_high(tmp_path):
    for exponent in (0, 1):
        assert opened(tmp_path, schiller_bytes(SIGNALS, exponent=exponent)).fs == 500
    with pytest.raises(RecordError, match="exponent"):
        opened(tmp_path, schiller_bytes(SIGNALS, exponent=2))


def test_counts_are_scaled_by_the_resolution_and_its_unit(tmp_path):
    contents = opened(tmp_path, schiller_bytes(2.5 * SIGNALS, microvolt=2.5))
    np.testing.assert_allclose(contents.decode(), 0.0025 * SIGNALS, rtol=1e-15)
    np.testing.assert_array_equal(opened(tmp_path, schiller_bytes(SIGNALS, unit="MV")).decode(), SIGNALS)


def test_the_person_and_the_time_are_read(tmp_path):
    contents = opened(tmp_path, schiller_bytes(SIGNALS, case="C9", order="R77"))
    assert contents.recorded == datetime(2020, 5, 18, 15, 48, 11)
    person = contents.person
    assert (person.number, person.age, person.sex) == ("4711", 69.0, "female")
    assert set(person.identity) == {"4711", "Doe", "Jane", "19510413", "C9", "R77"}
    nobody = opened(tmp_path, schiller_bytes(SIGNALS, patient="", name="", first_name="", birth=None, recorded=None))
    assert (nobody.person.number, nobody.person.identity, nobody.recorded) == (None, (), None)


@pytest.mark.parametrize(
    ("age", "years"),
    [(b"<age>58</age>", 58.0), (b"<age><value>58</value><unit>years</unit></age>", 58.0),
     (b"<age><value>6</value><unit>months</unit></age>", 0.5), (b"<age>old</age>", None)],
)  # fmt: skip
def test_an_age_is_that_in_the_file_where_no_birth_is(tmp_path, age, years):
    document = schiller_bytes(SIGNALS, birth=None).replace(b"</patdata>", age + b"</patdata>")
    assert opened(tmp_path, document).person.age == years


@pytest.mark.parametrize(
    "root", ["com.xiriuz.sema.xml.schillerEDI.SchillerEDI", "com.xiriuz.sema.xml.schillerEDISchillerEDI", ROOT]
)
def test_every_known_root_is_read_and_told(tmp_path, root):
    document = schiller_bytes(SIGNALS, root=root)
    assert opened(tmp_path, document).leads == LEADS
    assert root_name(document[:300]) == root
    assert root.endswith(ROOT)


def test_another_configuration_and_a_second_rhythm_are_noted(tmp_path):
    contents = opened(tmp_path, schiller_bytes(SIGNALS, configuration="ECG_CABRERA"))
    assert contents.notes == ("its leads are not in the standard configuration",)
    contents = opened(tmp_path, DOCUMENT.replace(b"ECG_AVERAGES", b"ECG_RHYTHMS"))
    assert contents.n_samples == 5000
    assert contents.notes == ("1 more group of leads in its file: not read",)


def test_a_rhythm_of_more_leads_is_read_though_another_is_longer(tmp_path):
    small = schiller_bytes(SIGNALS[:2, :100], ("V1", "II"))
    small = small[small.rindex(b"<wavedata>") : small.rindex(b"</wavedata>") + len(b"</wavedata>")]
    limb = schiller_bytes(SIGNALS[:3, :50], ("I", "II", "III"))
    contents = opened(tmp_path, limb.replace(b"<event>", b"<event>" + small))
    assert (contents.leads, contents.n_samples) == (("I", "II", "III"), 50)
    assert contents.notes == ("1 more group of leads in its file: not read (V1)",)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"ECG_RHYTHMS", b"ECG_AVERAGES", "no rhythm"),
        (b"<samplecount>5000", b"<samplecount>4998", "another number"),
        (b"<samplecount>5000", b"<samplecount>1e99", "not a count"),
        (b"<value>500<", b"<value>fast<", "not a number"),
        (b"<value>500<", b"<value>0<", "sampling frequency"),
        (b"COMMASEPARATE", b"BASE64", "not read"),
        (b"<units>UV", b"<units>", "unit"),
        (b"<unitperbit>1.0", b"<unitperbit>0", "impossible"),
        (b"<name>V3<", b"<name><", "no name"),
    ],
)
def test_what_contradicts_itself_is_refused_when_opened(tmp_path, old, new, reason):
    with pytest.raises(RecordError, match=reason):
        opened(tmp_path, in_rhythm(old, new))


def test_leads_of_different_lengths_are_refused_when_opened(tmp_path):
    rows = [row[:4000] if k == 3 else row for k, row in enumerate(SIGNALS)]
    document = b"".join(schiller_bytes([row], [lead]) for row, lead in zip(rows, LEADS, strict=True))
    channels = b"".join(
        b"<channel>" + part.split(b"</channel>")[0] + b"</channel>"
        for one in document.split(b"ECG_RHYTHMS")[1:]
        for part in one.split(b"<channel>")[1:2]
    )
    whole = schiller_bytes([rows[0]], ["I"])
    start = whole.index(b"<channel>", whole.index(b"ECG_RHYTHMS"))
    with pytest.raises(RecordError, match="different numbers"):
        opened(tmp_path, whole[:start] + channels + whole[whole.index(b"<channelconfiguration>", start) :])


@pytest.mark.parametrize("sample", [b"1.5", b"x", b"1 2", b"", b"1_0", b"nan", b"1e3"])
def test_a_sample_that_is_no_whole_number_is_refused(tmp_path, sample):
    first = DOCUMENT.index(b",", DOCUMENT.index(b"<name>V2<", RHYTHM))
    second = DOCUMENT.index(b",", first + 1)
    contents = opened(tmp_path, DOCUMENT[: first + 1] + sample + DOCUMENT[second:])
    with pytest.raises(RecordError, match="whole numbers"):
        contents.decode()


def test_any_cut_document_is_refused(tmp_path):
    for end in [*range(0, 600, 7), *range(600, len(DOCUMENT), 9973), len(DOCUMENT) - 20]:
        with pytest.raises(RecordError):
            opened(tmp_path, DOCUMENT[:end])


def test_another_document_is_refused(tmp_path):
    with pytest.raises(RecordError, match="not a document of Schiller's SEMA"):
        opened(tmp_path, b"<RestingECG/>")
