"""``ecgadvise train`` as its users meet it: from nothing to a checkpoint, Ctrl-C, what is refused."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb

from advisor.answer.strategy import Choice, choose_strategy
from advisor.cli import main
from advisor.commands.train import EXAMPLE, Asked, plan
from advisor.own_records.records import OwnData, divide_own
from advisor.terminal.progress.training import Watch, watched
from engine.checkpoints.checkpoint import load_network
from engine.checkpoints.zoo import find_checkpoint, released, suiting
from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import prepared_synthetic
from engine.files import claimed
from engine.training.fit import forewarn
from engine.training.loop import Validation
from studies.files.curves import read_curves
from studies.files.shipped import DEFAULT_CURVES

TINY = ("--task", "synthetic", "--arch", "resnet1d18-w2", "--n-records", "40", "--strategy", "scratch")


# The command in a process that gets a real SIGINT after its first epoch, however busy the machine is.
INTERRUPTED = """
import os, signal
from advisor.cli import main
from advisor.terminal.progress.training import Watch
report = Watch.report
def report_and_interrupt(self, validation):
    report(self, validation)
    if validation.epoch == 1:
        os.kill(os.getpid(), signal.SIGINT)
Watch.report = report_and_interrupt
main()
"""


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    prepared_synthetic(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the synthetic corpus prepared elsewhere."""
    monkeypatch.setenv("ECGADVISE_CORPORA", str(corpora))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def synthetic(corpora: Path) -> OwnData:
    corpus = Corpus(corpora / "synthetic")
    return divide_own(corpus.root, corpus, "diagnosis")


