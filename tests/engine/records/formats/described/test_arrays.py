"""Arrays of one recording and of many, in three kinds of files, and what has to be refused."""

import os
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from engine.records.formats.contents import Person
from engine.records.formats.described import arrays
from engine.records.formats.described.arrays import list_records, open_array
from engine.records.formats.described.told import Told
from engine.records.record import LEADS, RecordError
from tests.engine.records.formats.writers_arrays import hdf5_bytes, npy_bytes, npz_bytes

COUNTS = np.random.default_rng(5).integers(-900, 900, (12, 200)).astype(np.int16)
MANY = np.random.default_rng(6).integers(-900, 900, (5, 200, 12)).astype(np.int16)
TOLD = Told(500.0, "uV", LEADS)
KINDS = ("npy", "npz", "hdf5")


@pytest.fixture
def written(tmp_path: Path):
    def write(content: bytes, name: str = "file") -> Path:
        file = tmp_path / name
        file.write_bytes(content)
        return file

    return write


def content_of(kind: str, array: Any, **others: Any) -> bytes:
    if kind == "npy":
        return npy_bytes(array)
    return npz_bytes(signals=array, **others) if kind == "npz" else hdf5_bytes({"signals": array, **others})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["<i2", ">i4", "<u2", "<f4", "<f8", ">f2"])
def test_one_recording_is_read_with_the_leads_on_either_axis(written, kind: str, dtype: str):
    counts = COUNTS.astype(np.int64) + (1000 if dtype[1] == "u" else 0)
    for array in (counts.astype(dtype), np.asfortranarray(counts.astype(dtype)), counts.T.astype(dtype)):
        file = written(content_of(kind, array))
        assert list_records(file, TOLD) == []
        contents = open_array(file, TOLD)
        assert (contents.leads, contents.fs, contents.n_samples, contents.unit) == (LEADS, 500.0, 200, "uV")
        expected = array.astype(np.float64) if array.shape[0] == 12 else array.T.astype(np.float64)
        assert np.array_equal(contents.decode(), expected * 1e-3)
        assert contents.person == Person() and contents.recorded is None


@pytest.mark.parametrize("kind", KINDS)
def test_of_many_recordings_the_one_that_is_asked_for_is_read(written, kind: str):
    for array in (MANY, np.asfortranarray(MANY), MANY.transpose(0, 2, 1)):
        file = written(content_of(kind, array))
        assert list_records(file, TOLD) == [""] * 5
        for row in (0, 3, 4):
            assert np.array_equal(open_array(file, TOLD, row).decode(), MANY[row].T * 1e-3)
        for row, words in ((5, "5 recordings and no number 5"), (-1, "no number -1"), (None, "one is to be read")):
            with pytest.raises(RecordError, match=words):
                open_array(file, TOLD, row)
    file = written(content_of(kind, MANY[:1]))
    assert np.array_equal(open_array(file, TOLD).decode(), MANY[0].T * 1e-3)
    with pytest.raises(RecordError, match="it has one recording and no number 1"):
        open_array(written(content_of(kind, COUNTS)), TOLD, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_scaled_as_told_and_nan_is_missing(written, kind: str):
    array = COUNTS.astype(np.float32) + 2048
    array[2, 7] = np.nan
    signals = open_array(written(content_of(kind, array)), Told(500.0, "uV", LEADS, 4.0, 2048.0)).decode()
    expected = COUNTS * 4e-3
    expected[2, 7] = np.nan
    np.testing.assert_allclose(signals, expected, rtol=1e-12)


def test_one_axis_is_one_lead(written):
    assert np.array_equal(
        open_array(written(npy_bytes(COUNTS[1])), Told(500.0, "uV", ("II",))).decode(), COUNTS[1:2] * 1e-3
    )


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((8, 100), r"8 x 100 numbers: no axis is as long as there are leads \(12\)"),
        ((12, 12), "12 x 12 numbers: either axis may be that of the leads"),
        ((3, 12, 12), "12 x 12 numbers: either axis"),
        ((1, 2, 3, 4), "4 axes"),
        ((12, 0), "holds no samples"),
        ((0, 12, 10), "holds no samples"),
    ],
)
def test_shapes_that_tell_no_leads_are_refused(written, shape: tuple[int, ...], words: str):
    with pytest.raises(RecordError, match=words):
        open_array(written(npy_bytes(np.zeros(shape, np.int16))), TOLD, 0 if len(shape) == 3 else None)


