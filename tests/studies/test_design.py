import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.corpus import Corpus
from studies.design import Design, DesignError, RunSpec, expand, hash_tasks, read_design

DESIGN = """
name = "tiny"
tasks = ["ptb-xl/superclass"]
archs = ["resnet1d18-w2", "gru-w4"]
strategies = ["scratch", "fine-tune"]
upstream = "ptb-xl/non-diagnostic"
upstream_folds = [1, 2, 3, 4]
pool_folds = [5, 6, 7, 8, 9]
test_folds = [10]
sizes = [20, 40]
replicates = 2
recipe = "tuned"
"""
SHIPPED = sorted((Path(__file__).parents[2] / "studies" / "designs").glob("*.toml"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "design.toml"
    path.write_text(text)
    return path


@pytest.fixture
def design(tmp_path: Path) -> Design:
    return read_design(write(tmp_path, DESIGN))


def test_every_arm_network_and_rate_of_a_replicate_shares_one_seed(design: Design, corpus: Corpus):
    runs = [
        r
        for r in expand(replace(design, learning_rates=(0.001, 0.01)), {"ptb-xl": corpus})
        if r.task != design.upstream
    ]
    assert len(runs) == 2 * 2 * 2 * 2 * 2
    seeds = {(run.n_records, run.replicate): run.seed for run in runs}
    assert all(seeds[run.n_records, run.replicate] == run.seed for run in runs)
    assert len(set(seeds.values())) == 4


def test_pretraining_is_a_run_of_its_own_and_shared(design: Design, corpus: Corpus):
    specs = expand(design, {"ptb-xl": corpus})
    pretraining = [spec for spec in specs if spec.task == design.upstream]
    assert [spec.arch for spec in pretraining] == list(design.archs)
    assert specs[: len(pretraining)] == pretraining
    assert {s.pretraining() for s in specs if s.strategy == "fine-tune"} == set(pretraining)
    assert all(set(spec.pool_folds) == {1, 2, 3, 4} for spec in pretraining)


def test_runs_come_replicate_by_replicate(design: Design, corpus: Corpus):
    replicates = [spec.replicate for spec in expand(design, {"ptb-xl": corpus}) if spec.task != design.upstream]
    assert replicates == sorted(replicates)


def test_all_stands_for_the_whole_pool(design: Design, corpus: Corpus):
    specs = expand(replace(design, sizes=("all",)), {"ptb-xl": corpus})
    pool = len(corpus.task("superclass").in_folds([5, 6, 7, 8, 9]))
    assert {spec.n_records for spec in specs if spec.task != design.upstream} == {pool}


def test_a_key_depends_on_everything_that_changes_the_result(design: Design, corpus: Corpus):
    specs = expand(design, {"ptb-xl": corpus})
    hashes = hash_tasks(specs, {"ptb-xl": corpus})
    spec = specs[-1]
    assert spec.strategy == "fine-tune"
    changes: list[dict] = [
        {"n_records": 21}, {"replicate": 7}, {"arch": "gru-w8"}, {"learning_rate": 0.5}, {"test_folds": (9,)},
        {"strategy": "scratch"}, {"upstream_folds": (1,)},
    ]  # fmt: skip
    keys = {spec.key(hashes), *(replace(spec, **change).key(hashes) for change in changes)}
    keys.add(spec.key({**hashes, "ptb-xl/superclass": "other data"}))
    keys.add(spec.key({**hashes, "ptb-xl/non-diagnostic": "other data"}))  # through its pre-training
    assert len(keys) == len(changes) + 3


def test_an_optional_field_that_is_not_set_leaves_the_key_alone():
    spec = RunSpec("ptb-xl/superclass", "gru", "scratch", None, 100, 0, "tuned", (5,), (10,))
    assert "learning_rate" not in spec.canonical()
    assert replace(spec, learning_rate=0.1).canonical()["learning_rate"] == 0.1


def test_everything_that_the_data_cannot_give_is_listed_at_once(design: Design, corpus: Corpus):
    broken = replace(
        design, tasks=("ptb-xl/superclas", "cpsc2018/all"), archs=("gruu",), upstream_folds=(77,), recipe="secret"
    )
    with pytest.raises(DesignError) as error:
        expand(broken, {"ptb-xl": corpus})
    for part in ("superclas'", "cpsc2018", "did you mean gru", "folds [77]", "secret"):
        assert part in str(error.value)
    with pytest.raises(DesignError, match=r"has \d+ records in folds .* fewer than the size 100000"):
        expand(replace(design, sizes=(100_000,)), {"ptb-xl": corpus})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("replicates = 0", "at least 1"),
        ("replicates = 99999999999999999999999999" + "9" * 5000, "no TOML"),
        ("learning_rates = [nan]", "must be positive"),
        ('upstream = ""', "must not be empty"),
        ("replicates = true", "whole number"),
        ('sizes = [0, "most"]', "size 0 must be .*size 'most' must be"),
        ('strategies = ["scratch", "tune"]', "unknown strategy 'tune'"),
        ("test_folds = [9]", "pool_folds and test_folds share fold 9"),
        ("upstream_folds = [5]", "share fold 5"),
        ("learning_rates = [-1]", "must be positive"),
        ("archs = []", "at least one"),
        ("budget = 3", "unknown key 'budget'"),
        ("name = ", "no TOML"),
    ],
)
def test_a_malformed_design_is_refused_with_the_reason(tmp_path: Path, line: str, reason: str):
    key = line.split(" =")[0]
    text = "\n".join([row for row in DESIGN.splitlines() if not row.startswith(f"{key} ")] + [line])
    with pytest.raises(DesignError, match=reason):
        read_design(write(tmp_path, text))


