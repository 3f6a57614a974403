"""Records of 7 s from the check to the prediction, and what is said where lengths differ."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import wfdb

import ecgadvise
from engine.checkpoints.checkpoint import load_checkpoint
from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import prepared_synthetic
from engine.records.contract import SamplingError
from engine.records.record import LEADS

Command = Callable[..., tuple[int, str, str]]
N_RECORDS = 60
SHORT = "60 of 60 records are 7 s long, and 10 s are needed: --seconds 7 takes the first 7 s of all"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepared_synthetic(tmp_path_factory.mktemp("corpora"), N_RECORDS)


def write_record(folder: Path, name: str, signals: np.ndarray, fs: int = 100) -> Path:
    """Write a recording (12, samples) in millivolt."""
    wfdb.wrsamp(name, fs=fs, units=["mV"] * 12, sig_name=list(LEADS), fmt=["16"] * 12,
                p_signal=signals.T.astype(float), write_dir=str(folder))  # fmt: skip
    return folder / name


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory, made: Corpus) -> Path:
    """A directory of records of 7 s with one label."""
    root = tmp_path_factory.mktemp("own") / "ward"
    root.mkdir()
    column = made.label_names.index("wide QRS")
    for row in range(N_RECORDS):
        write_record(root, f"r{row:02d}", made.signals[row, :, :700])
    rows = [f"r{row:02d},p{made.patients[row]},{made.labels[row, column]}" for row in range(N_RECORDS)]
    (root / "labels.csv").write_text("\n".join(["record,patient,wide", *rows]) + "\n")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, ward: Path) -> Path:
    """A folder with a checkpoint of 7 s at 100 Hz and the model exported from it."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECGADVISE_CORPORA", str(root / "corpora"))
        network = ecgadvise.train(ward, out=root / "network", seconds=7, strategy="random-convolutions")
        network.export(root / "model.onnx")
    return root


@pytest.fixture(autouse=True)
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ECGADVISE_CORPORA", str(tmp_path / "corpora"))
    return tmp_path / "corpora"


def test_every_command_says_how_long_short_records_are_and_how_to_use_them(
    ward: Path, corpora: Path, tmp_path: Path, command: Command
):
    ended, out, _ = command("data", "check", ward)
    assert ended == 3
    assert SHORT in out.splitlines()
    report = json.loads(command("data", "check", ward, "--json")[1])
    assert (report["seconds"], report["fs"], report["short"]["seconds"], report["unusable"]) == (10.0, 100.0, 7.0, 60)
    for words in (
        ("data", "prepare", ward),
        ("train", "--data", ward, "--out", tmp_path / "network"),
        ("recommend", "--data", ward),
    ):
        ended, _, err = command(*words)
        assert ended == 3
        assert err.splitlines()[-1] == f"error: no record of ward is usable: {SHORT}"
    assert not (corpora / "ward").exists()


def test_few_records_that_are_long_enough_are_used_and_the_others_counted(
    ward: Path, made: Corpus, tmp_path: Path, command: Command
):
    tree = shutil.copytree(ward, tmp_path / "ward")
    write_record(tree, "r03", made.signals[3])
    said = "59 of 60 records are 7 s long, and 10 s are needed: --seconds 7 takes the first 7 s of all"
    ended, out, err = command("data", "prepare", tree)
    assert (ended, out.split(":")[0]) == (0, "1 record, 59 left out, 0 kept with a remark")
    assert said in err.splitlines()
    ended, out, err = command("data", "prepare", tree, "--max-bad", "3", "--fs", "200")
    assert ended == 3
    assert said in err.splitlines()
    ended, _, err = command("recommend", "--data", tree, "--fs", "250")
    assert ended == 3
    assert said in err.splitlines()


def test_records_of_seven_seconds_are_prepared_as_they_are(ward: Path, made: Corpus, corpora: Path, command: Command):
    report = json.loads(command("data", "check", ward, "--seconds", "7", "--json")[1])
    assert (report["seconds"], report["short"], report["unusable"]) == (7.0, None, 0)
    ended, out, _ = command("data", "prepare", ward, "--seconds", "7")
    assert (ended, out) == (0, f"60 records, 0 left out, 0 kept with a remark: {corpora / 'ward-7s'}\n")
    prepared = Corpus(corpora / "ward-7s")
    assert prepared.signals.shape == (60, 12, 700)
    np.testing.assert_allclose(prepared.signals, made.signals[:, :, :700], atol=2e-3)  # what 16 bits leave


