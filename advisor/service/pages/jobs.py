"""The pages of jobs: all of them with forms to start one, and one that is watched."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import HTMLResponse, RedirectResponse, Response

from advisor.service.access import Here, Reader, Runner, Service
from advisor.service.jobs.job import Job, State
from advisor.service.jobs.kinds import JobRequest
from advisor.service.pages import job_words
from advisor.service.pages.rendering import render
from advisor.service.problems import Problem
from advisor.service.questions import query_of
from models.errors import UserError

router = APIRouter(include_in_schema=False)
JobId = Annotated[str, Query(pattern=r"^j[0-9a-f]{12}$")]
_SHOWN = 100  # jobs
_REQUEST: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)
STRATEGIES = (
    ("auto", "what the evidence says"),
    ("fine-tune", "fine-tune"),
    ("scratch", "from scratch"),
    ("linear-probe", "linear probe"),
    ("random-convolutions", "random convolutions"),
)


async def form_fields(request: Request) -> dict[str, str]:
    """Return the fields of a form that say something."""
    form = await request.form()
    return {name: value.strip() for name, value in form.items() if isinstance(value, str) and value.strip()}


Fields = Annotated[dict[str, str], Depends(form_fields)]


@router.get("/jobs", response_class=HTMLResponse)
def list_jobs(request: Request, service: Here, _caller: Reader, before: JobId | None = None) -> Response:
    """Show jobs, the newest or those before one, and forms to start one."""
    return _listed(request, service, 200, {}, None, before)


@router.post("/jobs", response_class=HTMLResponse)
def start(request: Request, service: Here, caller: Runner, fields: Fields) -> Response:
    """Start a job, and show it; a form that does not go is shown again as it was filled in."""
    try:
        job, _ = service.jobs.submit(_REQUEST.validate_python(fields), caller.name)
    except ValidationError as error:
        return _listed(request, service, 422, fields, _first(error))
    except (Problem, UserError) as error:
        problem = error if isinstance(error, Problem) else Problem.of(error)
        return _listed(request, service, problem.status, fields, problem.detail)
    return RedirectResponse(f"/jobs/{job.id}", 303)


def _first(error: ValidationError) -> str:
    """Say what is wrong with the first field that is of no use."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "kind"
    return f"{where.replace('_', ' ')}: {first['msg'].lower()}"


@router.get("/jobs/{job_id}", response_class=HTMLResponse)
def show(request: Request, service: Here, _caller: Reader, job_id: str) -> Response:
    """Show a job as it is now."""
    return render(request, "job.html", **_view(service, service.jobs.get(job_id)))


@router.post("/jobs/{job_id}/cancel")
def cancel(service: Here, _caller: Runner, job_id: str) -> Response:
    """End a job."""
    service.jobs.cancel(job_id)
    return RedirectResponse(f"/jobs/{job_id}", 303)


@router.post("/jobs/{job_id}/resubmit")
def resubmit(service: Here, caller: Runner, job_id: str) -> Response:
    """Put a job that failed or was cancelled into the queue again."""
    service.jobs.resubmit(job_id, caller.name)
    return RedirectResponse(f"/jobs/{job_id}", 303)


def choices(service: Service) -> dict[str, Any]:
    """Return what the forms that start a job offer."""
    curves = service.answers.curves
    networks = [("", "the best that was measured"), *((name, name) for name in curves.family_default)]
    ready = [(one.id, one.name) for one in service.datasets.list() if one.state == "ready"]
    return {
        "networks": [*networks, *((name, name) for name in curves.networks)], "strategies": STRATEGIES, "ready": ready
    }  # fmt: skip


def _listed(
    request: Request, service: Service, status: int, fields: Mapping[str, str], problem: str | None,
    before: str | None = None,
) -> HTMLResponse:  # fmt: skip
    found = service.jobs.list(limit=_SHOWN + 1, before=before)
    jobs = found[:_SHOWN]
    rows = [{"job": job, "what": job_words.KINDS[job.kind], "progress": _progress(job)} for job in jobs]
    return render(
        request, "jobs.html", status, rows=rows, names=_names(service), filled=fields, problem=problem,
        next=jobs[-1].id if len(found) > _SHOWN else None,
        **choices(service),
    )  # fmt: skip


def _view(service: Service, job: Job) -> dict[str, Any]:
    progress, result, names = _progress(job), job_words.result_of(job), _names(service)
    return {
        "job": job,
        "is_final": job.state.is_final,
        "title": f"{job_words.KINDS[job.kind]}{_on(job, names)}",
        "said": job_words.in_a_sentence(job, progress, result),
        "progress": progress,
        "so_far": job_words.so_far(progress),
        "time_left": job_words.time_left(progress) if progress is not None else "",
        "result": result,
        "asked": job_words.asked_in_words(job.request, names),
        "log": service.hide_paths(service.jobs.log(job.id).text),
        "query": query_of(job),
        "made": job.kind if job.state is State.DONE and job.kind in ("train", "export") else None,
        "has_model": service.jobs.has_model(job),
    }


def _progress(job: Job) -> Any:
    return job.progress() if job.state is State.RUNNING else None


def _on(job: Job, names: Mapping[str, str]) -> str:
    return f" on {names.get(job.dataset, job.dataset)}" if job.dataset else ""


def _names(service: Service) -> dict[str, str]:
    return {one.id: one.name for one in service.datasets.list()}
