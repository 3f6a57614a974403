"""A directory of any formats as WFDB: the same records, labels and patients, and nothing that names a person."""

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest

from engine.corpora.corpus import Corpus, prepare
from engine.records.record import Record, RecordError
from engine.records.wfdb_reader import read_header, read_wfdb
from engine.sources import SourceError, conversion
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


def converted(root: Path, target: Path, key: bytes = KEY) -> tuple[Conversion, dict[str, dict[str, str]]]:
    """Convert; return what came of it and the rows of the table, by the recordings' names before."""
    made = convert(Directory(root, labels_needed=False), target, key)
    with (target / TABLE).open(encoding="utf-8", newline="") as file:
        rows = {row["record"]: row for row in csv.DictReader(file)}
    return made, {before: rows[after] for before, after in made.names.items() if after in rows}


def parts(values: np.ndarray) -> set[frozenset[int]]:
    """Which rows have one value, whatever it is."""
    return {frozenset(np.flatnonzero(values == value).tolist()) for value in np.unique(values)}


def corpus_of(root: Path, target: Path) -> Corpus:
    return prepare(Directory(root), target)[0]


def test_what_is_converted_gives_the_same_corpus(mixed: Path, tmp_path: Path):
    made, rows = converted(mixed, tmp_path / "wfdb")
    assert made.refused == ()
    assert len(rows) == len(made.names) == 2 * (len(WRITERS) + 4)
    before, after = corpus_of(mixed, tmp_path / "before"), corpus_of(tmp_path / "wfdb", tmp_path / "after")
    assert after.record_ids.tolist() == [made.names[one] for one in before.record_ids.tolist()]
    assert after.leads == before.leads
    np.testing.assert_array_equal(after.task("labels").labels, before.task("labels").labels)
    assert parts(after.patients) == parts(before.patients)
    assert before.tells_patients_apart
    np.testing.assert_array_equal(after.ages, before.ages)
    np.testing.assert_array_equal(after.sexes, before.sexes)
    np.testing.assert_allclose(after.signals, before.signals, atol=STEP)


def test_every_sample_is_within_half_a_step_of_sixteen_bits(mixed: Path, tmp_path: Path):
    made, _rows = converted(mixed, tmp_path / "wfdb")
    for recording in Directory(mixed).recordings.values():
        record = recording.read()
        path = tmp_path / "wfdb" / made.names[recording.record_id]
        again, header = read_wfdb(path), read_header(path)
        assert (again.leads, again.fs) == (record.leads, record.fs)
        worst = np.abs(again.signals - record.signals).max(axis=1)
        assert (worst <= 0.5 / np.array(header.gains) + 1e-6).all()
        assert all(channel.checksum is not None for channel in header.channels)


def test_records_and_patients_have_one_name_a_key(mixed: Path, tmp_path: Path):
    by_key = {
        name: [(row["record"], row["patient"]) for row in converted(mixed, tmp_path / name, key)[1].values()]
        for name, key in (("first", KEY), ("again", KEY), ("other", KEY[::-1]))
    }
    assert by_key["first"] == by_key["again"]
    for place in (0, 1):
        assert not {one[place] for one in by_key["first"]} & {one[place] for one in by_key["other"]}
    assert len({patient for _record, patient in by_key["first"]}) < len(by_key["first"])


def test_a_patient_has_the_same_name_in_another_folder(mixed: Path, tmp_path: Path):
    signals, _labels = heart(0)
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "x.dcm").write_bytes(WRITERS["dcm"](signals, Someone(f"{NUMBER}000")))  # of the MUSE files
    _made, rows = converted(tmp_path / "later", tmp_path / "later-wfdb")
    first = converted(mixed, tmp_path / "wfdb")[1]
    assert rows["x"]["patient"] == first["muse-xml/e000.muse"]["patient"]
    assert set(rows["x"]) == {"record", "patient", "age", "sex"}


def test_recordings_of_nobody_are_of_others_in_another_folder(tmp_path: Path):
    patients = []
    for k in range(2):
        (tmp_path / f"in{k}").mkdir()
        (tmp_path / f"in{k}" / "r1.atc").write_bytes(WRITERS["atc"](heart(k)[0], Someone("")))
        patients.append(converted(tmp_path / f"in{k}", tmp_path / f"out{k}")[1]["r1"]["patient"])
    assert patients[0] != patients[1]