@pytest.mark.parametrize(
    "array",
    [np.array([["a"] * 12] * 3), np.zeros((12, 9), complex), np.zeros((12, 9), bool), np.zeros((12, 9), "i4,f4")],
)
def test_what_is_not_numbers_is_refused(written, array: Any):
    with pytest.raises(RecordError, match=r"its samples are not numbers|Python objects"):
        open_array(written(npy_bytes(array)), TOLD)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_nothing_is_unpickled(written, kind: str, tmp_path: Path):
    class Attack:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "attacked"),))

    array = np.array([[Attack()] * 12] * 3, object)
    file = written(content_of(kind, array, leads=np.array([Attack()] * 12, object)))
    for told in (TOLD, Told(500.0, "uV", LEADS, signals="signals" if kind == "npz" else None)):
        with pytest.raises(RecordError):
            open_array(file, told)
    with pytest.raises(RecordError):
        list_records(file, TOLD)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_what_the_file_holds_need_not_be_told(written, kind: str):
    names = [f"Lead {lead}".encode() for lead in LEADS]
    file = written(content_of(kind, COUNTS, fs=np.float64(250.0), unit=np.bytes_(b"mV"), leads=np.array(names)))
    contents = open_array(file, None)
    assert (contents.leads, contents.fs, contents.unit) == (LEADS, 250.0, "mV")
    assert np.array_equal(contents.decode(), COUNTS)
    with pytest.raises(RecordError, match=r"250 Hz by itself and at 500 Hz by signals.toml"):
        open_array(file, TOLD)


def test_attributes_of_the_dataset_go_before_those_of_the_file(written):
    attributes = {
        "": {"Sampling_Rate": 100, "units": "mV"},
        "signals": {"sampling_rate": 400, "lead_names": list(LEADS)},
    }
    contents = open_array(written(hdf5_bytes({"signals": COUNTS}, attributes)), None)
    assert (contents.leads, contents.fs, contents.unit) == (LEADS, 400.0, "mV")


def test_a_rate_for_each_recording_has_to_be_the_same_rate(written):
    file = written(npz_bytes(signals=MANY, fs=np.full(5, 400)))
    assert open_array(file, Told(unit="uV", leads=LEADS), 2).fs == 400.0
    file = written(npz_bytes(signals=MANY, fs=np.array([400, 400, 500, 400, 400])), "other")
    with pytest.raises(RecordError, match="its sampling frequency is not one number"):
        open_array(file, Told(unit="uV", leads=LEADS), 2)


def test_what_is_told_nowhere_is_named(written):
    with pytest.raises(RecordError, match=r"its unit and sampling frequency are told nowhere: .* signals.toml"):
        open_array(written(npy_bytes(COUNTS)), Told(leads=LEADS))


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.array([11, 7, 5, 3, 2]), ["11", "7", "5", "3", "2"]),
        (np.array([11.0, 7.0, 5.0, 3.0, 2.0]), ["11", "7", "5", "3", "2"]),
        (np.array([b"a", b"b", b"c", b"d", b"e"]), ["a", "b", "c", "d", "e"]),
    ],
)
def test_recordings_are_named_by_the_usual_array_or_the_one_that_is_told(written, kind: str, ids: Any, expected: Any):
    assert list_records(written(content_of(kind, MANY, exam_id=ids)), None) == expected
    file = written(content_of(kind, MANY, keys=ids))
    assert list_records(file, None) == [""] * 5
    assert list_records(file, Told(ids="keys")) == expected
    with pytest.raises(RecordError, match=r'no array that is named as signals.toml says: ids = "other"'):
        list_records(file, Told(ids="other"))


def test_texts_of_hdf5_are_names(written):
    assert list_records(written(hdf5_bytes({"tracings": MANY, "id": list("vwxyz")})), None) == list("vwxyz")


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (np.array([1, 2, 3, 2, 5]), "its names in ids are not all different"),
        (np.array([1.5, 2, 3, 4, 5]), "neither texts nor whole numbers"),
        (np.array(["a", "b", " ", "d", "e"]), "neither texts nor whole numbers"),
    ],
)
def test_names_that_do_not_tell_recordings_apart_are_refused(written, ids: Any, words: str):
    with pytest.raises(RecordError, match=words):
        list_records(written(npz_bytes(signals=MANY, ids=ids)), None)
    with pytest.raises(RecordError, match="5 recordings and not as many names in few"):
        list_records(written(npz_bytes(signals=MANY, few=ids[:3]), "few"), Told(ids="few"))


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_the_array_of_the_samples_is_found_or_asked_for(written, kind: str):
    def content(**named: Any) -> bytes:
        return npz_bytes(**named) if kind == "npz" else hdf5_bytes(named)

    labels = np.zeros((5, 6), np.int8)
    assert open_array(written(content(tracings=MANY, labels=labels)), TOLD, 1).n_samples == 200
    assert open_array(written(content(any_name=MANY, labels=labels)), TOLD, 1).n_samples == 200
    file = written(content(before=COUNTS, after=COUNTS + 1))
    with pytest.raises(RecordError, match="it has 2 arrays that may be its samples"):
        open_array(file, TOLD)
    assert np.array_equal(open_array(file, Told(500.0, "uV", LEADS, signals="after")).decode(), (COUNTS + 1) * 1e-3)
    with pytest.raises(RecordError, match="no array of numbers with 2 or 3 axes"):
        open_array(written(content(exam_id=np.arange(5))), TOLD)


