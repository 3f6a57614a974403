"""Answers over HTTP are the command line's, to the byte; so are its refusals, as problem documents."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from starlette.testclient import TestClient

from advisor.service import answers
from advisor.service.problems import MEDIA_TYPE, Problem
from advisor.service.questions import Asked

Command = Callable[..., tuple[int, str, str]]
QUESTIONS = 200
ARCHS = (None, "cnn", "rnn", "resnet1d18-w16", "gru-w32", "resnet1d18", "inceptiontime", "transformer9")
UPSTREAMS = (None, None, "none", "ptb-xl", "ECGFounder", "nobody's")
TASKS = (None, None, None, "ptb-xl/superclass", "ludb/diagnoses", "elsewhere")


def draw(rng: Random) -> dict[str, object]:
    """A question, as any program may ask it: sensible ones and others."""
    asked: dict[str, object] = {"n_records": rng.choice([1, 10, 50, 300, 5000, 80_000, rng.randint(-5, 200_000)])}
    may = {
        "arch": rng.choice(ARCHS), "upstream": rng.choice(UPSTREAMS), "task": rng.choice(TASKS),
        "metric": rng.choice([None, None, "auroc_macro", "auprc_macro", "accuracy"]),
        "margin": rng.choice([None, 0.005, 0.02, 1.5]), "target": rng.choice([None, 0.8, 0.95, 0.2]),
        "label_cost": rng.choice([None, 2, 0.5, -1]), "gpu_cost": rng.choice([None, 2.5, 0]),
        "uses": rng.choice([None, None, 1, 12, 0]), "device_speed": rng.choice([None, None, 800.0, 0]),
        "labels": rng.choice([None, None, "AF:0.04,LBBB:0.02", "AF", "AF:2"]),
        "events": rng.choice([None, None, None, "40,12", "x"]),
        "task_like": rng.choice([None, None, None, "ptb-xl/AFIB"]),
    }  # fmt: skip
    few = rng.sample(sorted(may), rng.randint(0, 4))
    return asked | {name: may[name] for name in few if may[name] is not None}


def words(asked: dict[str, object]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in asked.items()]


def test_two_hundred_answers_are_those_of_the_command_line(client: TestClient, command: Command):
    rng, ends = Random(20), {0: 0, 2: 0, 4: 0}
    for _ in range(QUESTIONS):
        asked = draw(rng)
        code, out, err = command("recommend", *words(asked), "--json")
        answer = client.get("/v1/recommendation", params=asked)
        ends[code] += 1
        if code == 0:
            assert answer.status_code == 200, (asked, answer.text)
            assert answer.text == out, asked
            continue
        assert answer.status_code == {2: 400, 4: 422}[code], (asked, answer.text)
        problem = answer.json()
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert problem["exit_code"] == code
        said = err.strip().splitlines()[-1].removeprefix("error: ")
        assert spelled(problem["detail"]) == spelled(said), asked
        if out:
            assert problem["published"] == json.loads(out)
    assert min(ends.values()) > 10, ends


def spelled(sentence: str) -> str:
    """A sentence without the way in which either asker spells a field."""
    return re.sub(r"--([a-z-]+)", lambda found: found[1].replace("-", "_"), " ".join(sentence.split()))


def test_the_same_question_is_answered_from_memory_and_the_same(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    first = client.get("/v1/recommendation?n_records=700&arch=cnn")
    monkeypatch.setattr(answers, "answer", lambda *_given: pytest.fail("it was answered before"))
    assert client.get("/v1/recommendation?arch=cnn&n_records=700").content == first.content


def test_what_is_remembered_is_bounded(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    kept = client.app.state.service.answers
    monkeypatch.setattr(answers, "KEPT", 3)
    monkeypatch.setattr(kept, "give", lambda asked: pytest.fail("not needed"))
    for n in range(1, 9):
        kept._keep(Asked(n_records=n).key, lambda n=n: str(n).encode())
    assert [kept.known(Asked(n_records=n)) for n in (5, 6, 7, 8)] == [None, b"6", b"7", b"8"]


def test_the_report_is_the_command_line_s(client: TestClient, command: Command, tmp_path: Path):
    page = tmp_path / "report.html"
    assert command("recommend", "--n-records=700", "--arch=cnn", "--report", page)[0] == 0
    answer = client.get("/v1/report?n_records=700&arch=cnn&download=true")
    assert answer.status_code == 200
    assert "attachment" in answer.headers["content-disposition"]

    def without_origin(text: str) -> str:
        return re.sub(r"<dd>\d{4}-\d\d-\d\d \d\d:\d\d UTC.*?</dd>|<code>.*?</code>", "", text)

    assert without_origin(answer.text) == without_origin(page.read_text())
    assert "ecgadvise recommend --n-records=700 --arch=cnn" in answer.text
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', answer.text)
    assert answer.headers["content-security-policy"] == f"{policy[1]}; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("n_records=many", 422, "n_records"),
        ("n_records=5&n_recrods=6", 422, "n_recrods"),
        ("n_records=5&margin=nan", 422, "margin"),
        ("n_records=5&label_cost=inf", 422, "label_cost"),
        (f"n_records={10**30}", 422, "n_records"),
        ("arch=cnn", 400, "n_records"),
        ("n_records=5&data=d000000000000", 404, "dataset"),
        ("n_records=5&data=../../etc", 404, "dataset"),
    ],
)
def test_a_question_that_makes_no_sense_is_a_problem_in_one_sentence(
    client: TestClient, query: str, status: int, said: str
):
    answer = client.get(f"/v1/recommendation?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    problem = answer.json()
    assert said in problem["detail"]
    assert set(problem) >= {"type", "title", "status", "detail"}


@pytest.mark.parametrize("path", ["/etc", "../zoo", "a b", "-x"])
def test_a_network_is_named_and_no_path(client: TestClient, path: str):
    answer = client.get("/v1/recommendation", params={"data": "d000000000000", "from": path})
    assert (answer.status_code, answer.headers["content-type"]) == (422, MEDIA_TYPE)


def test_no_more_requests_wait_for_answers_about_records_than_leave_threads_for_others():
    commands = answers._Commands()
    for _ in range(answers._AT_ONCE + answers._WAITING):
        commands._places.acquire()
    with pytest.raises(Problem) as caught:
        commands.run(["recommend", "--n-records=5"], {})
    assert caught.value.status == 429


def test_a_service_that_ends_answers_nobody_and_ends_what_runs():
    commands = answers._Commands()
    running = commands._start(["serve", "--port=0", "--store=/nowhere"], {})
    commands.close()
    assert running.wait(30) != 0
    for stream in (running.stdout, running.stderr):
        stream.close()
    with pytest.raises(Problem, match="being ended"):
        commands.run(["recommend", "--n-records=5"], {})


def test_what_the_command_that_answers_for_records_says_is_said():
    with pytest.raises(Problem) as caught:
        answers._Commands().run(["recommend", "--n-records=0"], {})
    assert (caught.value.status, caught.value.detail) == (
        400, "--n-records is 0: give a positive number of labelled records",
    )  # fmt: skip
