"""DICOM waveforms with known samples: every way of saying the same is read to the same, the rest is refused."""

import builtins
import logging
import warnings
import zlib
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from engine.records.formats.contents import Contents
from engine.records.formats.dicom import open_dicom
from engine.records.record import LEADS, RecordError
from engine.records.signal import conform
from tests.engine.records.formats.writers_dicom import Channel, Group, channel_of, dicom_bytes, dicom_file

COUNTS = np.random.default_rng(7).integers(-900, 900, (12, 1000))
CHANNELS = [channel_of(lead) for lead in LEADS]
GROUP = Group(COUNTS, CHANNELS, "500")


@pytest.fixture
def opened(tmp_path: Path):
    def open_content(content: bytes) -> Contents:
        file = tmp_path / "ecg.dcm"
        file.write_bytes(content)
        return open_dicom(file)

    return open_content


def with_channel(row: int, channel: Channel, group: Group = GROUP) -> Group:
    return replace(group, channels=[channel if k == row else one for k, one in enumerate(group.channels)])


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "deflated"])
def test_every_transfer_syntax_gives_the_same_samples(opened, syntax: str, undefined: bool):
    contents = opened(dicom_file([GROUP], syntax=syntax, undefined=undefined))
    assert contents.leads == LEADS
    assert (contents.fs, contents.n_samples, contents.unit) == (500.0, 1000, "uV")
    assert np.array_equal(contents.decode(), COUNTS * 1e-3)
    assert contents.notes == () and contents.faults == ()


def test_a_file_without_preamble_is_read_if_it_begins_with_a_group_of_elements(opened):
    content = dicom_file([GROUP])
    assert np.array_equal(opened(content[132:]).decode(), COUNTS * 1e-3)
    with pytest.raises(RecordError, match="it is not a DICOM file"):
        opened(b"\x09" + content[133:])


def test_the_person_and_the_time_are_read_and_never_shown(opened):
    contents = opened(dicom_bytes(COUNTS, LEADS, 500.0))
    person = contents.person
    assert person.number == "4711"
    assert {"4711", "Roe^Jane", "Roe", "Jane", "Jane Roe", "Roe Jane", "19500615"} <= set(person.identity)
    assert (person.age, person.sex) == (69.0, "female")
    assert contents.recorded == datetime(2020, 3, 4, 10, 11, 12)
    assert not any(text in repr(contents) for text in person.identity)


def test_all_numbers_and_names_of_a_person_are_in_the_identity(opened):
    elements = [
        (0x00080005, "CS", "ISO_IR 100"),
        (0x00080020, "DA", "20190102"),
        (0x00080030, "TM", "101112.5"),
        (0x00080050, "SH", "ACC-9"),
        (0x00100010, "PN", "M\xfcller^Ida^Maria^Dr^=X^Y"),
        (0x00100020, "LO", "ANONYMOUS"),
        (0x00101000, "LO", "A17\\B18"),
        (0x00101002, "SQ", [[(0x00100020, "LO", "C19")]]),
        (0x00101010, "AS", "018M"),
        (0x00101040, "LO", "Elm Street 1"),
        (0x00380010, "LO", "ADM-5"),
    ]
    contents = opened(dicom_file([GROUP], elements))
    assert contents.person.number == "A17"
    expected = {
        "A17",
        "B18",
        "C19",
        "ACC-9",
        "ADM-5",
        "M\xfcller",
        "Ida",
        "Maria",
        "Ida Maria M\xfcller",
        "Elm Street 1",
    }
    assert expected <= set(contents.person.identity)
    assert {"ANONYMOUS", "Dr", "X", ""}.isdisjoint(contents.person.identity)
    assert contents.person.age == 1.5
    assert contents.recorded == datetime(2019, 1, 2, 10, 11, 12)