def test_a_dataset_in_a_group_is_named_by_its_path(written):
    file = written(hdf5_bytes({"a/b/before": COUNTS, "a/after": COUNTS + 1}))
    for name in ("a/after", "/a/after"):
        table = Told(500.0, "uV", LEADS, signals=name)
        assert np.array_equal(open_array(file, table).decode(), (COUNTS + 1) * 1e-3)


def test_hdf5_that_is_compressed_in_pieces_is_read(written):
    for chunks in ((1, 200, 12), (2, 60, 5), (5, 200, 12)):
        settings = {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": chunks}
        file = written(hdf5_bytes({"tracings": MANY}, **settings), f"{chunks[0]}.h5")
        for row in (4, 0, 1, 3, 2):
            assert np.array_equal(open_array(file, TOLD, row).decode(), MANY[row].T * 1e-3)
        file.write_bytes(hdf5_bytes({"tracings": MANY + 1}, **settings))
        os.utime(file, ns=(1, 1))
        assert np.array_equal(open_array(file, TOLD, 2).decode(), (MANY[2].T + 1) * 1e-3)


def test_an_npz_is_unpacked_once_for_all_of_its_recordings_and_again_when_it_changes(written, monkeypatch):
    unpacked = []
    unpack = arrays._unpack
    monkeypatch.setattr(arrays, "_unpack", lambda *words: unpacked.append(words) or unpack(*words))
    file = written(npz_bytes(signals=MANY), "many.npz")
    for row in range(5):
        assert np.array_equal(open_array(file, TOLD, row).decode(), MANY[row].T * 1e-3)
    assert len(unpacked) == 1
    file.write_bytes(npz_bytes(signals=MANY + 1, more=np.arange(9)))
    assert np.array_equal(open_array(file, TOLD, 2).decode(), (MANY[2].T + 1) * 1e-3)
    assert len(unpacked) == 2


def test_links_to_other_files_are_not_followed(written, tmp_path: Path):
    written(hdf5_bytes({"signals": COUNTS}), "other.h5")
    (tmp_path / "raw").write_bytes(COUNTS.tobytes())
    with h5py.File(tmp_path / "linked.h5", "w") as opened:
        opened["signals"] = h5py.ExternalLink("other.h5", "/signals")
    with h5py.File(tmp_path / "virtual.h5", "w") as opened:
        layout = h5py.VirtualLayout(COUNTS.shape, COUNTS.dtype)
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "signals", COUNTS.shape)
        opened.create_virtual_dataset("signals", layout)
    with h5py.File(tmp_path / "external.h5", "w") as opened:
        opened.create_dataset("signals", COUNTS.shape, "<i2", external=[(tmp_path / "raw", 0, COUNTS.nbytes)])
    with pytest.raises(RecordError, match="no array of numbers"):
        open_array(tmp_path / "linked.h5", TOLD)
    for name in ("virtual.h5", "external.h5"):
        with pytest.raises(RecordError, match="its samples are in other files"):
            open_array(tmp_path / name, TOLD).decode()


def test_groups_that_hold_each_other_are_no_trap(written, tmp_path: Path):
    with h5py.File(tmp_path / "circle.h5", "w") as opened:
        group = opened.create_group("a")
        group["a"] = group
        group["signals"] = COUNTS
    table = Told(500.0, "uV", LEADS, signals="a/signals")
    assert np.array_equal(open_array(tmp_path / "circle.h5", table).decode(), COUNTS * 1e-3)


@pytest.mark.parametrize("shape", [(12, 10**9), (10**9, 12, 100), (10**30, 12, 5), (12, -5), (2**63, 12)])
def test_a_npy_that_claims_more_than_it_holds_is_refused(written, shape: tuple[int, ...]):
    content = npy_bytes(COUNTS).replace(b"(12, 200), }".ljust(60), f"{shape}, }}".encode().ljust(60))
    assert content != npy_bytes(COUNTS)
    with pytest.raises(RecordError, match=r"it should have|damaged"):
        open_array(written(content), TOLD)


