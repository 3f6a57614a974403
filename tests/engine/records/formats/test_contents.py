"""What is common to all formats: what cannot be an ECG is refused, what is odd noted, and nobody is named."""

from datetime import date, datetime

import numpy as np
import pytest

from engine.records.formats.contents import (
    Contents,
    Person,
    age_in_years,
    identifying,
    known_sex,
    patient_number,
    person_of,
    plausible_age,
    timestamp,
)
from engine.records.record import RecordError

TIME = np.arange(5000) / 500
BEATS = np.exp(-0.5 * ((TIME % 1 - 0.5) / 0.02) ** 2)


def contents(signals, leads=("I", "II"), **more) -> Contents:
    return Contents(leads, 500.0, signals.shape[1], "uV", lambda: signals, **more)


def test_samples_are_millivolt_as_they_were_decoded():
    signals = np.stack([BEATS, 2 * BEATS])
    record = contents(signals).record()
    np.testing.assert_allclose(record.signals, signals, rtol=1e-6, atol=1e-9)
    assert (record.fs, record.leads, record.notes, record.faults) == (500.0, ("I", "II"), (), ())


def test_a_lead_that_no_heart_makes_is_a_fault_and_two_are_a_refusal():
    record = contents(np.stack([BEATS, 120 * BEATS])).record()
    assert record.sound_leads == ("I",)
    assert np.isnan(record.signals[1]).all()
    with pytest.raises(RecordError, match=r"^I, II spans 120 mV from peak to peak, which no ECG does$"):
        contents(np.stack([120 * BEATS, 120 * BEATS])).record()


@pytest.mark.parametrize(("size", "noted"), [(6.0, False), (7.0, True)])
def test_a_beat_of_7_mv_is_noted_and_drift_is_not(size: float, noted: bool):
    drifting = np.stack([size * BEATS, 20 * TIME / TIME[-1]])
    notes = contents(drifting).record().notes
    assert notes == (("its beats span 7 mV: the unit or the gain in its file looks wrong",) if noted else ())


def test_a_second_with_a_missing_sample_does_not_count():
    signals = np.stack([7 * BEATS, BEATS])
    signals[:, ::500] = np.nan
    assert contents(signals).record().notes == ()


def test_what_follows_the_ecg_is_left_out_and_said():
    record = contents(np.stack([BEATS, BEATS]), n_used=4500).record()
    assert record.signals.shape == (2, 4500)
    assert record.notes == ("a calibration after 9 s is left out",)


def test_infinity_is_a_missing_sample():
    signals = np.stack([BEATS, BEATS])
    signals[0, 7], signals[1, 8] = np.inf, 1e300
    assert np.isnan(contents(signals).record().signals[[0, 1], [7, 8]]).all()


def test_samples_of_another_shape_than_said_are_refused():
    wrong = Contents(("I", "II"), 500.0, 5000, "uV", lambda: np.zeros((2, 4999)))
    with pytest.raises(RecordError, match=r"says 5,000 samples of 2 leads and has 2 x 4999"):
        wrong.record()


@pytest.mark.parametrize(
    ("leads", "fs", "n_samples", "said"),
    [
        ((), 500.0, 10, "no samples"),
        (("I",), 500.0, 0, "no samples"),
        (("I",), float("nan"), 10, "frequency of nan Hz"),
        (("I",), 0.0, 10, "frequency of 0 Hz"),
        (("I",), 1e9, 10, "frequency of 1e+09 Hz"),
        (("I",) * 12, 500.0, 1 << 40, "claims"),
    ],
)
def test_what_cannot_be_a_recording_is_refused_before_it_is_decoded(leads, fs, n_samples, said):
    with pytest.raises(RecordError) as refused:
        Contents(leads, fs, n_samples, "uV", lambda: pytest.fail("decoded"))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        "  ",
        "0000",
        "xxxxxx",
        "ANONYMOUS",
        "anonymized",
        "Unknown",
        "N/A",
        "---",
        "999999",
        "X",
        "no id",
        "test",
        "Patient",
        "anonymis\xe9",
    ],
)
def test_what_stands_for_nobody_is_no_patient(text):
    assert patient_number(text) is None
    assert identifying(text, "17") == ("17",)


