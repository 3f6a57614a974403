"""The pages' templates and what they load: what both are given, and the page that says what was wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from advisor.report.page import page_script, page_style
from advisor.service.problems import Problem
from advisor.service.tokens import LOCAL, Role
from advisor.text.table import NOTICE

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
_CSS, _SCRIPT = "text/css", "text/javascript"


@dataclass(frozen=True)
class Asset:
    """A file that pages load; ``version`` is in its address, so that a browser may keep it."""

    content: bytes
    media_type: str
    version: str


@cache
def assets() -> Mapping[str, Asset]:
    """Return all files that pages load, by name: the service's, and the style and script that a report has in it."""
    texts = {
        "report.css": (page_style(), _CSS),
        "report.js": (page_script(), _SCRIPT),
        "service.css": ((STATIC / "service.css").read_text(encoding="utf-8"), _CSS),
        "service.js": ((STATIC / "service.js").read_text(encoding="utf-8"), _SCRIPT),
    }
    return {name: _asset(text.encode(), media_type) for name, (text, media_type) in texts.items()}


def _asset(content: bytes, media_type: str) -> Asset:
    return Asset(content, media_type, sha256(content).hexdigest()[:16])


def _address(name: str) -> str:
    return f"/static/{name}?v={assets()[name].version}"


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(_HERE / "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["asset"] = _address
    return environment


def render(request: Request, template: str, status: int = 200, **given: object) -> HTMLResponse:
    """Return a page; every text in it is escaped unless it is Markup."""
    caller = request.state.caller
    whole = {
        "caller": caller, "notice": NOTICE, "version": request.app.version, "path": request.url.path,
        "is_somebody": caller.role > Role.NOBODY, "has_session": caller.role > Role.NOBODY and caller != LOCAL,
        "may_run": caller.role >= Role.RUNNER, "may_delete": caller.role >= Role.ADMIN, **given,
    }  # fmt: skip
    return HTMLResponse(_environment().get_template(template).render(whole), status)


def wants_page(request: Request) -> bool:
    """Whether a person asked, with a browser, for something that is no program's."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")


def error_page(request: Request, problem: Problem) -> HTMLResponse:
    """Return the page of a problem."""
    page = render(request, "problem.html", problem.status, problem=problem.document())
    page.headers.update(problem.headers)
    return page
