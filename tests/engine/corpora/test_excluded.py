"""What a corpus leaves out is counted by its labels, and said where it is not left out at random."""

from pathlib import Path
from typing import Any

import pytest

from engine.corpora.corpus import Corpus, prepare
from engine.corpora.excluded import compare_labels, exclusion
from engine.corpora.survey import survey
from engine.sources.own_directory import Directory


def write_ward(root: Path, record_writer: Any, synthetic_ecg: Any, flat_and_bad: int, flat_and_good: int = 0) -> Path:
    """60 usable records, every fifth of them bad, and flat ones; one more has no row in the table."""
    rows, bad = ["record,bad"], [k % 5 == 0 for k in range(60)] + [True] * flat_and_bad + [False] * flat_and_good
    for k, is_bad in enumerate(bad):
        samples = synthetic_ecg(10, 100, k)
        record_writer(root / f"r{k}", samples if k < 60 else samples * 0, "100")
        rows.append(f"r{k},{int(is_bad)}")
    record_writer(root / "unlisted", synthetic_ecg(10, 100, 99), "100")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


@pytest.fixture
def ward(tmp_path: Path, record_writer: Any, synthetic_ecg: Any) -> Path:
    return write_ward(tmp_path / "ward", record_writer, synthetic_ecg, flat_and_bad=12)


def test_the_labels_of_unusable_records_are_counted_and_those_that_nobody_knows_are_not(ward: Path, tmp_path: Path):
    corpus = prepare(Directory(ward), tmp_path / "corpus")[0]
    found = exclusion(corpus, corpus.task(""))
    assert found is not None
    assert found.as_dict() == {
        "records": 13, "of": 73, "labels_known": 12, "classes": {"bad": {"records": 12, "kept": 12, "differs": True}},
    }  # fmt: skip
    assert found.warning() == (
        "13 of 73 records cannot be used (the labels of 1 are not known); all 12 whose labels are known have bad (20 % "
        "of those kept): what a network learns and every score is without them"
    )
    assert found.counts() == "bad 12 (the labels of 1 are not known)"


def test_a_check_finds_what_a_corpus_of_the_same_records_keeps(ward: Path, tmp_path: Path):
    corpus = prepare(Directory(ward), tmp_path / "corpus")[0]
    assert survey(Directory(ward)).excluded == exclusion(corpus, corpus.task(""))


def test_records_that_are_left_out_as_if_by_chance_are_counted_without_a_warning(
    tmp_path: Path, record_writer: Any, synthetic_ecg: Any
):
    ward = write_ward(tmp_path / "ward", record_writer, synthetic_ecg, flat_and_bad=2, flat_and_good=8)
    found = survey(Directory(ward)).excluded
    assert found is not None
    assert (found.labels["bad"].records, found.labels["bad"].differs, found.warning()) == (2, False, None)


def test_a_corpus_that_leaves_out_nothing_or_did_not_keep_the_labels_says_nothing(corpus: Corpus, ward: Path, tmp_path):
    assert exclusion(corpus, corpus.task("")) is None
    older = prepare(Directory(ward), tmp_path / "corpus")[0]
    del older.manifest["unusable_labels"]
    assert exclusion(older, older.task("")) is None


def test_what_is_kept_of_the_unusable_changes_no_hash(ward: Path, tmp_path: Path):
    whole = prepare(Directory(ward), tmp_path / "whole")[0]
    for k in range(60, 72):
        (ward / f"r{k}.hea").unlink()
    (ward / "unlisted.hea").unlink()
    rows = (ward / "labels.csv").read_text().splitlines()[:61]
    (ward / "labels.csv").write_text("\n".join(rows))
    alone = prepare(Directory(ward), tmp_path / "alone")[0]
    assert (whole.manifest["unusable_labels"], alone.manifest["unusable_labels"]) == ([[None, 1], [["bad"], 12]], [])
    assert whole.content_hash == alone.content_hash
    assert whole.task_hash("labels") == alone.task_hash("labels")


def test_a_record_with_two_labels_of_a_class_is_one_record_of_it():
    excluded = [[["a", "b"], 3], [["c"], 4], [[], 5]]
    found = compare_labels(excluded, {"ab": ["a", "b"], "c": ["c"]}, {"ab": 10, "c": 10}, 100)
    assert (found.records, found.listed) == (12, 112)
    assert {name: one.records for name, one in found.labels.items()} == {"ab": 3, "c": 4}


@pytest.mark.parametrize(
    ("excluded", "kept", "n_kept", "differs"),
    [
        pytest.param([[["x"], 20]], 100, 1000, True, id="all of them have it"),
        pytest.param([[["x"], 2], [[], 18]], 100, 1000, False, id="as many as of the kept"),
        pytest.param([[["x"], 3]], 100, 1000, False, id="too few to tell"),
        pytest.param([[["x"], 250], [[], 750]], 20_000, 100_000, False, id="sure, and too small to matter"),
        pytest.param([[["x"], 50], [[], 50]], 50, 10_000, True, id="a rare label that loses half of its records"),
        pytest.param([[[], 100]], 900, 1000, True, id="none has what nearly all have"),
    ],
)
def test_a_label_differs_where_chance_does_not_explain_it_and_its_share_changes(
    excluded: list[Any], kept: int, n_kept: int, differs: bool
):
    assert compare_labels(excluded, {"x": ["x"]}, {"x": kept}, n_kept).labels["x"].differs is differs


def test_many_labels_are_tested_together():
    """7 of 10 against 20 of 100: enough for one label, and not for the first of 31."""
    one = {"x": ["x"]}
    many = {**one, **{f"y{k}": [f"y{k}"] for k in range(30)}}
    excluded, n_kept = [[["x"], 7], [[], 3]], 100
    alone = compare_labels(excluded, one, {"x": 20}, n_kept)
    among = compare_labels(excluded, many, dict.fromkeys(many, 20), n_kept)
    assert alone.labels["x"].differs
    assert not among.labels["x"].differs


@pytest.mark.parametrize(
    ("excluded", "said"),
    [
        ([[["x"], 40], [[], 20]], "40 of the 60 have x (67 %; 10 % of those kept)"),
        ([[[], 60]], "none of the 60 has x (60 % of those kept)"),
    ],
)
def test_how_many_have_a_label_is_said_next_to_how_many_of_the_kept_do(excluded: list[Any], said: str):
    kept = {"x": 10 if "10 %" in said else 60}
    assert compare_labels(excluded, {"x": ["x"]}, kept, 100).warning() == (
        f"60 of 160 records cannot be used; {said}: what a network learns and every score is without them"
    )


def test_three_labels_are_named_and_the_others_counted():
    classes = {name: [name] for name in "abcde"}
    warning = compare_labels([[[*"abcde"], 60]], classes, dict.fromkeys("abcde", 10), 100).warning()
    assert warning is not None
    assert warning.count("all 60 have") == 3
    assert "; and 2 more labels differ:" in warning
