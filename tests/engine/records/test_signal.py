import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.records.record import LEADS, Record, RecordError, order_leads
from engine.records.signal import CONTRACT, PAPER, PAPER_PTB, Preparation, conform, min_max, resample

RATES = [128.0, 250.0, 257.0, 300.0, 360.0, 400.0, 500.0, 999.56, 1000.0]
MIDDLE = slice(50, 950)  # half a second from either end, where the filter has seen signal on both sides
SETTINGS = settings(max_examples=40, deadline=None)


def record_of(wave, fs=500.0, seconds=10.0, leads=("I",)):
    """A record of one wave (a function of seconds) in every lead."""
    time = np.arange(round(fs * seconds)) / fs
    return Record(np.stack([wave(time)] * len(leads)).astype(np.float32), fs, leads)


def twelve_leads(synthetic_ecg, fs=500.0, seconds=10.0):
    return Record((synthetic_ecg(seconds, fs) / 1000).astype(np.float32), fs, LEADS)


@SETTINGS
@given(
    fs=st.sampled_from(RATES),
    frequency=st.floats(0.5, 38),
    amplitude=st.floats(0.2, 5),
    phase=st.floats(0, 6.28),
    seconds=st.sampled_from([10.0, 11.5, 60.0]),
)
def test_a_wave_below_40_hz_keeps_its_amplitude_and_its_phase(fs, frequency, amplitude, phase, seconds):
    def wave(time):
        return amplitude * np.sin(2 * np.pi * frequency * time + phase)

    result = conform(record_of(wave, fs, np.ceil(seconds * fs) / fs), ("I",))
    assert result.signals.shape == (1, 1000)
    expected = wave(np.arange(1000) / 100)
    np.testing.assert_allclose(result.signals[0, MIDDLE], expected[MIDDLE], atol=0.01 * amplitude)


@SETTINGS
@given(fs=st.sampled_from([rate for rate in RATES if rate > 200]), share=st.floats(0, 1))
def test_a_wave_above_50_hz_is_removed(fs, share):
    frequency = 52 + share * (fs / 2 - 54)
    result = conform(record_of(lambda time: 1 + np.sin(2 * np.pi * frequency * time), fs), ("I",))
    assert np.abs(result.signals[0, MIDDLE] - 1).max() < 0.005


def test_decimation_without_a_filter_folds_that_wave_back():
    fast = record_of(lambda time: np.sin(2 * np.pi * 93 * time))
    assert np.abs(conform(fast, ("I",), preparation=Preparation(anti_alias=False)).signals).max() > 0.9


@SETTINGS
@given(fs=st.sampled_from(RATES), offset=st.floats(-20, 20))
def test_a_constant_offset_is_kept_to_the_very_ends(fs, offset):
    small = record_of(lambda time: offset + 0.1 * np.sin(2 * np.pi * time), fs, 11)
    assert abs(conform(small, ("I",)).signals.mean() - offset) < 0.01
    np.testing.assert_allclose(resample(np.full((1, round(10 * fs)), offset), fs, 100.0), offset, atol=1e-9)


@SETTINGS
@given(fs=st.sampled_from(RATES))
def test_a_drift_is_kept_to_the_very_ends(fs):
    drifting = record_of(lambda time: 3 - 0.2 * time, fs, 10)
    expected = 3 - 0.2 * np.arange(1000) / 100
    np.testing.assert_allclose(conform(drifting, ("I",)).signals[0], expected, atol=1e-4)


def test_what_already_is_as_the_contract_wants_keeps_its_bits(synthetic_ecg):
    record = twelve_leads(synthetic_ecg, 100.0)
    result = conform(record)
    assert result.signals.tobytes() == record.signals.tobytes()
    assert result.notes == ()


@SETTINGS
@given(seed=st.integers(0, 10_000))
def test_leads_permuted_in_the_file_come_out_in_order(synthetic_ecg, seed):
    record = twelve_leads(synthetic_ecg)
    order = np.random.default_rng(seed).permutation(12)
    shuffled = Record(record.signals[order], 500.0, tuple(LEADS[k] for k in order))
    result = conform(shuffled)
    assert result.leads == LEADS
    np.testing.assert_array_equal(result.signals, conform(record).signals)
    assert result.notes == ()


