"""Models over HTTP: the same predictions as on the command line, and nothing kept of what came in."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import wfdb

from advisor.service.routes import models
from advisor.service.served_models import uploads
from advisor.service.served_models.signals import Signals
from advisor.service.settings import Settings
from advisor.service.tokens import Caller, Role
from engine.records.record import LEADS
from tests.advisor.service.served_models.conftest import MADE, PUT, Served, build, draw, npz

URL = f"/v1/models/{MADE}/predictions"


def write_wfdb(folder: Path, name: str, signals: np.ndarray, leads: tuple[str, ...] = LEADS) -> None:
    n = len(leads)
    wfdb.wrsamp(name, 100, ["mV"] * n, list(leads), signals.T.astype(float), fmt=["16"] * n, adc_gain=[1000.0] * n,
                baseline=[0] * n, write_dir=str(folder))  # fmt: skip


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A folder with records of two formats, one in a folder of its own, two of which cannot be predicted."""
    folder, signals = tmp_path / "records", draw(5)
    (folder / "ward 3").mkdir(parents=True)
    write_wfdb(folder, "good", signals[0])
    write_wfdb(folder / "ward 3", "good", signals[1])
    write_wfdb(folder, "short", signals[2][:, :400])
    write_wfdb(folder, "few", signals[2][:5], LEADS[:5])
    (folder / "many.npz").write_bytes(npz(signals[3:]))
    return folder