@pytest.mark.parametrize(
    ("age", "stated"),
    [("063Y", 63.0), ("63Y", 63.0), ("006M", 0.5), ("010D", 10 / 365.25), ("200Y", None), ("63", None), ("", None)],
)
def test_an_age_is_counted_from_the_birth_date_else_the_one_that_is_stated(opened, age: str, stated: float | None):
    elements = [(0x00101010, "AS", age), (0x0008002A, "DT", "20200304+0100")]
    assert opened(dicom_file([GROUP], elements)).person.age == pytest.approx(stated)
    elements.append((0x00100030, "DA", "19700305"))
    assert opened(dicom_file([GROUP], elements)).person.age == 49.0


def test_without_elements_of_a_person_there_is_none(opened):
    contents = opened(dicom_file([GROUP]))
    assert (contents.person.number, contents.person.identity, contents.recorded) == (None, (), None)
    assert (contents.person.age, contents.person.sex) == (None, None)


def test_samples_are_scaled_with_sensitivity_correction_and_baseline_in_each_channels_unit(opened):
    channels = [
        channel_of("I", sensitivity="2.5", correction="1.1", baseline="-40"),
        channel_of("II", sensitivity="0.004", unit="mV", baseline="0.25", correction=None),
        channel_of("V1", sensitivity="1e-6", unit="V", baseline=None),
    ]
    contents = opened(dicom_file([Group(COUNTS[:3], channels, "500")]))
    expected = np.stack([(COUNTS[0] * 2.5 * 1.1 - 40) / 1000, COUNTS[1] * 0.004 + 0.25, COUNTS[2] * 1e-3])
    np.testing.assert_allclose(contents.decode(), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["SB", "UB", "SS", "US", "SL", "UL"])
@pytest.mark.parametrize("syntax", ["explicit", "big"])
def test_all_types_of_samples_are_read(opened, kind: str, syntax: str):
    counts = np.arange(33 * 3).reshape(3, 33) % 90 - (40 if kind[0] == "S" else 0)  # an odd number of bytes
    group = Group(counts, CHANNELS[:3], "250", kind=kind)
    assert np.array_equal(opened(dicom_file([group], syntax=syntax)).decode(), counts * 1e-3)


@pytest.mark.parametrize(("kind", "word"), [("MB", "mu-law"), ("AB", "A-law")])
def test_companded_samples_are_refused_by_name(opened, kind: str, word: str):
    with pytest.raises(RecordError, match=f"companded by {word}"):
        opened(dicom_file([replace(GROUP, counts=np.abs(COUNTS) % 100, kind=kind)]))


@pytest.mark.parametrize(
    ("channel", "lead"),
    [
        (Channel("5.6.3-9-61", meaning="whatever"), "III"),
        (Channel("2:62", "MDC", "MDC_ECG_LEAD_aVR"), "aVR"),
        (Channel("2:62", "99LOCAL", "something"), "something"),
        (Channel("5.6.3-9-0", meaning="", label="ECG V6"), "V6"),
        (Channel(None, meaning="Lead I (Einthoven)"), "I"),
        (Channel(None, meaning="aVF, augmented voltage, foot"), "aVF"),
        (Channel("131", "99LOCAL", "Unknown", label="II"), "II"),
        (Channel(None, meaning="Derived Lead I"), "Derived Lead I"),
        (Channel("5.6.3-9-11", meaning="Lead V3R"), "V3R"),
        (Channel("2:9", "MDC", ""), "V7"),
        (Channel(None), "channel 1"),
    ],
)
def test_a_lead_is_told_by_its_code_else_by_its_text(opened, channel: Channel, lead: str):
    contents = opened(dicom_file([Group(COUNTS[:2], [channel, channel_of("V2")], "500")]))
    assert contents.leads == (lead, "V2")
    assert contents.faults == ()


