"""``ecgadvise doctor``: what works here, what does not, and why."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from advisor.terminal import checkup
from engine.corpora.corpus import Corpus
from studies.files import shipped as evidence_files
from studies.running import workload as probe

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def corpora(corpus: Corpus, tmp_path: Path) -> Path:
    """A folder with one prepared corpus."""
    shutil.copytree(corpus.root, tmp_path / "corpora" / "ptb-xl")
    return tmp_path / "corpora"


def examined(command: Command, *arguments: object, code: int = 0) -> dict:
    ended = command("doctor", "--json", *arguments)
    assert ended[0] == code, ended
    return json.loads(ended[1])


def state_of(findings: list[dict], what: str) -> str:
    return next(found["state"] for found in findings if found["what"] == what)


def test_a_healthy_place_is_described(corpora: Path, command: Command):
    found = examined(command, "--quick", "--corpora", corpora)
    assert found["schema_version"] == 1
    assert found["healthy"]
    assert state_of(found["devices"], "cpu") == "ok"
    (prepared,) = found["corpora"]
    assert prepared["what"] == "ptb-xl"
    assert "240 records, 12 leads, 10 s at 100 Hz" in prepared["detail"]
    assert "ptb-xl/superclass" in found["evidence"]["detail"]
    assert {one["what"] for one in found["libraries"]} >= {"torch", "onnxruntime", "wfdb"}
    assert all(one["state"] == "ok" for one in found["commands"] if one["what"] != "study run --executor dask")


def test_the_tasks_of_the_evidence_are_told_from_those_that_a_network_answers_from(tmp_path: Path, command: Command):
    said = examined(command, "--quick", "--corpora", tmp_path)["evidence"]["detail"]
    in_all, answered = said.split("; networks, and how many of the tasks each answers from: ")
    measured = int(in_all.split(": ")[1].split()[0])
    for one in answered.split(", "):
        arch, n_tasks, *whose = one.split()
        assert whose == (["(from", "ahus-inceptiontime)"] if arch == "inceptiontime-stem" else [])
        code, answer, _ = command("recommend", "--n-records", 500, "--arch", arch, "--json")
        assert (code, len(json.loads(answer)["evidence"]["tasks"])) == (0, int(n_tasks))
        assert int(n_tasks) <= measured


def test_the_report_fits_a_terminal(corpora: Path, command: Command):
    code, out, err = command("doctor", "--quick", "--corpora", corpora)
    assert (code, err) == (0, "")
    assert max(len(line) for line in out.splitlines() if str(corpora) not in line) <= 80
    for title in ("ecgadvise", "libraries", "devices", "corpora", "evidence", "zoo", "commands"):
        assert any(line.startswith(title) for line in out.splitlines()), title


def test_released_networks_of_one_lead_are_told_apart_by_it(tmp_path: Path, command: Command):
    zoo = {one["what"]: one["detail"] for one in examined(command, "--quick", "--corpora", tmp_path)["zoo"]}
    assert zoo["resnet1d18-w16-ptbxl-lead-i"] == "resnet1d18-w16, one lead (I), 71 classes"
    assert zoo["resnet1d18-w16-ptbxl-lead-ii"] == "resnet1d18-w16, one lead (II), 71 classes"
    assert zoo["gru-w32-ptbxl"] == "gru-w32, 12 leads, 71 classes"


def test_what_is_optional_may_be_missing(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch):
    for name in ("distributed", "pydicom", "edfio"):
        monkeypatch.setitem(sys.modules, name, None)
    found = examined(command, "--quick", "--corpora", tmp_path)
    assert found["healthy"]
    assert state_of(found["commands"], "DICOM files") == state_of(found["commands"], "EDF files") == "absent"
    assert state_of(found["libraries"], "distributed") == "absent"
    assert state_of(found["commands"], "study run --executor dask") == "absent"
    assert state_of(found["commands"], "study run") == "absent"
    out = command("doctor", "--quick", "--corpora", tmp_path)[1]
    assert "study run: not yet: no prepared corpus" in out
    assert {"'ecgadvise[cluster]'", "'ecgadvise[formats]'"} <= set(out.split())


def test_a_library_that_does_not_load_breaks_its_commands(
    corpora: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = examined(command, "--quick", "--corpora", corpora, code=1)
    assert not found["healthy"]
    assert state_of(found["libraries"], "onnxruntime") == "broken"
    assert state_of(found["commands"], "export, predict") == "broken"
    assert state_of(found["commands"], "train") == "ok"
    assert "BROKEN: onnxruntime not installed" in " ".join(
        command("doctor", "--quick", "--corpora", corpora)[1].split()
    )


def test_a_damaged_corpus_is_named(corpora: Path, command: Command):
    (corpora / "ptb-xl" / "labels.npy").write_bytes(b"damage")
    found = examined(command, "--quick", "--corpora", corpora, code=1)
    (prepared,) = found["corpora"]
    assert prepared["state"] == "broken"
    assert "prepare it again" in prepared["detail"]
    assert state_of(found["commands"], "study run") == "absent"


def test_a_file_in_place_of_the_corpora_folder_is_named(tmp_path: Path, command: Command):
    (tmp_path / "file").write_text("")
    code, out, _ = command("doctor", "--quick", "--corpora", tmp_path / "file")
    assert code == 1
    assert f"file: BROKEN: {tmp_path / 'file'} is not a folder" in " ".join(out.split())
    assert "none in" not in out


def test_damaged_evidence_is_named(corpora: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch):
    damaged = tmp_path / "curves.json"
    damaged.write_text("{")
    monkeypatch.setattr(evidence_files, "DEFAULT_CURVES", damaged)
    found = examined(command, "--corpora", corpora, code=1)
    assert found["evidence"]["state"] == "broken"
    assert state_of(found["commands"], "recommend") == "broken"
    assert found["speeds"] == []


def test_the_speed_is_measured_and_fits_recommend(
    corpora: Path, curves_path: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    small = tmp_path / "curves.json"
    document = json.loads(curves_path.read_text().replace("resnet1d18-w16", "resnet1d18-w2"))
    small.write_text(json.dumps({**document, "family_default": {"cnn": "resnet1d18-w2"}}))
    monkeypatch.setattr(evidence_files, "DEFAULT_CURVES", small)
    found = examined(command, "--corpora", corpora, "--device", "cpu")
    (speed,) = found["speeds"]
    assert (speed["family"], speed["arch"], speed["reason"]) == ("cnn", "resnet1d18-w2", None)
    options = "--arch", speed["family"], "--device-speed", speed["records_per_second"]
    code, out, _ = command("recommend", "--n-records", 500, *options, "--json")
    assert code == 0
    cost = json.loads(out)["cost"]["scratch"]
    assert cost["your_seconds"] == pytest.approx(cost["records_seen"] / speed["records_per_second"], abs=0.01)


def test_a_device_that_fails_at_training_is_reported(corpora: Path, command: Command, monkeypatch: pytest.MonkeyPatch):
    def fail(*_arguments: object) -> None:
        raise RuntimeError("out of memory\nand a long story")

    monkeypatch.setattr(probe, "measure_speed", fail)
    code, out, _ = command("doctor", "--corpora", corpora)
    assert code == 1
    assert "could not be measured on cpu: RuntimeError: out of memory" in " ".join(out.split())
    assert "long story" not in out


def test_a_device_that_is_not_there_is_one_sentence(command: Command):
    code, out, err = command("doctor", "--device", "quantum")
    assert (code, out) == (2, "")
    assert err == "error: 'quantum' is not a device; give auto, cpu, cuda or cuda:N\n"


def test_every_required_dependency_is_looked_at():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    named = {requirement.split(">")[0].split("<")[0] for requirement in project["dependencies"]}
    assert named - {"requests", "urllib3"} == set(checkup.REQUIRED)
