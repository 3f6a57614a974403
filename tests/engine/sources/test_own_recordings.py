"""Whose the recordings of a directory are, by their files and by tables."""

from pathlib import Path

import pytest

from engine.sources.own_directory import Directory
from tests.engine.records.formats.mixed_folder import NUMBER, WRITERS, Someone, heart
from tests.engine.records.formats.writers_muse import muse_bytes

SIGNALS, _LABELS = heart(0)


def directory(root: Path, numbers: list[str], table: str = "record,AF", cells: list[str] | None = None) -> Directory:
    root.mkdir(exist_ok=True)
    rows = [table]
    for k, number in enumerate(numbers):
        suffix = ("dcm", "scp", "muse.xml")[k % 3]
        (root / f"r{k}.{suffix}").write_bytes(WRITERS[suffix](SIGNALS, Someone(number)))
        rows.append(f"r{k}.{suffix},{k % 2}" + (f",{cells[k]}" if cells else ""))
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return Directory(root)


def patients(source: Directory) -> list[str]:
    return [entry.patient for entry in source.entries()]


def test_one_number_is_one_patient_in_every_format_and_spelling(tmp_path: Path):
    source = directory(tmp_path, ["0017", "17", "0017 ", "mrn-9", "MRN-9", "18"])
    assert patients(source) == ["r0", "r0", "r0", "r3", "r3", "r5.muse"]
    assert "6 of 6 files say whose they are: 3 patients" in source.inferred
    assert {entry.age for entry in source.entries()} == {73.0}


def test_files_that_name_nobody_are_of_patients_of_their_own(tmp_path: Path):
    source = directory(tmp_path, ["ANONYMOUS", "", "0000", "17", "17", "anonym3"])
    told = dict(zip(["r0", "r1", "r2.muse", "r3", "r4", "r5.muse"], patients(source), strict=True))
    assert told["r3"] == told["r4"]
    assert told["r5.muse"] == "r5.muse"
    assert len(set(told.values())) < 6


def test_name_and_birth_date_tell_people_apart_where_there_is_no_number(tmp_path: Path):
    for k, (name, first) in enumerate([("Roe", "Jane"), ("ROE", "Jane"), ("Roe", "John")]):
        (tmp_path / f"r{k}.xml").write_bytes(
            muse_bytes(SIGNALS[:2], ("I", "II"), 500, patient="", name=name, first_name=first)
        )
    (tmp_path / "labels.csv").write_text("record,AF\nr0,1\nr1,0\nr2,0\n")
    assert patients(Directory(tmp_path)) == ["r0", "r0", "r2"]


def test_a_table_that_names_patients_is_believed_and_said_to_differ(tmp_path: Path):
    source = directory(tmp_path, ["1", "1", "2"], "record,AF,patient", ["a", "b", "c"])
    assert patients(source) == ["a", "b", "c"]
    said = "1 patient by the numbers in the files has more than one name in column patient, which is believed"
    assert any(sentence.startswith(said) for sentence in source.inferred)


def test_a_table_that_agrees_is_not_remarked_on(tmp_path: Path):
    source = directory(tmp_path, ["1", "1", "2"], "record,AF,patient", ["a", "a", "c"])
    assert not [
        sentence for sentence in source.inferred if "numbers in the files" in sentence or "say whose" in sentence
    ]


@pytest.mark.parametrize("name", [f"{NUMBER}000", "Qxtorova_1", "ecg 1947-03-11", "q\u0308xtorova"])
def test_files_that_are_named_after_their_patients_are_remarked_on(name: str, tmp_path: Path):
    (tmp_path / f"{name}.scp").write_bytes(WRITERS["scp"](SIGNALS, Someone(f"{NUMBER}000")))
    (tmp_path / "plain.scp").write_bytes(WRITERS["scp"](SIGNALS, Someone(f"{NUMBER}001")))
    (tmp_path / "labels.csv").write_text(f"record,AF\nplain,1\n{name},0\n")
    said = [sentence for sentence in Directory(tmp_path).inferred if "named after" in sentence]
    assert said == [
        "1 file is named after the patient, and messages and corpora name records by their files: ecgadvise data "
        "convert gives them other names"
    ]
