"""The published trees themselves, in the folder that ``ECGADVISE_DATA`` names, else in ``.data/real``."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import wfdb

from engine.corpora.splits import split_validation
from engine.records.record import LEADS
from engine.records.signal import conform
from engine.records.wfdb_reader import read_header, read_wfdb
from engine.sources.challenges.challenge2017 import Challenge2017
from engine.sources.challenges.challenge2021 import SETS, Challenge
from engine.sources.detect import open_source
from engine.sources.ludb import Ludb
from engine.sources.ptbxl import SINGLE_STATEMENTS, PtbXl

ROOT = Path(os.environ.get("ECGADVISE_DATA") or Path(__file__).parents[2] / ".data" / "real")
TREES = {"ptb-xl": "ptbxl_database.csv", "challenge-2017": "REFERENCE-v3.csv", "ludb": "ludb.csv"}

pytestmark = pytest.mark.real


def tree(name: str) -> Path:
    folder = ROOT / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: set ECGADVISE_DATA to the folder of the restored sets")
    return folder


@pytest.fixture(scope="module")
def ptbxl():
    return PtbXl(tree("ptb-xl"))


def by_wfdb(path: Path) -> np.ndarray:
    record = wfdb.rdrecord(str(path), physical=False)
    return record.dac().T.astype(np.float32)


def no_patient_on_two_sides(entries) -> bool:
    patients = np.unique([entry.patient for entry in entries], return_inverse=True)[1].astype(np.int64)
    splits = [split_validation(patients, 0.2, seed) for seed in range(3)]
    return all(not set(patients[a]) & set(patients[b]) and len(a) + len(b) == len(patients) for a, b in splits)


def test_ptb_xl_has_its_records_patients_and_superclasses(ptbxl):
    entries = ptbxl.entries()
    assert len(entries) == 21_799
    assert len({entry.patient for entry in entries}) == 18_869
    classes = ptbxl.tasks["superclass"].classes
    counts = {name: sum(bool(entry.labels & set(union)) for entry in entries) for name, union in classes.items()}
    assert counts == {"NORM": 9514, "MI": 5469, "STTC": 5235, "CD": 4898, "HYP": 2649}
    diagnostic = {code for union in classes.values() for code in union}
    assert sum(not entry.labels & diagnostic for entry in entries) == 411
    sizes = {name: len(task.classes) for name, task in ptbxl.tasks.items()}
    several = {name: n for name, n in sizes.items() if n > 1}
    assert several == {"superclass": 5, "form": 19, "rhythm": 12, "all": 71, "non-diagnostic": 27, "subclass": 23,
                       "diagnostic-only": 40}  # fmt: skip
    assert set(sizes) - set(several) == set(SINGLE_STATEMENTS)


def test_a_disjoint_upstream_shares_no_statement_with_its_downstream_tasks(ptbxl):
    used = {name: {code for union in task.classes.values() for code in union} for name, task in ptbxl.tasks.items()}
    for upstream, downstream in (("non-diagnostic", ("superclass", "subclass", "LVH", "IMI", "CLBBB", "1AVB")),
                                 ("diagnostic-only", ("form", "rhythm", "AFIB"))):  # fmt: skip
        assert not any(used[upstream] & used[task] for task in downstream)


def test_a_single_statement_is_asked_of_every_record(ptbxl):
    assert not any(ptbxl.tasks[name].labelled_only for name in SINGLE_STATEMENTS)


def test_ptb_xl_patients_stay_in_one_fold_and_on_one_side(ptbxl):
    entries = ptbxl.entries()
    folds: dict[str, set[int | None]] = {}
    for entry in entries:
        folds.setdefault(entry.patient, set()).add(entry.fold)
    assert {len(found) for found in folds.values()} == {1}
    assert {fold for found in folds.values() for fold in found} == set(range(1, 11))
    assert no_patient_on_two_sides(entries)


def test_ptb_xl_ages_and_sexes_are_as_published(ptbxl):
    entries = ptbxl.entries()
    assert Counter(entry.sex for entry in entries) == {"male": 11_354, "female": 10_445}  # 52 % and 48 %
    assert max(entry.age for entry in entries if entry.age is not None) <= 89


def test_ptb_xl_records_read_to_the_bit_as_by_wfdb(ptbxl):
    for entry in ptbxl.entries()[::220]:
        record = conform(ptbxl.read(entry))
        assert record.notes == ()
        assert record.signals.tobytes() == by_wfdb(entry.path).tobytes()


def test_challenge_2017_has_its_four_classes():
    source = Challenge2017(tree("challenge-2017"))
    entries = source.entries()
    assert Counter(next(iter(entry.labels)) for entry in entries) == {"N": 5076, "A": 758, "O": 2415, "~": 279}
    assert no_patient_on_two_sides(entries)
    for entry in entries[::100]:
        record = source.read(entry)
        np.testing.assert_array_equal(record.signals, by_wfdb(entry.path))
        assert record.fs == 300


def test_ludb_has_200_records_whose_leads_share_one_unit():
    source = Ludb(tree("ludb"))
    entries = source.entries()
    assert len(entries) == 200
    assert len(source.tasks["diagnoses"].classes) == 24
    assert no_patient_on_two_sides(entries)
    largest = []
    for entry in entries[::4]:
        record = conform(source.read(entry))
        one, two, three = record.signals[:3]
        np.testing.assert_allclose(three, two - one, atol=0.003)
        assert len(record.notes) == 1  # the rescaling, and nothing that looks odd after it
        largest.append(np.ptp(record.signals, axis=1).max())
    assert 1.5 < np.median(largest) < 4  # PTB-XL: 2.6 mV


def test_all_138_challenge_records_are_read_georgia_included():
    folder = tree("challenge-2021")
    found = {}
    for name in SETS:
        if name in {"cpsc-extra", "st-petersburg"}:
            continue
        source = Challenge(folder, name)
        entries = source.entries()
        assert no_patient_on_two_sides(entries)
        for entry in entries:
            assert entry.problem is None
            assert entry.labels
            assert conform(source.read(entry)).signals.shape == (12, 1000)
        found[name] = len(entries)
    assert found == {"cpsc2018": 4, "georgia": 31, "ptb": 10, "chapman": 66, "ptb-xl-hr": 27}


def test_challenge_records_that_wfdb_can_read_are_read_the_same():
    compared = 0
    for header in sorted(tree("challenge-2021").rglob("*.hea"))[::3]:
        path = header.with_suffix("")
        assert read_header(path).leads == LEADS
        if ".mat 12" not in header.read_text():  # wfdb refuses Georgia's record names
            np.testing.assert_array_equal(read_wfdb(path).signals, by_wfdb(path))
            compared += 1
    assert compared > 25


@pytest.mark.parametrize("name", TREES)
def test_each_tree_is_recognised(name):
    assert open_source(tree(name)).name == name


def test_our_own_resampling_agrees_with_the_publishers_at_100_hz(ptbxl):
    """The Challenge's PTB-XL records are the 500 Hz originals of PTB-XL's 100 Hz ones."""
    folder = tree("challenge-2021")
    published = {entry.record_id: entry for entry in ptbxl.entries()}
    correlations = []
    source = Challenge(folder, "ptb-xl-hr")
    for entry in source.entries():
        ours = conform(source.read(entry)).signals
        theirs = conform(ptbxl.read(published[str(int(entry.record_id[2:]))])).signals
        correlations.append(np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(ours, theirs, strict=True)]))
    assert np.median(correlations) > 0.98