@SETTINGS
@given(seed=st.integers(0, 10_000), fs=st.sampled_from([100.0, 257.0, 500.0]))
def test_einthovens_equations_hold_for_derived_leads(seed, fs):
    eight = ("I", "II", *LEADS[6:])
    rng = np.random.default_rng(seed)
    record = Record(rng.normal(0, 0.5, (8, round(11 * fs))).astype(np.float32), fs, eight)
    result = conform(record)
    one, two, three, avr, avl, avf = result.signals[:6].astype(np.float64)
    for left, right in [
        (three, two - one),
        (avr, -(one + two) / 2),
        (avl, (one - three) / 2),
        (avf, (two + three) / 2),
    ]:
        np.testing.assert_allclose(left, right, atol=1e-5)
    assert "III, aVR, aVL, aVF derived from I and II" in result.notes


def test_only_the_missing_limb_leads_are_derived(synthetic_ecg):
    record = twelve_leads(synthetic_ecg, 100.0)
    without = order_leads(record, tuple(lead for lead in LEADS if lead != "aVL"))
    result = conform(without)
    assert result.notes == ("aVL derived from I and II",)
    np.testing.assert_allclose(result.signals, record.signals, atol=0.002)


@pytest.mark.parametrize("missing", ["V5", "II", "I"])
def test_a_lead_that_cannot_be_derived_makes_a_record_unusable(synthetic_ecg, missing):
    rest = tuple(lead for lead in LEADS if lead != missing)
    with pytest.raises(RecordError, match=f"lead {missing} missing"):
        conform(order_leads(twelve_leads(synthetic_ecg), rest))


def test_a_record_of_60_s_gives_its_first_10_and_says_so(synthetic_ecg):
    result = conform(twelve_leads(synthetic_ecg, 100.0, 60))
    np.testing.assert_array_equal(result.signals, twelve_leads(synthetic_ecg, 100.0, 60).signals[:, :1000])
    assert result.notes == ("60 s long: the first 10 s are used",)


@pytest.mark.parametrize("fs, n_samples", [(500.0, 2500), (500.0, 4999), (257.0, 2569), (100.0, 999), (100.0, 0)])
def test_a_record_under_10_s_is_unusable(fs, n_samples):
    with pytest.raises(RecordError, match="s long; 10 s are needed"):
        conform(Record(np.ones((1, n_samples), np.float32), fs, ("I",)), ("I",))


def test_missing_samples_count_only_where_they_would_be_used(synthetic_ecg):
    record = twelve_leads(synthetic_ecg, 500.0, 12)
    clean = conform(record)
    for position in (5001, 5900):
        signals = record.signals.copy()
        signals[4, position] = np.nan
        result = conform(Record(signals, 500.0, LEADS))
        assert np.isfinite(result.signals).all()
        np.testing.assert_allclose(result.signals[:, MIDDLE], clean.signals[:, MIDDLE], atol=1e-2)
    for bad in (np.nan, np.inf):
        signals = record.signals.copy()
        signals[4, 4999] = bad
        with pytest.raises(RecordError, match="1 samples of the first 10 s are missing"):
            conform(Record(signals, 500.0, LEADS))
    unused = Record(np.vstack([record.signals, np.full((1, 6000), np.nan, np.float32)]), 500.0, (*LEADS, "vx"))
    assert conform(unused).leads == LEADS


def test_a_flat_lead_is_named_and_stays_flat(synthetic_ecg):
    record = twelve_leads(synthetic_ecg)
    record.signals[10] = 0.25
    result = conform(record)
    assert result.notes == ("lead V5 is flat",)
    np.testing.assert_allclose(result.signals[10], 0.25, atol=1e-6)


def test_a_record_that_is_flat_in_every_lead_is_unusable():
    with pytest.raises(RecordError, match="flat in every lead"):
        conform(Record(np.zeros((12, 1000), np.float32), 100.0, LEADS))


