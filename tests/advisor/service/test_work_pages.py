"""The pages of datasets and jobs without a script: forms that post, and errors next to them."""

from collections.abc import Callable
from html import unescape
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl
from zipfile import ZipFile

from starlette.testclient import TestClient

from advisor.service.questions import Asked
from tests.advisor.service.page_rules import Page, words
from tests.advisor.service.page_steps import add_dataset, add_job, service_of, set_state, write


def test_a_dataset_shows_what_its_check_found(pages: TestClient):
    problems = [
        {"record": "r1", "problem": "V1 is flat", "usable": True},
        {"record": "r2", "problem": "no samples", "usable": False},
        {"record": "r3", "problem": "V1 is flat", "usable": True},
    ]
    dataset = add_dataset(pages, problems=problems, duplicates=[["r1", "r9"]])
    said = words(pages.get(f"/datasets/{dataset}").text)
    assert "400, 1 of them unusable" in said
    assert "AF 40 10 %" in said
    assert said.index("no samples unusable r2") < said.index("V1 is flat kept r1, r3")
    assert "r1, r9" in said
    assert f'href="/?data={dataset}"' in pages.get(f"/datasets/{dataset}").text


def test_rows_without_a_file_by_the_hundred_are_one_row_of_the_page_as_is_a_large_group_of_equal_signals(pages):
    problems = [{"record": f"x{k}", "problem": f"labels.csv, line {k}: no file", "usable": False} for k in range(300)]
    groups = [[f"e{k}" for k in range(100)], *([f"g{k}", f"h{k}"] for k in range(30))]
    dataset = add_dataset(pages, problems=problems, duplicates=groups)
    said = words(pages.get(f"/datasets/{dataset}").text)
    assert "such as: labels.csv, line 0: no file unusable x0, x1," in said
    assert "x18, x19 and 280 more" in said
    assert "e18, e19 and 80 more" in said
    assert "and 11 more groups" in said
    assert "line 1:" not in said


def test_a_refused_dataset_says_why_and_offers_no_work(pages: TestClient):
    dataset = add_dataset(pages, state="refused", classes={"AF": 0})
    answer = pages.get(f"/datasets/{dataset}")
    assert "no record that can be used has a label" in words(answer.text)
    assert 'value="pilot"' not in answer.text


def archive() -> bytes:
    file = BytesIO()
    with ZipFile(file, "w") as zip_:
        zip_.writestr("ward/labels.csv", "record,AF\n")
    return file.getvalue()


def test_an_upload_leads_to_its_dataset_while_that_is_checked(pages: TestClient):
    answer = pages.post("/datasets", data={"name": "ward 3"}, files={"archive": ("ward.zip", archive())})
    assert answer.status_code == 303
    page = pages.get(answer.headers["location"])
    assert "ward 3" in page.text and "checking" in page.text
    (check,) = service_of(pages).jobs.list(kind="check")
    assert f'data-events="/v1/jobs/{check.id}/events"' in page.text
    assert '<noscript><meta http-equiv="refresh"' in page.text


def test_an_upload_that_is_not_taken_leaves_the_form_and_says_why(pages: TestClient):
    answer = pages.post("/datasets", data={"name": "ward 3"}, files={"archive": ("ward.zip", b"no archive")})
    assert answer.status_code == 422
    assert "neither a zip nor a tar" in answer.text
    assert Page(answer.text).find("dataset-name")["value"] == "ward 3"
    assert service_of(pages).datasets.list() == []


def test_a_folder_of_the_operators_is_named_by_a_form_where_the_operator_allows_it(
    open_pages: Callable[..., TestClient], tmp_path: Path
):
    (tmp_path / "root" / "ward").mkdir(parents=True)
    (tmp_path / "root" / "ward" / "labels.csv").write_text("record,AF\n")
    pages = open_pages(records_root=tmp_path / "root")
    refused = pages.post("/datasets", data={"folder": "../other", "name": "x"})
    assert refused.status_code == 400
    assert Page(refused.text).find("folder-folder")["value"] == "../other"
    taken = pages.post("/datasets", data={"folder": "ward"})
    assert taken.status_code == 303
    assert service_of(pages).datasets.list()[0].name == "ward"
    assert "folder-folder" not in open_pages().get("/datasets").text


