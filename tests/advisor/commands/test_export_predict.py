"""``ecgadvise export`` and ``predict`` as their users meet them."""

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb

from advisor.cli import main
from advisor.terminal.predictions import to_json, to_table
from engine.deploy.export import OPSETS
from engine.deploy.inference import Prediction, open_model
from engine.evaluation.evaluation import evaluate

HOW_TO = (Path(__file__).parents[3] / "docs" / "how-to" / "export-and-predict.md").read_text()
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.fixture
def ecgadvise(monkeypatch, capsys):
    """The command line in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["ecgadvise", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code), captured.out, captured.err

    return call


@pytest.fixture
def refused(ecgadvise):
    """Assert that a command ends with one sentence on stderr, nothing on stdout, and this exit code."""

    def call(code: int, *arguments: object) -> str:
        actual, out, err = ecgadvise(*arguments)
        assert (actual, out) == (code, ""), err
        assert re.fullmatch(r"error: [^\n]+\n", err), err
        return err

    return call


def write_record(path: Path, seconds: float = 10, fs: int = 100, leads: tuple = LEADS, missing: int = 0, seed: int = 0):
    """Write a format 16 record of slow waves at 1000 units a millivolt, in which Einthoven's equations hold."""
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * fs)) / fs
    sources = np.stack([np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) for f in (1.13, 2.37, 5.71, 9.19)])
    signal = rng.normal(0, 0.4, (12, 4)) @ sources
    one, two = signal[:2]
    signal[2:6] = two - one, -(one + two) / 2, one - two / 2, two - one / 2
    signal[2, :missing] = np.nan
    n = len(leads)
    path.parent.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(path.name, fs, ["mV"] * n, list(leads), signal[:n].T, fmt=["16"] * n, adc_gain=[1000.0] * n,
                baseline=[0] * n, write_dir=str(path.parent))  # fmt: skip
    return path


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    for k in range(3):
        write_record(folder / f"good{k}", seed=k)
    return folder


