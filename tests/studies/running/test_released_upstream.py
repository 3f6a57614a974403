"""A design starts from a released network: nothing is pre-trained, its hash is in the keys, and no patient leaks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.checkpoints.zoo import released
from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import prepared_synthetic
from studies.running.design import Design, DesignError, read_design
from studies.running.expansion import expand, hash_tasks
from studies.running.study_networks import bring_released, digest_of
from studies.runs.run_spec import find_keys
from studies.runs.store import Store

NAME = "resnet1d18-w16-ptbxl"
DESIGN = f"""
name = "from-the-zoo"
tasks = ["synthetic/diagnosis"]
archs = ["resnet1d18-w16"]
strategies = ["scratch", "fine-tune"]
upstream = "zoo:{NAME}"
pool_folds = [1, 2, 3, 4, 5, 6, 7, 8]
test_folds = [9, 10]
sizes = [20]
replicates = 1
recipe = "tuned"
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepared_synthetic(tmp_path_factory.mktemp("corpora"))


@pytest.fixture
def corpora(prepared: Corpus) -> dict[str, Corpus]:
    return {"synthetic": Corpus(prepared.root)}


@pytest.fixture
def design(tmp_path: Path) -> Design:
    path = tmp_path / "design.toml"
    path.write_text(DESIGN)
    return read_design(path)


def changed(design: Design, **values: object) -> Design:
    return replace(design, grids=(replace(design.grids[0], **values),))


def test_nothing_is_pretrained_and_the_network_s_hash_goes_into_the_keys(design, corpora, monkeypatch):
    runs = expand(design, corpora)
    assert [run.strategy for run in runs] == ["scratch", "fine-tune"]
    hashes = hash_tasks(runs, corpora)
    assert hashes[f"zoo:{NAME}"] == digest_of(released()[NAME])
    keys = find_keys(runs, hashes)
    others = find_keys(runs, hashes | {f"zoo:{NAME}": "of other weights"})
    scratch, tuned = runs
    assert keys[scratch] == others[scratch]
    assert keys[tuned] != others[tuned]


def test_the_network_lies_where_a_study_looks_for_what_it_has_pretrained(design, corpora, tmp_path: Path):
    runs = expand(design, corpora)
    hashes = hash_tasks(runs, corpora)
    bring_released(runs, hashes, tmp_path / "study.checkpoints")
    start = runs[1].pretraining()
    assert start is not None
    (folder,) = (tmp_path / "study.checkpoints").iterdir()
    assert (folder.name, digest_of(folder)) == (start.key(hashes), digest_of(released()[NAME]))


def test_a_network_of_another_kind_or_signal_or_of_no_release_is_refused(design, corpora):
    with pytest.raises(DesignError, match=f"zoo:{NAME} holds resnet1d18-w16, not gru-w32"):
        expand(changed(design, archs=("gru-w32",)), corpora)
    with pytest.raises(DesignError, match=r"no pre-trained network is named 'nothing' \(released networks: gru-w32"):
        expand(changed(design, upstreams=("zoo:nothing",)), corpora)


def test_a_network_of_one_lead_reads_that_one_of_twelve(design, corpora):
    runs = expand(changed(design, upstreams=(f"zoo:{NAME}-lead-i",)), corpora)
    assert {run.reading for run in runs} == {"I, scaled by set"}
    assert {run.read_task for run in runs} == {"synthetic/diagnosis@I"}


def test_records_that_it_was_pretrained_on_are_tested_on_folds_that_it_has_not_seen(design, corpora, monkeypatch):
    facts = json.loads((released()[NAME] / "checkpoint.json").read_text())
    monkeypatch.setattr(corpora["synthetic"], "content_hash", facts["data_hash"])
    with pytest.raises(DesignError, match=r"\(fold 8\): test_folds must be others"):
        expand(changed(design, pool_folds=(1, 2), test_folds=(8, 10)), corpora)
    assert expand(design, corpora)  # 9 and 10 were held out


def test_other_records_of_the_same_publisher_are_refused(design, corpora):
    facts = json.loads((released()[NAME] / "checkpoint.json").read_text())
    corpora["synthetic"].manifest["source"] = facts["source"]
    with pytest.raises(DesignError, match="of the same publisher, prepared otherwise: a patient of its"):
        expand(design, corpora)


def test_a_study_starts_from_it(design, tmp_path: Path, corpora, command):
    (tmp_path / "design.toml").write_text(DESIGN.replace('["scratch", "fine-tune"]', '["linear-probe"]'))
    folder = corpora["synthetic"].root.parent
    words = ("study", "run", tmp_path / "design.toml", "--store", tmp_path / "s.db", "--corpora", folder)
    code, out, err = command(*words, "--workers", 1)
    assert code == 0, err
    assert out.startswith("1 of 1 runs done, 0 failed")
    store = Store(tmp_path / "s.db", create=False)
    (run,) = store.runs()
    store.close()
    digest = digest_of(released()[NAME])
    assert run.started_from is not None
    assert run.started_from.startswith("resnet1d18-w16, pre-trained here on ptb-xl/all of 17,418 records")
    assert run.started_from.endswith(f"; weights {digest[:12]}")
    assert command(*words, "--workers", 1)[1].startswith("1 of 1 runs done, 0 failed")
