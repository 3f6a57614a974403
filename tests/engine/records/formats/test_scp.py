"""SCP-ECG records with known samples, and every way in which one can contradict itself."""

import struct
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.records.formats.scp import LEADS_BY_NUMBER, is_scp, open_scp
from engine.records.formats.scp_huffman import HuffmanCode, HuffmanTable, default_table, read_table
from engine.records.formats.scp_person import read_person
from engine.records.record import LEADS, RecordError
from engine.records.signal import conform
from tests.engine.records.formats.writers_scp import (
    DEFAULT_CODES,
    differences,
    encode,
    pointers_of,
    record_bytes,
    scp_bytes,
    sealed,
    table_bytes,
)

STORED = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
OWN_CODES = [(0b0, 1, 0, 0), (0b10, 2, 1, 0), (0b110, 3, -1, 0), (0b1110, 4, 0, 7), (0b11110, 5, 0, 16)]
LONG_CODES = [(0b0, 1, 0, 0), ((1 << 20) - 2, 20, 1, 0), ((1 << 20) - 1, 20, 0, 16)]
PERSON = {
    "patient": "4711-A",
    "name": "Müller",
    "first_name": "Änne",
    "birth": date(1950, 6, 30),
    "recorded": datetime(2020, 6, 29, 13, 5, 59),
    "sex": 2,
}


def ecg(n_leads=8, n_samples=5001, seed=0):
    """Whole numbers with small steps, large steps and both ends of 16 bits' half."""
    rng = np.random.default_rng(seed)
    signals = np.cumsum(rng.integers(-9, 10, (n_leads, n_samples)), axis=1)
    signals[:, 100:110] += np.array([0, 900, 2000, 8000, 4000, -3000, -8000, -700, 60, 0])
    return signals


@pytest.fixture
def opened(tmp_path):
    def open_bytes(content):
        path = tmp_path / "record.scp"
        path.write_bytes(content)
        return open_scp(path)

    return open_bytes


def refusal(opened, content):
    with pytest.raises(RecordError) as error:
        opened(content).record()
    return str(error.value)


@pytest.mark.parametrize("n_differences", [0, 1, 2])
@pytest.mark.parametrize("codes", [None, "default", OWN_CODES, LONG_CODES], ids=["none", "default", "own", "long"])
@pytest.mark.parametrize("even", [False, True])
def test_the_samples_are_those_that_were_written(opened, n_differences, codes, even):
    signals = ecg(n_samples=501)
    contents = opened(scp_bytes(signals, STORED, n_differences=n_differences, codes=codes, even=even))
    assert contents.leads == STORED
    assert (contents.fs, contents.n_samples, contents.unit, contents.notes) == (500.0, 501, "nV", ())
    assert contents.derived == ("III", "aVR", "aVL", "aVF")
    np.testing.assert_array_equal(contents.decode(), signals / 1000)


def test_the_standards_own_example_of_a_code_is_read():
    samples = [
        13,
        14,
        15,
        14,
        16,
        18,
        19,
        20,
        22,
        22,
        23,
        23,
        23,
        22,
        22,
        20,
        17,
        15,
        12,
        8,
        6,
        3,
        1,
        0,
        -2,
        -2,
        -3,
        -3,
    ]
    coded = bytes.fromhex("ff837fe0e6f1536559b65b964b9600")
    assert encode(differences(np.array(samples), 2), DEFAULT_CODES) == coded
    np.testing.assert_array_equal(default_table().decode(coded, 28), differences(np.array(samples), 2))


def test_amplitude_and_interval_are_exact(opened):
    contents = opened(scp_bytes(ecg(), STORED, 599.88, nanovolt=3750))
    assert contents.fs == 1e6 / 1667
    np.testing.assert_array_equal(contents.decode(), ecg() * 3750 / 1e6)


def test_a_record_becomes_twelve_leads(opened):
    ready = conform(opened(scp_bytes(ecg(), STORED)).record())
    assert ready.leads == LEADS
    assert ready.signals.shape == (12, 1000)