@pytest.mark.parametrize("code", ["5.6.3-9-2", "5.6.3-9-65"])
def test_a_code_and_a_name_of_different_leads_make_the_channel_unusable(opened, code: str):
    contents = opened(dicom_file([with_channel(6, Channel(code, meaning="Lead V1"))]))
    assert [row for row, _reason in contents.faults] == [6]
    assert "code and name" in contents.faults[0][1]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sensitivity": None}, "no sensitivity of V1"),
        ({"sensitivity": "0"}, "the sensitivity of V1 is 0"),
        ({"unit": None}, "no unit of V1"),
        ({"unit": "mm[Hg]"}, r"unit mm\[Hg\] of V1 is not a voltage"),
        ({"time_skew": "0.004"}, "V1 was sampled 2 samples before or after"),
        ({"sample_skew": "-3"}, "V1 was sampled 3 samples before or after"),
        ({"time_skew": "nan"}, "V1 was sampled nan samples before or after"),
    ],
)
def test_a_channel_that_is_not_scaled_or_is_skewed_is_a_fault_of_that_lead_alone(opened, fields: Any, reason: str):
    contents = opened(dicom_file([with_channel(6, channel_of("V1", **fields))]))
    assert contents.sound_leads == tuple(lead for lead in LEADS if lead != "V1")
    with pytest.raises(RecordError, match=reason):
        conform(contents.record(), seconds=2.0)
    record = contents.record()
    assert np.isnan(record.signals[6]).all()
    assert np.array_equal(np.delete(record.signals, 6, 0), (np.delete(COUNTS, 6, 0) * 1e-3).astype(np.float32))


def test_a_skew_of_a_sample_is_noted_and_one_that_all_leads_have_is_none(opened):
    contents = opened(dicom_file([with_channel(6, channel_of("V1", sample_skew="1"))]))
    assert contents.faults == ()
    assert contents.notes == ("its leads were sampled up to 2 ms apart",)
    alike = [channel_of(lead, time_skew="0.1") for lead in LEADS]
    assert opened(dicom_file([replace(GROUP, channels=alike)])).notes == ()


def test_the_original_signals_are_read_and_not_the_longer_or_earlier_median(opened):
    median = replace(GROUP, counts=np.zeros((12, 3000), int), originality="DERIVED")
    contents = opened(dicom_file([median, GROUP]))
    assert np.array_equal(contents.decode(), COUNTS * 1e-3)
    assert contents.notes == ()


def test_the_longest_of_original_groups_of_leads_is_read_and_the_others_noted(opened):
    short = Group(COUNTS[:3, :100], CHANNELS[:3], "100")  # as many seconds as the next, of fewer leads
    pressure = Group(COUNTS[:1], [Channel(None, meaning="Arterial", unit="mm[Hg]")], "100")
    contents = opened(dicom_file([short, pressure, replace(GROUP, counts=COUNTS[:, :500])]))
    assert contents.n_samples == 500
    assert contents.notes == ("1 more group of leads in its file: not read",)


LIMB, CHEST = (replace(GROUP, counts=COUNTS[half], channels=CHANNELS[half]) for half in (slice(6), slice(6, 12)))


@pytest.mark.parametrize(
    ("of_limb", "of_chest"),
    [({}, {}), ({"time_offset": "0"}, {}), ({"time_offset": "2500"}, {"time_offset": "2500.0"}), ({"fs": "500.0"}, {})],
)
def test_groups_of_different_leads_of_one_time_are_one_recording(opened, of_limb: Any, of_chest: Any):
    median = replace(GROUP, counts=np.zeros((12, 300), int), originality="DERIVED")
    padded = COUNTS[6:].copy()
    padded[2, 5] = -32768
    chest = replace(CHEST, counts=padded, padding=-32768, **of_chest)
    contents = opened(dicom_file([median, replace(LIMB, **of_limb), chest]))
    assert (contents.leads, contents.fs, contents.n_samples, contents.notes) == (LEADS, 500.0, 1000, ())
    expected = COUNTS * 1e-3
    expected[8, 5] = np.nan
    assert np.array_equal(contents.decode(), expected, equal_nan=True)
    chest = replace(chest, channels=[channel_of("V1", unit="kg"), *CHANNELS[7:]])
    assert [row for row, _reason in opened(dicom_file([replace(LIMB, **of_limb), chest])).faults] == [6]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"time_offset": "2500"}, True),
        ({"fs": "250", "counts": COUNTS[6:, :400]}, True),
        ({"counts": COUNTS[6:, :999]}, True),
        ({"channels": [channel_of("II"), *CHANNELS[7:]]}, True),
        ({"channels": CHANNELS[:6]}, False),
    ],
)
def test_groups_that_are_not_of_one_time_or_have_the_same_leads_are_noted_with_what_is_lost(opened, fields, named):
    contents = opened(dicom_file([LIMB, replace(CHEST, **fields)]))
    assert contents.leads == LEADS[:6]
    lost = [lead for lead in LEADS[6:] if "channels" not in fields or lead != "V1"]
    said = f" ({', '.join(lost)})" if named else ""
    assert contents.notes == (f"1 more group of leads in its file: not read{said}",)