@pytest.fixture(scope="module")
def bad_records(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    write_record(folder / "nan", missing=3)
    write_record(folder / "short", seconds=5)
    write_record(folder / "few", leads=LEADS[:7])
    write_record(folder / "slow", fs=40)
    return folder


def test_export_writes_the_model_and_says_how_it_was_checked(ecgadvise, exported, tmp_path, records):
    target = tmp_path / "deep" / "model.onnx"
    code, out, err = ecgadvise("export", exported / "checkpoint", "--out", target, "--records", records)
    assert (code, err) == (0, "")
    assert target.read_bytes() == (exported / "model.onnx").read_bytes()
    assert sorted(path.name for path in target.parent.iterdir()) == ["MODEL_CARD.md", "MODEL_FACTS.md", "model.onnx"]
    assert f"{target}: {target.stat().st_size:,} bytes" in out
    assert "probabilities of 269 records differ by at most" in out


def test_export_refuses_in_one_sentence(refused, exported, tmp_path, bad_records):
    checkpoint, model = exported / "checkpoint", exported / "model.onnx"
    before = model.read_bytes()
    new = tmp_path / "new" / "model.onnx"
    assert "--force" in refused(2, "export", checkpoint, "--out", model)
    assert model.read_bytes() == before
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(1, "export", checkpoint, "--out", tmp_path / "file" / "model.onnx")
    for folder in (tmp_path, ".", ""):
        assert "is a folder" in refused(1, "export", checkpoint, "--out", folder)
    assert "too long" in refused(1, "export", checkpoint, "--out", tmp_path / ("x" * 300 + ".onnx"))
    for name in ("x.pt", "x", "x.onnx.gz"):
        assert "so name it .onnx" in refused(2, "export", checkpoint, "--out", tmp_path / name)
    assert "name the model otherwise" in refused(1, "export", checkpoint, "--out", new.with_name("MODEL_CARD.md"))
    assert "no checkpoint" in refused(3, "export", tmp_path / "nowhere", "--out", new)
    assert "few cannot be compared on" in refused(3, "export", checkpoint, "--out", new, "--records", bad_records)
    assert "no ECG recording" in refused(3, "export", checkpoint, "--out", new, "--records", checkpoint)
    for opset in (OPSETS[0] - 1, OPSETS[-1] + 1):
        assert "--opset" in refused(2, "export", checkpoint, "--out", new, "--opset", opset)
    assert "--out" in refused(2, "export", checkpoint)
    altered = shutil.copytree(checkpoint, tmp_path / "altered")
    content = bytearray((altered / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (altered / "weights.safetensors").write_bytes(content)
    assert "altered after training" in refused(3, "export", altered, "--out", new)
    (altered / "weights.safetensors").unlink()
    assert "weights.safetensors" in refused(3, "export", altered, "--out", new)
    assert not new.parent.exists()


def test_a_card_that_cannot_be_written_leaves_no_part_of_the_export(refused, exported, tmp_path):
    (tmp_path / "MODEL_CARD.md").mkdir()
    refused(1, "export", exported / "checkpoint", "--out", tmp_path / "model.onnx", "--force")
    assert [path.name for path in tmp_path.iterdir()] == ["MODEL_CARD.md"]


def test_a_checkpoint_with_a_tampered_or_missing_part_exports_nothing(refused, exported, tmp_path):
    def tampered(name: str, change) -> Path:
        copy = shutil.copytree(exported / "checkpoint", tmp_path / name)
        change(copy / "weights.safetensors", copy / "checkpoint.json")
        return copy

    def edit(file: Path, **fields) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    cases = {
        "cut": (lambda weights, _: weights.write_bytes(weights.read_bytes()[:99]), "altered after training"),
        "facts": (lambda _, facts: edit(facts, temperature=9.0), "altered after it was written"),
        "network": (lambda _, facts: edit(facts, arch="nonsense"), "no network is named 'nonsense'"),
        "no-facts": (lambda _, facts: facts.unlink(), "no checkpoint.json"),
        "no-weights": (lambda weights, _: weights.unlink(), "no weights.safetensors"),
        "empty": (lambda _, facts: facts.write_text(""), "damaged"),
    }
    for name, (change, says) in cases.items():
        said = refused(3, "export", tampered(name, change), "--out", tmp_path / "new" / "model.onnx")
        assert says in said
        assert str(tmp_path / name) in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "says"), [("nan", "NaN"), ("short", "5 s long"), ("few", "missing"), ("slow", "50 Hz")]
)
def test_a_bad_record_to_compare_on_exports_nothing(refused, exported, bad_records, tmp_path, name, says):
    arguments = ("--out", tmp_path / "new" / "model.onnx", "--records", bad_records / name)
    assert says in refused(3, "export", exported / "checkpoint", *arguments)
    assert not (tmp_path / "new").exists()


def test_a_model_that_differs_ends_with_the_difference(refused, exported, tmp_path, monkeypatch):
    import engine.deploy.export
    from engine.deploy.parity import Agreement

    monkeypatch.setattr(engine.deploy.export, "to_onnx", lambda *_: (exported / "model.onnx").read_bytes())
    monkeypatch.setattr(engine.deploy.export, "compare", lambda *_: Agreement(266, 1e-4, 0.03, 0.2, 798, 0, 11))
    said = refused(1, "export", exported / "checkpoint", "--out", tmp_path / "new" / "model.onnx")
    assert "differ by at most 0.03" in said
    assert "11 of 798 decisions" in said
    assert not (tmp_path / "new").exists()


def test_predict_shows_a_table(ecgadvise, exported, records):
    code, out, err = ecgadvise("predict", exported / "model.onnx", records)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["record", "NORM", "MI", "CD"]
    assert [line.split()[0] for line in lines[1:4]] == [(records / f"good{k}").as_posix() for k in range(3)]
    assert lines[4] == "* present: at or above the class's threshold"
    document = json.loads(ecgadvise("predict", exported / "model.onnx", records, "--json")[1])
    for line, entry in zip(lines[1:4], document["records"], strict=True):
        shown = line.split()[1:]
        assert shown == [f"{p:.3f}{'*' if entry['decision'][name] else ''}" for name, p in entry["probability"].items()]


def test_json_and_csv_carry_the_same_numbers(ecgadvise, exported, records, bad_records, tmp_path):
    target = tmp_path / "new" / "predictions.csv"
    arguments = ("predict", exported / "model.onnx", records, bad_records / "short", "--json", "--csv", target)
    code, out, err = ecgadvise(*arguments, "--batch-size", 2)
    assert code == 3
    assert err.endswith("error: 1 of 4 records could not be predicted\n")
    document = json.loads(out)
    assert document["schema_version"] == 1
    assert document["thresholds"] == {"NORM": 0.5, "MI": 0.35, "CD": 0.61}
    short = (bad_records / "short").as_posix()
    assert document["failed"] == [{"record": short, "problem": "5 s long; 10 s are needed"}]
    rows = list(csv.DictReader(target.read_text().splitlines()))
    assert [row["record"] for row in rows] == [*(e["record"] for e in document["records"]), short]
    for row, entry in zip(rows, document["records"], strict=False):
        assert row["problem"] == ""
        for name, p in entry["probability"].items():
            assert np.float32(row[f"probability {name}"]) == np.float32(p)
            assert bool(int(row[f"decision {name}"])) == entry["decision"][name]
            assert entry["decision"][name] == (p >= document["thresholds"][name])
    assert rows[3]["problem"] == "5 s long; 10 s are needed"
    assert [path.name for path in target.parent.iterdir()] == ["predictions.csv"]


def test_predictions_say_what_thresholds_were_chosen_for_and_what_decisions_are_worth(exported):
    facts = open_model(exported / "model.onnx").facts
    document = json.loads(to_json("model.onnx", facts, []))
    assert (document["threshold_rule"], document["operating_points"]) == (None, {"NORM": None, "MI": None, "CD": None})
    tested = evaluate(
        np.eye(3, dtype=np.uint8), np.full((3, 3), 0.5), np.arange(3), facts.classes, facts.thresholds, 0, 10,
        prevalence={"MI": 0.02},
    )  # fmt: skip
    rule = {"rule": "specificity", "specificity": 0.95}
    known = replace(facts, evaluation=tested.as_dict(bootstrap=False), record={"threshold_rule": rule})
    document = json.loads(to_json("model.onnx", known, []))
    assert document["thresholds"] == {"NORM": 0.5, "MI": 0.35, "CD": 0.61}
    assert document["threshold_rule"] == rule
    found = document["operating_points"]["MI"]
    assert (found["sensitivity"], found["specificity"], found["prevalence"], found["threshold"]) == (1, 0, 0.02, 0.35)
    assert (found["positives"], found["positive_patients"], found["prevalence_stated"]) == (1, 1, True)
    table = to_table(known, [Prediction("a", (0.6, 0.1, 0.7))])
    said = "* present: at or above the class's threshold, chosen for a specificity of 0.95 on validation records"
    assert table.splitlines()[-1] == said


def test_bad_records_are_listed_and_the_others_predicted(ecgadvise, exported, records, bad_records):
    code, out, err = ecgadvise("predict", exported / "model.onnx", bad_records, records, bad_records / "nowhere")
    assert code == 3
    assert len(out.splitlines()) == 5
    assert re.findall(r"/(\w+): ", err) == ["few", "nan", "short", "slow", "nowhere"]
    assert err.splitlines()[-1] == "error: 5 of 8 records could not be predicted"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nan", "missing (NaN)"),
        ("short", "5 s long; 10 s are needed"),
        ("few", "lead V2, V3, V4, V5, V6 missing"),
        ("slow", "at least 50 Hz"),
        ("nowhere", "nowhere: there is no such file or folder"),
    ],
)
def test_one_bad_record_ends_in_one_sentence(refused, exported, bad_records, name, says):
    said = refused(3, "predict", exported / "model.onnx", bad_records / name)
    assert says in said
    assert str(bad_records / name) in said


