"""What a program is told of a command's progress: whole, often enough, and never at the command's expense."""

import io
import json
from pathlib import Path

import pytest

from advisor.terminal.progress import file as module
from advisor.terminal.progress.bar import progress_bar
from advisor.terminal.progress.file import ProgressFile
from advisor.terminal.progress.study import study_progress
from advisor.terminal.progress.training import watched
from engine.training.loop import Validation
from studies.running.progress import Progress


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ECGADVISE_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    return clock


def read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text())


def test_records_are_counted_and_the_time_left_is_by_the_pace_so_far(path: Path, now: list[float]):
    with progress_bar("records") as report:
        report(0, 200)
        assert read(path) == {"what": "records", "done": 0, "total": 200, "seconds_left": None, "verdict": None,
                              "words": "0 of 200 records"}  # fmt: skip
        now[0] += 10.0
        report(50, 200)
        assert (read(path)["done"], read(path)["seconds_left"]) == (50, 30)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_it_is_written_a_few_times_a_second_and_at_the_end(path: Path, now: list[float], monkeypatch):
    written, write = [], Path.write_text

    def note(self: Path, text: str, **how: object) -> int:
        written.append(json.loads(text)["done"])
        return write(self, text, **how)

    monkeypatch.setattr(Path, "write_text", note)
    with progress_bar("records") as report:
        for done in range(50):
            report(done, 100)
            now[0] += 0.001
        assert written == [0, 1, 2, 3]
        now[0] += 1.0
        report(60, 100)
        report(61, 100)
    assert written == [0, 1, 2, 3, 60, 61, 61]


def test_a_study_says_what_it_says_on_a_terminal(path: Path):
    with study_progress() as report:
        report(Progress(24, done=5, failed=1, running=2, cells=6, cells_done=1, last="a run"))
    found = read(path)
    assert (found["what"], found["done"], found["total"]) == ("runs", 6, 24)
    assert found["words"] == "cells 1 of 6, runs 5 of 24 done, 2 running, 1 failed"


def test_a_training_counts_epochs_and_says_how_well_it_validates(path: Path):
    with watched(10) as watch:
        assert not watch.should_stop()
        assert (read(path)["what"], read(path)["done"], read(path)["words"]) == ("epochs", 1, "no validation yet")
        watch.report(Validation(2, 0.75, 0.5, 0.4, 1.0, 80))
    assert (read(path)["done"], read(path)["total"]) == (2, 10)
    assert read(path)["words"] == "loss 0.4000, validation AUROC 0.750 (best 0.750)"


def test_what_stderr_says_stays_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch):
    def said() -> str:
        stream = io.StringIO()
        with monkeypatch.context() as patched:
            patched.setattr("sys.stderr", stream)
            with study_progress() as report, watched(10) as watch:
                report(Progress(24, done=5, last="a run"))
                watch.report(Validation(2, 0.75, 0.5, 0.4, 1.0, 80))
        return stream.getvalue()

    with_file = said()
    monkeypatch.delenv("ECGADVISE_PROGRESS")
    assert with_file == said() != ""


def test_a_place_that_cannot_be_written_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ECGADVISE_PROGRESS", str(tmp_path / "none" / "progress.json"))
    with progress_bar("records") as report:
        report(1, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_stays_until_there_is_another(path: Path):
    file = ProgressFile(path)
    file.tell(None)
    assert not path.exists()
    file._document["verdict"] = {"best": "scratch"}
    file.report("runs", 3, 8, "three")
    file.report("runs", 4, 8, "four")
    assert read(path)["verdict"] == {"best": "scratch"}
    file.tell(None)
    assert read(path)["verdict"] is None


def test_quiet_leaves_answers_and_errors_alone(command, tmp_path):
    asked = ("recommend", "--n-records", "500", "--arch", "cnn", "--report", tmp_path / "a.html")
    code, out, err = command(*asked)
    assert code == 0
    assert err.startswith("report: ")
    assert command("--quiet", *asked) == (0, out, "")
    assert command("-q", "recommend", "--n-records", "0") == command("recommend", "--n-records", "0")
    assert command(*asked)[2] == err, "it holds for one command"


def test_nothing_is_drawn_where_nobody_watches(capsys):
    from advisor.terminal.lines import be_quiet
    from advisor.terminal.progress.bar import at_work, progress_bar

    with at_work("working"), progress_bar("records") as report:
        report(1, 2)
    assert "".join(capsys.readouterr()) == ""
    be_quiet(False)