def test_a_group_that_would_be_joined_and_is_damaged_is_refused(opened):
    with pytest.raises(RecordError, match="of 6 channels and has 10,800 bytes"):
        opened(dicom_file([LIMB, replace(CHEST, counts=COUNTS[6:, :900], n_samples=1000)]))


@pytest.mark.parametrize("step", [0.2, 0.3])
def test_leads_that_are_sampled_one_after_the_other_are_all_used(opened, step: float):
    channels = [channel_of(lead, time_skew=f"{k * step / 1000:.4f}") for k, lead in enumerate(LEADS)]
    contents = opened(dicom_file([replace(GROUP, channels=channels)]))
    assert contents.faults == ()
    assert contents.notes == (f"its leads were sampled up to {11 * step:.3g} ms apart",)


def test_of_two_halves_that_are_apart_one_is_used(opened):
    late = [channel_of(lead, sample_skew="3") for lead in LEADS[6:]]
    contents = opened(dicom_file([replace(GROUP, channels=[*CHANNELS[:6], *late])]))
    assert [row for row, _reason in contents.faults] == [6, 7, 8, 9, 10, 11]


def test_derived_signals_alone_are_read_and_called_so(opened):
    contents = opened(dicom_file([replace(GROUP, originality="DERIVED")]))
    assert contents.notes == ("its file calls these signals derived",)


def test_without_originality_the_longest_is_read(opened):
    median = replace(GROUP, counts=COUNTS[:, :100], originality=None)
    assert opened(dicom_file([median, replace(GROUP, originality=None)])).n_samples == 1000


def test_padding_is_missing(opened):
    counts = COUNTS.copy()
    counts[2, 5] = counts[:, 999] = -32768
    signals = opened(dicom_file([replace(GROUP, counts=counts, padding=-32768)])).decode()
    assert np.isnan(signals).sum() == 13
    assert np.isnan(signals[2, 5]) and np.isnan(signals[:, 999]).all()


def test_padding_of_zero_is_missing_only_where_all_leads_have_it_for_a_second(opened):
    counts = np.where(COUNTS == 0, 1, COUNTS)
    counts[:, 100:599] = counts[3] = 0
    assert not np.isnan(opened(dicom_file([replace(GROUP, counts=counts, padding=0)])).decode()).any()
    counts[:, 500:1000] = 0
    signals = opened(dicom_file([replace(GROUP, counts=counts, padding=0)])).decode()
    assert np.isnan(signals[:, 100:]).all() and not np.isnan(signals[:, :100]).any()


