"""The application as a whole: every documented route, every error in one form, what a start puts right."""

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from advisor.service.app import build_app, close_service, open_service
from advisor.service.problems import MEDIA_TYPE
from advisor.service.settings import Settings
from advisor.service.store import ServiceStoreError
from advisor.service.tokens import Role, new_token
from tests.advisor.service.conftest import BASE

ROUTES = """
GET /v1/recommendation, GET /v1/report, POST /v1/datasets, GET /v1/datasets, GET /v1/datasets/{dataset},
DELETE /v1/datasets/{dataset}, POST /v1/jobs, GET /v1/jobs, GET /v1/jobs/{job}, DELETE /v1/jobs/{job},
GET /v1/jobs/{job}/events, GET /v1/jobs/{job}/log, POST /v1/jobs/{job}/resubmit, GET /v1/models, GET /v1/models/{model},
GET /v1/models/{model}/card, GET /v1/models/{model}/file, DELETE /v1/models/{model},
POST /v1/models/{model}/predictions, GET /v1/models/{model}/drift, GET /health, GET /ready, GET /metrics, GET /docs"""


def test_the_routes_are_those_that_are_promised(client: TestClient):
    paths = client.get("/openapi.json").json()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert there == set(map(str.strip, ROUTES.split(",")))


def test_every_route_of_the_document_can_be_called_and_says_how_it_fails(client: TestClient):
    """With ids of nothing: what each does with something is tested where it lives."""
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            address = path
            for one in operation.get("parameters", []):
                address = address.replace(
                    f"{{{one['name']}}}", {"file": "service.css"}.get(one["name"], "d0123456789ab")
                )
            answer = client.request(method, address)
            documented = operation["responses"]
            assert answer.status_code < 500, (method, address, answer.text)
            assert str(answer.status_code) in documented or answer.status_code == 303, (method, address, answer.text)
            if answer.status_code >= 400 and path.startswith("/v1/"):
                assert answer.headers["content-type"] == MEDIA_TYPE
                assert set(answer.json()) >= {"type", "title", "status", "detail"}


def test_the_documentation_names_every_route_and_kind_of_problem_without_a_script(client: TestClient):
    page = client.get("/docs").text
    assert "<script" not in page.replace('<script src="/static/', "")
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page
    problem = client.get("/v1/jobs/j0").json()
    assert f'id="{problem["type"].partition("#")[2]}"' in page


def test_an_address_that_is_none_is_a_problem_or_a_page(client: TestClient):
    answer = client.get("/v1/nothing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, MEDIA_TYPE)
    page = client.get("/nothing", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert client.put("/v1/jobs").status_code == 405


def test_a_value_that_is_refused_is_not_repeated(client: TestClient):
    secret = "Qxtorova-19470311"
    answer = client.get(f"/v1/recommendation?n_records={secret}")
    assert answer.status_code == 422
    assert secret not in answer.text


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ServiceStoreError("service.db cannot be used just now: database or disk is full"), 503, "cannot be used"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "disk of the store is full"),
    ],
)
def test_what_cannot_be_written_is_a_problem(
    error: Exception, status: int, said: str, client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    def full() -> None:
        raise error

    monkeypatch.setattr(client.app.state.service.datasets, "list", full)
    answer = client.get("/v1/datasets")
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    assert said in answer.json()["detail"]


def test_little_room_is_no_readiness(open_client: Callable[..., TestClient]):
    answer = open_client(min_free_mb=1e9).get("/ready")
    assert answer.status_code == 507
    assert "--min-free-mb (ECGADVISE_MIN_FREE_MB)" in answer.json()["detail"]


def test_a_dataset_that_no_check_was_asked_for_gets_one_at_the_next_start(tmp_path: Path):
    settings = Settings(tmp_path / "service", min_free_mb=0.0)
    service = open_service(settings)
    made = service.store.incoming / "made"
    made.mkdir()
    (made / "a.txt").write_text("no record")
    dataset = service.datasets.adopt(made, "ward", "test")
    close_service(service)
    service = open_service(settings)
    with TestClient(build_app(service), base_url=BASE) as client:
        (job,) = client.get(f"/v1/jobs?dataset={dataset.id}").json()["jobs"]
        assert (job["kind"], job["by"]) == ("check", "service")
    close_service(service)


def test_a_token_file_is_looked_at_also_while_nobody_asks(
    tmp_path: Path, until: Callable[..., None], caplog: pytest.LogCaptureFixture
):
    """So that the first who asks with a token that was taken out is refused already."""
    token, table = new_token("one", Role.ADMIN, None)
    path = tmp_path / "tokens.toml"
    path.write_text(table)
    service = open_service(Settings(tmp_path / "service", min_free_mb=0.0, tokens=path))
    with TestClient(build_app(service), base_url=BASE) as client:
        bearer = {"authorization": f"Bearer {token}"}
        assert client.get("/v1/jobs", headers=bearer).status_code == 200
        path.write_text("")
        until(lambda: "names no token" in caplog.text)
        assert client.get("/v1/jobs", headers=bearer).status_code == 401
    close_service(service)


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path):
    settings = Settings(tmp_path / "service", min_free_mb=0.0)
    close_service(open_service(settings))
    with sqlite3.connect(tmp_path / "service" / "service.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Exception, match="written by a newer ecgadvise"):
        open_service(settings)


@pytest.mark.parametrize(
    ("content", "media_type", "said"),
    [
        (b'{"kind": "check"}', "text/plain", "send a JSON object, with the header Content-Type: application/json"),
        (b'{"kind": ', "application/json", "the body is not JSON"),
        (b"[]", "application/json", "send a JSON object"),
    ],
)
def test_a_body_that_is_none_is_said_to_be_so(content: bytes, media_type: str, said: str, client: TestClient):
    answer = client.post("/v1/jobs", content=content, headers={"content-type": media_type})
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_what_is_asked_for_by_head_is_there(client: TestClient):
    for path in ("/", "/health", "/docs", "/v1/report?n_records=500&arch=cnn"):
        assert client.head(path).status_code == 200