def test_a_deletion_names_what_goes_before_and_after(pages: TestClient):
    dataset = add_dataset(pages)
    job = add_job(pages, dataset, "done", kind="train")
    model = service_of(pages).jobs.get(job).model
    asked = words(pages.get(f"/datasets/{dataset}/delete").text)
    assert job in asked and model in asked
    set_state(pages, job, "running")
    refused = pages.post(f"/datasets/{dataset}/delete")
    assert refused.status_code == 409
    assert "is in use by" in refused.text and 'action="/datasets/' in refused.text
    set_state(pages, job, "done")
    gone = words(pages.post(f"/datasets/{dataset}/delete").text)
    assert "ward 3 is deleted" in gone and job in gone and model in gone
    assert pages.get(f"/datasets/{dataset}").status_code == 404


def test_a_job_is_started_once_by_a_form_that_is_sent_twice(pages: TestClient):
    form = {"kind": "pilot", "dataset": add_dataset(pages), "minutes": "1", "arch": "cnn"}
    first, second = (pages.post("/jobs", data=form) for _ in range(2))
    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    page = words(pages.get(first.headers["location"]).text)
    assert "Pilot on ward 3" in page and "minutes 1" in page and "arch cnn" in page


def test_a_form_of_a_job_that_does_not_go_stays_as_it_was_filled_in(pages: TestClient):
    dataset = add_dataset(pages)
    answer = pages.post("/jobs", data={"kind": "pilot", "dataset": dataset, "minutes": "-3", "arch": "rnn"})
    page = Page(answer.text)
    assert answer.status_code == 422
    assert "minutes: input should be greater than 0" in answer.text
    assert page.find("pilot-minutes")["value"] == "-3"
    assert {dataset, "rnn"} <= {given["value"] for given in page.all("option") if "selected" in given}
    unfit = add_dataset(pages, "unfit", "refused", classes={"AF": 0})
    assert pages.post("/jobs", data={"kind": "pilot", "dataset": unfit}).status_code == 409


def test_a_running_job_says_how_far_it_is_and_what_it_would_answer(pages: TestClient):
    job = add_job(pages, add_dataset(pages))
    verdict = {"best": "linear-probe", "headline": "TRAIN A LINEAR PROBE", "verdict": "fine-tune", "why": "So it is.",
               "pairs": 4}  # fmt: skip
    progress = {"what": "runs", "done": 6, "total": 24, "seconds_left": 310, "words": "runs 6 of 24 done, about 310 s",
                "verdict": verdict}  # fmt: skip
    write(pages, job, "progress.json", progress)
    write(pages, job, "log", "a line")
    answer = pages.get(f"/jobs/{job}")
    said = words(answer.text)
    assert "25 % , about 310 s left. runs 6 of 24 done" in said
    assert "So far, from 4 pairs TRAIN A LINEAR PROBE Fine-tune or scratch: fine-tune. So it is." in said
    assert "a line" in said
    assert Page(answer.text).all("progress")[0]["value"] == "25.0"
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in answer.text


def test_a_pilot_that_is_done_gives_its_answer_in_words_and_the_report(pages: TestClient):
    dataset = add_dataset(pages)
    job = add_job(pages, dataset, "done", arch="cnn", label_cost="2")
    document = pages.get("/v1/recommendation?n_records=700&arch=cnn").json()
    write(pages, job, "answer", document)
    answer = pages.get(f"/jobs/{job}")
    said = words(answer.text)
    assert document["why"] in said and document["warnings"][0] in said
    assert f"{document['arms'][0]['score']['mean']:.3f}" in said
    links = [unescape(given["href"]) for given in Page(answer.text).all("a")]
    assert f"/v1/report?data={dataset}&arch=cnn&label_cost=2.0&margin=0.01&download=true" in links
    assert "http-equiv" not in answer.text and "data-events" not in answer.text


def test_a_pilot_that_is_done_has_the_addresses_of_its_recommendation_and_report(pages: TestClient):
    dataset = add_dataset(pages)
    given = {"labels": "AF,LBBB", "from_network": "resnet1d18-w16", "n_records": "300", "margin": "0.02", "seed": "3"}
    job = add_job(pages, dataset, "running", **given)
    assert [pages.get(f"/v1/jobs/{job}").json()[name] for name in ("recommendation", "report")] == [None, None]
    set_state(pages, job, "done")
    done = pages.get(f"/v1/jobs/{job}").json()
    (listed,) = pages.get("/v1/jobs?kind=pilot").json()["jobs"]
    for name in ("recommendation", "report"):
        assert listed[name] == done[name]
        path, _, query = done[name].partition("?")
        asked = Asked.model_validate(dict(parse_qsl(query)))
        assert path == f"/v1/{name}"
        assert asked.model_dump(exclude_unset=True, by_alias=True) == {
            "data": dataset, "labels": "AF,LBBB", "from": "resnet1d18-w16", "n_records": 300, "margin": 0.02,
        }  # fmt: skip


