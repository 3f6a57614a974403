"""EDF, EDF+ and BDF with known samples, and what has to be refused."""

import builtins
import warnings
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.records.formats.contents import Contents
from engine.records.formats.edf import open_edf
from engine.records.record import LEADS, RecordError
from engine.records.signal import conform
from tests.engine.records.formats.writers_edf import Signal, edf_bytes, edf_file

COUNTS = np.random.default_rng(3).integers(-900, 900, (12, 1000))
SIGNALS = [Signal(f"ECG {lead}", row) for lead, row in zip(LEADS, COUNTS, strict=True)]


@pytest.fixture
def opened(tmp_path: Path):
    def open_content(content: bytes) -> Contents:
        file = tmp_path / "ecg.edf"
        file.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return open_edf(file)

    return open_content


@pytest.mark.parametrize("width", [2, 3])
def test_edf_plus_and_bdf_plus_give_the_samples_that_were_written(opened, width: int):
    contents = opened(edf_bytes(COUNTS, LEADS, 500.0, width=width))
    assert contents.leads == LEADS
    assert (contents.fs, contents.n_samples, contents.unit) == (500.0, 1000, "uV")
    np.testing.assert_allclose(contents.decode(), COUNTS * 1e-3, rtol=0, atol=1e-12)
    assert contents.faults == () and contents.notes == ()


def test_the_person_and_the_time_of_edf_plus_are_read_and_never_shown(opened):
    contents = opened(edf_bytes(COUNTS, LEADS, 500.0))
    person = contents.person
    assert (person.number, person.age, person.sex) == ("4711", 69.0, "female")
    assert set(person.identity) == {"4711", "Jane_Roe", "Jane Roe", "Jane", "Roe", "15-JUN-1950"}
    assert contents.recorded == datetime(2020, 3, 4, 10, 11, 12)
    assert not any(text in repr(contents) for text in person.identity)


def test_an_anonymous_edf_plus_names_nobody(opened):
    contents = opened(edf_bytes(COUNTS, LEADS, 500.0, patient="", name="", birth=None, sex="", recorded=None))
    person = contents.person
    assert (person.number, person.identity, person.age, person.sex) == (None, (), None, None)
    assert contents.recorded is None


def test_the_free_text_of_edf_is_a_number_and_an_identity(opened):
    content = edf_file(SIGNALS, 2, "1", who="12-34 Roe, Jane female", where="Ward 7", start="31.12.9923.59.58")
    contents = opened(content)
    assert contents.person.number == "12-34 Roe, Jane female"
    assert set(contents.person.identity) == {"12-34 Roe, Jane female", "12-34", "Roe", "Jane", "Ward 7"}
    assert contents.recorded == datetime(1999, 12, 31, 23, 59, 58)


@pytest.mark.parametrize(
    ("start", "where", "expected"),
    [
        ("04.03.84 1.02.03", "", datetime(2084, 3, 4, 1, 2, 3)),
        ("04.03.8501.02.03", "", datetime(1985, 3, 4, 1, 2, 3)),
        ("01.01.8500.00.00", "", None),
        ("99.99.9900.00.00", "", None),
        ("04.03.2001.02.03", "Startdate X X X X", None),
        ("04.03.2001.02.03", "Startdate 05-MAR-1910 PSG-9 T E", datetime(1910, 3, 5, 1, 2, 3)),
        ("04.03.2001.02.03", "Startdate 5.3.1910 X X X", datetime(2020, 3, 4, 1, 2, 3)),
    ],
)
def test_the_start_of_a_recording(opened, start: str, where: str, expected: datetime | None):
    contents = opened(edf_file(SIGNALS, 2, start=start, where=where))
    assert contents.recorded == expected
    assert ("PSG-9" in contents.person.identity) == ("PSG-9" in where)


def test_each_signal_is_scaled_by_its_own_ranges_and_dimension(opened):
    signals = [
        replace(SIGNALS[0], physical=("-5", "5"), digital=("-1000", "1000"), unit="mV"),
        replace(SIGNALS[1], physical=("100", "-100"), digital=("-1024", "1023"), unit="\xb5V"),
        replace(SIGNALS[2], physical=("0", "1e-3"), digital=("0", "4095"), unit="V", counts=COUNTS[2] + 1000),
    ]
    expected = np.stack([COUNTS[0] / 200, (100 - (COUNTS[1] + 1024) * 200 / 2047) / 1000, (COUNTS[2] + 1000) / 4095])
    np.testing.assert_allclose(opened(edf_file(signals, 2)).decode(), expected, rtol=1e-12)


