"""An error that a user can put right ends in one sentence and its exit code, whoever raises it; a defect does not."""

import importlib
import pkgutil
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import NoReturn

import pytest
import typer

from advisor.cli import build_app, main
from advisor.terminal.failures import Failure
from engine.corpora.corpus import UnwritableCorpusError
from models.errors import ExitCode, UserError
from studies.runs.store import StoreError

ROOMS = ("advisor", "studies", "engine", "models")
CODES = {ExitCode.FAILURE, ExitCode.USAGE, ExitCode.DATA, ExitCode.NO_EVIDENCE}

# Exceptions that never reach the command line, or are not errors.
INTERNAL = {
    "advisor.terminal.failures.Interrupted": "no error: what the user wished with Ctrl-C, in a sentence of its own",
    "advisor.service.problems.Problem": "what the service answers over HTTP; no command raises it",
    "engine.checkpoints.fields.FieldError": "half a sentence, before which CheckpointError says the file",
    "engine.deploy.model_facts.ModelFactsError": "half a sentence, before which ModelError says the file",
    "engine.deploy.onnx_recurrent.UnsupportedLayerError": "export says with it, as ExportError, why nothing is written",
    "engine.download.http._TransientError": "an attempt that is repeated; after the last one FetchError says why",
    "studies.fitting.censored_regression.CensoredFitError": "both callers go on without the fit",
}

# One function that each command calls, and what the command is called with.
CALLS = {
    "recommend": ("studies.files.curves.read_curves", "--n-records 500 --arch cnn"),
    "train": ("engine.corpora.opening.open_named", "--task synthetic --out trained"),
    "export": ("engine.deploy.export.export_checkpoint", "trained --out model.onnx"),
    "predict": ("engine.deploy.inference.open_model", "model.onnx records"),
    "backtest": ("studies.runs.tidy_runs.read_runs", ""),
    "study plan": ("studies.running.design.read_design", "design.toml"),
    "study run": ("studies.running.design.read_design", "design.toml"),
    "study status": ("studies.runs.store.Store", "--store study.db"),
    "study tuning": ("studies.runs.store.Store", "--store study.db"),
    "study transferability": ("studies.runs.store.Store", "--store study.db --out evidence"),
    "study collect": ("studies.runs.store.Store", "--store study.db --out evidence"),
    "study rescore": ("studies.runs.store.Store", "--store study.db"),
    "study findings": ("studies.findings.findings.make_findings", "--out FINDINGS.md"),
    "curves fit": ("studies.collection.fit_table.fit_file", "--runs runs.csv --out curves.json"),
    "curves show": ("studies.files.curves.read_curves", ""),
    "curves plot": ("studies.files.curves.read_curves", "--out curves.svg"),
    "data list": ("advisor.commands.parts.data_fetch._describe", "--json"),
    "data fetch": ("engine.download.catalogue.find_published", "ludb"),
    "data check": ("engine.sources.detect.open_source", "ludb"),
    "data convert": ("engine.sources.detect.recognise", "ludb --to wfdb --out wfdb"),
    "data prepare": ("engine.sources.detect.open_source", "ludb"),
    "data pack": ("engine.corpora.opening.open_named", "synthetic --out synthetic.packed"),
    "data unpack": ("engine.corpora.travel.unpack", "synthetic.packed"),
    "zoo add": ("engine.checkpoints.zoo.check_name", "a.pt --network gru --contract a --licence MIT --source us"),
    "zoo list": ("engine.checkpoints.zoo.known_networks", ""),
    "zoo show": ("engine.checkpoints.zoo.known_networks", "theirs"),
    "zoo remove": ("engine.checkpoints.zoo.remove_network", "theirs"),
    "serve": ("advisor.service.app.open_service", "--store service --port 0"),
    "doctor": ("advisor.terminal.checkup.examine", ""),
}
# Places that lie deeper: inside what a command does with errors itself.
DEEPER = {
    "recommend --data": ("advisor.own_records.records.open_own", "recommend --data records"),
    "train --data": ("engine.corpora.opening.open_directory", "train --data records --out trained"),
    "train, fitting": ("engine.training.fit.fit", "train --task synthetic --n-records 40 --strategy scratch --out t"),
    "study run, corpora": ("studies.running.study_corpora.open_corpora", "study run tiny.toml"),
    "data check, records": ("engine.corpora.survey.survey", "data check ludb"),
    "data prepare, records": ("engine.corpora.corpus.prepare", "data prepare ludb"),
    "data fetch, files": ("engine.download.tree.fetch_tree", "data fetch ludb --accept-license"),
    "study findings, files": ("studies.findings.findings.write_findings", "study findings --out FINDINGS.md"),
}
PLACES = {words: (target, f"{words} {options}") for words, (target, options) in CALLS.items()} | DEEPER


class NewError(UserError):
    """An error that no command can know of."""

    exit_code = ExitCode.NO_EVIDENCE


class DefectError(RuntimeError):
    """A mistake of ours."""


