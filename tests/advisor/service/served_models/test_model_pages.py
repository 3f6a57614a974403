"""The pages of models without a script: facts, predictions for an upload, and what came in."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.advisor.service.page_rules import Page, faults, words
from tests.advisor.service.served_models.conftest import draw, npz


@pytest.fixture
def pages(open_pages: Callable[..., TestClient], trained: Path, tmp_path: Path) -> TestClient:
    folder = tmp_path / "operator"
    folder.mkdir()
    (folder / "ward 3.onnx").write_bytes((trained / "model.onnx").read_bytes())
    (folder / "damaged.onnx").write_bytes(b"no model")
    return open_pages(models=folder)


def send(pages: TestClient, content: bytes, name: str = "records.npz"):
    return pages.post("/models/ward%203/predictions", files={"record": (name, content)})


def test_every_model_is_listed_and_one_that_is_damaged_says_so(pages: TestClient):
    answer = pages.get("/models")
    assert faults(answer.text) == []
    assert "damaged.onnx" in words(answer.text)
    links = [given["href"] for given in Page(answer.text).all("a") if given["href"].startswith("/models/")]
    assert links == ["/models/ward%203"]
    page = pages.get(links[0])
    assert faults(page.text) == []
    assert "resnet1d18-w4" in page.text and "too few records to say" in page.text.lower()
    assert pages.get("/models/damaged").status_code == 422
    assert pages.get("/models/other").status_code == 404


def test_a_form_with_records_shows_the_probabilities_of_the_interface(pages: TestClient):
    content = npz(draw(3))
    answer = send(pages, content)
    told = pages.post("/v1/models/ward 3/predictions", files={"record": ("records.npz", content)}).json()
    said = words(answer.text)
    assert answer.status_code == 200
    assert faults(answer.text) == []
    assert len(told["records"]) == 3
    for record in told["records"]:
        row = said[said.index(record["record"]) :]
        for name, probability in record["probability"].items():
            reached = " ● reached" if record["decision"][name] else ""
            assert f"{probability:.3f}{reached}" in row
    assert "3 records on 1 day" in said


def test_an_upload_that_is_no_record_leaves_the_form_and_says_why(pages: TestClient):
    answer = send(pages, b"no record", "a.dat")
    told = pages.post("/v1/models/ward 3/predictions", files={"record": ("a.dat", b"no record")}).json()
    assert answer.status_code == told["status"]
    assert told["detail"] in words(answer.text)
    assert re.search(r'<input id="predict-record"', answer.text)
    assert faults(answer.text) == []


def test_a_record_that_fails_is_named_next_to_those_that_do_not(pages: TestClient):
    signals = draw(2)
    signals[1] = float("nan")
    answer = send(pages, npz(signals))
    told = json.loads(pages.post("/v1/models/ward 3/predictions", files={"record": ("records.npz", npz(signals))}).text)
    (failed,) = told["failed"]
    assert f"{failed['record']} : {failed['problem']}" in words(answer.text)


def test_an_upload_that_is_too_large_is_refused_by_the_limits_name(
    open_pages: Callable[..., TestClient], pages: TestClient, tmp_path: Path
):
    small = open_pages(models=tmp_path / "operator", max_prediction_mb=0.01)
    answer = send(small, bytes(2_000_000))
    assert answer.status_code == 413
    assert "--max-prediction-mb (ECGADVISE_MAX_PREDICTION_MB)" in answer.text
    assert faults(answer.text) == []
