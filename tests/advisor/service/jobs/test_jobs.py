"""What callers see of jobs: the routes, with the same work as one job, pages of a list, events, logs and roles."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import anyio
import pytest
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.responses import JSONResponse

from advisor.service.jobs.events import Streams, job_events
from advisor.service.jobs.job import State, read_progress
from advisor.service.jobs.kinds import CheckJob, ExportJob, TrainJob
from advisor.service.jobs.launching import is_alive
from advisor.service.jobs.logs import MOST
from advisor.service.jobs.table import JobTable
from advisor.service.problems import Problem
from advisor.service.routes.jobs import router
from advisor.service.served_models.library import Library
from advisor.service.settings import Settings
from advisor.service.store import ServiceStoreError
from advisor.service.tokens import Caller, Role

VERDICT = {"best": "fine-tune", "headline": "Fine-tune", "verdict": "fine-tune", "why": "certain", "pairs": 2}
PROGRESS = {"what": "runs", "done": 6, "total": 24, "seconds_left": 310, "words": "runs 6 of 24", "verdict": VERDICT}


def client(jobs, role: Role = Role.RUNNER) -> TestClient:
    app = FastAPI()
    app.include_router(router)
    app.state.service = SimpleNamespace(jobs=jobs, hide_paths=str)

    @app.middleware("http")
    async def known(request: Request, call_next):
        request.state.caller, request.state.is_admitted = Caller("ward-3", role), lambda: True
        return await call_next(request)

    @app.exception_handler(Problem)
    async def refuse(_request: Request, error: Problem):
        return JSONResponse(error.document(), error.status)

    return TestClient(app)


def look(jobs) -> None:
    jobs._supervisor.look()


def test_a_job_is_on_the_disk_when_it_is_answered_and_the_same_work_is_one_job(place):
    jobs = place.jobs()
    asked = {"kind": "check", "dataset": place.datasets.add("print(1)")}
    with client(jobs) as http:
        first, second = http.post("/v1/jobs", json=asked), http.post("/v1/jobs", json=asked)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.headers["location"] == second.headers["location"] == f"/v1/jobs/{first.json()['id']}"
    assert first.json() == second.json()
    assert (first.json()["state"], first.json()["by"], first.json()["percent"]) == ("queued", "ward-3", None)
    assert JobTable(place.store).find(first.json()["id"]).state is State.QUEUED


def test_the_same_work_asked_for_at_once_is_one_job(place):
    jobs, asked = place.jobs(), CheckJob(dataset=place.datasets.add("print(1)"))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _k: jobs.submit(asked, "tester"), range(16)))
    assert len({job.id for job, _ in made}) == 1
    assert sum(is_new for _, is_new in made) == 1


def test_the_same_work_after_a_failure_is_the_same_job_begun_again(place, until):
    jobs = place.jobs()
    asked = CheckJob(dataset=place.datasets.add("import sys; sys.exit(1)"))
    job, _ = jobs.submit(asked, "tester")
    until(lambda: jobs.get(job.id).state.is_final, lambda: look(jobs))
    again, is_new = jobs.submit(asked, "another")
    assert (again.id, is_new, again.state, again.problem) == (job.id, False, State.QUEUED, None)


def test_no_more_jobs_wait_than_the_operator_allows(place):
    jobs = place.jobs(max_jobs_waiting=2)
    known = [place.submit(jobs, "print(1)") for _ in range(2)]
    with client(jobs) as http:
        refused = http.post("/v1/jobs", json={"kind": "check", "dataset": place.datasets.add("print(1)")})
        same = http.post("/v1/jobs", json={"kind": "check", "dataset": known[0].dataset})
    assert (refused.status_code, refused.json()["type"]) == (429, "/docs#problem-too-many")
    assert "--max-jobs-waiting (ECGADVISE_MAX_JOBS_WAITING)" in refused.json()["detail"]
    assert same.status_code == 200


def test_the_list_is_newest_first_in_pages_and_can_be_chosen_from(place):
    jobs = place.jobs()
    made = [place.submit(jobs, "print(1)").id for _ in range(5)]
    jobs.cancel(made[2])
    with client(jobs, Role.READER) as http:
        first = http.get("/v1/jobs", params={"limit": 2}).json()
        second = http.get("/v1/jobs", params={"limit": 2, "before": first["next"]}).json()
        last = http.get("/v1/jobs", params={"limit": 2, "before": second["next"]}).json()
        cancelled = http.get("/v1/jobs", params={"state": "cancelled"}).json()
        of_one = http.get("/v1/jobs", params={"dataset": jobs.get(made[1]).dataset}).json()
        pilots = http.get("/v1/jobs", params={"kind": "pilot"}).json()
        unknown = http.get("/v1/jobs", params={"before": "j000000000000"}).json()
    assert [job["id"] for page in (first, second, last) for job in page["jobs"]] == made[::-1]
    assert last["next"] is None
    assert [job["id"] for job in cancelled["jobs"]] == [made[2]]
    assert [job["id"] for job in of_one["jobs"]] == [made[1]]
    assert (pilots["jobs"], unknown["jobs"]) == ([], [])


def test_a_running_job_says_how_far_it_is_and_a_done_one_its_answer(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, f"""
        import json, os, time
        from pathlib import Path
        Path(os.environ["ECGADVISE_PROGRESS"]).write_text({json.dumps(PROGRESS)!r})
        while not Path("go").exists():
            time.sleep(0.01)
        print('{{"best": "scratch"}}')
    """)  # fmt: skip
    until(lambda: jobs.get(job.id).progress() is not None, lambda: look(jobs))
    with client(jobs, Role.READER) as http:
        running = http.get(f"/v1/jobs/{job.id}").json()
        (job.folder / "go").touch()
        until(lambda: jobs.get(job.id).state.is_final, lambda: look(jobs))
        done = http.get(f"/v1/jobs/{job.id}").json()
        listed = http.get("/v1/jobs").json()["jobs"][0]
    assert (running["state"], running["percent"], running["seconds_left"]) == ("running", 25.0, 310.0)
    assert (running["verdict"], running["answer"], running["progress"]["words"]) == (VERDICT, None, "runs 6 of 24")
    assert (done["state"], done["percent"], done["seconds_left"]) == ("done", 100.0, None)
    assert done["answer"] == {"best": "scratch"}
    assert {**listed, "answer": done["answer"]} == done


def test_a_progress_file_that_says_something_else_says_nothing(tmp_path):
    path = tmp_path / "progress.json"
    assert read_progress(path) is None
    for content in (
        "",
        "[]",
        "3",
        '{"what": "runs"}',
        json.dumps({**PROGRESS, "done": "many"}),
        json.dumps({**PROGRESS, "verdict": {"best": "scratch"}}),
        json.dumps({**PROGRESS, "verdict": 3}),
        "\udcff{",
    ):
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        assert read_progress(path) is None
    path.write_text(json.dumps({**PROGRESS, "done": 0, "total": 0, "verdict": None}))
    assert read_progress(path).percent == 0.0


def test_events_follow_a_job_to_its_end(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, "print('{}')")
    jobs.start()
    with client(jobs, Role.READER) as http:
        answer = http.get(f"/v1/jobs/{job.id}/events")
    jobs.close()
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [event.split("\n") for event in answer.text.split("\n\n") if event]
    assert all(event[0] == "event: job" and event[1].startswith("data: ") for event in events)
    states = [json.loads(event[1].removeprefix("data: "))["state"] for event in events]
    assert states[-1] == "done"
    assert states.count("done") == 1


def test_events_come_with_each_change_and_a_sign_of_life_in_between():
    looks = iter([("a", False), ("a", False), ("a", False), ("b", False), ("b", True)])
    times = iter([0.0, 0.0, 10.0, 16.0, 16.0, 17.0, 18.0])

    async def follow() -> list[str]:
        return [event async for event in job_events(lambda: next(looks), CapacityLimiter(1), lambda: next(times), 0.0)]

    assert anyio.run(follow) == ["event: job\ndata: a\n\n", ": still here\n\n", "event: job\ndata: b\n\n"]


def test_events_keep_no_thread_that_other_requests_have():
    async def follow() -> tuple[int, float]:
        everybody, looks = to_thread.current_default_thread_limiter(), CapacityLimiter(1)
        kept = [json.loads(event.split("data: ")[1]) async for event in job_events(
            lambda: (json.dumps([looks.borrowed_tokens, everybody.borrowed_tokens]), True), looks)]  # fmt: skip
        return kept[0]

    assert anyio.run(follow) == [1, 0]


def test_a_server_has_so_many_streams_at_a_time_and_gives_the_place_of_one_that_ended(place, until, monkeypatch):
    monkeypatch.setattr("advisor.service.jobs.events.MOST_STREAMS", 2)
    jobs = place.jobs(jobs_at_once=1)
    job = place.submit(jobs, place.WAITS)
    monkeypatch.setattr(type(jobs), "is_watching", True)
    with client(jobs, Role.READER) as http, ThreadPoolExecutor(2) as pool:
        address = f"/v1/jobs/{job.id}/events"
        streams = [pool.submit(http.get, address) for _ in range(2)]
        until(lambda: getattr(http.app.state, "streams", Streams()).open == 2)
        refused = http.get(address)
        jobs.cancel(job.id)
        assert [stream.result().status_code for stream in streams] == [200, 200]
        assert http.get(address).status_code == 200
    assert (refused.status_code, refused.json()["type"]) == (429, "/docs#problem-too-many")
    assert refused.json()["detail"].startswith("2 streams of events are open, as many as a server has at a time")
    assert http.app.state.streams.open == 0


def test_a_log_is_read_from_its_end_or_in_parts(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, f"import sys; sys.stderr.write('x' * {MOST} + 'end')")
    with client(jobs, Role.READER) as http:
        assert http.get(f"/v1/jobs/{job.id}/log").text == ""
        until(lambda: jobs.get(job.id).state.is_final, lambda: look(jobs))
        last = http.get(f"/v1/jobs/{job.id}/log")
        first = http.get(f"/v1/jobs/{job.id}/log", params={"offset": 0})
        rest = http.get(f"/v1/jobs/{job.id}/log", params={"offset": first.headers["x-next-offset"]})
        beyond = http.get(f"/v1/jobs/{job.id}/log", params={"offset": 10**15})
    assert (len(last.text), last.text[-3:]) == (MOST, "end")
    assert first.text.startswith("--- attempt 1: ecgadvise data check")
    assert (first.text + rest.text)[-MOST:] == last.text
    assert (beyond.status_code, beyond.text) == (200, "")


def test_readers_change_nothing_and_what_is_not_there_is_not_found(place):
    jobs = place.jobs()
    job = place.submit(jobs, "print(1)")
    with client(jobs, Role.READER) as http:
        for method, address in (("post", "/v1/jobs"), ("delete", f"/v1/jobs/{job.id}"),
                                ("post", f"/v1/jobs/{job.id}/resubmit")):  # fmt: skip
            body = {"json": {"kind": "check", "dataset": job.dataset}} if address == "/v1/jobs" else {}
            assert getattr(http, method)(address, **body).status_code == 403
    with client(jobs) as http:
        for name in ("j000000000000", "x", "%00", "j" * 101, "j00000000000%0a", "%ed%a0%80"):
            for part in ("", "/events", "/log"):
                assert http.get(f"/v1/jobs/{name}{part}").status_code in (404, 422), name
            assert http.delete(f"/v1/jobs/{name}").status_code in (404, 422)
            assert http.post(f"/v1/jobs/{name}/resubmit").status_code in (404, 422)
        assert http.post("/v1/jobs", json={"kind": "check", "dataset": "d000000000000"}).status_code == 404
    assert jobs.get(job.id).state is State.QUEUED


def test_a_job_is_deleted_once(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, "import time; time.sleep(600)")
    look(jobs)
    with client(jobs) as http:
        first, second = http.delete(f"/v1/jobs/{job.id}"), http.delete(f"/v1/jobs/{job.id}")
    assert (first.status_code, first.json()["is_ending"], second.status_code) == (200, True, 409)
    place.now = 1.0
    until(lambda: not is_alive(job.folder), lambda: look(jobs))
    look(jobs)
    assert jobs.get(job.id).state is State.CANCELLED


def test_a_model_is_exported_once_it_is_trained(place):
    jobs = place.jobs()
    train, _ = jobs.submit(TrainJob(dataset=place.datasets.add("")), "tester")
    for model, status in ((train.model, 409), ("m000000000000", 404)):
        with pytest.raises(Problem) as refused:
            jobs.submit(ExportJob(model=model), "tester")
        assert refused.value.status == status
        with pytest.raises(Problem) as refused:
            jobs.submit(TrainJob(dataset=train.dataset, from_network=model), "tester")
        assert refused.value.status == status
    with place.store.transaction() as db:
        db.execute("UPDATE jobs SET state = 'done'")
    (place.store.models / train.model).mkdir()
    assert jobs.submit(ExportJob(model=train.model), "tester")[0].model == train.model
    assert len(jobs.list(kind="export", model=train.model)) == 1


def test_a_model_that_was_deleted_is_trained_again_and_used_for_nothing(place):
    jobs, library = place.jobs(), Library(place.store, Settings(place.store.root))
    asked = TrainJob(dataset=place.datasets.add(""))
    train, _ = jobs.submit(asked, "tester")
    (place.store.models / train.model).mkdir()
    with pytest.raises(Problem, match=f"the job {train.id} works on this model"):
        library.delete(train.model)
    assert jobs.submit(asked, "tester")[0].id == train.id
    with place.store.transaction() as db:
        db.execute("UPDATE jobs SET state = 'done'")
    export, _ = jobs.submit(ExportJob(model=train.model), "tester")
    jobs.cancel(export.id)
    library.delete(train.model)
    again, is_new = jobs.submit(asked, "tester")
    assert (is_new, again.id != train.id, again.model != train.model) == (True, True, True)
    uses = [ExportJob(model=train.model), ExportJob(model=train.model, opset=19)]
    for use in (*uses, TrainJob(dataset=asked.dataset, from_network=train.model)):
        with pytest.raises(Problem, match=f"the model {train.model} was deleted") as refused:
            jobs.submit(use, "tester")
        assert refused.value.status == 404
    with pytest.raises(Problem, match="was deleted"):
        jobs.resubmit(export.id, "tester")
    assert {job.id for job in jobs.list()} == {train.id, export.id, again.id}


def test_a_model_is_still_there_and_trained_once_more_where_a_server_dies_while_it_deletes(place, monkeypatch):
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    jobs, library = place.jobs(), Library(place.store, Settings(place.store.root))
    asked = TrainJob(dataset=place.datasets.add(""))
    train, _ = jobs.submit(asked, "tester")
    (place.store.models / train.model).mkdir()
    with place.store.transaction() as db:
        db.execute("UPDATE jobs SET state = 'done'")
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.rename", kill)
        with pytest.raises(KeyboardInterrupt):
            library.delete(train.model)
    assert jobs.submit(asked, "tester")[1]
    library.delete(train.model)
    assert not (place.store.models / train.model).exists()


def test_a_dataset_is_told_how_its_check_ended(place, until):
    told = []
    place.datasets.checked = lambda *what: told.append(what)
    jobs = place.jobs()
    jobs._supervisor._on_ended = {"check": jobs._tell_checked}
    good, bad = place.submit(jobs, "print('[1]')"), place.submit(jobs, "import sys; sys.exit('error: no records')")
    until(lambda: jobs.get(bad.id).state.is_final, lambda: look(jobs))
    assert told == [
        (good.dataset, "[1]\n", None),
        (bad.dataset, None, "its command ended with exit code 1: its log says more"),
    ]


def test_a_disk_that_does_not_take_a_job_is_an_error_in_a_sentence_and_no_job(place, monkeypatch):
    jobs, asked = place.jobs(), CheckJob(dataset=place.datasets.add("print(1)"))
    known = place.store.database
    place.store.database = place.store.root  # a folder, which is no database
    with pytest.raises(ServiceStoreError, match="cannot be used just now"):
        jobs.submit(asked, "tester")
    place.store.database = known
    assert jobs.list() == []
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        place.store.rows("SELECT * FROM no_table")
