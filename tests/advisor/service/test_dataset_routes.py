"""Uploads over HTTP: streamed, limited, answered with what was taken or one sentence."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZIP_STORED

import pytest
import uvicorn
from fastapi import FastAPI, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response
from starlette.testclient import TestClient

from advisor.service.datasets.datasets import Datasets
from advisor.service.problems import MEDIA_TYPE, Problem
from advisor.service.routes.datasets import router
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore
from advisor.service.tokens import LOCAL, Caller, Role
from models.errors import UserError
from tests.advisor.service.archives import tar_of, zip_of

FILES = {"ward/r1.hea": b"r1 12 500 5000\n", "ward/r1.dat": b"1234", "ward/labels.csv": b"record,AF\nr1,1\n"}
ZIP = {"content-type": "application/zip"}
FOUND = {
    "source": "ward", "task": "labels", "records": 3, "unusable": 1, "patients": 2, "classes": {"AF": 2},
    "unlabelled": 1, "problems": [{"record": "r3", "problem": "file missing", "usable": False}],
    "duplicates": [["r1", "r2"]], "excluded": None,
}  # fmt: skip


class QueuedJobs:
    """Jobs that wait for ever; ``refusal`` is raised instead, where there is one."""

    def __init__(self, store: ServiceStore) -> None:
        self._store, self.refusal = store, None

    def submit(self, request, by: str):
        if self.refusal is not None:
            raise self.refusal
        row = (f"j{request.dataset}", request.kind, request.dataset, request.dataset, "{}", "queued", "2026", by)
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO jobs (id, kind, key, dataset, request, state, created, by) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
        return SimpleNamespace(id=row[0]), True


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    store = ServiceStore(tmp_path / "store").open()
    (tmp_path / "records").mkdir()
    settings = Settings(store.root, records_root=tmp_path / "records", min_free_mb=0, max_upload_mb=1)
    app = FastAPI()
    app.state.caller = LOCAL
    app.state.service = SimpleNamespace(
        settings=settings, store=store, datasets=Datasets(store, settings), jobs=QueuedJobs(store)
    )
    app.include_router(router)

    @app.exception_handler(Problem)
    async def problem(_request: Request, error: Problem) -> Response:
        return JSONResponse(error.document(), error.status, media_type=MEDIA_TYPE)

    @app.exception_handler(UserError)
    async def user_error(_request: Request, error: UserError) -> Response:
        found = Problem.of(error)
        return JSONResponse(found.document(), found.status, media_type=MEDIA_TYPE)

    async def named(scope, receive, send):
        scope.setdefault("state", {})["caller"] = app.state.caller
        await app(scope, receive, send)

    app.state.whole = named
    yield app
    store.close()


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app.state.whole)


@pytest.fixture
def service(app: FastAPI) -> SimpleNamespace:
    return app.state.service


@contextmanager
def served(app: Callable) -> Iterator[int]:
    """Serve on a free port, and wait for the requests that are being answered when the block ends."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def is_clean(service) -> bool:
    return not list(service.store.incoming.iterdir()) and not list(service.store.datasets.iterdir())


def test_a_raw_upload_is_taken_and_will_be_checked(client, service):
    answer = client.post("/v1/datasets?name=Ward+3", content=zip_of(FILES), headers=ZIP)
    body = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/datasets/{body['id']}")
    assert (body["name"], body["state"], body["records"], body["by"]) == ("Ward 3", "checking", None, "local")
    assert [row["dataset"] for row in service.store.rows("SELECT dataset FROM jobs")] == [body["id"]]
    assert client.get(answer.headers["location"]).json() == body
    assert not list(service.store.incoming.iterdir())


def test_what_the_check_found_is_shown_and_lists_are_short(client, service):
    made = client.post("/v1/datasets", content=tar_of(FILES), headers={"content-type": "application/x-tar"}).json()
    service.datasets.checked(made["id"], json.dumps(FOUND), None)
    shown = client.get(f"/v1/datasets/{made['id']}").json()
    assert (shown["state"], shown["records"], shown["unusable"], shown["classes"]) == ("ready", 3, 1, {"AF": 2})
    assert shown["problems"] == [{"record": "r3", "problem": "file missing", "usable": False}]
    assert shown["duplicates"] == [["r1", "r2"]]
    (listed,) = client.get("/v1/datasets").json()["datasets"]
    assert listed == {name: value for name, value in shown.items() if name not in ("problems", "duplicates")}