def test_the_whole_range_of_sixteen_bits_is_scaled_without_overflow(opened):
    counts = np.linspace(-32768, 32767, 1000).astype(int)
    signals = opened(edf_file([Signal("II", counts)], 2)).decode()
    np.testing.assert_allclose(signals[0], counts * 1e-3, rtol=0, atol=1e-9)


def test_other_signals_are_left_out_and_leads_of_another_rate_are_faults(opened):
    slow = Signal("EKG V2", COUNTS[7, :500])
    others = [Signal("EEG Fpz", COUNTS[0, :200]), Signal("SpO2", COUNTS[0, :2], unit="%"), Signal("Status", COUNTS[1])]
    contents = opened(edf_file([others[0], SIGNALS[0], slow, others[1], SIGNALS[1], others[2]], 2))
    assert contents.leads == ("I", "V2", "II")
    assert contents.faults == ((1, "{} is sampled at 250 Hz, most leads at 500 Hz"),)
    assert contents.fs == 500.0
    np.testing.assert_allclose(contents.decode()[[0, 2]], COUNTS[:2] * 1e-3, rtol=0, atol=1e-12)
    assert np.isnan(contents.decode()[1]).all()


def test_labels_without_a_separator_and_leads_outside_the_twelve_are_leads(opened):
    labels = ["ECGI", "EKGV1", "ecgAVR", "MLII", "V3R", "V7", "ECG V8", "EKGV9", "ECGMLII", "EOGI", "VR", "ECGX"]
    contents = opened(edf_file([Signal(label, row) for label, row in zip(labels, COUNTS, strict=True)], 2))
    assert contents.leads == ("I", "V1", "aVR", "MLII", "V3R", "V7", "ECG V8", "EKG V9", "ECG MLII")
    np.testing.assert_allclose(contents.decode(), COUNTS[:9] * 1e-3, rtol=0, atol=1e-12)


def test_ecg_without_a_name_of_a_lead_keeps_its_own(opened):
    contents = opened(edf_file([Signal("ECG chest", COUNTS[0]), Signal("EEG C3", COUNTS[1])], 2))
    assert contents.leads == ("ECG chest",)
    with pytest.raises(RecordError, match="none of its 1 signals is labelled as a lead of an ECG"):
        opened(edf_file([Signal("EEG C3", COUNTS[1])], 2))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"unit": ""}, "no unit of V1 is given"),
        ({"unit": "mmHg"}, "unit mmHg of V1 is not a voltage"),
        ({"digital": ("5", "5")}, r"the digital range of V1 \(5 to 5\) is not a range"),
        ({"digital": ("100", "-100")}, r"the digital range of V1 \(100 to -100\) is not a range"),
        ({"digital": ("-40000", "40000")}, "the digital range of V1"),
        ({"digital": ("low", "high")}, "the range of V1 is not given in numbers"),
        ({"physical": ("3", "3")}, r"the physical range of V1 \(3 to 3\) is not a range"),
        ({"physical": ("nan", "3")}, "the physical range of V1"),
    ],
)
def test_a_signal_that_cannot_be_scaled_is_a_fault_of_that_lead_alone(opened, fields: Any, reason: str):
    contents = opened(edf_file([replace(one, **fields) if one.label == "ECG V1" else one for one in SIGNALS], 2))
    assert contents.sound_leads == tuple(lead for lead in LEADS if lead != "V1")
    with pytest.raises(RecordError, match=reason):
        conform(contents.record(), seconds=2.0)


def test_the_rate_is_exact_for_records_that_last_no_whole_second(opened):
    assert opened(edf_file(SIGNALS, 4, "0.5")).fs == 500.0
    assert opened(edf_file(SIGNALS, 1, "2.0")).fs == 500.0
    assert opened(edf_file(SIGNALS, 1, "1.667")).fs == 1000 / 1.667