def test_no_other_job_and_no_pilot_with_test_records_of_its_own_has_such_addresses(pages: TestClient):
    dataset = add_dataset(pages)
    others = ({"kind": "train"}, {"test_fraction": "0.3"}, {"test_seed": "0"})
    for job in (add_job(pages, dataset, "failed"), *(add_job(pages, dataset, "done", **other) for other in others)):
        write(pages, job, "answer", "it is written")
        found = pages.get(f"/v1/jobs/{job}").json()
        assert (found["recommendation"], found["report"]) == (None, None)
        assert "/v1/report" not in pages.get(f"/jobs/{job}").text


def test_a_training_that_is_done_shows_its_scores_and_is_exported_by_a_button(pages: TestClient):
    job = add_job(pages, add_dataset(pages), "done", kind="train")
    scores = {"auroc": 0.91, "auroc_ci_lower": 0.85, "auroc_ci_upper": 0.96, "auprc": 0.5, "f1": None,
              "threshold": 0.3, "positives": 40}  # fmt: skip
    evaluation = {"n_records": 80, "n_patients": 51, "auroc_macro": 0.91, "auroc_macro_ci_lower": 0.85,
                  "auroc_macro_ci_upper": 0.96, "classes": {"AF": scores}}  # fmt: skip
    write(pages, job, "answer", {"schema_version": 1, "arch": "gru-w32", "strategy": "scratch", "n_records": 320,
                                 "evaluation": evaluation, "warnings": ["few records"]})  # fmt: skip
    model = service_of(pages).jobs.get(job).model
    (service_of(pages).store.models / model).mkdir()
    answer = pages.get(f"/jobs/{job}")
    said = words(answer.text)
    assert "macro AUROC 0.910 (90 %: 0.850 to 0.960) On 80 test records of 51 patients." in said
    assert "AF 0.910 0.850 to 0.960 0.500 - 0.300 40" in said and "few records" in said
    assert 'id="export"' in answer.text
    exported = pages.post("/jobs", data={"kind": "export", "model": model})
    assert exported.status_code == 303
    assert "Export of a model" in pages.get(exported.headers["location"]).text


def test_a_model_that_was_deleted_is_offered_by_no_job(pages: TestClient):
    train = add_job(pages, add_dataset(pages), "done", kind="train")
    model = service_of(pages).jobs.get(train).model
    (service_of(pages).store.models / model).mkdir()
    export = pages.post("/jobs", data={"kind": "export", "model": model}).headers["location"].removeprefix("/jobs/")
    set_state(pages, export, "done")
    for job in (train, export):
        write(pages, job, "answer", "it is written")
    link = f'href="/models/{model}"'
    assert 'id="export"' in pages.get(f"/jobs/{train}").text and link in pages.get(f"/jobs/{export}").text
    service_of(pages).library.delete(model)
    for job in (train, export):
        page = pages.get(f"/jobs/{job}").text
        assert 'id="export"' not in page and link not in page
        assert "The model was deleted." in words(page)
    refused = pages.post("/jobs", data={"kind": "export", "model": model})
    assert refused.status_code == 404
    assert f"the model {model} was deleted: ask for its training again" in words(refused.text)


def test_a_job_is_cancelled_and_started_again_by_buttons(pages: TestClient):
    job = add_job(pages, add_dataset(pages), "queued")
    assert pages.post(f"/jobs/{job}/cancel").headers["location"] == f"/jobs/{job}"
    page = pages.get(f"/jobs/{job}")
    assert "cancelled" in page.text and "Start again" in page.text
    assert pages.post(f"/jobs/{job}/resubmit").status_code == 303
    assert service_of(pages).jobs.get(job).state == "queued"
    assert pages.post("/jobs/j000000000000/cancel").status_code == 404


def test_many_jobs_are_shown_in_parts(pages: TestClient):
    dataset = add_dataset(pages)
    jobs = [add_job(pages, dataset, "cancelled", seed=str(k)) for k in range(102)]
    first = Page(pages.get("/jobs").text)
    (older,) = [given["href"] for given in first.all("a") if "before=" in given["href"]]
    shown = [given["href"].removeprefix("/jobs/") for page in (first, Page(pages.get(older).text))
             for given in page.all("a") if given["href"].startswith("/jobs/")]  # fmt: skip
    assert shown == jobs[::-1]
    assert pages.get("/jobs?before=x").status_code == 422
