"""Brugada-HUCA and the Challenges of 2011, 2015 and 2025: what each says of a record, and what is said about it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.corpora.corpus import prepare
from engine.corpora.remarks import remarks
from engine.corpora.survey import survey
from engine.deploy.inference import list_records
from engine.records.contract import Sampling
from engine.records.record import RecordError
from engine.sources import SourceError
from engine.sources.brugada_huca import BrugadaHuca
from engine.sources.challenges.challenge2011 import Challenge2011
from engine.sources.challenges.challenge2015 import Challenge2015
from engine.sources.challenges.challenge2025 import Challenge2025
from engine.sources.detect import open_source


@pytest.fixture
def copy_of(trees, tmp_path):
    """A function that copies a publisher's tree, to be damaged."""
    return lambda name: Path(shutil.copytree(trees[name], tmp_path / name))


def test_brugada_is_confirmed_or_atypical_and_the_baseline_is_a_label_of_its_own(trees):
    entries = BrugadaHuca(trees["brugada-huca"]).entries()
    said = [(sorted(entry.labels), entry.problem) for entry in entries[:5]]
    expected = [["brugada", "pathological_baseline"], [], ["brugada"], [], ["pathological_baseline"]]
    assert said == [(labels, None) for labels in expected]
    assert [entry.patient for entry in entries] == [f"18898{k}" for k in range(6)]


def test_a_value_that_brugada_huca_does_not_use_makes_its_record_unusable(trees):
    last = BrugadaHuca(trees["brugada-huca"]).entries()[-1]
    assert last.problem == "brugada is '9' and basal_pattern '0'; 0, 1, 2 and 0, 1 are known"
    assert not last.labels_known


def test_the_first_10_of_12_s_of_brugada_huca_are_used_and_equal_signals_named(trees):
    found = survey(BrugadaHuca(trees["brugada-huca"]))
    assert (found.records, found.unusable, found.classes) == (6, 1, {"brugada": 2, "pathological_baseline": 2})
    assert {one.problem for one in found.problems if one.usable} == {"12 s long: the first 10 s are used"}
    assert found.duplicates == (("188983", "188984"),)


def test_a_table_of_that_name_with_other_columns_is_a_wards_own(tmp_path, record_writer):
    for k in range(2):
        record_writer(tmp_path / f"r{k}")
    (tmp_path / "metadata.csv").write_text("patient_id,AF,record\np1,1,r0\np2,0,r1\n")
    assert open_source(tmp_path).licence == "the owner's"


def test_brugada_huca_in_a_folder_of_a_wards_own_is_not_read_past_its_labels(copy_of, record_writer):
    root = copy_of("brugada-huca")
    record_writer(root.parent / "r1", comments=["Dx: 426783006"])
    with pytest.raises(SourceError, match="brugada-huca is a brugada-huca tree: point at that folder"):
        open_source(root.parent)


def test_challenge_2011_says_unacceptable_and_leaves_out_what_is_graded_neither(trees):
    entries = Challenge2011(trees["challenge-2011"]).entries()
    assert [bool(entry.labels) for entry in entries] == [False, False, True, True, True, False]
    assert [entry.problem for entry in entries] == [None] * 5 + ["indeterminate: graded neither"]
    assert [entry.labels_known for entry in entries] == [True] * 5 + [False]
    found = survey(Challenge2011(trees["challenge-2011"]))
    assert (found.unusable, found.excluded.known, found.excluded.labels["unacceptable"].records) == (2, 1, 1)


def test_challenge_2011_ages_0_and_90_are_unknown(trees):
    entries = Challenge2011(trees["challenge-2011"]).entries()
    assert [(e.age, e.sex) for e in entries] == [
        (58, "female"), (None, "male"), (None, "male"), (45, "male"), (None, None), (None, None)
    ]  # fmt: skip


