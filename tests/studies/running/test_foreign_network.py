"""A study starts from a network that reads records in its own way: the records, folds and seeds are the same ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoints.checkpoint import Standardisation
from engine.sources.publishers import PTB_XL
from models.registry import create_network, forward_gflop
from studies.running import study_networks
from studies.running.design import DesignError, read_design
from studies.running.expansion import expand
from studies.running.study_corpora import open_corpora
from studies.runs.run_spec import RunSpec, read_spec
from studies.runs.store import Store

ARCH = "resnet1d18-w2"
LEADS = ("V1", "II")
DESIGN = f"""
name = "foreign"
tasks = ["ptb-xl/superclass"]
archs = ["{ARCH}"]
strategies = ["scratch", "fine-tune", "linear-probe", "random-convolutions"]
upstream = "zoo:theirs"
pool_folds = [1, 2, 3, 4, 5, 6, 7, 8]
test_folds = [9, 10]
sizes = [24]
replicates = 1
recipe = "tuned-2"
[data]
ptb-xl = "TREE"
"""


@pytest.fixture
def theirs(tmp_path: Path, checkpoint_writer, monkeypatch) -> Path:
    """A network of two leads at 50 Hz in crops of 2 s, in place of the released ones."""
    root = checkpoint_writer(
        tmp_path / "zoo" / "theirs", ARCH, leads=LEADS, fs=50.0, n_samples=100, crop=100, scaling="lead",
        standardisation=Standardisation((0.0, 0.0), (1.0, 1.0)), task="theirs", data_hash="", source={},
    )  # fmt: skip
    monkeypatch.setattr(study_networks, "released", lambda: {"theirs": root})
    return root


@pytest.fixture
def design(tmp_path: Path, ptbxl_tree: Path) -> Path:
    path = tmp_path / "design.toml"
    path.write_text(DESIGN.replace("TREE", ptbxl_tree.as_posix()))
    return path


def test_runs_read_as_the_network_does_and_learn_from_the_records_that_others_do(theirs, design, tmp_path: Path):
    study = read_design(design)
    opened, missing = open_corpora(study, tmp_path / "corpora")
    assert not missing
    assert sorted(opened) == ["ptb-xl", "ptb-xl-at-50hz"]
    assert opened["ptb-xl-at-50hz"].contract.n_samples == 500
    runs = {run.strategy: run for run in expand(study, opened)}
    for strategy in ("scratch", "fine-tune", "linear-probe"):
        assert runs[strategy].reading == "V1+II at 50 Hz, crops of 100, scaled by lead"
        assert runs[strategy].read_task == "ptb-xl-at-50hz/superclass@V1+II"
    kernels = runs["random-convolutions"]
    assert (kernels.reading, kernels.read_task) == ("", "ptb-xl/superclass")
    assert len({run.seed for run in runs.values()}) == 1
    start = runs["fine-tune"].pretraining()
    assert start is not None
    assert start.reading == ""
    whole = opened["ptb-xl"]
    np.testing.assert_array_equal(opened["ptb-xl-at-50hz"].record_ids, whole.record_ids)


def test_how_records_are_read_is_part_of_a_run_s_key_and_of_no_other_run_s(theirs, design, tmp_path: Path):
    study = read_design(design)
    opened, _ = open_corpora(study, tmp_path / "corpora")
    scratch = next(run for run in expand(study, opened) if run.strategy == "scratch")
    hashes = {"ptb-xl-at-50hz/superclass@V1+II": "a", "ptb-xl/superclass": "a"}
    plain = read_spec({name: value for name, value in scratch.canonical().items() if name != "reading"})
    assert "reading" not in plain.canonical()
    assert scratch.key(hashes) != plain.key(hashes)
    assert read_spec(scratch.canonical()) == scratch
    assert isinstance(plain, RunSpec)


def test_a_study_trains_from_it_and_what_it_trains_reads_records_so(theirs, design, tmp_path: Path, command):
    store = tmp_path / "s.db"
    words = ("study", "run", design, "--store", store, "--corpora", tmp_path / "corpora", "--workers", 1)
    code, out, err = command(*words)
    assert code == 0, err
    assert out.startswith("4 of 4 runs done, 0 failed")
    found = Store(store, create=False)
    runs = {run.strategy: run for run in found.runs()}
    found.close()
    assert {run.task for run in runs.values()} == {"ptb-xl/superclass"}
    assert runs["fine-tune"].upstream == "zoo:theirs"
    scratch = runs["scratch"]
    network = create_network(ARCH, n_leads=2, n_classes=len(scratch.classes), n_samples=100)
    expected = 3 * forward_gflop(network, 2, 100) * scratch.records_seen  # a step learns one crop of a record
    assert scratch.gflop == pytest.approx(expected, abs=0.06)
    rescoring = ("study", "rescore", "--store", store, "--corpora", tmp_path / "corpora")
    code, out, err = command(*rescoring, "--least-positives", 1)
    assert code == 0, err


def test_what_a_network_cannot_read_is_said(theirs, design, tmp_path: Path):
    study = read_design(design)
    opened, _ = open_corpora(study, tmp_path / "corpora")
    document = json.loads((theirs / "checkpoint.json").read_text())
    assert document["crop"] == 100
    del opened["ptb-xl-at-50hz"]
    with pytest.raises(DesignError, match=r"zoo:theirs takes 2 leads .* needs the corpus ptb-xl-at-50hz, which is not"):
        expand(study, opened)


def test_records_of_sets_that_it_has_seen_are_refused(
    design, tmp_path: Path, checkpoint_writer, monkeypatch, ptbxl_tree
):
    study = read_design(design)
    root = checkpoint_writer(
        tmp_path / "zoo" / "theirs", ARCH, leads=LEADS, fs=50.0, n_samples=100, crop=100, scaling="lead",
        standardisation=Standardisation((0.0, 0.0), (1.0, 1.0)), source={"name": "them", "url": ""},
        record={"upstream_sources": [{"name": "ptb-xl", "url": PTB_XL.url}]},
    )  # fmt: skip
    monkeypatch.setattr(study_networks, "released", lambda: {"theirs": root})
    opened, _ = open_corpora(study, tmp_path / "corpora")
    with pytest.raises(DesignError, match="a patient of its pre-training may be in the test"):
        expand(study, opened)


def test_upstreams_that_read_in_several_ways_need_grids_of_their_own(theirs, design, tmp_path: Path):
    words = design.read_text().replace(
        'upstream = "zoo:theirs"', 'upstreams = ["zoo:theirs", "ptb-xl/form"]\nupstream_folds = [1]'
    )
    design.write_text(words.replace("pool_folds = [1, 2,", "pool_folds = [2,"))
    study = read_design(design)
    opened, _ = open_corpora(study, tmp_path / "corpora")
    with pytest.raises(DesignError, match="read ptb-xl/superclass in several ways"):
        expand(study, opened)


def test_a_corpus_of_other_records_at_its_rate_is_refused(theirs, design, tmp_path: Path, monkeypatch):
    study = read_design(design)
    opened, _ = open_corpora(study, tmp_path / "corpora")
    monkeypatch.setattr(opened["ptb-xl-at-50hz"], "patients", opened["ptb-xl"].patients[::-1])
    with pytest.raises(DesignError, match="does not hold the records of ptb-xl: other patients"):
        expand(study, opened)