@pytest.mark.parametrize("version", [10, 13, 20, 22, 30])
def test_versions_are_read(opened, version):
    np.testing.assert_array_equal(opened(scp_bytes(ecg(), STORED, version=version)).decode(), ecg() / 1000)


@pytest.mark.parametrize("version", [0, 9, 40, 255])
def test_other_versions_are_refused(opened, version):
    assert "version" in refusal(opened, scp_bytes(ecg(), STORED, version=version))


def test_leads_are_named_by_number_and_none_is_taken_for_another(opened):
    numbers = [1, 2, 3, 8, 9, 10, 11, 16, 24, 31, 61, 62, 63, 64, 65, 0, 86, 255]
    contents = opened(scp_bytes(ecg(len(numbers)), numbers))
    assert contents.leads == (
        *("I", "II", "V1", "V6", "V7", "V2R", "V3R", "X", "Frank I", "I calibration"),
        *("III", "aVR", "aVL", "aVF", "-aVR", "SCP lead 0", "SCP lead 86", "SCP lead 255"),
    )
    assert sorted(LEADS_BY_NUMBER) == list(range(1, 86))
    assert len(set(LEADS_BY_NUMBER.values())) == 85
    assert {number for number, lead in LEADS_BY_NUMBER.items() if lead in LEADS} == {*range(1, 9), *range(61, 65)}
    assert [LEADS_BY_NUMBER[number] for number in (60, 66, 69, 72, 73, 78, 79, 85)] == [
        *("Frank H calibration", "V8", "V9R", "Nehb J", "defibrillator", "A4", "V8 calibration", "Nehb J calibration")
    ]


def test_the_person_and_the_time_are_read_and_kept_to_themselves(opened):
    contents = opened(
        scp_bytes(ecg(), STORED, **PERSON, fields=[(3, b"Schmidt\0"), (31, b"E-77\0"), (200, b"x" * 300)])
    )
    person = contents.person
    assert person.number == "4711-A"
    assert set(person.identity) == {"4711-A", "Müller", "Änne", "Schmidt", "E-77", "1950-06-30"}
    assert (person.age, person.sex) == (69.0, "female")
    assert contents.recorded == datetime(2020, 6, 29, 13, 5, 59)
    assert "Müller" not in repr(contents)
    assert "2020" not in repr(contents)


@pytest.mark.parametrize(
    ("language", "encoding", "name"),
    [
        (0x01, "latin-1", "Müller"),
        (0x03, "iso8859-2", "Dvořák"),
        (0x13, "iso8859-5", "Иванов"),
        (0x23, "iso8859-7", "Παπάς"),
        (0x07, "utf-16-le", "Łukasz 王"),
        (0x07, "utf-16", "Łukasz 王"),
        (0x27, "gb2312", "王小明"),
        (0x37, "utf-8", "Łukasz 王"),
    ],
)
def test_names_are_read_in_the_character_set_of_the_device(opened, language, encoding, name):
    contents = opened(scp_bytes(ecg(), STORED, name=name, patient="4711", language=language, encoding=encoding))
    assert contents.person.identity == ("4711", name)


@pytest.mark.parametrize(
    ("age", "years"),
    [((67, 1), 67.0), ((18, 2), 1.5), ((0, 1), None), ((40, 0), None), ((500, 1), None), ((40, 9), None)],
)
def test_an_age_has_a_unit(opened, age, years):
    assert opened(scp_bytes(ecg(), STORED, age=age)).person.age == years


def test_what_is_not_known_of_a_person_stays_unknown(opened):
    nothing = [(5, bytes(4)), (25, struct.pack("<HBB", 2020, 13, 1)), (26, bytes([25, 0, 0]))]
    contents = opened(scp_bytes(ecg(), STORED, patient="0000", name="ANONYMOUS", sex=9, fields=nothing))
    assert (contents.person.number, contents.person.identity) == (None, ())
    assert (contents.person.age, contents.person.sex, contents.recorded) == (None, None, None)