@pytest.mark.parametrize(("fields", "name"), [({"name": "Ward 3"}, "Ward 3"), ({"name": ""}, "märz"), ({}, "märz")])
def test_a_form_is_taken_without_a_script(client, service, fields, name):
    answer = client.post("/v1/datasets", data=fields, files={"archive": ("märz.tar.gz", tar_of(FILES, "w:gz"))})
    assert (answer.status_code, answer.json()["name"]) == (202, name)
    assert (service.datasets.get(answer.json()["id"]).folder / "r1.dat").read_bytes() == b"1234"


def test_a_form_that_comes_in_pieces_comes_out_to_the_byte(app, service):
    service.settings = replace(service.settings, max_upload_mb=10)
    content = b"".join(b"\r\n--boundary\r\n-" + k.to_bytes(3, "big") * 7 for k in range(80_000))
    head = b'--boundary-x\r\ncontent-disposition: form-data; name="archive"; filename="a"\r\n\r\n'
    body = head + zip_of({"r1.dat": content}, ZIP_STORED) + b"\r\n--boundary-x--\r\n"
    with served(app.state.whole) as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/datasets", body, {"content-type": "multipart/form-data; boundary=boundary-x"})
        made = json.loads(connection.getresponse().read())
        connection.close()
    assert (service.datasets.get(made["id"]).folder / "r1.dat").read_bytes() == content


@pytest.mark.parametrize(
    "body",
    [
        b"", b"--x\r\n", b"no form", b"--x--\r\n",
        b'--x\r\ncontent-disposition: form-data; name="name"\r\n\r\nward\r\n--x--\r\n',
        b'--x\r\ncontent-disposition: form-data; name="archive"; filename="a.zip"\r\n\r\nPK',
        b'--x\r\ncontent-disposition: form-data; name="name"\r\n\r\n' + b"w" * 3000 + b"\r\n--x--\r\n",
        2 * b'--x\r\ncontent-disposition: form-data; name="archive"; filename="a"\r\n\r\nPK\r\n' + b"--x--\r\n",
    ],
)  # fmt: skip
def test_a_form_without_a_whole_archive_is_refused(client, service, body):
    answer = client.post("/v1/datasets", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert (answer.status_code, answer.headers["content-type"]) == (400, MEDIA_TYPE)
    assert is_clean(service)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 300])
def test_a_form_without_a_boundary_is_refused(client, kind):
    assert client.post("/v1/datasets", content=b"x", headers={"content-type": kind}).status_code == 400


@pytest.mark.parametrize("kind", ["text/csv", "", "image/png"])
def test_another_kind_of_content_is_refused(client, kind):
    assert client.post("/v1/datasets", content=b"x", headers={"content-type": kind}).status_code == 415


def test_what_is_no_archive_is_one_sentence(client, service):
    answer = client.post("/v1/datasets", content=b"record,AF\n", headers=ZIP)
    assert (answer.status_code, answer.json()["exit_code"]) == (422, 3)
    assert answer.json()["detail"] == "what was uploaded is neither a zip nor a tar archive"
    assert is_clean(service)


def test_an_upload_that_says_it_is_too_large_is_refused(client, service):
    answer = client.post("/v1/datasets", content=bytes(1_000_001), headers=ZIP)
    assert answer.status_code == 413
    assert answer.json()["detail"].endswith("--max-upload-mb (ECGADVISE_MAX_UPLOAD_MB) is 1")
    assert is_clean(service)


def test_an_upload_that_does_not_say_how_large_it_is_is_counted(client, service):
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(100_000)

    answer = client.post(
        "/v1/datasets", content=(piece for piece, _ in zip(endless(), range(20), strict=False)), headers=ZIP
    )
    assert answer.status_code == 413
    assert "ECGADVISE_MAX_UPLOAD_MB" in answer.json()["detail"]
    assert is_clean(service)


