"""``data list`` and ``data fetch`` as a user sees them: words, exit codes, and the question about the licence."""

import hashlib
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from advisor.commands.parts import data_fetch
from engine.download.catalogue import PUBLISHED, SelectionError, find_published
from engine.download.checksums import SUMS
from models.errors import UserError

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command("fetch", epilog=data_fetch.FETCH_EXAMPLE)(data_fetch.fetch)
app.command("list", epilog=data_fetch.LIST_EXAMPLE)(data_fetch.list_sets)

FILES = {
    "LICENSE.txt": b"licence\n",
    "ludb.csv": b"ID,Sex\n1,F\n",
    "data/1.hea": b"1 12 500 5000\n",
    "data/1.dat": bytes(120_000),
    "data/1.i": b"annotations",
}
NEEDED = {"LICENSE.txt", "ludb.csv", "data/1.hea", "data/1.dat"}


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name in the class it overrides)
        pass


class Server(ThreadingHTTPServer):
    """Closes when its threads have ended, so that none of them speaks into the output of a later test."""

    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that goes away is what these tests are about
            super().handle_error(request, client_address)


class StallingHandler(Handler):
    """Sends half of every record, then waits for the client to go away."""

    def do_GET(self) -> None:
        if not self.path.endswith(".dat"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", "120000")
        self.end_headers()
        self.wfile.write(bytes(60_000))
        self.rfile.read(1)
        self.close_connection = True


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A small LUDB as PhysioNet would serve it."""
    root = tmp_path / "served"
    for name, body in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)
    lines = [f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in FILES.items()]
    (root / SUMS).write_text("".join(lines))
    return root


def serve(root: Path, handler: type[Handler]) -> Iterator[str]:
    with Server(("127.0.0.1", 0), partial(handler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def url(published: Path) -> Iterator[str]:
    yield from serve(published, Handler)


@pytest.fixture
def stalling_url(published: Path) -> Iterator[str]:
    yield from serve(published, StallingHandler)


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=answer, standalone_mode=False)


def code_of(result: Result) -> int:
    """The exit code that ``advisor.cli.main`` would end with."""
    return int(getattr(result.exception, "exit_code", result.return_value or 0))


def names(target: Path) -> set[str]:
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    return found - {SUMS, data_fetch.ACCEPTED}


def fetch(url: str, out: Path, *more: str, answer: str | None = None) -> Result:
    return run("fetch", "ludb", "--out", str(out), "--base-url", url, *more, answer=answer)


def test_a_set_is_fetched_with_what_its_reader_needs_and_nothing_else(url: str, tmp_path: Path) -> None:
    out = tmp_path / "ludb"
    result = fetch(url, out, "--accept-license")
    assert code_of(result) == 0
    assert names(out) == NEEDED
    assert result.stdout == f"4 files in {out}, all verified: 4 fetched, 0 there\n"


def test_all_fetches_every_file(url: str, tmp_path: Path) -> None:
    assert code_of(fetch(url, tmp_path / "ludb", "--accept-license", "--all")) == 0
    assert names(tmp_path / "ludb") == set(FILES)


def test_a_second_run_neither_asks_nor_fetches(url: str, tmp_path: Path) -> None:
    fetch(url, tmp_path / "ludb", "--accept-license")
    again = fetch(url, tmp_path / "ludb")
    assert code_of(again) == 0
    assert "0 fetched, 4 there" in again.stdout
    assert again.stderr == ""


def test_licence_and_citation_are_shown_on_stderr(url: str, tmp_path: Path) -> None:
    result = fetch(url, tmp_path / "ludb", "--accept-license")
    assert "ODC-By 1.0, https://opendatacommons.org/licenses/by/1-0/" in result.stderr
    assert "Kalyakulina" in result.stderr


def test_without_a_terminal_and_without_the_flag_nothing_happens(url: str, tmp_path: Path) -> None:
    result = fetch(url, tmp_path / "ludb")
    assert code_of(result) == 2
    assert str(result.exception) == "the licence of ludb is to be accepted: add --accept-license"
    assert not (tmp_path / "ludb").exists()


def test_the_question_is_asked_once(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_fetch, "_can_ask", lambda: True)
    assert "Do you accept" in (first := fetch(url, tmp_path / "ludb", answer="y\n")).stderr
    assert code_of(first) == 0
    assert "Do you accept" not in (again := fetch(url, tmp_path / "ludb", answer="")).stderr
    assert code_of(again) == 0


def test_a_licence_that_is_not_accepted_fetches_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_fetch, "_can_ask", lambda: True)
    result = fetch(url, tmp_path / "ludb", answer="n\n")
    assert code_of(result) == 1
    assert not (tmp_path / "ludb").exists()


def test_a_folder_that_holds_another_set_is_refused(url: str, tmp_path: Path) -> None:
    fetch(url, tmp_path / "here", "--accept-license")
    result = run("fetch", "ptbdb", "--out", str(tmp_path / "here"), "--base-url", url, "--accept-license")
    assert code_of(result) == 2
    assert "holds ludb 1.0.1, ODC-By 1.0: choose another folder" in str(result.exception)


def test_a_wrong_checksum_exits_with_3_and_names_the_file(url: str, published: Path, tmp_path: Path) -> None:
    (published / "data/1.hea").write_bytes(b"altered")
    result = fetch(url, tmp_path / "ludb", "--accept-license")
    assert code_of(result) == 3
    assert "data/1.hea is not the published file" in str(result.exception)
    assert names(tmp_path / "ludb") == NEEDED - {"data/1.hea"}


def test_a_missing_file_exits_with_1_and_is_named(url: str, published: Path, tmp_path: Path) -> None:
    (published / "data/1.hea").unlink()
    result = fetch(url, tmp_path / "ludb", "--accept-license")
    assert code_of(result) == 1
    assert "data/1.hea does not exist (404)" in str(result.exception)


def test_an_unsafe_list_exits_with_3(url: str, published: Path, tmp_path: Path) -> None:
    (published / SUMS).write_text(f"{'0' * 64}  ../outside\n")
    assert code_of(fetch(url, tmp_path / "ludb", "--accept-license")) == 3


def test_a_target_that_cannot_be_written_exits_with_1(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = fetch(url, tmp_path / "file" / "ludb", "--accept-license")
    assert code_of(result) == 1
    assert "cannot write" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("fetch", "mit-bih"), "there is no set 'mit-bih': choose one of ptb-xl,"),
        (("fetch", "code-test"), "download it from https://doi.org/10.5281/zenodo.3765780"),
        (("fetch", "chagas-2025"), "download it from https://moody-challenge.physionet.org/2025/"),
        (("fetch", "ptb-xl", "--fs", "250"), "choose --fs 100 or 500"),
        (("fetch", "ludb", "--fs", "500"), "leave out --fs"),
        (("fetch", "ludb", "--base-url", "physionet.org"), "is not an http or https URL"),
        (("fetch", "ludb", "--jobs", "0"), "jobs"),
    ],
)
def test_a_wrong_choice_exits_with_2_and_says_what_is_on_offer(arguments: tuple[str, ...], why: str) -> None:
    result = run(*arguments)
    assert code_of(result) == 2
    error = result.exception
    assert why in (error.format_message() if hasattr(error, "format_message") else str(error))


def test_ctrl_c_leaves_parts_only_and_prints_the_command_that_goes_on(
    stalling_url: str, url: str, tmp_path: Path
) -> None:
    out = tmp_path / "my ludb"
    command = ["data", "fetch", "ludb", "--out", str(out), "--base-url", stalling_url, "--accept-license"]
    part = out / "data/1.dat.part"
    process = subprocess.Popen([sys.executable, "-m", "ecgadvise", *command], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (part.exists() and part.stat().st_size == 60_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 130, said
    shown = said.splitlines()[-1]
    assert "data/1.dat" not in names(out)
    assert part.stat().st_size == 60_000
    go_on = shlex.split(shown.removeprefix("interrupted; go on with: ecgadvise data "))
    assert go_on == ["fetch", "ludb", "--out", str(out), "--base-url", stalling_url]
    assert code_of(run(*[url if word == stalling_url else word for word in go_on])) == 0
    assert names(out) == NEEDED


def test_the_command_that_goes_on_asks_for_the_same_files() -> None:
    words = shlex.split(data_fetch._command("ptb-xl", Path("a b"), "https://mirror/x", 500, True, 4))
    assert words[3:] == [
        "ptb-xl",
        "--out",
        "a b",
        "--base-url",
        "https://mirror/x",
        "--fs",
        "500",
        "--all",
        "--jobs",
        "4",
    ]
    assert data_fetch._command("ludb", None, None, None, False, None) == "ecgadvise data fetch ludb"


def test_progress_is_drawn_on_a_terminal_with_files_bytes_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.download.tree import Progress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with data_fetch._drawn() as report:
        report(Progress(files_total=40, files_done=10, bytes_received=2_500_000, seconds=3.0))
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "10/40" in shown
    assert "2.5 MB" in shown
    assert "left" in shown


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from engine.download.tree import Progress

    with data_fetch._drawn() as report:
        report(Progress(files_total=40))
    assert capsys.readouterr() == ("", "")


def test_the_list_fits_80_columns_and_names_every_set() -> None:
    shown = run("list").stdout
    assert all(len(line) <= 80 for line in shown.splitlines())
    for one in PUBLISHED.values():
        assert f"{one.name} " in shown
        assert one.url in shown
        assert f"{one.records:,}" in shown


def test_the_list_as_json_has_the_promised_keys() -> None:
    document = json.loads(run("list", "--json").stdout)
    assert document["schema_version"] == 1
    assert [one["name"] for one in document["sets"]] == list(PUBLISHED)
    for one in document["sets"]:
        assert {"name", "version", "licence", "records", "url", "fetchable"} <= set(one)
    assert [one["name"] for one in document["sets"] if not one["fetchable"]] == ["chagas-2025", "code-test"]


LAYOUTS = {
    "brugada-huca": (
        ["LICENSE.txt", "README.md", "RECORDS", "metadata.csv", "metadata_dictionary.csv", "files/188981/188981.hea",
         "files/188981/188981.dat"],
        ["files.zip", "files/.DS_Store"],
    ),
    "challenge-2011": (
        ["LICENSE.txt", "set-a/RECORDS", "set-a/RECORDS-acceptable", "set-a/RECORDS-unacceptable", "set-a/1002603.hea",
         "set-a/1002603.dat"],
        ["set-a/1002603.txt", "set-a.tar.gz", "set-b/1000653.hea", "set-b/1000653.dat"],
    ),
    "challenge-2015": (
        ["LICENSE.txt", "training/ALARMS", "training/RECORDS", "training/a103l.hea", "training/a103l.mat"],
        ["training.zip", "training/SHA256SUMS", "entry.zip"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_a_sites_reader_needs_is_fetched_and_no_second_copy_of_it(name: str, tmp_path: Path) -> None:
    needed, others = LAYOUTS[name]
    served, out = tmp_path / "served", tmp_path / name
    for file in (*needed, *others):
        (served / file).parent.mkdir(parents=True, exist_ok=True)
        (served / file).write_text(file)
    sums = [f"{hashlib.sha256(file.encode()).hexdigest()} {file}\n" for file in (*needed, *others)]
    (served / SUMS).write_text("".join(sums))
    for url in serve(served, Handler):
        result = run("fetch", name, "--out", str(out), "--base-url", url, "--accept-license")
    assert code_of(result) == 0
    assert names(out) == set(needed)
    assert find_published(name).licence_url in result.stderr


@pytest.mark.parametrize("name", [name for name, one in PUBLISHED.items() if one.fetchable])
def test_every_fetchable_set_points_to_its_version_on_physionet(name: str) -> None:
    one = find_published(name)
    slug = {"ptb": "ptbdb"}.get(name, name)
    assert one.files_url == f"https://physionet.org/files/{slug}/{one.version}"
    assert one.url == f"https://physionet.org/content/{slug}/{one.version}/"
    assert "LICENSE*" in one.patterns()
    assert one.patterns(everything=True) == ("*",)


def test_ptb_xl_is_fetched_at_100_hz_unless_500_is_asked_for() -> None:
    one = find_published("ptb-xl")
    assert "records100/*" in one.patterns()
    assert "records500/*" not in one.patterns()
    assert "records500/*" in one.patterns(500)
    assert "ptbxl_database.csv" in one.patterns(500)
    with pytest.raises(SelectionError):
        one.patterns(250)


@pytest.mark.parametrize("command", ["fetch", "list"])
def test_the_help_ends_in_an_example(command: str) -> None:
    assert "Example: ecgadvise data" in run(command, "--help").stdout


def test_an_unreadable_marker_is_one_sentence(url: str, tmp_path: Path) -> None:
    (tmp_path / "ludb" / data_fetch.ACCEPTED).mkdir(parents=True)
    result = fetch(url, tmp_path / "ludb")
    assert code_of(result) == 1
    assert isinstance(result.exception, UserError)
    assert "\n" not in str(result.exception)
