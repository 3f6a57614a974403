"""A directory of any formats as WFDB: the same records, labels and patients, and nothing that names a person."""

import csv
from pathlib import Path

import numpy as np
import pytest

from engine.corpora.corpus import Corpus, prepare
from engine.records.wfdb_reader import read_header, read_wfdb
from engine.sources import SourceError
from engine.sources.conversion import TABLE, Conversion, convert
from engine.sources.own_directory import Directory
from tests.engine.records.formats.mixed_folder import FIRST_NAME, NUMBER, SURNAME, WRITERS, Someone, heart, write_mixed

KEY = b"a key of more than sixteen bytes"
STEP = 0.5 * 20 / 65_000 * 2  # half of one of 65,000 steps of a lead that spans 20 mV, twice for derived leads


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exports") / "mixed"
    write_mixed(root, 2)
    return root


def converted(root: Path, target: Path, key: bytes = KEY) -> tuple[Conversion, list[dict[str, str]]]:
    made = convert(Directory(root, labels_needed=False), target, key)
    with (target / TABLE).open(encoding="utf-8", newline="") as file:
        return made, list(csv.DictReader(file))


def parts(values: np.ndarray) -> set[frozenset[int]]:
    """Which rows have one value, whatever it is."""
    return {frozenset(np.flatnonzero(values == value).tolist()) for value in np.unique(values)}


def corpus_of(root: Path, target: Path) -> Corpus:
    return prepare(Directory(root), target)[0]


def test_what_is_converted_gives_the_same_corpus(mixed: Path, tmp_path: Path):
    made, rows = converted(mixed, tmp_path / "wfdb")
    assert made == Conversion(len(rows), (), 0)
    assert len(rows) == 2 * (len(WRITERS) + 4)
    before, after = corpus_of(mixed, tmp_path / "before"), corpus_of(tmp_path / "wfdb", tmp_path / "after")
    named = [one.replace(".", "_") for one in before.record_ids.tolist()]
    place = {name: row for row, name in enumerate(after.record_ids.tolist())}
    order = np.array([place[name] for name in named])
    assert after.leads == before.leads
    np.testing.assert_array_equal(after.task("labels").labels[order], before.task("labels").labels)
    assert parts(after.patients[order]) == parts(before.patients)
    assert before.tells_patients_apart
    np.testing.assert_array_equal(after.ages[order], before.ages)
    np.testing.assert_array_equal(after.sexes[order], before.sexes)
    np.testing.assert_allclose(after.signals[order], before.signals, atol=STEP)


def test_every_sample_is_within_half_a_step_of_sixteen_bits(mixed: Path, tmp_path: Path):
    converted(mixed, tmp_path / "wfdb")
    for recording in Directory(mixed).recordings.values():
        record = recording.read()
        path = tmp_path / "wfdb" / recording.record_id.replace(".", "_")
        again, header = read_wfdb(path), read_header(path)
        assert (again.leads, again.fs) == (record.leads, record.fs)
        worst = np.abs(again.signals - record.signals).max(axis=1)
        assert (worst <= 0.5 / np.array(header.gains) + 1e-6).all()
        assert all(channel.checksum is not None for channel in header.channels)


def test_patients_have_one_name_a_key(mixed: Path, tmp_path: Path):
    by_key = {
        name: {row["record"]: row["patient"] for row in converted(mixed, tmp_path / name, key)[1]}
        for name, key in (("first", KEY), ("again", KEY), ("other", KEY[::-1]))
    }
    assert by_key["first"] == by_key["again"]
    assert not set(by_key["first"].values()) & set(by_key["other"].values())
    assert len(set(by_key["first"].values())) < len(by_key["first"])


def test_a_patient_has_the_same_name_in_another_folder(mixed: Path, tmp_path: Path):
    signals, _labels = heart(0)
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "x.dcm").write_bytes(WRITERS["dcm"](signals, Someone(f"{NUMBER}000")))  # of the MUSE files
    made, (row,) = converted(tmp_path / "later", tmp_path / "later-wfdb")
    assert made.written == 1
    first = {row["record"]: row["patient"] for row in converted(mixed, tmp_path / "wfdb")[1]}
    assert row["patient"] == first["muse-xml/e000_muse"]
    assert set(row) == {"record", "patient", "age", "sex"}