def test_a_record_at_250_hz_is_predicted(ecgadvise, exported, tmp_path):
    record = write_record(tmp_path / "r", seconds=12, fs=250)
    code, out, err = ecgadvise("predict", exported / "model.onnx", record, "--json")
    assert code == 0
    assert json.loads(out)["records"][0]["notes"] == ["12 s long: the first 10 s are used"]
    assert err == f"{record}: 12 s long: the first 10 s are used\n"


def test_a_remark_on_many_records_is_one_line(ecgadvise, exported, tmp_path):
    for k in range(3):
        write_record(tmp_path / f"r{k}", seconds=12, seed=k)
    write_record(tmp_path / "s", leads=(*LEADS[:2], *LEADS[6:]))
    code, _, err = ecgadvise("predict", exported / "model.onnx", tmp_path)
    assert code == 0
    derived = f"{tmp_path / 's'}: III, aVR, aVL, aVF derived from I and II"
    assert err.splitlines() == ["3 records: 12 s long: the first 10 s are used", derived]


def test_header_and_samples_of_a_record_are_one_record(ecgadvise, exported, records):
    files = sorted(records.glob("good1.*"))
    assert len(files) == 2
    _, out, _ = ecgadvise("predict", exported / "model.onnx", *files, "--json")
    assert [entry["record"] for entry in json.loads(out)["records"]] == [(records / "good1").as_posix()]