def zipped(folder: Path) -> bytes:
    target = folder.with_suffix(".zip")
    with ZipFile(target, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return target.read_bytes()


def on_the_command_line(command, monkeypatch: pytest.MonkeyPatch, trained: Path, folder: Path, *names: str) -> bytes:
    monkeypatch.chdir(folder)
    out: str = command("predict", trained / "model.onnx", *names, "--json").out
    assert json.loads(out)["records"]
    return out.encode()


def left_behind(served: Served) -> list[Path]:
    return list(served.store.incoming.iterdir())


def form(*files: Path, field: str = "record") -> list[tuple[str, tuple[str, bytes]]]:
    return [(field, (file.name, file.read_bytes())) for file in files]


def test_an_archive_gives_the_command_lines_document_byte_for_byte(
    served: Served, command, monkeypatch, trained: Path, records: Path
):
    expected = on_the_command_line(command, monkeypatch, trained, records, ".")
    for named in ({"name": "week 48.zip"}, {}):
        answer = served.client.post(URL, content=zipped(records), params=named)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.content == expected
    found = answer.json()
    assert [one["record"] for one in found["records"]] == ["good", "many/row0", "many/row1", "ward 3/good"]
    assert [one["record"] for one in found["failed"]] == ["few", "short"]
    assert not left_behind(served)


def test_files_of_a_form_give_the_command_lines_document_byte_for_byte(
    served: Served, command, monkeypatch, trained: Path, records: Path
):
    files = sorted(file for file in records.iterdir() if file.is_file())
    flat = records.with_name("flat")
    flat.mkdir()
    for file in files:
        (flat / file.name).write_bytes(file.read_bytes())
    expected = on_the_command_line(command, monkeypatch, trained, flat, ".")
    answer = served.client.post(URL, files=form(*files))
    assert answer.content == expected
    assert not left_behind(served)


def test_one_file_gives_the_command_lines_document_byte_for_byte(
    served: Served, command, monkeypatch, trained: Path, records: Path
):
    expected = on_the_command_line(command, monkeypatch, trained, records, "many.npz")
    content = (records / "many.npz").read_bytes()
    assert served.predict(content, "many.npz").content == expected
    assert served.client.post(URL, files=form(records / "many.npz")).content == expected


def test_a_described_table_comes_with_its_description(
    served: Served, command, monkeypatch, trained: Path, tmp_path: Path
):
    folder = tmp_path / "tables"
    folder.mkdir()
    np.savetxt(folder / "one.csv", draw(1)[0].T, delimiter=",")
    leads = ", ".join(f'"{lead}"' for lead in LEADS)
    (folder / "signals.toml").write_text(f'["*.csv"]\nfs = 100\nunit = "mV"\nleads = [{leads}]\n')
    expected = on_the_command_line(command, monkeypatch, trained, folder, ".")
    assert served.client.post(URL, files=form(folder / "one.csv", folder / "signals.toml")).content == expected


def test_numbers_in_json_are_prepared_as_a_file_is(served: Served):
    signals = draw(2)
    answer = served.client.post(URL, json={"fs": 100, "leads": list(LEADS), "signals": signals.tolist()})
    assert answer.status_code == 200
    as_file = served.predict(npz(signals.astype(np.float64))).json()
    assert [one["record"] for one in answer.json()["records"]] == ["recording 0", "recording 1"]
    for one, other in zip(answer.json()["records"], as_file["records"], strict=True):
        assert {**one, "record": ""} == {**other, "record": ""}
    one = served.client.post(URL, json={"fs": 100, "leads": list(LEADS), "signals": signals[0].tolist()}).json()
    assert one["records"][0]["record"] == "recording 0"


def test_predictions_of_eight_threads_at_a_time_are_those_of_one(served: Served):
    contents = [npz(draw(40)[5 * k : 5 * k + 5]) for k in range(8)]
    expected = [served.predict(content).content for content in contents]
    with served.client as client, ThreadPoolExecutor(8) as threads:
        assert client is served.client
        found = list(threads.map(lambda content: served.predict(content).content, contents * 3))
    assert found == expected * 3
    assert len(set(expected)) == 8
    drift = served.client.get(f"/v1/models/{MADE}/drift").json()
    assert drift["records"] == 40 + 120
    assert not left_behind(served)


def test_what_holds_no_usable_record_is_refused_with_every_reason_and_counted(served: Served, records: Path):
    for file in (*records.glob("good*"), *records.glob("ward*/*"), records / "many.npz"):
        file.unlink()
    answer = served.client.post(URL, content=zipped(records), params={"name": "a.zip"})
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (422, 422, "/docs#problem-data")
    assert [one["record"] for one in problem["failed"]] == ["few", "short"]
    assert problem["detail"].startswith("none of the 2 records could be predicted; few: ")
    drift = served.client.get(f"/v1/models/{MADE}/drift").json()
    assert (drift["records"], drift["unusable"]["n"]) == (0, 2)
    assert {one["kind"]: one["records"] for one in drift["problems"]} == {"too short": 1, "a lead is missing": 1}
    assert not left_behind(served)


@pytest.mark.parametrize("name", ["letter.txt", "photo.jpg", "x.dcm", "x.hea", "x.npz", "record"])
def test_a_file_that_is_no_record_is_refused_in_a_sentence(served: Served, name: str):
    answer = served.predict(b"Dear colleague, Jane Doe was seen today.", name)
    assert answer.status_code == 422
    said = answer.json()["detail"]
    assert said.startswith(name.removesuffix(".hea"))
    assert "Jane" not in answer.text
    assert str(served.store.root) not in answer.text
    assert not left_behind(served)


def test_no_content_and_no_name_of_a_record_is_kept(served: Served, tmp_path: Path):
    signals = draw(2)
    write_wfdb(tmp_path, "Doe_Jane_1950", signals[0])
    files = form(tmp_path / "Doe_Jane_1950.hea", tmp_path / "Doe_Jane_1950.dat")
    assert served.client.post(URL, files=files).status_code == 200
    assert served.client.post(URL, files=files[:1]).status_code == 422
    assert served.predict(npz(signals, leads=np.array([*LEADS[:11], "Jane"])), "Doe.npz").status_code == 422
    whole = "".join(file.read_bytes().decode("latin-1") for file in served.store.root.glob("service.db*"))
    assert "Doe" not in whole
    assert "Jane" not in whole
    kinds = {what for _, _, what, _, _ in served.counts()}
    assert kinds <= {"records", "noted", "note", "unusable", "fs", "leads", "positive", "millionths"} | {
        f"bin {k}" for k in range(10)
    }


def test_an_upload_beyond_the_limit_is_refused_by_the_settings_name(served: Served, trained: Path):
    small = build(served.store, replace(served.app.state.service.settings, max_prediction_mb=0.01))
    for headers in ({}, {"Content-Length": "3"}, {"Content-Length": "9" * 5000}):
        answer = small.client.post(URL, content=iter([b"x" * 6000] * 3), headers=headers)
        assert answer.status_code == 413
        assert "--max-prediction-mb (ECGADVISE_MAX_PREDICTION_MB) is 0.01" in answer.json()["detail"]
    assert small.client.post(URL, content=b"x" * 20_000).status_code == 413
    assert not left_behind(served)


def test_an_upload_without_room_on_the_disk_is_refused(served: Served, monkeypatch):
    monkeypatch.setattr(type(served.store), "free_mb", lambda _: 10.0)
    full = build(served.store, replace(served.app.state.service.settings, min_free_mb=1000.0))
    answer = full.predict(npz(draw(1)))
    assert (answer.status_code, answer.json()["type"]) == (507, "/docs#problem-disk-full")
    assert "ECGADVISE_MIN_FREE_MB" in answer.json()["detail"]


def test_a_disk_that_fills_up_meanwhile_is_a_problem_and_leaves_nothing(served: Served, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads, "_moved", full)
    answer = served.predict(npz(draw(1)))
    assert (answer.status_code, answer.json()["type"]) == (507, "/docs#problem-disk-full")
    assert not left_behind(served)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([("record", ("..", b"x"))], "no name that can be used"),
        ([("record", ("a/..", b"x"))], "no name that can be used"),
        ([("record", ("a" * 300, b"x"))], "no name that can be used"),
        ([("record", ("r.dat", b"x")), ("record", ("ward/r.dat", b"y"))], "two files are called r.dat"),
        ([("file", ("r.dat", b"x"))], "each file as record=@FILE"),
        ([("record", (None, b"x"))], "is no file"),
    ],
)
def test_a_form_is_refused_where_its_files_cannot_be_told_apart(served: Served, files: Any, says: str):
    answer = served.client.post(URL, files=files)
    assert (answer.status_code, says in answer.json()["detail"]) == (400, True), answer.text
    assert not left_behind(served)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("content", [b"", b"--x", b"--x\r\n\r\nabc", b"--x\r\nA: b\r\n\r\n\r\n--x--\r\n", b"abc"])
