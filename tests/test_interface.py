"""``import ecgadvise`` as a user's code meets it: a notebook, a script, another package, a type checker."""

import json
import logging
import signal
import subprocess
import sys
import venv
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

import ecgadvise
from advisor.answer.question import NoEvidenceError, UnknownNameError
from advisor.interface.caller_state import caller_state_kept
from engine.corpora.corpus import Corpus, CorpusError
from engine.deploy.inference import ModelError, list_records, open_model, predict_records
from engine.records.record import RecordError
from engine.records.wfdb_reader import read_wfdb
from studies.collection.collect import EvidenceError
from studies.figure_style import BLUE, ORANGE
from studies.runs.tidy_runs import RunsFileError

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "advisor" / "recommendation.schema.json").read_text())
HEAVY = ("torch", "pandas", "sklearn", "statsmodels", "scipy", "wfdb", "safetensors", "matplotlib", "typer")
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
TINY = {"arch": "resnet1d18-w2", "n_records": 40, "seed": 3}


def python(script: str, *path: Path) -> str:
    """Run a user's script in a process of its own, with folders on its path; return what it prints."""
    begin = f"import sys; sys.path[:0] = {[str(one) for one in (*path, ROOT)]}\n"
    ended = subprocess.run([sys.executable, "-c", begin + script], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def loaded_after(script: str) -> set[str]:
    """Return the modules that are loaded once a script has run."""
    return set(python(f"{script}\nprint('modules', *sys.modules)").rpartition("modules ")[2].split())


@contextmanager
def nothing_changed() -> Iterator[None]:
    """Assert that what belongs to the caller is as it was."""

    def state() -> list[object]:
        torch_random, numpy_random = torch.get_rng_state().tolist(), np.random.get_state(legacy=False)  # noqa: NPY002
        numpy_random["state"]["key"] = numpy_random["state"]["key"].tolist()
        numbers = (torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_default_dtype())
        precision = (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark, np.geterr())
        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        levels = [logging.getLogger(name).level for name in (None, "ecgadvise", "torch.onnx")]
        return [torch_random, numpy_random, numbers, precision, handlers, list(warnings.filters), levels]

    torch.manual_seed(11)
    np.random.seed(12)  # noqa: NPY002 a user's code may do so
    before = state()
    yield
    assert state() == before


# What is loaded


def test_importing_loads_nothing_and_says_what_there_is():
    loaded = loaded_after("import ecgadvise; dir(ecgadvise); ecgadvise.__all__")
    assert not {"advisor", "engine", "models", "studies", "numpy", "importlib.metadata", *HEAVY} & loaded
    assert set(ecgadvise.__all__) <= set(dir(ecgadvise))
    for name in ecgadvise.__all__:
        assert getattr(ecgadvise, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'recomend'"):
        ecgadvise.recomend  # noqa: B018


def test_an_answer_loads_what_the_command_loads():
    asked = (
        "import ecgadvise; answer = ecgadvise.recommend(n_records=5000, arch='cnn'); answer.to_dict(); print(answer)"
    )
    assert not set(HEAVY) & loaded_after(asked)


def test_the_version_is_that_of_the_command(command):
    assert command("--version").out == f"ecgadvise {ecgadvise.__version__}\n"


# recommend


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n_records": 5000, "arch": "cnn"}, ["--n-records", 5000, "--arch", "cnn"]),
        ({"n_records": np.int64(300)}, ["--n-records", 300]),
        (
            {"n_records": 500, "arch": "cnn", "task": "ptb-xl/form", "margin": 0.02, "target": 0.8, "label_cost": 2,
             "gpu_cost": 1.5, "uses": 3},
            ["--n-records", 500, "--arch", "cnn", "--task", "ptb-xl/form", "--margin", 0.02, "--target", 0.8,
             "--label-cost", 2, "--gpu-cost", 1.5, "--uses", 3],
        ),
    ],
)  # fmt: skip
def test_an_answer_is_that_of_the_command(asked: dict, words: list, command):
    answer = ecgadvise.recommend(**asked)
    document = answer.to_dict()
    assert document == json.loads(command("recommend", *words, "--json").out)
    jsonschema.validate(document, SCHEMA)
    assert f"{answer}\n" == command("recommend", *words).out
    assert (answer.verdict, answer.why) == (document["verdict"], document["why"])
    for side in ("scratch", "fine_tune", "gain"):
        assert round(getattr(answer, side).mean, 4) == document[side]["mean"]


