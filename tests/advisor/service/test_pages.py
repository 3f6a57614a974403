"""The pages without a script: the question, logging in, what is loaded, and nothing of anybody's unescaped."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path

import pytest
from markupsafe import escape as markup
from starlette.testclient import TestClient

from advisor.service.guard import COOKIE
from advisor.service.jobs.events import Streams
from advisor.service.problems import KINDS
from advisor.service.tokens import Role, new_token
from advisor.text.table import NOTICE
from tests.advisor.service.page_rules import Page, faults, words
from tests.advisor.service.page_steps import add_dataset, add_job, set_state, write

EVIL = "<script>alert('x')</script>\"'&"
TOLD = str(markup(EVIL))
ORIGIN = {"origin": "http://127.0.0.1:8712"}


def test_every_page_keeps_the_rules_and_says_what_the_service_is_not_for(pages: TestClient):
    dataset = add_dataset(pages)
    job = add_job(pages, dataset)
    checked = add_dataset(pages, "being read", "checking")
    for path in ("/", "/?n_records=300&arch=rnn&label_cost=2&gpu_cost=1.5&target=0.9", "/?n_records=0", "/datasets",
                 f"/datasets/{dataset}", f"/datasets/{checked}", f"/datasets/{dataset}/delete", "/jobs", f"/jobs/{job}",
                 "/models", "/docs", "/login", "/nothing"):  # fmt: skip
        answer = pages.get(path)
        assert answer.status_code == {"/?n_records=0": 400, "/nothing": 404}.get(path, 200), path
        assert faults(answer.text) == [], path
        assert NOTICE in answer.text, path


def test_a_page_that_breaks_the_rules_is_seen():
    """Else the test above could not fail."""
    bad = (
        '<main><h1>a</h1><h1>b</h1><input id="n"><p id="n" onclick="f()" aria-labelledby="m"></p></main>'
        '<script>f()</script><a href="https://elsewhere.invalid/">x</a><b>'
    )
    assert len(faults(bad)) == 8


def test_the_page_gives_the_answer_of_the_interface(pages: TestClient):
    asked = "n_records=700&arch=cnn&label_cost=2&gpu_cost=1.5"
    page, document = pages.get(f"/?{asked}"), pages.get(f"/v1/recommendation?{asked}").json()
    said = words(page.text)
    assert document["why"] in said
    assert "700 labelled ECG records" in said
    for arm in document["arms"]:
        assert f"{arm['score']['mean']:.3f}" in said
    assert all(warning in said for warning in document["warnings"])
    assert "ecgadvise recommend --n-records=700 --arch=cnn --label-cost=2.0 --gpu-cost=1.5" in said
    links = [given["href"] for given in Page(page.text).all("a") if given["href"].startswith("/v1/")]
    for link in links:
        assert pages.get(link).status_code == 200, link
    assert [link.partition("?")[0] for link in links] == ["/v1/report", "/v1/report", "/v1/recommendation"]


def test_without_a_question_the_commonest_is_answered(pages: TestClient):
    page = Page(pages.get("/").text)
    assert page.find("ask-n_records")["value"] == "5000"
    assert "5,000 labelled ECG records" in " ".join(page.texts["h2"])


def test_a_question_without_sense_stays_as_it_was_filled_in(pages: TestClient):
    answer = pages.get("/?n_records=0&arch=rnn&label_cost=2.5&upstream=none")
    page = Page(answer.text)
    assert answer.status_code == 400
    assert "“Labelled records” is 0: give a positive number of labelled records" in words(answer.text)
    assert page.find("ask-n_records") | {"value": "0", "aria-invalid": "true"} == page.find("ask-n_records")
    assert "ask-error" in page.find("ask-n_records")["aria-describedby"]
    assert page.find("ask-label_cost")["value"] == "2.5"
    chosen = [given["value"] for given in page.all("option") if "selected" in given]
    assert {"rnn", "none"} <= set(chosen)
    assert "<details open>" in answer.text, "what was filled in is seen"


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("n_records=many", 422, "“Labelled records”: give a whole number"),
        ("n_records=500&margin=a", 422, "“Difference that matters”: give a number"),
        ("n_records=500&arch=unknown", 400, "no network is named 'unknown'"),
        ("n_records=500&labels=AF", 400, "give names, each with its share of the records"),
        ("n_records=99999999&arch=cnn", 422, "no answer is given beyond"),
        ("n_records=500&data=d000000000000", 404, "there is no dataset"),
        ("n_records=", 400, "“Labelled records” is missing"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(pages: TestClient, query: str, status: int, said: str):
    answer = pages.get(f"/?{query}")
    assert answer.status_code == status
    assert said in words(answer.text)
    assert "<h2>No answer</h2>" in answer.text


def test_a_network_without_runs_gets_what_is_published_and_the_pilot_that_would_tell(pages: TestClient):
    answer = pages.get("/?n_records=500&upstream=ECG-FM")
    told = pages.get("/v1/recommendation?n_records=500&upstream=ECG-FM").json()
    assert answer.status_code == told["status"] == 422
    said = words(answer.text)
    for row in told["published"]["no_evidence"]["published"]:
        assert row["task"] in said and f"{row['fine_tuned']:.3f}" in said
    assert told["published"]["no_evidence"]["pilot"] in said


def test_nothing_that_others_wrote_is_read_as_a_page(pages: TestClient):
    problem = {"record": EVIL, "problem": f"odd {EVIL}", "usable": True}
    dataset = add_dataset(pages, EVIL, classes={EVIL: 3}, problems=[problem], duplicates=[[EVIL, "b"]])
    job = add_job(pages, dataset, "failed")
    set_state(pages, job, "failed", f"it ended with {EVIL}")
    write(pages, job, "log", EVIL)
    for path in ("/", "/datasets", f"/datasets/{dataset}", f"/datasets/{dataset}/delete", "/jobs", f"/jobs/{job}"):
        answer = pages.get(path)
        assert TOLD in answer.text, path
        assert "<script>alert" not in answer.text, path
        assert faults(answer.text) == [], path
    page = pages.get("/", params={"n_records": EVIL, "arch": EVIL, "labels": EVIL})
    assert page.status_code == 422
    assert "<script>alert" not in page.text
    assert page.text.count(TOLD) >= 3


def test_only_known_files_are_loaded_and_kept_by_their_version(pages: TestClient):
    links = [given.get("href") or given.get("src", "") for given in Page(pages.get("/").text).all("link", "script")]
    loaded = [link for link in links if link.startswith("/static/")]
    assert len(loaded) == 3
    for link in loaded:
        assert "immutable" in pages.get(link).headers["cache-control"]
        assert pages.get(link.partition("?")[0]).headers["cache-control"] == "no-store"
    assert "slider" in pages.get("/static/report.js").text
    for name in ("other.css", "..%2fpages.py", "%2e%2e/pages.py"):
        assert pages.get(f"/static/{name}").status_code == 404


def test_the_documentation_has_every_route_and_every_kind_of_problem(pages: TestClient):
    text, document = pages.get("/docs").text, pages.get("/openapi.json").json()
    page = Page(text)
    ids = {given["id"] for _, given in page.elements if "id" in given}
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            assert f"<code>{method.upper()} {escape(path)}</code>" in text
            for parameter in one.get("parameters", ()):
                assert f"<code>{parameter['name']}</code>" in text
    assert {f"problem-{kind}" for kind in KINDS} <= ids
    targets = {given["href"][1:] for given in page.all("a") if given["href"].startswith("#")}
    assert targets <= ids


@pytest.fixture
def closed(open_pages: Callable[..., TestClient], tmp_path: Path) -> tuple[TestClient, dict[str, str]]:
    """A service that takes tokens, and one of each role."""
    made = {role.name.lower(): new_token(role.name.lower(), role, None) for role in Role if role}
    (tmp_path / "tokens.toml").write_text("\n".join(table for _, table in made.values()))
    return open_pages(tokens=tmp_path / "tokens.toml"), {name: token for name, (token, _) in made.items()}


def test_a_visitor_logs_in_with_a_token_and_out_again(closed: tuple[TestClient, dict[str, str]]):
    pages, tokens = closed
    assert pages.get("/").headers["location"] == "/login"
    assert "Datasets" not in pages.get("/login").text
    refused = pages.post("/login", data={"token": "a-token-that-nobody-has"})
    assert refused.status_code == 401
    assert "not known" in refused.text and "a-token-that-nobody-has" not in refused.text
    assert COOKIE not in pages.cookies
    answer = pages.post("/login", data={"token": tokens["runner"]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=strict", "max-age=43200", "path=/"))
    assert "secure" not in cookie and tokens["runner"] not in cookie
    assert "runner (runner)" in words(pages.get("/").text)
    assert pages.post("/logout", headers=ORIGIN).headers["location"] == "/login"
    assert pages.get("/").headers["location"] == "/login"


def test_the_cookie_goes_over_tls_alone_where_there_is_tls(closed: tuple[TestClient, dict[str, str]]):
    pages, tokens = closed
    answer = pages.post("/login", data={"token": tokens["reader"]}, headers={"x-forwarded-proto": "https"})
    assert "secure" in answer.headers["set-cookie"].lower()


def test_a_session_that_was_ended_is_nobodys(closed: tuple[TestClient, dict[str, str]]):
    pages, tokens = closed
    pages.post("/login", data={"token": tokens["reader"]})
    held = pages.cookies[COOKIE]
    pages.post("/logout", headers=ORIGIN)
    assert pages.get("/", headers={"cookie": f"{COOKIE}={held}"}).headers["location"] == "/login"


def test_what_a_token_has_opened_ends_when_it_is_taken_out_of_the_file(
    closed: tuple[TestClient, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until
):
    """Its session, and events that would go on for as long as the job."""
    pages, tokens = closed
    for name in ("_LOOK_SECONDS", "_SETTLED_SECONDS"):
        monkeypatch.setattr(f"advisor.service.tokens.{name}", 0.0)
    monkeypatch.setattr("advisor.service.jobs.jobs.Jobs.is_watching", True)
    pages.post("/login", data={"token": tokens["runner"]})
    pages.headers["origin"] = ORIGIN["origin"]
    job = add_job(pages, add_dataset(pages), "running")
    bearer = {"authorization": f"Bearer {tokens['runner']}"}
    file = tmp_path / "tokens.toml"
    with ThreadPoolExecutor(2) as pool:
        watched = [pool.submit(pages.get, f"/v1/jobs/{job}/events", headers=one) for one in ({}, bearer)]
        until(lambda: getattr(pages.app.state, "streams", Streams()).open == 2)
        file.write_text(re.sub(r"\[runner\][^\[]*", "", file.read_text()))
        try:
            assert [stream.result(timeout=60).status_code for stream in watched] == [200, 200]
        finally:
            set_state(pages, job, "done")  # else a failure would wait for the streams
    assert pages.get("/").headers["location"] == "/login"
    assert pages.get("/v1/jobs", headers=bearer).status_code == 401
    assert pages.get("/v1/jobs", headers={"authorization": f"Bearer {tokens['admin']}"}).status_code == 200


def test_a_form_from_another_site_is_refused(closed: tuple[TestClient, dict[str, str]]):
    pages, tokens = closed
    pages.post("/login", data={"token": tokens["runner"]})
    answer = pages.post("/jobs", data={"kind": "pilot"}, headers={"origin": "https://elsewhere.invalid"})
    assert answer.status_code == 403


def test_a_reader_is_offered_no_work_and_refused_it(closed: tuple[TestClient, dict[str, str]]):
    pages, tokens = closed
    dataset = add_dataset(pages)
    pages.post("/login", data={"token": tokens["reader"]})
    for path in ("/datasets", "/jobs", f"/datasets/{dataset}"):
        page = pages.get(path).text
        assert page.count('<form method="post"') == 1 and 'action="/logout"' in page, path
    refused = pages.post("/jobs", data={"kind": "pilot", "dataset": dataset}, headers=ORIGIN)
    assert refused.status_code == 403 and "this takes runner" in words(refused.text)
    assert faults(refused.text) == []
    assert pages.get(f"/datasets/{dataset}/delete").status_code == 403
