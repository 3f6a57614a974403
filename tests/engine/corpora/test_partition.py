"""Who tests, who trains, who chooses: patients apart, and what cannot be divided is said."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.corpora.corpus import Corpus, TaskData
from engine.corpora.held_out import (
    BY_CHANCE,
    PUBLISHED,
    STRATIFIED,
    Division,
    FractionError,
    HeldOut,
    hold_out,
    together,
)
from engine.corpora.partition import (
    Partition,
    PartitionError,
    TooManyRecordsError,
    divide,
    lacking_classes,
    listed,
    split_table,
)

NO_FOLD = -1
SOME = HeldOut(np.zeros(12, np.bool_), "some", BY_CHANCE, 0, "abc")
no_clock = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Records:
    """What ``divide`` reads of a corpus."""

    def __init__(
        self, patients: np.ndarray, folds: np.ndarray | None = None, labels: np.ndarray | None = None,
        equal: Sequence[Sequence[int]] = (),
    ) -> None:  # fmt: skip
        self.patients = np.asarray(patients, np.int64)
        self.folds = np.full(len(patients), NO_FOLD) if folds is None else np.asarray(folds, np.int64)
        self.labels = alternating(len(patients)) if labels is None else labels
        self.manifest = {"remarks": {"equal_signals": equal}}
        self.content_hash, self.record_ids = "abc", np.array([f"r{k}" for k in range(len(patients))])


def view(corpus: Records, labels: np.ndarray, rows: np.ndarray | None = None) -> TaskData:
    rows = np.arange(len(corpus.patients)) if rows is None else rows
    classes = tuple("ABCDEFG"[: labels.shape[1]])
    return TaskData("made/task", classes, rows, labels, corpus.patients[rows], corpus.folds[rows])


def alternating(n: int, n_classes: int = 1) -> np.ndarray:
    return np.stack([np.arange(n) // (k + 1) % 2 for k in range(n_classes)], axis=1).astype(np.uint8)


def split(corpus: Records, data: TaskData, n_records: int | None = None, seed: int = 0) -> Partition:
    return divide(corpus, data, n_records, seed, 0.2)  # type: ignore[arg-type]  # it has what is read


def test_the_publishers_last_fold_is_the_test(corpus: Corpus):
    data = corpus.task("superclass")
    partition = divide(corpus, data, 100, 0, 0.2)
    assert set(data.folds[partition.test].tolist()) == {10}
    assert (data.folds == 10).sum() == len(partition.test)
    assert partition.n_records == 100
    assert "fold 10" in partition.held_out


@pytest.mark.parametrize(
    "folds",
    [
        [NO_FOLD] * 40,
        [1] * 40,
        [k // 4 % 5 if k else NO_FOLD for k in range(40)],
        [k % 2 for k in range(40)],  # two records a patient: both folds have every patient
    ],
    ids=["none", "one", "not all", "patients in both"],
)
def test_without_usable_folds_a_fifth_of_the_patients_is_the_test(folds: list[int]):
    patients = np.arange(40) // 2
    held = hold_out(Records(patients, np.array(folds)))  # type: ignore[arg-type]  # it has what is read
    assert held.test.sum() == 8
    assert not np.isin(patients[held.test], patients[~held.test]).any()
    assert held.words == "4 of 20 patients, drawn with equal shares of the labels, seed 0"
    unknown = hold_out(Records(np.arange(40), np.full(40, NO_FOLD)))  # type: ignore[arg-type]
    assert unknown.words.startswith("8 of 40 records, drawn "), "patients are not known"


def test_all_tasks_of_a_corpus_hold_out_the_same_patients():
    corpus = Records(np.arange(60) // 2)
    some = np.flatnonzero(np.arange(60) % 3 > 0)
    whole, part = view(corpus, alternating(60)), view(corpus, alternating(len(some)), some)
    tested = set(whole.patients[split(corpus, whole).test].tolist())
    assert set(part.patients[split(corpus, part, seed=5).test].tolist()) <= tested


@given(st.lists(st.integers(1, 3), min_size=6, max_size=25), st.integers(0, 5), st.data())
@no_clock
def test_no_patient_is_on_two_sides(sizes: list[int], seed: int, data: st.DataObject):
    corpus = Records(np.repeat(np.arange(len(sizes)), sizes))
    n = len(corpus.patients)
    task = view(corpus, alternating(n))
    try:
        partition = split(corpus, task, data.draw(st.none() | st.integers(2, n)), seed)
    except PartitionError:
        return
    sides = [partition.training, partition.validation, partition.test]
    patients = [set(task.patients[side].tolist()) for side in sides]
    assert all(patients)
    assert sum(map(len, patients)) == len(set.union(*patients))
    rows = np.concatenate(sides)
    assert len(set(rows.tolist())) == len(rows)


def test_the_seed_draws_other_records_and_the_same_test():
    corpus = Records(np.arange(100))
    data = view(corpus, alternating(100))
    one, same, other = (split(corpus, data, 30, seed) for seed in (1, 1, 2))
    assert one.training.tolist() == same.training.tolist()
    assert one.training.tolist() != other.training.tolist()
    assert one.test.tolist() == other.test.tolist()


def test_the_seed_is_that_of_a_studys_run(corpus: Corpus):
    from studies.runs.run_spec import RunSpec

    spec = RunSpec("ptb-xl/superclass", "resnet1d18-w2", "scratch", None, 100, 3, "tuned", (1,), (10,))
    assert divide(corpus, corpus.task("superclass"), 100, 3, 0.2).seed == spec.seed


@pytest.mark.parametrize(
    ("patients", "n_records", "says"),
    [
        ([0, 0, 1, 1], None, "records of 2 patients: at least 3"),
        ([0] * 4 + [1] * 4 + [2] * 4, 1, "too few"),
        (list(range(20)), 17, "16 records besides those held out for the test, not 17"),
    ],
)
def test_what_cannot_be_divided_is_refused(patients: list[int], n_records: int | None, says: str):
    corpus = Records(np.array(patients))
    with pytest.raises(PartitionError, match=says):
        split(corpus, view(corpus, alternating(len(patients))), n_records)


def test_more_records_than_there_are_is_an_error_of_its_own():
    corpus = Records(np.arange(20))
    with pytest.raises(TooManyRecordsError):
        split(corpus, view(corpus, alternating(20)), 1000)


def test_a_task_without_records_to_test_is_refused():
    corpus = Records(np.arange(20), np.arange(20) // 10)
    rows = np.arange(10)  # none of them in the last fold
    with pytest.raises(PartitionError, match="0 records to test on"):
        split(corpus, view(corpus, alternating(10), rows))


def test_classes_with_one_outcome_are_named_by_side():
    corpus = Records(np.arange(12))
    labels = alternating(12, 3)
    partition = Partition(np.arange(6), np.arange(6, 9), np.arange(9, 12), SOME, 0, 0, 0.2)
    labels[:6, 1] = 0
    labels[9:, 2] = 1
    said = lacking_classes(view(corpus, labels), partition)
    assert any(sentence.startswith("B: ") and "6 training records: cannot be learnt" in sentence for sentence in said)
    assert any(sentence.startswith("C: ") and "left out of the average" in sentence for sentence in said)
    assert not any(sentence.startswith("A") for sentence in said)


@pytest.mark.parametrize("side", ["training", "test"])
def test_a_side_on_which_no_class_has_both_outcomes_is_refused(side: str):
    corpus = Records(np.arange(12))
    labels = alternating(12, 2)
    partition = Partition(np.arange(6), np.arange(6, 9), np.arange(9, 12), SOME, 0, 0, 0.2)
    labels[getattr(partition, side)] = [1, 0]
    with pytest.raises(PartitionError, match=rf"no class of made/task \(A, B\).*{side} records"):
        lacking_classes(view(corpus, labels), partition)


def test_a_validation_side_without_both_outcomes_is_only_said():
    corpus = Records(np.arange(12))
    labels = alternating(12)
    labels[6:9] = 1
    partition = Partition(np.arange(6), np.arange(6, 9), np.arange(9, 12), SOME, 0, 0, 0.2)
    assert "the threshold stays 0.5" in lacking_classes(view(corpus, labels), partition)[0]


def test_long_lists_are_cut():
    assert listed("ABCDE") == "A, B, C, D, E"
    assert listed("ABCDEFG") == "A, B, C, D, E and 2 more"


def test_both_sides_have_the_same_share_of_a_rare_label():
    labels = np.zeros((200, 2), np.uint8)
    labels[:10, 0] = 1
    labels[5:105, 1] = 1
    for seed in range(5):
        held = hold_out(Records(np.arange(200), labels=labels), Division(seed=seed))  # type: ignore[arg-type]
        rare, common = labels[held.test].sum(axis=0).tolist()
        assert rare == 2
        assert common in (19, 20, 21)
        assert held.test.sum() == 40
        assert held.rule == STRATIFIED


def test_another_seed_holds_out_other_records_and_another_share_more():
    corpus = Records(np.arange(100))
    one, same, other, more, few = (
        hold_out(corpus, asked)  # type: ignore[arg-type]
        for asked in (None, Division(), Division(seed=1), Division(0.3), Division(0.05))
    )
    assert one.test.tolist() == same.test.tolist() != other.test.tolist()
    assert (one.test.sum(), other.test.sum(), more.test.sum(), few.test.sum()) == (20, 20, 30, 5)
    assert other.as_dict() == {"rule": STRATIFIED, "seed": 1, "test_share": 0.2, "test_sha256": other.test_sha256}
    assert len({one.test_sha256, same.test_sha256, other.test_sha256, more.test_sha256}) == 3


def test_a_share_that_is_asked_for_goes_before_the_publishers_fold():
    corpus = Records(np.arange(100), np.arange(100) % 10 + 1)
    published, asked = hold_out(corpus), hold_out(corpus, Division(0.25))  # type: ignore[arg-type]
    assert (published.rule, published.seed, published.test.sum()) == (PUBLISHED, None, 10)
    assert (asked.rule, asked.seed, asked.test.sum()) == (STRATIFIED, 0, 25)
    with pytest.raises(FractionError, match=r"from 0\.05 to 0\.5"):
        Division(0.9)


def test_very_many_patients_are_drawn_by_chance():
    held = hold_out(Records(np.arange(6000)))  # type: ignore[arg-type]
    assert (held.rule, held.test.sum()) == (BY_CHANCE, 1200)
    assert held.words == "1200 of 6000 records, drawn by chance, seed 0"


def test_equal_signals_are_on_one_side_of_every_division():
    corpus = Records(np.arange(60), equal=[[0, 40], [40, 41], [5, 55]])
    owners = together(corpus)  # type: ignore[arg-type]
    assert owners[0] == owners[40] == owners[41] != owners[5] == owners[55]
    assert len(set(owners.tolist())) == 57
    for seed in range(10):
        partition = divide(corpus, view(corpus, alternating(60)), None, seed, 0.2, Division(seed=seed))  # type: ignore[arg-type]
        for side in (partition.training, partition.validation, partition.test):
            assert len({row in side for row in (0, 40, 41)}) == 1
            assert (5 in side) == (55 in side)


def test_the_table_of_a_division_has_every_record_once_and_no_patients_number():
    corpus = Records(np.arange(30) // 2)
    data = view(corpus, alternating(30))
    partition = split(corpus, data, 16)
    head, *lines = split_table(corpus, data, partition).splitlines()  # type: ignore[arg-type]
    rows = [line.split(",") for line in lines]
    assert head == "record,patient,side"
    assert [row[0] for row in rows] == corpus.record_ids.tolist()
    sides = {side: [k for k, row in enumerate(rows) if row[2] == side] for side in ("training", "validation", "test")}
    assert all(sorted(getattr(partition, side).tolist()) == found for side, found in sides.items())
    assert sum(row[2] == "unused" for row in rows) == 30 - sum(map(len, sides.values()))
    assert [row[1] for row in rows[::2]] == [row[1] for row in rows[1::2]]
    assert all(len(row[1]) == 12 for row in rows)
