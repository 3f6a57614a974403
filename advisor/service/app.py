"""The application: the service's parts, its routes, and one form for every error."""

import errno
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from anyio import create_task_group
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from advisor.service.access import Service
from advisor.service.answers import Answers
from advisor.service.audit import Audit
from advisor.service.datasets.datasets import Datasets
from advisor.service.guard import Guard, refusal
from advisor.service.jobs.jobs import Jobs
from advisor.service.jobs.kinds import CheckJob
from advisor.service.metrics import Metrics
from advisor.service.pages import routes as pages
from advisor.service.pages.rendering import error_page, wants_page
from advisor.service.problems import Problem, ProblemDocument
from advisor.service.routes import answers, datasets, jobs, models, operations
from advisor.service.served_models.library import Library
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore
from advisor.service.tokens import read_tokens
from engine.versions import version_of
from models.errors import UserError

log = logging.getLogger(__name__)
_ITSELF = "service"  # who asks for what no caller asked for
_FULL = "the disk of the store is full: nothing new is taken, nothing that is there is lost"
_ABOUT = (
    "Fine-tune a pre-trained ECG network or train from scratch? Answers from measured evidence, pilots and trainings "
    "on your own records, predictions by their models. For model development and research only, not for patient care."
)


def open_service(settings: Settings) -> Service:
    """Open the store and everything that works on it; ``close_service`` lets go of it.

    Raises UserError: TokenError, CurvesFileError, ServiceStoreError, InUseError.
    """
    store = ServiceStore(settings.store)
    tokens = read_tokens(settings, store)
    answering = Answers(settings.curves)
    store.open()
    try:
        audit = Audit(store.root / "audit.log", settings.audit_mb, settings.audit_files)
        kept = Datasets(store, settings)
        kept.tidy()
        jobs = Jobs(store, settings, kept)
        return Service(
            settings, store, tokens, audit, Metrics(store, audit), answering, kept, jobs, Library(store, settings)
        )
    except BaseException:
        store.close()
        raise


def _ask_for_checks(service: Service) -> None:
    """Have the datasets checked of which a server died between taking them and asking for that."""
    for dataset in service.datasets.unchecked():
        try:
            service.jobs.submit(CheckJob(dataset=dataset), _ITSELF)
        except Problem as problem:  # too many jobs wait, or the disk is full: the next start asks again
            log.warning("dataset %s is not checked yet: %s", dataset, problem)


def close_service(service: Service) -> int:
    """End what runs and let another server have the store; return how many jobs go on when one starts."""
    service.answers.close()
    ended = service.jobs.close()
    service.audit.close()
    service.store.close()
    return ended


def build_app(service: Service) -> FastAPI:
    """Return the application of an opened service; while it runs, jobs do."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.jobs.start()
        _ask_for_checks(service)
        async with create_task_group() as group:
            group.start_soon(service.tokens.watch)
            yield
            group.cancel_scope.cancel()
        service.answers.close()  # before the threads that wait for one are waited for

    app = FastAPI(
        title="ecgadvise", version=version_of("ecgadvise"), description=_ABOUT, docs_url=None, redoc_url=None,
        lifespan=lifespan, redirect_slashes=False,
    )  # fmt: skip
    app.state.service = service
    for group in (answers, datasets, jobs, models, operations, pages):
        app.include_router(group.router)
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(UserError, _answer_user_error)
    app.add_exception_handler(OSError, _answer_system)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_middleware(Guard, service=service)
    _describe_problems(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    """Put the problem document's schema, to which routes refer, into the OpenAPI document."""
    whole = app.openapi

    def openapi() -> dict[str, Any]:
        document = whole()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["ProblemDocument"] = ProblemDocument.model_json_schema()
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way to extend it


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    if wants_page(request) and error.status != 401:
        return error_page(request, error)
    return refusal(request, error)


async def _answer_user_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, UserError)
    return await _answer_problem(request, Problem.of(error))


async def _answer_system(request: Request, error: Exception) -> Response:
    """Answer where a file could not be written for want of room; any other error of the system is a defect."""
    assert isinstance(error, OSError)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return await _answer_problem(request, Problem(507, _FULL))
    raise error


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """Name the values that are of no use, and never what they were: they may be of a patient's record."""
    assert isinstance(error, RequestValidationError)
    wrong = [{"where": ".".join(map(str, one["loc"])), "problem": _in_words(one)} for one in error.errors()]
    said = "; ".join(f"{one['where'].partition('.')[2] or one['where']}: {one['problem']}" for one in wrong[:3])
    return await _answer_problem(request, Problem(422, said, errors=wrong))


def _in_words(error: Mapping[str, Any]) -> str:
    """Say what a client can put right where the words are about this program's inside."""
    if error["type"] in ("model_attributes_type", "dict_type", "model_type") and error["loc"] == ("body",):
        return "send a JSON object, with the header Content-Type: application/json"
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error.get('ctx', {}).get('error', 'it ends early')}"
    return str(error["msg"])


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "there is nothing at this address", 405: f"this address has no {request.method}"}
    return await _answer_problem(
        request, Problem(error.status_code, said.get(error.status_code, error.detail), headers=error.headers)
    )
