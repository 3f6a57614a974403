"""Which recordings a folder has, in which format, and by which names."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from engine.records.folders import walk
from engine.records.formats.contents import Contents
from engine.records.formats.detect import FORMATS, format_of
from engine.records.formats.recordings import ARRAY, TABLE, WFDB, find_recordings, recordings_in
from engine.records.record import LEADS, RecordError
from engine.records.signal import conform
from engine.sources import SourceError
from engine.sources.own_directory import Directory
from tests.engine.records.formats.mixed_folder import STORED, WRITERS, Someone, heart, write_mixed

SIGNALS, _LABELS = heart(0)
TITLES = {
    "muse.xml": "muse", "cardiosoft.xml": "cardiosoft", "schiller.xml": "schiller", "aecg.xml": "aecg",
    "sierra.xml": "sierra", "fhir.json": "fhir", "fhir.xml": "fhir", "scp": "scp", "dcm": "dicom", "edf": "edf",
    "atc": "kardia",
}  # fmt: skip


def put(path: Path, suffix: str, number: str = "1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(WRITERS[suffix](SIGNALS, Someone(number)))
    return path


def open_only(path: Path) -> Contents:
    (recording,) = recordings_in(path)
    return recording.contents()


def names(root: Path) -> dict[str, str]:
    return {one.record_id: one.format for one in find_recordings(walk(root)).recordings}


@pytest.mark.parametrize("suffix", WRITERS)
def test_each_format_is_told_and_gives_the_same_heart(suffix: str, tmp_path: Path):
    path = put(tmp_path / f"x.{suffix}", suffix)
    assert format_of(path) == TITLES[suffix]
    contents = open_only(path)
    assert contents.fs == 500
    assert set(STORED) <= set(contents.leads) <= set(LEADS)
    prepared = conform(contents.record(), fs=500)
    np.testing.assert_allclose(prepared.signals, SIGNALS / 1000, atol=6e-4)


@pytest.mark.parametrize("other", [".ecg", ".IMG", ".dcm30", ".rec", ".7", ""])
@pytest.mark.parametrize("suffix", [one for one in WRITERS if one not in ("atc", "fhir.json")])
def test_a_format_is_told_by_the_first_bytes_where_the_suffix_is_not_known(suffix: str, other: str, tmp_path: Path):
    assert format_of(put(tmp_path / f"x{other}", suffix)) == TITLES[suffix]
    assert list(names(tmp_path).values()) == [FORMATS[TITLES[suffix]].title]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_document_under_another_suffix_may_be_in_any_encoding(encoding: str, tmp_path: Path):
    (tmp_path / "x.ecg").write_bytes("<RestingECG/>".encode(encoding))
    assert format_of(tmp_path / "x.ecg") == "muse"


@pytest.mark.parametrize(
    "other",
    [".hea", ".DAT", ".mat", ".atr", ".xws", ".npy", ".npz", ".h5", ".hdf5", ".csv", ".tsv", ".txt", ".toml", ".xlsx",
     ".zip", ".gz", ".pdf", ".png", ".jpg", ".md", ".py", ".log", ".onnx", ".db", ".html"],
)  # fmt: skip
def test_files_that_are_no_recordings_by_their_suffix_are_not_looked_into(other: str, tmp_path: Path, monkeypatch):
    path = put(tmp_path / f"x{other}", "dcm")
    monkeypatch.setattr("engine.records.formats.detect.read_content", lambda *_: pytest.fail("read"))
    assert format_of(path) is None


def test_a_document_in_an_encoding_of_no_recording_is_one_that_fails(tmp_path: Path):
    path = tmp_path / "x.xml"
    path.write_text('<?xml version="1.0" encoding="rot13"?><RestingECG/>')
    assert format_of(path) == "muse"
    with pytest.raises(RecordError):
        open_only(path)


@pytest.mark.parametrize("suffix", [one for one in WRITERS if one not in ("atc", "fhir.json", "fhir.xml")])
def test_each_format_says_whose_it_is(suffix: str, tmp_path: Path):
    contents = open_only(put(tmp_path / f"x.{suffix}", suffix, "MRN-17"))
    assert contents.person.number == "MRN-17"
    assert "MRN-17" in contents.person.identity
    assert contents.person.age == 73
    assert contents.recorded is not None
    for text in (repr(contents), str(contents.person)):
        assert "MRN-17" not in text
        assert "Qxtorova" not in text
        assert "1947" not in text


def test_a_recording_is_named_by_its_path_without_suffix_unless_two_would_have_one(tmp_path: Path):
    put(tmp_path / "a.dcm", "dcm")
    put(tmp_path / "b" / "a.xml", "muse.xml")
    put(tmp_path / "c.SCP", "scp")
    put(tmp_path / "c.edf", "edf")
    put(tmp_path / "1.2.840.17", "dcm")
    put(tmp_path / "IM000001", "dcm")
    assert names(tmp_path) == {
        "1.2.840.17": "DICOM",
        "IM000001": "DICOM",
        "a": "DICOM",
        "b/a": "MUSE XML",
        "c.SCP": "SCP-ECG",
        "c.edf": "EDF",
    }


def test_a_wfdb_record_keeps_its_name_next_to_another_of_it(tmp_path: Path):
    put(tmp_path / "a.xml", "muse.xml")
    (tmp_path / "a.hea").write_text("a 1 500 10\na.dat 16 200 16 0 0 0 0 I\n")
    assert names(tmp_path) == {"a": WFDB, "a.xml": "MUSE XML"}


def test_other_files_are_no_recordings(tmp_path: Path):
    (tmp_path / "settings.xml").write_text("<settings><leads>12</leads></settings>")
    (tmp_path / "page.xml").write_text('<?xml version="1.0"?><!-- RestingECG --><html/>')
    (tmp_path / "notes.json").write_text('{"resourceType": "Patient"}')
    (tmp_path / "NOTES").write_text("x" * 300)
    (tmp_path / "x.dat").write_bytes(bytes(300))
    np.save(tmp_path / "features.npy", np.zeros((5, 12)))
    np.savez(tmp_path / "predictions.npz", probability=np.zeros((5, 3)))
    (tmp_path / "table.csv").write_text("I,II\n0.1,0.2\n")
    found = find_recordings(walk(tmp_path))
    assert found.recordings == ()
    assert [path.name for path in found.untold] == ["features.npy", "predictions.npz"]


def test_a_damaged_file_is_a_recording_that_fails_when_it_is_read(tmp_path: Path):
    (tmp_path / "x.dcm").write_bytes(b"nothing")
    (tmp_path / "y.scp").write_bytes(b"")
    content = WRITERS["muse.xml"](SIGNALS, Someone("1"))
    (tmp_path / "z.xml").write_bytes(content[:3000])
    found = find_recordings(walk(tmp_path)).recordings
    assert [one.record_id for one in found] == ["x", "y", "z"]
    for one in found:
        with pytest.raises(RecordError):
            one.read()


def test_a_pattern_that_has_the_labels_as_well_takes_samples_only(tmp_path: Path):
    (tmp_path / "signals.toml").write_text('["*.csv"]\nfs = 500\nunit = "uV"\n')
    np.savetxt(tmp_path / "r1.csv", SIGNALS.T, fmt="%d", delimiter=",", header=",".join(LEADS), comments="")
    (tmp_path / "labels.csv").write_text("record,AF\nr1,1\n")
    (tmp_path / "numbers.csv").write_text("record,AF\n1,1\n2,0\n")
    assert names(tmp_path) == {"r1": TABLE}


def test_a_table_of_people_is_none_of_samples_even_with_as_many_columns(tmp_path: Path):
    (tmp_path / "signals.toml").write_text('["*.csv"]\nfs = 500\nunit = "uV"\nleads = ["I", "II"]\n')
    (tmp_path / "people.csv").write_text("record,patient\n1,1\n2,1\n")
    np.savetxt(tmp_path / "r1.csv", SIGNALS[:2].T, fmt="%d", delimiter=",")
    assert names(tmp_path) == {"r1": TABLE}


def test_a_damaged_table_of_samples_is_not_passed_over(tmp_path: Path):
    (tmp_path / "signals.toml").write_text('["*.csv"]\nfs = 500\nunit = "uV"\n')
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "garbage.csv").write_bytes(bytes(range(256)))
    (tmp_path / "ragged.csv").write_text("I,II\n1,2\n3\n")
    found = find_recordings(walk(tmp_path)).recordings
    assert [one.record_id for one in found] == ["empty", "garbage", "ragged"]
    for one in found:
        with pytest.raises(RecordError):
            one.read()


def test_no_two_recordings_have_one_name(tmp_path: Path):
    put(tmp_path / "a.xml", "muse.xml")
    put(tmp_path / "a.xml.dcm", "dcm")
    for name in ("a", "b/row0", "b.npz/row0"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.hea").write_text("x 1 500 10\nx.dat 16 200 16 0 0 0 0 I\n")
    (tmp_path / "b.npz").rename(tmp_path / "c")
    np.savez(tmp_path / "b.npz", signals=np.stack([SIGNALS, SIGNALS]), fs=500, unit="uV", leads=np.array(LEADS))
    assert names(tmp_path) == {
        "a": WFDB, "a.xml": "MUSE XML", "a.xml.dcm": "DICOM", "b/row0": WFDB, "c/row0": WFDB,
        "b.npz/row0": ARRAY, "b.npz/row1": ARRAY,
    }  # fmt: skip


def test_recordings_of_an_array_without_names_are_not_named_by_bare_numbers(tmp_path: Path):
    np.savez(tmp_path / "x.npz", signals=np.stack([SIGNALS] * 3), fs=500, unit="uV", leads=np.array(LEADS))
    assert names(tmp_path) == {"x/row0": ARRAY, "x/row1": ARRAY, "x/row2": ARRAY}
    (tmp_path / "labels.csv").write_text("ecg_id,AF\n1,1\n2,0\n3,1\n")
    with pytest.raises(SourceError, match=r"no column names the records .* the files are named x/row0, x/row1"):
        Directory(tmp_path)


def test_an_array_of_many_is_as_many_recordings(tmp_path: Path):
    write_mixed(tmp_path, 2)
    found = {one.record_id: one for one in find_recordings(walk(tmp_path)).recordings}
    assert [name for name, one in found.items() if one.format == ARRAY] == [
        "n0", "n1", "stack/100", "stack/101", "tracings/100", "tracings/101",
    ]  # fmt: skip
    first = 2 * len(WRITERS) + 4  # hearts before those of the stack
    for j in range(2):
        np.testing.assert_allclose(found[f"stack/10{j}"].read().signals, heart(first + j)[0] / 1000, atol=1e-6)
        np.testing.assert_allclose(found[f"tracings/10{j}"].read().signals, heart(first + 2 + j)[0] / 1000, atol=1e-6)


def test_recordings_go_to_other_processes(tmp_path: Path):
    write_mixed(tmp_path, 1)
    for one in find_recordings(walk(tmp_path)).recordings:
        again = pickle.loads(pickle.dumps(one))  # noqa: S301
        np.testing.assert_array_equal(again.read().signals, one.read().signals)


def test_a_file_is_found_by_its_own_path(tmp_path: Path):
    write_mixed(tmp_path, 1)
    for one in find_recordings(walk(tmp_path)).recordings:
        alone = recordings_in(one.path)
        if "/" in one.record_id and one.format == ARRAY:
            assert [other.record_id for other in alone] == [f"{one.path.as_posix()}/100"]
        else:
            assert [other.record_id for other in alone] == [one.path.as_posix()]
        np.testing.assert_array_equal(alone[0].read().signals, one.read().signals)


def test_a_file_of_no_format_is_refused_with_those_that_there_are(tmp_path: Path):
    path = tmp_path / "settings.xml"
    path.write_text("<settings/>")
    with pytest.raises(RecordError, match=r"not in a format that is read: WFDB, HL7 aECG, .*Philips XML"):
        open_only(path)
    assert len(FORMATS) == 10
