"""Jobs: long work on datasets and models, which goes on when nobody watches."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from advisor.service.access import Here, Reader, Runner, Service
from advisor.service.jobs.events import Streams, job_events
from advisor.service.jobs.job import Job, Progress, State
from advisor.service.jobs.kinds import DATASET_ID, JobRequest, Kind
from advisor.service.problems import problem_responses
from advisor.service.questions import query_of

router = APIRouter(prefix="/v1", tags=["jobs"])
JobId = Annotated[str, Path(max_length=100, examples=["j0123456789ab"])]
_LAST = 2**62  # no log is longer


class ProgressView(BaseModel):
    """How far a job is, in what its command counts."""

    what: str = Field(description="records, epochs or runs")
    done: int
    total: int
    words: str


class VerdictView(BaseModel):
    """What a pilot would answer from the pairs of trainings that are complete."""

    best: str
    headline: str
    verdict: str
    why: str
    pairs: int


class JobView(BaseModel):
    """A job."""

    id: str
    kind: Kind
    state: State
    is_ending: bool = Field(description="Its end was asked for, and it still runs.")
    dataset: str | None
    model: str | None = Field(description="The model that the job makes or exports.")
    request: dict[str, Any]
    created: str
    started: str | None
    ended: str | None
    by: str = Field(description="The name of the token of whoever asked for it.")
    attempts: int = Field(description="How often its command was started.")
    percent: float | None
    seconds_left: float | None
    progress: ProgressView | None
    verdict: VerdictView | None = Field(description="Of a pilot, from the pairs so far.")
    problem: str | None = Field(description="Why it failed.")
    recommendation: str | None = Field(description="Of a pilot that is done: the address of the answer with it.")
    report: str | None = Field(description="Of a pilot that is done: the address of the report with it.")


class JobDetail(JobView):
    """A job with its answer."""

    answer: Any = Field(description="What the command prints as JSON, where the job is done.")


class JobList(BaseModel):
    """Jobs, newest first; ``next`` is what ``before`` takes for those before them."""

    jobs: list[JobView]
    next: str | None


def view(job: Job) -> JobView:
    """Return what is said of a job."""
    return JobView(**_fields(job))


def detail(job: Job, service: Service) -> JobDetail:
    """Return what is said of a job, with its answer."""
    return JobDetail(**_fields(job), answer=job.answer(service.hide_paths))


def _fields(job: Job) -> dict[str, Any]:
    progress = None if job.state is State.QUEUED else job.progress()
    same = ("id", "kind", "state", "dataset", "model", "created", "started", "ended", "by", "attempts", "problem")
    running, query = job.state is State.RUNNING, query_of(job)
    return {
        **{name: getattr(job, name) for name in same},
        "request": dict(job.request),
        "is_ending": running and job.ending is not None,
        "percent": 100.0 if job.state is State.DONE else None if progress is None else progress.percent,
        "seconds_left": progress.seconds_left if progress is not None and running else None,
        "progress": None if progress is None else ProgressView(**_counts(progress)),
        "verdict": None if progress is None else _verdict(progress.verdict),
        **{name: None if query is None else f"/v1/{name}?{query}" for name in ("recommendation", "report")},
    }


def _counts(progress: Progress) -> dict[str, Any]:
    return {name: getattr(progress, name) for name in ("what", "done", "total", "words")}


def _verdict(found: Mapping[str, Any] | None) -> VerdictView | None:
    return None if not found else VerdictView(**found)


@router.post(
    "/jobs",
    status_code=201,
    responses={
        200: {"model": JobDetail, "description": "The same work was asked for before: this is its job."},
        **problem_responses(404, 409, 422, 429, 507),
    },
)
def submit(request: JobRequest, response: Response, service: Here, caller: Runner) -> JobDetail:
    """Ask for a job. The same work is one job, whoever asks; one that failed or was cancelled is begun again."""
    job, is_new = service.jobs.submit(request, caller.name)
    response.status_code = 201 if is_new else 200
    response.headers["location"] = f"/v1/jobs/{job.id}"
    return detail(job, service)


@router.get("/jobs", responses=problem_responses(422))
def list_jobs(
    service: Here, _caller: Reader,
    state: State | None = None,
    kind: Kind | None = None,
    dataset: Annotated[str | None, Query(pattern=DATASET_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[str | None, Query(pattern=r"^j[0-9a-f]{12}$")] = None,
) -> JobList:  # fmt: skip
    """List jobs, newest first."""
    found = service.jobs.list(state=state, kind=kind, dataset=dataset, limit=limit + 1, before=before)
    page = found[:limit]
    return JobList(jobs=[view(job) for job in page], next=page[-1].id if len(found) > limit else None)


@router.get("/jobs/{job}", responses=problem_responses(404, 422))
def read_job(job: JobId, service: Here, _caller: Reader) -> JobDetail:
    """Say where a job is, how long the rest will take, what a pilot says so far, and the answer at the end."""
    return detail(service.jobs.get(job), service)


class _Events(StreamingResponse):
    """A stream that is counted from its begin to its end, however that comes."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with _streams(scope).one():
            await super().__call__(scope, receive, send)


def _streams(scope: Scope) -> Streams:
    """Return the streams of this application, which belong to the loop that it runs in."""
    state = scope["app"].state
    if not hasattr(state, "streams"):
        state.streams = Streams()
    streams: Streams = state.streams
    return streams


@router.get(
    "/jobs/{job}/events",
    response_class=_Events,
    responses={
        200: {
            "description": "An event `job` with the job as JSON, as in the list, whenever it changes; until its end."
        },
        **problem_responses(404, 422, 429),
    },
)
async def watch_job(job: JobId, request: Request, service: Here, _caller: Reader) -> StreamingResponse:
    """Follow a job by server-sent events."""
    await run_in_threadpool(service.jobs.get, job)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return _Events(job_events(lambda: _look(service, job, request), _streams(request.scope).looks), headers=headers)


def _look(service: Service, job: str, request: Request) -> tuple[str, bool]:
    """Return the job as one line, and whether nothing more comes: it, the service or the caller's token has ended."""
    found = service.jobs.get(job)
    goes_on = service.jobs.is_watching and request.state.is_admitted()
    return view(found).model_dump_json(), found.state.is_final or not goes_on


@router.get(
    "/jobs/{job}/log",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "Text; the header X-Next-Offset says where the next part begins."},
        **problem_responses(404, 422),
    },
)
def read_log(
    job: JobId, service: Here, _caller: Reader, offset: Annotated[int | None, Query(ge=0, le=_LAST)] = None
) -> PlainTextResponse:
    """Return what a job's command has said: from ``offset`` bytes on, or the last, 64 KiB at most."""
    part = service.jobs.log(job, offset)
    headers = {"x-next-offset": str(part.next_offset), "x-log-size": str(part.size)}
    return PlainTextResponse(service.hide_paths(part.text), headers=headers)


@router.delete("/jobs/{job}", responses=problem_responses(404, 409, 422))
def cancel_job(job: JobId, service: Here, _caller: Runner) -> JobDetail:
    """Cancel a job. What it completed stays, so that one that is begun again goes on."""
    return detail(service.jobs.cancel(job), service)


@router.post("/jobs/{job}/resubmit", responses=problem_responses(404, 409, 422, 429, 507))
def resubmit_job(job: JobId, service: Here, caller: Runner) -> JobDetail:
    """Begin a job again that failed or was cancelled; it goes on from what it kept."""
    return detail(service.jobs.resubmit(job, caller.name), service)