def test_an_hdf5_file_that_claims_more_than_it_holds_is_refused(tmp_path: Path):
    with h5py.File(tmp_path / "huge.h5", "w") as opened:
        opened.create_dataset("signals", (10**9, 12, 1000), "<i2", chunks=(1, 12, 1000))
    for read in (lambda: list_records(tmp_path / "huge.h5", TOLD), lambda: open_array(tmp_path / "huge.h5", TOLD, 5)):
        with pytest.raises(RecordError, match=r"it claims 12,000,000,000,000 numbers, which its .* bytes cannot hold"):
            read()


def test_huge_pieces_are_not_unpacked(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(arrays, "_MAX_CHUNK", 1000)
    (tmp_path / "many.h5").write_bytes(hdf5_bytes({"tracings": MANY}, chunks=(5, 200, 12)))
    with pytest.raises(RecordError, match="compressed in pieces of"):
        open_array(tmp_path / "many.h5", TOLD, 0).decode()


def test_an_array_of_an_npz_that_is_too_large_or_of_another_length_is_refused(written, monkeypatch):
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("signals.npy", npy_bytes(COUNTS)[:-2])
    with pytest.raises(RecordError, match="an array in it should have"):
        open_array(written(file.getvalue()), TOLD)
    monkeypatch.setattr(arrays, "_MAX_BYTES", 1000)
    with pytest.raises(RecordError, match=r"save it as .npy or HDF5"):
        open_array(written(npz_bytes(signals=COUNTS), "other"), TOLD).decode()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY\x01\x00v\x00("]
)
def test_beginnings_are_refused(written, content: bytes):
    for more in (b"", bytes(3000)):
        with pytest.raises(RecordError):
            open_array(written(content + more), TOLD)


@pytest.mark.parametrize("packed", [True, False])
def test_a_changed_byte_of_the_samples_of_an_npz_is_found(written, packed: bool):
    content = npz_bytes(packed=packed, signals=COUNTS)
    middle = len(content) // 2
    damaged = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    with pytest.raises(RecordError, match="its array is damaged"):
        open_array(written(damaged), TOLD).decode()


@pytest.mark.parametrize("kind", KINDS)
def test_damage_never_ends_in_another_exception(written, kind: str):
    content = content_of(kind, COUNTS[:, :30], fs=np.float64(250.0), leads=np.array([b"I"] * 12))
    random = np.random.default_rng(4)
    refused = 0
    for k in range(150):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(0, min(len(content), 4000), 3)] = random.integers(0, 256, 3)
        cut = damaged.tobytes() if k % 3 else damaged.tobytes()[: random.integers(len(content))]
        try:
            open_array(written(cut, f"{k}"), Told(unit="uV", leads=LEADS, fs=250.0)).record()
        except RecordError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused >= 50


def test_a_file_that_changes_between_opening_and_decoding_is_refused(written):
    file = written(npy_bytes(COUNTS))
    contents = open_array(file, TOLD)
    file.write_bytes(npy_bytes(COUNTS[:, :100]))
    with pytest.raises(RecordError, match="it has been changed"):
        contents.decode()
    file.unlink()
    with pytest.raises(RecordError, match="file missing"):
        contents.decode()


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_a_scale_in_the_file_is_used_and_a_gain_is_not_guessed_at(written, kind: str):
    said = {"fs": 500.0, "unit": "uV", "leads": np.array(LEADS, "S3")}
    contents = open_array(written(content_of(kind, COUNTS, scale=4.88, zero=10.0, **said)), None)
    np.testing.assert_allclose(contents.decode(), (COUNTS - 10.0) * 4.88e-3, rtol=1e-12)
    with pytest.raises(RecordError, match=r"others than those in signals.toml"):
        open_array(written(content_of(kind, COUNTS, scale=4.88, **said)), Told(scale=5.0))
    file = written(content_of(kind, COUNTS, gain=200.0, **said))
    with pytest.raises(RecordError, match=r"a number gain, of which nothing says how it is meant"):
        open_array(file, None)
    np.testing.assert_allclose(open_array(file, Told(scale=0.5)).decode(), COUNTS * 0.5e-3, rtol=1e-12)


def test_leads_may_be_one_text(written):
    file = written(npz_bytes(signals=COUNTS, fs=500.0, unit="uV", leads=", ".join(LEADS)))
    assert open_array(file, None).leads == LEADS


def test_a_file_that_was_changed_is_looked_at_again(written):
    first = open_array(written(content_of("npz", COUNTS, fs=500.0, unit="uV", leads=np.array(LEADS))), None)
    again = open_array(written(content_of("npz", COUNTS[:, :100], fs=250.0, unit="uV", leads=np.array(LEADS))), None)
    assert (first.fs, first.n_samples, again.fs, again.n_samples) == (500.0, 200, 250.0, 100)
