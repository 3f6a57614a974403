"""The pages of datasets: all of them with a form to add one, one with what its check found, and its deletion."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from advisor.service.access import Admin, Here, Reader, Runner, Service
from advisor.service.datasets.upload import receive
from advisor.service.pages.job_words import KINDS
from advisor.service.pages.jobs import choices, form_fields
from advisor.service.pages.rendering import render
from advisor.service.problems import Problem
from advisor.service.routes.datasets import in_thread, take_archive, take_folder
from models.errors import UserError

if TYPE_CHECKING:
    from advisor.service.datasets.check_report import CheckReport
    from advisor.service.datasets.datasets import Dataset
    from advisor.service.jobs.job import Job

router = APIRouter(include_in_schema=False)
_JOBS = 500
_KINDS_OF_PROBLEM, _NAMED, _DUPLICATES, _CLASSES = 50, 20, 20, 100  # that a person reads; the JSON has all


@router.get("/datasets", response_class=HTMLResponse)
def list_datasets(request: Request, service: Here, _caller: Reader) -> Response:
    """Show all datasets, and a form to add one."""
    return _listed(request, service, 200, {}, None)


@router.post("/datasets", response_class=HTMLResponse)
async def add(request: Request, service: Here, caller: Runner) -> Response:
    """Take an archive or a folder, and show it while it is checked; a form that does not go is shown again."""
    filled: dict[str, str] = {}
    try:
        dataset = await _take(request, service, caller.name, filled)
    except (Problem, UserError) as error:
        problem = error if isinstance(error, Problem) else Problem.of(error)
        return await run_in_threadpool(_listed, request, service, problem.status, filled, problem.detail)
    another = filled.get("name") not in (None, "", dataset.name)
    return RedirectResponse(f"/datasets/{dataset.id}{'?known=1' * another}", 303)


async def _take(request: Request, service: Service, by: str, filled: dict[str, str]) -> "Dataset":
    """Take what a form brings, and note what was ``filled`` in."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        upload = await receive(request, service.store, service.settings)
        try:
            filled["name"] = upload.name or "records"
            return await in_thread(partial(take_archive, service, upload.archive, filled["name"], by))
        finally:
            upload.archive.unlink(missing_ok=True)
    filled |= await form_fields(request)
    folder = filled.get("folder", "")
    named = filled.get("name") or folder.strip("/").rpartition("/")[2]
    return await in_thread(partial(take_folder, service, folder, named, by))


@router.get("/datasets/{dataset_id}", response_class=HTMLResponse)
def show(request: Request, service: Here, _caller: Reader, dataset_id: str) -> Response:
    """Show a dataset as it is now."""
    dataset = service.datasets.get(dataset_id)
    jobs = service.jobs.list(dataset=dataset.id, limit=_JOBS)
    check = next((job for job in jobs if job.kind == "check" and not job.state.is_final), None)
    return render(
        request, "dataset.html", dataset=dataset, report=dataset.report, kinds=KINDS,
        is_known="known" in request.query_params,
        jobs=[job for job in jobs if job.kind != "check"], check=check if dataset.state == "checking" else None,
        problems=_problems(dataset.report), classes=_classes(dataset.report),
        duplicates=_duplicates(dataset.report), **choices(service),
    )  # fmt: skip


@router.get("/datasets/{dataset_id}/delete", response_class=HTMLResponse)
def confirm(request: Request, service: Here, _caller: Admin, dataset_id: str) -> Response:
    """Name what would be deleted, and ask."""
    dataset = service.datasets.get(dataset_id)
    return render(request, "dataset_delete.html", dataset=dataset, problem=None, **_made_of(service, dataset))


@router.post("/datasets/{dataset_id}/delete", response_class=HTMLResponse)
def delete(request: Request, service: Here, _caller: Admin, dataset_id: str) -> Response:
    """Delete a dataset, and say what went with it."""
    dataset = service.datasets.get(dataset_id)
    try:
        deleted = service.datasets.delete(dataset_id)
    except (Problem, UserError) as error:
        problem = error if isinstance(error, Problem) else Problem.of(error)
        return render(
            request, "dataset_delete.html", problem.status, dataset=dataset, problem=problem.detail,
            **_made_of(service, dataset),
        )  # fmt: skip
    return render(request, "dataset_deleted.html", deleted=deleted)


def _made_of(service: Service, dataset: "Dataset") -> dict[str, Any]:
    jobs: Sequence[Job] = service.jobs.list(dataset=dataset.id, limit=_JOBS)
    models = sorted({job.model for job in jobs if job.model is not None})
    exports = [job for model in models for job in service.jobs.list(model=model, kind="export", limit=_JOBS)]
    return {"jobs": [*jobs, *exports], "kinds": KINDS, "models": models}


def _listed(
    request: Request, service: Service, status: int, filled: Mapping[str, str], problem: str | None
) -> HTMLResponse:
    return render(
        request, "datasets.html", status, datasets=service.datasets.list(), filled=filled, problem=problem,
        root=service.settings.records_root is not None, max_upload_mb=service.settings.max_upload_mb,
    )  # fmt: skip


def _problems(report: "CheckReport | None") -> list[tuple[str, bool, str]]:
    """Return each kind of problem with the records that have it, those that make a record unusable first."""
    from advisor.terminal.record_problems import in_kinds
    from engine.sources.own_tables.columns import listed

    found = in_kinds([] if report is None else report.problems)
    kinds = sorted(found, key=lambda kind: (kind.usable, -len(kind.records)))[:_KINDS_OF_PROBLEM]
    such_as = "such as: "
    return [(f"{such_as * (not one.alike)}{one.words}", one.usable, listed(one.records, _NAMED)) for one in kinds]


def _duplicates(report: "CheckReport | None") -> list[str]:
    from advisor.answer.words import count
    from engine.sources.own_tables.columns import listed

    groups = () if report is None else report.duplicates
    more = len(groups) - _DUPLICATES
    named = [listed(group, _NAMED) for group in groups[:_DUPLICATES]]
    return [*named, *([f"and {count(more, 'more group')}"] if more > 0 else [])]


def _classes(report: "CheckReport | None") -> list[tuple[str, int, float]]:
    if report is None:
        return []
    usable = max(1, report.records - report.unusable)
    return [(name, n, 100 * n / usable) for name, n in list(report.classes.items())[:_CLASSES]]
