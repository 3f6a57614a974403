"""``ecgadvise data check`` and ``data prepare``, as processes, on synthetic trees."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wfdb

from engine.corpora.corpus import Corpus
from engine.corpora.opening import open_directory
from tests.engine.records.formats.mixed_folder import WRITERS, write_mixed


def data(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ecgadvise", "data", *arguments], capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def damaged_tree(ptbxl_tree: Path, tmp_path: Path) -> Path:
    """The small PTB-XL tree with one record truncated, one missing, one altered, and one that repeats another."""
    root = shutil.copytree(ptbxl_tree, tmp_path / "ptb-xl")
    records = root / "records100" / "00000"
    whole = (records / "00001_lr.dat").read_bytes()
    (records / "00001_lr.dat").write_bytes(whole[:12_000])
    (records / "00002_lr.dat").unlink()
    altered = bytearray((records / "00003_lr.dat").read_bytes())
    altered[500] ^= 1
    (records / "00003_lr.dat").write_bytes(bytes(altered))
    (records / "00005_lr.dat").write_bytes((records / "00004_lr.dat").read_bytes())
    header = (records / "00004_lr.hea").read_text().replace("00004_lr", "00005_lr")
    (records / "00005_lr.hea").write_text(header)
    return root


def test_check_counts_what_is_there(ptbxl_tree: Path):
    result = data("check", str(ptbxl_tree), "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["records"], report["patients"], report["unusable"]) == (240, 120, 0)
    assert report["classes"] == {"NORM": 40, "MI": 80, "STTC": 40, "CD": 40, "HYP": 40}
    assert report["unlabelled"] == 0
    assert report["problems"] == []
    assert report["duplicates"] == []


def test_check_names_every_bad_record_and_exits_3(damaged_tree: Path):
    result = data("check", str(damaged_tree), "--json")
    assert result.returncode == 3
    assert "3 of 240 records" in result.stderr
    report = json.loads(result.stdout)
    bad = {problem["record"]: problem["problem"] for problem in report["problems"] if not problem["usable"]}
    assert set(bad) == {"1", "2", "3"}
    assert "truncated" in bad["1"]
    assert "missing" in bad["2"]
    assert "checksum" in bad["3"]
    assert report["duplicates"] == [["4", "5"]]
    assert report["classes"]["NORM"] == 40  # what is listed, usable or not


def test_max_bad_lets_a_check_pass(damaged_tree: Path):
    assert data("check", str(damaged_tree), "--max-bad", "3").returncode == 0
    assert data("check", str(damaged_tree), "--max-bad", "2").returncode == 3


def test_check_for_people_names_records_and_causes(damaged_tree: Path):
    lines = data("check", str(damaged_tree)).stdout.splitlines()
    assert lines[0] == "ptb-xl: 240 records of 120 patients, 3 unusable"
    assert any(line.startswith("unusable: 1: truncated") for line in lines)
    assert "equal signals: 4, 5" in lines


def test_a_table_of_many_more_rows_than_there_are_recordings_does_not_flood_the_terminal(tmp_path: Path, command):
    ward = tmp_path / "ward"
    ward.mkdir()
    for k in range(2):
        signals = np.random.default_rng(k).normal(0, 0.2, (1000, 2))
        wfdb.wrsamp(f"r{k}", fs=100, units=["mV"] * 2, sig_name=["I", "II"], fmt=["16"] * 2, p_signal=signals,
                    write_dir=str(ward))  # fmt: skip
    rows = [f"r{k},{k % 2}" for k in range(1000)]
    (ward / "labels.csv").write_text("\n".join(["record,AF", *rows]) + "\n")
    code, said, err = command("data", "check", ward)
    assert code == 3
    assert "998 records (r2, r3, r4, r5, r6 and 993 more) such as: labels.csv, line 4: no file" in said
    assert len(said.splitlines()) + len(err.splitlines()) < 20
    listed = json.loads(command("data", "check", ward, "--json")[1])["problems"]
    assert {one["record"] for one in listed if not one["usable"]} == {f"r{k}" for k in range(2, 1000)}


def test_prepare_leaves_bad_records_out_and_says_so(damaged_tree: Path, tmp_path: Path):
    result = data("prepare", str(damaged_tree), "--corpora", str(tmp_path / "corpora"))
    assert result.returncode == 0, result.stderr
    assert "237 records, 3 left out" in result.stdout
    assert "unusable: 2: file missing" in result.stderr


def test_prepare_makes_nothing_where_more_records_are_bad_than_are_put_up_with(damaged_tree: Path, tmp_path: Path):
    refused = data("prepare", str(damaged_tree), "--corpora", str(tmp_path / "corpora"), "--max-bad", "2")
    assert refused.returncode == 3
    target = tmp_path / "corpora" / "ptb-xl"
    last = refused.stderr.splitlines()[-1]
    assert last == f"error: 3 of 240 records cannot be used (--max-bad is 2): {target} was not made"
    assert "unusable: 2: file missing" in refused.stderr
    assert not target.exists()
    made = data("prepare", str(damaged_tree), "--corpora", str(tmp_path / "corpora"), "--max-bad", "3")
    assert made.returncode == 0, made.stderr
    assert target.is_dir()


def test_prepare_as_published_makes_a_corpus_of_its_own(ptbxl_tree: Path, tmp_path: Path):
    for preparation, name in (("contract", "ptb-xl"), ("paper", "ptb-xl-paper")):
        result = data("prepare", str(ptbxl_tree), "--corpora", str(tmp_path), "--preparation", preparation)
        assert result.returncode == 0, result.stderr
        assert Corpus(tmp_path / name).task("superclass").name == f"{name}/superclass"
    published, contract = Corpus(tmp_path / "ptb-xl-paper"), Corpus(tmp_path / "ptb-xl")
    assert published.content_hash != contract.content_hash
    np.testing.assert_array_equal(published.signals.max(axis=2), 1)
    np.testing.assert_array_equal(published.signals.min(axis=2), -1)


def test_a_prepared_tree_is_taken_by_what_reads_the_same_tree(ptbxl_tree: Path, tmp_path: Path):
    corpora = tmp_path / "corpora"
    assert data("prepare", str(ptbxl_tree), "--corpora", str(corpora)).returncode == 0
    said: list[str] = []
    opened, task = open_directory(ptbxl_tree, "", corpora, say=said.append)
    assert (opened.root, task) == (corpora / "ptb-xl", "superclass")
    assert said == [f"{ptbxl_tree} was prepared before: using {corpora / 'ptb-xl'}"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["check", "nowhere"], 3, "nowhere is not a directory"),
        (["check", "."], 3, "no ECG records"),
        (["prepare", "."], 3, "no ECG records"),
        (["check", ".", "--source", "mimic"], 2, "no set is named mimic"),
        (["check", ".", "--source", "ptb-xl"], 3, "ptbxl_database.csv"),
        (["check"], 2, "DIR"),
        (["check", ".", "--max-bad", "-1"], 2, "--max-bad"),
    ],
)
def test_what_is_no_tree_ends_in_one_sentence(arguments: list[str], code: int, says: str, tmp_path: Path):
    result = subprocess.run(
        [sys.executable, "-m", "ecgadvise", "data", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert result.returncode == code
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_task_is_named(ptbxl_tree: Path):
    result = data("check", str(ptbxl_tree), "--task", "rhythms")
    assert result.returncode == 2
    assert "it has superclass, form, rhythm" in result.stderr


def test_a_target_that_cannot_be_written_ends_in_one_sentence(ptbxl_tree: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    result = data("prepare", str(ptbxl_tree), "--corpora", str(tmp_path / "file"))
    assert result.returncode == 1
    assert "cannot write" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_names_reach_the_terminal_in_one_line_and_without_what_it_would_obey(tmp_path: Path, command):
    root = tmp_path / "ward\x1b[31m\nerror: none"
    for k, name in enumerate(("a\x1b[2J", "b\nerror: c", "d\u202e", os.fsdecode(b"e\xff"))):
        samples = np.random.default_rng(k).integers(-900, 900, (1000, 2)).astype("<i2")
        root.mkdir(exist_ok=True)
        samples.tofile(root / f"s{k}.dat")
        lines = [f"s{k}.dat 16 1000/mV 16 0 0 0 0 {lead}" for lead in ("I", "II")]
        header = "\n".join(["r 2 100 1000", *lines, f"#Dx: {(164889003, 426783006)[k % 2]}"])
        (root / f"{name}.hea").write_text(header)
    for words in (("check", root), ("prepare", root, "--corpora", tmp_path / "corpora")):
        ended = command("data", *words)
        shown = ended.out + ended.err
        assert all(line.isprintable() for line in shown.splitlines())
        assert not any(line.startswith("error: ") and "cannot be used" not in line for line in shown.splitlines())
    assert [path.name for path in (tmp_path / "corpora").iterdir()] == ["ward-31m-error-none"]


def test_prepare_says_how_many_signals_are_equal(damaged_tree: Path, tmp_path: Path, command):
    ended = command("data", "prepare", damaged_tree, "--corpora", tmp_path / "corpora")
    assert "237 records: 1 group of equal signals" in ended.err


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats") / "exports"
    write_mixed(folder)
    (folder / "broken.scp").write_bytes(b"SCPECG")
    return folder


def test_convert_says_what_it_wrote_and_what_it_left_out(exports: Path, tmp_path: Path, command):
    out = tmp_path / "records"
    code, said, err = command("data", "convert", exports, "--to", "wfdb", "--out", out)
    n_records = len(WRITERS) + 4
    assert code == 0
    assert said == f"{n_records} records as wfdb, 1 left out, records.csv: {out}\n"
    assert "unusable: broken: not SCP-ECG" in err
    assert "no --key: names are made with a random one that is not kept" in err
    assert len(list(out.rglob("*.hea"))) == n_records
    code, said, err = command("data", "check", out)
    assert (code, f"{n_records} records" in said) == (0, True)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (None, "cannot read"),
        (b"too short", "has 9 bytes: a key needs 16 or more, as openssl rand -hex 32 makes it"),
        (b" " * 40, "has 0 bytes"),
    ],
)
def test_a_key_that_keeps_nothing_is_refused(key: bytes | None, says: str, exports: Path, tmp_path: Path, command):
    if key is not None:
        (tmp_path / "key").write_bytes(key)
    line = ("data", "convert", exports, "--to", "wfdb", "--out", tmp_path / "out", "--key", tmp_path / "key")
    code, said, err = command(*line)
    assert (code, said) == (2, "")
    assert says in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_which_record_became_which_is_written_for_whoever_asks(exports: Path, tmp_path: Path, command):
    out, names = tmp_path / "records", tmp_path / "names.csv"
    code, _said, _err = command("data", "convert", exports, "--to", "wfdb", "--out", out, "--names", names)
    assert code == 0
    rows = [line.split(",") for line in names.read_text().splitlines()]
    assert rows[0] == ["record", "converted"]
    assert {"dcm/e008", "c0", "tracings/100"} < {record for record, _name in rows[1:]}
    assert all((out / f"{name}.hea").is_file() for _record, name in rows[1:])


def test_a_published_tree_is_not_converted_unless_as_ones_own(ptbxl_tree: Path, tmp_path: Path, command):
    line = ("data", "convert", ptbxl_tree, "--to", "wfdb", "--out", tmp_path / "out")
    code, said, err = command(*line)
    assert (code, said) == (3, "")
    assert "is ptb-xl as it is published" in " ".join(err.split())
    assert command(*line, "--source", "directory")[0] == 0


def test_what_is_there_is_not_written_over(exports: Path, tmp_path: Path, command):
    (tmp_path / "out").mkdir()
    code, said, err = command("data", "convert", exports, "--to", "wfdb", "--out", tmp_path / "out")
    assert (code, said) == (3, "")
    assert "exists already: choose another folder" in err


def test_files_that_need_a_package_name_the_extra(exports: Path, monkeypatch: pytest.MonkeyPatch, command):
    for name in ("pydicom", "edfio"):
        monkeypatch.setitem(sys.modules, name, None)
    code, said, _err = command("data", "check", exports)
    assert code == 3
    assert "reading DICOM needs pydicom: pip install 'ecgadvise[formats]'" in said
    assert "reading EDF needs edfio: pip install 'ecgadvise[formats]'" in said