def exceptions() -> dict[str, type[BaseException]]:
    """Every exception class that a module of the four rooms defines, by module and name."""
    found = {}
    for room in ROOMS:
        package = importlib.import_module(room)
        for listed in pkgutil.walk_packages(package.__path__, f"{room}."):
            module = importlib.import_module(listed.name)
            found |= {
                f"{module.__name__}.{kind.__qualname__}": kind
                for kind in vars(module).values()
                if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__module__ == module.__name__
            }
    return found


def test_every_error_for_users_has_an_exit_code():
    found = exceptions()
    assert set(found) >= set(INTERNAL)
    for_users = {name: kind for name, kind in found.items() if name not in INTERNAL}
    assert [name for name, kind in for_users.items() if not issubclass(kind, UserError)] == []
    without = {UserError, Failure}  # the first is their base, the second is given a code where it is raised
    coded = {name: kind for name, kind in for_users.items() if kind not in without}
    assert len(coded) > 45
    assert [name for name, kind in coded.items() if getattr(kind, "exit_code", None) not in CODES] == []
    assert not any(issubclass(found[name], UserError) for name in INTERNAL)


def commands(command: typer.core.TyperCommand | typer.core.TyperGroup, prefix: str = "") -> list[str]:
    """Every command under one, as the words that call it."""
    if not isinstance(command, typer.core.TyperGroup):
        return [prefix.strip()]
    return [words for name, one in command.commands.items() for words in commands(one, f"{prefix} {name}")]


def test_every_command_is_among_those_whose_errors_are_tried():
    assert sorted(CALLS) == sorted(commands(typer.main.get_command(build_app())))


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch, tmp_path, request):
    """Make a function raise, and set the command line."""
    design = request.path.with_name("tiny.toml").read_text()
    (tmp_path / "tiny.toml").write_text(design)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECGADVISE_CORPORA", str(tmp_path / "corpora"))

    def set_up(error: Exception, target: str, line: str) -> None:
        def fail(*_: object, **__: object) -> NoReturn:
            raise error

        if target in ("engine.corpora.survey.survey", "engine.corpora.corpus.prepare"):
            monkeypatch.setattr("engine.sources.detect.open_source", lambda *_: SimpleNamespace(name="ludb"))
        if line.startswith("data prepare"):
            monkeypatch.setattr("engine.corpora.opening.identify_tree", lambda *_: SimpleNamespace(reader="ludb"))
        monkeypatch.setattr(target, fail)
        monkeypatch.setattr("sys.argv", ["ecgadvise", *line.split()])

    return set_up


def ended(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the command line: its exit code and what it says on stderr last; nothing of it is a traceback."""
    with pytest.raises(SystemExit) as end:
        main()
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return int(end.value.code), err.splitlines(keepends=True)[-1]


@pytest.mark.parametrize("place", PLACES)
def test_a_user_s_error_ends_in_one_sentence_and_its_code_wherever_it_is_raised(place: str, raising, capsys):
    raising(NewError("nothing like\nit \x1b[2Jwas measured"), *PLACES[place])
    assert ended(capsys) == (ExitCode.NO_EVIDENCE, "error: nothing like it  [2Jwas measured\n")


@pytest.mark.parametrize("place", PLACES)
def test_a_defect_is_caught_by_no_command(place: str, raising, capsys):
    raising(DefectError("a mistake of ours"), *PLACES[place])
    with pytest.raises(DefectError):
        main()
    assert "error: " not in capsys.readouterr().err


def test_a_defect_ends_a_real_process_in_a_traceback():
    script = (
        "import sys, studies.files.curves as curves; sys.argv = ['ecgadvise', 'curves', 'show']\n"
        "curves.read_curves = None\n"
        "from advisor.cli import main\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.match(r"Traceback .*\n(.*\n)*TypeError: 'NoneType' object is not callable\n$", result.stderr)


def test_a_corpus_that_cannot_be_written_fails_a_preparation_and_is_missing_data_of_a_study(raising, capsys):
    error = UnwritableCorpusError("cannot write corpora/ludb: no space left")
    raising(error, *DEEPER["data prepare, records"])
    assert ended(capsys) == (ExitCode.FAILURE, f"error: {error}\n")
    raising(error, *DEEPER["study run, corpora"])
    assert ended(capsys) == (ExitCode.DATA, f"error: {error}\n")


def test_a_store_that_a_command_reads_is_data_and_one_that_it_writes_is_not(raising, capsys, monkeypatch):
    error = StoreError("study.db is not a store")
    raising(error, "studies.runs.store.Store", "study status --store study.db")
    assert ended(capsys) == (ExitCode.DATA, f"error: {error}\n")
    monkeypatch.setattr("advisor.commands.study.expand_design", lambda *_: (SimpleNamespace(name="s"), [], {}, {}))
    raising(error, "studies.runs.store.Store", "study run design.toml")
    assert ended(capsys) == (ExitCode.FAILURE, f"error: {error}\n")
    own = SimpleNamespace(pool=[0], corpus=SimpleNamespace(content_hash="0"))
    monkeypatch.setattr("advisor.own_records.records.open_own", lambda *_: own)
    monkeypatch.setattr("advisor.own_records.answer.advise", lambda *_: None)
    raising(error, "advisor.own_records.pilots.pilot.with_pilot", "recommend --data records --pilot")
    assert ended(capsys) == (ExitCode.FAILURE, f"error: {error}\n")
