"""The pages' templates: what they are given, and the page that says what was wrong."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from advisor.service.problems import Problem
from advisor.text.table import NOTICE

_HERE = Path(__file__).parent
STATIC = _HERE / "static"


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(_HERE / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(request: Request, template: str, status: int = 200, **given: object) -> HTMLResponse:
    """Return a page; every text in it is escaped unless it is Markup."""
    caller = request.state.caller
    whole = {"caller": caller, "notice": NOTICE, "version": request.app.version, "path": request.url.path, **given}
    return HTMLResponse(_environment().get_template(template).render(whole), status)


def wants_page(request: Request) -> bool:
    """Whether a person asked, with a browser, for something that is no program's."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")


def error_page(request: Request, problem: Problem) -> HTMLResponse:
    """Return the page of a problem."""
    page = render(request, "problem.html", problem.status, problem=problem.document())
    page.headers.update(problem.headers)
    return page