def test_a_model_of_seven_seconds_says_so_and_predicts_the_first_seven(
    trained: Path, made: Corpus, tmp_path: Path, command: Command
):
    facts = load_checkpoint(trained / "network").facts
    assert (facts.contract.seconds, facts.n_samples, facts.fs) == (7.0, 700, 100.0)
    stored = {one.key: one.value for one in onnx.load(trained / "model.onnx").metadata_props}
    assert [stored[f"ecgadvise.{name}"] for name in ("seconds", "fs", "n_samples")] == ["7.0", "100.0", "700"]
    assert "It sees the first 7 s of 12 leads" in (trained / "MODEL_CARD.md").read_text()
    lengths = {"seven": 700, "ten": 1000, "five": 500}
    paths = [write_record(tmp_path, name, made.signals[0, :, :n]) for name, n in lengths.items()]
    ended, out, _ = command("predict", trained / "model.onnx", *paths, "--json")
    assert ended == 3
    found = json.loads(out)
    of = {Path(one["record"]).name: one for one in found["records"]}
    assert of["seven"]["probability"]["wide"] == pytest.approx(of["ten"]["probability"]["wide"], abs=1e-6)
    assert of["ten"]["notes"] == ["10 s long: the first 7 s are used"]
    assert of["seven"]["notes"] == []
    assert found["failed"] == [{"record": paths[2].as_posix(), "problem": "5 s long; 7 s are needed"}]


def test_a_network_of_ten_seconds_is_fine_tuned_on_seven_where_it_is_named_and_that_is_said(
    ward: Path, tmp_path: Path, checkpoint_writer: Callable[..., Path], command: Command
):
    upstream = checkpoint_writer(tmp_path / "upstream")
    words = ("train", "--data", ward, "--seconds", "7", "--from", upstream, "--strategy", "frozen")
    ended, out, err = command(*words, "--out", tmp_path / "network")
    assert ended == 0, err or out
    assert (
        "! upstream was pre-trained on records of 10 s, and these are of 7 s: what it gains at another length was not "
        "measured"
    ) in err
    facts = load_checkpoint(tmp_path / "network").facts
    assert (facts.contract.seconds, facts.record["upstream_seconds"]) == (7.0, 10.0)
    ended, _, err = command("export", tmp_path / "network", "--out", tmp_path / "model.onnx")
    assert ended == 0, err
    assert "which was trained on records of 10 s" in (tmp_path / "MODEL_CARD.md").read_text()
    ended, _, err = command(*words, "--fs", "200", "--out", tmp_path / "faster")
    assert ended == 2
    assert "upstream reads signals at 100 Hz" in err


def test_another_rate_goes_from_the_records_into_the_model(ward: Path, made: Corpus, tmp_path: Path):
    network = ecgadvise.train(
        ward, out=tmp_path / "network", seconds=7, fs=250, strategy="random-convolutions", n_records=40
    )
    assert (network.facts.fs, network.facts.n_samples) == (250.0, 1750)
    model = network.export(tmp_path / "model.onnx")
    assert (model.facts.fs, model.facts.contract.seconds) == (250.0, 7.0)
    assert model.predict(made.signals[:2], 100, LEADS).shape == (2, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data check {ward} --seconds 0", "records of 0 s are asked for: give 1 to 120 s"),
        ("data prepare {ward} --fs 20", "20 Hz are asked for: give a whole number, 50 to 1000 Hz"),
        ("train --data {ward} --out x --seconds 121", "records of 121 s are asked for"),
        ("recommend --data {ward} --fs 99.5", "99.5 Hz are asked for"),
        ("train --task synthetic --out x --seconds 7", "--seconds and --fs are about --data DIR"),
        ("recommend --n-records 100 --seconds 7", "--seconds is about your own records: give --data DIR"),
        ("recommend --n-records 100 --fs 100", "--fs is about your own records: give --data DIR"),
        ("train --data {corpus} --out x --seconds 7", "was prepared with 10 s at 100 Hz, and 7 s at 100 Hz"),
        ("recommend --data {corpus} --fs 250", "was prepared with 10 s at 100 Hz, and 10 s at 250 Hz"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_sentence(
    words: str, said: str, ward: Path, made: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
):
    monkeypatch.chdir(tmp_path)
    ended, out, err = command(*(word.format(ward=ward, corpus=made.root) for word in words.split()))
    assert (ended, out) == (2, "")
    assert said in err.splitlines()[-1]


def test_python_code_asks_for_the_same(ward: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "ecgadvise"):
        corpus = ecgadvise.prepare(ward, tmp_path / "ward", seconds=7, fs=200)
    assert (corpus.signals.shape, corpus.fs) == ((60, 12, 1400), 200.0)
    with pytest.raises(SamplingError, match="7 s at 200 Hz, and 7 s at 100 Hz are asked for"):
        ecgadvise.train(corpus, out=tmp_path / "network", fs=100)
    with pytest.raises(SamplingError, match="give 1 to 120 s"):
        ecgadvise.prepare(ward, tmp_path / "other", seconds=0.5)


def test_a_study_does_not_prepare_ten_seconds_under_the_name_of_another_length(
    ward: Path, corpora: Path, tmp_path: Path, command: Command
):
    design = (Path(__file__).parents[1] / "tiny.toml").read_text()
    (tmp_path / "short.toml").write_text(design.replace("ptb-xl/", "ward-7s/"))
    words = ("study", "plan", tmp_path / "short.toml", "--data", f"ward-7s={ward}")
    ended, _, err = command(*words)
    assert ended == 3
    assert "ward-7s is named as one of another length or rate, and a study prepares 10 s at 100 Hz" in err
    assert not (corpora / "ward-7s").exists()
