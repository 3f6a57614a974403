"""What an operator's programs ask: is it alive, is it ready, its figures, its documentation."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from advisor.service.access import Here, Reader
from advisor.service.pages.rendering import render
from advisor.service.problems import KINDS, Problem, problem_responses

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What the service needs to take work, as it is now."""

    status: Literal["ready"] = "ready"
    version: str
    evidence: str
    disk_free_mb: float


@router.get("/health")
async def health() -> Health:
    """Say that the server is alive; needs no token."""
    return Health()


@router.get("/ready", responses=problem_responses(503, 507))
def ready(request: Request, service: Here, _caller: Reader) -> Readiness:
    """Say whether new work is taken: the evidence is loaded, the disk has room, the audit log is written."""
    free, least = service.store.free_mb(), service.settings.min_free_mb
    if free < least:
        raise Problem(
            507, f"{free:,.0f} MB are free on the store's disk: --min-free-mb (ECGADVISE_MIN_FREE_MB) is {least:g}"
        )
    if service.audit.failed:
        raise Problem(503, f"{service.audit.failed} lines of the audit log could not be written since the start")
    if not service.jobs.is_watching:
        raise Problem(503, "jobs are not looked after: start the service again")
    curves = service.answers.curves
    return Readiness(
        version=request.app.version, evidence=f"{curves.study}, {curves.created}", disk_free_mb=round(free, 1)
    )


@router.get("/metrics", response_class=PlainTextResponse, responses=problem_responses())
def metrics(service: Here, _caller: Reader) -> Response:
    """Return the figures that Prometheus reads."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/docs", response_class=HTMLResponse, responses=problem_responses())
def docs(request: Request, _caller: Reader) -> Response:
    """Show every route with its parameters and answers; drawn from the OpenAPI document, without a script."""
    return render(request, "docs.html", document=request.app.openapi(), kinds=KINDS)
