"""The transferability score against its definition, and its correlation with gains where that is known."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import prepared_synthetic
from studies.collection.logme import log_me
from studies.collection.transferability import (
    Cell,
    NoPairsError,
    describe_task,
    features_of,
    measure,
    score_network,
    spearman,
    spearman_at_equal_n,
)
from studies.files.transferability import NAME, TransferabilityFileError, read_transferability
from studies.running.study_networks import MissingCheckpointError, folder_of
from studies.runs.run import Run
from studies.runs.store import Store


def largest_evidence(features: np.ndarray, label: np.ndarray) -> float:
    """LogME by its definition: the marginal likelihood of the regression, maximised over both precisions."""

    def loss(logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -30, 30))
        covariance = np.eye(len(label)) / beta + features @ features.T / alpha
        return -float(multivariate_normal(cov=covariance, allow_singular=True).logpdf(label)) / len(label)

    starts = [(a, b) for a in (-3.0, 0.0, 4.0) for b in (0.0, 3.0)]
    return -min(
        minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).fun for start in starts
    )


@pytest.mark.parametrize(("n", "width", "signal"), [(40, 3, 2.0), (40, 3, 0.3), (25, 40, 1.0), (60, 10, 1.0)])
def test_log_me_is_the_largest_evidence_of_the_regression(n: int, width: int, signal: float):
    rng = np.random.default_rng(n + width)
    features = rng.normal(size=(n, width))
    labels = (signal * features[:, :2] + rng.normal(size=(n, 2)) > 0).astype(np.uint8)
    expected = np.mean([largest_evidence(features, labels[:, k].astype(float)) for k in (0, 1)])
    assert log_me(features, labels) == pytest.approx(expected, abs=1e-4)


def test_log_me_is_higher_the_better_features_tell_labels_apart():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (80, 1)).astype(np.uint8)
    noise = rng.normal(size=(80, 5))
    scores = [log_me(noise + strength * labels, labels) for strength in (0.0, 1.0, 4.0)]
    assert scores == sorted(scores)


def test_labels_that_all_or_no_records_have_do_not_count():
    rng = np.random.default_rng(2)
    features, label = rng.normal(size=(30, 4)), rng.integers(0, 2, (30, 1)).astype(np.uint8)
    constant = np.tile(np.array([0, 1], np.uint8), (30, 1))
    assert log_me(features, np.hstack([label, constant])) == log_me(features, label)
    assert np.isnan(log_me(features, constant))


def test_features_that_are_not_finite_do_not_count_and_without_any_other_there_is_no_score():
    rng = np.random.default_rng(5)
    features, labels = rng.normal(size=(30, 3)), rng.integers(0, 2, (30, 2)).astype(np.uint8)
    broken = np.hstack([features, np.full((30, 1), np.nan), features[:, :1]])
    broken[3, 4] = np.inf
    assert log_me(broken, labels) == log_me(features, labels)
    for nothing in (np.zeros((30, 2)), np.full((30, 2), np.nan), np.zeros((30, 0))):
        assert np.isnan(log_me(nothing, labels))


def test_log_me_does_not_depend_on_the_features_unit():
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(50, 6)), rng.integers(0, 2, (50, 2)).astype(np.uint8)
    assert log_me(1e3 * features, labels) == pytest.approx(log_me(features, labels), abs=1e-6)


def cells(score, gain) -> list[Cell]:
    """Cells of eight tasks at three sizes."""
    rng = np.random.default_rng(4)
    return [
        Cell(f"t{task}", "cnn", "up", n, score(task, n, rng), gain(task, n, rng), 3)
        for task in range(8)
        for n in (100, 500, 2000)
    ]


def test_a_score_and_a_gain_that_both_follow_n_alone_say_nothing_at_equal_n():
    found = cells(lambda _t, n, rng: -n + rng.random(), lambda _t, n, rng: 1 / n + 1e-6 * rng.random())
    assert spearman(found) > 0.8
    assert abs(spearman_at_equal_n(found)) < 0.4


def test_a_score_that_ranks_the_tasks_as_their_gains_do_is_found_at_equal_n():
    found = cells(lambda task, n, _: task + n / 100, lambda task, n, _: task / n)
    assert spearman_at_equal_n(found) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepared_synthetic(tmp_path_factory.mktemp("corpora"), 200)


def with_spec(run: Run, key: str, **values: object) -> Run:
    """The run as one of the synthetic corpus."""
    spec = {name: values[name] for name in ("task", "arch", "strategy", "upstream", "n_records", "replicate")}
    spec |= {"recipe": "tuned", "pool_folds": [1, 2, 3, 4, 5, 6, 7, 8], "test_folds": [9, 10]}
    return replace(run, key=key, recipe="tuned", **values, details={**run.details, "spec": spec})


@pytest.fixture
def store(tmp_path: Path, made_up: Corpus, synthetic_run, checkpoint_writer) -> Store:
    """Pairs on two tasks from one pre-trained network, whose gains are 0.1 and 0.2."""
    made = Store(tmp_path / "study.db")
    arch, upstream = "resnet1d18-w2", "synthetic/other"
    base = {"arch": arch, "strategy": "scratch", "upstream": None, "replicate": 0}
    run = synthetic_run("resnet1d18-w16", "scratch", 100, 0, 0.7)
    made.add(with_spec(run, "pre", **base, task=upstream, n_records=100, role="pretraining"), np.zeros((2, 5)))
    for task, gain in (("synthetic/diagnosis", 0.1), ("synthetic/morphology", 0.2)):
        for n in (40, 80):
            where = {**base, "task": task, "n_records": n, "role": "downstream", "auroc_macro": 0.7}
            where["data_hash"] = made_up.task_hash(task.partition("/")[2])
            tuned = {**where, "strategy": "fine-tune", "upstream": upstream, "auroc_macro": 0.7 + gain}
            for values in (where, tuned):
                made.add(with_spec(run, f"{task} {n} {values['strategy']}", **values), np.zeros((2, 5)))
    checkpoint_writer(folder_of(made.path) / "pre", arch)
    return made


def test_the_cells_hold_the_score_on_each_run_s_own_records_and_its_gain(store: Store, made_up: Corpus):
    document = measure([store], {"synthetic": made_up})
    found = document["networks"]["resnet1d18-w2"]
    tasks = ("synthetic/diagnosis", "synthetic/morphology")
    assert [(task, n) for task, _, n, *_ in found["cells"]] == [(task, n) for task in tasks for n in (40, 80)]
    assert [cell[4] for cell in found["cells"]] == pytest.approx([0.1, 0.1, 0.2, 0.2])
    assert len({cell[3] for cell in found["cells"]}) == 4
    facts = document["tasks"]["synthetic/diagnosis"]
    assert facts == describe_task(made_up, "synthetic/diagnosis")
    assert (facts["source"], len(facts["leads"]), len(facts["prevalence"])) == ("synthetic", 12, 5)


@pytest.mark.parametrize("start", ["pre", "gone"])
def test_a_run_is_scored_by_the_network_that_it_says_it_started_from(
    store: Store, made_up: Corpus, tmp_path: Path, start: str
):
    named = Store(tmp_path / "named.db")
    for run in store.runs():
        says = {"start_from": start} if run.strategy == "fine-tune" else {}
        named.add(replace(run, details={**run.details, **says}), np.zeros((2, 5)))
        if run.role == "pretraining":  # another one of the same upstream, whose network is not there
            named.add(replace(run, key="zz"), np.zeros((2, 5)))
    copytree(folder_of(store.path), folder_of(named.path))
    if start == "gone":
        with pytest.raises(MissingCheckpointError, match="synthetic/other"):
            measure([named], {"synthetic": made_up})
    else:
        found = [measure([one], {"synthetic": made_up})["networks"] for one in (store, named)]
        assert found[0] == found[1]


def test_a_run_that_two_stores_hold_counts_once_and_its_network_may_lie_beside_either(
    store: Store, made_up: Corpus, tmp_path: Path
):
    (tmp_path / "copy").mkdir()
    copy = Store(tmp_path / "copy" / "study.db")
    for run in store.runs():
        copy.add(run, np.zeros((2, 5)))
    alone = measure([store], {"synthetic": made_up})
    for stores in ([store, copy], [copy, store], [store, store]):
        both = measure(stores, {"synthetic": made_up})
        assert both["networks"] == alone["networks"]
        assert sorted(both["provenance"]["stores"].values()) == [len(store.keys())] * len({one.path for one in stores})


def test_what_is_written_is_read_again(store: Store, made_up: Corpus, tmp_path: Path):
    (tmp_path / NAME).write_text(json.dumps(measure([store], {"synthetic": made_up})))
    known = read_transferability(tmp_path / "curves.json")
    assert known is not None
    assert known.tasks["synthetic/morphology"].leads == made_up.leads
    correlation = known.networks["resnet1d18-w2"]
    assert (correlation.tasks, len(correlation.cells), correlation.is_there) == (2, 4, False)
    assert not replace(correlation, spearman=0.1, ci_lower=-0.1, ci_upper=0.4).is_there
    assert replace(correlation, spearman=0.4, ci_lower=0.1, ci_upper=0.6).is_there


def test_the_command_writes_what_recommend_reads_and_says_the_correlation(
    store: Store, made_up: Corpus, tmp_path: Path, command
):
    options = ("study", "transferability", "--store", store.path, "--corpora", made_up.root.parent)
    code, out, err = command(*options, "--out", tmp_path / "evidence")
    assert (code, err) == (0, "")
    assert "resnet1d18-w2: 4 cells of 2 tasks, rank correlation over all cells " in out
    assert read_transferability(tmp_path / "evidence" / "curves.json") is not None
    code, out, err = command(*options[:-1], tmp_path, "--out", tmp_path / "evidence")
    assert (code, out) == (3, "")
    assert "is not a prepared corpus" in err


def test_records_other_than_those_of_the_runs_are_refused(store: Store, tmp_path: Path, command):
    prepared_synthetic(tmp_path / "other", 150)
    code, out, err = command(
        "study", "transferability", "--store", store.path, "--corpora", tmp_path / "other", "--out", tmp_path
    )
    assert (code, out) == (3, "")
    assert "holds other records of synthetic/diagnosis" in err


def test_a_pre_trained_network_that_is_gone_is_named(store: Store, made_up: Corpus):
    folder_of(store.path).rename(folder_of(store.path).with_name("elsewhere"))
    with pytest.raises((MissingCheckpointError, ValueError), match="pre"):
        measure([store], {"synthetic": made_up})


def test_a_store_without_pairs_is_refused(tmp_path: Path, made_up: Corpus):
    with pytest.raises(NoPairsError, match="no pair"):
        measure([Store(tmp_path / "empty.db")], {"synthetic": made_up})


def test_a_network_is_scored_by_what_its_head_is_given(made_up: Corpus, tmp_path: Path, checkpoint_writer):
    checkpoint = checkpoint_writer(tmp_path / "network", "resnet1d18-w2")
    signals, labels = made_up.signals[:50], made_up.task("diagnosis").labels[:50]
    assert score_network(checkpoint, signals, labels) == log_me(features_of(checkpoint, signals), labels)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"schema_version": 2}', '{"schema_version": 1, "tasks": {"a": {}}}', "null"]
)
def test_a_damaged_file_ends_in_one_sentence(tmp_path: Path, content: str):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(TransferabilityFileError, match=NAME):
        read_transferability(tmp_path / "curves.json")


def test_a_curves_file_may_be_without_one(tmp_path: Path):
    assert read_transferability(tmp_path / "curves.json") is None
