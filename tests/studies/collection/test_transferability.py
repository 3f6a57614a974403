"""How the probe gap ranks gains, over runs and where that is known."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import prepared_synthetic
from studies.collection.probe_gap import measure_gap
from studies.collection.transferability import (
    Cell,
    NoPairsError,
    correlate,
    describe_task,
    measure,
    spearman,
    spearman_at_equal_n,
    spearman_of_size,
)
from studies.files.transferability import NAME, TransferabilityFileError, read_transferability
from studies.running.one_run import training_rows
from studies.running.study_networks import MissingCheckpointError, folder_of
from studies.runs.run import Run
from studies.runs.store import Store


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
    run = next(run for run in store.runs() if (run.task, run.n_records, run.strategy) == (tasks[1], 80, "fine-tune"))
    data = made_up.task("morphology")
    rows = np.sort(np.concatenate(training_rows(data, run.spec, run.spec.resolve_recipe())))
    signals, network = made_up.signals[data.rows[rows]], folder_of(store.path) / "pre"
    gap = measure_gap(network, signals, data.labels[rows], data.patients[rows], run.spec.seed)
    assert gap is not None
    assert found["cells"][3][3] == pytest.approx(gap.value, abs=1e-5)
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


def test_gains_are_those_of_the_recipe_that_the_curves_are_of(store: Store, made_up: Corpus):
    before = measure([store], {"synthetic": made_up})["networks"]["resnet1d18-w2"]["cells"]
    for run in store.runs():
        if run.role == "downstream":
            spec = {**run.details["spec"], "recipe": "tuned-2", "upstream_recipe": "tuned"}
            score = 0.9 if run.strategy == "fine-tune" else 0.6
            newer = replace(run, key=f"{run.key} 2", recipe="tuned-2", auroc_macro=score)
            store.add(replace(newer, details={**run.details, "spec": spec}), np.zeros((2, 5)))
    found = measure([store], {"synthetic": made_up})["networks"]["resnet1d18-w2"]["cells"]
    assert [cell[4] for cell in found] == pytest.approx([0.3] * 4)
    assert [(cell[3], cell[5]) for cell in found] == [(cell[3], cell[5]) for cell in before]


@pytest.mark.parametrize(("tasks", "is_known"), [(4, False), (5, True)])
def test_fewer_than_five_tasks_give_no_interval(tasks: int, is_known: bool):
    of_tasks = [cell for cell in cells(lambda task, *_: task, lambda task, *_: task) if int(cell.task[1:]) < tasks]
    found = correlate("cnn", of_tasks)
    for numbers in (found["at_equal_n"], found["over_all_cells"], *found["by_n"].values()):
        assert numbers["spearman"] == 1.0
        assert (numbers["ci_lower"] is not None) == is_known


def test_ranks_by_n_are_among_the_cells_of_one_size():
    found = cells(lambda task, n, _: task, lambda task, n, _: task if n == 100 else -task)
    assert [spearman_of_size(found, n) for n in (100, 500)] == pytest.approx([1.0, -1.0])
    assert np.isnan(spearman_of_size(found, 7))


def test_what_is_written_is_read_again(store: Store, made_up: Corpus, tmp_path: Path):
    (tmp_path / NAME).write_text(json.dumps(measure([store], {"synthetic": made_up})))
    known = read_transferability(tmp_path / "curves.json")
    assert known is not None
    assert known.tasks["synthetic/morphology"].leads == made_up.leads
    correlation = known.networks["resnet1d18-w2"]
    assert (correlation.tasks, len(correlation.cells), correlation.is_there) == (2, 4, False)
    assert (correlation.sites, correlation.held_out) == (1, None)
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


@pytest.mark.parametrize(
    ("facts", "confirms"),
    [
        ({}, True),
        ({"sites": 2}, False),
        ({"log_score": [-0.01, 0.3]}, False),
        ({"crps": [-0.001, 0.004]}, False),
        ({"cover": 0.84}, False),
        ({"cover": 0.96}, False),
    ],
)
def test_held_out_sites_confirm_the_gap_as_registered_and_not_otherwise(
    store: Store, made_up: Corpus, tmp_path: Path, facts: dict[str, object], confirms: bool
):
    document = measure([store], {"synthetic": made_up})
    better = {"sites": 3, "log_score": [0.01, 0.3], "crps": [0.001, 0.004], "cover": 0.9}
    document["networks"]["resnet1d18-w2"]["held_out_sites"] = better | facts
    (tmp_path / NAME).write_text(json.dumps(document))
    known = read_transferability(tmp_path / "curves.json")
    assert known is not None
    held_out = known.networks["resnet1d18-w2"].held_out
    assert held_out is not None
    assert held_out.confirms == confirms


def test_of_a_file_of_another_score_the_tasks_alone_are_taken(store: Store, made_up: Corpus, tmp_path: Path):
    document = measure([store], {"synthetic": made_up})
    assert document["score"] == "probe gap"
    (tmp_path / NAME).write_text(json.dumps({**document, "score": "LogME"}))
    known = read_transferability(tmp_path / "curves.json")
    assert known is not None
    assert (len(known.tasks), known.networks) == (2, {})


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"schema_version": 2}', '{"schema_version": 1, "tasks": {"a": {}}}', "null"]
)
def test_a_damaged_file_ends_in_one_sentence(tmp_path: Path, content: str):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(TransferabilityFileError, match=NAME):
        read_transferability(tmp_path / "curves.json")


def test_a_curves_file_may_be_without_one(tmp_path: Path):
    assert read_transferability(tmp_path / "curves.json") is None