def test_a_damaged_form_is_a_problem_and_not_logged(served: Served, content_type: str, content: bytes, caplog):
    answer = served.client.post(URL, content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 400
    assert "form" in answer.json()["detail"]
    assert not [one for one in caplog.records if one.name.startswith("python_multipart")]


def test_a_files_path_leads_nowhere_else(served: Served, tmp_path: Path):
    write_wfdb(tmp_path, "r", draw(1)[0])
    files = [("record", (f"../../../{file.name}", file.read_bytes())) for file in sorted(tmp_path.glob("r.*"))]
    before = sorted(served.store.root.rglob("*.dat"))
    answer = served.client.post(URL, files=files)
    assert answer.json()["records"][0]["record"] == "r"
    assert sorted(served.store.root.rglob("*.dat")) == before
    assert not left_behind(served)


@pytest.mark.parametrize("model", ["x", "..", "%2e%2e", "..%2f..", "%2e%2e%2fm0123456789ab", f"{MADE}%00", "%2fetc"])
def test_a_model_that_is_not_listed_is_not_found(served: Served, model: str):
    for way in ("", "/card", "/file", "/drift"):
        assert served.client.get(f"/v1/models/{model}{way}").status_code == 404
    assert served.client.post(f"/v1/models/{model}/predictions", content=b"x").status_code in (404, 405)
    assert served.client.delete(f"/v1/models/{model}").status_code in (404, 405)


def test_a_damaged_model_predicts_nothing(served: Served):
    (served.store.models / MADE / "model.onnx").write_bytes(b"not a model")
    for answer in (
        served.client.get(f"/v1/models/{MADE}"), served.client.get(f"/v1/models/{MADE}/file"),
        served.client.get(f"/v1/models/{MADE}/drift"), served.predict(npz(draw(1))),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["type"]) == (422, "/docs#problem-data")
    listed = {one["id"]: one["problem"] for one in served.client.get("/v1/models").json()["models"]}
    assert "onnxruntime" in listed[MADE]
    assert listed[PUT] is None


def test_a_model_is_described_and_given_out_as_it_was_written(served: Served, trained: Path):
    one = served.client.get(f"/v1/models/{MADE}").json()
    assert served.client.get("/v1/models").json()["models"][0] == one
    assert str(served.store.root) not in json.dumps(one)
    file, card = (served.client.get(f"/v1/models/{MADE}/{what}") for what in ("file", "card"))
    assert (file.content, file.headers["content-type"]) == (
        (trained / "model.onnx").read_bytes(), "application/octet-stream",
    )  # fmt: skip
    assert file.headers["content-disposition"] == 'attachment; filename="model.onnx"'
    assert file.headers["content-length"] == str(len(file.content))
    assert (card.text, card.headers["content-type"]) == (
        (trained / "MODEL_CARD.md").read_text(), "text/markdown; charset=utf-8",
    )  # fmt: skip


def test_a_role_may_do_what_it_may(served: Served):
    content, delete = npz(draw(1)), f"/v1/models/{MADE}"
    served.become(Caller("ward", Role.READER))
    assert served.client.get("/v1/models").status_code == 200
    assert served.client.get(f"/v1/models/{MADE}/drift").status_code == 200
    assert (served.predict(content).status_code, served.client.delete(delete).status_code) == (403, 403)
    served.become(Caller("ward", Role.RUNNER))
    assert (served.predict(content).status_code, served.client.delete(delete).status_code) == (200, 403)
    served.become(Caller("ward", Role.ADMIN))
    assert served.client.delete(delete).status_code == 204
    assert served.client.get(f"/v1/models/{MADE}").status_code == 404


def test_drift_counts_from_the_day_that_is_asked_for(served: Served):
    assert served.predict(npz(draw(3))).status_code == 200
    url = f"/v1/models/{MADE}/drift"
    assert served.client.get(url, params={"since": "2000-01-01"}).json()["records"] == 3
    later = served.client.get(url, params={"since": "2999-01-01"}).json()
    assert (later["records"], later["days"], later["first_day"]) == (0, 0, None)
    assert served.client.get(url, params={"since": "yesterday"}).status_code == 422


def test_every_field_of_the_answer_is_in_the_openapi_document(served: Served):
    document = served.app.openapi()
    body = document["paths"]["/v1/models/{model}/predictions"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data", "application/octet-stream"}
    assert body["application/json"]["schema"] == Signals.model_json_schema()
    answer = served.predict(npz(draw(1)))
    assert json.loads(models.Predictions.model_validate_json(answer.content).model_dump_json()) == answer.json()
    assert set(answer.json()) == set(models.Predictions.model_fields)


def test_a_service_without_a_folder_of_the_operators_has_the_jobs_models(served: Served):
    alone = build(served.store, Settings(served.store.root))
    assert [one["id"] for one in alone.client.get("/v1/models").json()["models"]] == [MADE]


def test_predictions_need_no_training_stack(trained: Path, tmp_path: Path):
    write_wfdb(tmp_path, "r", draw(1)[0])
    program = f"""
import sys
from pathlib import Path
from advisor.service.routes import models
from advisor.service.served_models.library import Library
from advisor.service.served_models.predictions import predict
from advisor.service.served_models.uploads import Records
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore
from engine.deploy.inference import list_records
store = ServiceStore(Path({str(tmp_path / "store")!r})).open()
library = Library(store, Settings(store.root, models=Path({str(trained)!r})))
folder = Path({str(tmp_path)!r})
assert predict(library.open("model"), Records(list_records(folder), []), store).records == 1
print(sorted({{"torch", "sklearn", "safetensors"}} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