def test_challenge_2011_is_read_at_200_units_a_millivolt(trees, synthetic_ecg):
    source = Challenge2011(trees["challenge-2011"])
    np.testing.assert_allclose(source.read(source.entries()[0]).signals, synthetic_ecg(seed=0) // 5 / 200, atol=1e-6)


def test_set_a_of_challenge_2011_may_be_pointed_at_itself(trees):
    source = open_source(trees["challenge-2011"] / "set-a")
    assert source.name == "challenge-2011"
    assert len(source.entries()) == 6


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("RECORDS", "1000603\n", "RECORDS does not list 1001603, which is graded"),
        ("RECORDS-unacceptable", None, "not a Challenge 2011 tree: it has no RECORDS-unacceptable"),
        ("RECORDS-acceptable", b"\xff\xfe\x00", "RECORDS-acceptable cannot be read"),
    ],
)
def test_lists_of_challenge_2011_that_do_not_fit_are_refused_in_a_sentence(copy_of, file, content, says):
    path = copy_of("challenge-2011") / "set-a" / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceError, match=says):
        open_source(path.parents[1], "challenge-2011")


def test_a_record_in_both_lists_of_challenge_2011_is_not_used(copy_of):
    root = copy_of("challenge-2011")
    (root / "set-a" / "RECORDS-acceptable").write_text("1000603\n1002603\n")
    both = Challenge2011(root).entries()[2]
    assert (both.problem, both.labels, both.labels_known) == ("graded acceptable and unacceptable", frozenset(), False)


