"""Answers to questions: the document of ``recommend --json``, and the page of ``recommend --report``."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from advisor.service.access import Here, Reader, Service
from advisor.service.jobs.job import State
from advisor.service.problems import problem_responses
from advisor.service.questions import Asked

router = APIRouter(prefix="/v1", tags=["answers"])
_ERRORS = problem_responses(400, 404, 409, 422, 429, 503)


class AskedForReport(Asked):
    """A question whose answer is a page."""

    download: bool = Field(False, description="Have the browser save the page.")


Question = Annotated[Asked, Query()]
ReportQuestion = Annotated[AskedForReport, Query()]


class _Json(Response):
    media_type = "application/json"


@router.get(
    "/recommendation",
    response_class=_Json,
    responses={
        200: {"description": "What `ecgadvise recommend --json` prints."},
        **_ERRORS,
    },
)
async def recommendation(asked: Question, service: Here, _caller: Reader) -> Response:
    """Say what to train, fine-tuned, from scratch or otherwise, what each will score and cost, and how sure that is."""
    if (known := service.answers.known(asked)) is not None:
        return _Json(known)
    return _Json(await run_in_threadpool(document_of, service, asked))


def document_of(service: Service, asked: Asked) -> bytes:
    """Return the document of an answer. Raises Problem and UserError."""
    if asked.data is None:
        return service.answers.document(asked)
    dataset = service.datasets.get_ready(asked.data)

    def answered() -> bytes:
        return service.answers.about(asked, dataset.folder, service.store, ("--json",))

    return service.hide_paths(_remembered(service, asked, dataset.folder, "json", answered).decode()).encode()


def _remembered(service: Service, asked: Asked, folder: Path, form: str, answered: Callable[[], bytes]) -> bytes:
    """Return an answer about records that was given before, while they and their pilots are the same and none runs."""
    from engine.corpora.opening import fingerprint

    pilots = service.jobs.list(kind="pilot", dataset=asked.data, limit=1000)
    if any(job.state is State.RUNNING for job in pilots):
        return answered()
    known = (fingerprint(folder), *((job.id, job.state, job.ended) for job in pilots))
    return service.answers.remembered((asked.key, form, known), answered)


@router.get(
    "/report",
    response_class=HTMLResponse,
    responses={
        200: {"description": "The answer as a page that stands alone."},
        **_ERRORS,
    },
)
def report(asked: ReportQuestion, service: Here, _caller: Reader) -> Response:
    """Return the answer as one page that stands alone: complete without a script, and no request leaves it."""
    from advisor.report.page import page_policy

    page = page_of(service, asked)
    headers = {"content-security-policy": f"{page_policy()}; frame-ancestors 'none'"}
    if asked.download:
        headers["content-disposition"] = 'attachment; filename="ecgadvise-report.html"'
    return HTMLResponse(page, headers=headers)


def page_of(service: Service, asked: Asked) -> str:
    """Return the page of an answer. Raises Problem and UserError."""
    from advisor.report.page import to_page
    from advisor.terminal.answer_files import origin_of

    if asked.data is not None:
        return _page_about(service, asked, asked.data)
    given = service.answers.give(asked)
    return to_page(given.found, given.explanation, origin_of(service.answers.command(asked), service.answers.path))


def _page_about(service: Service, asked: Asked, name: str) -> str:
    dataset = service.datasets.get_ready(name)

    def answered() -> bytes:
        with TemporaryDirectory(dir=service.store.incoming) as folder:
            page = Path(folder) / "report.html"
            service.answers.about(asked, dataset.folder, service.store, (f"--report={page}",))
            return page.read_bytes()

    return service.hide_paths(_remembered(service, asked, dataset.folder, "page", answered).decode())
