"""Which models there are, and that nothing else is read under their name."""

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from advisor.service.problems import Problem
from advisor.service.served_models import intake, library
from advisor.service.served_models.library import intake_name
from tests.advisor.service.served_models.conftest import MADE, PUT, Served, draw, npz


def refused(call, *arguments) -> Problem:
    with pytest.raises(Problem) as error:
        call(*arguments)
    return error.value


def test_models_of_jobs_and_of_the_operator_are_listed_with_what_they_say_of_themselves(served: Served, trained: Path):
    made, put = served.library.list()
    assert (made.id, made.origin, made.job, made.file, made.has_card) == (MADE, "job", "j1", "model.onnx", True)
    assert (put.id, put.origin, put.job, put.file, put.has_card) == (PUT, "operator", None, f"{PUT}.onnx", False)
    known = json.loads((trained / "checkpoint" / "checkpoint.json").read_text())
    for one in (made, put):
        assert one.problem is None
        assert (one.arch, one.task, list(one.classes)) == (known["arch"], known["task"], known["classes"])
        assert list(one.thresholds) == known["thresholds"]
        assert (one.leads[0], one.fs, one.seconds, one.n_records) == ("I", 100.0, 10.0, 350)
        assert one.sha256 == sha256((trained / "model.onnx").read_bytes()).hexdigest()
        assert one == served.library.get(one.id)


@pytest.mark.parametrize("model", ["", ".", "..", "../x", f"../models/{MADE}", f"{MADE}/", "/etc/passwd", "a\0b", "*"])
def test_an_id_that_is_not_listed_is_no_path(served: Served, model: str):
    calls = served.library.get, served.library.open, served.library.content, served.library.card, served.library.delete
    for call in calls:
        assert refused(call, model).status == 404
    assert (served.store.models / MADE / "model.onnx").is_file()


def test_a_damaged_model_is_listed_with_its_problem_and_used_for_nothing(served: Served):
    file = served.store.models / MADE / "model.onnx"
    file.write_bytes(file.read_bytes()[:5000])
    made, put = served.library.list()
    assert "not an ONNX model" in (made.problem or "")
    assert str(served.store.root) not in (made.problem or "")
    assert put.problem is None
    for call in (served.library.get, served.library.open, served.library.content):
        problem = refused(call, MADE)
        assert (problem.status, problem.kind, problem.detail) == (422, "data", made.problem)


def test_a_model_that_was_replaced_is_opened_anew_and_counted_apart(served: Served):
    before = served.library.open(MADE)
    assert served.library.open(MADE).model is before.model
    file = served.store.models / MADE / "model.onnx"
    content = file.read_bytes()
    file.write_bytes(content)
    os.utime(file, ns=(1, 1))
    after = served.library.open(MADE)
    assert after.model is not before.model
    assert after.intake == before.intake == intake_name(before.served)


def test_only_the_last_few_models_stay_open(served: Served, tmp_path: Path, trained: Path, monkeypatch):
    opened = []
    open_model = library.open_model
    monkeypatch.setattr(library, "open_model", lambda path, **how: opened.append((path.stem, how)) or
                        open_model(path, **how))  # fmt: skip
    for k in range(4):
        (tmp_path / "operator" / f"more{k}.onnx").write_bytes((trained / "model.onnx").read_bytes())
    for k in range(4):
        served.library.open(f"more{k}")
    assert [name for name, how in opened] == [f"more{k}" for k in range(4)]
    assert {how["threads"] for _, how in opened} == {1}
    served.library.open("more0")
    assert len(opened) == 4
    served.library.open(PUT)
    served.library.open("more0")
    assert len(opened) == 5
    served.library.open("more1")
    assert len(opened) == 6


def test_a_card_is_the_models_own(served: Served, tmp_path: Path, trained: Path):
    card = (trained / "MODEL_CARD.md").read_text()
    assert served.library.card(MADE) == card
    assert refused(served.library.card, PUT).status == 404
    (tmp_path / "operator" / "MODEL_CARD.md").write_text(card)
    assert served.library.card(PUT) == card
    (tmp_path / "operator" / "other.onnx").write_bytes((trained / "model.onnx").read_bytes())
    assert refused(served.library.card, PUT).status == 404  # of two models it may be either's


def test_a_file_that_is_being_given_out_stays_whole_when_its_model_is_deleted(served: Served, trained: Path):
    with served.library.content(MADE) as file:
        served.library.delete(MADE)
        assert file.read() == (trained / "model.onnx").read_bytes()


def test_a_deleted_model_leaves_neither_file_nor_counts_nor_those_of_others(served: Served):
    for model in (MADE, PUT):
        assert served.predict(npz(draw(2)), model=model).status_code == 200
    kept = served.library.open(PUT).intake
    served.library.delete(MADE)
    assert not (served.store.models / MADE).exists()
    assert not list(served.store.incoming.iterdir())
    assert [one.id for one in served.library.list()] == [PUT]
    assert {row[0] for row in served.counts()} == {kept}
    assert intake.read(served.store, kept).records == 2
    assert refused(served.library.delete, MADE).status == 404


def test_the_operators_model_and_one_that_a_job_works_on_are_not_deleted(served: Served):
    assert (refused(served.library.delete, PUT).status, served.library.get(PUT).id) == (409, PUT)
    with served.store.transaction() as db:
        db.execute("UPDATE jobs SET state = 'running'")
    problem = refused(served.library.delete, MADE)
    assert (problem.status, "j1" in problem.detail) == (409, True)
    assert served.library.get(MADE).id == MADE


def test_a_model_that_is_not_exported_yet_is_not_listed_and_can_be_deleted(served: Served):
    (served.store.models / "mnew" / "checkpoint").mkdir(parents=True)
    assert "mnew" not in [one.id for one in served.library.list()]
    assert refused(served.library.get, "mnew").status == 404
    served.library.delete("mnew")
    assert not (served.store.models / "mnew").exists()