def test_challenge_2015_is_lead_ii_in_the_10_s_before_the_alarm_and_nothing_after_it(trees):
    source = Challenge2015(trees["challenge-2015"])
    for entry in source.entries()[:2]:  # of 330 and of 300 s
        record = source.read(entry)
        row = record.leads.index("II")
        np.testing.assert_allclose(record.signals[row], np.arange(72_500, 75_000) // 10 / 1000, atol=1e-6)
        assert record.fs == 250


def test_challenge_2015_counts_what_has_no_lead_ii_and_what_says_nothing(trees):
    source = open_source(trees["challenge-2015"])
    assert "1 of 4 records have no lead II and cannot be used" in source.inferred
    found = survey(source)
    assert found.classes == {"true_alarm": 2}
    assert {(one.record, one.problem) for one in found.problems if not one.usable} == {
        ("t105l", "lead II missing"), ("v106s", "the header does not say whether the alarm was true")
    }  # fmt: skip
    assert (found.excluded.known, found.excluded.labels["true_alarm"].records) == (1, 1)


def test_a_challenge_2015_record_that_ends_before_its_alarm_is_not_used(copy_of, record_writer):
    root = copy_of("challenge-2015")
    samples = np.ones((1, 70_000), np.int16)
    record_writer(root / "training" / "x100s", samples, "250", ["II"], ["Asystole", "True alarm"], matlab=True)
    source = Challenge2015(root)
    with pytest.raises(RecordError, match="280 s long: it ends before the alarm"):
        source.read(source.entries()[-1])


def test_chagas_labels_ages_and_sexes_are_those_of_the_headers(trees):
    entries = {entry.record_id: entry for entry in Challenge2025(trees["chagas-2025"]).entries()}
    assert sorted(name for name, entry in entries.items() if entry.labels) == [
        "code15/114", "samitrop/113", "samitrop/22"
    ]  # fmt: skip
    assert (entries["code15/113"].age, entries["code15/113"].sex) == (68, "female")
    assert entries["ptbxl/00000/00001_hr"].age is None  # 300 stands for over 89


def test_patients_of_code_15_are_those_of_its_table_and_of_no_other_source(trees):
    entries = Challenge2025(trees["chagas-2025"]).entries()
    patients = {entry.record_id: entry.patient for entry in entries}
    assert patients["code15/113"] == patients["code15/114"] != patients["code15/115"]
    assert len(set(patients.values())) == 6  # SaMi-Trop's 113 is another exam than CODE-15%'s


def test_ptb_xl_patients_come_from_its_table_and_which_set_it_is_has_to_be_said(copy_of):
    root = copy_of("chagas-2025")
    (root / "ptbxl_database.csv").write_text("ecg_id,patient_id\n1,7\n2,7\n")  # CODE-15% has another 7
    with pytest.raises(SourceError, match="could be ptb-xl or chagas-2025: say which with --source ptb-xl or"):
        open_source(root)
    source = open_source(root, "chagas-2025")
    patients = {entry.record_id: entry.patient for entry in source.entries()}
    assert patients["ptbxl/00000/00001_hr"] == patients["ptbxl/00000/00002_hr"] != patients["code15/113"]
    assert not any("do not name the patient" in sentence for sentence in source.inferred)


def test_a_patient_that_the_header_names_needs_no_table(copy_of, record_writer):
    root = copy_of("chagas-2025")
    (root / "exams.csv").unlink()
    for k in (7, 8):
        record_writer(root / "old" / str(k), comments=["Patient ID: 3", "Chagas label: False"])
    source = Challenge2025(root)
    assert len({entry.patient for entry in source.entries() if entry.record_id.startswith("old")}) == 1
    assert any("do not name the patient of 5 records" in sentence for sentence in source.inferred)
    assert any("do not name the source of 2 records: whether it tells" in sentence for sentence in source.inferred)


def test_it_is_said_that_the_source_and_the_length_tell_of_chagas(trees):
    said = open_source(trees["chagas-2025"]).inferred
    assert (
        "CODE-15%: 3 records, 1 with chagas; PTB-XL: 2 records, 0 with chagas; SaMi-Trop: 2 records, 2 with chagas"
        in said
    )
    assert any("no record of PTB-XL has chagas, every record of SaMi-Trop has chagas: a network may" in s for s in said)
    assert any("shorter than 10 s: 1 of 3 records with chagas, 2 of 4 without" in sentence for sentence in said)


def test_a_corpus_keeps_that_a_source_tells_the_label(trees, tmp_path):
    corpus, _ = prepare(Challenge2025(trees["chagas-2025"]), tmp_path / "chagas", sampling=Sampling(7.0))
    kept = [one for one in remarks(corpus, np.arange(2)) if "its source tells its label" in one]
    assert len(kept) == 2
    assert "2 of 7 records kept with a remark: every record of SaMi-Trop has chagas: its source tells its label" in kept


def test_one_source_of_both_outcomes_is_no_reason_to_warn(trees):
    said = " ".join(open_source(trees["chagas-2025"] / "code15").inferred)
    assert "1 with chagas" in said
    assert "a network may learn" not in said


def test_records_with_and_without_a_chagas_label_have_to_be_named(copy_of, record_writer):
    root = copy_of("chagas-2025")
    record_writer(root / "r1", comments=["Dx: 426783006"])
    with pytest.raises(SourceError, match="1 of 8 headers looked at have no Chagas label: say which with --source"):
        open_source(root)
    unlabelled = next(one for one in open_source(root, "chagas-2025").entries() if one.record_id == "r1")
    assert (unlabelled.problem, unlabelled.labels_known) == ("the header gives no Chagas label", False)


def test_a_chagas_label_that_is_neither_true_nor_false_is_a_problem_of_its_record(copy_of, record_writer):
    root = copy_of("chagas-2025")
    record_writer(root / "r1", comments=["Chagas label: nan"])
    problems = [one.problem for one in Challenge2025(root).entries() if one.problem]
    assert problems == ["Chagas label 'nan' is not True or False"]


def test_a_wards_own_table_next_to_chagas_labels_is_what_counts(copy_of):
    root = copy_of("chagas-2025")
    (root / "exams.csv").unlink()
    (root / "labels.csv").write_text("record,AF\nsamitrop/22,1\ncode15/115,0\n")
    assert open_source(root).licence == "the owner's"


def test_predictions_for_a_chagas_tree_are_not_told_its_labels(trees):
    listed = list_records(trees["chagas-2025"])
    assert len(listed) == 7
    assert all(not one.read().notes for one in listed)