@pytest.fixture
def train(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in this process; return exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ecgadvise", "train", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_the_example_trains_a_network_that_has_learnt(tmp_path: Path, corpora: Path):
    words = shlex.split(EXAMPLE.removeprefix("Example: ecgadvise "))
    result = subprocess.run(
        [sys.executable, "-m", "ecgadvise", *words, "--json"], capture_output=True, text=True, timeout=300,
        cwd=tmp_path, env=os.environ | {"ECGADVISE_CORPORA": str(corpora)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["schema_version"] == 1
    assert report["evaluation"]["auroc_macro"] > 0.75
    assert report["evaluation"]["auroc_macro_ci_lower"] < report["evaluation"]["auroc_macro"]
    assert report["records"]["training_records"] + report["records"]["validation_records"] == 80
    assert report["advice"]["why"] in result.stderr
    assert list(report["thresholds"]) == report["classes"]
    assert "80 records to train and to cross-validate" in result.stderr  # the adviser takes a linear probe
    facts = load_network(tmp_path / report["checkpoint"])[1]
    assert facts.metrics["auroc_macro"] == report["evaluation"]["auroc_macro"]


def test_every_validation_of_a_training_is_said(place: Path, train):
    code, _, err = train(*TINY, "--out", "out")
    assert code == 0, err
    looks = re.findall(r"^epoch (\d+) of 200: loss [\d.]+, validation AUROC [\d.]+ \(best [\d.]+\)", err, re.M)
    assert (looks[0], looks[-1]) == ("1", "200")


def test_ctrl_c_leaves_a_checkpoint_and_the_command_that_goes_on(place: Path, train):
    whole = train(*TINY, "--out", "whole")
    assert whole[0] == 0, whole[2]
    stopped = subprocess.run([sys.executable, "-c", INTERRUPTED, "train", *TINY, "--out", "out"],
                             capture_output=True, text=True, timeout=300)  # fmt: skip
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stdout == ""
    said = stopped.stderr.splitlines()
    assert "stopping after this epoch; Ctrl-C again stops at once and keeps nothing of it" in said
    facts = load_network(place / "out")[1]
    assert facts.record["interrupted"] is True
    assert facts.record["epochs"] < 60
    found = re.fullmatch(r"interrupted; out has the best weights so far .*; go on with: ecgadvise train (.*)", said[-1])
    assert found, said[-1]
    resumed = train(*shlex.split(found[1]))
    assert resumed[0] == 0, resumed[2]
    shown = [re.sub(r"epochs in \d+ s", "epochs", text.replace("out", "whole")) for text in (resumed[1], whole[1])]
    assert shown[0] == shown[1]
    weights = "weights.safetensors"
    assert (place / "out" / weights).read_bytes() == (place / "whole" / weights).read_bytes()
    code, _, err = train(*TINY, "--out", "out", "--resume")
    assert (code, err) == (3, "error: out holds no interrupted training to resume\n")


@pytest.fixture
def advise(monkeypatch: pytest.MonkeyPatch):
    """Have the adviser say what a test wants, as it may after a pilot; what is asked for by name stays as it is."""

    def say(strategy: str) -> None:
        def choose(asked: str, *rest) -> Choice:
            return Choice(strategy, False, f"It is {strategy}.") if asked == "auto" else really(asked, *rest)

        monkeypatch.setattr("advisor.own_records.advice.choose_strategy", choose)

    really = choose_strategy
    return say


@pytest.mark.parametrize("by_now", ["random-convolutions", "fine-tune"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_training_goes_on_as_it_was_begun_although_the_adviser_says_otherwise_by_now(
    place: Path, train, advise, monkeypatch: pytest.MonkeyPatch, by_now: str, killed: bool
):
    asked = (*TINY[:-2], "--out", "out")
    advise("scratch")
    with monkeypatch.context() as patched:
        patched.setattr(Watch, "should_stop", lambda _watch: True)
        assert train(*asked)[0] == 130
    if killed:  # while it wrote
        (place / "out").rename(place / ".out.0a1b2c3d.old")
    advise(by_now)
    code, _, err = train(*asked, "--resume")
    assert code == 0, err
    assert f"Going on with strategy scratch, as this training was begun; the adviser now says: It is {by_now}." in err
    assert train(*TINY, "--out", "whole")[0] == 0
    weights = "weights.safetensors"
    assert (place / "out" / weights).read_bytes() == (place / "whole" / weights).read_bytes()
    assert load_network(place / "out")[1].strategy == "scratch"


def test_a_training_goes_on_with_the_network_it_was_begun_with_where_the_adviser_names_it(corpora: Path, monkeypatch):
    named = [plan(synthetic(corpora), None, Asked.AUTO, None, 40, 0, "tuned", "cpu", begun)[0]
             for begun in (None, {"arch": "gru-w32", "strategy": "scratch"})]  # fmt: skip
    assert named[0].arch != "gru-w32"
    assert (named[1].arch, named[1].strategy, named[1].upstream) == ("gru-w32", "scratch", None)


def test_what_is_asked_for_by_name_is_not_taken_from_what_was_begun(place: Path, train, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Watch, "should_stop", lambda _watch: True)
        assert train(*TINY, "--out", "out")[0] == 130
    assert train(*TINY, "--out", "network")[0] == 0
    code, _, err = train(*TINY[:-2], "--strategy", "fine-tune", "--from", "network", "--out", "out", "--resume")
    said = "error: out was begun with strategy scratch, not fine-tune: resume it with the same settings"
    assert (code, err.splitlines()[-1]) == (3, said)


def test_the_table_says_what_a_person_needs(train):
    code, out, err = train(*TINY, "--out", "out")
    assert code == 0, err
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.match(
        r"macro AUROC 0\.\d{3} \(90 %: 0\.\d{3} to 0\.\d{3}\) on 200 test records of \d+ patients", lines[0]
    )
    for name in ("normal", "irregular rhythm", "wide QRS", "tall QRS", "inferior Q"):
        row = next(line for line in lines if line.startswith(name))
        assert re.search(r"\d\.\d{3} +\d\.\d{3} to \d\.\d{3} +\d\.\d{3} +\d\.\d{3} +\d\.\d{3} +\d+$", row)
    text = " ".join(out.split())
    for words in ("no clinical meaning", "temperature ", "expected calibration error", "fold 10 of the publisher's 10"):
        assert words in text
    assert "ecgadvise export out --out model.onnx" in text


def test_thresholds_are_chosen_for_a_specificity_and_what_they_reach_is_said_and_kept(place: Path, train):
    asked = ("--at-specificity", "0.9", "--prevalence", "normal:0.02,wide QRS:0.1")
    code, out, err = train(*TINY, "--out", "out", *asked)
    assert code == 0, err
    facts = load_network(place / "out")[1]
    assert facts.record["threshold_rule"] == {"rule": "specificity", "specificity": 0.9}
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "Decisions at the threshold, chosen for a specificity of 0.9 on validation records:" in " ".join(lines)
    assert "PPV is at the stated prevalence, normal 0.02, wide QRS 0.1; for the others at" in " ".join(lines)
    row = [line for line in lines if line.startswith("wide QRS")][1]
    one = facts.evaluation["classes"]["wide QRS"]
    assert (one["prevalence"], one["prevalence_stated"]) == (0.1, True)
    for name in ("sensitivity", "specificity"):
        values = (one[name], one[f"{name}_ci_lower"], one[f"{name}_ci_upper"])
        assert "{:.2f} ({:.2f} to {:.2f})".format(*values) in row
    code, out, err = train(*TINY, "--out", "out", "--force", "--json")
    assert code == 0, err
    assert json.loads(out)["threshold_rule"] == {"rule": "highest-f1"}
    assert load_network(place / "out")[1].thresholds != facts.thresholds


def test_what_the_averages_leave_out_is_a_warning_of_table_and_json_and_kept(place: Path, train):
    code, out, err = train(*TINY, "--out", "out", "--least-positives", "50")
    assert code == 0, err
    evaluation = load_network(place / "out")[1].evaluation
    rare = [name for name, one in evaluation["classes"].items() if one["positives"] < 50]
    assert 0 < len(rare) < 5
    assert (evaluation["left_out"], evaluation["least_positives"]) == (rare, 50)
    warning = f"Left out of macro averages, with fewer than 50 positive or negative test records: {', '.join(rare)}."
    assert f"! {warning}" in " ".join(out.split())
    code, out, err = train(*TINY, "--out", "out", "--force", "--least-positives", "101", "--json")
    document = json.loads(out)
    assert document["evaluation"]["left_out"] == []
    assert any(one.startswith("No class has 101 positive and 101 negative") for one in document["warnings"])


def test_a_checkpoint_is_replaced_on_request_only_and_nothing_else_ever(place: Path, train):
    (place / "out").mkdir()
    assert train(*TINY, "--out", "out")[0] == 0  # an empty folder is none to lose
    before = (place / "out" / "checkpoint.json").read_bytes()
    assert train(*TINY, "--out", "out")[::2] == (2, "error: out exists; --force replaces it\n")
    assert (place / "out" / "checkpoint.json").read_bytes() == before
    assert train(*TINY, "--out", "out", "--force", "--seed", "1")[0] == 0
    assert (place / "out" / "checkpoint.json").read_bytes() != before
    (place / "out" / "model.onnx").write_text("mine")
    code, _, err = train(*TINY, "--out", "out", "--force")
    assert (code, err) == (2, "error: out is not a checkpoint (model.onnx is there): choose another --out\n")
    assert (place / "out" / "model.onnx").read_text() == "mine"


def test_a_network_is_fine_tuned_from_a_checkpoint_that_is_read_once(place: Path, train, read_weights: list[Path]):
    train(*TINY, "--out", "upstream")
    other = ("--task", "synthetic/morphology", "--n-records", "60", "--from", "upstream", "--json")
    read_weights.clear()
    code, out, err = train(*other, "--strategy", "fine-tune", "--out", "tuned")
    assert code == 0, err
    assert read_weights == [Path("upstream", "weights.safetensors")]
    report = json.loads(out)
    assert (report["strategy"], report["arch"]) == ("fine-tune", "resnet1d18-w2")  # that of --from
    assert report["upstream"] == "synthetic/diagnosis"
    assert "auto" not in err
    code, _, err = train(*other, "--arch", "resnet1d18-w4", "--out", "other")
    said = "--from upstream holds resnet1d18-w2, and --arch resnet1d18-w4 asks about resnet1d18-w4: name one of them"
    assert (code, err) == (2, f"error: {said}\n")


@pytest.mark.parametrize("words", [("--strategy", "random-convolutions"), ("--arch", "random-convolutions")])
def test_random_convolutions_are_a_strategy_and_its_network(words: tuple[str, str], place: Path, train):
    asked = ("--task", "synthetic", "--n-records", "40", *words, "--out", "kernels")
    code, out, err = train(*asked, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["arch"], document["strategy"]) == ("random-convolutions", "random-convolutions")
    assert (document["upstream"], document["epochs"]) == (None, 1)
    assert (document["records"]["training_records"], document["records"]["validation_records"]) == (40, 0)
    assert "40 records to train and to cross-validate" in err
    code, _, err = train(*asked, "--resume")
    assert code == 2
    assert "kernels holds no interrupted training: strategy random-convolutions takes one step" in err
    assert "nothing to resume" in err


def test_a_linear_probe_starts_from_a_checkpoint(place: Path, train):
    assert train(*TINY, "--out", "first")[0] == 0
    probe = ("--task", "synthetic", "--n-records", "40", "--strategy", "linear-probe", "--from", "first")
    code, out, err = train(*probe, "--out", "probe")
    assert code == 0, err
    assert "from their cross-validation" in " ".join(out.split())
    facts = load_network(place / "probe")[1]
    assert facts.strategy == "linear-probe"
    assert facts.arch == facts.record["probe"]["features"]
    assert facts.arch.startswith("resnet1d18-w2")


def test_random_convolutions_that_the_adviser_chooses_are_trained_as_such(corpora: Path, monkeypatch):
    chosen = Choice("random-convolutions", False, "the best of all")
    monkeypatch.setattr("advisor.own_records.advice.choose_strategy", lambda *_arguments: chosen)
    job, _ = plan(synthetic(corpora), "cnn", Asked.AUTO, None, 40, 0, "tuned", "cpu")
    assert (job.arch, job.strategy, job.upstream) == ("random-convolutions", "random-convolutions", None)
    assert not len(job.partition.validation)


@pytest.mark.parametrize(
    ("arch", "recipe", "differs"),
    [("cnn", "tuned-2", True), ("cnn", "tuned", False), ("rnn", "tuned-2", False)],  # of rnn it is a second name
)
def test_a_recipe_that_is_not_the_evidences_is_said(arch, recipe, differs: bool, corpora: Path, monkeypatch):
    chosen = Choice("scratch", False, "The best of all.", recipe="tuned")
    monkeypatch.setattr("advisor.own_records.advice.choose_strategy", lambda *_arguments: chosen)
    choice = plan(synthetic(corpora), arch, Asked.AUTO, None, 40, 0, recipe, "cpu")[1].choice
    said = "The best of all. The evidence trained by recipe tuned, this trains by tuned-2."
    assert choice.why == (said if differs else "The best of all.")


def test_records_unlike_those_of_the_evidence_are_a_warning_of_the_training(corpora: Path, monkeypatch):
    said = ("These records have 12 leads: none of the evidence's 2 tasks does.",)
    monkeypatch.setattr("advisor.own_records.advice.signal_differences", lambda *_: said)
    job, advice = plan(synthetic(corpora), "cnn", Asked.AUTO, None, 40, 0, "tuned", "cpu")
    assert job.differences == advice.differences == said
    assert forewarn(job)[:1] == said


@pytest.mark.parametrize("words", ["", "--strategy fine-tune", "--strategy linear-probe"])
def test_nothing_starts_from_random_convolutions(words: str, place: Path, train):
    task = ("--task", "synthetic", "--n-records", "40")
    assert train(*task, "--strategy", "random-convolutions", "--out", "kernels")[0] == 0
    code, _, err = train(*task, *words.split(), "--from", "kernels", "--out", "other")
    assert code == 2
    assert "kernels holds random convolutions, from which nothing starts" in err


@pytest.mark.parametrize("family", ["cnn", "rnn"])
@pytest.mark.parametrize("strategy", [Asked.FINE_TUNE, Asked.AUTO])
def test_a_familys_default_starts_from_the_released_network_and_says_which(family: str, strategy: Asked, corpora: Path):
    arch = read_curves(DEFAULT_CURVES).family_default[family]
    opened = Corpus(corpora / "synthetic")
    names = [*suiting(arch, opened.contract)]
    assert names, f"no {arch} is released with this version"
    job, advice = plan(synthetic(corpora), family, strategy, None, 40, 0, "tuned", "cpu")
    if job.upstream is not None:
        assert (job.arch, job.upstream.folder) == (arch, find_checkpoint(names[0]))
        assert names[0] in advice.choice.why
    else:
        assert strategy is Asked.AUTO
        assert advice.choice.strategy in ("scratch", "random-convolutions")


def test_records_of_lead_ii_start_from_the_network_that_was_pre_trained_on_lead_ii(place: Path, train):
    rng, rows = np.random.default_rng(0), ["record,patient,AF"]
    (place / "monitor").mkdir()
    for k in range(60):
        signal = rng.normal(0, 0.1 + 0.2 * (k % 2), (1000, 1))
        wfdb.wrsamp(f"r{k}", fs=100, units=["mV"], sig_name=["II"], p_signal=signal, fmt=["16"],
                    write_dir=str(place / "monitor"))  # fmt: skip
        rows.append(f"r{k},p{k},{k % 2}")
    (place / "monitor" / "labels.csv").write_text("\n".join(rows) + "\n")
    arguments = ("--data", "monitor", "--arch", "cnn", "--strategy", "fine-tune", "--n-records", "40", "--out", "net")
    code, _, err = train(*arguments)
    assert code == 0, err
    assert "Starting from resnet1d18-w16-ptbxl-lead-ii, as asked." in err
    facts = load_network(place / "net")[1]
    assert (facts.upstream, facts.leads) == ("ptb-xl/all@II", ("II",))


def test_what_no_released_network_suits_is_said_with_those_there_are(train):
    _, _, err = train("--task", "synthetic", "--arch", "gru-w3", "--strategy", "fine-tune", "--out", "x")
    for name in released():
        assert name in err
    _, _, err = train("--task", "synthetic", "--from", "nowhere", "--out", "x")
    for name in released():
        assert name in err


def test_a_directory_is_prepared_and_trained_on(ptbxl_tree: Path, train):
    arguments = ("--data", str(ptbxl_tree), "--arch", "resnet1d18-w2", "--n-records", "40", "--task", "rhythm")
    code, out, err = train(*arguments, "--out", "out", "--json")
    assert code == 0, err
    assert json.loads(out)["task"] == "ptb-xl/rhythm"
    assert "preparing" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("--task synthetic", 2, "--out"),
        ("--out x", 2, "give --task CORPUS/TASK (or --task synthetic), or --data DIR"),
        ("--out x --task mimic", 2, "no prepared corpus is named 'mimic'"),
        ("--out x --task synthetic/rhythms", 2, "no task 'rhythms'; it has diagnosis, morphology"),
        ("--out x --task synthetic --arch resnet1d81", 2, "no network is named 'resnet1d81'"),
        ("--out x --task synthetic --strategy maybe", 2, "'maybe' is not one of"),
        ("--out x --task synthetic --strategy random-frozen", 2, "'random-frozen' is not one of"),
        ("--out x --task synthetic --strategy frozen --arch gru-w3", 2, "needs a pre-trained gru-w3 for 12 leads"),
        ("--out x --task synthetic --strategy linear-probe --arch gru-w3", 2, "needs a pre-trained gru-w3"),
        ("--out x --task synthetic --strategy random-convolutions --arch cnn", 2, "leave out --arch cnn"),
        ("--out x --task synthetic --strategy random-convolutions --from x", 2, "leave out --from"),
        ("--out x --task synthetic --strategy scratch --arch random-convolutions", 2, "is not trained"),
        ("--out x --task synthetic --recipe best", 2, "no recipe is named 'best'"),
        ("--out x --task synthetic --device tpu", 2, "tpu"),
        ("--out x --task synthetic --n-records 1801", 2, "has 1,800 records besides those held out"),
        ("--out x --task synthetic --n-records 1", 2, "--n-records"),
        ("--out x --task synthetic --n-records 2", 3, "2 records of synthetic/diagnosis are too few"),
        ("--out x --task synthetic --at-specificity 95", 2, "a specificity of 95 cannot be asked for"),
        ("--out x --task synthetic --prevalence 2", 2, "a prevalence of 2 cannot be stated"),
        ("--out x --task synthetic --prevalence AF:nan", 2, "--prevalence 'AF:nan': give the share of patients"),
        ("--out x --task synthetic --prevalence AF:0.1", 2, "for AF, which is none of normal, irregular rhythm, "),
        ("--out x --task synthetic --from nowhere", 3, "no checkpoint folder nowhere, nor a released network"),
        ("--out x --task synthetic --from .", 3, ". is not a checkpoint: it has no checkpoint.json"),
        ("--out x --task synthetic --strategy scratch --resume", 3, "x holds no interrupted training to resume"),
        ("--out x --data nowhere", 3, "nowhere is not a directory"),
        ("--out x --data .", 3, "holds no ECG records"),
        ("--out file --task synthetic", 2, "file is not a checkpoint"),
        ("--out file/x --task synthetic", 1, "cannot write file/x: "),
    ],
)
def test_bad_input_ends_in_one_sentence_before_any_training(arguments: str, code: int, says: str, place: Path, train):
    (place / "file").write_text("")
    ended, out, err = train(*shlex.split(arguments))
    assert ended == code, err
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    assert says in err
    assert out == ""
    assert not (place / "x").exists()


@pytest.mark.parametrize("strategy", ["auto", "scratch", "random-convolutions"])
def test_where_nothing_is_to_be_resumed_nothing_is_made(strategy: str, place: Path, train):
    before = sorted(place.rglob("*"))
    asked = ("--task", "synthetic", "--n-records", "40", "--strategy", strategy, "--out", "nope/deeper", "--resume")
    assert train(*asked) == (3, "", "error: nope/deeper holds no interrupted training to resume\n")
    assert sorted(place.rglob("*")) == before


def test_a_device_that_is_not_there_is_refused(train, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = train(*TINY, "--out", "x", "--device", "cuda")
    assert code == 2
    assert re.fullmatch(r"error: [^\n]*CUDA[^\n]*\n", err), err


def test_records_of_few_patients_are_refused(place: Path, train, ptbxl_tree: Path):
    root = shutil.copytree(ptbxl_tree, place / "few")
    table = (root / "ptbxl_database.csv").read_text().splitlines()
    (root / "ptbxl_database.csv").write_text("\n".join(table[:5]) + "\n")
    code, _, err = train("--data", "few", "--arch", "resnet1d18-w2", "--out", "x")
    assert code == 3
    assert err.splitlines()[-1].endswith(
        "records of 2 patients: at least 3 are needed, to train, to validate and to test"
    )


def test_a_full_disk_ends_in_one_sentence(train, place: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_path: Path, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, out, err = train(*TINY, "--out", "x")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "error: cannot write x: No space left on device"
    assert not (place / "x").exists()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def look(epoch: int, auroc: float) -> Validation:
    return Validation(epoch, auroc, 0.3, 0.2, 1.0, 100)


def test_the_second_ctrl_c_stops_at_once(ctrl_c: None, capsys: pytest.CaptureFixture[str]):
    with watched(10) as watch:
        assert not watch.should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert watch.should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_epochs_are_counted_once_whether_they_are_looked_at_or_not(capsys: pytest.CaptureFixture[str]):
    with watched(4, done=1, best=0.9) as watch:
        watch.report(look(2, float("nan")))
        watch.should_stop()
        watch.should_stop()
        assert watch.done == 3
        watch.report(look(4, 0.8))
        assert (watch.done, watch.best) == (4, 0.9)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "epoch 2 of 4: loss 0.2000, validation AUROC unknown"
    assert said[1] == "epoch 4 of 4: loss 0.2000, validation AUROC 0.800 (best 0.900), 0 s left"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--strategy scratch --from resnet1d18-w16-ptbxl", "starts from no network, and --from names one"),
        ("--source ludb", "give --data DIR with it"),
        ("--force --resume", "leave one of them out"),
        ("--arch rnn --from resnet1d18-w16-ptbxl", "holds resnet1d18-w16, and --arch rnn asks about gru-w32"),
        ("--arch CNN --strategy random-convolutions", "leave out --arch cnn"),
        ("--arch ECG-FM", "ECG-FM is a published foundation model"),
        ("--arch cnn --strategy fine-tune --arch resnet1d18-w2", "needs a pre-trained resnet1d18-w2"),
    ],
)
def test_options_that_make_no_sense_together_are_refused_before_a_record_is_read(
    words: str, said: str, place: Path, train
):
    code, out, err = train("--task", "synthetic", "--n-records", "40", *words.split(), "--out", "other")
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert not (place / "other").exists()


def test_a_network_s_name_is_the_same_in_upper_and_lower_case(corpora: Path):
    for arch in ("CNN", "ResNet1D18-W16"):
        job, _ = plan(synthetic(corpora), arch, Asked.SCRATCH, None, 40, 0, "tuned", "cpu")
        assert job.arch == "resnet1d18-w16"


def test_a_foundation_model_to_start_from_is_said_to_be_one(place: Path, train):
    code, _, err = train("--task", "synthetic", "--n-records", "40", "--from", "hubert_ecg", "--out", "other")
    assert code == 3
    assert "error: HuBERT-ECG is a published foundation model, which this study did not measure" in err


def test_a_second_training_into_a_folder_is_refused_and_a_crashed_one_blocks_nobody(place: Path, train):
    asked = ("--task", "synthetic", "--n-records", "40", "--strategy", "random-convolutions", "--out", "mine")
    with claimed(place / "mine"):
        code, out, err = train(*asked)
        assert (code, out) == (1, "")
        said = "mine is being written by another ecgadvise: let it end, or choose another folder"
        assert err.splitlines()[-1] == f"error: {said}"
        assert train(*asked[:-1], "other")[0] == 0
    (place / ".mine.lock").write_text("")  # as a crash leaves it
    code, _, err = train(*asked)
    assert code == 0, err
    assert not list(place.glob(".*"))
