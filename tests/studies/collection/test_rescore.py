"""A store's runs are scored by another rule as a test by it would, and left alone where it changes nothing."""

import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.corpora.corpus import Corpus, CorpusError
from engine.evaluation.calibration import calibrated_probabilities
from engine.evaluation.evaluation import Evaluation, evaluate
from engine.evaluation.metrics import averaged_classes
from engine.seeds import stable_seed
from studies.collection.collect import EvidenceError, make_curves
from studies.collection.rescore import rescore
from studies.runs.run import Run
from studies.runs.store import Store, StoreError
from studies.runs.tidy_runs import RunsFileError, tidy_records

TASK = "ptb-xl/superclass"
FLOOR = 5  # the test fold has 8 records with MI and 4 with each of the other classes
Maker = Callable[..., tuple[Run, np.ndarray]]


def held_out(corpus: Corpus, test: tuple[int, ...] = (10,)) -> tuple[np.ndarray, np.ndarray]:
    """Labels and patients of the test fold."""
    task = corpus.task("superclass")
    rows = task.in_folds(test)
    return task.labels[rows], task.patients[rows]


def evaluated(corpus: Corpus, logits: np.ndarray, least_positives: int, test: tuple[int, ...] = (10,)) -> Evaluation:
    labels, patients = held_out(corpus, test)
    probabilities = calibrated_probabilities(logits, 1.0)
    classes = corpus.task("superclass").classes
    return evaluate(labels, probabilities, patients, classes, [0.4] * 5, stable_seed(TASK), 100, least_positives)


@pytest.fixture
def made(corpus: Corpus, synthetic_run) -> Maker:
    """The function that makes a run with logits of a seed, scored by the rule that takes every class."""

    def make(strategy: str, seed: int, n_records: int = 100, test: tuple[int, ...] = (10,)) -> tuple[Run, np.ndarray]:
        labels, _ = held_out(corpus, test)
        logits = (np.random.default_rng(seed).normal(0, 2, labels.shape) + 2 * labels - 1).astype(np.float32)
        scores = evaluated(corpus, logits, 1, test)
        run = synthetic_run("gru-w32", strategy, n_records, seed, scores.auroc_macro)
        document = scores.as_dict()
        kept = {
            "spec": {**run.details["spec"], "test_folds": list(test)},
            "least_positives": document.pop("least_positives"), "left_out": document.pop("left_out"),
            "bootstrap": document.pop("bootstrap"), "evaluation": document,
            "auroc": {name: round(one.auroc, 6) for name, one in scores.classes.items()},
        }  # fmt: skip
        figures = {name: getattr(scores, name) for name in ("auprc_macro", "f1_macro", "brier", "ece")}
        data_hash = corpus.task_hash("superclass")
        return replace(run, **figures, data_hash=data_hash, details={**run.details, **kept}), logits

    return make


@pytest.fixture
def store(tmp_path: Path, made: Maker) -> Store:
    """A store of two runs, one of each arm, scored over every class."""
    opened = Store(tmp_path / "s.db")
    for strategy in ("scratch", "fine-tune"):
        opened.add(*made(strategy, 3))
    return opened


def without_logits(store: Store, *, by_class: bool) -> None:
    """Make runs what they were when no rule was stored, and float16 probabilities in place of logits."""
    for run in store.runs():
        row = store.probabilities(str(run.key)).astype("<f2")
        with closing(sqlite3.connect(store.path)) as connection, connection:
            connection.execute(
                "UPDATE predictions SET kind = 'probabilities', zlib = ? WHERE key = ?",
                [zlib.compress(row.tobytes()), run.key],
            )
        details = {name: value for name, value in run.details.items() if name not in ("least_positives", "left_out")}
        details["evaluation"] = {**run.details["evaluation"], "left_out": []}
        if not by_class:
            del details["evaluation"]
        store.rewrite([replace(run, details=details, f1_macro=run.f1_macro if by_class else None)])