def test_a_field_longer_than_its_section_is_refused(opened):
    section = struct.pack("<BH", 2, 300) + b"4711\0"
    others = [(3, b"\1\x0c" + struct.pack("<IIB", 1, 1, 1)), (6, struct.pack("<HHBBHh", 1, 2000, 0, 0, 2, 7))]
    assert "field" in refusal(opened, record_bytes([(1, section), *others]))
    assert opened(record_bytes(others)).person.number is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"bimodal": 1}, "bimodal"),
        ({"flags": 0x45}, "reference beat"),
        ({"n_differences": 3}, "coded in a way"),
        ({"nanovolt": 0}, "no amplitude"),
        ({"fs": 1e7}, "no time"),
        ({"fs": 16}, "16 Hz"),
    ],
)
def test_what_would_have_another_meaning_is_refused_by_name(opened, changed, says):
    if changed == {"fs": 16}:  # 62,500 us are within two bytes
        assert opened(scp_bytes(ecg(), STORED, **changed)).fs == 16.0
    else:
        assert says in refusal(opened, scp_bytes(ecg(), STORED, **changed))


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (table_bytes([DEFAULT_CODES, OWN_CODES]), "several Huffman tables"),
        (table_bytes([OWN_CODES]).replace(b"\x02\x02\x01", b"\x02\x02\x00"), "several Huffman tables"),
        (table_bytes([[(0, 1, 0, 0), (1, 1, 5, 8)]]), "a value and bits of its own"),
        (table_bytes([[(0, 1, 0, 0), (0b01, 2, 1, 0)]]), "begins another"),
        (table_bytes([[(0, 1, 0, 0), (1, 1, 0, 17)]]), "impossible length"),
        (struct.pack("<HHBBBhI", 1, 1, 0, 0, 1, 0, 0), "impossible length"),
        (struct.pack("<HHBBBhI", 1, 1, 2, 1, 1, 0, 0), "impossible length"),
        (struct.pack("<HHBBBhI", 1, 1, 2, 2, 1, 0, 4), "impossible length"),
        (struct.pack("<HHBBBhI", 1, 1, 200, 200, 1, 0, 0), "impossible length"),
        (struct.pack("<HH", 1, 65535), "shorter than its Huffman table"),
        (struct.pack("<HH", 1, 0), "shorter than its Huffman table"),
        (struct.pack("<H", 1), "too short"),
    ],
)
def test_tables_that_are_not_read_are_refused_by_name(opened, section, says):
    content = scp_bytes(ecg(), STORED, codes=None, other_sections=[(2, section)])
    assert says in refusal(opened, content)


def test_a_section_of_no_table_means_no_such_coding(opened):
    content = scp_bytes(ecg(), STORED, codes=None, other_sections=[(2, struct.pack("<H", 0))])
    np.testing.assert_array_equal(opened(content).decode(), ecg() / 1000)


def test_leads_of_different_times_are_refused_and_unsaid_ones_are_noted(opened):
    content = scp_bytes(ecg(), STORED)
    _number, start, _length = next(place for place in pointers_of(content) if place[0] == 3)
    moved = bytearray(content)
    struct.pack_into("<II", moved, start + 18 + 9, 5002, 10002)
    assert "same time" in refusal(opened, sealed(bytes(moved)))
    assert opened(scp_bytes(ecg(), STORED, flags=0)).notes == (
        "it does not say that its leads were recorded at the same time",
    )


@pytest.mark.parametrize("n_differences", [1, 2])
def test_sums_beyond_16_bits_are_refused(opened, n_differences):
    steps = np.zeros((1, 100), np.int64)
    steps[0, :50] = 30000
    contents = opened(scp_bytes(steps, ["I"], n_differences=0, codes=None))
    assert contents.decode().max() == 30.0
    stored = bytearray(scp_bytes(steps, ["I"], n_differences=0, codes=None))
    _number, start, _length = next(place for place in pointers_of(bytes(stored)) if place[0] == 6)
    stored[start + 16 + 4] = n_differences
    assert "16 bits" in refusal(opened, sealed(bytes(stored)))