@pytest.mark.parametrize(
    "text",
    [
        "4711",
        "A-17",
        "00017",
        "Anna",
        "9998",
        "x17",
        "9",
        "999",
        "anonym00123",
        "ANONYMIZED_17",
        "anon-3",
        "test17",
        "patient12",
    ],
)
def test_what_is_a_number_is_a_patient(text):
    assert patient_number(f" {text}  ") == text


def test_a_person_is_not_shown():
    person = Person("MRN17", ("MRN17", "Roe", "1950-06-15"), 70.0, "female")
    shown = repr(contents(np.stack([BEATS, BEATS]), person=person, recorded=datetime(2020, 3, 4)))
    assert not [text for text in (*person.identity, "2020") if text in shown]


def test_a_person_has_the_first_number_that_is_one_and_every_text():
    person = person_of(["0000", None, "B 2", "C3"], ["Roe", "", "B 2", "unknown"], sex="F")
    assert person == Person("B 2", ("B 2", "C3", "Roe"), None, "female")
    assert person_of([]) == person_of(["", "ANONYMOUS"], [None]) == Person()


@pytest.mark.parametrize(
    ("age", "unit", "years"),
    [
        ("58", "years", 58.0),
        ("58", "YEAR", 58.0),
        (" 58.5 ", " Yrs ", 58.5),
        ("18", "Months", 1.5),
        ("18", "mo", 1.5),
        ("034Y", "", 34.0),
        ("34Y", "", 34.0),
        ("6M", "years", 0.5),
        ("3 weeks", "", 21 / 365.25),
        ("10", "D", 10 / 365.25),
        ("12", "h", 12 / 8766),
        ("30", "minutes", 30 / 525_960),
        ("63", "", None),
        ("63", "bars", None),
        ("131", "years", None),
        ("-1", "years", None),
        ("old", "years", None),
        ("nan", "years", None),
        ("9" * 5000, "years", None),
        ("", "years", None),
    ],
)
def test_a_stated_age_is_used_where_none_follows_from_birth_and_recording(age, unit, years):
    stated = {"age": age, "unit": unit}
    born, recorded = date(1950, 5, 18), datetime(2020, 5, 18, 12)
    for known in ({}, {"born": born}, {"recorded": recorded}, {"born": date(2021, 1, 1), "recorded": recorded}):
        assert person_of([], **stated, **known).age == pytest.approx(years)
    assert person_of([], **stated, born=born, recorded=recorded).age == 70


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20200304101112.123456+0100", datetime(2020, 3, 4, 10, 11, 12)),
        ("2020.03.0410:11:12", datetime(2020, 3, 4, 10, 11, 12)),
        ("202003041011-0500", datetime(2020, 3, 4, 10, 11)),
        ("20200304", datetime(2020, 3, 4)),
        ("20201304", None),
        ("00000000", None),
        ("2020", None),
        ("", None),
    ],
)
def test_timestamps_are_those_of_dicom_and_hl7(text, moment):
    assert timestamp(text) == moment


def test_ages_are_whole_years_at_the_recording():
    recorded = datetime(2020, 5, 18, 12)
    assert age_in_years(date(1950, 5, 18), recorded) == 70
    assert age_in_years(date(1950, 5, 19), recorded) == 69
    assert age_in_years(date(2021, 1, 1), recorded) is None
    assert age_in_years(date(1850, 1, 1), recorded) is None
    assert age_in_years(None, recorded) is age_in_years(date(1950, 5, 18), None) is None
    assert [plausible_age(years) for years in (0, 130, 131, -1, None)] == [0.0, 130.0, None, None, None]
    assert [known_sex(text) for text in ("F", " male ", "O", None)] == ["female", "male", None, None]
