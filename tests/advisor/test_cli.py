"""The command line as its users meet it: a real process, its output, its exit code."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from studies.files.arms import ARMS

SCHEMA = json.loads((Path(__file__).parents[2] / "advisor" / "recommendation.schema.json").read_text())
HEAVY = ("torch", "pandas", "sklearn", "statsmodels", "scipy", "wfdb", "safetensors")


def ecgadvise(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ecgadvise", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def refused(result: subprocess.CompletedProcess[str], code: int) -> str:
    """Assert that the command ended with one sentence on stderr, nothing on stdout, and this exit code."""
    assert result.returncode == code, result
    assert result.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


def test_recommend_answers_from_the_shipped_evidence():
    result = ecgadvise("recommend", "--n-records", "5000", "--arch", "cnn")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in result.stdout
    for word in ("fine-tuned", "from scratch", "gain", "90 % band", "extrapolat", "atlas"):
        assert word in result.stdout
    assert result.stderr == ""


def test_a_user_s_error_is_one_sentence_in_a_real_process():
    assert "--n-records is 0" in refused(ecgadvise("recommend", "--n-records", "0", "--arch", "cnn"), 2)
    assert "nowhere.json" in refused(ecgadvise("recommend", "--n-records", "500", "--curves", "nowhere.json"), 3)


def test_a_closed_stream_is_no_traceback():
    def closed(stream: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = shlex.join([sys.executable, "-m", "ecgadvise", *arguments])
        return subprocess.run(["sh", "-c", f"{command} {stream}>&-"], capture_output=True, text=True, timeout=300)

    asked = ("recommend", "--n-records", "500", "--arch", "cnn")
    assert "stdout is closed" in refused(closed("1", *asked), 1)
    assert closed("2", *asked).returncode == 0
    assert closed("2", "recommend", "--n-records", "0").returncode == 2


def test_recommend_loads_nothing_of_the_training_stack():
    script = (
        "import sys; sys.argv = ['ecgadvise', 'recommend', '--n-records', '5000', '--arch', 'cnn', '--json']\n"
        "from advisor.cli import main\n"
        "try: main()\n"
        f"finally: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0
    assert result.stderr.strip() == "[]"


def commands(app, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command of a Typer application, as the words that call it."""
    found = [(*prefix, c.name or c.callback.__name__) for c in app.registered_commands]
    for group in app.registered_groups:
        found += commands(group.typer_instance, (*prefix, group.name))
    return found


def all_commands() -> list[tuple[str, ...]]:
    from advisor.cli import build_app

    return commands(build_app())


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_help_shows_an_example_whose_options_exist(words: tuple[str, ...]):
    result = ecgadvise(*words, "--help")
    assert result.returncode == 0
    example = re.search(r"Example: (ecgadvise .*)", " ".join(result.stdout.split()))
    assert example, result.stdout
    said = shlex.split(example[1])
    assert said[1 : 1 + len(words)] == list(words)
    for option in (word for word in said if word.startswith("--")):
        assert option in result.stdout


def test_curves_show_gives_every_arm_at_any_size():
    result = ecgadvise("curves", "show", "--at", "500,5000,90000", "--json")
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    support = {row["n_records"]: row["support"] for row in document["rows"]}
    assert support == {500: "measured", 5000: "extrapolated", 90000: "beyond"}
    assert {row["strategy"] for row in document["rows"]} == {arm.strategy for arm in ARMS}
    assert all(row["mean_ci_lower"] <= row["mean"] <= row["mean_ci_upper"] for row in document["rows"])
    refused(ecgadvise("curves", "show", "--at", "500,many"), 2)


def test_a_reader_that_goes_away_is_no_traceback():
    script = (
        f"{shlex.quote(sys.executable)} -m ecgadvise curves show --at {','.join(map(str, range(100, 400)))} | head -1"
    )
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
    assert result.stderr == ""


@pytest.fixture(scope="session")
def corpora(ptbxl_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepared = ecgadvise("data", "prepare", str(ptbxl_tree), "--corpora", str(folder))
    assert "240 records, 0 left out, 0 kept with a remark" in prepared.stdout, prepared.stderr
    assert "exists already" in refused(ecgadvise("data", "prepare", str(ptbxl_tree), "--corpora", str(folder)), 3)
    return folder


@pytest.fixture
def place(tmp_path: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a design that takes seconds, where the prepared corpora are known."""
    monkeypatch.setenv("ECGADVISE_CORPORA", str(corpora))
    shutil.copy(Path(__file__).with_name("tiny.toml"), tmp_path)
    return tmp_path


def test_from_a_design_to_an_answer(place: Path):
    assert "0 of 13 runs done" in ecgadvise("study", "plan", "tiny.toml", cwd=place).stdout
    ran = ecgadvise("study", "run", "tiny.toml", cwd=place)
    assert ran.returncode == 0, ran.stderr
    assert "13 of 13 runs done, 0 failed" in ran.stdout
    assert "13 of 13 runs done" in ecgadvise("study", "plan", "tiny.toml", cwd=place).stdout
    assert "13 runs done, 0 running, 0 failed" in ecgadvise("study", "status", "--store", "tiny.db", cwd=place).stdout
    collected = ecgadvise("study", "collect", "--store", "tiny.db", "--out", "evidence", cwd=place)
    assert collected.returncode == 0, collected.stderr
    answer = ecgadvise(
        "recommend", "--n-records", "40", "--arch", "cnn", "--curves", "evidence/curves.json", "--json", cwd=place
    )
    jsonschema.validate(json.loads(answer.stdout), SCHEMA)


def test_ctrl_c_ends_a_study_with_the_command_that_goes_on(place: Path):
    started = subprocess.Popen([sys.executable, "-m", "ecgadvise", "study", "run", "tiny.toml", "--workers", "1"],
                               stderr=subprocess.PIPE, text=True, cwd=place)  # fmt: skip
    assert started.stderr is not None
    first = started.stderr.readline()
    assert first.startswith("1 of 13"), first
    started.send_signal(signal.SIGINT)
    last = started.communicate(timeout=300)[1].splitlines()[-1]
    assert started.returncode == 130
    command = last.removeprefix("interrupted; go on with: ecgadvise ")
    assert "13 of 13 runs done, 0 failed" in ecgadvise(*shlex.split(command), cwd=place).stdout


def test_what_a_study_lacks_is_named(place: Path, monkeypatch: pytest.MonkeyPatch):
    (place / "large.toml").write_text((place / "tiny.toml").read_text().replace("[20, 40, 60]", "[20, 100000]"))
    assert "fewer than the size 100000" in refused(ecgadvise("study", "run", "large.toml", cwd=place), 2)
    refused(ecgadvise("study", "run", "none.toml", cwd=place), 2)
    refused(ecgadvise("study", "collect", "--store", "none.db", "--out", "x", cwd=place), 3)
    refused(ecgadvise("study", "status", "--store", "none.db", cwd=place), 3)
    (place / "text.db").write_text("no database " * 100)
    refused(ecgadvise("study", "run", "tiny.toml", "--store", "text.db", cwd=place), 1)
    monkeypatch.setenv("ECGADVISE_CORPORA", str(place / "empty"))
    assert "no prepared corpus" in refused(ecgadvise("study", "plan", "tiny.toml", cwd=place), 3)