@pytest.mark.parametrize("codes", [None, "default"])
@pytest.mark.parametrize("samples", [-20, -1, 8, 20, 2**31])
def test_another_number_of_samples_than_the_bits_give_is_refused(opened, codes, samples):
    signals = ecg()
    signals[:, -30:] = np.arange(30) ** 3  # steps that no zeros at the end look like
    content = bytearray(scp_bytes(signals, STORED, codes=codes))
    _number, start, _length = next(place for place in pointers_of(bytes(content)) if place[0] == 3)
    for lead in range(8):
        struct.pack_into("<I", content, start + 18 + 9 * lead + 4, 5001 + samples)
    assert refusal(opened, sealed(bytes(content)))


@pytest.mark.parametrize(
    ("section", "at", "value"),
    [
        (3, 16, 9),  # more leads than described
        (3, 16, 7),  # fewer
        (3, 16, 0),
        (3, 18, 2),  # a lead that begins later
        (6, 22, 255),  # a lead's length
        (6, 4, 200),  # a section's length
        (6, 2, 7),  # a section's number
    ],
)
def test_a_record_that_contradicts_itself_is_refused_with_right_checksums(opened, section, at, value):
    content = bytearray(scp_bytes(ecg(), STORED))
    _number, start, _length = next(place for place in pointers_of(bytes(content)) if place[0] == section)
    assert content[start + at] != value
    content[start + at] = value
    assert refusal(opened, sealed(bytes(content)))


def test_the_numbers_of_leads_and_bytes_have_to_agree(opened):
    content = scp_bytes(ecg(), STORED, codes=None)
    assert "longer than its number of leads" in refusal(opened, changed_in(content, 3, 16, b"\x07"))
    assert "shorter than its number of leads" in refusal(opened, changed_in(content, 3, 16, b"\x09"))
    for first, last in ((0, 5000), (2, 1), (5, 4)):
        described = b"".join(struct.pack("<IIB", first, last, number) for number in range(1, 9))
        assert "go from sample" in refusal(opened, changed_in(content, 3, 18, described))
    assert "lengths of its leads" in refusal(opened, changed_in(content, 6, 22, struct.pack("<H", 10000)))
    assert "lengths of its leads" in refusal(opened, changed_in(content, 6, 22 + 14, struct.pack("<H", 10004)))


def changed_in(content, section, at, value):
    """The record with other bytes from a place of a section on, its checksums right again."""
    changed = bytearray(content)
    _number, start, _length = next(place for place in pointers_of(content) if place[0] == section)
    changed[start + at : start + at + len(value)] = value
    return sealed(bytes(changed))


def test_bits_that_no_code_begins_with_are_refused():
    table = HuffmanTable((HuffmanCode(0b10, 2, 5),))
    np.testing.assert_array_equal(table.decode(b"\xa8", 3), [5, 5, 5])
    for bits in (b"\x28", b"\xe8", b"\xb8"):
        with pytest.raises(RecordError, match="not in the table"):
            table.decode(bits, 3)
    gap = HuffmanTable((HuffmanCode(0b00, 2, 5), HuffmanCode(0b10, 2, 6)))
    with pytest.raises(RecordError, match="not in the table"):
        gap.decode(b"\x40", 1)


def test_a_lead_has_to_end_where_its_bytes_do():
    table = default_table()
    long = encode(np.array([9000]), DEFAULT_CODES)  # 26 bits
    assert table.decode(long, 1).tolist() == [9000]
    assert table.decode(long[:3] + bytes([long[3]]), 7).tolist() == [9000] + [0] * 6  # the bits that fill up a byte
    for n_bytes, n_values in ((1, 1), (2, 1), (3, 1), (4, 8)):
        with pytest.raises(RecordError, match="end before"):
            table.decode(long[:n_bytes], n_values)
    assert table.decode(b"\0\0", 1).tolist() == [0]
    three = encode(np.array([4, 4]), DEFAULT_CODES)
    assert len(three) == 2
    for data, n_values in ((b"\0\1", 1), (three + b"\0", 2), (bytes(4), 1)):
        with pytest.raises(RecordError, match="go on"):
            table.decode(data, n_values)


