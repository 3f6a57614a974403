"""What every request passes: host, origin, size and caller; and what is written of it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI, Request, Response
from starlette.testclient import TestClient

from advisor.service import guard
from advisor.service.access import Admin, Reader, Runner
from advisor.service.audit import Audit
from advisor.service.guard import COOKIE, Guard, refusal
from advisor.service.metrics import Metrics
from advisor.service.problems import MEDIA_TYPE, Problem
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore
from advisor.service.tokens import Role, new_token, read_tokens

SECRET = "what-a-request-says-of-a-patient"


def application(folder: Path, **given: object) -> tuple[FastAPI, SimpleNamespace]:
    store = ServiceStore(folder).open()
    settings = Settings(folder, max_upload_mb=0.5, **given)
    audit = Audit(store.root / "audit.log", 10, 3)
    service = SimpleNamespace(
        settings=settings, store=store, tokens=read_tokens(settings, store), audit=audit, metrics=Metrics(store, audit)
    )
    app = FastAPI()
    app.state.service = service

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.get("/v1/read/{thing}")
    async def read(thing: str, caller: Reader) -> str:
        return caller.name

    @app.post("/v1/datasets")
    async def run(request: Request, caller: Runner) -> int:
        return len(await request.body())

    @app.post("/v1/made")
    async def make(response: Response, caller: Runner) -> str:
        response.headers["location"] = "/v1/jobs/j0123456789ab"
        return caller.name

    @app.delete("/v1/thing")
    async def delete(caller: Admin) -> str:
        return caller.name

    async def problem(request: Request, error: Exception):
        return refusal(request, error)

    app.add_exception_handler(Problem, problem)
    app.add_middleware(Guard, service=service)
    return app, service


@pytest.fixture
def open_app(tmp_path: Path) -> Iterator[TestClient]:
    app, service = application(tmp_path / "service")
    with TestClient(app, base_url="http://127.0.0.1:8712") as client:
        yield client
    service.audit.close()
    service.store.close()


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[tuple[TestClient, dict[str, str], SimpleNamespace]]:
    """A service with tokens, and a token of each role."""
    made = {role.name.lower(): new_token(role.name.lower(), role, None) for role in Role if role}
    (tmp_path / "tokens.toml").write_text("\n".join(table for _, table in made.values()))
    app, service = application(tmp_path / "service", tokens=tmp_path / "tokens.toml")
    with TestClient(app, base_url="http://127.0.0.1:8712") as client:
        yield client, {name: token for name, (token, _) in made.items()}, service
    service.audit.close()
    service.store.close()


@pytest.mark.parametrize("host", ["127.0.0.1:8712", "localhost", "[::1]:8712", "192.168.1.9", "LOCALHOST:1"])
def test_this_machine_is_known_by_its_names_and_addresses(open_app: TestClient, host: str):
    assert open_app.get("/v1/read/x", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", "[::"])
def test_a_name_from_elsewhere_is_refused(open_app: TestClient, host: str):
    answer = open_app.get("/v1/read/x", headers={"host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert "--allow-host" in answer.json()["detail"]


def test_a_name_that_the_operator_gives_is_known(tmp_path: Path):
    app, service = application(tmp_path / "service", allow_hosts=("ecg.ward.example",))
    with TestClient(app, base_url="http://ECG.ward.example") as client:
        assert client.get("/v1/read/x").status_code == 200
    service.audit.close()
    service.store.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8712"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:8712"}, 403),
        ({"cookie": f"{COOKIE}=x"}, 403),
    ],
)
def test_another_sites_page_changes_nothing(open_app: TestClient, headers: dict[str, str], status: int):
    assert open_app.post("/v1/datasets", content=b"x", headers=headers).status_code == status


def test_a_token_is_needed_where_there_are_some(closed):
    client, tokens, _ = closed
    reader = tokens["reader"]
    for header in (None, "Bearer wrong", f"Bearer {reader}x", f"Basic {reader}", "Bearer", "Bearer "):
        answer = client.get("/v1/read/x", headers={} if header is None else {"authorization": header})
        assert answer.status_code == 401, header
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == MEDIA_TYPE
    assert client.get("/v1/read/x", headers={"authorization": f"Bearer {reader}"}).json() == "reader"
    assert client.get("/health").status_code == 200


def test_a_role_does_what_it_may_and_no_more(closed):
    client, tokens, _ = closed
    allowed = {}
    for name, token in tokens.items():
        headers = {"authorization": f"Bearer {token}"}
        got = (client.get("/v1/read/x", headers=headers), client.post("/v1/datasets", content=b"x", headers=headers),
               client.delete("/v1/thing", headers=headers))  # fmt: skip
        allowed[name] = [answer.status_code for answer in got]
    assert allowed == {"reader": [200, 403, 403], "runner": [200, 200, 403], "admin": [200, 200, 200]}


def test_a_browsers_session_stands_for_its_token(closed):
    client, tokens, service = closed
    held, _ = service.tokens.begin_session(tokens["runner"])
    client.cookies.set(COOKIE, held)
    assert client.get("/v1/read/x").json() == "runner"
    assert client.post("/v1/datasets", content=b"x").status_code == 403, (
        "no browser sends a cookie without saying whence"
    )
    assert client.post("/v1/datasets", content=b"x", headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_a_visitor_without_a_token_is_sent_to_where_one_is_given(closed):
    answer = closed[0].get("/nothing", headers={"accept": "text/html"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("announced", [True, False])
def test_an_oversized_upload_is_refused_by_its_limits_name(open_app: TestClient, announced: bool):
    body = bytes(1_600_000)
    parts = (body[k : k + 100_000] for k in range(0, len(body), 100_000))  # a generator has no length
    answer = open_app.post("/v1/datasets", content=body if announced else parts)
    assert answer.status_code == 413
    assert "--max-upload-mb (ECGADVISE_MAX_UPLOAD_MB) allows, 0.5 MB" in answer.json()["detail"]


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "\xb2", "1e3", ""])
def test_a_length_that_is_none_is_too_large(open_app: TestClient, length: str):
    headers = {b"host": b"127.0.0.1", b"content-length": length.encode("latin-1")}
    assert open_app.request("POST", "/v1/datasets", headers=headers).status_code == 413


def test_a_plain_request_is_small(open_app: TestClient):
    answer = open_app.request("DELETE", "/v1/thing", content=bytes(1_100_000))
    assert answer.status_code == 413


def test_every_answer_forbids_what_a_page_does_not_need(open_app: TestClient):
    for path in ("/health", "/v1/read/x", "/nothing"):
        headers = open_app.get(path).headers
        assert "default-src 'none'; script-src 'self';" in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_the_audit_log_says_who_did_what_from_where_and_nothing_of_what_was_asked(closed):
    client, tokens, service = closed
    headers = {"authorization": f"Bearer {tokens['runner']}"}
    client.get(f"/v1/read/d1?labels={SECRET}", headers=headers)
    client.post("/v1/datasets", content=SECRET.encode(), headers=headers)
    client.get("/v1/read/d2", headers={"authorization": f"Bearer {SECRET}"})
    client.get(f"/{SECRET}", headers=headers)
    client.get("/health")
    text = service.audit.path.read_text()
    assert SECRET not in text
    assert not any(token in text for token in tokens.values())
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(one["token"], one["method"], one["route"], one["status"]) for one in lines] == [
        ("runner", "GET", "/v1/read/{thing}", 200), ("runner", "POST", "/v1/datasets", 200),
        ("-", "GET", "/v1/read/{thing}", 401), ("runner", "GET", "unknown", 404),
    ]  # fmt: skip
    assert lines[0]["thing"] == "d1"
    assert {one["from"] for one in lines} == {"testclient"}
    assert service.audit.path.stat().st_mode & 0o077 == 0


def test_the_audit_log_names_what_was_made_and_asked_about_and_where_strangers_knocked(closed):
    client, tokens, service = closed
    headers = {"authorization": f"Bearer {tokens['runner']}"}
    client.post("/v1/made", headers=headers)
    client.get("/v1/read/x?data=d0123456789ab&margin=1", headers=headers)
    client.get("/v1/read/x")
    lines = [json.loads(line) for line in service.audit.path.read_text().splitlines()]
    assert lines[0]["job"] == "j0123456789ab"
    assert lines[1]["dataset"] == "d0123456789ab"
    assert (lines[2]["route"], lines[2]["token"], lines[2]["status"]) == ("/v1/read/{thing}", "-", 401)


def test_strangers_do_not_rotate_the_history_away(tmp_path: Path):
    clock = [0.0]
    audit = Audit(tmp_path / "audit.log", 10, 2, lambda: clock[0])
    for _ in range(1000):
        audit.write("-", "GET", "/v1/jobs", 401, "there")
    audit.write("ward", "GET", "/v1/jobs", 200, "here")
    clock[0] = 60.0
    audit.write("-", "GET", "/v1/jobs", 401, "there")
    audit.close()
    lines = [json.loads(line) for line in audit.path.read_text().splitlines()]
    assert len(lines) == 102
    assert (lines[100]["token"], lines[100]["left_out"]) == ("ward", "900")
    assert "left_out" not in lines[101]


def test_a_request_that_stands_still_is_ended(open_app: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "_SECONDS", 0.05)

    async def send() -> list[dict]:
        sent: list[dict] = []
        scope = {"type": "http", "method": "POST", "path": "/v1/datasets", "raw_path": b"/v1/datasets", "root_path": "",
                 "query_string": b"", "headers": [(b"host", b"localhost")], "client": None, "scheme": "http",
                 "http_version": "1.1", "server": ("localhost", 80)}  # fmt: skip

        async def receive() -> dict:
            await asyncio.sleep(60)
            raise AssertionError("nobody waits that long")

        async def note(message: dict) -> None:
            sent.append(message)

        await open_app.app(scope, receive, note)
        return sent

    sent = asyncio.run(send())
    assert sent[0]["status"] == 408
    assert b"stood still" in sent[1]["body"]


def test_the_audit_log_is_rotated_by_size(tmp_path: Path):
    audit = Audit(tmp_path / "audit.log", 0.001, 2)
    for number in range(40):
        audit.write("a", "GET", f"/{number}", 200, "here")
    audit.close()
    kept = sorted(tmp_path.iterdir())
    assert [path.name for path in kept] == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(path.stat().st_size <= 1000 for path in kept)
    assert '"/39"' in kept[0].read_text()


def test_an_audit_log_that_cannot_be_written_is_counted_and_stops_no_request(closed, monkeypatch: pytest.MonkeyPatch):
    client, tokens, service = closed

    def full(_text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service.audit._handler.stream, "write", full)
    assert client.get("/v1/read/x", headers={"authorization": f"Bearer {tokens['reader']}"}).status_code == 200
    assert service.audit.failed == 1
    assert b"ecgadvise_audit_failures 1.0" in service.metrics.text()


def test_figures_are_by_route_and_do_not_grow_with_addresses(open_app: TestClient):
    for number in range(50):
        open_app.get(f"/v1/read/{number}")
        open_app.get(f"/{number}")
    service = open_app.app.state.service
    text = service.metrics.text().decode()
    assert 'ecgadvise_requests_total{method="GET",route="/v1/read/{thing}",status="200"} 50.0' in text
    assert 'ecgadvise_requests_total{method="GET",route="unknown",status="404"} 50.0' in text
    assert text.count("ecgadvise_requests_total{") == 2
