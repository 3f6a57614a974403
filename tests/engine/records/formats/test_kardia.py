"""AliveCor's ATC files give the samples that were written, and what is damaged is refused."""

import struct
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from engine.records.formats.kardia import SIGNATURE, open_kardia
from engine.records.record import LEADS, RecordError
from tests.engine.records.formats.writers_kardia import block, kardia_bytes

FMT = struct.Struct("<BHHBH")


def signals(n_leads=6, n_samples=900):
    """(leads, samples) in microvolt, of whole counts of 0.5 uV."""
    t = np.arange(n_samples) / 300
    return np.round([800 * np.sin(2 * np.pi * (1 + 0.1 * k) * t + k) for k in range(n_leads)]) / 2


def opened(content: bytes, tmp_path: Path):
    path = tmp_path / "ecg.atc"
    path.write_bytes(content)
    return open_kardia(path)


def head(*blocks: bytes, version: int = 4) -> bytes:
    return SIGNATURE + struct.pack("<I", version) + b"".join(blocks)


def fmt(kind=1, fs=300, nanovolt=500) -> bytes:
    return block(b"fmt ", FMT.pack(kind, fs, nanovolt, 0, 0))


@pytest.mark.parametrize("n_leads", [1, 2, 6, 12])
@pytest.mark.parametrize("version", [2, 5])
def test_the_samples_are_exact_and_averages_and_annotations_are_left_alone(n_leads, version, tmp_path):
    leads = LEADS[:n_leads]
    contents = opened(kardia_bytes(signals(n_leads), leads, version=version), tmp_path)
    assert contents.leads == leads
    assert (contents.fs, contents.n_samples, contents.unit) == (300.0, 900, "nV")
    assert np.array_equal(contents.decode(), signals(n_leads) / 1000)
    assert contents.record().signals.shape == (n_leads, 900)


def test_the_blocks_are_where_the_specifications_example_has_them():
    content = kardia_bytes(signals(1), ("I",))
    assert (content[12:16], content[288:292], content[308:312]) == (b"info", b"fmt ", b"ecg ")
    assert struct.unpack_from("<BHH", content, 296) == (1, 300, 500)
    assert content[20:49] == b"2021-12-08T15:54:23.245+10:00"


def test_the_leads_are_told_by_their_blocks_not_by_their_order(tmp_path):
    contents = opened(kardia_bytes(signals(3), ("aVF", "I", "V6")), tmp_path)
    assert contents.leads == ("I", "aVF", "V6")
    assert np.array_equal(contents.decode(), signals(3)[[1, 0, 2]] / 1000)


def test_the_resolution_of_the_file_counts(tmp_path):
    content = head(fmt(fs=250, nanovolt=2000), block(b"ecg ", struct.pack("<3h", -32768, 5, 32767)))
    contents = opened(content, tmp_path)
    assert contents.fs == 250.0
    assert np.array_equal(contents.decode(), [[-65.536, 0.01, 65.534]])
    assert (contents.person.number, contents.person.identity, contents.recorded) == (None, (), None)


def test_the_owners_devices_are_not_a_patients_number_but_identify(tmp_path):
    contents = opened(kardia_bytes(signals(), patient="phone-77", serial="AC6L9"), tmp_path)
    assert contents.person.number is None
    assert set(contents.person.identity) == {"58E0A7D7-EEBC-11D8-9669-0800200C9A66", "phone-77", "AC6L9"}
    assert contents.recorded == datetime(2021, 12, 8, 15, 54, 23, 245000)
    assert opened(kardia_bytes(signals(), recorded=None), tmp_path).recorded is None


def test_blocks_may_be_longer_than_known_and_a_shorter_one_of_texts_is_passed_over(tmp_path):
    content = kardia_bytes(signals())
    info, rest = content[20:284], content[308:]
    longer = block(b"fmt ", FMT.pack(1, 300, 500, 0, 0) + b"more")
    contents = opened(head(block(b"info", info + b"more"), longer) + rest, tmp_path)
    assert contents.recorded == datetime(2021, 12, 8, 15, 54, 23, 245000)
    assert (contents.fs, len(contents.person.identity)) == (300.0, 3)
    contents = opened(head(block(b"info", info[:200]), fmt()) + rest, tmp_path)
    assert np.array_equal(contents.decode(), signals() / 1000)
    assert (contents.person.identity, contents.recorded) == ((), None)


def test_an_unknown_block_is_passed_over_when_its_checksum_holds(tmp_path):
    content = kardia_bytes(signals()) + block(b"abc ", b"odd")
    assert np.array_equal(opened(content, tmp_path).decode(), signals() / 1000)
    with pytest.raises(RecordError, match="checksum"):
        opened(content[:-1] + b"\1", tmp_path)


def test_every_flipped_bit_is_seen_except_in_the_version(tmp_path):
    content = kardia_bytes(signals(1, 30), ("I",))
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        if 8 <= at < 12 and 2 <= int.from_bytes(damaged[8:12], "little") <= 5:
            continue  # another version of the format with the same blocks
        with pytest.raises(RecordError):
            opened(bytes(damaged), tmp_path)


def test_a_file_that_is_cut_anywhere_is_refused_or_ends_with_a_block(tmp_path):
    content = kardia_bytes(signals(1, 30), ("I",))
    whole = 12 + 12 + 264 + 12 + 8 + 12 + 60
    for length in range(len(content)):
        if length in (whole, whole + 12 + 20):  # without what follows the lead
            assert opened(content[:length], tmp_path).n_samples == 30
        else:
            with pytest.raises(RecordError):
                opened(content[:length], tmp_path)


ECG = block(b"ecg ", b"\1\2\3\4")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin with ALIVE"),
        (b"ALIVE\0\0\0", "version"),
        (head(version=1), "version"),
        (head(version=6), "version"),
        (head(), "sampling rate"),
        (head(fmt()), "no lead"),
        (head(ECG), "sampling rate"),
        (head(fmt(), fmt(), ECG), "block fmt more than once"),
        (head(fmt(), ECG, ECG), "block ecg more than once"),
        (head(fmt(kind=2), ECG), "not of 16 bits"),
        (head(fmt(nanovolt=0), ECG), "not of 16 bits with a resolution"),
        (head(fmt(fs=0), ECG), "sampling frequency of 0 Hz"),
        (head(block(b"fmt ", b"\1"), ECG), "shorter than the format defines"),
        (head(fmt(), block(b"ecg ", b"\1\2\3")), "16-bit samples"),
        (head(fmt(), ECG, block(b"ecg2", b"\1\2")), "not of one length"),
        (head(fmt(), block(b"ecg ", b"")), "no samples"),
        (head(fmt(), ECG) + b"\0\0", "after its last block"),
        (head(fmt(), ECG, b"ecg2\xff\xff\xff\xff1234"), "longer than what is left"),
        (head(fmt(), ECG, *[block(b"x   ", b"")] * 2000), "more blocks"),
    ],
)
def test_what_is_not_an_ecg_in_this_format_is_refused(content, reason, tmp_path):
    with pytest.raises(RecordError, match=reason):
        opened(content, tmp_path)