def test_parts_that_are_cut_are_refused():
    with pytest.raises(RecordError, match="section 2"):
        read_table(b"\x1f")
    with pytest.raises(RecordError, match="section 1"):
        read_person(struct.pack("<BH", 2, 2) + b"A\0" + b"\x07\x01")
    patient = struct.pack("<BH", 2, 3) + b"A7\0"
    assert read_person(patient + bytes(2))[0].number == "A7"
    assert read_person(patient + b"\xff\0\0" + b"what follows the end")[0].number == "A7"


def test_every_checksum_is_looked_at(opened):
    content = scp_bytes(ecg(), STORED, **PERSON)
    for number, start, length in pointers_of(content):
        if number == 0:
            continue
        damaged = bytearray(content)
        damaged[start + length - 3] ^= 4
        assert f"checksum of section {number}" in refusal(opened, bytes(damaged))
    assert "checksum of the record" in refusal(opened, bytes([content[0] ^ 1]) + content[1:])
    assert "checksum of section 0" in refusal(opened, content[:15] + b"\x15" + content[16:])


def test_pointers_that_lead_elsewhere_are_refused(opened):
    content = scp_bytes(ecg(), STORED)
    for at in (23 + 9, 32 + 2, 32 + 6, 32 + 9, 22 + 6, 32):  # of the first two pointers
        damaged = bytearray(content)
        damaged[at] ^= 2
        assert "section" in refusal(opened, sealed_pointers(damaged))
    for index in (0, 6, len(content) - 4, len(content) - 2):
        lost = content[:34] + struct.pack("<II", 5, index) + content[42:]
        assert "leads out of the file" in refusal(opened, lost)
    assert "first pointer" in refusal(opened, sealed_pointers(bytearray(content[:24] + bytes(4) + content[28:])))
    odd = bytearray(content[:10] + struct.pack("<I", 137) + content[14:24] + struct.pack("<I", 137) + content[28:])
    assert "section 0" in refusal(opened, sealed_pointers(odd))
    assert "leads out of the file" in refusal(opened, content[:34] + b"\xff\xff\xff\x7f" + content[38:])
    twice = bytearray(content)
    twice[42:52] = twice[32:42]
    assert "two pointers to section 1" in refusal(opened, bytes(twice))


def sealed_pointers(content):
    """The checksums of section 0 and of the record right again, as if their writer had meant it so."""
    import binascii

    length = struct.unpack_from("<I", content, 10)[0]
    struct.pack_into("<H", content, 6, binascii.crc_hqx(bytes(content[8 : 6 + length]), 0xFFFF))
    struct.pack_into("<H", content, 0, binascii.crc_hqx(bytes(content[2:]), 0xFFFF))
    return bytes(content)