def test_an_answer_reads_well_in_a_notebook(curves_path: Path):
    answer = ecgadvise.recommend(500, "cnn", curves=curves_path)
    assert repr(answer).startswith("<Answer: fine-tune at 500 records (resnet1d18-w16, measured); gain +0.0")
    assert ecgadvise.recommend(500, "cnn", curves=str(curves_path)).to_dict() == answer.to_dict()


def test_both_curves_are_drawn_on_new_axes_or_on_the_caller_s():
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    answer = ecgadvise.recommend(5000, "cnn")
    settings = dict(pyplot.rcParams)
    ax = answer.plot()
    _, (left, right) = pyplot.subplots(1, 2)
    assert answer.plot(left) is left
    assert dict(pyplot.rcParams) == settings
    for drawn in (ax, left):
        assert drawn.get_xscale() == "log"
        assert drawn.get_xlabel().startswith("labelled records")
        assert {line.get_color() for line in drawn.lines} >= {BLUE, ORANGE}
        assert any("5,000" in text.get_text() for text in drawn.get_legend().get_texts())
        assert [5000, 5000] in [list(line.get_xdata()) for line in drawn.lines]
    assert not right.lines
    ax.figure.canvas.draw()
    pyplot.close("all")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"n_records": 0}, "n_records is 0: give a positive number"),
        ({"n_records": 10, "margin": float("nan")}, "margin is nan: "),
        ({"n_records": 10, "label_cost": -1}, "label_cost is -1: "),
        ({"n_records": 10, "device_speed": 100}, "device_speed is the speed of one network: name it with arch"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(asked: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        ecgadvise.recommend(**asked)


def test_what_has_no_answer_is_an_error_with_the_reason():
    with pytest.raises(UnknownNameError, match="resnet"):
        ecgadvise.recommend(500, "resnet1d")
    with pytest.raises(NoEvidenceError, match="10,000,000"):
        ecgadvise.recommend(10_000_000, "cnn")
    with pytest.raises(TypeError):
        ecgadvise.recommend(500.5)


# fit_curves


def runs_table() -> dict[str, list]:
    """Runs of two arms about known curves: fine-tuned is as good as scratch with 400 more records."""
    rng = np.random.default_rng(2)
    rows = [
        ("ward/rhythm", "ours", arm, "" if arm == "scratch" else "ptb-xl/all", n, replicate,
         float(np.clip(0.93 - 2.2 * (n + more) ** -0.5 + rng.normal(0, 0.1 * n**-0.5), 0, 1)))
        for n in (100, 250, 500, 1000)
        for replicate in range(3)
        for arm, more in (("scratch", 0), ("fine-tune", 400))
    ]  # fmt: skip
    names = ("task", "arch", "strategy", "upstream", "n_records", "replicate", "auroc_macro")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


@pytest.fixture(scope="module")
def runs() -> dict[str, list]:
    return runs_table()


@pytest.fixture(scope="module")
def fitted(runs: dict[str, list]) -> ecgadvise.Curves:
    with nothing_changed():
        return ecgadvise.fit_curves(runs, study="ours")


def test_a_table_in_memory_gives_the_curves_of_the_file(runs: dict, fitted, tmp_path: Path, command):
    frame = pd.DataFrame(runs)
    frame.loc[frame.strategy == "scratch", "upstream"] = None
    frame.to_csv(tmp_path / "runs.csv", index=False)
    of_file, of_frame = ecgadvise.fit_curves(tmp_path / "runs.csv"), ecgadvise.fit_curves(frame)
    assert of_file.predict(300) == of_frame.predict(300) == fitted.predict(300)
    assert command("curves", "fit", "--runs", tmp_path / "runs.csv", "--out", tmp_path / "of.json").code == 0
    assert of_file.save(tmp_path / "saved.json").read_bytes() == (tmp_path / "of.json").read_bytes()
    shown = command("curves", "show", "--curves", tmp_path / "of.json", "--at", "300,2000", "--json").out
    assert of_frame.predict([300, 2000]) == json.loads(shown)["rows"]
    assert repr(fitted) == "<Curves of ours: ward/rhythm ours>"
    assert any("sampling noise" in warning for warning in fitted.warnings)


def test_fitted_curves_know_the_truth_and_answer(fitted, tmp_path: Path):
    at_500 = {row["strategy"]: row for row in fitted.predict(np.int64(500))}
    for arm, truth in (("scratch", 0.93 - 2.2 * 500**-0.5), ("fine-tune", 0.93 - 2.2 * 900**-0.5)):
        assert at_500[arm]["mean_ci_lower"] < truth < at_500[arm]["mean_ci_upper"]
        assert at_500[arm]["mean"] == pytest.approx(truth, abs=0.01)
        assert at_500[arm]["support"] == "measured"
    assert {row["n_records"] for row in fitted.predict()} == {100, 250, 500, 1000}
    answer = ecgadvise.recommend(500, "ours", curves=fitted)
    assert answer.verdict == "fine-tune"
    assert answer.to_dict() == ecgadvise.recommend(500, "ours", curves=fitted.save(tmp_path / "c.json")).to_dict()
    with pytest.raises(ValueError, match="n_records is 0"):
        fitted.predict([100, 0])


def test_rows_that_cannot_be_used_are_named(runs: dict):
    with pytest.raises(RunsFileError, match="table lacks the column replicate"):
        ecgadvise.fit_curves({name: values for name, values in runs.items() if name != "replicate"})
    with pytest.raises(RunsFileError, match="table: row 1: auroc_macro is 7"):
        ecgadvise.fit_curves(runs | {"auroc_macro": [0.8, 7.5, *runs["auroc_macro"][2:]]})
    with pytest.raises(RunsFileError, match="differ in their number of rows"):
        ecgadvise.fit_curves(runs | {"upstream": ["ptb-xl/all"]})
    with pytest.raises(RunsFileError, match="brier falls"):
        ecgadvise.fit_curves(runs, metric="brier")
    with pytest.raises(RunsFileError, match="table has no column auroc_macro; log_loss falls with more records"):
        ecgadvise.fit_curves({"log_loss" if name == "auroc_macro" else name: values for name, values in runs.items()})
    with pytest.raises(ValueError, match="error_rate falls with more records: give 1 - error_rate"):
        ecgadvise.recommend(500, metric="error_rate")
    few = {name: values[:2] for name, values in runs.items()}
    with pytest.raises(EvidenceError, match="gives no curve"):
        ecgadvise.fit_curves(few)


# open_corpus, prepare


def test_a_tree_is_prepared_and_what_is_wrong_with_it_is_said(
    ptbxl_tree: Path, corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    tree = tmp_path / "tree"
    for path in ptbxl_tree.rglob("*"):
        (tree / path.relative_to(ptbxl_tree)).parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.name != "00003_lr.dat":
            (tree / path.relative_to(ptbxl_tree)).symlink_to(path)
    with nothing_changed():
        whole = ecgadvise.prepare(ptbxl_tree, tmp_path / "whole")
    assert whole.content_hash == corpus.content_hash
    assert not caplog.records
    assert len(ecgadvise.prepare(str(tree), str(tmp_path / "rest"), source="ptb-xl", workers=1)) == len(corpus) - 1
    assert "unusable: 3: file missing: 00003_lr.dat" in caplog.text
    assert ecgadvise.open_corpus(str(tmp_path / "whole")).tasks == corpus.tasks
    with pytest.raises(CorpusError, match="exists already"):
        ecgadvise.prepare(ptbxl_tree, tmp_path / "whole")
    with pytest.raises(CorpusError, match="not a prepared corpus"):
        ecgadvise.open_corpus(tmp_path)


# train


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> ecgadvise.Trained:
    seen = []
    with nothing_changed():
        found = ecgadvise.train(
            corpus, "superclass", out=tmp_path_factory.mktemp("trained") / "network", report=seen.append, **TINY
        )
    assert seen[0].epoch == 1
    return found


def test_a_training_is_that_of_the_command(trained, corpus: Corpus, tmp_path: Path, command):
    words = ("--arch", TINY["arch"], "--n-records", TINY["n_records"], "--seed", TINY["seed"])
    ended = command("train", "--data", corpus.root, "--task", "superclass", *words, "--out", tmp_path / "o", "--json")
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    weights = "weights.safetensors"
    assert (trained.folder / weights).read_bytes() == (tmp_path / "o" / weights).read_bytes()
    assert document["advice"]["why"] == trained.why
    assert document["evaluation"]["auroc_macro"] == trained.evaluation.auroc_macro
    assert list(trained.warnings) == document["warnings"]
    assert trained.facts.task == document["task"]
    assert repr(trained).startswith(f"<Trained resnet1d18-w2 for {trained.facts.task}, scratch: macro AUROC 0.")


def test_a_training_does_not_depend_on_the_caller_s_random_numbers(trained, corpus: Corpus, tmp_path: Path):
    torch.manual_seed(99)
    again = ecgadvise.train(corpus, "superclass", out=tmp_path, **TINY)
    weights = "weights.safetensors"
    assert (again.folder / weights).read_bytes() == (trained.folder / weights).read_bytes()


def test_what_cannot_be_trained_is_refused_before_it_starts(trained, corpus: Corpus, tmp_path: Path):
    with pytest.raises(FileExistsError, match="not an empty folder"):
        ecgadvise.train(corpus, out=trained.folder, **TINY)
    with pytest.raises(ValueError, match="strategy is 'finetune': give one of auto, scratch"):
        ecgadvise.train(corpus, out=tmp_path / "x", strategy="finetune")
    with pytest.raises(ValueError, match="n_records is 0"):
        ecgadvise.train(corpus, out=tmp_path / "x", n_records=0)
    with pytest.raises(ValueError, match="a specificity of 95 cannot be asked for"):
        ecgadvise.train(corpus, out=tmp_path / "x", at_specificity=95, **TINY)
    with pytest.raises(ValueError, match="for PACE, which is none of"):
        ecgadvise.train(corpus, out=tmp_path / "x", prevalence={"PACE": 0.1}, **TINY)
    with pytest.raises(CorpusError, match="no task 'none'"):
        ecgadvise.train(corpus, "none", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_what_a_gpu_s_training_sets_is_put_back():
    with nothing_changed(), caller_state_kept():
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.rand(3)
    with pytest.raises(KeyError), nothing_changed(), caller_state_kept():
        torch.manual_seed(1)
        raise KeyError


# load_model


def recordings(fs: float, seconds: float = 10.0) -> np.ndarray:
    """Return three recordings (3, 12, samples), slow waves that any rate holds."""
    t = np.arange(round(seconds * fs)) / fs
    rng = np.random.default_rng(4)
    return np.sin(2 * np.pi * rng.uniform(1, 6, (3, 12, 1)) * t + rng.uniform(0, 6, (3, 12, 1)))


def test_probabilities_do_not_depend_on_rate_and_order_of_leads(exported: Path):
    model = ecgadvise.load_model(exported / "model.onnx")
    with nothing_changed():
        p = model.predict(recordings(100), 100, LEADS)
    assert p.shape == (3, len(model.classes))
    assert model.classes == ("NORM", "MI", "CD")
    assert model.thresholds == (0.5, 0.35, 0.61)
    assert model.facts.task == "ptb-xl/superclass"
    order = np.random.default_rng(5).permutation(12)
    named = [f"Lead {LEADS[k].upper()}" for k in order]
    assert model.predict(recordings(500)[:, order], 500.0, named) == pytest.approx(p, abs=2e-3)
    assert model.predict(recordings(100)[1], fs=100, leads=LEADS) == pytest.approx(p[1:2], abs=1e-6)
    assert model.predict(np.empty((0, 12, 1000)), 100, LEADS).shape == (0, 3)


def test_probabilities_are_those_of_the_command(exported: Path, ptbxl_tree: Path, trained, tmp_path: Path):
    path = ptbxl_tree / "records100" / "00000" / "00007_lr"
    record = read_wfdb(path)
    (expected,) = predict_records(open_model(exported / "model.onnx"), list_records(path))
    found = ecgadvise.load_model(str(exported / "model.onnx")).predict(record.signals, record.fs, record.leads)
    assert found[0].tolist() == list(expected.probabilities)
    with nothing_changed():
        model = trained.export(tmp_path / "model" / "model.onnx")
    assert model.classes == trained.facts.classes
    assert model.predict(record.signals, record.fs, record.leads).shape == (1, 5)
    assert repr(model) == f"<Model model.onnx: resnet1d18-w2 for {trained.facts.task}, 5 classes>"


def test_what_cannot_be_predicted_is_named_and_what_is_odd_is_said(exported: Path, caplog: pytest.LogCaptureFixture):
    model, signals = ecgadvise.load_model(exported / "model.onnx"), recordings(100)
    with pytest.raises(ValueError, match=r"signals have shape \(3, 12, 1000\): with 2 leads give"):
        model.predict(signals, 100, ["I", "II"])
    with pytest.raises(RecordError, match="recording 0: lead V6 missing"):
        model.predict(signals[:, :11], 100, LEADS[:11])
    signals[2, 4, 17] = np.nan
    with pytest.raises(RecordError, match="recording 2: 1 samples of the first 10 s are missing"):
        model.predict(signals, 100, LEADS)
    assert not caplog.records
    model.predict(1000 * signals[:2], 100, LEADS)
    assert "the unit or the gain looks wrong" in caplog.text
    with pytest.raises(ModelError, match="does not exist"):
        ecgadvise.load_model(exported / "none.onnx")


def test_a_model_predicts_without_torch(exported: Path):
    script = (
        "import ecgadvise, numpy as np\n"
        f"model = ecgadvise.load_model({str(exported / 'model.onnx')!r})\n"
        f"model.predict(np.random.default_rng(0).normal(size=(2, 12, 5000)), 500, {LEADS})"
    )
    assert not {"torch", "pandas", "safetensors", "typer"} & loaded_after(script)


# evaluate


@pytest.fixture(scope="module")
def scored() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(6)
    y = rng.random((300, 3)) < (0.4, 0.1, 0.0)
    return y.astype(int), np.clip(rng.normal(0.4 + 0.2 * y, 0.2), 0, 1)


def test_scores_are_those_of_scikit_learn_and_one_sided_classes_are_named(scored):
    y, p = scored
    with nothing_changed():
        found = ecgadvise.evaluate(y, p, classes=["AF", "LBBB", "PACE"])
    expected = [roc_auc_score(y[:, k], p[:, k]) for k in (0, 1)]
    assert found.auroc_macro == pytest.approx(np.mean(expected))
    assert found.auroc_macro_ci_lower < found.auroc_macro < found.auroc_macro_ci_upper
    assert [found.classes[name].auroc for name in ("AF", "LBBB")] == pytest.approx(expected)
    assert found.left_out == ("PACE",)
    assert found.n_patients == 300


def test_rare_classes_are_left_out_of_the_average_as_asked(scored):
    y, p = scored
    rare = int(y[:, 1].sum())
    found = ecgadvise.evaluate(y, p, least_positives=rare + 1)
    assert (found.left_out, found.auroc_macro) == (("1", "2"), found.classes["0"].auroc)
    assert ecgadvise.evaluate(y, p, least_positives=rare).left_out == ("2",)
    with pytest.raises(ValueError, match="least_positives is 0"):
        ecgadvise.evaluate(y, p, least_positives=0)


def test_decisions_are_scored_at_the_thresholds_and_at_a_stated_prevalence(scored):
    y, p = scored
    found = ecgadvise.evaluate(y, p, classes=["AF", "LBBB", "PACE"], thresholds=0.5, prevalence={"LBBB": 0.02})
    one, decided, true = found.classes["LBBB"], p[:, 1] >= 0.5, y[:, 1] == 1
    assert (one.sensitivity, one.specificity) == pytest.approx((decided[true].mean(), (~decided[~true]).mean()))
    assert one.ppv == pytest.approx(one.sensitivity * 0.02 / (one.sensitivity * 0.02 + (1 - one.specificity) * 0.98))
    assert one.sensitivity_ci_lower < one.sensitivity < one.sensitivity_ci_upper
    assert found.classes["AF"].prevalence == y[:, 0].mean()
    assert ecgadvise.evaluate(y, p, prevalence=0.3).classes["1"].prevalence == 0.3
    with pytest.raises(ValueError, match="PACE, which is none of 0, 1, 2"):
        ecgadvise.evaluate(y, p, prevalence={"PACE": 0.1})


def test_whole_patients_are_resampled(scored):
    y, p = (np.repeat(values[:, :2], 4, axis=0) for values in scored)
    patients = np.repeat([f"p{k}" for k in range(300)], 4)

    def width(groups) -> float:
        found = ecgadvise.evaluate(y, p, groups)
        return found.auroc_macro_ci_upper - found.auroc_macro_ci_lower

    once = ecgadvise.evaluate(scored[0][:, :2], scored[1][:, :2])
    assert width(patients) == pytest.approx(once.auroc_macro_ci_upper - once.auroc_macro_ci_lower, rel=0.15)
    assert width(None) < 0.65 * width(patients)
    assert ecgadvise.evaluate(y, p, patients).n_patients == 300


def test_tables_lists_and_one_class_are_taken(scored):
    y, p = scored
    frame = pd.DataFrame(y, columns=["AF", "LBBB", "PACE"])
    assert list(ecgadvise.evaluate(frame, pd.DataFrame(p)).classes) == ["AF", "LBBB", "PACE"]
    one = ecgadvise.evaluate(y[:, 0].tolist(), p[:, 0].tolist(), groups=["a", "b", "c"] * 100, thresholds=0.6)
    assert one.auroc_macro == ecgadvise.evaluate(y, p).classes["0"].auroc
    assert (one.n_patients, one.classes["0"].threshold) == (3, 0.6)


def test_what_is_no_label_or_no_probability_is_refused(scored):
    y, p = scored
    for wrong, sentence in (((2 * y, p), "other than 0 and 1"), ((y, p - 1), "not probabilities"),
                            ((y[:5], p), "do not go together"), ((y, p, [1, 2]), "do not go together")):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            ecgadvise.evaluate(*wrong)


# Other packages


@pytest.fixture
def another_package(tmp_path: Path) -> Callable[[str], Path]:
    """Write an installed distribution whose entry point names a module of the given text."""

    def write(text: str) -> Path:
        (tmp_path / "their_networks.py").write_text(text)
        facts = tmp_path / "their_package-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text("[ecgadvise.networks]\ntheirs = their_networks\n")
        return tmp_path

    return write


THEIRS = """
from torch import nn
from models.registry import register

class Theirs(nn.Module):
    def __init__(self, n_leads, n_classes, width):
        super().__init__()
        self.layer, self.head = nn.Conv1d(n_leads, width, 9, stride=8), nn.Linear(width, n_classes)
    def forward(self, x):
        return self.head(self.layer(x).relu().mean(dim=2))

@register("theirs", family="cnn", width=8)
def theirs(n_leads, n_classes, n_samples, width):
    return Theirs(n_leads, n_classes, width)
"""


def test_another_package_registers_a_network(another_package, corpus: Corpus, tmp_path: Path):
    script = (
        "import ecgadvise\n"
        f"corpus = ecgadvise.open_corpus({str(corpus.root)!r})\n"
        f"trained = ecgadvise.train(corpus, arch='theirs-w4', n_records=40, out={str(tmp_path / 'network')!r})\n"
        "print(trained.facts.arch, trained.evaluation.n_records > 0)\n"
        "from models.registry import list_networks\n"
        "print('theirs' in list_networks(), 'resnet1d18' in list_networks())"
    )
    assert python(script, another_package(THEIRS)).splitlines()[-2:] == ["theirs-w4 True", "True True"]


def test_another_package_brings_its_weights(another_package, tmp_path: Path, checkpoint_writer):
    checkpoint_writer(tmp_path / "checkpoints" / "theirs-pretrained", "resnet1d18-w4")
    checkpoint_writer(tmp_path / "zoo" / "theirs-pretrained", "resnet1d18-w4")
    script = (
        f"import os; os.environ['ECGADVISE_ZOO'] = {str(tmp_path / 'zoo')!r}\n"
        "from engine.checkpoints.zoo import find_checkpoint, known_networks\n"
        "print(known_networks()['theirs-pretrained'].origin, find_checkpoint('theirs-pretrained'))"
    )
    text = f"{THEIRS}\nCHECKPOINTS = {str(tmp_path / 'checkpoints')!r}\n"
    said = python(script, another_package(text)).splitlines()[-1]
    assert said == f"package {tmp_path / 'checkpoints' / 'theirs-pretrained'}"


def test_an_answer_does_not_look_for_other_packages(another_package):
    script = (
        "import ecgadvise; print(ecgadvise.recommend(5000, 'cnn').verdict); print('models.registry' in sys.modules)"
    )
    assert python(script, another_package("raise AssertionError('it was loaded')")).splitlines()[-1] == "False"


def test_another_package_that_cannot_be_loaded_is_named(another_package):
    script = (
        "import ecgadvise\nfrom models.registry import find_network\n"
        "try: find_network('gru')\nexcept AssertionError as error: print(*error.__notes__)"
    )
    said = python(script, another_package("raise AssertionError('broken')"))
    assert "theirs = their_networks of the package their-package" in said


# Types

USER = """
import numpy as np
import ecgadvise

answer = ecgadvise.recommend(n_records=5000, arch="cnn")
reveal_type(answer.verdict)
reveal_type(answer.gain.mean)
reveal_type(ecgadvise.fit_curves({"task": ["a"]}).predict(5))
reveal_type(ecgadvise.evaluate(np.zeros(3), [0.1, 0.2, 0.3]).left_out)
reveal_type(ecgadvise.load_model("model.onnx").classes)
reveal_type(ecgadvise.train("ward", out="network").folder)
reveal_type(ecgadvise.open_corpus("ward").content_hash)
reveal_type(ecgadvise.__version__)
answer.verdikt
ecgadvise.recomend
"""
REVEALED = [
    "Literal['fine-tune'] | Literal['scratch'] | Literal['no-material-difference'] | Literal['not-enough-evidence']",
    "float", "list[dict[str, Any]]", "tuple[str, ...]", "tuple[str, ...]", "pathlib.Path", "str", "str",
]  # fmt: skip


def test_a_strict_type_checker_sees_the_types_of_an_installed_ecgadvise(tmp_path: Path):
    venv.create(tmp_path / "venv", with_pip=False)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    for name in ("ecgadvise", "advisor", "engine", "models", "studies"):
        (packages / name).symlink_to(ROOT / name)
    (tmp_path / "user.py").write_text(USER)
    interpreter = tmp_path / "venv" / "bin" / "python"
    words = ["--strict", "--no-error-summary", "--python-executable", str(interpreter), "user.py"]
    ended = subprocess.run([sys.executable, "-m", "mypy", *words], capture_output=True, text=True, cwd=tmp_path)
    lines = [line.split(": ", 1)[1] for line in ended.stdout.splitlines()]
    revealed = [line.split('"')[1].replace("builtins.", "") for line in lines if "Revealed type" in line]
    assert revealed == REVEALED, ended.stdout + ended.stderr
    errors = [line for line in lines if line.startswith("error") and "numpy" not in line]
    assert ['has no attribute "verdikt"' in errors[0], 'has no attribute "recomend"' in errors[1]] == [True, True]
    assert len(errors) == 2, ended.stdout
