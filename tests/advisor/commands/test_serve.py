"""``ecgadvise serve`` as a process: how it starts, what it refuses to start with, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import typer

from advisor.cli import build_app
from advisor.commands import serve
from tests.documents.settings_page import settings_table

Command = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[3]
NO_CONNECTIONS = """
import os, socket
_connect = socket.socket.connect
def connect(self, address):
    if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1", "localhost")):
        with open(os.environ["SEEN"], "a") as file:
            file.write(f"{address}\\n")
        raise OSError("no connection leaves this machine")
    return _connect(self, address)
socket.socket.connect = connect
_look_up = socket.getaddrinfo
def look_up(host, *rest, **named):
    if host not in (None, "", "127.0.0.1", "::1", "localhost", socket.gethostname()):
        with open(os.environ["SEEN"], "a") as file:
            file.write(f"{host}\\n")
        raise OSError("no name is looked up")
    return _look_up(host, *rest, **named)
socket.getaddrinfo = look_up
"""


@contextmanager
def running(store: Path, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """Run a server at a free port, and give it with its address and what it said; it is killed in the end."""
    words = [sys.executable, "-m", "ecgadvise", "serve", "--port", "0", "--store", str(store), "--min-free-mb", "0"]
    path = os.pathsep.join([environment.pop("FIRST", str(ROOT)), str(ROOT)])
    process = subprocess.Popen(
        [*words, *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=store.parent,
        env={**os.environ, "PYTHONPATH": path, **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stderr is not None
    said: list[str] = []
    try:
        while not (said and said[-1].startswith("it keeps everything")):
            line = process.stderr.readline()
            assert line, said
            said.append(line.rstrip())
        address = next(word for line in said for word in line.split() if word.startswith("http"))
        yield process, address, said
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def get(address: str, path: str, **headers: str) -> Any:
    with urlopen(Request(f"{address}{path}", headers=headers), timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_answers_until_it_is_asked_to_end(number: signal.Signals, code: int, tmp_path: Path):
    with running(tmp_path / "store") as (process, address, _):
        assert get(address, "/health") == {"status": "ok"}
        assert get(address, "/ready")["status"] == "ready"
        process.send_signal(number)
        assert process.wait(30) == code
        assert process.stderr is not None
        said = process.stderr.read()
        assert "Traceback" not in said
        assert ("jobs go on when the same command is given again" in said) == (code == 130)
    assert not (tmp_path / "store").stat().st_mode & 0o077, "patients' records are their owner's"


def test_two_servers_do_not_have_one_store(tmp_path: Path, command: Command):
    with running(tmp_path / "store"):
        code, _, err = command("serve", "--store", tmp_path / "store", "--port", "0")
    assert code == 1
    assert err.startswith("error: another ecgadvise serve has the store")


def test_it_does_not_start_where_others_reach_it_without_a_token(tmp_path: Path, command: Command):
    code, _, err = command("serve", "--host", "0.0.0.0", "--port", "0", "--store", tmp_path / "store")
    assert code == 2
    assert "there is no token" in err
    assert not (tmp_path / "store" / "service.db").exists()


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path, command: Command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = command("serve", "--port", taken.getsockname()[1], "--store", tmp_path / "store")
    assert code == 1
    assert err.startswith("error: cannot listen at 127.0.0.1, port")
    assert len(err.splitlines()) == 1


def test_a_store_that_cannot_be_made_is_one_sentence(tmp_path: Path, command: Command):
    (tmp_path / "file").write_text("")
    code, _, err = command("serve", "--port", "0", "--store", tmp_path / "file" / "store")
    assert (code, len(err.splitlines())) == (1, 1)
    assert err.startswith("error: cannot write to the store")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-certificate", "a.pem"], "--tls-certificate and --tls-key go together"),
        (["--tls-certificate", "a.pem", "--tls-key", "a.key"], "cannot use a.pem for TLS: there is no such file"),
        (["--tokens", "nowhere.toml"], "cannot read the token file nowhere.toml"),
        (["--curves", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_sentence(options: list[str], said: str, tmp_path: Path, command: Command):
    code, _, err = command("serve", "--port", "0", "--store", tmp_path / "store", *options)
    assert code in (2, 3)
    assert said in err.splitlines()[-1]


def test_without_its_packages_it_says_how_they_are_installed(command: Command, monkeypatch: pytest.MonkeyPatch):
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "uvicorn" else found(name, *rest))
    code, _, err = command("serve")
    assert code == 1
    assert err == "error: the service needs uvicorn: pip install 'ecgadvise[service]'\n"


def test_a_new_token_is_shown_once_and_lets_in(tmp_path: Path, command: Command):
    code, out, err = command("serve", "--new-token", "ward-3", "--role", "runner", "--expires", "2099-01-31")
    assert code == 0
    (token,) = err.split()[-1:]
    assert token not in out
    table = tomllib.loads(out)
    assert list(table) == ["ward-3"]
    (tmp_path / "tokens.toml").write_text(out)
    with running(tmp_path / "store", "--tokens", str(tmp_path / "tokens.toml")) as (_, address, _said):
        assert get(address, "/v1/models", Authorization=f"Bearer {token}") is not None


def test_a_new_token_is_shown_where_remarks_are_not(command: Command):
    code, out, err = command("--quiet", "serve", "--new-token", "ward-3")
    assert code == 0
    assert len(err.split()[-1]) > 40
    assert "sha256" in out


@pytest.mark.parametrize("name", ["", "ward 3", "a\nb", "x" * 61, "[a]"])
def test_a_token_s_name_is_a_plain_word(name: str, command: Command):
    code, out, err = command("serve", "--new-token", name)
    assert (code, out) == (2, "")
    assert "a name has letters, digits" in err


def test_every_setting_is_an_option_and_a_variable_and_in_the_documentation():
    from dataclasses import fields

    from advisor.service.settings import Settings

    command = typer.main.get_command(build_app("serve")).commands["serve"]
    variables = {one.name: one.envvar for one in command.params if getattr(one, "envvar", None)}
    settings = {field.name for field in fields(Settings)} - {"token", "allow_hosts"} | {"allow_host"}
    assert set(variables) == settings
    assert all(name.startswith("ECGADVISE_") for name in variables.values())
    assert all(f"`{name}`" in settings_table() for name in variables.values())


def test_a_variable_is_a_setting(tmp_path: Path):
    with running(tmp_path / "store", ECGADVISE_TOKEN="a-token-of-thirty-characters-x") as (_, address, _said):
        assert get(address, "/health") == {"status": "ok"}
        with pytest.raises(Exception, match="401"):
            get(address, "/v1/models")


def test_nothing_leaves_the_machine_while_it_serves_checks_and_trains_a_pilot(tmp_path: Path):
    """The demo: records, their check and the first runs of a pilot, whose processes are as closed as the server."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(NO_CONNECTIONS)
    seen = tmp_path / "seen"
    with running(tmp_path / "store", "--demo", FIRST=str(tmp_path / "first"), SEEN=str(seen)) as (_, address, said):
        assert any("synthetic records" in line for line in said)
        for path in ("/v1/recommendation?n_records=500", "/openapi.json", "/v1/jobs", "/v1/datasets"):
            assert get(address, path)
        jobs = {job["kind"]: job["id"] for job in get(address, "/v1/jobs")["jobs"]}
        assert read_until(address, jobs["check"], lambda job: job["ended"] is not None)["state"] == "done"
        pilot = read_until(address, jobs["pilot"], lambda job: (job["progress"] or {}).get("done", 0) >= 2)
        assert pilot["state"] == "running"
    assert not seen.exists(), seen.read_text()


def test_a_connection_that_leaves_would_be_seen(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(NO_CONNECTIONS)
    ended = subprocess.run(
        [sys.executable, "-c", "import socket; socket.create_connection(('example.org', 80))"], capture_output=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "SEEN": str(tmp_path / "seen")}, check=False,
    )  # fmt: skip
    assert ended.returncode
    assert "example.org" in (tmp_path / "seen").read_text()


def read_until(address: str, job: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Read a job's events until one is as wanted, and return the job then."""
    with urlopen(f"{address}/v1/jobs/{job}/events", timeout=600) as events:
        for line in events:
            if line.startswith(b"data:"):
                found: dict[str, Any] = json.loads(line.removeprefix(b"data:"))
                if is_so(found):
                    return found
    raise AssertionError(f"the events of {job} ended before")


def test_the_example_shows_the_demo():
    assert serve.EXAMPLE == "Example: ecgadvise serve --demo"