def test_cut_and_lengthened_files_are_refused(opened):
    content = scp_bytes(ecg(), STORED)
    for end in (0, 5, 21, 22, 31, 32, 100, 200, len(content) // 2, len(content) - 1):
        assert refusal(opened, content[:end])
    assert "bytes" in refusal(opened, content + content)
    np.testing.assert_array_equal(opened(content + bytes(100)).decode(), ecg() / 1000)
    longer = content[:2] + struct.pack("<I", len(content) + 9) + content[6:]
    assert "cut off" in refusal(opened, sealed_pointers(bytearray(longer)))
    ends_in_zeros = scp_bytes(ecg(), STORED, other_sections=[(8, bytes(40))])
    shorter = ends_in_zeros[:2] + struct.pack("<I", len(ends_in_zeros) - 9) + ends_in_zeros[6:]
    assert "beyond its end" in refusal(opened, shorter)


def test_records_without_rhythm_or_leads_are_refused(opened):
    assert "no rhythm data" in refusal(opened, record_bytes([(1, b"\xff\0\0\0"), (3, b"\1\4" + bytes(10))]))
    assert "which leads" in refusal(opened, record_bytes([(6, bytes(20))]))
    assert "section 12" in refusal(opened, record_bytes([(12, bytes(20))], version=30))
    long_term = scp_bytes(ecg(), STORED, version=30, other_sections=[(12, bytes(20))])
    assert opened(long_term).notes == ("its long-term rhythm data (section 12) are left out",)


def test_a_manufacturers_section_may_be_as_it_likes(opened):
    content = bytearray(scp_bytes(ecg(), STORED, other_sections=[(130, b"own" * 10)]))
    _number, start, _length = next(place for place in pointers_of(bytes(content)) if place[0] == 130)
    content[start : start + 16] = b"no header at all"
    np.testing.assert_array_equal(opened(sealed(bytes(content))).decode(), ecg() / 1000)


def test_scp_is_told_by_its_content():
    content = scp_bytes(ecg(), STORED)
    unmarked = content[:16] + bytes(6) + content[22:]
    assert is_scp(content[:32])
    assert is_scp(unmarked[:64])
    assert not any(is_scp(other) for other in (b"", content[:20], b"<?xml version" * 9, bytes(64), b"\xff" * 64))


def test_no_time_is_spent_on_what_a_small_file_claims(opened):
    zeros = np.zeros((255, 60000), np.int64)
    assert opened(scp_bytes(zeros[:20], [1] * 20, codes="default")).n_samples == 60000
    content = bytearray(scp_bytes(zeros[:, :2000], [1] * 255, codes="default"))
    _number, start, _length = next(place for place in pointers_of(bytes(content)) if place[0] == 3)
    for lead in range(255):
        struct.pack_into("<I", content, start + 18 + 9 * lead + 4, 2**32 - 1)
    assert "claims" in refusal(opened, sealed(bytes(content)))


@FUZZ
@given(data=st.data())
def test_a_changed_byte_is_never_read_in_silence(tmp_path, data):
    content = scp_bytes(ecg(2, 300), ["I", "II"], **PERSON)
    at = data.draw(st.integers(0, len(content) - 1))
    damaged = bytearray(content)
    damaged[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "record.scp"
    path.write_bytes(bytes(damaged))
    with pytest.raises(RecordError):
        open_scp(path).record()


@FUZZ
@given(data=st.data())
def test_a_change_that_has_right_checksums_ends_in_a_sentence_or_a_record(tmp_path, data):
    codes = data.draw(st.sampled_from([None, "default", OWN_CODES, LONG_CODES]))
    content = bytearray(scp_bytes(ecg(2, 150), ["I", "II"], codes=codes, **PERSON))
    sections = [place for place in pointers_of(bytes(content)) if place[0]]
    for _ in range(data.draw(st.integers(1, 3))):
        _number, start, length = data.draw(st.sampled_from(sections))
        content[data.draw(st.integers(start, start + length - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "record.scp"
    path.write_bytes(sealed(bytes(content)))
    try:
        record = open_scp(path).record()
    except RecordError:
        return
    assert record.signals.shape == (2, 150)


@FUZZ
@given(data=st.data())
def test_any_table_and_values_come_back(data):
    codes, free = [], [(0, 0)]
    for k in range(data.draw(st.integers(1, 12))):
        prefix, n_bits = free.pop(data.draw(st.integers(0, len(free) - 1)))
        if n_bits == 32:
            continue
        free.append((prefix << 1 | 1, n_bits + 1))
        codes.append((prefix << 1, n_bits + 1, 0 if k % 3 == 2 else k - 4, 9 + k // 3 if k % 3 == 2 else 0))
    table = HuffmanTable(tuple(HuffmanCode(*code) for code in codes))
    exact = [value for _prefix, _n_bits, value, following in codes if not following]
    width = max((following for *_rest, following in codes), default=0)
    numbers = st.integers(-(1 << width - 1), (1 << width - 1) - 1) if width else st.nothing()
    known = st.sampled_from(exact) | numbers if exact else numbers
    values = np.array(data.draw(st.lists(known, min_size=1, max_size=60)))
    np.testing.assert_array_equal(table.decode(encode(values, codes), len(values)), values)