def test_a_test_fold_without_records_is_named(design: Design, corpus: Corpus):
    with pytest.raises(DesignError, match=r"no records in folds \[99\]"):
        expand(replace(design, test_folds=(99,)), {"ptb-xl": corpus})


def test_the_same_run_asked_for_twice_is_one(design: Design, corpus: Corpus):
    pool = len(corpus.task("superclass").in_folds([5, 6, 7, 8, 9]))
    once = expand(replace(design, sizes=("all",)), {"ptb-xl": corpus})
    assert expand(replace(design, sizes=("all", pool)), {"ptb-xl": corpus}) == once


@pytest.mark.parametrize("sides", [("pool_folds", "test_folds"), ("pool_folds", "upstream_folds")])
def test_folds_that_share_a_patient_are_refused(design: Design, corpus: Corpus, monkeypatch, sides: tuple[str, str]):
    first = [np.flatnonzero(np.isin(corpus.folds, getattr(design, side)))[0] for side in sides]
    patients = corpus.patients.copy()
    patients[first[1]] = patients[first[0]]  # one person, two folds
    monkeypatch.setattr(corpus, "patients", patients)
    with pytest.raises(DesignError, match=f"1 patients of ptb-xl/superclass are in both {sides[0]} and {sides[1]}"):
        expand(design, {"ptb-xl": corpus})


def test_a_missing_key_and_a_missing_file_are_named(tmp_path: Path):
    with pytest.raises(DesignError, match="missing key 'recipe'"):
        read_design(write(tmp_path, DESIGN.replace('recipe = "tuned"', "")))
    with pytest.raises(DesignError, match="no design file"):
        read_design(tmp_path / "none.toml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_designs_are_well_formed(path: Path):
    assert read_design(path).name == path.stem


def test_patients_of_pretraining_training_and_test_are_apart(design: Design, corpus: Corpus):
    folds = (design.upstream_folds, design.pool_folds, design.test_folds)
    sides = [np.unique(corpus.patients[np.isin(corpus.folds, side)]) for side in folds]
    for one, other in itertools.combinations(sides, 2):
        assert not np.intersect1d(one, other).size