def test_a_form_with_too_large_an_archive_is_refused(client, service):
    answer = client.post("/v1/datasets", files={"archive": ("a.zip", bytes(1_030_000))})
    assert answer.status_code == 413
    assert is_clean(service)


def test_a_full_disk_refuses_an_upload_and_keeps_what_is_there(client, service, monkeypatch):
    kept = client.post("/v1/datasets", content=zip_of(FILES), headers=ZIP).json()
    service.settings = replace(service.settings, min_free_mb=10)
    monkeypatch.setattr(service.store, "free_mb", lambda: 10.05)
    answer = client.post("/v1/datasets", content=bytes(200_000), headers=ZIP)
    assert (answer.status_code, answer.json()["type"]) == (507, "/docs#problem-disk-full")
    assert "--min-free-mb (ECGADVISE_MIN_FREE_MB) is 10" in answer.json()["detail"]
    assert [one["id"] for one in client.get("/v1/datasets").json()["datasets"]] == [kept["id"]]


def test_the_same_archive_again_is_the_dataset_that_is_there(client, service):
    first = client.post("/v1/datasets?name=a", content=zip_of(FILES), headers=ZIP)
    again = client.post("/v1/datasets?name=b", content=zip_of(FILES), headers=ZIP)
    assert (again.status_code, again.json()) == (202, first.json())
    service.datasets.checked(first.json()["id"], json.dumps(FOUND), None)
    last = client.post("/v1/datasets?name=c", content=zip_of(FILES), headers=ZIP)
    assert (last.status_code, last.json()["state"]) == (200, "ready")


def test_a_folder_of_the_operators_is_taken(client, service):
    (service.settings.records_root / "ward" / "2026").mkdir(parents=True)
    answer = client.post("/v1/datasets", json={"folder": "ward/2026"})
    body = answer.json()
    assert (answer.status_code, body["name"], body["folder"], body["uploaded"]) == (202, "2026", "ward/2026", False)
    assert str(service.settings.records_root) not in answer.text


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 422), (b"{", 422), (b"[]", 422), (b'{"folder": 3}', 422), (b'{"folder": "a", "x": 1}', 422),
     (b'{"folder": "../x"}', 400), (b'{"folder": "/etc"}', 400), (b'{"folder": "nowhere"}', 400),
     (b'{"folder": "\\ud800"}', 422), (b'{"folder": "a", "name": "\\n"}', 400), (b"[" * 70_000, 413)],
)  # fmt: skip
def test_a_folder_that_cannot_be_is_refused(client, service, body, status):
    answer = client.post("/v1/datasets", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    assert service.datasets.list() == []


def test_a_dataset_whose_check_is_not_taken_is_not_kept_either(client, service):
    service.jobs.refusal = Problem(429, "100 jobs wait")
    answer = client.post("/v1/datasets", content=zip_of(FILES), headers=ZIP)
    assert answer.status_code == 429
    assert service.datasets.list() == []
    assert is_clean(service)


def test_a_deleted_dataset_is_gone_with_what_was_made_of_it(client, service):
    made = client.post("/v1/datasets", content=zip_of(FILES), headers=ZIP).json()
    assert client.delete(f"/v1/datasets/{made['id']}").status_code == 409  # its check waits
    with service.store.transaction() as db:
        db.execute("UPDATE jobs SET state = 'done'")
    answer = client.delete(f"/v1/datasets/{made['id']}")
    assert answer.json() == {
        "id": made["id"], "name": "records", "records": True, "jobs": [f"j{made['id']}"], "models": [], "pilots": [],
        "prepared": [],
    }  # fmt: skip
    assert client.get(f"/v1/datasets/{made['id']}").status_code == 404
    assert client.delete(f"/v1/datasets/{made['id']}").status_code == 404


@pytest.mark.parametrize(
    ("role", "allowed"),
    [(Role.READER, {"GET"}), (Role.RUNNER, {"GET", "POST"}), (Role.ADMIN, {"GET", "POST", "DELETE"})],
)
def test_a_role_may_do_what_it_is_for(app, client, role, allowed):
    app.state.caller = Caller("ward", role)
    for method, address in (("GET", "/v1/datasets"), ("POST", "/v1/datasets"), ("DELETE", "/v1/datasets/d0")):
        refused = client.request(method, address, content=b"x").status_code == 403
        assert refused is (method not in allowed)


def test_the_openapi_document_describes_every_form_of_upload(client):
    document = client.get("/openapi.json").json()["paths"]["/v1/datasets"]["post"]
    assert {"application/zip", "multipart/form-data", "application/json"} <= set(document["requestBody"]["content"])
    assert {"202", "200", "413", "415", "422", "507"} <= set(document["responses"])


def test_fifty_uploads_at_once_are_fifty_datasets(app, service):
    archives = [(tar_of if k % 2 else zip_of)({"ward/r1.dat": k.to_bytes(2, "big") * 20_000}) for k in range(50)]

    def post(k: int) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", f"/v1/datasets?name=ward-{k}", archives[k], ZIP)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return answer.status, body["id"]

    with served(app.state.whole) as port, ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(50)))
    assert {status for status, _ in answers} == {202}
    assert len({one for _, one in answers}) == 50
    for k, (_, one) in enumerate(answers):
        dataset = service.datasets.get(one)
        assert dataset.name == f"ward-{k}"
        assert (dataset.folder / "r1.dat").read_bytes() == k.to_bytes(2, "big") * 20_000
    assert not list(service.store.incoming.iterdir())