@pytest.mark.parametrize("width", [2, 3])
def test_a_recording_with_gaps_is_refused(opened, width: int):
    kind = f"{'EB'[width - 2]}DF+D"
    with pytest.raises(RecordError, match="there is a gap before data record 2"):
        opened(edf_file(SIGNALS, 2, kind=kind, width=width, onsets=[0.0, 5.0]))
    with pytest.raises(RecordError, match=r"it is [EB]DF\+D, a recording that may have gaps, and has no times"):
        opened(edf_file(SIGNALS, 2, kind=kind, width=width))
    contents = opened(edf_file(SIGNALS, 2, width=width, onsets=[0.25, 1.252]))
    with pytest.raises(RecordError, match="there is a gap before data record 2"):
        contents.decode()
    assert opened(edf_file(SIGNALS, 2, width=width, onsets=[0.25, 1.25])).decode().shape == (12, 1000)


@pytest.mark.parametrize("width", [2, 3])
def test_a_recording_that_may_have_gaps_and_has_none_is_read(opened, width: int):
    contents = opened(edf_file(SIGNALS, 2, kind=f"{'EB'[width - 2]}DF+D", width=width, onsets=[0.25, 1.25]))
    assert (contents.fs, contents.notes) == (500.0, ())
    np.testing.assert_allclose(contents.decode(), COUNTS * 1e-3, rtol=0, atol=1e-12)


@pytest.mark.parametrize("width", [2, 3])
def test_a_number_of_data_records_that_is_left_open_is_counted_and_noted(opened, width: int):
    contents = opened(edf_file(SIGNALS, 2, said_records="-1", width=width))
    assert contents.notes == ("its header leaves the number of data records open: 2 are there",)
    np.testing.assert_allclose(contents.decode(), COUNTS * 1e-3, rtol=0, atol=1e-12)


def test_a_record_without_its_time_is_refused(opened):
    content = edf_bytes(COUNTS, LEADS, 500.0)
    with pytest.raises(RecordError, match="data record 2 does not tell its time"):
        opened(content.replace(b"+1\x14\x14", b"+1\x14 ")).decode()


@pytest.mark.parametrize(
    ("said", "words"), [("3", "says 3 data records, and 2 are"), ("-2", "says -2"), ("0", "says 0")]
)
def test_a_number_of_data_records_that_is_not_there_is_refused(opened, said: str, words: str):
    with pytest.raises(RecordError, match=words):
        opened(edf_file(SIGNALS, 2, said_records=said))


def test_a_cut_or_longer_file_is_refused(opened):
    content = edf_bytes(COUNTS[:, :500], LEADS, 250.0)
    for length in (*range(0, len(content), 211), len(content) - 1):
        with pytest.raises(RecordError):
            opened(content[:length])
    with pytest.raises(RecordError, match="its header says 2 data records, and 2"):
        opened(content + b"\0")
    with pytest.raises(RecordError, match=r"its header says -1 data records, and 1\.99"):
        opened(edf_file(SIGNALS, 2, said_records="-1")[:-1])
    with pytest.raises(RecordError, match="its header says -1 data records, and 0 are"):
        opened(edf_file(SIGNALS, 2, said_records="-1")[: 256 * 13])


@pytest.mark.parametrize("per_record", ["0", "-5", "99999999", "x"])
def test_samples_of_a_record_that_cannot_be_are_refused(opened, per_record: str):
    signals = [replace(SIGNALS[0], per_record=per_record), *SIGNALS[1:]]
    with pytest.raises(RecordError):
        opened(edf_file(signals, 2))


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_records_that_last_no_time_are_refused(opened, seconds: str):
    with pytest.raises(RecordError, match="last no time"):
        opened(edf_file(SIGNALS, 2, seconds))


def test_damage_never_ends_in_another_exception(opened):
    content = edf_bytes(COUNTS[:, :200], LEADS, 100.0)
    random = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(0, 256 * 14, 3)] = random.integers(0, 256, 3)
        try:
            opened(damaged.tobytes()).record()
        except RecordError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 20 < refused < 400


def test_other_files_are_refused(opened):
    for content in (b"", b"0       ", b"PK\x03\x04" + bytes(600), b"1" + edf_bytes(COUNTS, LEADS, 500.0)[1:]):
        with pytest.raises(RecordError, match="it is not an EDF or BDF file"):
            opened(content)


def test_a_missing_edfio_names_the_extra(opened, monkeypatch):
    found = builtins.__import__

    def import_without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "edfio":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", import_without)
    with pytest.raises(RecordError) as raised:
        opened(edf_bytes(COUNTS, LEADS, 500.0))
    assert str(raised.value) == "reading EDF needs edfio: pip install 'ecgadvise[formats]'"