@pytest.mark.parametrize("factor", [1000, 1e-3])
def test_a_wrong_unit_is_named_and_not_repaired(synthetic_ecg, factor):
    record = twelve_leads(synthetic_ecg, 100.0)
    result = conform(Record((record.signals * factor).astype(np.float32), 100.0, LEADS))
    assert "the unit or the gain looks wrong" in result.notes[0]
    np.testing.assert_allclose(result.signals, record.signals * factor, rtol=1e-6)


def test_limb_leads_under_each_others_names_are_noticed(synthetic_ecg):
    record = twelve_leads(synthetic_ecg)
    swapped = ("I", "II", "aVR", "III", *LEADS[4:])
    notes = conform(Record(record.signals, 500.0, swapped)).notes
    assert any(note.startswith("III, aVR contradicts I and II") for note in notes)
    with_chest = ("I", "II", "V1", "aVR", "aVL", "aVF", "III", *LEADS[7:])
    notes = conform(Record(record.signals, 500.0, with_chest)).notes
    assert any(note.startswith("III contradicts I and II") for note in notes)


def test_noise_and_offsets_in_limb_leads_are_no_misnaming(synthetic_ecg):
    record = twelve_leads(synthetic_ecg)
    offsets = np.linspace(-1, 1, 12, dtype=np.float32)[:, None]
    assert conform(Record(record.signals + offsets, 500.0, LEADS)).notes == ()
    noise = np.random.default_rng(0).normal(0, 0.3, (12, 1000)).astype(np.float32)
    assert conform(Record(noise, 100.0, LEADS)).notes == ()


@pytest.mark.parametrize("fs", [0.0, 10.0, float("nan"), float("inf")])
def test_a_sampling_frequency_too_low_to_use_is_refused(fs):
    with pytest.raises(RecordError, match="Hz"):
        conform(Record(np.ones((1, 10_000), np.float32), fs, ("I",)), ("I",))


def test_a_low_sampling_frequency_is_noted():
    result = conform(record_of(lambda time: np.sin(2 * np.pi * 3 * time), 64.0), ("I",))
    assert result.notes == ("sampled at 64 Hz: nothing above 32 Hz is in it",)
    assert result.signals.shape == (1, 1000)


def test_notes_of_the_reader_are_passed_on(synthetic_ecg):
    record = twelve_leads(synthetic_ecg)
    assert conform(Record(record.signals, 500.0, LEADS, ("read with care",))).notes == ("read with care",)


def test_the_paper_takes_every_kth_sample_and_scales_each_lead(synthetic_ecg):
    record = twelve_leads(synthetic_ecg, 1000.0, 12)
    plain = conform(record, preparation=PAPER_PTB)
    np.testing.assert_array_equal(plain.signals, record.signals[:, :10_000:10])
    scaled = conform(record, preparation=PAPER)
    np.testing.assert_allclose(scaled.signals.min(axis=1), -1, atol=1e-6)
    np.testing.assert_allclose(scaled.signals.max(axis=1), 1, atol=1e-6)
    for before, after in zip(plain.signals, scaled.signals, strict=True):
        assert np.corrcoef(before, after)[0, 1] > 0.999999
    with pytest.raises(RecordError, match="257 Hz"):
        conform(twelve_leads(synthetic_ecg, 257.0), preparation=PAPER)


def test_min_max_makes_a_flat_lead_zero_and_works_on_batches():
    signals = np.random.default_rng(0).normal(0, 1, (4, 2, 100)).astype(np.float32)
    signals[2, 1] = 7
    scaled = min_max(signals)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled[2, 1], 0)
    np.testing.assert_allclose(scaled[0].max(axis=-1), 1)


def test_the_contract_is_the_default(synthetic_ecg):
    record = twelve_leads(synthetic_ecg)
    np.testing.assert_array_equal(conform(record).signals, conform(record, preparation=CONTRACT).signals)
    assert conform(record).signals.dtype == np.float32
    assert conform(record).signals.flags.c_contiguous