@pytest.mark.parametrize(
    "head",
    [b"content-type: application/zip\r\ncontent-length: 500000",
     b"content-type: application/zip\r\ntransfer-encoding: chunked",
     b"content-type: multipart/form-data; boundary=x\r\ncontent-length: 500000"],
)  # fmt: skip
def test_an_upload_whose_sender_has_gone_leaves_no_file(app, service, head):
    with served(app.state.whole) as port, socket.create_connection(("127.0.0.1", port)) as sender:
        part = b'--x\r\ncontent-disposition: form-data; name="archive"; filename="a"\r\n\r\n' + bytes(1000)
        body = b"400\r\n" + bytes(1024) + b"\r\n" if b"chunked" in head else part
        sender.sendall(b"POST /v1/datasets HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n\r\n" + body)
        while not list(service.store.incoming.iterdir()):
            threading.Event().wait(0.01)
    assert is_clean(service)
    assert service.datasets.list() == []


@pytest.mark.parametrize("odd", ["%00", "%ff", "d%2f..%2f..", "%ed%a0%80", "x" * 5000, "'; DROP TABLE datasets; --"])
def test_an_id_that_is_none_is_not_found(client, odd):
    for method in ("GET", "DELETE"):
        answer = client.request(method, f"/v1/datasets/{odd}")
        assert answer.status_code == 404


KINDS = st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data; boundary*=utf-8''x",
                         "multipart/form-data; boundary", 'multipart/form-data; boundary="', "multipart/form-data;;=",
                         "application/json", "application/zip"])  # fmt: skip
PIECES = st.sampled_from([b"--x\r\n", b"--x--", b"\r\n", b"content-disposition: form-data; ", b'name="archive"', b"; ",
                          b"filename*=utf-8''%ff", b'filename="\xff"', b'name="name"', b"\r\n\r\n", b"PK\x03\x04", b"{",
                          b'"folder":', b'"\xed\xa0\x80"', b"}", b"\x1f\x8b", zip_of(FILES)])  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(KINDS, st.lists(PIECES, max_size=12).map(b"".join), st.text(max_size=8))
def test_no_body_whatever_is_more_than_a_problem(client, service, kind, body, name):
    answer = client.post("/v1/datasets", content=body, headers={"content-type": kind}, params={"name": name})
    assert answer.status_code in (200, 202, 400, 413, 415, 422)
    assert not list(service.store.incoming.iterdir())