def test_many_classes_are_shown_as_what_is_present(ecgadvise, checkpoint_writer, records, tmp_path):
    classes = tuple(f"finding-{k}" for k in range(30))
    checkpoint = checkpoint_writer(
        tmp_path / "c", "gru-w4", classes=classes, thresholds=(0.9,) * 29 + (0.0,), temperature=0.5
    )
    assert ecgadvise("export", checkpoint, "--out", tmp_path / "model.onnx")[0] == 0
    _, out, _ = ecgadvise("predict", tmp_path / "model.onnx", records)
    document = json.loads(ecgadvise("predict", tmp_path / "model.onnx", records, "--json")[1])
    *lines, last = out.splitlines()
    assert last == "named: at or above the class's threshold"
    for line, entry in zip(lines, document["records"], strict=True):
        shown = re.findall(r"(finding-\d+) ([\d.]+)", line)
        present = {name for name, decided in entry["decision"].items() if decided}
        assert {name for name, _ in shown} == present
        assert "finding-29" in present
        assert [float(p) for _, p in shown] == sorted((float(p) for _, p in shown), reverse=True)


def test_a_program_that_is_not_ours_gives_the_same(ecgadvise, exported, tmp_path):
    """The Python of the how-to page: onnxruntime and numpy alone, on a record as it lies on the disk."""
    section = HOW_TO.split("## From a program that is not ours")[1].split("\n## ")[0]
    (script,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len([line for line in script.splitlines() if line.strip()]) <= 12
    assert set(re.findall(r"^import (\w+)", script, flags=re.MULTILINE)) == {"json", "numpy", "onnxruntime"}
    shutil.copy(exported / "model.onnx", tmp_path)
    record = write_record(tmp_path / "record", seconds=11)
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    document = json.loads(ecgadvise("predict", tmp_path / "model.onnx", record, "--json")[1])
    (entry,) = document["records"]
    expected = [[name, f"{p:.6f}", str(entry["decision"][name])] for name, p in entry["probability"].items()]
    assert [line.split() for line in result.stdout.splitlines()] == expected


def test_predict_refuses_in_one_sentence(refused, exported, records, tmp_path):
    model = exported / "model.onnx"
    (tmp_path / "text.onnx").write_text("hello")
    assert "does not exist" in refused(3, "predict", tmp_path / "no.onnx", records)
    assert "not an ONNX model" in refused(3, "predict", tmp_path / "text.onnx", records)
    assert "no ECG recording" in refused(3, "predict", model, tmp_path)
    assert "--batch-size" in refused(2, "predict", model, records, "--batch-size", 0)
    assert "RECORD_OR_DIR" in refused(2, "predict", model)
    (tmp_path / "file").write_text("")
    for name in ("file/p.csv", "", "x" * 300):
        assert "cannot write" in refused(1, "predict", model, records, "--csv", tmp_path / name)
    assert "too long" in refused(3, "predict", model, tmp_path / ("x" * 300))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "text.onnx"]


def test_a_csv_that_cannot_be_written_is_found_out_before_any_record_is_read(refused, exported, tmp_path, monkeypatch):
    import engine.deploy.inference

    monkeypatch.setattr(engine.deploy.inference, "list_records", lambda _: pytest.fail("a record was looked for"))
    refused(1, "predict", exported / "model.onnx", tmp_path, "--csv", tmp_path)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_traceback(exported, records, options):
    command = [sys.executable, "-m", "ecgadvise", "predict", exported / "model.onnx", records, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        started.stdout.close()
        assert started.stderr.read() == ""
        assert started.wait(timeout=300) == 1


def test_ctrl_c_ends_predict_with_130_and_no_file(ecgadvise, exported, records, tmp_path, monkeypatch):
    import engine.deploy.inference

    def interrupted(_model, _signals):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.deploy.inference.Model, "probabilities", interrupted)
    target = tmp_path / "new" / "p.csv"
    code, out, err = ecgadvise("predict", exported / "model.onnx", records, "--csv", target)
    assert (code, out, err) == (130, "", "interrupted\n")
    assert not target.parent.exists()


def test_a_model_of_another_tool_is_refused(refused, exported, records, tmp_path):
    import onnx

    model = onnx.load(exported / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    assert "ecgadvise export" in refused(3, "predict", tmp_path / "other.onnx", records)