def test_no_name_of_a_file_or_folder_is_in_the_copy(tmp_path: Path):
    names = (
        f"{NUMBER}000",
        f"ecg {SURNAME}",
        f"{FIRST_NAME.lower()}-1",
        "12.03.1950",
        "M\u00fcller/k1",
        "a b",
        "a_b",
        "a.b",
    )
    for k, name in enumerate(names):
        path = tmp_path / "in" / f"{name}.scp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(WRITERS["scp"](heart(0)[0], Someone(str(k + 1))))
    Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/k\xff.scp")).symlink_to(path)
    made, _rows = converted(tmp_path / "in", tmp_path / "out")
    assert len(made.names) == len(names) + 1
    found = [path.name for path in (tmp_path / "out").rglob("*")]
    assert len(found) == 2 * len(made.names) + 1
    assert all(re.fullmatch(r"[0-9a-f]{16}\.(hea|dat)|records\.csv", name) for name in found)


def test_what_a_table_says_nothing_usable_of_is_left_out_of_the_copy_too(tmp_path: Path):
    (tmp_path / "in").mkdir()
    for k in range(5):
        (tmp_path / "in" / f"r{k}.scp").write_bytes(WRITERS["scp"](heart(k)[0], Someone(str(k + 1))))
    rows = ("record,patient,AF,fold", "r3,p1,1,2", "r1,p1,0,2", "r0,,1,1", "r2,p2,0,")
    (tmp_path / "in" / "labels.csv").write_text("\n".join(rows) + "\n")
    made, rows_after = converted(tmp_path / "in", tmp_path / "out")
    assert list(rows_after) == ["r1", "r3"]
    usable = {one.record_id: one for one in Directory(tmp_path / "in").entries() if one.problem is None}
    after = [one for one in Directory(tmp_path / "out").entries() if one.problem is None]
    assert [one.record_id for one in after] == [made.names[record] for record in usable]
    assert [one.fold for one in after] == [2, 2]
    assert rows_after["r1"]["patient"] == rows_after["r3"]["patient"]


@pytest.mark.parametrize("signal", ["offset", "huge", "flat", "missing", "one"])
def test_odd_signals_keep_their_values(signal: str, tmp_path: Path):
    time = np.arange(1000) / 100
    lead = np.sin(time)
    lead = {
        "offset": lead * 1e-3 + 40_000, "huge": lead * 1e6, "flat": lead * 0 + 0.7,
        "missing": np.where(time % 2 < 1, np.nan, lead), "one": lead[:1],
    }[signal]  # fmt: skip
    record = Record(np.stack([lead, lead[::-1]]).astype(np.float32), 100 / 3, ("V1", "V7"))
    conversion._write(record, tmp_path / "x", frozenset())
    again = read_wfdb(tmp_path / "x")
    assert (again.fs, again.leads) == (record.fs, record.leads)
    step = 1 / np.array(read_header(tmp_path / "x").gains)
    assert np.nanmax(np.abs(again.signals - record.signals)) <= step.max() * 0.51 + 4e-3 * (signal == "offset")
    np.testing.assert_array_equal(np.isnan(again.signals), np.isnan(record.signals))


def test_a_lead_that_is_there_twice_is_refused(tmp_path: Path):
    record = Record(np.zeros((3, 100), np.float32), 100, ("V1", "II", "V1"))
    with pytest.raises(RecordError, match=r"^lead V1 is there more than once$"):
        conversion._write(record, tmp_path / "x", frozenset())


def test_channels_that_are_no_leads_lose_their_names(tmp_path: Path):
    record = Record(np.zeros((5, 100), np.float32), 100, ("I", "Qxtorova", "V7", "Zvonimir 1947", "V7"))
    conversion._write(record, tmp_path / "x", frozenset())
    assert read_header(tmp_path / "x").leads == ("I", "channel (2)", "V7 (3)", "channel (4)", "V7 (5)")


def test_a_folder_within_the_records_is_refused(mixed: Path):
    with pytest.raises(SourceError, match=r"would have every record twice"):
        convert(Directory(mixed), mixed / "out", KEY)
    assert not (mixed / "out").exists()


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
    assert [row["age"] for row in rows.values()] == ["63", "63"]
    headers = [(tmp_path / "out" / f"{name}.hea").read_text() for name in made.names.values()]
    assert len(headers) == 2
    assert not [text for text in headers if SURNAME in text]
    before, after = Directory(tmp_path / "in"), Directory(tmp_path / "out")
    assert before.labels == after.labels == ("164889003", "426783006")
    labels = {entry.record_id: entry.labels for entry in after.entries()}
    assert [labels[made.names[entry.record_id]] for entry in before.entries()] == [
        entry.labels for entry in before.entries()
    ]


def test_what_cannot_be_read_is_left_out_and_named(mixed: Path, tmp_path: Path):
    signals, _labels = heart(0)
    (tmp_path / "in").mkdir()
    content = WRITERS["muse.xml"](signals, Someone("17"))
    (tmp_path / "in" / "whole.xml").write_bytes(content)
    (tmp_path / "in" / "cut.xml").write_bytes(content[: len(content) // 2])
    made, rows = converted(tmp_path / "in", tmp_path / "out")
    assert list(rows) == ["whole"]
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