def test_a_run_with_logits_is_scored_as_a_test_by_that_rule_would(store: Store, corpus: Corpus):
    found = rescore(store, {"ptb-xl": corpus}, FLOOR)
    assert (found.n_runs, list(found.changed)) == (2, store.runs())
    for run in store.runs():
        logits = store.logits(str(run.key))
        assert logits is not None
        expected = evaluated(corpus, logits, FLOOR)
        assert (run.least_positives, run.averaged) == (FLOOR, ("MI",))
        assert run.details["left_out"] == list(expected.left_out)
        for name in ("auroc_macro", "auprc_macro", "f1_macro", "brier", "ece"):
            assert getattr(run, name) == pytest.approx(getattr(expected, name), abs=1e-12), name
        document = expected.as_dict()
        assert run.details["bootstrap"] == document["bootstrap"]
        for name in ("auroc_macro", "auroc_macro_ci_lower", "auroc_macro_ci_upper", "auprc_macro", "f1_macro"):
            assert run.details["evaluation"][name] == pytest.approx(document[name], abs=1e-12), name
        assert "rescored" not in run.details, "nothing of it is less exact than a test"


def test_scoring_by_the_old_rule_again_gives_the_old_scores(store: Store, corpus: Corpus):
    before = store.runs()
    rescore(store, {"ptb-xl": corpus}, FLOOR)
    assert rescore(store, {"ptb-xl": corpus}, 1).n_runs == 2
    for run, was in zip(store.runs(), before, strict=True):
        assert run.auroc_macro == pytest.approx(was.auroc_macro, abs=1e-12)
        assert run.averaged == was.averaged
        np.testing.assert_array_equal(run.bootstrap, was.bootstrap)


@pytest.mark.parametrize("by_class", [True, False])
def test_of_a_run_without_logits_the_averages_are_exact_and_what_is_not_is_said(
    store: Store, corpus: Corpus, by_class: bool
):
    exact = {str(run.key): evaluated(corpus, store.logits(str(run.key)), FLOOR) for run in store.runs()}  # type: ignore[arg-type]
    without_logits(store, by_class=by_class)
    assert {run.least_positives for run in store.runs()} == {1}
    rescore(store, {"ptb-xl": corpus}, FLOOR)
    for run in store.runs():
        expected = exact[str(run.key)]
        assert run.auroc_macro == pytest.approx(expected.auroc_macro, abs=1e-12 if by_class else 1e-6)
        assert run.auprc_macro == pytest.approx(expected.auprc_macro, abs=1e-12 if by_class else 0.01)
        assert run.f1_macro == (pytest.approx(expected.f1_macro) if by_class else None)
        np.testing.assert_allclose(run.bootstrap, expected.bootstrap, atol=0.01)
        remade = "resamples" if by_class else "resamples and AUPRC"
        assert run.details["rescored"] == f"{remade} from float16 probabilities"


def test_what_float16_ties_does_not_move_the_resamples(tmp_path: Path, corpus: Corpus, made: Maker):
    """Of probabilities below the smallest float16 nothing is left; the AUROC by class says where they lie."""
    store = Store(tmp_path / "s.db")
    run, logits = made("scratch", 5)
    logits = logits - 30
    scores = evaluated(corpus, logits, 1)
    store.add(run, logits)
    without_logits(store, by_class=True)
    assert set(store.probabilities(str(run.key)).ravel().tolist()) == {0.0}
    rescore(store, {"ptb-xl": corpus}, FLOOR)
    (now,) = store.runs()
    assert now.auroc_macro == pytest.approx(scores.classes["MI"].auroc)
    assert np.nanmean(now.bootstrap) == pytest.approx(scores.classes["MI"].auroc, abs=0.02)


def test_a_run_whose_averages_take_the_same_classes_keeps_its_scores_and_says_the_rule(store: Store, corpus: Corpus):
    labels, _ = held_out(corpus)
    assert averaged_classes(labels, 4).all() and averaged_classes(labels, 10).all(), "of ten no class has as many"
    without_logits(store, by_class=False)
    before = store.runs()
    for least in (4, 10):
        assert rescore(store, {"ptb-xl": corpus}, least).changed == ()
        said = {"least_positives": least, "left_out": []}
        assert store.runs() == [replace(run, details={**run.details, **said}) for run in before]