@pytest.mark.parametrize("name", [f"{NUMBER}000", f"ecg {SURNAME}", f"{FIRST_NAME.lower()}-1", "x19470311_2020"])
def test_a_file_that_is_named_after_its_patient_is_not_in_the_copy(name: str, tmp_path: Path):
    (tmp_path / "in" / name).mkdir(parents=True)
    signals, _labels = heart(0)
    (tmp_path / "in" / name / "ecg.xml").write_bytes(WRITERS["muse.xml"](signals, Someone(f"{NUMBER}000")))
    (tmp_path / "in" / "plain.xml").write_bytes(WRITERS["muse.xml"](signals, Someone(f"{NUMBER}001")))
    made, rows = converted(tmp_path / "in", tmp_path / "out")
    assert (made.written, made.renamed) == (2, 1)
    assert sorted(row["record"][:7] for row in rows) == ["plain", "record-"]
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*"))
    assert not [path for path in found if name in path]
    assert len(found) == 5


def test_names_that_wfdb_does_not_take_stay_apart(tmp_path: Path):
    (tmp_path / "in").mkdir()
    signals, _labels = heart(0)
    for name in ("a b.scp", "a_b.scp", "a.b.scp"):
        (tmp_path / "in" / name).write_bytes(WRITERS["scp"](signals, Someone("1")))
    _made, rows = converted(tmp_path / "in", tmp_path / "out")
    assert len({row["record"] for row in rows}) == 3
    for row in rows:
        assert read_wfdb(tmp_path / "out" / row["record"]).signals.shape == (8, 5000)


def test_codes_in_headers_stay_in_headers(tmp_path: Path):
    signals, _labels = heart(0)
    (tmp_path / "in").mkdir()
    for name, code in (("r1", "164889003"), ("r2", "426783006")):
        stored = (signals[0] // 5).astype("<i2")
        stored.tofile(tmp_path / "in" / f"{name}.dat")
        signal = f"{name}.dat 16 200 16 0 {stored[0]} {int(stored.sum()) % 65536} 0 I"
        comments = ("Age: 63", "Sex: Female", f"Dx: {code}", f"Name: {SURNAME}")
        text = "\n".join([f"{name} 1 500 5000", signal, *(f"# {comment}" for comment in comments)]) + "\n"
        (tmp_path / "in" / f"{name}.hea").write_text(text)
    made, rows = converted(tmp_path / "in", tmp_path / "out")
    assert made.written == 2
    assert [row["age"] for row in rows] == ["63", "63"]
    assert SURNAME not in (tmp_path / "out" / "r1.hea").read_text()
    before, after = Directory(tmp_path / "in"), Directory(tmp_path / "out")
    assert before.labels == after.labels == ("164889003", "426783006")
    assert [entry.labels for entry in before.entries()] == [entry.labels for entry in after.entries()]


def test_what_cannot_be_read_is_left_out_and_named(mixed: Path, tmp_path: Path):
    signals, _labels = heart(0)
    (tmp_path / "in").mkdir()
    content = WRITERS["muse.xml"](signals, Someone("17"))
    (tmp_path / "in" / "whole.xml").write_bytes(content)
    (tmp_path / "in" / "cut.xml").write_bytes(content[: len(content) // 2])
    made, rows = converted(tmp_path / "in", tmp_path / "out")
    assert [row["record"] for row in rows] == ["whole"]
    ((name, reason),) = made.refused
    assert name == "cut"
    assert "XML is damaged" in reason


def test_a_folder_that_is_there_is_kept(mixed: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    with pytest.raises(SourceError, match=r"exists already"):
        convert(Directory(mixed), tmp_path / "out", KEY)
    assert not list((tmp_path / "out").iterdir())


def test_nothing_is_written_where_no_recording_can_be_converted(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "signals.toml").write_text('["*.csv"]\nfs = 500\nunit = "uV"\n')
    (tmp_path / "in" / "a.csv").write_text("I,II\n" + "nan,nan\n" * 5000)
    with pytest.raises(SourceError, match=r"no recording of .* can be converted: every sample is missing"):
        convert(Directory(tmp_path / "in", labels_needed=False), tmp_path / "out", KEY)
    assert not (tmp_path / "out").exists()
