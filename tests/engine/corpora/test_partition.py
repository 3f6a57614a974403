"""Who tests, who trains, who chooses: patients apart, and what cannot be divided is said."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.corpora.corpus import Corpus, TaskData
from engine.corpora.partition import Partition, PartitionError, TooManyRecordsError, divide, lacking_classes, listed
from engine.corpora.splits import hold_out

NO_FOLD = -1
no_clock = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Records:
    """What ``divide`` reads of a corpus."""

    def __init__(self, patients: np.ndarray, folds: np.ndarray | None = None) -> None:
        self.patients = np.asarray(patients, np.int64)
        self.folds = np.full(len(patients), NO_FOLD) if folds is None else np.asarray(folds, np.int64)


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
    test, words = hold_out(patients, np.array(folds))
    assert test.sum() == 8
    assert not np.isin(patients[test], patients[~test]).any()
    assert words == "4 of 20 patients, drawn by chance"
    assert hold_out(np.arange(40), np.full(40, -1))[1] == "8 of 40 records, drawn by chance", "patients are not known"


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
    partition = Partition(np.arange(6), np.arange(6, 9), np.arange(9, 12), "some", 0, 0)
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
    partition = Partition(np.arange(6), np.arange(6, 9), np.arange(9, 12), "some", 0, 0)
    labels[getattr(partition, side)] = [1, 0]
    with pytest.raises(PartitionError, match=rf"no class of made/task \(A, B\).*{side} records"):
        lacking_classes(view(corpus, labels), partition)


def test_a_validation_side_without_both_outcomes_is_only_said():
    corpus = Records(np.arange(12))
    labels = alternating(12)
    labels[6:9] = 1
    partition = Partition(np.arange(6), np.arange(6, 9), np.arange(9, 12), "some", 0, 0)
    assert "the threshold stays 0.5" in lacking_classes(view(corpus, labels), partition)[0]


def test_long_lists_are_cut():
    assert listed("ABCDE") == "A, B, C, D, E"
    assert listed("ABCDEFG") == "A, B, C, D, E and 2 more"