def test_runs_that_average_over_different_classes_are_not_compared_until_they_are_scored_by_one_rule(
    store: Store, corpus: Corpus, made: Maker
):
    for strategy in ("scratch", "fine-tune"):
        store.add(*made(strategy, 4))
    assert len(tidy_records(store.runs(), store.path).runs) == 4
    run, *others = store.runs()
    assert rescore(store, {"ptb-xl": corpus}, FLOOR).n_runs == 4
    of_two_rules = [*store.runs()[:1], *others]
    says = r"ptb-xl/superclass average their scores over different classes \(1 and 5 of them\): .* study rescore"
    with pytest.raises(EvidenceError, match=says):
        make_curves(of_two_rules, "two rules")
    with pytest.raises(RunsFileError, match=says):
        tidy_records(of_two_rules, store.path)
    other_fold = replace(run, details={**run.details, "spec": {**run.details["spec"], "test_folds": [9]}})
    tidy_records([*store.runs()[1:], other_fold], store.path)  # other test records may have other rare classes


def test_other_records_a_missing_corpus_and_missing_predictions_are_said_and_nothing_is_written(
    store: Store, corpus: Corpus, made: Maker
):
    before = store.runs()
    with pytest.raises(CorpusError, match="no prepared corpus ptb-xl"):
        rescore(store, {}, FLOOR)
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("DELETE FROM predictions WHERE key = ?", [before[1].key])
    with pytest.raises(StoreError, match=f"lacks the test predictions of run {before[1].key}"):
        rescore(store, {"ptb-xl": corpus}, FLOOR)
    other = replace(made("scratch", 9)[0], data_hash="d" * 64)
    store.add(other, np.zeros((24, 5)))
    with pytest.raises(CorpusError, match="other records of ptb-xl/superclass"):
        rescore(store, {"ptb-xl": corpus}, FLOOR)
    assert [run for run in store.runs() if run.key != other.key] == before


def test_the_command_says_which_tasks_changed(store: Store, corpus: Corpus, command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ECGADVISE_CORPORA", str(corpus.root.parent))
    ended = command("study", "rescore", "--store", store.path, "--least-positives", FLOOR)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "ptb-xl/superclass: 2 runs, 1 of 5 classes averaged", "2 runs, 2 with other scores than before",
    ]  # fmt: skip
    assert {run.least_positives for run in store.runs()} == {FLOOR}
    missing = store.path.with_name("none.db")
    ended = command("study", "rescore", "--store", missing)
    assert (ended.code, missing.exists()) == (3, False)
    assert "no study store at" in ended.err


def test_replicates_on_folds_of_their_own_average_over_one_set_of_classes(tmp_path: Path, corpus: Corpus, made: Maker):
    """A class counts by its positives in all test folds together, and only with both outcomes in each of them."""
    task, opened = corpus.task("superclass"), Store(tmp_path / "turns.db")
    labels = [task.labels[task.in_folds(test)] > 0 for test in ((9,), (10,))]
    for seed, fold in enumerate((9, 10)):
        for strategy in ("scratch", "fine-tune"):
            opened.add(*made(strategy, seed, test=(fold,)))
    rescore(opened, {"ptb-xl": corpus}, FLOOR)
    counted = [
        name
        for k, name in enumerate(task.classes)
        if sum(one[:, k].sum() for one in labels) >= FLOOR and all(0 < one[:, k].sum() < len(one) for one in labels)
    ]
    assert len(counted) > max((one.sum(axis=0) >= FLOOR).sum() for one in labels), "more count than in a single fold"
    for run in opened.runs():
        assert run.averaged == tuple(counted)
        assert run.details["counted_in_folds"] == [9, 10]
        assert run.auroc_macro == pytest.approx(np.mean([run.class_auroc[name] for name in counted]), abs=1e-6)
    before = opened.runs()
    rescore(opened, {"ptb-xl": corpus}, FLOOR)
    assert opened.runs() == before
