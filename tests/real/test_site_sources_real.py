"""Sets of single hospitals in their publishers' layouts, built from the records that were restored as one's own.

What a publisher's tree has and the restored records do not (the minutes before an alarm, sources, other channels) is
written here; records and labels are the published ones, and have to come out as they do of the restored directory.
"""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.corpora.corpus import Corpus, prepare
from engine.records.contract import Sampling
from engine.sources.detect import open_source
from engine.sources.own_directory import Directory

ROOT = Path(os.environ.get("ECGADVISE_DATA") or Path(__file__).parents[2] / ".data" / "real")

pytestmark = pytest.mark.real


def restored(name: str) -> tuple[Path, list[dict[str, str]]]:
    folder = ROOT / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: set ECGADVISE_DATA to the folder of the restored sets")
    with (folder / "labels.csv").open(newline="") as file:
        return folder, list(csv.DictReader(file))


def copy_record(folder: Path, record: str, target: Path, comments: str = "") -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "records" / f"{record}.dat", target.with_name(f"{target.name}.dat"))
    header = (folder / "records" / f"{record}.hea").read_text().replace(record, target.name)
    target.with_name(f"{target.name}.hea").write_text(header + comments)


def both(tree: Path, folder: Path, tmp_path: Path, sampling: Sampling | None = None) -> tuple[Corpus, Corpus]:
    sampling = sampling or Sampling()
    ours, _ = prepare(open_source(tree), tmp_path / "ours", sampling=sampling)
    theirs, _ = prepare(Directory(folder), tmp_path / "theirs", sampling=sampling)
    return ours, theirs


def assert_same(ours: Corpus, theirs: Corpus, rows: list[int] | None = None) -> None:
    rows = list(range(len(theirs))) if rows is None else rows
    np.testing.assert_array_equal(ours.labels[rows], theirs.labels)
    np.testing.assert_array_equal(np.asarray(ours.signals)[rows], theirs.signals)
    pairs = set(zip(ours.patients[rows].tolist(), theirs.patients.tolist(), strict=True))
    assert len(pairs) == len(np.unique(ours.patients[rows])) == len(np.unique(theirs.patients))


def test_brugada_huca_is_as_restored(tmp_path):
    folder, rows = restored("brugada-huca")
    tree = tmp_path / "brugada-huca"
    lines = ["patient_id,basal_pattern,sudden_death,brugada"]
    for row in rows:
        copy_record(folder, row["record"], tree / "files" / row["record"] / row["record"])
        lines.append(f"{row['record']},{row['pathological_baseline']},0,{row['brugada']}")
    (tree / "metadata.csv").write_text("\n".join(lines) + "\n")
    ours, theirs = both(tree, folder, tmp_path)
    assert (ours.manifest["source"]["name"], len(ours), ours.labels.sum(axis=0).tolist()) == (
        "brugada-huca", 363, [76, 46]
    )  # fmt: skip
    assert len(ours.manifest["remarks"]["equal_signals"]) == 4
    assert_same(ours, theirs)


def test_challenge_2011_is_as_restored_and_what_is_flat_is_all_unacceptable(tmp_path):
    folder, rows = restored("challenge-2011")
    set_a = tmp_path / "challenge-2011" / "set-a"
    for row in rows:
        copy_record(folder, row["record"], set_a / row["record"])
    for file, value in (("RECORDS", "01"), ("RECORDS-acceptable", "0"), ("RECORDS-unacceptable", "1")):
        named = [row["record"] for row in rows if row["unacceptable"] in value]
        (set_a / file).write_text("\n".join(named) + "\n")
    ours, theirs = both(set_a.parent, folder, tmp_path)
    assert (ours.manifest["source"]["name"], len(ours)) == ("challenge-2011", 931)
    assert ours.manifest["unusable_labels"] == [[["unacceptable"], 67]]
    assert_same(ours, theirs)


def test_challenge_2015_is_as_restored(tmp_path):
    folder, rows = restored("challenge-2015")
    training = tmp_path / "challenge-2015" / "training"
    training.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for row in rows:
        name, outcome = row["record"], "True" if row["true_alarm"] == "1" else "False"
        samples = noise.integers(-999, 999, 82_500 if name.endswith("l") else 75_000).astype("<i2")
        samples[72_500:75_000] = np.fromfile(folder / "records" / f"{name}.dat", "<i2")
        (training / f"{name}.mat").write_bytes(bytes(24) + samples.tobytes())
        total = (int(samples.sum(dtype=np.int64)) + 32768) % 65536 - 32768
        signal = f"{name}.mat 16+24 1000/mV 16 0 {samples[0]} {total} 0 II"
        (training / f"{name}.hea").write_text(f"{name} 1 250 {len(samples)}\n{signal}\n#Asystole\n#{outcome} alarm\n")
    (training / "ALARMS").write_text("".join(f"{row['record']},Asystole,{row['true_alarm']}\n" for row in rows))
    ours, theirs = both(training.parent, folder, tmp_path)
    assert (ours.manifest["source"]["name"], len(ours), int(ours.labels.sum())) == ("challenge-2015", 704, 281)
    assert_same(ours, theirs)


def test_chagas_records_are_as_restored_with_the_patients_of_code_15(tmp_path):
    folder, rows = restored("chagas")
    tree = tmp_path / "chagas-2025"
    exams = ["exam_id,age,is_male,patient_id"]
    for row in rows:
        number, of_sami_trop = row["record"].removeprefix("c"), row["patient"].startswith("u")
        source = "SaMi-Trop" if of_sami_trop else "CODE-15%"
        comments = f"# Age: 50\n# Sex: Male\n# Chagas label: {row['chagas'] == '1'}\n# Source: {source}\n"
        copy_record(folder, row["record"], tree / source.strip("%") / number, comments)
        if not of_sami_trop:
            exams.append(f"{number},50,True,{row['patient']}")
    (tree / "exams.csv").write_text("\n".join(exams) + "\n")
    ours, theirs = both(tree, folder, tmp_path, Sampling(7.0))
    positions = {record.rpartition("/")[2]: row for row, record in enumerate(ours.record_ids.tolist())}
    order = [positions[record.rpartition("/")[2].removeprefix("c")] for record in theirs.record_ids.tolist()]
    assert (ours.manifest["source"]["name"], len(ours), int(ours.labels.sum())) == ("chagas-2025", 498, 113)
    assert_same(ours, theirs, order)
