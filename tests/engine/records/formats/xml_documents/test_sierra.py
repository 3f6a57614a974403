"""Philips Sierra XML gives the samples that were written, and what is damaged is refused."""

import re
from base64 import b64decode, b64encode
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from engine.records.formats.xml_documents.sierra import ROOT, open_sierra
from engine.records.formats.xml_documents.tree import root_name
from engine.records.formats.xml_documents.xli import decompress, split_chunks
from engine.records.record import LEADS, RecordError
from tests.engine.records.formats.writers_sierra import chunk, lzw, packed, sierra_bytes

FS = 500


def signals(n_samples=5000, n_leads=12, seed=0):
    """(leads, samples) in microvolt, of whole counts; the limb leads nearly follow from I and II."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_samples) / FS
    chest = [900 * np.sin(2 * np.pi * (1 + 0.1 * k) * t + k) for k in range(n_leads)]
    counts = np.round((np.array(chest) + rng.normal(0, 20, (n_leads, n_samples))) / 5)
    if n_leads >= 6:
        one, two = counts[:2]
        counts[2:6] = [
            two - one,
            -np.trunc((one + two) / 2),
            np.trunc((2 * one - two) / 2),
            np.trunc((2 * two - one) / 2),
        ]
        counts[2:6] += rng.integers(-1, 2, (4, n_samples))
    return 5 * counts.astype(np.int64)


@cache
def document() -> bytes:
    return sierra_bytes(signals())


def opened(content: bytes, tmp_path: Path):
    path = tmp_path / "ecg.xml"
    path.write_bytes(content)
    return open_sierra(path)


def changed(content: bytes, old: str, new: str) -> bytes:
    text = content.decode("utf-16")
    assert old in text
    return text.replace(old, new, 1).encode("utf-16")


def with_blob(content: bytes, change) -> bytes:
    """Return the document with its compressed waveforms changed as ``change`` says."""
    text = content.decode("utf-16")
    blob = re.search(r"(?s)<parsedwaveforms[^>]*>(.*?)<", text)[1]
    return text.replace(blob, b64encode(change(b64decode(blob))).decode()).encode("utf-16")


@pytest.mark.parametrize("version", ["1.03", "1.04", "1.04.01"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_samples_of_the_carts_eleven_seconds_are_exact_and_the_calibration_is_left_out(version, encoding, tmp_path):
    contents = opened(sierra_bytes(signals(), version=version, encoding=encoding), tmp_path)
    assert contents.leads == LEADS
    assert (contents.fs, contents.n_samples, contents.n_used, contents.unit) == (500.0, 5500, 5000, "uV")
    assert np.array_equal(contents.decode()[:, :5000], signals() / 1000)
    record = contents.record()
    assert record.signals.shape == (12, 5000)
    assert record.notes == ("a calibration after 10 s is left out",)


@pytest.mark.parametrize("compression", ["XLI", "Base64", "Plain"])
@pytest.mark.parametrize("n_samples", [3, 4, 1000, 6000])
def test_a_recording_without_calibration_is_used_as_a_whole(compression, n_samples, tmp_path):
    contents = opened(sierra_bytes(signals(n_samples), compression=compression), tmp_path)
    assert contents.n_used is None
    assert np.array_equal(contents.decode(), signals(n_samples) / 1000)


def test_waveforms_of_1_03_that_are_not_compressed_name_the_method_all_the_same(tmp_path):
    contents = opened(sierra_bytes(signals(), version="1.03", compression="Plain"), tmp_path)
    assert np.array_equal(contents.decode()[:, :5000], signals() / 1000)


def test_leads_without_limb_leads_are_stored_as_they_are(tmp_path):
    leads = ("I", "II", "V1", "V3R", "X")
    contents = opened(sierra_bytes(signals(n_leads=5), leads), tmp_path)
    assert contents.leads == leads
    assert np.array_equal(contents.decode()[:, :5000], signals(n_leads=5) / 1000)


@pytest.mark.parametrize("other", ["II I III aVR aVL aVF V1 V2 V3 V4 V5 V6", "I II III -aVR aVL aVF V1 V2 V3 V4 V5 V6"])
def test_limb_leads_in_another_order_are_refused(other, tmp_path):
    content = changed(document(), " ".join(LEADS), other)
    with pytest.raises(RecordError, match="order for which the compression is not defined"):
        opened(content, tmp_path)


def test_extreme_samples_and_a_full_table_come_back():
    rng = np.random.default_rng(1)
    noise = rng.integers(-32, 32, 5500)
    drift = np.clip(np.cumsum(rng.integers(-200, 200, 5500)), -32768, 32767)
    for samples in (noise, drift, np.full(5500, -32768), np.linspace(-32768, 32767, 5500).astype(np.int64)):
        (stored,) = split_chunks(chunk(samples), 1, 5500)
        assert np.array_equal(decompress(stored, 5500), samples)


def test_lzw_of_what_repeats_uses_codes_before_they_are_in_the_table():
    flat = np.zeros(5500, np.int64)
    (stored,) = split_chunks(chunk(flat), 1, 5500)
    assert len(stored.codes) < 300
    assert np.array_equal(decompress(stored, 5500), flat)


def test_person_and_time_are_those_of_the_document(tmp_path):
    contents = opened(sierra_bytes(signals(), patient="MRN 12", name="Jane Mary Doe", birth="1951-04-13"), tmp_path)
    person = contents.person
    assert (person.number, person.age, person.sex) == ("MRN 12", 69.0, "female")
    assert set(person.identity) == {"MRN 12", "98-7654", "E-20", "Jane", "Mary Doe", "Jane Mary Doe", "1951-04-13"}
    assert contents.recorded == datetime(2020, 5, 18, 15, 48, 11)
    assert "MRN 12" not in repr(contents)


def test_an_age_may_be_in_years_or_months_and_a_number_that_stands_for_nobody_is_none(tmp_path):
    content = sierra_bytes(signals(), patient="xxxxxx", recorded=None)
    years = changed(content, "<dateofbirth>1951-04-13</dateofbirth>", "<years>50</years>")
    assert opened(years, tmp_path).person.age == 50.0
    unreadable = changed(content, "<dateofbirth>1951-04-13<", "<years>58</years><dateofbirth>13.4.51<")
    untimed = changed(content, "<dateofbirth>1951", "<years>58</years><dateofbirth>1951")
    assert [opened(document, tmp_path).person.age for document in (unreadable, untimed)] == [58.0, 58.0]
    months = changed(content, "<dateofbirth>1951-04-13</dateofbirth>", "<months>6</months>")
    contents = opened(months, tmp_path)
    assert (contents.person.age, contents.person.number, contents.recorded) == (0.5, None, None)


def test_a_root_tells_the_format():
    assert root_name(document()) == ROOT


@pytest.mark.parametrize("lead", [0, 2, 4, 11])
@pytest.mark.parametrize("at", [0, 3, 40, -30])
def test_one_wrong_bit_in_the_compressed_waveforms_is_never_read(lead, at, tmp_path):
    content = document()

    def flip(blob):
        stored = bytearray(blob)
        start = 0
        for _ in range(lead):
            start += 8 + int.from_bytes(blob[start : start + 4], "little")
        n_bytes = int.from_bytes(blob[start : start + 4], "little")
        stored[start + 8 + at % n_bytes] ^= 1 << (at % 8)
        return bytes(stored)

    with pytest.raises(RecordError, match="damaged"):
        opened(with_blob(content, flip), tmp_path).record()


def test_a_wrong_first_difference_moves_the_calibration_and_is_refused(tmp_path):
    def shift(blob):
        return (
            blob[:6]
            + (int.from_bytes(blob[6:8], "little", signed=True) + 1).to_bytes(2, "little", signed=True)
            + blob[8:]
        )

    with pytest.raises(RecordError, match="not all leads end in the same calibration"):
        opened(with_blob(document(), shift), tmp_path).record()


def test_a_resolution_that_the_calibration_contradicts_is_refused(tmp_path):
    content = sierra_bytes(signals(), version="1.03").decode("utf-16")
    wrong = content.replace("<signalresolution>5<", "<signalresolution>2.5<").encode("utf-16")
    with pytest.raises(RecordError, match=r"calibration pulse is of 0\.5 mV instead of 1 mV"):
        opened(wrong, tmp_path).record()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda blob: blob[:-5], "cut or damaged"),
        (lambda blob: blob[:3], "cut or damaged"),
        (lambda blob: b"", "0 leads instead of 12"),
        (lambda blob: b"\xff\xff\xff\x7f" + blob[4:], "cut or damaged"),
        (lambda blob: b"".join([chunk(np.zeros(5500, np.int64))] * 11), "11 leads instead of 12"),
        (lambda blob: b"".join([chunk(np.zeros(5000, np.int64))] * 16), "not have as many samples"),
        (lambda blob: b"".join([chunk(np.zeros(9000, np.int64))] * 16), "not have as many samples"),
        (lambda blob: b"".join([b"\4\0\0\0\1\0\0\0abcd"] * 16), "cannot be one of 5,500 samples"),
        (lambda blob: b"".join([b"\0\1\0\0\1\0\0\0" + bytes(256)] * 16), "no end"),
        (
            lambda blob: b"".join([b"\x9b\0\0\0\1\0\0\0" + packed([0, 0, 300] * 40 + [1023] * 4)] * 16),
            "not in its table",
        ),
        (lambda blob: b"".join([chunk(np.r_[np.zeros(5498, np.int64), 20000, -20000] * 2)] * 16), "damaged"),
    ],
)
def test_what_cannot_be_the_waveforms_is_refused(change, reason, tmp_path):
    with pytest.raises(RecordError, match=reason):
        opened(with_blob(document(), change), tmp_path).record()


def test_a_small_document_cannot_claim_much(tmp_path):
    content = document()
    for milliseconds in ("1e300", "1e13", "600000000", "nan", "-11000", "11000.0001", "", "x"):
        with pytest.raises(RecordError):
            opened(changed(content, 'durationperchannel="11000"', f'durationperchannel="{milliseconds}"'), tmp_path)


def test_codes_that_stand_for_more_than_the_samples_are_not_unfolded(tmp_path):
    bomb = lzw(bytes(200_000))
    blob = (len(bomb).to_bytes(4, "little") + bytes(4) + bomb) * 12
    with pytest.raises(RecordError, match="not have as many samples"):
        opened(with_blob(document(), lambda _: blob), tmp_path).record()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<documentversion>1.04.01<", "<documentversion>2.00<", "version"),
        ('compression="XLI"', 'compression="Huffman"', "compressed in a way that is not read"),
        ('compression="XLI"', 'compressflag="True"', "compressed in a way that is not read"),
        ('dataencoding="Base64" duration', 'dataencoding="Hex" duration', "encoded in a way that is not read"),
        ('dataencoding="Base64" duration', 'dataencoding="Plain" duration', "encoded in a way that is not read"),
        ('bitspersample="16"', 'bitspersample="14"', "not of 16 bits"),
        ('signalsigned="True"', 'signalsigned="False"', "not of 16 bits with a sign"),
        ('signaloffset="0"', 'signaloffset="8"', "an offset"),
        ('samplespersecond="500"', 'samplespersecond="250"', "two sampling rates"),
        ('resolution="5"', 'resolution="2.5"', "two resolutions"),
        ('resolution="5"', 'resolution="0"', "two resolutions"),
        ('numberofleads="12"', 'numberofleads="15"', "as many leads"),
        ('leadlabels="', 'labels="', "as many leads"),
        ("<parsedwaveforms ", "<unparsedwaveforms ", "damaged"),
        ("restingecgdata", "ecgdata", "damaged"),
    ],
)
def test_what_is_not_defined_is_refused_by_its_name(old, new, reason, tmp_path):
    with pytest.raises(RecordError, match=reason):
        opened(changed(document(), old, new), tmp_path)


def test_a_resolution_or_an_offset_of_no_ecg_is_refused(tmp_path):
    content = changed(document(), 'resolution="5"', 'resolution="1e300"')
    with pytest.raises(RecordError, match="not that of an ECG"):
        opened(changed(content, "<resolution>5<", "<resolution>1e300<"), tmp_path)
    content = sierra_bytes(signals(1000), compression="Base64")
    with pytest.raises(RecordError, match="offset is not of 16 bits"):
        opened(changed(content, 'signaloffset="0"', 'signaloffset="1e300"'), tmp_path)
    shifted = opened(changed(content, 'signaloffset="0"', 'signaloffset="-3"'), tmp_path)
    assert np.array_equal(shifted.decode(), (signals(1000) + 15) / 1000)


def test_waveforms_that_were_modified_may_differ_from_the_acquisition(tmp_path):
    content = changed(document(), "<resolution>5<", "<resolution>2.5<")
    content = changed(content, 'bitspersample="16"', 'bitspersample="16" waveformmodified="True"')
    assert np.array_equal(opened(content, tmp_path).decode()[:, :5000], signals() / 1000)


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ("", "no waveforms"),
        ("<waveforms/>", "no waveforms"),
        ("<waveforms><unparsedwaveforms href='a'/></waveforms>", "in another file"),
        ("<waveforms><leadwaveforms/></waveforms>", "one element for each lead"),
        ("<waveforms><parsedwaveforms/><parsedwaveforms/></waveforms>", "waveforms 2 times"),
        ("<waveforms><parsedwaveforms/></waveforms>", "sampling rate|duration"),
    ],
)
def test_a_document_without_waveforms_is_refused(section, reason, tmp_path):
    content = re.sub("(?s)<waveforms>.*</waveforms>", section, document().decode("utf-16"))
    with pytest.raises(RecordError, match=reason):
        opened(content.encode("utf-16"), tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("\n1", "\n1.5", 1) if "\n1" in text else "1.5 " + text, "whole number"),
        (lambda text: "9" * 5000 + " " + text, "whole number"),
        (lambda text: "\u0661 " + text, "whole number"),
        (lambda text: "1 " + text, "instead of"),
        (lambda text: "99999" + text.strip()[text.strip().index(" ") :], "not of 16 bits"),
        (lambda text: "1 2 3", "does not have 1,000 samples"),
    ],
)
def test_samples_written_out_are_checked(change, reason, tmp_path):
    text = sierra_bytes(signals(1000), compression="Plain").decode("utf-16")
    numbers = re.search(r"(?s)<parsedwaveforms[^>]*>(.*?)<", text)[1]
    with pytest.raises(RecordError, match=reason):
        opened(text.replace(numbers, change(numbers)).encode("utf-16"), tmp_path).record()


def test_base64_that_is_damaged_or_of_another_length_is_refused(tmp_path):
    text = sierra_bytes(signals(1000), compression="Base64").decode("utf-16")
    data = re.search(r"(?s)<parsedwaveforms[^>]*>\s*(.*?)\s*<", text)[1]
    for wrong, reason in (
        (data[:-4], "does not have 1,000 samples"),
        ("*" + data[1:], "not Base64"),
        (data[:-1], "not Base64"),
    ):
        with pytest.raises(RecordError, match=reason):
            opened(text.replace(data, wrong).encode("utf-16"), tmp_path)