def test_padding_of_zero_in_unsigned_samples_is_missing_everywhere(opened):
    counts = COUNTS + 1000
    counts[1, 3] = 0
    signals = opened(dicom_file([replace(GROUP, counts=counts, kind="US", padding=0)])).decode()
    assert np.argwhere(np.isnan(signals)).tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ([(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.104.1")], "a document, as the PDF of an ECG"),
        ([(0x00280010, "US", 512)], "an image and no signals"),
        ([(0x00041130, "CS", "X")], "a DICOMDIR"),
        ([], "no waveform"),
    ],
)
def test_what_holds_no_waveform_is_refused_as_what_it_is(opened, elements: Any, sentence: str):
    with pytest.raises(RecordError, match=sentence):
        opened(dicom_file([], elements))


def test_waveforms_without_an_ecg_lead_are_refused(opened):
    group = Group(COUNTS[:1], [Channel(None, meaning="Arterial", unit="mm[Hg]")], "100")
    with pytest.raises(RecordError, match="none of its channels is a lead"):
        opened(dicom_file([group]))


@pytest.mark.parametrize("n_samples", [0, 999, 1001, 4_000_000_000])
def test_a_number_of_samples_that_is_not_there_is_refused(opened, n_samples: int):
    with pytest.raises(RecordError, match=r"it says .* samples of 12 channels and has 24,000 bytes"):
        opened(dicom_file([replace(GROUP, n_samples=n_samples)]))


def test_channels_that_are_not_described_are_refused(opened):
    content = dicom_file([GROUP])
    more = content.replace(b"\x3a\x00\x05\x00US\x02\x00\x0c\x00", b"\x3a\x00\x05\x00US\x02\x00\x0d\x00")
    assert more != content
    with pytest.raises(RecordError, match="it says 13 channels and describes 12"):
        opened(more)


def test_cut_files_are_refused(opened):
    for syntax in ("explicit", "deflated"):
        content = dicom_bytes(COUNTS[:, :40], LEADS, 500.0, syntax=syntax)
        opened(content)
        for length in range(0, len(content) - 1, 97):
            with pytest.raises(RecordError):
                opened(content[:length])


def test_damage_never_ends_in_another_exception(opened):
    content = dicom_bytes(COUNTS[:, :40], LEADS, 500.0)
    random = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(128, len(content), 3)] = random.integers(0, 256, 3)
        try:
            opened(damaged.tobytes()).record()
        except RecordError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 50 < refused < 400


def test_a_deflated_file_cannot_grow_without_end(opened):
    packer = zlib.compressobj(wbits=-15)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(250)) + packer.flush()
    content = dicom_file([], syntax="deflated")
    for damaged in (content[: 132 + 12 + 30] + bomb, content + b"more"):
        with pytest.raises(RecordError, match="deflated elements are cut, or too many"):
            opened(damaged)


def test_elements_without_number_are_refused(opened):
    items = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 100_000
    content = dicom_file([])
    sequence = b"\x00\x54\x00\x01SQ\x00\x00" + len(items).to_bytes(4, "little") + items
    with pytest.raises(RecordError):
        opened(content + sequence)


def test_nothing_of_what_pydicom_says_gets_out(opened, caplog, capfd):
    content = dicom_bytes(COUNTS, LEADS, 500.0, patient="12345678" * 12, birth=date(1950, 1, 1))
    content = content.replace(b"19500101", b"1950-XX1")
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        assert opened(content).person.number == "12345678" * 12
        assert not logging.getLogger("pydicom").disabled
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_missing_pydicom_names_the_extra(opened, monkeypatch):
    found = builtins.__import__

    def import_without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "pydicom":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", import_without)
    with pytest.raises(RecordError) as raised:
        opened(dicom_file([GROUP]))
    assert str(raised.value) == "reading DICOM needs pydicom: pip install 'ecgadvise[formats]'"


def test_the_file_that_pydicom_brings_is_read_as_pydicom_reads_it():
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "waveform_ecg.dcm"
    contents = open_dicom(path)
    dataset = pydicom.dcmread(path)
    microvolt = dataset.waveform_array(0)  # of the group that is the rhythm; its unit is that of the channels
    assert [channel.ChannelSensitivityUnitsSequence[0].CodeValue for channel in
            dataset.WaveformSequence[0].ChannelDefinitionSequence] == ["uV"] * 12  # fmt: skip
    assert contents.leads == LEADS
    assert (contents.fs, contents.n_samples) == (1000.0, 10000)
    np.testing.assert_allclose(contents.decode(), microvolt.T / 1000, atol=1e-12)
    assert contents.person.number is not None
