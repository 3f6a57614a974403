"""Datasets and jobs in the states that a test wants, without a process that works on them."""

import json

from starlette.testclient import TestClient

from advisor.service.access import Service


def service_of(client: TestClient) -> Service:
    return client.app.state.service


def add_dataset(client: TestClient, name: str = "ward 3", state: str = "ready", **report: object) -> str:
    service = service_of(client)
    folder = service.store.incoming / "given"
    folder.mkdir()
    (folder / "labels.csv").write_text("record,AF\n")
    dataset = service.datasets.adopt(folder, name, "tester")
    found = {
        "source": "ward", "task": "labels", "records": 400, "unusable": 1, "patients": 249, "classes": {"AF": 40},
        "unlabelled": 9, "problems": [], "duplicates": [], "excluded": None, **report,
    }  # fmt: skip
    if state != "checking":
        service.datasets.checked(dataset.id, json.dumps(found), None)
    assert service.datasets.get(dataset.id).state == state
    return dataset.id


def add_job(client: TestClient, dataset: str, state: str = "running", **fields: str) -> str:
    """Ask for a job by the form, and say how it is."""
    answer = client.post("/jobs", data={"kind": "pilot", "dataset": dataset, **fields})
    assert answer.status_code == 303, answer.text
    job = answer.headers["location"].removeprefix("/jobs/")
    set_state(client, job, state)
    return job


def set_state(client: TestClient, job: str, state: str, problem: str | None = None) -> None:
    with service_of(client).store.transaction() as db:
        db.execute("UPDATE jobs SET state = ?, problem = ? WHERE id = ?", (state, problem, job))
    (service_of(client).store.jobs / job).mkdir(exist_ok=True)


def write(client: TestClient, job: str, name: str, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (service_of(client).store.jobs / job / name).write_text(text)
